package node

import (
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
)

// A ParameterError is a value that a parameter of the command line cannot have.
type ParameterError struct{ error }

// Unwrap gives the error in package param's words.
func (e ParameterError) Unwrap() error { return e.error }

// Declare makes the parameters of a node with the given names: the table of
// Parameters and, since these say which topics there are, that of QoSOverrides.
// The bundle that the parameter policy names decides which cameras there are; its
// manifest is returned, nil where there is none.
func Declare(given []param.Assignment, names *ros.Names) (*param.Set, *bundle.Manifest, error) {
	set, err := param.New(Parameters(nil), given)
	if err != nil {
		return nil, nil, ParameterError{err}
	}
	cameras := standardCameras()
	var m *bundle.Manifest
	if dir := set.Values().String("policy"); dir != "" {
		if m, err = bundle.ReadManifest(dir); err != nil {
			return nil, nil, err
		}
		cameras = nil
		for _, c := range m.Cameras {
			cameras = append(cameras, c.Name)
		}
	}
	table := Parameters(cameras)
	if set, err = param.New(table, given); err != nil {
		return nil, nil, ParameterError{err}
	}
	overrides, err := QoSOverrides(set.Values(), cameras, names)
	if err == nil {
		set, err = param.New(append(table, overrides...), given)
	}
	if err != nil {
		return nil, nil, ParameterError{err}
	}
	return set, m, nil
}
