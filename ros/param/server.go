package param

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// Serve answers the node's six parameter services, publishes its /parameter_events and makes the node's
// clock follow use_sim_time. It lives until the node closes. Services answer as rclcpp's do: a request
// that names an undeclared parameter gets an empty answer, and a refused change its reason.
func Serve(n ros.Node, s *Set, log *zap.Logger) error {
	p := &server{node: n, set: s, log: log}
	var err error
	if p.events, err = ros.Advertise[msgs.ParameterEvent](n, "/parameter_events", ros.ParameterEventsQoS()); err != nil {
		return fmt.Errorf("param: %w", err)
	}
	if err := n.UseSimTime(s.Values().Bool(SimTime)); err != nil {
		return fmt.Errorf("param: %w", err)
	}
	p.publish(&msgs.ParameterEvent{NewParameters: p.parameters(s.names, s.Values())})
	s.Watch(p.changed) // before the first request can come
	for _, serve := range []func() (ros.Server, error){
		func() (ros.Server, error) { return ros.Serve(n, "~/get_parameters", p.get) },
		func() (ros.Server, error) { return ros.Serve(n, "~/get_parameter_types", p.types) },
		func() (ros.Server, error) { return ros.Serve(n, "~/set_parameters", p.change) },
		func() (ros.Server, error) { return ros.Serve(n, "~/set_parameters_atomically", p.changeAll) },
		func() (ros.Server, error) { return ros.Serve(n, "~/list_parameters", p.list) },
		func() (ros.Server, error) { return ros.Serve(n, "~/describe_parameters", p.describe) },
	} {
		if _, err := serve(); err != nil {
			return fmt.Errorf("param: %w", err)
		}
	}
	return nil
}

type server struct {
	node   ros.Node
	set    *Set
	log    *zap.Logger
	events *ros.TypedPublisher[msgs.ParameterEvent, *msgs.ParameterEvent]
}

func (p *server) parameters(names []string, v Values) []msgs.Parameter {
	out := make([]msgs.Parameter, len(names))
	for i, name := range names {
		out[i] = msgs.Parameter{Name: name, Value: v.m[name].message()}
	}
	return out
}

// changed runs after each change, in their order.
func (p *server) changed(names []string, now Values) {
	if slices.Contains(names, SimTime) {
		if err := p.node.UseSimTime(now.Bool(SimTime)); err != nil {
			p.log.Error("use_sim_time has no effect", zap.Error(err))
		}
	}
	p.publish(&msgs.ParameterEvent{ChangedParameters: p.parameters(names, now)})
}

func (p *server) publish(e *msgs.ParameterEvent) {
	e.Node = p.node.Name()
	if now := p.node.Now(); !now.IsZero() {
		e.Stamp = msgs.TimeOf(now)
	}
	if err := p.events.Publish(e); err != nil && !errors.Is(err, ros.ErrClosed) {
		p.log.Warn("parameter event was not sent", zap.Error(err))
	}
}

// declared tells whether all names are.
func (p *server) declared(names []string) bool {
	for _, name := range names {
		if p.set.table[name] == nil {
			p.log.Warn("parameter is not declared", zap.String("parameter", name))
			return false
		}
	}
	return true
}

func (p *server) get(_ context.Context, r *msgs.GetParametersRequest) (*msgs.GetParametersResponse, error) {
	var out msgs.GetParametersResponse
	if !p.declared(r.Names) {
		return &out, nil
	}
	v := p.set.Values()
	for _, name := range r.Names {
		out.Values = append(out.Values, v.m[name].message())
	}
	return &out, nil
}

func (p *server) types(_ context.Context, r *msgs.GetParameterTypesRequest) (*msgs.GetParameterTypesResponse, error) {
	var out msgs.GetParameterTypesResponse
	if !p.declared(r.Names) {
		return &out, nil
	}
	for _, name := range r.Names {
		out.Types = append(out.Types, uint8(p.set.table[name].Default.kind))
	}
	return &out, nil
}

func (p *server) describe(_ context.Context, r *msgs.DescribeParametersRequest) (*msgs.DescribeParametersResponse, error) {
	var out msgs.DescribeParametersResponse
	if !p.declared(r.Names) {
		return &out, nil
	}
	for _, name := range r.Names {
		out.Descriptors = append(out.Descriptors, p.set.table[name].message())
	}
	return &out, nil
}

// apply turns messages into one change.
func (p *server) apply(ps []msgs.Parameter) msgs.SetParametersResult {
	changes := make([]Assignment, len(ps))
	for i := range ps {
		v, err := fromMessage(&ps[i].Value)
		if err != nil {
			return msgs.SetParametersResult{Reason: fmt.Sprintf("parameter %q: %v", ps[i].Name, err)}
		}
		changes[i] = Assignment{ps[i].Name, v}
	}
	if err := p.set.Apply(changes...); err != nil {
		p.log.Warn("parameter change refused", zap.Error(err))
		return msgs.SetParametersResult{Reason: err.Error()}
	}
	return msgs.SetParametersResult{Successful: true}
}

func (p *server) change(_ context.Context, r *msgs.SetParametersRequest) (*msgs.SetParametersResponse, error) {
	var out msgs.SetParametersResponse
	for i := range r.Parameters {
		out.Results = append(out.Results, p.apply(r.Parameters[i:i+1]))
	}
	return &out, nil
}

func (p *server) changeAll(_ context.Context, r *msgs.SetParametersAtomicallyRequest) (*msgs.SetParametersAtomicallyResponse, error) {
	return &msgs.SetParametersAtomicallyResponse{Result: p.apply(r.Parameters)}, nil
}

// list answers as rclcpp's NodeParameters::list_parameters does from Jazzy on (Humble's counts the dot behind a
// prefix, too): depth counts the parts of a name below the
// prefix, 0 is without limit.
func (p *server) list(_ context.Context, r *msgs.ListParametersRequest) (*msgs.ListParametersResponse, error) {
	var out msgs.ListParametersResponse
	within := func(rest string) bool { return r.Depth == 0 || uint64(strings.Count(rest, ".")) < r.Depth }
	for _, name := range p.set.names {
		match := len(r.Prefixes) == 0 && within(name)
		for _, prefix := range r.Prefixes {
			rest, below := strings.CutPrefix(name, prefix+".")
			match = match || name == prefix || below && within(rest)
		}
		if !match {
			continue
		}
		out.Result.Names = append(out.Result.Names, name)
		if i := strings.LastIndexByte(name, '.'); i >= 0 && !slices.Contains(out.Result.Prefixes, name[:i]) {
			out.Result.Prefixes = append(out.Result.Prefixes, name[:i])
		}
	}
	return &out, nil
}
