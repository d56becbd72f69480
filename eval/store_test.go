package eval

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func someSetup() Setup {
	return Setup{Schema: Schema, Policy: "tiny", Bundle: "ab", Instructions: RightInstructions, Latency: "0", Every: 4, Pictures: "96x96/2",
		Parameters: map[string]string{"decode.rounds": "4"}}
}

func openStore(t *testing.T, dir string, setup Setup) *Store {
	t.Helper()
	s, err := OpenStore(dir, setup)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func record(seed uint64, success bool) Record {
	return Record{Key: Key{"lift", "none", seed}, Success: success, Time: float64(seed), Timing: Timing{Took: 1}}
}

// Wherever a process is killed while it writes, the next one has all episodes whose
// line is whole, and goes on after them.
func TestAJournalGoesOnWhereverItIsCut(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, someSetup())
	for seed := range uint64(5) {
		if err := s.Add(record(seed, seed%2 == 0), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, JournalFile))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		cut := rapid.IntRange(0, len(whole)).Draw(t, "cut")
		if err := os.WriteFile(filepath.Join(dir, JournalFile), whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		lines := uint64(strings.Count(string(whole[:cut]), "\n"))
		for range 2 {
			s, err := OpenStore(dir, someSetup())
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(5) {
				got, ok := s.Record(Key{"lift", "none", seed})
				if ok != (seed < lines) || ok && !reflect.DeepEqual(got, record(seed, seed%2 == 0)) {
					t.Fatalf("cut at %d, after %d lines: seed %d: %v %+v", cut, lines, seed, ok, got)
				}
			}
			if err := s.Add(record(lines, lines%2 == 0), nil); err != nil {
				t.Fatal(err)
			}
			lines++
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if lines > 5 {
				break
			}
		}
	})
}

// A directory of another configuration is refused in words that say what differs, and
// stays as it is.
func TestADirectoryOfAnotherSetupIsRefused(t *testing.T) {
	dir := t.TempDir()
	other := someSetup()
	other.Every++
	if err := openStore(t, dir, other).Close(); err != nil {
		t.Fatal(err)
	}
	// Nothing was run yet: it may still become another.
	s := openStore(t, dir, someSetup())
	if err := errors.Join(s.Add(record(1, true), nil), s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*Setup)
		names  []string
	}{
		{func(s *Setup) { s.Policy = "expert" }, []string{"policy", `"tiny"`, `"expert"`}},
		{func(s *Setup) { s.Bundle = "cd" }, []string{"digest", `"ab"`, `"cd"`}},
		{func(s *Setup) { s.Decoder = "paper" }, []string{"decoder"}},
		{func(s *Setup) { s.Instructions = WrongInstructions }, []string{"instructions", "wrong"}},
		{func(s *Setup) { s.Latency = "measured" }, []string{"latency", "measured"}},
		{func(s *Setup) { s.Every = 2 }, []string{"every", `"2"`}},
		{func(s *Setup) { s.Servo = "delay 20ms" }, []string{"servo", "20ms"}},
		{func(s *Setup) { s.Pictures = "64x64/1" }, []string{"pictures"}},
		{func(s *Setup) { s.Parameters = nil }, []string{"decode.rounds", "its default"}},
		{func(s *Setup) { s.Parameters = map[string]string{"decode.rounds": "8", "seed": "2"} }, []string{"decode.rounds", `"8"`, "seed"}},
	} {
		other := someSetup()
		c.change(&other)
		_, err := OpenStore(dir, other)
		if !errors.Is(err, ErrOtherSetup) {
			t.Fatalf("%+v: %v", other, err)
		}
		for _, name := range append(c.names, dir) {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%q is not in: %v", name, err)
			}
		}
	}
	if err := openStore(t, dir, someSetup()).Close(); err != nil {
		t.Error(err)
	}
	// Episodes of which nobody knows how they were run are nobody's.
	if err := os.Remove(filepath.Join(dir, SetupFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(dir, someSetup()); err == nil || !strings.Contains(err.Error(), SetupFile) {
		t.Errorf("episodes without a setup: %v", err)
	}
}

// Every field of a Setup counts: one that Differences forgot would mix results.
func TestDifferencesLookAtAllOfASetup(t *testing.T) {
	v := reflect.ValueOf(Setup{})
	for i := range v.NumField() {
		s := someSetup()
		f := reflect.ValueOf(&s).Elem().Field(i)
		switch f.Kind() {
		case reflect.String:
			f.SetString("other")
		case reflect.Int:
			f.SetInt(77)
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]string{"seed": "3"}))
		default:
			t.Fatalf("a %s is not tried", f.Kind())
		}
		if len(someSetup().Differences(s)) == 0 {
			t.Errorf("%s does not count", v.Type().Field(i).Name)
		}
	}
	if d := someSetup().Differences(someSetup()); d != nil {
		t.Errorf("%q", d)
	}
}

func TestADirectoryIsOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, someSetup())
	if _, err := OpenStore(dir, someSetup()); err == nil || !strings.Contains(err.Error(), "another evaluation") {
		t.Error(err)
	}
	// What is done can be counted meanwhile.
	plan := Plan{Tasks: []string{"lift"}, Perturbations: []string{"none"}, Episodes: 5}
	if n, err := Done(dir, someSetup(), plan); n != 0 || err != nil {
		t.Errorf("%d done, %v", n, err)
	}
	if err := s.Add(record(3, false), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.journal.WriteString(`{"task":"li`); err != nil {
		t.Fatal(err)
	}
	if n, err := Done(dir, someSetup(), plan); n != 1 || err != nil {
		t.Errorf("%d done, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openStore(t, dir, someSetup()).Close(); err != nil {
		t.Error(err)
	}
}

func TestADamagedLineIsTold(t *testing.T) {
	dir := t.TempDir()
	if err := openStore(t, dir, someSetup()).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, JournalFile), []byte("{}\nnonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(dir, someSetup()); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}
