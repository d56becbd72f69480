package ros

import "fmt"

// A Mismatch tells of peers that have the right topic and type and get no data, or send none, because QoS keeps
// them away: of publishers where a [Subscription] tells it, of subscriptions where a [Publisher] does. Policy is that
// of the last one, and the fields below it are of one that this policy keeps away.
type Mismatch struct {
	Count      int    // peers refused since the publisher or subscription was made
	Publishers bool   // the peers are publishers
	Policy     string // the first that does not fit, such as PolicyReliability; "" when Count is 0
	Peer       string // the peer's node, fully qualified; "" where it is unknown or no node of ROS

	// What the publisher offers and the subscription requests. Both are zero where nobody knows them any more, as
	// the peer left, and for policies that QoS does not have.
	Offered, Requested QoS
}

// String is one sentence for the operator, such as "1 publisher refused by QoS: /driver offers best_effort, this
// subscription requests reliable".
func (m Mismatch) String() string {
	if m.Count == 0 {
		return "no QoS mismatch"
	}
	peers, we := "subscription", "publisher"
	if m.Publishers {
		peers, we = we, peers
	}
	who, link := m.Peer, ": "
	if who == "" {
		who = "it" // no node of ROS, or gone
	}
	if m.Count > 1 {
		peers += "s"
		link = "; one of them: "
	}
	refused := fmt.Sprintf("%d %s refused by QoS%s", m.Count, peers, link)
	offered, requested := m.Offered.policy(m.Policy), m.Requested.policy(m.Policy)
	switch {
	case m.Offered == QoS{} || m.Requested == QoS{} || offered == "":
		return fmt.Sprintf("%s%s does not fit by its %s", refused, who, m.Policy)
	case m.Publishers:
		return fmt.Sprintf("%s%s offers %s, this %s requests %s", refused, who, offered, we, requested)
	}
	return fmt.Sprintf("%s%s requests %s, this %s offers %s", refused, who, requested, we, offered)
}

// policy is the value of one of the policies that keep peers apart, or "" for another.
func (q QoS) policy(name string) string {
	switch name {
	case PolicyReliability:
		return q.Reliability.String()
	case PolicyDurability:
		return q.Durability.String()
	case PolicyDeadline:
		if q.Deadline == 0 {
			return "no deadline"
		}
		return fmt.Sprintf("a deadline of %v", q.Deadline)
	}
	return ""
}
