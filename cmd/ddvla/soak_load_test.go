package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/cyclone"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

// soakLoadCommand makes the test binary the robot of a soak: a process that publishes at the rates of a Cobot
// Magic and does nothing else, so that the load is what it should be on a small machine too. The arms are where
// they were commanded to be.
const soakLoadCommand = "soak-load"

// Rates of a Cobot Magic in Hz, and those that the load publishes at while its counts are looked at.
const (
	soakCameraRate = 30
	soakJointRate  = 200
	soakCalmRate   = 5
)

// load publishes on a number of topics and counts.
type load struct {
	node   ros.Node
	topics []*loadTopic

	mu    sync.Mutex
	poses [2][]float64
}

// loadTopic is what one topic is sent.
type loadTopic struct {
	name string
	rate float64
	send func() error

	mu   sync.Mutex // held while sending
	pace float64    // Hz; 0 is silence
	sent uint64
	from time.Time // the pace holds since
	done uint64    // of it
}

// soakLoad publishes as the lines of in say and answers each with a line of what was sent on each topic: "calm"
// a little, "full" at the robot's rates, "rest" nothing, "count" goes on as before. It ends with in.
func soakLoad(in io.Reader, out io.Writer) (err error) {
	var o ros.Options
	if err := o.FromEnvironment(os.LookupEnv); err != nil {
		return err
	}
	o.Name = "soak_load"
	l := &load{}
	if l.node, err = cyclone.NewNode(context.Background(), o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.node.Close()) }()
	if err := errors.Join(l.cameras(), l.joints()); err != nil {
		return err
	}
	ended := make(chan struct{})
	failed := make(chan error, len(l.topics))
	var senders sync.WaitGroup
	for _, t := range l.topics {
		senders.Go(func() { failed <- t.run(ended) })
	}
	defer func() {
		close(ended)
		senders.Wait()
		for range l.topics {
			err = errors.Join(err, <-failed)
		}
	}()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		sent := make(map[string]uint64)
		for _, t := range l.topics {
			switch lines.Text() {
			case "calm":
				sent[t.name] = t.keep(soakCalmRate)
			case "full":
				sent[t.name] = t.keep(t.rate)
			case "rest":
				sent[t.name] = t.keep(0)
			default:
				sent[t.name] = t.count()
			}
		}
		if err := json.NewEncoder(out).Encode(sent); err != nil {
			return err
		}
	}
	return nil
}

// cameras are three, each with a rendered picture that stays the same but for its stamp.
func (l *load) cameras() error {
	robot, err := urdf.CobotMagic()
	if err != nil {
		return err
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		return err
	}
	painter := sim.NewRenderer(arms, sim.PictureWidth, sim.PictureHeight)
	home := sim.Home()
	for c, topic := range sim.DefaultConfig().CameraTopics {
		m := &msgs.Image{
			Header: msgs.Header{FrameID: sim.CameraID(c).String()}, Width: sim.PictureWidth, Height: sim.PictureHeight,
			Encoding: "rgb8", Step: 3 * sim.PictureWidth, Data: make([]byte, painter.Size()),
		}
		if err := painter.Render(&home, sim.SceneOf(1), sim.CameraID(c), m.Data); err != nil {
			return err
		}
		p, err := ros.Advertise[msgs.Image](l.node, topic, ros.SensorDataQoS())
		if err != nil {
			return err
		}
		l.add(topic, soakCameraRate, func() error {
			m.Header.Stamp = msgs.TimeOf(l.node.Now())
			return p.Publish(m)
		})
	}
	return nil
}

// joints are those of two arms that obey at once.
func (l *load) joints() error {
	home := sim.Home()
	for arm, topic := range stateTopics {
		l.poses[arm] = append([]float64(nil), home[7*arm:7*arm+7]...)
		if _, err := ros.Subscribe(l.node, commandTopics[arm], ros.DefaultQoS(), func(m *msgs.JointState, _ time.Time) {
			l.mu.Lock()
			defer l.mu.Unlock()
			copy(l.poses[arm], m.Position)
		}); err != nil {
			return err
		}
		m := &msgs.JointState{Velocity: make([]float64, 7), Effort: make([]float64, 7)}
		for j := range 7 {
			m.Name = append(m.Name, fmt.Sprintf("joint%d", j))
		}
		p, err := ros.Advertise[msgs.JointState](l.node, topic, ros.DefaultQoS())
		if err != nil {
			return err
		}
		l.add(topic, soakJointRate, func() error {
			m.Header.Stamp = msgs.TimeOf(l.node.Now())
			l.mu.Lock()
			m.Position = append(m.Position[:0], l.poses[arm]...)
			l.mu.Unlock()
			return p.Publish(m)
		})
	}
	return nil
}

func (l *load) add(topic string, rate float64, send func() error) {
	l.topics = append(l.topics, &loadTopic{name: topic, rate: rate, send: send})
}

// keep changes the pace and returns what was sent before.
func (t *loadTopic) keep(pace float64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pace, t.from, t.done = pace, time.Now(), 0
	return t.sent
}

func (t *loadTopic) count() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent
}

// run sends what is due, also what was late, until ended is closed.
func (t *loadTopic) run(ended <-chan struct{}) error {
	ticker := time.NewTicker(time.Duration(float64(time.Second) / t.rate))
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return nil
		case now := <-ticker.C:
			if err := t.due(now); err != nil {
				return fmt.Errorf("topic %s: %w", t.name, err)
			}
		}
	}
}

func (t *loadTopic) due(now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; t.done < uint64(max(0, now.Sub(t.from).Seconds()*t.pace)); t.done++ {
		if err := t.send(); err != nil {
			return err
		}
		t.sent++
	}
	return nil
}
