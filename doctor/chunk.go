package doctor

import (
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/bundle"
)

// ChunkReport is what the policy gives, beside what the robot takes.
type ChunkReport struct {
	Rows        int      `json:"rows"`
	ActionRate  float64  `json:"action_rate"` // Hz
	Seconds     float64  `json:"seconds"`     // that a chunk lasts
	Columns     []string `json:"columns"`
	Proprio     []string `json:"proprio"`
	Rate        float64  `json:"rate"`         // chunks per second at most
	CommandRate float64  `json:"command_rate"` // Hz
}

// chunk holds the bundle against the robot.
func (c *Case) chunk(r *Report) {
	m, s := c.Manifest, &c.Settings
	k := ChunkReport{Rows: m.Action.Chunk, ActionRate: m.Action.Rate, Seconds: float64(m.Action.Chunk) / m.Action.Rate,
		Proprio: []string{}, Rate: s.Live.Rate, CommandRate: s.CommandRate}
	driven := map[string]bool{}
	for _, d := range m.Action.Dims {
		k.Columns = append(k.Columns, d.Name)
		driven[d.Arm] = true
	}
	if m.Proprio != nil {
		for _, d := range m.Proprio.Dims {
			k.Proprio = append(k.Proprio, d.Name)
		}
	}
	r.Chunk = k
	if err := node.CheckBundle(c.Settings, m); err != nil {
		r.add(Error, "bundle-robot", "bundle", "export again with the right --action-dims and --proprio-dims, or use a checkpoint of this robot",
			"the node refuses the bundle: %v", err)
	}
	if driven["base"] && s.Base == "" {
		r.add(Error, "bundle-base", "bundle", "set base.topic, such as /cmd_vel", "the policy drives a mobile base, and base.topic is not set")
	}
	for _, side := range sides {
		if !driven[side] {
			r.add(Note, "bundle-arm", side, "nothing, if the data set moved one arm only", "the policy has no columns of the %s arm, which holds still", side)
		}
	}
	if k.Seconds < 1/k.Rate {
		r.add(Warning, "chunk-short", "rate", "raise rate, or use a policy with longer chunks",
			"a chunk lasts %s and the next one begins %s later: the arms halt in between", duration(k.Seconds), duration(1/k.Rate))
	}
	if m.Proprio == nil && m.Model.Head == bundle.TokensHead {
		r.add(Note, "bundle-blind", "bundle", "nothing, if it was trained so", "the policy is not told the joint states")
	}
}
