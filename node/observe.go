package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
)

// arms are the order in which states and commands of the two arms are kept.
var arms = [2]string{"left", "right"}

// observer keeps the newest message of every input. Callbacks store, snapshot
// reads.
type observer struct {
	cameras []*camera // in model order
	joints  [2]*joints
	proprio []proprioSource

	mu          sync.Mutex
	instruction string
}

// proprioSource says where one entry of the model's robot state comes from.
type proprioSource struct{ arm, joint int }

// proprioSources finds the manifest's proprio dimensions among the arms' joints,
// by the names this node gives them: left_joint1..left_joint6, left_gripper,
// right_...
func proprioSources(m *bundle.Manifest) ([]proprioSource, error) {
	if m.Proprio == nil {
		return nil, nil
	}
	var sources []proprioSource
	for _, d := range m.Proprio.Dims {
		arm, joint, ok := findJoint(d.Name)
		if !ok {
			return nil, fmt.Errorf("the bundle's proprio dimension %q is none of this robot's: left_joint1..left_joint6, left_gripper, right_joint1..right_joint6, right_gripper", d.Name)
		}
		unit := "rad"
		if joint == armJoints-1 {
			unit = "m"
		}
		if d.Unit != unit {
			return nil, fmt.Errorf("the bundle's proprio dimension %q is in %q; this robot tells it in %q", d.Name, d.Unit, unit)
		}
		sources = append(sources, proprioSource{arm, joint})
	}
	return sources, nil
}

// findJoint returns the place of a name such as "left_joint3" or "right_gripper".
func findJoint(name string) (arm, joint int, ok bool) {
	for a, side := range arms {
		for j := range armJoints {
			if name == jointName(side, j) {
				return a, j, true
			}
		}
	}
	return 0, 0, false
}

// jointName is the bundle's name of an arm's joint.
func jointName(side string, joint int) string {
	if joint == armJoints-1 {
		return side + "_gripper"
	}
	return fmt.Sprintf("%s_joint%d", side, joint+1)
}

// listen makes the keepers of the cameras' and the arms' topics, which it resolves;
// nothing is subscribed yet.
func (o *observer) listen(rn ros.Node, s Settings, m *bundle.Manifest) error {
	for _, c := range m.Cameras {
		topic := s.Cameras[c.Name]
		if topic == "" {
			return fmt.Errorf("camera %q of the bundle has no topic; set cameras.%s.topic", c.Name, c.Name)
		}
		topic, err := rn.Resolve(topic)
		if err != nil {
			return fmt.Errorf("cameras.%s.topic: %w", c.Name, err)
		}
		o.cameras = append(o.cameras, newCamera(c.Name, topic))
	}
	for a, topic := range s.States {
		topic, err := rn.Resolve(topic)
		if err != nil {
			return fmt.Errorf("arms.%s.state_topic: %w", arms[a], err)
		}
		o.joints[a] = &joints{arm: arms[a], topic: topic, gripper: s.Gripper}
		if s.Trajectories {
			o.joints[a].names = s.TrajectoryJoints[a]
		}
	}
	shared := o.joints[0].topic == o.joints[1].topic
	o.joints[0].shared, o.joints[1].shared = shared, shared
	return nil
}

// setInstruction replaces the instruction. An empty one stands for none.
func (o *observer) setInstruction(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.instruction = text
}

// current returns the instruction.
func (o *observer) current() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.instruction
}

// reset forgets every message, after a jump of the clock. The instruction stays.
func (o *observer) reset() {
	for _, c := range o.cameras {
		c.clear()
	}
	for _, j := range o.joints {
		j.clear()
	}
}

// snapshot is one observation: copies of the newest messages that belong
// together. Its memory is reused by the next one.
type snapshot struct {
	policy.Observation
	raw      [][]byte // CDR of the pictures
	stamps   []time.Time
	messages []imageMessage
	states   [2]jointState
}

// notReady says why there is no snapshot.
type notReady struct {
	fault  string // stays the same from one snapshot to the next, as ages do not
	reason string // as the operator should read it
}

func (e notReady) Error() string { return e.reason }

// noTime is the reason where the clock has not begun.
const noTime = "no time yet: use_sim_time is set and nothing has come on /clock"

// snapshot copies the newest messages into s. The pictures decide the moment:
// the observation's stamp is the oldest picture's, and the joint states are the
// ones nearest to it, so that the model is shown a pose and pictures of the same
// time. Its parts are no older than maxAge and no further apart than maxSkew;
// otherwise the error says which one is at fault.
func (o *observer) snapshot(s *snapshot, now time.Time, maxAge, maxSkew time.Duration) error {
	if now.IsZero() {
		return notReady{noTime, noTime}
	}
	if s.Instruction = o.current(); s.Instruction == "" {
		return notReady{"no instruction", "no instruction"}
	}
	s.init(o)
	for i, c := range o.cameras {
		if err := fresh(c, now, maxAge); err != nil {
			return err
		}
		s.raw[i], s.stamps[i] = c.copyTo(s.raw[i])
		if i == 0 || s.stamps[i].Before(s.Stamp) {
			s.Stamp = s.stamps[i]
		}
	}
	for a, j := range o.joints {
		if err := fresh(j, now, maxAge); err != nil {
			return err
		}
		s.states[a], _ = j.at(s.Stamp)
	}
	return o.complete(s, maxSkew)
}

// init makes room for what the observer's inputs give.
func (s *snapshot) init(o *observer) {
	if s.raw != nil {
		return
	}
	s.raw = make([][]byte, len(o.cameras))
	s.stamps = make([]time.Time, len(o.cameras))
	s.messages = make([]imageMessage, len(o.cameras))
	s.Images = make([]policy.Image, len(o.cameras))
	s.Proprio = make([]float64, len(o.proprio))
}

// complete makes an observation of the messages that were chosen: the instruction, the
// pictures with their stamps, the oldest of which is the observation's, and the states.
// Where something is missing or further apart than maxSkew, the error says which one is
// at fault.
func (o *observer) complete(s *snapshot, maxSkew time.Duration) error {
	if s.Instruction == "" {
		return notReady{"no instruction", "no instruction"}
	}
	for i, c := range o.cameras {
		if _, err := c.decode(s.raw[i], &s.messages[i]); err != nil {
			return notReady{c.name, fmt.Sprintf("camera %q (topic %s): %v", c.name, c.topic, err)}
		}
		if skew := s.stamps[i].Sub(s.Stamp); skew > maxSkew {
			return notReady{c.name + " ahead", fmt.Sprintf("camera %q is %v ahead of the oldest picture, more than max_skew %v", c.name, skew.Round(time.Millisecond), maxSkew)}
		}
		if c.compressed {
			s.Images[i] = policy.Image{Compressed: s.messages[i].compressed.Data}
		} else {
			s.Images[i] = policy.Image{Raw: pixels(&s.messages[i].image)}
		}
	}
	for a, j := range o.joints {
		if skew := s.states[a].stamp.Sub(s.Stamp).Abs(); skew > maxSkew {
			return notReady{j.arm + " skew", fmt.Sprintf("arm %q has no joint state within max_skew %v of the pictures, the nearest is %v away", j.arm, maxSkew, skew.Round(time.Millisecond))}
		}
	}
	for i, p := range o.proprio {
		s.Proprio[i] = s.states[p.arm].positions[p.joint]
	}
	return nil
}

// input is a camera or an arm.
type input interface {
	what() string
	head() (stamp time.Time, refusal error)
	received() time.Time // when the newest usable message came, by the node's clock
}

// fresh checks one input's newest stamp.
func fresh(in input, now time.Time, maxAge time.Duration) error {
	what := in.what()
	stamp, refusal := in.head()
	switch age := now.Sub(stamp); {
	case (stamp.IsZero() || age > maxAge) && refusal != nil:
		return notReady{what + " refused", refusal.Error()}
	case stamp.IsZero():
		return notReady{what + " missing", what + ": nothing received yet; is its driver running and the topic's name right?"}
	case late(in, now, maxAge) != "":
		return notReady{what + " late", what + ": " + late(in, now, maxAge)}
	case age > maxAge:
		return notReady{what + " silent", fmt.Sprintf("%s: silent for %v, more than max_age %v", what, age.Round(time.Millisecond), maxAge)}
	case age < -maxAge:
		return notReady{what + " ahead", fmt.Sprintf("%s: stamped %v in the future; the clocks of the machines differ", what, (-age).Round(time.Millisecond))}
	}
	return nil
}

// late says that an input's messages come, stamped longer ago than maxAge, or nothing:
// such an input is not silent, and its driver runs.
func late(in input, now time.Time, maxAge time.Duration) string {
	stamp, _ := in.head()
	age := now.Sub(stamp)
	if stamp.IsZero() || age <= maxAge || now.Sub(in.received()).Abs() > maxAge {
		return ""
	}
	return fmt.Sprintf("stamped %.2f s in the past; the clocks of the machines differ, or it buffers", age.Seconds())
}

// oldest returns the oldest of the newest stamps of all inputs, or false while
// one has sent nothing.
func (o *observer) oldest() (time.Time, bool) {
	stamp, _ := o.stalest()
	return stamp, !stamp.IsZero()
}

// stalest returns the oldest of the newest stamps of all inputs, and whose it
// is; the stamp is zero where that input has sent nothing.
func (o *observer) stalest() (oldest time.Time, whose input) {
	for i, c := range o.cameras {
		if stamp, _ := c.head(); i == 0 || stamp.Before(oldest) {
			oldest, whose = stamp, c
		}
	}
	for _, j := range o.joints {
		if stamp, _ := j.head(); stamp.Before(oldest) {
			oldest, whose = stamp, j
		}
	}
	return oldest, whose
}

// sequences writes the number of usable pictures of each camera so far.
func (o *observer) sequences(dst []uint64) {
	for i, c := range o.cameras {
		c.mu.Lock()
		dst[i] = c.sequence
		c.mu.Unlock()
	}
}

// completeSince reports whether every camera has sent a picture since seen.
func (o *observer) completeSince(seen []uint64) bool {
	for i, c := range o.cameras {
		c.mu.Lock()
		fresh := c.sequence > seen[i]
		c.mu.Unlock()
		if !fresh {
			return false
		}
	}
	return true
}
