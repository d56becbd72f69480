package sim

import (
	"strings"
	"time"
)

// Marks on Config.EpisodeTopic, as `ddvla dataset` reads them.
const (
	MarkStart   = "start"
	MarkSuccess = "success"
	MarkFailure = "failure"
)

// shownFirst is how many sets of pictures of a new scene are sent before its episode
// starts: when the second has been, the first, which is large, has been a camera's
// period on its way, so that a recording has no picture of the scene before in it.
const shownFirst = 2

// patience is how long a demonstration waits for a recorder before it says so.
const patience = 10 * time.Second

// demonstration is how far the episode of a Process that demonstrates is.
type demonstration struct {
	heard   bool          // somebody records, or nobody is waited for
	waited  time.Duration // for that
	episode *Episode      // that is being shown
	shown   int           // sets of pictures of it
	started bool          // its start was marked
}

// open tells whether the episode waits to be started. p.mu is held.
func (p *Process) open(dt time.Duration) (waiting bool) {
	defer func() { p.trials.silent = waiting }()
	d := &p.demo
	if !d.heard {
		if unheard := p.unheard(); p.conf.WaitForCommand && len(unheard) > 0 {
			if d.waited < patience && d.waited+dt >= patience {
				p.log.Warn("the demonstration waits for a recorder; nobody listens to " + strings.Join(unheard, ", "))
			}
			d.waited += dt
			return true
		}
		d.heard = true
	}
	if d.episode != p.trials.episode {
		d.episode, d.shown, d.started = p.trials.episode, 0, false
	}
	switch {
	case d.started:
		return false
	case d.shown < shownFirst:
		return true
	}
	d.started = true
	p.trials.spoken = repeat // the instruction goes with the mark of the start
	return false
}

// showed counts a set of pictures of an episode.
func (p *Process) showed(e *Episode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.demo.episode == e {
		p.demo.shown++
	}
}

// unheard lists the topics of a demonstration that nobody listens to.
func (p *Process) unheard() (topics []string) {
	look := func(topic string, matched int) {
		if matched == 0 {
			topics = append(topics, topic)
		}
	}
	for i, topic := range p.conf.CameraTopics {
		if p.conf.Compressed {
			look(topic+"/compressed", p.jpeg[i].MatchedSubscriptions())
		} else {
			look(topic, p.raw[i].MatchedSubscriptions())
		}
	}
	for s := range p.states {
		look(p.conf.StateTopics[s], p.states[s].MatchedSubscriptions())
		look(p.conf.CommandTopics[s], p.masters[s].MatchedSubscriptions())
	}
	look(p.conf.InstructionTopic, p.instruction.MatchedSubscriptions())
	look(p.conf.EpisodeTopic, p.marks.MatchedSubscriptions())
	return topics
}

// demonstrate commands what the expert says, once a row.
func (p *Process) demonstrate(dt time.Duration) {
	if !p.conf.Demonstrate {
		return
	}
	if p.acted += dt; p.acted < RowTime && p.commands > 0 {
		return
	}
	p.acted = 0
	p.commands += 2 // arms
	p.world.Command(p.trials.expert.Act(p.world))
}
