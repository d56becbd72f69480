package node

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// armJoints is the number of values of one arm: six joints in rad and the
// gripper's opening in m.
const armJoints = 7

// history is how many joint states are kept to pair with an older picture: half
// a second at the drivers' 200 Hz.
const history = 100

// jointState is a measured state of one arm.
type jointState struct {
	stamp     time.Time
	positions [armJoints]float64
}

// joints keeps the newest states of one arm.
type joints struct {
	arm, topic string
	gripper    control.GripperUnits // of the driver
	names      []string             // of the joints in messages that hold others too, with or without the gripper, besides AgileX's names

	shared  bool // the other arm's states come on the topic too: only names tell whose they are
	stamped bool // states without a stamp are refused

	heard ros.Subscription // what tells of publishers that QoS keeps away

	mu       sync.Mutex
	message  msgs.JointState // of the callback, reused
	ring     [history]jointState
	count    uint64 // states so far; the newest is ring[(count-1)%history]
	kept     uint64 // of the newest states, with stamps that rise, at most history
	refusals refusals
	rate     rate
}

// what names the arm to the operator.
func (j *joints) what() string { return fmt.Sprintf("arm %q (topic %s)", j.arm, j.topic) }

// receive keeps the state that a message holds and returns it. A copy of the one
// before, stamped the same, is no news. The caller settles what became of it.
func (j *joints) receive(raw []byte, received time.Time) (state jointState, news bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	state, err = j.decode(raw, received)
	if err != nil {
		return jointState{}, false, fmt.Errorf("arm %q: topic %s: %w", j.arm, j.topic, err)
	}
	j.rate.tick(received)
	if j.kept > 0 {
		switch newest := j.ring[(j.count-1)%history].stamp; {
		case state.stamp.Equal(newest):
			return state, false, nil
		case state.stamp.Before(newest):
			// The clock went back: stamps from before would be taken for new ones.
			j.kept = 0
		}
	}
	j.ring[j.count%history] = state
	j.count++
	j.kept = min(j.kept+1, history)
	return state, true, nil
}

// settle notes whether a message could be used, by everyone who needs it, and
// returns a refusal to be told.
func (j *joints) settle(err error, received time.Time) (tell error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		return j.refusals.refuse(err, received)
	}
	j.refusals.accept()
	return nil
}

func (j *joints) decode(raw []byte, received time.Time) (jointState, error) {
	m := &j.message
	if err := msgs.Unmarshal(raw, m); err != nil {
		return jointState{}, err
	}
	if j.stamped && m.Header.Stamp.Time().IsZero() {
		return jointState{}, errUnstamped
	}
	if j.shared {
		return j.pick(received)
	}
	state, err := j.ordered(received)
	if err != nil && len(j.names) > 0 {
		return j.pick(received)
	}
	return state, err
}

// ordered reads a message of exactly one arm's joints, under AgileX's names.
func (j *joints) ordered(received time.Time) (jointState, error) {
	m := &j.message
	if len(m.Position) != armJoints {
		return jointState{}, fmt.Errorf("%d positions, want %d: six joints and the gripper", len(m.Position), armJoints)
	}
	if len(m.Name) != armJoints {
		return jointState{}, fmt.Errorf("%d names for %d positions", len(m.Name), armJoints)
	}
	base, err := numbering(m.Name)
	if err != nil {
		return jointState{}, err
	}
	state := jointState{stamp: m.Header.Stamp.Time()}
	if state.stamp.IsZero() {
		state.stamp = received
	}
	var seen [armJoints]bool
	for i, name := range m.Name {
		k, ok := jointIndex(name, base)
		if !ok || seen[k] {
			return jointState{}, fmt.Errorf("joint names %q are none of joint0..joint6, joint1..joint7 and joint1..joint6 with gripper", m.Name)
		}
		if v := m.Position[i]; math.IsNaN(v) || math.IsInf(v, 0) {
			return jointState{}, fmt.Errorf("joint %q is at %v", name, v)
		}
		seen[k] = true
		state.positions[k] = m.Position[i]
	}
	state.positions[armJoints-1] = j.gripper.FromDriver(state.positions[armJoints-1])
	return state, nil
}

// pick finds the arm's joints among those of a message, as ros2_control's
// joint_state_broadcaster sends all of a robot's. A gripper without a name is taken to
// be closed; nothing is sent to it either.
func (j *joints) pick(received time.Time) (jointState, error) {
	m := &j.message
	if len(m.Name) != len(m.Position) {
		return jointState{}, fmt.Errorf("%d names for %d positions", len(m.Name), len(m.Position))
	}
	state := jointState{stamp: m.Header.Stamp.Time()}
	if state.stamp.IsZero() {
		state.stamp = received
	}
	for k, name := range j.names {
		i := slices.Index(m.Name, name)
		if i < 0 {
			return jointState{}, fmt.Errorf("no joint %q among %q; arms.%s.trajectory_joints has the names", name, m.Name, j.arm)
		}
		if v := m.Position[i]; math.IsNaN(v) || math.IsInf(v, 0) {
			return jointState{}, fmt.Errorf("joint %q is at %v", name, v)
		}
		state.positions[k] = m.Position[i]
	}
	if len(j.names) == armJoints {
		state.positions[armJoints-1] = j.gripper.FromDriver(state.positions[armJoints-1])
	}
	return state, nil
}

// numbering tells which number the first joint's name carries: drivers of the
// Cobot Magic count from joint0 (the gripper is joint6) or from joint1 (the
// gripper is joint7 or "gripper").
func numbering(names []string) (int, error) {
	for _, name := range names {
		if name == "joint0" {
			return 0, nil
		}
	}
	for _, name := range names {
		if name == "joint1" {
			return 1, nil
		}
	}
	return 0, fmt.Errorf("joint names %q hold neither joint0 nor joint1", names)
}

// jointIndex is the place of a joint name in an arm's positions. It does not
// allocate: it runs at the drivers' rate.
func jointIndex(name string, base int) (int, bool) {
	if name == "gripper" {
		return armJoints - 1, base == 1
	}
	if len(name) != len("joint0") || name[:5] != "joint" {
		return 0, false
	}
	k := int(name[5]-'0') - base
	return k, k >= 0 && k < armJoints
}

// at returns the state whose stamp is nearest to t among those kept.
func (j *joints) at(t time.Time) (jointState, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var best jointState
	found := false
	for i := range j.kept {
		s := j.ring[(j.count-1-i)%history]
		if !found || s.stamp.Sub(t).Abs() < best.stamp.Sub(t).Abs() {
			best, found = s, true
		}
	}
	return best, found
}

// head returns the newest stamp and the standing refusal.
func (j *joints) head() (stamp time.Time, refusal error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.kept > 0 {
		stamp = j.ring[(j.count-1)%history].stamp
	}
	return stamp, j.refusals.last
}

// received is when the newest usable message came, a copy of the one before too.
func (j *joints) received() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rate.last
}

// newest returns the newest state, and false where there is none.
func (j *joints) newest() (jointState, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.kept == 0 {
		return jointState{}, false
	}
	return j.ring[(j.count-1)%history], true
}

// clear forgets what was received.
func (j *joints) clear() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kept = 0
}
