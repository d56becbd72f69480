package main

import (
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/compare"
	"github.com/ddvla/ddvla/weights"
)

// evaluated runs `ddvla eval decode` on a bag and reads its JSON.
func evaluated(t *testing.T, more ...string) evaluation {
	t.Helper()
	status, stdout, stderr := call(t, append([]string{"eval", "decode", "--bundle", testbundle.Dir(t), "--bag", filepath.Join(bags, "raw_mcap"),
		"--json", "--threads", "1"}, more...)...)
	if status != 0 {
		t.Fatal(stderr)
	}
	var e evaluation
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&e); err != nil {
		t.Fatalf("%v:\n%s", err, stdout)
	}
	return e
}

// Every decoder is there, with the passes that it needs, and the agreement of
// two is that of the other two.
func TestEvalDecode(t *testing.T) {
	e := evaluated(t, "--limit", "2", "--rounds", "3", "--ros-args", "-p", "decode.commit_confidence:=[0.0]")
	names := []string{}
	passes := map[string]float64{
		"greedy": 3, "paper": 3, "official": 3, "official-remask": 3, "adaptive": 3, "random-order": 3, "parallel": 1, "autoregressive": 112,
		"refresh-2": 3, "refresh-4": 3,
		"warm-start": 2.5, // 3 cold, then 2
		"parameters": 1,   // everything is committed at once
	}
	for i, r := range e.Rows {
		names = append(names, r.Name)
		if want := passes[r.Name]; r.Passes != want && r.Name != "adaptive" || r.Passes > want {
			t.Errorf("%s: %g passes, want %g", r.Name, r.Passes, want)
		}
		if !(r.P50 > 0 && r.P95 >= r.P50) || r.Equal == nil || *r.Equal != e.Agreement[i][0] || e.Agreement[i][i] != 1 {
			t.Errorf("%+v, agreement %v", r, e.Agreement[i])
		}
		for j, share := range e.Agreement[i] {
			if share != e.Agreement[j][i] || !(share >= 0 && share <= 1) {
				t.Errorf("%d agrees with %d in %g", i, j, share)
			}
		}
		if len(r.Apart) != 2 || (r.Apart[0].Largest > 0 || r.Apart[1].Largest > 0) != (r.Name != "greedy" && *r.Equal < 1) {
			t.Errorf("%s: %g of its tokens are greedy's, its values %+v apart", r.Name, *r.Equal, r.Apart)
		}
		if len(r.ByDim) != 14 || len(r.Errors) != 2 || r.Errors[0].Unit != "rad" || r.Errors[1].Unit != "m" {
			t.Errorf("%s: errors %+v", r.Name, r.Errors)
		}
	}
	if len(names) != len(passes) || names[0] != "greedy" || e.Observations != 2 || e.Tokens != 224 || e.Rounds != 3 || e.Policy != "tiny-reach" {
		t.Errorf("%v: %+v", names, e)
	}
	// Committed at once, the most probable bins are those of one pass.
	parallel, parameters := slices.Index(names, "parallel"), slices.Index(names, "parameters")
	if share := e.Agreement[parallel][parameters]; share < 0.99 {
		t.Errorf("committing all at once agrees with one pass in %g", share)
	}
}

// A causal policy is decoded from left to right on the graph that keeps keys and
// values, with the tokens that a pass over everything for each gives; of another
// attention's line the table says that it was not trained for it.
func TestEvalDecodeLeftToRight(t *testing.T) {
	evaluate := func(change func(o *weights.Options)) compare.Row {
		e := evaluated(t, "--bundle", testbundle.With(t, change), "--limit", "1", "--rounds", "2", "--decoders", "autoregressive")
		if len(e.Rows) != 2 || e.Rows[1].Passes != 112 {
			t.Fatalf("%+v", e.Rows)
		}
		return e.Rows[1]
	}
	if r := evaluate(func(o *weights.Options) { o.Attention = bundle.Causal }); !strings.HasSuffix(r.Meaning, "(OpenVLA); keys and values kept") {
		t.Errorf("causal: %q", r.Meaning)
	}
	if r := evaluate(func(o *weights.Options) { o.Attention = bundle.Prefix }); !strings.HasSuffix(r.Meaning, "; not trained for, attention is prefix") {
		t.Errorf("prefix: %q", r.Meaning)
	}
	// The parameters' line is the same decoder.
	e := evaluated(t, "--bundle", testbundle.With(t, func(o *weights.Options) { o.Attention = bundle.Causal }), "--limit", "1", "--rounds", "2",
		"--decoders", "autoregressive", "--ros-args", "-p", "decode.preset:=autoregressive")
	if len(e.Rows) != 3 || e.Rows[2].Name != "parameters" || e.Rows[2].Passes != 112 || e.Agreement[1][2] != 1 || e.Agreement[0][1] == 1 {
		t.Errorf("%+v, agreement %v", e.Rows, e.Agreement)
	}
}

// The errors are those of the chunks that a replay makes, against the recorded
// commands.
func TestEvalDecodeComparesWithWhatWasRecorded(t *testing.T) {
	e := evaluated(t, "--decoders", "greedy", "--rounds", "1")
	if len(e.Rows) != 1 {
		t.Fatalf("%+v", e.Rows)
	}
	chunks, _ := replayed(t, filepath.Join(bags, "raw_mcap"), nil, "-p", "decode.preset:=greedy")
	if len(chunks[chunkTopic]) != e.Observations {
		t.Fatalf("%d observations, %d chunks", e.Observations, len(chunks[chunkTopic]))
	}
	type command struct {
		at       time.Time
		position []float64
	}
	var commands [2][]command
	for a, topic := range commandTopics {
		for _, r := range contents(t, filepath.Join(bags, "raw_mcap"))[topic] {
			m := decoded(t, r, &msgs.JointState{})
			commands[a] = append(commands[a], command{m.Header.Stamp.Time(), m.Position})
		}
	}
	for j, have := range e.Rows[0].ByDim {
		var sum, largest, count float64
		for _, r := range chunks[chunkTopic] {
			m := decoded(t, r, &msgs.JointTrajectory{})
			if m.JointNames[j] != have.Name {
				t.Fatalf("dimension %d is %s, in the chunk %s", j, have.Name, m.JointNames[j])
			}
			for _, p := range m.Points {
				due := m.Header.Stamp.Time().Add(time.Duration(p.TimeFromStart.Sec)*time.Second + time.Duration(p.TimeFromStart.Nanosec))
				list := commands[j/7]
				for i := range list[1:] {
					from, to := list[i], list[i+1]
					if due.Before(from.at) || !due.Before(to.at) {
						continue
					}
					share := due.Sub(from.at).Seconds() / to.at.Sub(from.at).Seconds()
					d := math.Abs(p.Positions[j] - (from.position[j%7]*(1-share) + to.position[j%7]*share))
					sum, largest, count = sum+d, max(largest, d), count+1
				}
			}
		}
		if int(count) != have.Count || count == 0 || math.Abs(sum/count-have.Mean) > 1e-6 || math.Abs(largest-have.Largest) > 1e-6 {
			t.Errorf("%s: %+v, want a mean of %g and at most %g over %g values", have.Name, have, sum/count, largest, count)
		}
	}
}

// Without recorded commands there are no errors; --every thins out, and people
// get Markdown.
func TestEvalDecodeWithoutCommands(t *testing.T) {
	silent := copied(t, filepath.Join(bags, "raw_mcap"), func(topic string) bool { return !strings.HasPrefix(topic, "/master/") })
	status, stdout, stderr := call(t, "eval", "decode", "--bundle", testbundle.Dir(t), "--bag", silent, "--rounds", "1", "--every", "2", "--decoders", "parallel", "--threads", "1")
	if status != 0 {
		t.Fatal(stderr)
	}
	for _, want := range []string{`Policy "tiny-reach" on ` + silent + ": 3 observations, 336 tokens; T = 1,", "| decoder | passes |", "| parallel | 1 |", "| greedy | 1 |"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "error") || strings.Contains(stdout, "recorded") {
		t.Errorf("errors against nothing:\n%s", stdout)
	}
}

// A policy with an L1 head has nothing to choose from: one line with its passes
// and errors, and a replay whose chunks were not decoded in rounds.
func TestL1HeadsHaveNoRounds(t *testing.T) {
	head := testbundle.L1(t, make([]float32, 14))
	raw := filepath.Join(bags, "raw_mcap")
	status, stdout, stderr := call(t, "eval", "decode", "--bundle", head, "--bag", raw, "--threads", "1", "--json")
	if status != 0 {
		t.Fatal(stderr)
	}
	var e evaluation
	if err := json.Unmarshal([]byte(stdout), &e); err != nil {
		t.Fatal(err)
	}
	if len(e.Rows) != 1 || e.Agreement != nil || e.Tokens != 0 || e.Observations == 0 {
		t.Fatalf("%+v", e)
	}
	if r := e.Rows[0]; r.Name != "l1" || r.Passes != 1 || r.Equal != nil || len(r.ByDim) != 14 || !(r.P50 > 0) {
		t.Errorf("%+v", r)
	}
	out := filepath.Join(t.TempDir(), "out")
	if status, _, stderr := call(t, "replay", raw, "--out", out, "--ros-args", "-p", "policy:="+head, "-p", "runtime.threads:=1"); status != 0 {
		t.Fatal(stderr)
	}
	refused(t, 1, []string{out, "chunk 1 on " + traceTopic, "L1 head", "no token was decoded in rounds"}, "inspect", "--trace", out)
}

func TestEvalRefusals(t *testing.T) {
	dir, raw := testbundle.Dir(t), filepath.Join(bags, "raw_mcap")
	head := testbundle.Copy(t, func(m *bundle.Manifest) { m.Model.Head = bundle.L1Head })
	exact := testbundle.Copy(t, func(m *bundle.Manifest) { m.Model.Refresh = false })
	good := []string{"decode", "--bundle", dir, "--bag", raw}
	for name, c := range map[string]struct {
		status int
		names  []string
		args   []string
	}{
		"nothing":         {2, []string{"eval decode -h"}, nil},
		"another kind":    {2, []string{`"sim"`, "decode"}, []string{"sim"}},
		"no bundle":       {2, []string{"--bundle"}, []string{"decode", "--bag", raw}},
		"no bag":          {2, []string{"--bag"}, []string{"decode", "--bundle", dir}},
		"no such bundle":  {1, []string{"nowhere"}, []string{"decode", "--bundle", "nowhere", "--bag", raw}},
		"no such bag":     {1, []string{"nowhere"}, []string{"decode", "--bundle", dir, "--bag", "nowhere"}},
		"every 0":         {2, []string{"--every is 0"}, append(good, "--every", "0")},
		"limit below 0":   {2, []string{"--limit is -1"}, append(good, "--limit", "-1")},
		"no such decoder": {2, []string{`"beam"`, "greedy, paper, official"}, append(good, "--decoders", "greedy,beam")},
		"rounds":          {2, []string{"decode.rounds", "0 to 64"}, append(good, "--rounds", "65")},
		"no refresh":      {2, []string{`"refresh-2"`, "greedy, paper, official"}, []string{"decode", "--bundle", exact, "--bag", raw, "--decoders", "refresh-2", "--rounds", "1"}},
		"L1 head":         {2, []string{"--decoders", "L1 head"}, []string{"decode", "--bundle", head, "--bag", raw, "--decoders", "paper"}},
		"no cameras":      {1, []string{"lacks /camera_f/color/image_raw"}, []string{"decode", "--bundle", dir, "--bag", copied(t, raw, func(topic string) bool { return topic != headTopic })}},
		"no observation":  {1, []string{"no observation", "max_skew"}, append(good, "--ros-args", "-p", "max_skew:=0.001")},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.status, c.names, append([]string{"eval"}, c.args...)...) })
	}
}
