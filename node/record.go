package node

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// recorder writes what the node hears and says into a bag. It never makes its
// callers wait: what the disk cannot keep up with is dropped and counted, and a
// full disk ends the recording, not the control. The zero value records nothing.
type recorder struct {
	clock ros.Node
	bag   *bag.Recorder
}

// open starts a new bag in dir with the node's topics, fully qualified.
func (r *recorder) open(dir string, n *Node, log *zap.Logger) error {
	writer, err := bag.Create(dir, bag.Options{})
	if err != nil {
		return fmt.Errorf("parameter record: %w", err)
	}
	recorder, err := bag.NewRecorder(writer, bag.RecorderOptions{Failed: func(err error) {
		log.Error("recording ended; control goes on", zap.String("bag", dir), zap.Error(err))
	}})
	if err != nil {
		return fmt.Errorf("parameter record: %w", err)
	}
	for topic, typ := range n.recordedTopics() {
		recorder.AddTopic(bag.Topic{Name: topic, Type: typ})
	}
	r.clock, r.bag = n.ros, recorder
	return nil
}

// recordedTopics are the topics of a recording and their types.
func (n *Node) recordedTopics() map[string]string {
	joint := (*msgs.JointState)(nil).ROSType()
	topics := map[string]string{
		n.topics.instruction: (*msgs.String)(nil).ROSType(),
		n.topics.chunk:       (*msgs.JointTrajectory)(nil).ROSType(),
		n.topics.trace:       (*msgs.Float64MultiArray)(nil).ROSType(),
		n.topics.status:      (*msgs.DiagnosticArray)(nil).ROSType(),
		n.topics.diagnostics: (*msgs.DiagnosticArray)(nil).ROSType(),
	}
	for _, c := range n.observer.cameras {
		topics[c.topic] = c.rosType()
	}
	for a, j := range n.observer.joints {
		topics[j.topic] = joint
		topics[n.topics.targets[a]] = joint
		if n.settings.Trajectories {
			topics[n.topics.targets[a]] = (*msgs.JointTrajectory)(nil).ROSType()
		}
	}
	if n.base.pub != nil {
		topics[n.base.topic] = (*msgs.Twist)(nil).ROSType()
	}
	return topics
}

// message records CDR bytes of one of the recorded topics. What comes before there
// is a time, with simulated time, has no place in a bag.
func (r *recorder) message(topic string, raw []byte) {
	if r.bag == nil {
		return
	}
	if now := r.clock.Now(); !now.IsZero() {
		r.bag.Record(topic, now, raw)
	}
}

// counts returns how many messages were written and how many were lost.
func (r *recorder) counts() (written, dropped uint64) {
	if r.bag == nil {
		return 0, 0
	}
	return r.bag.Written(), r.bag.Dropped()
}

// close writes what waits and ends the bag.
func (r *recorder) close() error {
	if r.bag == nil {
		return nil
	}
	err := r.bag.Close()
	r.bag = nil
	return err
}
