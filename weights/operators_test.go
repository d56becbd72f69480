package weights

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
)

// providers that testdata/operators.tsv knows.
const (
	onCPU      = "CPU"
	onCUDA     = "CUDA"
	onTensorRT = "TensorRT"
)

// operatorRow is one of testdata/operators.tsv: an operator as a provider has it.
type operatorRow struct {
	operator, domain, provider string
	versions                   string
	types                      map[string][]string // of its type parameters
}

// nodeKind is what testdata/operators.py says of nodes that are alike.
type nodeKind struct {
	Operator, Domain string
	Since            int                 // the operator's version
	Types            map[string][]string // of its type parameters; several in a Loop
}

// operatorTable are the rows by operator, domain and provider.
type operatorTable map[string]operatorRow

func rowKey(operator, domain, provider string) string {
	return strings.Join([]string{operator, domain, provider}, " ")
}

// readOperators reads testdata/operators.tsv, which must be in order and have a
// row of every provider for each operator.
func readOperators(t *testing.T) operatorTable {
	t.Helper()
	raw, err := os.ReadFile("testdata/operators.tsv")
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Fields("float32 float16 bfloat16 float64 int64 int32 bool uint8")
	table, last := operatorTable{}, ""
	for i, line := range strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n") {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "operator\t") {
			continue
		}
		part := strings.Split(line, "\t")
		if len(part) < 4 || len(part) > 6 || len(part) == 4 && part[3] != "none" {
			t.Fatalf("operators.tsv:%d: %d columns", i+1, len(part))
		}
		r := operatorRow{operator: part[0], domain: part[1], provider: part[2], versions: part[3], types: map[string][]string{}}
		if len(part) > 4 {
			for _, one := range strings.Split(part[4], ";") {
				name, list, _ := strings.Cut(one, "=")
				for _, kind := range strings.Split(list, ",") {
					if !slices.Contains(known, kind) {
						t.Errorf("operators.tsv:%d: %s of %s", i+1, kind, name)
					}
					r.types[name] = append(r.types[name], kind)
				}
			}
		}
		key := rowKey(r.operator, r.domain, r.provider)
		if key <= last {
			t.Errorf("operators.tsv:%d: %s after %s", i+1, key, last)
		}
		table[key], last = r, key
	}
	for _, r := range table {
		for _, provider := range []string{onCPU, onCUDA, onTensorRT} {
			if _, ok := table[rowKey(r.operator, r.domain, provider)]; !ok {
				t.Errorf("operators.tsv has %s for %s and not for %s", r.operator, r.provider, provider)
			}
		}
	}
	return table
}

// covers reports whether the row is for version since of the operator in a model
// of version opset.
func (r operatorRow) covers(since, opset int) bool {
	var first, last int
	if n, _ := fmt.Sscanf(r.versions, "opset [%d, %d]", &first, &last); n == 2 {
		return first <= opset && opset <= last
	}
	if n, _ := fmt.Sscanf(r.versions, "[%d, %d]", &first, &last); n == 2 {
		return first <= since && since <= last
	}
	return strings.TrimSuffix(r.versions, "+") == strconv.Itoa(since)
}

// missing is what a provider lacks to run a node: "MatMul", "MatMul version 13" or
// "MatMul T=float32".
func (table operatorTable) missing(provider string, k nodeKind, opset int) ([]string, error) {
	r, ok := table[rowKey(k.Operator, k.Domain, provider)]
	switch {
	case !ok:
		return nil, fmt.Errorf("operators.tsv has no row for %s of %s on %s; add what its sources say", k.Operator, k.Domain, provider)
	case r.versions == "none":
		return []string{k.Operator}, nil
	case !r.covers(k.Since, opset):
		return []string{fmt.Sprintf("%s version %d", k.Operator, k.Since)}, nil
	}
	var lacks []string
	for name, kinds := range k.Types {
		for _, kind := range kinds {
			if taken := r.types[name]; taken != nil && !slices.Contains(taken, kind) {
				lacks = append(lacks, fmt.Sprintf("%s %s=%s", k.Operator, name, kind))
			}
		}
	}
	return lacks, nil
}

// operatorModel is what testdata/operators.py says of a model.
type operatorModel struct {
	Opset int
	Kinds []nodeKind
}

// lacking is what a provider lacks for models, in order.
func (table operatorTable) lacking(provider string, models []operatorModel) ([]string, error) {
	all := map[string]bool{}
	for _, m := range models {
		for _, k := range m.Kinds {
			lacks, err := table.missing(provider, k, m.Opset)
			if err != nil {
				return nil, err
			}
			for _, one := range lacks {
				all[one] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// without is a copy of the table with one row changed, or removed where change is nil.
func (table operatorTable) without(key string, change func(r *operatorRow)) operatorTable {
	other := maps.Clone(table)
	delete(other, key)
	if change != nil {
		r := table[key]
		r.types = maps.Clone(r.types)
		change(&r)
		other[key] = r
	}
	return other
}

// Every node of every kind of graph, bodies of loops included, is one that ONNX
// Runtime's CPU and CUDA providers have a kernel for with its element types, as
// far as their documentation tells; what TensorRT has not is listed here.
func TestProvidersTakeEveryNode(t *testing.T) {
	table := readOperators(t)
	list := references(t)
	film, l1 := filmed(t, 1), headed(t, 1)
	// Probabilities and sums of decoding are float64 (denoise.go).
	decoding := []string{"Cast T1=float64", "Cast T2=float64", "Exp T=float64", "Log T=float64", "ReduceSum T=float64"}
	tokens := map[string][]string{onTensorRT: decoding}
	integers := map[string][]string{onTensorRT: slices.Sorted(slices.Values(append([]string{"MatMulNBits"}, decoding...)))}
	// The CPU provider computes float16 nodes without a kernel in float32, and refuses
	// bfloat16 ones, as policy/ort does before it.
	half := func(tensorRT []string, cpu ...string) map[string][]string {
		return map[string][]string{onCPU: cpu, onTensorRT: tensorRT}
	}
	fp16 := []string{"Add T=float16", "Mul T=float16", "Sigmoid T=float16"}
	bf16 := []string{"Add T=bfloat16", "Expand T=bfloat16", "MatMul T=bfloat16", "Mul T=bfloat16", "Sigmoid T=bfloat16"}
	unroll := func(o *Options) { o.Unroll, o.Decode.Rounds = 2, 2 }
	in := func(precision string) func(o *Options) { return func(o *Options) { o.Precision = precision } }
	cases := []struct {
		name   string
		sample *sample
		change func(o *Options)
		lacks  map[string][]string // by provider, in order
	}{
		{"bidirectional", &list[0], func(*Options) {}, tokens},
		{"prefix", &list[0], func(o *Options) { o.Attention = bundle.Prefix }, tokens},
		{"causal", &list[0], func(o *Options) { o.Attention = bundle.Causal }, tokens},
		{"fp16 causal", &list[0], func(o *Options) { o.Precision, o.Attention = precisionFP16, bundle.Causal }, half(decoding, fp16...)},
		{"int4 causal", &list[1], func(o *Options) {
			quantised{precision: precisionInt4, block: 64}.change(o)
			o.Attention = bundle.Causal
		}, integers},
		{"one slot, no proprio", &list[2], func(*Options) {}, tokens},
		{"full vocabulary", &list[0], func(o *Options) { o.Vocabulary = bundle.FullVocabulary }, tokens},
		{"FiLM", &film, func(*Options) {}, tokens},
		{"L1 head", &l1, func(*Options) {}, nil},
		{"unrolled", &list[0], unroll, nil},
		{"unrolled prefix", &list[0], func(o *Options) { unroll(o); o.Attention = bundle.Prefix }, nil},
		{"unrolled FiLM", &film, unroll, nil},
		{"unrolled fp16", &list[0], func(o *Options) { unroll(o); o.Precision = precisionFP16 }, half(nil, fp16...)},
		{"int8", &list[1], quantised{precision: precisionInt8, block: 32}.change, integers},
		{"int8 asymmetric", &list[1], quantised{precision: precisionInt8, block: 128, asymmetric: true}.change, integers},
		{"int4", &list[1], quantised{precision: precisionInt4, block: 64}.change, integers},
		{"int4 asymmetric", &list[1], quantised{precision: precisionInt4, block: 32, asymmetric: true}.change, integers},
		{"fp16", &list[0], in(precisionFP16), half(decoding, fp16...)},
		{"fp16 prefix", &list[0], func(o *Options) { o.Precision, o.Attention = precisionFP16, bundle.Prefix }, half(decoding, fp16...)},
		{"fp16 FiLM", &film, in(precisionFP16), half(decoding, fp16...)},
		{"fp16 L1 head", &l1, in(precisionFP16), half(nil, slices.Insert(slices.Clone(fp16), 2, "Relu T=float16")...)},
		{"bf16", &list[0], in(precisionBF16), half(decoding, bf16...)},
		{"bf16 causal", &list[0], func(o *Options) { o.Precision, o.Attention = precisionBF16, bundle.Causal }, half(decoding, bf16...)},
		{"bf16 full vocabulary", &list[0], func(o *Options) { o.Precision, o.Vocabulary = precisionBF16, bundle.FullVocabulary }, half(decoding, bf16...)},
		{"bf16 FiLM", &film, in(precisionBF16), half(decoding, bf16...)},
		{"bf16 L1 head", &l1, in(precisionBF16), half(nil, slices.Insert(slices.Clone(bf16), 4, "Relu T=bfloat16")...)},
		{"int4, fp16 around it", &list[1], func(o *Options) { o.Precision, o.Activations = precisionInt4, precisionFP16 }, half(integers[onTensorRT], fp16...)},
		{"int8, bf16 around it", &list[1], func(o *Options) {
			o.Precision, o.Activations, o.VisionPrecision = precisionInt8, precisionBF16, precisionBF16
		}, half(integers[onTensorRT], slices.Insert(slices.Clone(bf16), 3, "MatMulNBits T1=bfloat16")...)},
	}
	var paths, owners []string
	for _, c := range cases {
		b := c.sample.exportWith(t, c.change)
		for _, file := range []string{bundle.GraphFile, bundle.StepFile, bundle.AutoregressiveFile} {
			if slices.Contains(b.Manifest.FileNames(), file) {
				paths, owners = append(paths, b.Path(file)), append(owners, c.name)
			}
		}
		if (b.Manifest.Model.Attention == bundle.Causal) != b.Manifest.HasAutoregressive() {
			t.Errorf("%s: files %q", c.name, b.Manifest.FileNames())
		}
	}
	var models []operatorModel
	if err := json.Unmarshal(pytest.Run(t, nil, "testdata/operators.py", paths...), &models); err != nil {
		t.Fatal(err)
	}
	// These must not leave the GPU, whatever is expected above.
	heavy := map[string]bool{"MatMul": false, "MatMulNBits": false, "Softmax": false, "LayerNormalization": false}
	for _, c := range cases {
		var own []operatorModel
		for i, m := range models {
			if owners[i] == c.name {
				own = append(own, m)
			}
		}
		for _, provider := range []string{onCPU, onCUDA, onTensorRT} {
			got, err := table.lacking(provider, own)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if !slices.Equal(got, c.lacks[provider]) {
				t.Errorf("%s: %s lacks %q, expected %q", c.name, provider, got, c.lacks[provider])
			}
			for _, one := range got {
				if _, ok := heavy[strings.Fields(one)[0]]; ok && provider == onCUDA {
					t.Errorf("%s: %s would leave the GPU", c.name, one)
				}
			}
		}
	}
	for _, m := range models {
		for _, k := range m.Kinds {
			if _, ok := heavy[k.Operator]; ok {
				heavy[k.Operator] = true
			}
			if k.Operator == "Loop" && len(k.Types["V"]) < 2 {
				t.Errorf("the loop carries %v: its state is not seen", k.Types)
			}
		}
	}
	for operator, seen := range heavy {
		if !seen {
			t.Errorf("no graph has %s", operator)
		}
	}
	t.Run("damaged tables", func(t *testing.T) { damagedTables(t, table, models) })
}

// damagedTables takes each row that models need, and each type of it, out of the
// table: the comparison must notice.
func damagedTables(t *testing.T, table operatorTable, models []operatorModel) {
	tried := 0
	for _, m := range models {
		for _, k := range m.Kinds {
			one := []operatorModel{{Opset: m.Opset, Kinds: []nodeKind{k}}}
			for _, provider := range []string{onCPU, onCUDA} {
				key := rowKey(k.Operator, k.Domain, provider)
				if lacks, err := table.without(key, nil).lacking(provider, one); err == nil || !strings.Contains(err.Error(), "no row for "+k.Operator) {
					t.Errorf("no row of %s: lacks %q, %v", key, lacks, err)
				}
				// An open range begins with another version; a closed one ends before.
				for _, versions := range []string{"none", fmt.Sprintf("%d+", k.Since-1), fmt.Sprintf("%d+", k.Since+1), fmt.Sprintf("[0, %d]", k.Since-1)} {
					if lacks, err := table.without(key, func(r *operatorRow) { r.versions = versions }).lacking(provider, one); err != nil || len(lacks) != 1 {
						t.Errorf("%s has versions %s: lacks %q, %v", key, versions, lacks, err)
					}
				}
				for name, kinds := range k.Types {
					if table[key].types[name] == nil {
						continue
					}
					want := fmt.Sprintf("%s %s=%s", k.Operator, name, kinds[0])
					changed := table.without(key, func(r *operatorRow) {
						r.types[name] = slices.DeleteFunc(slices.Clone(r.types[name]), func(kind string) bool { return kind == kinds[0] })
					})
					if lacks, err := changed.lacking(provider, one); err != nil || !slices.Contains(lacks, want) {
						t.Errorf("%s without %s: lacks %q, %v", key, kinds[0], lacks, err)
					}
					tried++
				}
			}
		}
	}
	if tried < 100 {
		t.Errorf("%d types were taken out", tried)
	}
}

// The CPU rows are what the library itself says of models of one node: it loads
// what they allow and nothing else. float16 is left out, which it converts where
// it has no kernel, and so are operators with bodies and those of its own.
func TestCPUKernels(t *testing.T) {
	openRuntime(t)
	table := readOperators(t)
	args := []string{t.TempDir()}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		if r := table[key]; r.provider == onCPU && r.domain == "ai.onnx" && r.operator != "If" && r.operator != "Loop" {
			args = append(args, r.operator)
		}
	}
	var nodes []struct {
		nodeKind
		Path   string
		Inputs []string
	}
	if err := json.Unmarshal(pytest.Run(t, nil, "testdata/kernels.py", args...), &nodes); err != nil {
		t.Fatal(err)
	}
	loads := 0
	for _, n := range nodes {
		lacks, err := table.missing(onCPU, n.nodeKind, 17)
		if err != nil {
			t.Fatal(err)
		}
		session, err := onnxruntime.NewDynamicAdvancedSession(n.Path, n.Inputs, []string{"out"}, nil)
		if err == nil {
			loads++
			if err := session.Destroy(); err != nil {
				t.Fatal(err)
			}
		}
		switch {
		case slices.Equal(lacks, []string{"LayerNormalization T=bfloat16"}):
			// There is no kernel, but the specification makes a function of it, which the
			// library takes apart.
			if err != nil {
				t.Error(err)
			}
		case len(lacks) > 0 && err == nil:
			t.Errorf("the library has %s with %v, operators.tsv lacks %q", n.Operator, n.Types, lacks)
		case len(lacks) == 0 && err != nil:
			t.Errorf("operators.tsv has %s with %v: %v", n.Operator, n.Types, err)
		case err != nil && !strings.Contains(err.Error(), "Could not find an implementation") && !strings.Contains(err.Error(), "Type Error: Type"):
			t.Errorf("%s with %v: %v", n.Operator, n.Types, err)
		}
	}
	t.Logf("%d models of one node, %d load", len(nodes), loads)
	if loads < 100 || len(nodes)-loads < 50 {
		t.Errorf("of %d models %d load", len(nodes), loads)
	}
}
