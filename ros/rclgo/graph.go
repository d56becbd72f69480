//go:build rclgo

package rclgo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiiuae/rclgo/pkg/rclgo"

	"github.com/ddvla/ddvla/ros"
)

// demangled asks rcl for names as ROS has them, without the prefixes that they have in DDS.
const demangled = true

// listPeers lists one side of a topic: its publishers or its subscriptions.
type listPeers func(topic string, demangle bool) ([]rclgo.TopicEndpointInfo, error)

// Graph lists the nodes that rcl knows. Services have no QoS here, as rcl does not tell it.
func (n *node) Graph() ([]ros.GraphNode, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	names, namespaces, err := n.nodeNames()
	if err != nil {
		return nil, err
	}
	publishers, subscriptions := knownEnds(n.node.GetPublishersInfoByTopic), knownEnds(n.node.GetSubscriptionsInfoByTopic)
	graph := make([]ros.GraphNode, 0, len(names))
	for i, name := range names {
		ns := namespaces[i]
		g := ros.GraphNode{Name: strings.TrimSuffix(ns, "/") + "/" + name}
		// An error here says that the node left meanwhile.
		if topics, err := n.node.GetPublisherNamesAndTypesByNode(demangled, name, ns); err == nil {
			g.Publishes = publishers(topics, name, ns)
		}
		if topics, err := n.node.GetSubscriberNamesAndTypesByNode(demangled, name, ns); err == nil {
			g.Subscribes = subscriptions(topics, name, ns)
		}
		if services, err := n.node.GetServiceNamesAndTypesByNode(name, ns); err == nil {
			g.Serves = serviceEnds(services)
		}
		if services, err := n.node.GetClientNamesAndTypesByNode(name, ns); err == nil {
			g.Calls = serviceEnds(services)
		}
		g.Sort()
		graph = append(graph, g)
	}
	slices.SortFunc(graph, func(a, b ros.GraphNode) int { return cmp.Compare(a.Name, b.Name) })
	return graph, nil
}

// nodeNames lists names and namespaces of the nodes known now. It is called with the node's lock held.
func (n *node) nodeNames() (names, namespaces []string, err error) {
	if n.closed {
		return nil, nil, fmt.Errorf("rclgo: node %s: %w", n.names.FullyQualified(), ros.ErrClosed)
	}
	names, namespaces, err = n.node.GetNodeNames()
	if err != nil {
		return nil, nil, fmt.Errorf("rclgo: list nodes: %w", brief(err))
	}
	return names, namespaces, nil
}

// serves tells whether a node serves the service, both names in full.
func (n *node) serves(service, typ string) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	names, namespaces, err := n.nodeNames()
	if err != nil {
		return false, err
	}
	for i, name := range names {
		services, err := n.node.GetServiceNamesAndTypesByNode(name, namespaces[i])
		if err == nil && slices.Contains(services[service], typ) {
			return true, nil
		}
	}
	return false, nil
}

// knownEnds returns a function that picks a node's ends of its topics. Each topic is asked for once.
func knownEnds(list listPeers) func(topics map[string][]string, name, namespace string) []ros.Endpoint {
	known := make(map[string][]rclgo.TopicEndpointInfo)
	return func(topics map[string][]string, name, namespace string) (ends []ros.Endpoint) {
		for topic := range topics {
			peers, ok := known[topic]
			if !ok {
				peers, _ = list(topic, demangled) // an error says that all of them left meanwhile
				known[topic] = peers
			}
			for _, p := range peers {
				if p.NodeName == name && p.NodeNamespace == namespace {
					ends = append(ends, ros.Endpoint{Name: topic, Type: p.TopicType, QoS: qosOf(p.QosProfile)})
				}
			}
		}
		return ends
	}
}

func serviceEnds(services map[string][]string) (ends []ros.Endpoint) {
	for service, types := range services {
		for _, typ := range types {
			ends = append(ends, ros.Endpoint{Name: service, Type: typ})
		}
	}
	return ends
}

// qosOf undoes profile, for QoS that rcl discovered.
func qosOf(p rclgo.QosProfile) ros.QoS {
	q := ros.QoS{Depth: p.Depth, Deadline: finite(p.Deadline), Lifespan: finite(p.Lifespan)}
	if p.History == rclgo.HistoryKeepAll {
		q.History = ros.KeepAll
	} else {
		// 0 is an unknown one, and would make the zero QoS of this, which stands for none.
		q.Depth = max(q.Depth, 1)
	}
	if p.Reliability == rclgo.ReliabilityBestEffort {
		q.Reliability = ros.BestEffort
	}
	if p.Durability == rclgo.DurabilityTransientLocal {
		q.Durability = ros.TransientLocal
	}
	return q
}

// finite turns rmw's infinity into that of package ros, 0.
func finite(d time.Duration) time.Duration {
	if d >= rclgo.DurationInfinite {
		return 0
	}
	return d
}

// refusals finds the peers that QoS keeps from a publisher or subscription. rclgo does not pass on rcl's
// QoS events, so it compares what the graph says each time it is asked, and remembers.
type refusals struct {
	node       *node
	topic, typ string // in full
	ours       ros.QoS
	peers      listPeers

	seen   map[rclgo.GID]struct{} // under the node's lock, as are last and lastID
	last   ros.Mismatch           // Publishers is set from the start
	lastID rclgo.GID
}

func (r *refusals) now() ros.Mismatch {
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	if !r.node.closed {
		peers, _ := r.peers(r.topic, demangled) // with an error nothing new is known
		for _, p := range peers {
			_, old := r.seen[p.EndpointGID]
			unnamed := p.EndpointGID == r.lastID && r.last.Peer == "" // its node may be known by now
			if p.TopicType == r.typ && (!old || unnamed) {
				r.compare(p)
			}
		}
	}
	return r.last
}

// compare notes a peer if QoS keeps it away.
func (r *refusals) compare(p rclgo.TopicEndpointInfo) {
	offered, requested := r.ours, qosOf(p.QosProfile)
	if r.last.Publishers {
		offered, requested = requested, offered
	}
	policy := ros.Incompatible(offered, requested)
	if policy == "" {
		return
	}
	if r.seen == nil {
		r.seen = make(map[rclgo.GID]struct{})
	}
	r.seen[p.EndpointGID], r.lastID = struct{}{}, p.EndpointGID
	r.last.Count, r.last.Policy, r.last.Offered, r.last.Requested = len(r.seen), policy, offered, requested
	if r.last.Peer = ""; p.NodeName != unknownNode {
		r.last.Peer = strings.TrimSuffix(p.NodeNamespace, "/") + "/" + p.NodeName
	}
}

// unknownNode is what rmw calls the node of an endpoint that no node has told to be its own.
const unknownNode = "_NODE_NAME_UNKNOWN_"
