package node

import (
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
	// Else it is refused, with the reason.
	if s := n.executor.Status(); s.Mode != control.Disabled && !s.Code.Latched() {
		n.observer.setInstruction("")
		n.recorder.forgets()
		if n.lock != nil {
			n.lock.forget()
		}
		n.flush()
	}
	return n.executor.Home(pose, n.ros.Now())
}
