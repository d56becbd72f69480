package param

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// SimTime is the parameter that every node has; see ros.Node.UseSimTime.
const SimTime = "use_sim_time"

// An Assignment gives a parameter a value.
type Assignment struct {
	Name  string
	Value Value
}

// A Set holds the parameters of one node. Changes are checked as a whole before any takes effect.
type Set struct {
	table map[string]*Descriptor
	names []string // sorted

	mu       sync.Mutex // orders changes; held while hooks run
	checks   []func(Values) error
	watchers []func(changed []string, now Values)
	values   atomic.Pointer[Values]

	undeclared []string
}

// New makes a set from a table and what the command line says about this node ([Args.For]). Assignments
// are applied in order and checked as later changes are, except that read-only parameters may be given.
// Assignments of parameters that are not in the table are skipped, as rclcpp does, and listed by
// [Set.Undeclared].
func New(table []Descriptor, given []Assignment) (*Set, error) {
	s := &Set{table: make(map[string]*Descriptor, len(table)+1)}
	sim := Descriptor{Name: SimTime, Default: Bool(false), Meaning: "Follow /clock instead of the wall clock."}
	for _, d := range append([]Descriptor{sim}, table...) {
		if err := d.validate(); err != nil {
			return nil, fmt.Errorf("param: %w", err)
		}
		if s.table[d.Name] != nil {
			return nil, fmt.Errorf("param: parameter %q is declared twice", d.Name)
		}
		s.table[d.Name] = &d
		s.names = append(s.names, d.Name)
	}
	sort.Strings(s.names)
	v := Values{m: make(map[string]Value, len(s.names))}
	for name, d := range s.table {
		v.m[name] = d.Default
	}
	var errs []error
	final := make(map[string]Value)
	for _, a := range given {
		if s.table[a.Name] == nil {
			if !slices.Contains(s.undeclared, a.Name) {
				s.undeclared = append(s.undeclared, a.Name)
			}
			continue
		}
		final[a.Name] = a.Value // a later one replaces an earlier one, right or wrong
	}
	for _, name := range s.names {
		if value, ok := final[name]; ok {
			value = s.table[name].adopt(value)
			if err := s.table[name].check(value); err != nil {
				errs = append(errs, err)
				continue
			}
			v.m[name] = value
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.values.Store(&v)
	return s, nil
}

// adopt gives an empty list the declared kind. Its own cannot be seen in a params file, and ros2 param, which
// guesses kinds, sends every empty list as one of bools.
func (d *Descriptor) adopt(v Value) Value {
	elements := len(v.bytes) + len(v.bools) + len(v.ints) + len(v.doubles) + len(v.strings)
	if v.kind.list() && d.Default.kind.list() && elements == 0 {
		return Value{kind: d.Default.kind}
	}
	return v
}

// Undeclared names the parameters that were given at start and are not in the table: most likely typing
// errors, so tell the user.
func (s *Set) Undeclared() []string { return s.undeclared }

// Values is the present state.
func (s *Set) Values() Values { return *s.values.Load() }

// Table lists the descriptors by name, use_sim_time included.
func (s *Set) Table() []Descriptor {
	out := make([]Descriptor, len(s.names))
	for i, name := range s.names {
		out[i] = *s.table[name]
	}
	return out
}

// Check adds a rule over all parameters together. It is called with the state as it would become and
// refuses a change by an error, whose text the caller sees. It returns the rule's verdict on the present
// state. Rules and watchers must not call Apply, Check or Watch.
func (s *Set) Check(rule func(Values) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks = append(s.checks, rule)
	return rule(s.Values())
}

// Watch adds a function that is called after every change with the names that changed.
func (s *Set) Watch(f func(changed []string, now Values)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, f)
}

// Apply makes all of the changes or, with an error that says why, none.
func (s *Set) Apply(changes ...Assignment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.Values()
	next := Values{m: make(map[string]Value, len(old.m))}
	for name, v := range old.m {
		next.m[name] = v
	}
	var changed []string
	for _, c := range changes {
		d := s.table[c.Name]
		if d == nil {
			return fmt.Errorf("parameter %q is not declared", c.Name)
		}
		v := d.adopt(c.Value)
		if err := d.check(v); err != nil {
			return err
		}
		if d.ReadOnly && !v.Equal(old.m[c.Name]) {
			return fmt.Errorf("parameter %q is read-only: set it at start, with -p %s:=%s", c.Name, c.Name, v)
		}
		next.m[c.Name] = v
		if !slices.Contains(changed, c.Name) {
			changed = append(changed, c.Name)
		}
	}
	for _, rule := range s.checks {
		if err := rule(next); err != nil {
			return err
		}
	}
	s.values.Store(&next)
	for _, f := range s.watchers {
		f(changed, next)
	}
	return nil
}

// Values is the state of all parameters at one moment. It never changes.
type Values struct{ m map[string]Value }

// Get returns a parameter's value, and the zero Value of one that is not declared.
func (v Values) Get(name string) Value { return v.m[name] }

// must stops the program when its own code asks for a parameter that its table does not have so.
func (v Values) must(name string, kind Kind) Value {
	got := v.m[name]
	if got.kind != kind {
		panic(fmt.Sprintf("param: %q is asked for as %s but declared as %s", name, kind, got.kind))
	}
	return got
}

// Bool returns a parameter that the table declares as bool; asking for another is a bug and panics.
func (v Values) Bool(name string) bool { return v.must(name, KindBool).b }

// Int is like Bool for integers.
func (v Values) Int(name string) int64 { return v.must(name, KindInt).i }

// Double is like Bool for doubles.
func (v Values) Double(name string) float64 { return v.must(name, KindDouble).f }

// String is like Bool for strings.
func (v Values) String(name string) string { return v.must(name, KindString).s }

// Bytes is like Bool for byte arrays, which must not be changed.
func (v Values) Bytes(name string) []byte { return v.must(name, KindBytes).bytes }

// Bools is like Bool for bool arrays, which must not be changed.
func (v Values) Bools(name string) []bool { return v.must(name, KindBools).bools }

// Ints is like Bool for integer arrays, which must not be changed.
func (v Values) Ints(name string) []int64 { return v.must(name, KindInts).ints }

// Doubles is like Bool for double arrays, which must not be changed.
func (v Values) Doubles(name string) []float64 { return v.must(name, KindDoubles).doubles }

// Strings is like Bool for string arrays, which must not be changed.
func (v Values) Strings(name string) []string { return v.must(name, KindStrings).strings }
