package main

import (
	"flag"
	"math"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
)

var (
	faultTimes = flag.Int("faults.times", 0, "how often TestFaultsOnRealProcesses does each (default 20; 2 with the race detector, or -short)")
	faultSeed  = flag.Uint64("faults.seed", 0, "its seed (default: from the time)")
)

// TestFaultsOnRealProcesses stops node processes with SIGSTOP for 2 s, kills them with SIGKILL and starts them
// again, makes their clock jump and stand, and lets cameras, joint states and inferences fall silent, while a robot
// with dynamics of its own follows and records every command. What was recorded is then held against the promises.
func TestFaultsOnRealProcesses(t *testing.T) {
	times, seed := *faultTimes, *faultSeed
	if times == 0 {
		if times = 20; raced || testing.Short() {
			times = 2
		}
	}
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e6
	}
	t.Logf("seed %d, %d times each; again with -args -faults.seed %[1]d -faults.times %[2]d", seed, times)
	bundle := testbundle.Dir(t)
	for i, s := range []struct {
		name      string
		simulated bool
		do        func(s *faultScenario)
	}{
		{"stopped for 2 s and continued", false, (*faultScenario).stopped},
		{"killed and started again", false, (*faultScenario).killed},
		{"the clock jumps and stands", true, (*faultScenario).jumps},
		{"cameras, joints and inference fall silent", false, (*faultScenario).silence},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			s.do(&faultScenario{faultRobot: newFaultRobot(t, seed+uint64(i), s.simulated), bundle: bundle, times: times})
		})
	}
}

// faultScenario is one kind of fault, done to one robot's node.
type faultScenario struct {
	*faultRobot
	bundle string
	times  int
}

// node starts one.
func (s *faultScenario) node(args ...string) *process {
	s.Helper()
	args = append(args, "-p", "policy:="+s.bundle, "-p", "decode.rounds:=1", "-p", "runtime.threads:=1", "-p", "instruction:=reach the red cube")
	return s.begin(args...)
}

// dice sets whether the policy throws dice, which asks more of the limits than a good one.
// Much hotter, it would draw tokens of probability 0, for which the node stops the arms.
func (s *faultScenario) dice(yes bool) {
	s.Helper()
	value := msgs.ParameterValue{Type: msgs.ParameterDoubleArray}
	if yes {
		value.DoubleArrayValue = []float64{3}
	}
	s.parameters(msgs.Parameter{Name: "decode.token_temperature", Value: value})
}

// chance is true with probability p.
func (s *faultScenario) chance(p float64) bool { return s.random.Float64() < p }

func (s *faultScenario) stopped() {
	p := s.node()
	s.up(p)
	for range s.times {
		s.dice(s.chance(0.5))
		s.driven()
		s.pass(s.random.IntN(60))
		s.stop(p)
		<-time.After(2 * time.Second) // this is the fault
		s.resume(p)
		if s.chance(0.5) {
			s.enable()
		}
	}
	s.driven()
	v := s.judged()
	if v.pauses < s.times || v.outages != s.times || v.halfway < s.times/4 {
		s.Errorf("only %d pauses and %d outages, %d of moving arms, were seen of %d", v.pauses, v.outages, v.halfway, s.times)
	}
}

func (s *faultScenario) killed() {
	for i := range s.times {
		p := s.node()
		s.up(p)
		s.pass(50) // in which nothing may come
		s.driven()
		if i%2 == 1 {
			s.dice(true)
		}
		s.pass(s.random.IntN(200))
		s.kill(p)
		if s.chance(0.5) {
			s.pass(s.random.IntN(100))
		}
	}
	v := s.judged()
	if v.starts < s.times || v.outages != s.times-1 || v.halfway < s.times/4 {
		s.Errorf("only %d starts and %d outages, %d of moving arms, were seen of %d", v.starts, v.outages, v.halfway, s.times)
	}
}

func (s *faultScenario) jumps() {
	s.set(func() { s.stands = true })
	p := s.node("-p", "use_sim_time:=true")
	s.up(p)
	if s.enable() {
		s.Error("enabled before there was a time")
	}
	s.set(func() { s.stands = false })
	far := func() time.Duration { // 0.1 s to 1 h, all magnitudes
		return time.Duration(1e8 * math.Pow(36000, s.random.Float64()))
	}
	for i := range 3 * s.times {
		s.dice(s.chance(0.5))
		s.driven()
		s.pass(s.random.IntN(30))
		switch i % 3 {
		case 0:
			s.jump(-far())
		case 1:
			s.jump(far())
		case 2:
			s.set(func() { s.stands = true })
			s.pass(20 + s.random.IntN(100))
			if s.chance(0.3) {
				s.jump(-far())
			}
			s.set(func() { s.stands = false })
		}
	}
	s.driven()
	v := s.judged()
	if v.back < s.times/2 || v.pauses < s.times/2 {
		s.Errorf("the clock was seen to go back %d times and ahead %d times, of %d", v.back, v.pauses, s.times)
	}
}

func (s *faultScenario) silence() {
	p := s.node()
	s.up(p)
	for i := range s.times {
		s.dice(s.chance(0.5))
		s.driven()
		s.pass(s.random.IntN(60))
		switch i % 3 {
		case 0:
			which := s.random.IntN(4)
			s.set(func() {
				for c := range s.blind {
					s.blind[c] = which == c || which == 3
				}
			})
		case 1:
			which := s.random.IntN(3)
			s.set(func() { s.numb = [2]bool{which != 0, which != 1} })
		case 2:
			s.hung(p)
			continue
		}
		s.held()
		s.pass(20)
		s.set(func() { s.blind, s.numb = [3]bool{}, [2]bool{} })
	}
	s.driven()
	v := s.judged()
	if v.silent < s.times {
		s.Errorf("only %d commands were without a reason to move", v.silent)
	}
}
