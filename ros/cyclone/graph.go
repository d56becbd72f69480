package cyclone

// #include <stdlib.h>
// #include "wire.h"
import "C"

import (
	"fmt"
	"sort"
	"strings"
	"unsafe"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// Graph joins the nodes of ros_discovery_info with the endpoints that DDS knows.
func (n *node) Graph() ([]ros.GraphNode, error) {
	n.mu.Lock() // so that the participant stays open
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("cyclone: node %s: %w", n.Name(), ros.ErrClosed)
	}
	nodes, err := n.discovery.nodes()
	if err != nil {
		return nil, err
	}
	writers, err := endpoints(n.participant, true)
	if err != nil {
		return nil, err
	}
	readers, err := endpoints(n.participant, false)
	if err != nil {
		return nil, err
	}
	graph := make([]ros.GraphNode, 0, len(nodes))
	for _, info := range nodes {
		g := ros.GraphNode{Name: fullName(info)}
		for _, id := range info.WriterGidSeq {
			e, ok := writers[id]
			if name, found := strings.CutPrefix(e.Name, topicPrefix+"/"); ok && found {
				g.Publishes = append(g.Publishes, ros.Endpoint{Name: "/" + name, Type: e.Type, QoS: e.QoS})
			}
			if name, found := serviceName(e.Name, requestPrefix, requestSuffix); ok && found {
				g.Calls = append(g.Calls, ros.Endpoint{Name: name, Type: e.Type, QoS: e.QoS})
			}
		}
		for _, id := range info.ReaderGidSeq {
			e, ok := readers[id]
			if name, found := strings.CutPrefix(e.Name, topicPrefix+"/"); ok && found {
				g.Subscribes = append(g.Subscribes, ros.Endpoint{Name: "/" + name, Type: e.Type, QoS: e.QoS})
			}
			if name, found := serviceName(e.Name, requestPrefix, requestSuffix); ok && found {
				g.Serves = append(g.Serves, ros.Endpoint{Name: name, Type: e.Type, QoS: e.QoS})
			}
		}
		g.Sort()
		graph = append(graph, g)
	}
	sort.Slice(graph, func(i, j int) bool { return graph[i].Name < graph[j].Name })
	return graph, nil
}

// explain adds to a mismatch what discovery knows of a peer that is refused by that policy: DDS itself tells how many
// there were and the last one's policy. ours is the QoS of the topic's end here.
func (n *node) explain(m ros.Mismatch, topic, typ string, ours ros.QoS) ros.Mismatch {
	n.mu.Lock() // so that the participant stays open
	defer n.mu.Unlock()
	if n.closed {
		return m
	}
	peers, err := endpoints(n.participant, m.Publishers)
	if err != nil {
		return m // nothing more is known
	}
	for id, e := range peers {
		offered, requested := ours, e.QoS
		if m.Publishers {
			offered, requested = e.QoS, ours
		}
		if e.Name != topicPrefix+topic || e.Type != typ ||
			ros.Incompatible(offered, requested) != m.Policy && !(m.Policy == ros.PolicyLiveliness && e.leased) {
			continue
		}
		// Of several, always the same: the first by name, and one without a node only where no other is.
		peer := n.discovery.owner(id)
		if m.Offered == (ros.QoS{}) || peer != "" && (m.Peer == "" || peer < m.Peer) {
			m.Offered, m.Requested, m.Peer = offered, requested, peer
		}
	}
	return m
}

// serviceName undoes requestPrefix + name + requestSuffix.
func serviceName(topic, prefix, suffix string) (string, bool) {
	name, ok := strings.CutPrefix(topic, prefix+"/")
	name, ok2 := strings.CutSuffix(name, suffix)
	return "/" + name, ok && ok2
}

// endpoint is a DDS writer or reader with the DDS name of its topic. One that is leased has a liveliness that QoS has
// not: a reader with it takes none of our writers.
type endpoint struct {
	ros.Endpoint
	leased bool
}

// endpoints are the DDS writers or readers known now.
func endpoints(participant C.dds_entity_t, writers bool) (map[msgs.Gid]endpoint, error) {
	var list *C.struct_graph_endpoint
	n := C.graph_endpoints(participant, C.bool(writers), &list)
	if n < 0 {
		return nil, fmt.Errorf("cyclone: list endpoints: %w", codeError(n))
	}
	defer C.free(unsafe.Pointer(list))
	out := make(map[msgs.Gid]endpoint, n)
	found := unsafe.Slice(list, n)
	for i := range found {
		e := &found[i]
		out[gidOf(e.guid)] = endpoint{ros.Endpoint{Name: C.GoString(&e.topic[0]), Type: rosType(C.GoString(&e._type[0])), QoS: rosQoS(e.qos)}, bool(e.leased)}
	}
	return out, nil
}
