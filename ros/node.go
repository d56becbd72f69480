// Package ros is the seam between this program and ROS 2: small interfaces that carry CDR bytes, and
// typed helpers over them. It knows nothing of robots.
//
// Three back ends implement [Node]: ros/cyclone (Eclipse Cyclone DDS, ROS 2 on the wire without a ROS
// installation), ros/rclgo (a real ROS 2 installation, build tag rclgo) and ros/local (in process, for
// replay, simulation and tests). All of them pass the suite in ros/rostest, so the rest of the program
// does not know which one runs. Parameters (ros/param) and logs (ros/rosout) are built on the seam.
package ros

import (
	"context"
	"time"
)

// A Node is one node of the ROS graph. All methods may be called from any goroutine.
type Node interface {
	// Name is the fully qualified name after remapping, such as "/robot/ddvla".
	Name() string

	// Resolve turns "~/x", a relative or an absolute topic name into the fully qualified one that is
	// used on the wire, after the remap rules. It reports names that ROS does not allow.
	Resolve(name string) (string, error)

	// Subscribe calls cb for every message of the topic. raw is CDR with its 4-byte encapsulation header
	// and is valid only until cb returns: copy what is kept. stamp is the time the publisher wrote the
	// message. cb runs on one goroutine of its own; while it is busy, the newest QoS.Depth messages wait
	// and older ones are dropped and counted, so neither peers nor other subscriptions are held up.
	Subscribe(topic, typ string, qos QoS, cb func(raw []byte, stamp time.Time)) (Subscription, error)

	// Advertise creates a publisher; typ is a message type such as "sensor_msgs/msg/JointState".
	Advertise(topic, typ string, qos QoS) (Publisher, error)

	// Serve answers a service; typ is a service type such as "std_srvs/srv/Trigger", request and reply
	// are CDR with encapsulation header. Calls of one service are handled one after the other on a
	// goroutine of its own; ctx ends when the server or the node closes. ROS has no way to carry an
	// error: when handle returns one, it is logged and the caller gets no reply.
	Serve(service, typ string, handle func(ctx context.Context, request []byte) (reply []byte, err error)) (Server, error)

	// Client creates a client of a service.
	Client(service, typ string) (Client, error)

	// Now is the wall clock, or with simulated time the newest /clock, and the zero Time before the
	// first one: do not act on a zero time.
	Now() time.Time

	// UseSimTime makes Now follow /clock (true) or the wall clock (false). It is what the parameter
	// use_sim_time sets.
	UseSimTime(on bool) error

	// Close ends everything the node made and returns when all of its goroutines have ended and no
	// callback runs any more. It must not be called from a callback. Later calls of the node's methods
	// return [ErrClosed]; a second Close does nothing.
	Close() error
}

// A Publisher sends messages of one topic.
type Publisher interface {
	// Publish sends CDR bytes with their encapsulation header; raw may be reused when it returns. It
	// never waits for a peer: a reader that cannot keep up loses messages by the QoS depth.
	Publish(raw []byte) error
	// MatchedSubscriptions is the number of subscriptions that receive the messages now.
	MatchedSubscriptions() int
	// Mismatch tells of subscriptions of the topic that receive nothing because QoS does not fit.
	Mismatch() Mismatch
	Close() error
}

// A Subscription receives messages of one topic.
type Subscription interface {
	// MatchedPublishers is the number of publishers that send to the subscription now.
	MatchedPublishers() int
	// Mismatch tells of publishers of the topic that send nothing here because QoS does not fit.
	Mismatch() Mismatch
	// Dropped counts messages that arrived and were thrown away because the callback was busy.
	Dropped() uint64
	// Malformed counts messages that arrived and were not CDR of the type.
	Malformed() uint64
	// Lost counts messages that never arrived, as the gaps in the publishers' numbering show: best-effort
	// ones that a full socket buffer threw away, and reliable ones that the publisher's depth replaced before
	// they came through. It is 0 where nothing can get lost, and where the middleware does not pass the
	// numbers on, as that of ros/rclgo.
	Lost() uint64
	// Close ends the subscription; no callback runs when it returns. It must not be called from the
	// subscription's own callback.
	Close() error
}

// A Server answers one service until it is closed.
type Server interface {
	// Close ends the service and waits for the handler that runs, whose ctx it cancels.
	Close() error
}

// A Client calls one service.
type Client interface {
	// Call sends a request and waits for its reply until ctx ends. Calls may run concurrently. Both are
	// CDR with encapsulation header. Without a server Call waits for one as long as ctx allows.
	Call(ctx context.Context, request []byte) (reply []byte, err error)
	// WaitForService returns nil once a server is there, or the reason ctx ended.
	WaitForService(ctx context.Context) error
	Close() error
}
