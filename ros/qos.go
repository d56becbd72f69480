package ros

import (
	"fmt"
	"time"
)

// Reliability says whether lost messages are sent again.
type Reliability uint8

// The two kinds of reliability. A reliable subscription gets nothing from a best-effort publisher.
const (
	Reliable Reliability = iota
	BestEffort
)

func (r Reliability) String() string {
	switch r {
	case Reliable:
		return "reliable"
	case BestEffort:
		return "best_effort"
	}
	return fmt.Sprintf("Reliability(%d)", uint8(r))
}

// Durability says whether a late subscription gets messages published before it came.
type Durability uint8

// The two kinds of durability. A transient-local subscription gets nothing from a volatile publisher.
const (
	Volatile Durability = iota
	TransientLocal
)

func (d Durability) String() string {
	switch d {
	case Volatile:
		return "volatile"
	case TransientLocal:
		return "transient_local"
	}
	return fmt.Sprintf("Durability(%d)", uint8(d))
}

// History says how many messages wait for a reader.
type History uint8

// KeepLast keeps the newest QoS.Depth messages, KeepAll as many as fit in [KeepAllLimit].
const (
	KeepLast History = iota
	KeepAll
)

func (h History) String() string {
	switch h {
	case KeepLast:
		return "keep_last"
	case KeepAll:
		return "keep_all"
	}
	return fmt.Sprintf("History(%d)", uint8(h))
}

// KeepAllLimit is the number of messages that a subscription with [KeepAll] holds for a busy callback:
// "all" must not mean until memory ends.
const KeepAllLimit = 8192

// QoS is how a topic's messages travel. The zero value is not valid; start from one of the profiles.
type QoS struct {
	Reliability Reliability
	Durability  Durability
	History     History
	Depth       int           // messages kept with KeepLast, 1 or more
	Deadline    time.Duration // longest promised time between messages; 0 = infinite
	Lifespan    time.Duration // age at which a message is no longer delivered, 0 = infinite; DDS does not look again at one that waits for a busy callback
}

// DefaultQoS is rmw_qos_profile_default: reliable, volatile, depth 10.
func DefaultQoS() QoS { return QoS{Depth: 10} }

// SensorDataQoS is rmw_qos_profile_sensor_data: best effort, volatile, depth 5. It matches any publisher.
func SensorDataQoS() QoS { return QoS{Reliability: BestEffort, Depth: 5} }

// ServicesQoS is rmw_qos_profile_services_default: reliable, volatile, depth 10.
func ServicesQoS() QoS { return QoS{Depth: 10} }

// ParametersQoS is rmw_qos_profile_parameters, for the parameter services: depth 1000.
func ParametersQoS() QoS { return QoS{Depth: 1000} }

// ParameterEventsQoS is rmw_qos_profile_parameter_events: reliable, volatile, depth 1000.
func ParameterEventsQoS() QoS { return QoS{Depth: 1000} }

// RosoutQoS is rcl_qos_profile_rosout_default: reliable, transient local, depth 1000, lifespan 10 s.
func RosoutQoS() QoS {
	return QoS{Durability: TransientLocal, Depth: 1000, Lifespan: 10 * time.Second}
}

// LatchedQoS is for state that latecomers must see: reliable, transient local, depth 1.
func LatchedQoS() QoS { return QoS{Durability: TransientLocal, Depth: 1} }

// ClockQoS is rclcpp's ClockQoS: best effort, depth 1.
func ClockQoS() QoS { return QoS{Reliability: BestEffort, Depth: 1} }

// Validate names the first field that is out of its range.
func (q QoS) Validate() error {
	switch {
	case q.Reliability > BestEffort:
		return fmt.Errorf("QoS: unknown reliability %d", q.Reliability)
	case q.Durability > TransientLocal:
		return fmt.Errorf("QoS: unknown durability %d", q.Durability)
	case q.History > KeepAll:
		return fmt.Errorf("QoS: unknown history %d", q.History)
	case q.History == KeepLast && q.Depth < 1:
		return fmt.Errorf("QoS: depth %d with keep_last; it must be 1 or more", q.Depth)
	case q.Deadline < 0:
		return fmt.Errorf("QoS: deadline %v is negative", q.Deadline)
	case q.Lifespan < 0:
		return fmt.Errorf("QoS: lifespan %v is negative", q.Lifespan)
	}
	return nil
}

// Queue is the number of messages that wait for a busy callback.
func (q QoS) Queue() int {
	if q.History == KeepAll {
		return KeepAllLimit
	}
	return q.Depth
}

func (q QoS) String() string {
	s := q.Reliability.String() + ", " + q.Durability.String() + ", " + q.History.String()
	if q.History == KeepLast {
		s += fmt.Sprintf(" %d", q.Depth)
	}
	if q.Deadline != 0 {
		s += fmt.Sprintf(", deadline %v", q.Deadline)
	}
	if q.Lifespan != 0 {
		s += fmt.Sprintf(", lifespan %v", q.Lifespan)
	}
	return s
}

// Policies whose mismatch keeps a publisher and a subscription apart.
const (
	PolicyReliability = "reliability"
	PolicyDurability  = "durability"
	PolicyDeadline    = "deadline"
	PolicyLiveliness  = "liveliness" // which QoS does not have: publishers here offer the automatic one, without a lease
)

// Incompatible names the first policy for which a publisher offers less than a subscription requests,
// or "" when the two match. This is the rule of the DDS specification (1.4, 2.2.3).
func Incompatible(offered, requested QoS) (policy string) {
	switch {
	case offered.Reliability == BestEffort && requested.Reliability == Reliable:
		return PolicyReliability
	case offered.Durability == Volatile && requested.Durability == TransientLocal:
		return PolicyDurability
	case requested.Deadline != 0 && (offered.Deadline == 0 || offered.Deadline > requested.Deadline):
		return PolicyDeadline
	}
	return ""
}
