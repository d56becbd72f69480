package text

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/tools/npm"
)

const template = "In: What action should the robot take to {instruction}?\nOut:"

// tinyModel is the tokenizer of the policy in this repository.
const tinyModel = "../../policies/tiny-reach/tokenizer.model"

func prompt() bundle.Prompt {
	return bundle.Prompt{Template: template, Lowercase: true, MaxTokens: 64}
}

// tiny opens the model with the ids that it has itself.
func tiny(t testing.TB) *Tokenizer {
	t.Helper()
	raw, err := os.ReadFile(tinyModel)
	if err != nil {
		t.Fatal(err)
	}
	p, err := openPieces(raw)
	if err != nil {
		t.Fatal(err)
	}
	tk, err := Open(tinyModel, prompt(), bundle.Tokens{BOS: 1, Stop: 2, Empty: int64(p.facts.empty), ActionTokenBase: 1024, Bins: 256})
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

// texts are sentences, character soup and what has gone wrong elsewhere.
func texts(n int) []string {
	r := rand.New(rand.NewPCG(5, 6))
	words := strings.Fields("reach the red green blue cube block left_gripper Put 3 x10 apples, into THE drawer! naïve Zürich прыжок 東京 ロボット 로봇 🤖 👩‍🚀 e\u0301 ½ <s> </s> <unk> <0x0A> ▁ ▁▁the \t \u00a0 …")
	out := []string{
		"a", " ", "  ", "\n", " a", "a ", "a  b", "a\n\nb", "\t", "</s>", "<0x41>", "▁", "▁a", "ﬁ", "Ⅷ", "\u0000a", "\u200b", "\ufeffa", "\ufffd", "ÅÅ",
		"it's 12:30, isn't it?", strings.Repeat("a", 300), strings.Repeat("ab ", 100), strings.Repeat(" ", 40) + "x",
		"In: What action should the robot take to {<INSTRUCTION>}?\nOut:",
	}
	for len(out) < n {
		var b strings.Builder
		for range 1 + r.IntN(12) {
			switch r.IntN(6) {
			case 0: // any character there is
				c := rune(r.IntN(0x11000))
				if r.IntN(3) == 0 {
					c = rune(r.IntN(utf8.MaxRune))
				}
				if utf8.ValidRune(c) {
					b.WriteRune(c)
				}
			case 1:
				b.WriteByte(byte(32 + r.IntN(95)))
			default:
				b.WriteString(words[r.IntN(len(words))])
				b.WriteString([]string{" ", "", "  ", "\n"}[r.IntN(4)])
			}
		}
		if s := b.String(); s != "" && utf8.ValidString(s) {
			out = append(out, s)
		}
	}
	return out
}

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestEqualToSentencePiecesOwnModule(t *testing.T) {
	tk, in := tiny(t), texts(4000)
	var want [][]int64
	if err := json.Unmarshal(pytest.Run(t, asJSON(t, in), "testdata/encode.py", tinyModel), &want); err != nil {
		t.Fatal(err)
	}
	for i, s := range in {
		got, err := tk.encode(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		ids := append([]int64{1}, want[i]...)
		if ids[len(ids)-1] != tk.tokens.Empty {
			ids = append(ids, tk.tokens.Empty)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("%q is %v, the Python module says %v", s, got, ids)
		}
	}
}

func TestEqualToLlamaTokenizerJSOnLlamasVocabulary(t *testing.T) {
	in := texts(3000)
	// The package turns a character without a piece of its own into bytes, but
	// knows nothing of the vocabulary's byte pieces spelt out in text; and it
	// takes <s> and the like for pieces, as SentencePiece never does.
	in = slices.DeleteFunc(in, func(s string) bool {
		return strings.ContainsAny(s, "<\u0000") && !strings.Contains(s, "{<INSTRUCTION>}")
	})
	var js struct {
		Vocabulary []string  `json:"vocabulary"`
		IDs        [][]int64 `json:"ids"`
	}
	printed := npm.Run(t, asJSON(t, in), "testdata/llama.js")
	if err := json.Unmarshal(printed, &js); err != nil {
		t.Fatal(err)
	}
	if len(js.Vocabulary) != 32000 {
		t.Fatalf("llama-tokenizer-js has %d pieces, Llama 2 has 32000", len(js.Vocabulary))
	}
	path := filepath.Join(t.TempDir(), bundle.TokenizerFile)
	pytest.Run(t, printed, "testdata/llama_model.py", path)
	tk, err := Open(path, bundle.Prompt{Template: "In: What action should the robot take to {{instruction}}?\nOut:", MaxTokens: 64},
		bundle.Tokens{BOS: 1, Stop: 2, Empty: 29871, ActionTokenBase: 32000, Bins: 256})
	if err != nil {
		t.Fatal(err)
	}

	// From a log of OpenVLA-7B's processor, with the id that predict_action adds.
	golden := []int64{1, 512, 29901, 1724, 3158, 881, 278, 19964, 2125, 304, 426, 29966, 1177, 10810, 29965, 9838, 29958, 29913, 29973, 13, 3744, 29901, 29871}
	got, text, err := tk.Prompt("<INSTRUCTION>")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, golden) {
		t.Errorf("%q is %v, OpenVLA's log has %v", text, got, golden)
	}

	t.Logf("%d texts", len(in))
	for i, s := range in {
		got, err := tk.encode(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		want := js.IDs[i]
		if want[len(want)-1] != 29871 {
			want = append(want, 29871)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q is %v, llama-tokenizer-js says %v", s, got, want)
		}
	}
}

func TestPromptText(t *testing.T) {
	tk := tiny(t)
	ids, text, err := tk.Prompt("  Reach the RED cube\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := "In: What action should the robot take to reach the red cube?\nOut:"; text != want {
		t.Errorf("text is %q, want %q", text, want)
	}
	if ids[0] != 1 || ids[len(ids)-1] != tk.tokens.Empty || ids[len(ids)-2] == tk.tokens.Empty {
		t.Errorf("ids %v are not framed by one BOS and one empty token", ids)
	}
	tk.prompt.Lowercase = false
	if _, text, err = tk.Prompt("Reach"); err != nil || !strings.Contains(text, "take to Reach?") {
		t.Errorf("without lower-casing: %q, %v", text, err)
	}
	tk.prompt.Template = "{instruction}" // the instruction's own braces are no template
	if _, text, err = tk.Prompt("say {instruction}"); err != nil || text != "say {instruction}" {
		t.Errorf("braces: %q, %v", text, err)
	}
}

// A prompt that ends in the empty token already is not given another.
func TestEmptyTokenIsAppendedOnce(t *testing.T) {
	tk := tiny(t)
	for _, s := range []string{"▁", "reach ", "reach", "reach:", "reach\n "} {
		ids, err := tk.encode(s)
		if err != nil {
			t.Fatal(err)
		}
		room := make([]int32, 100)
		n, err := tk.pieces.encode(s, room)
		if err != nil {
			t.Fatal(err)
		}
		want := n + 2
		if int64(room[n-1]) == tk.tokens.Empty {
			want = n + 1
		}
		if len(ids) != want || ids[want-1] != tk.tokens.Empty {
			t.Errorf("%q has the pieces %v and becomes %v; the empty token is %d", s, room[:n], ids, tk.tokens.Empty)
		}
	}
}

func TestBadInstructionsAreNamed(t *testing.T) {
	tk := tiny(t)
	long := strings.Repeat("reach the red cube and ", 20)
	n, err := tk.encode(strings.Replace(template, "{instruction}", strings.TrimSpace(long), 1))
	if err != nil {
		t.Fatal(err)
	}
	if len(n) <= 64 {
		t.Fatalf("the long instruction has only %d tokens", len(n))
	}
	for _, c := range []struct {
		instruction string
		is          error
		want        []string
	}{
		{"", ErrEmpty, []string{"empty", "pick up"}},
		{" \t\n\u00a0", ErrEmpty, nil},
		{"reach \xff", ErrEncoding, []string{"UTF-8", `\xff`}},
		{long, ErrTooLong, []string{string(asJSON(t, len(n))) + " tokens", "takes 64"}},
		{strings.Repeat("a", 1<<20), ErrTooLong, []string{"1048576 bytes", "16384", "64 tokens"}},
	} {
		_, _, err := tk.Prompt(c.instruction)
		if !errors.Is(err, c.is) {
			t.Errorf("%.20q: error is %v, want %v", c.instruction, err, c.is)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%.20q: error %q does not say %q", c.instruction, err, want)
			}
		}
	}
	tk.prompt.MaxTokens = len(n)
	if _, _, err := tk.Prompt(long); err != nil {
		t.Errorf("at exactly the limit: %v", err)
	}
}

func TestForeignTokenizersAreRefused(t *testing.T) {
	good := tiny(t).tokens
	dir := t.TempDir()
	raw, err := os.ReadFile(tinyModel)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		path   string
		tokens bundle.Tokens
		want   string
	}{
		"missing":   {filepath.Join(dir, "none.model"), good, "no such file"},
		"empty":     {write("empty.model", nil), good, "is empty"},
		"text":      {write("text.model", []byte("no model at all, just text\n")), good, "SentencePiece"},
		"truncated": {write("short.model", raw[:len(raw)/2]), good, "SentencePiece"},
		"BOS":       {tinyModel, bundle.Tokens{BOS: 0, Stop: good.Stop, Empty: good.Empty, ActionTokenBase: 1024}, "tokens.bos"},
		"stop":      {tinyModel, bundle.Tokens{BOS: 1, Stop: 7, Empty: good.Empty, ActionTokenBase: 1024}, "tokens.stop"},
		"empty id":  {tinyModel, bundle.Tokens{BOS: 1, Stop: good.Stop, Empty: 5, ActionTokenBase: 1024}, "tokens.empty"},
		"too large": {tinyModel, bundle.Tokens{BOS: 1, Stop: good.Stop, Empty: good.Empty, ActionTokenBase: 100}, "tokens.action_token_base"},
	} {
		if _, err := Open(c.path, prompt(), c.tokens); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: error is %v, must say %q and the path", name, err, c.want)
		}
	}
}

func TestConcurrentPrompts(t *testing.T) {
	tk := tiny(t)
	want, _, err := tk.Prompt("reach the blue block")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if got, _, err := tk.Prompt("reach the blue block"); err != nil || !slices.Equal(got, want) {
					t.Errorf("%v, %v; want %v", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkPrompt(b *testing.B) {
	tk := tiny(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := tk.Prompt("reach the red cube"); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzPrompt(f *testing.F) {
	for _, s := range texts(40) {
		f.Add(s)
	}
	f.Add("\xff\xfe")
	tk := tiny(f)
	f.Fuzz(func(t *testing.T, instruction string) {
		ids, text, err := tk.Prompt(instruction)
		if err != nil {
			if !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrTooLong) && !errors.Is(err, ErrEncoding) {
				t.Fatalf("%q: unexpected error %v", instruction, err)
			}
			return
		}
		if len(ids) < 3 || len(ids) > 64 || ids[0] != 1 || ids[len(ids)-1] != tk.tokens.Empty {
			t.Fatalf("%q: ids %v", text, ids)
		}
		for _, id := range ids {
			if id < 0 || id >= int64(tk.pieces.facts.pieces) {
				t.Fatalf("%q: id %d is outside of the vocabulary", text, id)
			}
		}
	})
}

// The pieces of a prompt, put together, are its text.
func TestPiecesSpellThePrompt(t *testing.T) {
	tk := tiny(t)
	for _, instruction := range []string{"reach the red cube", "  Touch the Blue one.  ", "zürich 3 x10", "a", "🤖"} {
		ids, text, err := tk.Prompt(instruction)
		if err != nil {
			t.Fatal(err)
		}
		var spelt []byte
		for _, piece := range tk.Pieces(ids[1 : len(ids)-1]) { // without BOS and the empty token
			var b byte
			if n, _ := fmt.Sscanf(piece, "<0x%02X>", &b); n == 1 {
				spelt = append(spelt, b)
				continue
			}
			spelt = append(spelt, piece...)
		}
		if got, want := strings.ReplaceAll(string(spelt), "▁", " "), " "+text; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := tk.Pieces([]int64{1, -1, 1 << 40}); !slices.Equal(got, []string{"<s>", "", ""}) {
		t.Errorf("ids that there are not: %q", got)
	}
}
