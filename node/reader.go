package node

import (
	"fmt"
	"time"

	"github.com/ddvla/ddvla/policy/bundle"
)

// CheckBundle reports what of a bundle does not fit the robot of settings: its action
// columns and its proprio by name and unit. A node with these settings refuses it
// with the same words.
func CheckBundle(settings Settings, m *bundle.Manifest) error {
	if _, err := newMapping(settings, m); err != nil {
		return err
	}
	_, err := proprioSources(m)
	return err
}

// A JointReader reads joint states of one arm as a node does: by the names of the
// drivers, the gripper in metres. It is for one goroutine.
type JointReader struct{ joints joints }

// NewJointReader returns a reader for an arm's messages, 0 the left one's, 1 the right
// one's.
func NewJointReader(settings Settings, arm int) (*JointReader, error) {
	if arm < 0 || arm >= len(arms) {
		return nil, fmt.Errorf("there is no arm %d", arm)
	}
	r := &JointReader{joints{arm: arms[arm], gripper: settings.Gripper}}
	if settings.Trajectories {
		r.joints.names = settings.TrajectoryJoints[arm]
	}
	return r, nil
}

// Read returns a message's stamp (received where it has none) and its positions in
// the order of ArmJoints: six in rad, and the opening in m.
func (r *JointReader) Read(raw []byte, received time.Time) (stamp time.Time, positions [armJoints]float64, err error) {
	s, err := r.joints.decode(raw, received)
	return s.stamp, s.positions, err
}
