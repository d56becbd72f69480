package ros

import (
	"testing"
	"time"
)

func TestMismatchIsASentence(t *testing.T) {
	best := SensorDataQoS()
	for want, m := range map[string]Mismatch{
		"no QoS mismatch": {},
		"1 publisher refused by QoS: /camera offers best_effort, this subscription requests reliable": {
			Count: 1, Publishers: true, Policy: PolicyReliability, Peer: "/camera", Offered: best, Requested: DefaultQoS()},
		"2 subscriptions refused by QoS; one of them: it requests transient_local, this publisher offers volatile": {
			Count: 2, Policy: PolicyDurability, Offered: DefaultQoS(), Requested: LatchedQoS()},
		"1 subscription refused by QoS: /a/b requests a deadline of 100ms, this publisher offers no deadline": {
			Count: 1, Policy: PolicyDeadline, Peer: "/a/b", Offered: best, Requested: QoS{Depth: 1, Deadline: 100 * time.Millisecond}},
		"3 publishers refused by QoS; one of them: it does not fit by its reliability": {Count: 3, Publishers: true, Policy: PolicyReliability},
		"1 publisher refused by QoS: /x does not fit by its data representation": {
			Count: 1, Publishers: true, Policy: "data representation", Peer: "/x", Offered: best, Requested: best},
	} {
		if got := m.String(); got != want {
			t.Errorf("%+v:\n%q, want\n%q", m, got, want)
		}
	}
}
