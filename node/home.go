package node

import (
	"errors"
	"fmt"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/policy/bundle"
)

// startPose is where ~/home takes the arms, in the executor's order: what the
// parameters say, else where the demonstrations began that the checkpoint was trained
// with, or the middle of their states.
func (n *Node) startPose(m *bundle.Manifest) ([]float64, error) {
	var pose []float64
	for a, side := range arms {
		if given := n.settings.Home[a]; len(given) > 0 {
			pose = append(pose, given...)
			continue
		}
		if m.Proprio == nil {
			return nil, fmt.Errorf("no start pose: the policy's statistics hold no states; set the parameter home.%s", side)
		}
		start := n.policy.Codec().StartPose()
		at := map[string]float64{}
		for i, d := range m.Proprio.Dims {
			at[d.Name] = start[i]
		}
		for j := range armJoints {
			v, ok := at[jointName(side, j)]
			if !ok {
				return nil, fmt.Errorf("no start pose: the policy's statistics hold no %s; set the parameter home.%s", jointName(side, j), side)
			}
			pose = append(pose, v)
		}
	}
	return pose, nil
}

// checkPose refuses a pose of an arm that is beyond its limits.
func checkPose(arm control.Arm, pose []float64, tolerance float64) error {
	for j, p := range pose {
		l := arm.Joints[j].Limits
		if !(p >= l.Lower-tolerance && p <= l.Upper+tolerance) {
			return fmt.Errorf("%s is at %v; its limits are %.4g to %.4g", arm.Joints[j].Name, p, l.Lower, l.Upper)
		}
	}
	return nil
}

// checkHome refuses a start pose that the arms cannot take.
func (s Settings) checkHome() error {
	for a, pose := range s.Home {
		if err := checkPose(s.Control.Layout[a], pose, s.Control.LimitTolerance); err != nil {
			return fmt.Errorf("parameter home.%s: %w", arms[a], err)
		}
	}
	return nil
}

// goesHome says why the arms cannot go to a pose now, before anything is ended for it.
func (n *Node) goesHome(pose []float64) error {
	c := &n.settings.Control
	for a, side := range arms {
		if err := checkPose(c.Layout[a], pose[a*armJoints:(a+1)*armJoints], c.LimitTolerance); err != nil {
			return fmt.Errorf("start pose of the %s arm: %w; set the parameter home.%s", side, err, side)
		}
	}
	s := n.executor.Status()
	switch {
	case s.Mode == control.Disabled:
		return errors.New("the arms are disabled; enable them before they go to the start pose")
	case s.Code.Latched():
		return fmt.Errorf("the arms are stopped (%v); enable them before they go to the start pose", s.Code)
	}
	if released := n.released(n.ros.Now()); released != "" {
		return fmt.Errorf("the deadman is not held (%s)", released)
	}
	return nil
}

// home takes enabled arms slowly to the start pose. What they were doing ends, and
// so does the instruction: they must not set out again by themselves.
func (n *Node) home() error {
	if !n.active.Load() {
		return errInactive
	}
	pose, err := n.startPose(n.policy.Manifest())
	if err != nil {
		return err
	}
	if err := n.goesHome(pose); err != nil {
		return err
	}
	n.observer.setInstruction("")
	n.recorder.forgets()
	if n.lock != nil {
		n.lock.forget()
	}
	n.flush()
	return n.executor.Home(pose, n.ros.Now())
}
