package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/ros"
)

// TopicReport is who is at a topic.
type TopicReport struct {
	Topic       string   `json:"topic"`
	Publishers  []string `json:"publishers"` // nodes, with type and QoS
	Subscribers []string `json:"subscribers"`
	Matched     int      `json:"matched,omitempty"` // publishers that reach this program
	Mismatch    string   `json:"mismatch,omitempty"`
	Lost        uint64   `json:"lost,omitempty"`
	Malformed   uint64   `json:"malformed,omitempty"`
}

// network judges who publishes what, and whether it arrives.
func (c *Case) network(r *Report) {
	l := c.Listener
	for _, e := range l.cameras {
		c.input(r, e.camera.Name, "cameras."+e.camera.Name+".topic", e.topic, e.rosType(), &e.peers, e.timing.count)
	}
	for a, side := range sides {
		c.input(r, side, "arms."+side+".state_topic", l.states[a].topic, "sensor_msgs/msg/JointState", &l.states[a].peers, l.states[a].timing.count)
	}
	if !c.Settings.Trajectories {
		for a, side := range sides {
			c.output(r, side, l.commands[a].topic)
		}
	}
	c.input(r, "instruction", "the instruction's topic", l.topics.Instruction, "std_msgs/msg/String", nil, 0)
}

// at finds the ends of a topic, as text and by node.
func (c *Case) at(topic string) (t TopicReport, publishers, subscribers map[string]ros.Endpoint) {
	t = TopicReport{Topic: topic, Publishers: []string{}, Subscribers: []string{}}
	publishers, subscribers = map[string]ros.Endpoint{}, map[string]ros.Endpoint{}
	for _, g := range c.Graph {
		for _, e := range g.Publishes {
			if e.Name == topic {
				publishers[g.Name] = e
				t.Publishers = append(t.Publishers, fmt.Sprintf("%s (%s, %v, %v)", g.Name, e.Type, e.QoS.Reliability, e.QoS.Durability))
			}
		}
		for _, e := range g.Subscribes {
			if e.Name == topic {
				subscribers[g.Name] = e
				t.Subscribers = append(t.Subscribers, fmt.Sprintf("%s (%s, %v, %v)", g.Name, e.Type, e.QoS.Reliability, e.QoS.Durability))
			}
		}
	}
	return t, publishers, subscribers
}

// input judges a topic that the node listens to.
func (c *Case) input(r *Report, about, parameter, topic, typ string, heard *peers, received int) {
	if topic == "" {
		return
	}
	t, publishers, _ := c.at(topic)
	var nodes []string
	for name, e := range publishers {
		nodes = append(nodes, name)
		if e.Type != typ {
			r.add(Error, "topic-type", topic, "choose the topic of that type ("+parameter+"); names of compressed pictures' topics end in /compressed",
				"%s publishes %s on %s, the node expects %s there", name, e.Type, topic, typ)
		}
	}
	slices.Sort(nodes)
	if len(nodes) > 1 && about != "instruction" {
		r.add(Error, "topic-twice", topic, "end all but one, or give each a topic of its own", "%s publish on %s: their messages mix", list(nodes), topic)
	}
	if heard != nil {
		t.Matched, t.Lost, t.Malformed = heard.matched, heard.lost, heard.malformed
		if m := heard.mismatch; m.Count > 0 {
			t.Mismatch = m.String()
			r.add(Error, "qos", topic, fmt.Sprintf("change the driver's QoS, or the node's: -p 'qos_overrides.%s.subscription.%s:=...'", topic, strings.ToLower(m.Policy)),
				"%s: %v", topic, m)
		}
		// One or two at the start, before the buffers are there, say nothing.
		if t.Lost*100 > uint64(received) {
			r.add(Warning, "topic-lost", topic, "raise net.core.rmem_max (16777216), use .../compressed, or a cable",
				"%s of %s got lost on the network, %d came", count(int(t.Lost), "message"), topic, received)
		}
		if t.Malformed > 0 {
			r.add(Warning, "topic-malformed", topic, "look for another version of the message type", "%s of %s cannot be read", count(int(t.Malformed), "message"), topic)
		}
	}
	r.Topics = append(r.Topics, t)
}

// output judges a topic that the node sends commands on.
func (c *Case) output(r *Report, side, topic string) {
	if topic == "" {
		return
	}
	const typ = "sensor_msgs/msg/JointState"
	t, publishers, subscribers := c.at(topic)
	offered := ros.DefaultQoS()
	if chosen, ok := c.Settings.QoS[topic+".publisher"]; ok {
		offered = chosen
	}
	for name, e := range publishers {
		if name != c.Node {
			r.add(Error, "command-stranger", topic, "end it, or unplug the leader arms: the arm would be pulled between two hands",
				"%s publishes on %s too, where the node sends the %s arm's commands (%s)", name, topic, side, e.Type)
		}
	}
	listening := 0
	for name, e := range subscribers {
		switch {
		case e.Type != typ:
			r.add(Error, "topic-type", topic, "choose another arms."+side+".command_topic, or set command.output",
				"%s expects %s on %s, the node sends %s there", name, e.Type, topic, typ)
		case ros.Incompatible(offered, e.QoS) != "":
			m := ros.Mismatch{Count: 1, Policy: ros.Incompatible(offered, e.QoS), Peer: name, Offered: offered, Requested: e.QoS}
			r.add(Error, "qos", topic, fmt.Sprintf("-p 'qos_overrides.%s.publisher.%s:=...', as %s asks, or change that", topic, m.Policy, name),
				"%s would get no commands on %s: %v", name, topic, m)
		default:
			listening++
		}
	}
	if listening == 0 && len(subscribers) == 0 {
		r.add(Warning, "command-unheard", topic, "start the "+side+" arm's driver, or set arms."+side+".command_topic",
			"nobody listens on %s, where the node sends the %s arm's commands", topic, side)
	}
	r.Topics = append(r.Topics, t)
}
