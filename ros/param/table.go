package param

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/msgs"
)

// A Descriptor declares one parameter. A program's table of them is the only place where a parameter is
// described: checks, services, params files and documentation come from it.
type Descriptor struct {
	Name     string   // parts joined with ".", such as "cameras.head.topic"
	Default  Value    // gives the type, which never changes
	Meaning  string   // a sentence for the user
	Unit     string   // "Hz", "rad", "m"; "" where there is none
	Range    *Range   // of integers, doubles and the elements of their arrays; nil allows all
	OneOf    []string // what a string may be; nil allows all
	ReadOnly bool     // set at start only
}

// A Range is what a number may be, both ends included.
type Range struct {
	Min, Max float64
	Step     float64 // 0 allows everything between
}

// Between is a range without steps.
func Between(min, max float64) *Range { return &Range{Min: min, Max: max} }

// AtLeast is a range without upper end.
func AtLeast(min float64) *Range { return &Range{Min: min, Max: math.Inf(1)} }

func (r *Range) String() string {
	s := fmt.Sprintf("%v to %v", r.Min, r.Max)
	switch {
	case math.IsInf(r.Min, -1):
		s = fmt.Sprintf("at most %v", r.Max)
	case math.IsInf(r.Max, 1):
		s = fmt.Sprintf("at least %v", r.Min)
	}
	if r.Step > 0 {
		s += fmt.Sprintf(" in steps of %v", r.Step)
	}
	return s
}

func (r *Range) holds(x float64) bool {
	if !(x >= r.Min && x <= r.Max) { // so that NaN is out
		return false
	}
	if r.Step <= 0 || x == r.Max {
		return true
	}
	n := (x - r.Min) / r.Step
	return math.Abs(n-math.Round(n)) <= 1e-9*max(1, math.Abs(n))
}

// check tells whether v may be the parameter's value, and if not how to mend it.
func (d *Descriptor) check(v Value) error {
	if v.kind != d.Default.kind {
		return &TypeError{Name: d.Name, Want: d.Default.kind, Got: v}
	}
	numbers := v.doubles
	switch v.kind {
	case KindInt:
		numbers = []float64{float64(v.i)}
	case KindDouble:
		numbers = []float64{v.f}
	case KindInts:
		for _, i := range v.ints {
			numbers = append(numbers, float64(i))
		}
	}
	if d.Range != nil {
		for _, x := range numbers {
			if !d.Range.holds(x) {
				return fmt.Errorf("parameter %q: %v is out of range; it must be %s%s", d.Name, x, d.Range, unit(d.Unit))
			}
		}
	}
	texts := v.strings
	if v.kind == KindString {
		texts = []string{v.s}
	}
	if d.OneOf != nil {
		for _, s := range texts {
			if !slices.Contains(d.OneOf, s) {
				return fmt.Errorf("parameter %q: %q is unknown; it must be one of %s", d.Name, s, strings.Join(d.OneOf, ", "))
			}
		}
	}
	return nil
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " " + u
}

// A TypeError is a value of another type than the parameter's.
type TypeError struct {
	Name string
	Want Kind
	Got  Value
}

func (e *TypeError) Error() string {
	s := fmt.Sprintf("parameter %q is a %s and cannot become a %s", e.Name, e.Want, e.Got.kind)
	if e.Want == KindInt || e.Want == KindInts {
		s = strings.Replace(s, "is a ", "is an ", 1)
	}
	if e.Got.kind == KindInt || e.Got.kind == KindInts {
		s = strings.Replace(s, "become a ", "become an ", 1)
	}
	switch {
	case e.Got.kind == KindNone:
		return fmt.Sprintf("parameter %q cannot be deleted", e.Name)
	case e.Want == KindDouble && e.Got.kind == KindInt:
		s += fmt.Sprintf(": write %s", formatDouble(float64(e.Got.i)))
	case e.Want == KindInt && e.Got.kind == KindDouble && e.Got.f == math.Trunc(e.Got.f):
		s += fmt.Sprintf(": write %d", int64(e.Got.f))
	case e.Want == KindDoubles && e.Got.kind == KindInts:
		s += ": write " + list(e.Got.ints, func(i int64) string { return formatDouble(float64(i)) })
	case e.Want == KindString:
		s += fmt.Sprintf(": write \"%s\" in quotes", e.Got)
	}
	return s
}

// message is the descriptor as ROS sends it.
func (d *Descriptor) message() msgs.ParameterDescriptor {
	m := msgs.ParameterDescriptor{Name: d.Name, Type: uint8(d.Default.kind), Description: d.Meaning, ReadOnly: d.ReadOnly}
	var more []string
	if d.Unit != "" {
		m.Description += " [" + d.Unit + "]"
	}
	if d.OneOf != nil {
		more = append(more, "one of "+strings.Join(d.OneOf, ", "))
	}
	if d.Range != nil {
		switch d.Default.kind {
		case KindDouble, KindDoubles:
			m.FloatingPointRange = []msgs.FloatingPointRange{{FromValue: d.Range.Min, ToValue: d.Range.Max, Step: d.Range.Step}}
		case KindInt, KindInts:
			m.IntegerRange = []msgs.IntegerRange{{FromValue: clampInt(d.Range.Min), ToValue: clampInt(d.Range.Max),
				Step: uint64(max(0, d.Range.Step))}}
		}
		more = append(more, d.Range.String())
	}
	m.AdditionalConstraints = strings.Join(more, "; ")
	return m
}

func clampInt(x float64) int64 {
	switch {
	case x >= math.MaxInt64:
		return math.MaxInt64
	case x <= math.MinInt64:
		return math.MinInt64
	}
	return int64(x)
}

// validate finds mistakes of the program's author.
func (d *Descriptor) validate() error {
	if err := validName(d.Name); err != nil {
		return err
	}
	if d.Default.kind == KindNone {
		return fmt.Errorf("parameter %q has no default, so no type", d.Name)
	}
	if err := d.check(d.Default); err != nil {
		return fmt.Errorf("default of %w", err)
	}
	return nil
}

func validName(name string) error {
	if name == "" || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		return fmt.Errorf("parameter name %q is empty or has an empty part", name)
	}
	return nil
}
