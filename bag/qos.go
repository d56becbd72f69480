package bag

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// qosProfile is one entry of offered_qos_profiles with the keys that ROS 2 Humble
// reads; it refuses a bag that lacks one of them. Zeros are the system's defaults.
type qosProfile struct {
	History     policy[history]     `yaml:"history"`
	Depth       int64               `yaml:"depth"`
	Reliability policy[reliability] `yaml:"reliability"`
	Durability  policy[durability]  `yaml:"durability"`
	Deadline    qosDuration         `yaml:"deadline"`
	Lifespan    qosDuration         `yaml:"lifespan"`
	Liveliness  policy[liveliness]  `yaml:"liveliness"`
	Lease       qosDuration         `yaml:"liveliness_lease_duration"`
	AvoidROS    bool                `yaml:"avoid_ros_namespace_conventions"`
}

type qosDuration struct {
	Sec  uint64 `yaml:"sec"`
	Nsec uint64 `yaml:"nsec"`
}

// policy is a number of rmw/types.h up to metadata version 8, and its name from
// version 9 on; here it is the number.
type policy[names policyNames] int

// policyNames are those of rmw/qos_string_conversions.h by number, empty where
// there is none.
type policyNames interface{ names() []string }

type (
	history     struct{}
	reliability struct{}
	durability  struct{}
	liveliness  struct{}
)

func (history) names() []string {
	return []string{"system_default", "keep_last", "keep_all", "unknown"}
}
func (reliability) names() []string {
	return []string{"system_default", "reliable", "best_effort", "unknown"}
}
func (durability) names() []string {
	return []string{"system_default", "transient_local", "volatile", "unknown"}
}
func (liveliness) names() []string {
	return []string{"system_default", "automatic", "", "manual_by_topic", "unknown"}
}

func (p *policy[N]) UnmarshalYAML(node *yaml.Node) error {
	var names N
	if err := node.Decode((*int)(p)); err == nil {
		if *p < 0 || int(*p) >= len(names.names()) {
			return fmt.Errorf("line %d: policy %d is none of 0 to %d", node.Line, *p, len(names.names())-1)
		}
		return nil
	}
	i := slices.Index(names.names(), node.Value)
	if i < 0 || node.Value == "" {
		return fmt.Errorf("line %d: policy %q is none of %q", node.Line, node.Value, names.names())
	}
	*p = policy[N](i)
	return nil
}

// humbleQoS writes offered_qos_profiles of any version as ROS 2 Humble reads it.
func humbleQoS(text string) (string, error) {
	var profiles []qosProfile
	if err := yaml.Unmarshal([]byte(text), &profiles); err != nil {
		return "", fmt.Errorf("QoS is no list of profiles as in offered_qos_profiles: %w", err)
	}
	if len(profiles) == 0 {
		return "", nil
	}
	out, err := yaml.Marshal(profiles)
	return string(out), err
}
