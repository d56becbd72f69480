package param

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/rostest"
)

func table() []Descriptor {
	return []Descriptor{
		{Name: "rate", Default: Double(10), Meaning: "Chunks wanted per second.", Unit: "Hz", Range: Between(0.1, 100)},
		{Name: "seed", Default: Int(1), Meaning: "Seed.", Range: &Range{Min: 0, Max: 100, Step: 5}, ReadOnly: true},
		{Name: "preset", Default: String("greedy"), Meaning: "Decoder.", OneOf: []string{"greedy", "paper"}},
		{Name: "cameras.head.topic", Default: String("/camera_f"), Meaning: "Topic."},
		{Name: "cameras.head.rows", Default: Ints(1, 2), Meaning: "Rows."},
		{Name: "gains", Default: Doubles(0.5, 1), Meaning: "Gains.", Range: AtLeast(0)},
		{Name: "enabled", Default: Bool(false), Meaning: "Start enabled."},
	}
}

func newSet(t *testing.T, given ...Assignment) *Set {
	t.Helper()
	if i := slices.IndexFunc(given, func(a Assignment) bool { return a.Name == "seed" }); i < 0 {
		given = append(given, Assignment{"seed", Int(5)})
	}
	s, err := New(goodTable(), given)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// goodTable is table with a default that its own range allows.
func goodTable() []Descriptor {
	d := table()
	d[1].Default = Int(5)
	return d
}

func TestTableMistakesAreFoundAtStart(t *testing.T) {
	for want, d := range map[string][]Descriptor{
		"out of range": table(), // seed 1 is no multiple of 5
		"twice":        {{Name: "a", Default: Int(1)}, {Name: "a", Default: Int(1)}},
		"no default":   {{Name: "a"}},
		"empty part":   {{Name: "a..b", Default: Int(1)}},
		"use_sim_time": {{Name: SimTime, Default: Bool(true)}},
	} {
		if _, err := New(d, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestApplyRefusesWithAReasonAndChangesNothing(t *testing.T) {
	s := newSet(t)
	if err := s.Check(func(v Values) error {
		if v.Bool("enabled") && v.Double("rate") > 50 {
			return errors.New("enabled needs a rate of at most 50 Hz")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	before := s.Values()
	for _, c := range []struct {
		want    string
		changes []Assignment
	}{
		{"write 5.0", []Assignment{{"rate", Int(5)}}},
		{"write 7", []Assignment{{"cameras.head.topic", String("x")}, {"seed", Double(7)}}},
		{"[1.0, 2.0]", []Assignment{{"gains", Ints(1, 2)}}},
		{"in quotes", []Assignment{{"cameras.head.topic", Int(3)}}},
		{"0.1 to 100 Hz", []Assignment{{"rate", Double(101)}}},
		{"out of range", []Assignment{{"rate", Double(math.NaN())}}},
		{"at least 0", []Assignment{{"gains", Doubles(1, -1)}}},
		{"greedy, paper", []Assignment{{"preset", String("best")}}},
		{"read-only", []Assignment{{"seed", Int(10)}}},
		{"not declared", []Assignment{{"rat", Double(1)}}},
		{"deleted", []Assignment{{"rate", Value{}}}},
		{"at most 50 Hz", []Assignment{{"enabled", Bool(true)}, {"rate", Double(60)}}},
	} {
		err := s.Apply(c.changes...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v does not say %q", c.changes, err, c.want)
		}
		for _, name := range s.names {
			if !s.Values().Get(name).Equal(before.Get(name)) {
				t.Fatalf("%v: changed %s although refused", c.changes, name)
			}
		}
	}
	if err := s.Apply(Assignment{"seed", Int(5)}, Assignment{"rate", Double(60)}); err != nil {
		t.Errorf("a read-only parameter may be set to what it is: %v", err)
	}
}

func TestStartTakesTheLastAssignmentAndNamesUndeclaredOnes(t *testing.T) {
	s := newSet(t, Assignment{"rate", Int(1)}, Assignment{"raet", Double(3)}, Assignment{"rate", Double(2)})
	if got := s.Values().Double("rate"); got != 2 {
		t.Errorf("rate %v, want the last, 2", got)
	}
	if got := s.Undeclared(); !slices.Equal(got, []string{"raet"}) {
		t.Errorf("undeclared %v", got)
	}
	_, err := New(goodTable(), []Assignment{{"rate", Int(1)}, {"preset", String("x")}})
	if err == nil || !strings.Contains(err.Error(), "write 1.0") || !strings.Contains(err.Error(), "greedy, paper") {
		t.Errorf("both mistakes should be told at once: %v", err)
	}
}

func TestEmptyListTakesTheDeclaredType(t *testing.T) {
	v, err := parseValue("[]")
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, Assignment{"gains", v})
	if got := s.Values().Doubles("gains"); len(got) != 0 {
		t.Errorf("gains %v, want none", got)
	}
	// ros2 param sends every empty list as one of bools.
	for _, empty := range []Value{Bools(), Ints(), Strings(), Doubles()} {
		if err := s.Apply(Assignment{"gains", Doubles(1)}); err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(Assignment{"gains", empty}); err != nil || len(s.Values().Doubles("gains")) != 0 {
			t.Errorf("%v: %v, gains %v", empty.kind, err, s.Values().Doubles("gains"))
		}
	}
	if err := s.Apply(Assignment{"rate", Bools()}); err == nil {
		t.Error("an empty list was taken for a number")
	}
}

// client calls one of the node's parameter services.
func call[Req, Resp any, Q ros.MessageOf[Req], P ros.MessageOf[Resp]](t *testing.T, n ros.Node, service string, request *Req) *Resp {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := ros.NewClient[Req, Resp, Q, P](n, service)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	reply, err := ros.Call[Req, Resp, Q, P](ctx, c, request)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func serve(t *testing.T) (user ros.Node, s *Set, events chan msgs.ParameterEvent) {
	t.Helper()
	bus := local.NewBus()
	n, err := bus.Node(ros.Options{Name: "ddvla", Namespace: "/robot"})
	if err != nil {
		t.Fatal(err)
	}
	user, err = bus.Node(ros.Options{Name: "user"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(); user.Close() })
	events = make(chan msgs.ParameterEvent, 10)
	_, err = ros.Subscribe(user, "/parameter_events", ros.ParameterEventsQoS(), func(m *msgs.ParameterEvent, _ time.Time) {
		raw, err := msgs.Marshal(m) // a copy that may be kept
		if err != nil {
			t.Error(err)
		}
		var e msgs.ParameterEvent
		if err := msgs.Unmarshal(raw, &e); err != nil {
			t.Error(err)
		}
		events <- e
	})
	if err != nil {
		t.Fatal(err)
	}
	s = newSet(t)
	if err := Serve(n, s, zaptest.NewLogger(t)); err != nil {
		t.Fatal(err)
	}
	return user, s, events
}

func TestServicesAnswerAsRclcpps(t *testing.T) {
	user, s, events := serve(t)
	first := <-events
	if len(first.NewParameters) != len(s.names) || first.Node != "/robot/ddvla" || first.Stamp == (msgs.Time{}) {
		t.Errorf("first event %+v", first)
	}

	get := call[msgs.GetParametersRequest, msgs.GetParametersResponse](t, user, "/robot/ddvla/get_parameters",
		&msgs.GetParametersRequest{Names: []string{"rate", "use_sim_time"}})
	if len(get.Values) != 2 || get.Values[0].DoubleValue != 10 || get.Values[1].Type != msgs.ParameterBool {
		t.Errorf("get: %+v", get)
	}
	if get := call[msgs.GetParametersRequest, msgs.GetParametersResponse](t, user, "/robot/ddvla/get_parameters",
		&msgs.GetParametersRequest{Names: []string{"rate", "nothing"}}); len(get.Values) != 0 {
		t.Errorf("get of an undeclared parameter: %+v", get)
	}
	types := call[msgs.GetParameterTypesRequest, msgs.GetParameterTypesResponse](t, user, "/robot/ddvla/get_parameter_types",
		&msgs.GetParameterTypesRequest{Names: []string{"gains", "seed"}})
	if !slices.Equal(types.Types, []uint8{msgs.ParameterDoubleArray, msgs.ParameterInteger}) {
		t.Errorf("types: %+v", types)
	}
	described := call[msgs.DescribeParametersRequest, msgs.DescribeParametersResponse](t, user, "/robot/ddvla/describe_parameters",
		&msgs.DescribeParametersRequest{Names: []string{"rate", "seed", "preset"}}).Descriptors
	if len(described) != 3 || described[0].Description != "Chunks wanted per second. [Hz]" ||
		described[0].FloatingPointRange[0] != (msgs.FloatingPointRange{FromValue: 0.1, ToValue: 100}) ||
		!described[1].ReadOnly || described[1].IntegerRange[0] != (msgs.IntegerRange{ToValue: 100, Step: 5}) ||
		described[2].AdditionalConstraints != "one of greedy, paper" {
		t.Errorf("describe: %+v", described)
	}

	set := call[msgs.SetParametersRequest, msgs.SetParametersResponse](t, user, "/robot/ddvla/set_parameters",
		&msgs.SetParametersRequest{Parameters: []msgs.Parameter{
			{Name: "rate", Value: Double(20).message()},
			{Name: "rate", Value: Int(20).message()},
			{Name: "preset", Value: String("paper").message()},
		}}).Results
	if len(set) != 3 || !set[0].Successful || set[1].Successful || !set[2].Successful || !strings.Contains(set[1].Reason, "write 20.0") {
		t.Errorf("set: %+v", set)
	}
	if v := s.Values(); v.Double("rate") != 20 || v.String("preset") != "paper" {
		t.Errorf("values after set: %v", v)
	}
	if e := <-events; len(e.ChangedParameters) != 1 || e.ChangedParameters[0].Name != "rate" {
		t.Errorf("event: %+v", e)
	}
	<-events

	all := call[msgs.SetParametersAtomicallyRequest, msgs.SetParametersAtomicallyResponse](t, user,
		"/robot/ddvla/set_parameters_atomically", &msgs.SetParametersAtomicallyRequest{Parameters: []msgs.Parameter{
			{Name: "rate", Value: Double(30).message()}, {Name: "seed", Value: Int(10).message()}}})
	if all.Result.Successful || !strings.Contains(all.Result.Reason, "read-only") || s.Values().Double("rate") != 20 {
		t.Errorf("atomic: %+v, rate %v", all, s.Values().Double("rate"))
	}
}

func TestListParametersByPrefixAndDepth(t *testing.T) {
	user, _, _ := serve(t)
	for _, c := range []struct {
		request         msgs.ListParametersRequest
		names, prefixes []string
	}{
		{msgs.ListParametersRequest{}, []string{"cameras.head.rows", "cameras.head.topic", "enabled", "gains", "preset", "rate",
			"seed", "use_sim_time"}, []string{"cameras.head"}},
		{msgs.ListParametersRequest{Depth: 1}, []string{"enabled", "gains", "preset", "rate", "seed", "use_sim_time"}, nil},
		{msgs.ListParametersRequest{Prefixes: []string{"cameras"}, Depth: 1}, nil, nil},
		{msgs.ListParametersRequest{Prefixes: []string{"cameras"}, Depth: 2}, []string{"cameras.head.rows", "cameras.head.topic"}, []string{"cameras.head"}},
		{msgs.ListParametersRequest{Prefixes: []string{"rate", "camera"}}, []string{"rate"}, nil},
	} {
		got := call[msgs.ListParametersRequest, msgs.ListParametersResponse](t, user, "/robot/ddvla/list_parameters", &c.request).Result
		if !slices.Equal(got.Names, c.names) || !slices.Equal(got.Prefixes, c.prefixes) {
			t.Errorf("%+v: %+v", c.request, got)
		}
	}
}

func TestUseSimTimeFollowsClock(t *testing.T) {
	bus := local.NewBus()
	n, err := bus.Node(ros.Options{Name: "ddvla"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	s := newSet(t, Assignment{SimTime, Bool(true)})
	if err := Serve(n, s, zaptest.NewLogger(t)); err != nil {
		t.Fatal(err)
	}
	if !n.Now().IsZero() {
		t.Fatalf("time %v before the first /clock", n.Now())
	}
	clock, err := ros.Advertise[msgs.Clock](n, "/clock", ros.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	if err := clock.Publish(&msgs.Clock{Clock: msgs.Time{Sec: 12, Nanosec: 34}}); err != nil {
		t.Fatal(err)
	}
	rostest.Wait(t, "the time comes", func() bool { return !n.Now().IsZero() })
	if got := n.Now(); got.Unix() != 12 || got.Nanosecond() != 34 {
		t.Errorf("time %v", got)
	}
	if err := s.Apply(Assignment{SimTime, Bool(false)}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(n.Now()); d > time.Minute {
		t.Errorf("wall clock is off by %v", d)
	}
}
