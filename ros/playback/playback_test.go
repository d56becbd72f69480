package playback_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/playback"
)

// What is published is seen by the sink at the recording's time and under its
// remapped name; what is fed reaches the subscriptions before Feed returns.
func TestMessagesPassInOrderOnTheCallersGoroutine(t *testing.T) {
	rule, err := ros.ParseRemap("~/out:=/other")
	if err != nil {
		t.Fatal(err)
	}
	var log []string
	n, err := playback.New(ros.Options{Name: "ddvla", Namespace: "robot", Remaps: []ros.Remap{rule}},
		func(topic, typ string, _ ros.QoS, raw []byte, now time.Time) error {
			log = append(log, topic+" "+typ+" "+now.UTC().Format("15:04:05"))
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ros.Advertise[msgs.String](n, "~/out", ros.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	sub, err := ros.Subscribe(n, "~/in", ros.DefaultQoS(), func(m *msgs.String, _ time.Time) {
		log = append(log, "heard "+m.Data)
		if err := pub.Publish(m); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := msgs.Marshal(&msgs.String{Data: "a"})
	if err != nil {
		t.Fatal(err)
	}
	const topic, typ = "/robot/ddvla/in", "std_msgs/msg/String"
	n.SetTime(time.Unix(5, 0))
	if !n.Subscribed(topic) || n.Subscribed("/in") {
		t.Error("subscribed under another name")
	}
	if err := n.Feed(topic, typ, raw, time.Unix(5, 0)); err != nil {
		t.Fatal(err)
	}
	if want := "heard a,/other std_msgs/msg/String 00:00:05"; strings.Join(log, ",") != want {
		t.Errorf("log %q, want %q", log, want)
	}
	if err := n.Feed(topic, "std_msgs/msg/Bool", raw, time.Unix(6, 0)); err == nil || !strings.Contains(err.Error(), "std_msgs/msg/Bool") {
		t.Errorf("another type than subscribed: %v", err)
	}
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Feed(topic, typ, raw, time.Unix(7, 0)); err != nil || len(log) != 2 {
		t.Errorf("after closing: %v, log %q", err, log)
	}
}

func TestServicesAreCalledUntilClosed(t *testing.T) {
	n, err := playback.New(ros.Options{Name: "ddvla"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ros.Serve[msgs.TriggerRequest, msgs.TriggerResponse](n, "~/enable",
		func(context.Context, *msgs.TriggerRequest) (*msgs.TriggerResponse, error) {
			return &msgs.TriggerResponse{Success: true}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	request, err := msgs.Marshal(&msgs.TriggerRequest{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := n.Call(t.Context(), "/ddvla/enable", request)
	if err != nil {
		t.Fatal(err)
	}
	var reply msgs.TriggerResponse
	if err := msgs.Unmarshal(raw, &reply); err != nil || !reply.Success {
		t.Errorf("reply %+v, %v", reply, err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Call(t.Context(), "/ddvla/enable", request); err == nil {
		t.Error("a closed service answered")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Subscribe("/a", "std_msgs/msg/String", ros.DefaultQoS(), func([]byte, time.Time) {}); !errors.Is(err, ros.ErrClosed) {
		t.Errorf("subscribing after Close: %v", err)
	}
}

func TestAClosedSubscriptionHearsNoMore(t *testing.T) {
	n, err := playback.New(ros.Options{Name: "ddvla"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var second ros.Subscription
	if _, err := n.Subscribe("/in", "std_msgs/msg/String", ros.DefaultQoS(), func([]byte, time.Time) { second.Close() }); err != nil {
		t.Fatal(err)
	}
	second, err = n.Subscribe("/in", "std_msgs/msg/String", ros.DefaultQoS(), func([]byte, time.Time) {
		t.Error("heard after Close")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Feed("/in", "std_msgs/msg/String", nil, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Advertise("/out", "std_msgs/msg/String", ros.DefaultQoS()); !errors.Is(err, ros.ErrClosed) {
		t.Errorf("advertising after Close: %v", err)
	}
}
