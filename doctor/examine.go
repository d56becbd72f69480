package doctor

import (
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/text"
	"github.com/ddvla/ddvla/ros"
)

// Case is what is examined. Fields without which something cannot be judged may be
// left out where said so.
type Case struct {
	// Source is the bag, or "live"; Live is set where it is a robot and not a recording.
	Source string
	Live   bool
	// Now is when listening ended, by the clock of the Listener's node, Listened how
	// long it took.
	Now      time.Time
	Listened time.Duration

	Settings node.Settings
	Manifest *bundle.Manifest
	Listener *Listener

	// Statistics and Tokenizer are the bundle's; nil where they cannot be read, which
	// the caller tells by Failures.
	Statistics *action.Statistics
	Tokenizer  *text.Tokenizer
	// Known are instructions of the training data; none where nobody knows them.
	Known []string
	// Failures are findings of what could not even be begun.
	Failures []Finding

	// Have are the bag's topics or the publishers of the graph.
	Have []bag.Topic
	// Graph is who is there, live, without this program's own node; Node is the name of
	// the policy's node, whose own publishers are no strangers.
	Graph []ros.GraphNode
	Node  string

	// Machine is what the policy would run on; nil judges none.
	Machine *Machine
}

// Examine judges a case. It waits for nothing.
func Examine(c *Case) *Report {
	l := c.Listener
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &Report{Source: c.Source, Seconds: c.Listened.Seconds(), Policy: c.Manifest.Name, Bundle: c.Settings.Policy}
	for _, f := range c.Failures {
		r.add(f.Severity, f.Code, f.About, f.Mend, "%s", f.Sentence)
	}
	c.cameras(r)
	c.joints(r)
	c.prompts(r)
	c.chunk(r)
	if c.Machine != nil {
		c.machine(r)
	}
	if c.Live {
		c.network(r)
	}
	r.finish()
	return r
}
