package ros

import (
	"cmp"
	"slices"
)

// A Grapher is a [Node] that can tell what nodes there are.
type Grapher interface {
	// Graph lists the nodes known now, this one included, ordered by name.
	Graph() ([]GraphNode, error)
}

// A GraphNode is a node as others see it.
type GraphNode struct {
	Name       string // fully qualified
	Publishes  []Endpoint
	Subscribes []Endpoint
	Serves     []Endpoint
	Calls      []Endpoint
}

// An Endpoint is one end of a topic or service.
type Endpoint struct {
	Name string // "/chatter"
	Type string // "std_msgs/msg/String", "std_srvs/srv/Trigger"
	QoS  QoS
}

// Sort orders the node's endpoints by name and type.
func (g *GraphNode) Sort() {
	for _, ends := range [][]Endpoint{g.Publishes, g.Subscribes, g.Serves, g.Calls} {
		slices.SortFunc(ends, func(a, b Endpoint) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
		})
	}
}
