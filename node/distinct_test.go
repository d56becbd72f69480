package node

import (
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
)

// settingsWith reads parameters as the command line does, under remapped names.
func settingsWith(t *testing.T, remap string, extra ...param.Assignment) (Settings, error) {
	t.Helper()
	options := ros.Options{Name: "ddvla"}
	if remap != "" {
		rule, err := ros.ParseRemap(remap)
		if err != nil {
			t.Fatal(err)
		}
		options.Remaps = []ros.Remap{rule}
	}
	names, err := ros.NewNames(options)
	if err != nil {
		t.Fatal(err)
	}
	set, m, err := Declare(parameters(testbundle.Dir(t), extra), names)
	if err != nil {
		t.Fatal(err)
	}
	return SettingsFrom(set.Values(), m, names)
}

func TestOneTopicForTwoThingsIsRefused(t *testing.T) {
	jtc := []param.Assignment{
		given("command.output", param.String("joint_trajectory")),
		given("arms.left.state_topic", param.String("/joint_states")), given("arms.right.state_topic", param.String("/joint_states")),
	}
	apart := append(jtc, given("arms.left.trajectory_joints", param.Strings("l1", "l2", "l3", "l4", "l5", "l6")),
		given("arms.right.trajectory_joints", param.Strings("r1", "r2", "r3", "r4", "r5", "r6")))
	for name, c := range map[string]struct {
		remap string
		given []param.Assignment
		names []string // in the error; none is taken
	}{
		"commands":                          {"", []param.Assignment{given("arms.right.command_topic", param.String(commandTopic(0)))}, []string{"arms.left.command_topic", "arms.right.command_topic", commandTopic(0)}},
		"states":                            {"", []param.Assignment{given("arms.right.state_topic", param.String(stateTopic(0)))}, []string{"arms.left.state_topic", "arms.right.state_topic", stateTopic(0)}},
		"state and command":                 {"", []param.Assignment{given("arms.right.state_topic", param.String(commandTopic(0)))}, []string{"arms.left.command_topic", "arms.right.state_topic", commandTopic(0)}},
		"cameras":                           {"", []param.Assignment{given("cameras.wrist_left.topic", param.String(headTopic))}, []string{"cameras.head.topic", "cameras.wrist_left.topic", headTopic}},
		"deadman and e-stop":                {"", []param.Assignment{given("deadman.topic", param.String("/ddvla/estop"))}, []string{"deadman.topic", "~/estop", "/ddvla/estop"}},
		"remapped":                          {commandTopic(1) + ":=" + commandTopic(0), nil, []string{"arms.left.command_topic", "arms.right.command_topic", commandTopic(0)}},
		"remapped apart":                    {"/both:=/other", []param.Assignment{given("arms.left.state_topic", param.String("/both")), given("arms.right.state_topic", param.String("/joint"))}, nil},
		"no drivers' status":                {"", []param.Assignment{given("arms.left.status_topic", param.String("")), given("arms.right.status_topic", param.String(""))}, nil},
		"trajectories":                      {"~/left/joint_trajectory:=/ddvla/right/joint_trajectory", jtc[:1], []string{"~/left/joint_trajectory", "~/right/joint_trajectory"}},
		"a chunk that nothing has filtered": {"~/action_chunk:=~/left/joint_trajectory", jtc[:1], []string{"~/action_chunk", "~/left/joint_trajectory"}},
		"the arms' names":                   {"", apart, nil},
		"names of both":                     {"", jtc, []string{"arms.left.state_topic", "arms.right.state_topic", "/joint_states", "trajectory_joints"}},
		"names, but no names":               {"", apart[1:], []string{"arms.left.state_topic", "arms.right.state_topic"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := settingsWith(t, c.remap, c.given...)
			if c.names == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("taken")
			}
			if missing, ok := contains(err.Error(), c.names...); !ok {
				t.Errorf("%v\ndoes not name %s", err, missing)
			}
		})
	}
}

// On a topic of both arms a message of one arm's plain names tells nobody whose it is.
func TestStatesOfBothArmsOnOneTopicGoByName(t *testing.T) {
	r := newRig(t, given("command.output", param.String("joint_trajectory")),
		given("arms.left.state_topic", param.String("/joint_states")), given("arms.right.state_topic", param.String("/joint_states")),
		given("arms.left.trajectory_joints", param.Strings("l1", "l2", "l3", "l4", "l5", "l6")),
		given("arms.right.trajectory_joints", param.Strings("r1", "r2", "r3", "r4", "r5", "r6")))
	r.feed("/joint_states", &msgs.JointState{Header: msgs.Header{Stamp: msgs.TimeOf(r.now)}, Name: numbered(0, armJoints), Position: make([]float64, armJoints)})
	for a, j := range r.node.observer.joints {
		if _, taken := j.newest(); taken {
			t.Errorf("the %s arm took a message that does not say whose it is", arms[a])
		}
	}
	m := &msgs.JointState{Header: msgs.Header{Stamp: msgs.TimeOf(r.now)}, Name: strings.Fields("r1 r2 r3 r4 r5 r6 l1 l2 l3 l4 l5 l6"), Position: make([]float64, 12)}
	m.Position[0], m.Position[6] = 0.2, 0.1
	r.feed("/joint_states", m)
	for a, j := range r.node.observer.joints {
		if state, _ := j.newest(); state.positions[0] != []float64{0.1, 0.2}[a] {
			t.Errorf("the %s arm is at %v", arms[a], state.positions)
		}
	}
}
