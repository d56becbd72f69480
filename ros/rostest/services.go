package rostest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

func (f *fixture) client(n ros.Node, name string) ros.Client {
	f.Helper()
	c, err := n.Client(name, triggerType)
	if err != nil {
		f.Fatal(err)
	}
	return c
}

func (f *fixture) serve(n ros.Node, name string, handle func(context.Context, []byte) ([]byte, error)) ros.Server {
	f.Helper()
	s, err := n.Serve(name, triggerType, handle)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// reach calls until there is an answer: a request gets lost that a server has not found the client for.
func (f *fixture) reach(c ros.Client) {
	f.Helper()
	Wait(f, "service", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := c.Call(ctx, triggerRequest)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			f.Fatal(err)
		}
		return err == nil
	})
}

func services(f *fixture) {
	f.peer(script{Triggers: []string{"~/go", "/stop"}})
	n := f.node("n")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, s := range [][2]string{{"peer/go", "~/go"}, {"/stop", "/stop"}} {
		c := f.client(n, s[0])
		if err := c.WaitForService(ctx); err != nil {
			f.Fatal(err)
		}
		f.reach(c)
		for range 3 {
			reply, err := c.Call(ctx, triggerRequest)
			if err != nil {
				f.Fatal(err)
			}
			if want := triggerReply(s[1]); !bytes.HasPrefix(reply, want) || len(reply)-len(want) > 3 {
				f.Errorf("%s replied %q, want %q", s[0], reply, want)
			}
		}
	}
}

func concurrentCalls(f *fixture) {
	f.peer(script{Triggers: []string{"/a", "/b"}})
	n := f.node("n")
	// A service whose reply tells which request it answers.
	if _, err := ros.Serve(n, "/c", func(_ context.Context, r *msgs.GetParameterTypesRequest) (*msgs.GetParameterTypesResponse, error) {
		return &msgs.GetParameterTypesResponse{Types: []byte(strings.Join(r.Names, ""))}, nil
	}); err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 12 {
		name := []string{"/a", "/b", "/c"}[i%3]
		prepare := f.callTrigger
		if name == "/c" {
			prepare = f.callNamed
		}
		call := prepare(n, name)
		for j := range 3 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for k := range 5 {
					call(ctx, fmt.Sprint(i*100+j*10+k))
				}
			}()
		}
	}
	wg.Wait()
}

// callTrigger returns a function that calls a peer's trigger, which answers its own name.
func (f *fixture) callTrigger(n ros.Node, name string) func(context.Context, string) {
	c := f.client(n, name)
	f.reach(c)
	return func(ctx context.Context, _ string) {
		if reply, err := c.Call(ctx, triggerRequest); err != nil || !bytes.HasPrefix(reply, triggerReply(name)) {
			f.Errorf("%s replied %q, %v", name, reply, err)
		}
	}
}

// callNamed returns a function that calls this process's own service, which answers the name it is sent.
func (f *fixture) callNamed(n ros.Node, name string) func(context.Context, string) {
	c, err := ros.NewClient[msgs.GetParameterTypesRequest, msgs.GetParameterTypesResponse](n, name)
	if err != nil {
		f.Fatal(err)
	}
	return func(ctx context.Context, text string) {
		r, err := ros.Call[msgs.GetParameterTypesRequest, msgs.GetParameterTypesResponse](ctx, c, &msgs.GetParameterTypesRequest{Names: []string{text}})
		if err != nil || string(r.Types) != text {
			f.Errorf("%s replied %v, %v, want %q", name, r, err, text)
		}
	}
}

func serviceFailures(f *fixture) {
	f.peer(script{Triggers: []string{"/there"}})
	n := f.node("n")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	absent := f.client(n, "/absent")
	short, cancelShort := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancelShort()
	if err := absent.WaitForService(short); !errors.Is(err, context.DeadlineExceeded) {
		f.Errorf("waiting for no service: %v", err)
	}
	if _, err := absent.Call(short, triggerRequest); !errors.Is(err, context.DeadlineExceeded) {
		f.Errorf("calling no service: %v", err)
	}

	handling, ended := make(chan struct{}, 1), make(chan struct{})
	s := f.serve(n, "/hangs", func(ctx context.Context, _ []byte) ([]byte, error) {
		handling <- struct{}{}
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	hangs := f.client(n, "/hangs")
	cancelled, cancelCall := context.WithCancel(ctx)
	result := make(chan error, 1)
	go func() {
		_, err := hangs.Call(cancelled, triggerRequest)
		result <- err
	}()
	Receive(f, "the handler runs", handling)
	cancelCall()
	if err := Receive(f, "the call ends", result); !errors.Is(err, context.Canceled) {
		f.Errorf("cancelled call: %v", err)
	}
	if err := s.Close(); err != nil {
		f.Error(err)
	}
	select {
	case <-ended:
	default:
		f.Error("Close returned while the handler ran")
	}

	fails := f.client(n, "/fails")
	calls := make(chan struct{}, 1)
	f.serve(n, "/fails", func(context.Context, []byte) ([]byte, error) {
		calls <- struct{}{}
		return nil, errors.New("no")
	})
	failing, cancelFailing := context.WithCancel(ctx)
	go func() {
		_, err := fails.Call(failing, triggerRequest)
		result <- err
	}()
	Receive(f, "the handler runs", calls)
	cancelFailing()
	if err := Receive(f, "the call ends", result); !errors.Is(err, context.Canceled) {
		f.Errorf("call of a failing service: %v", err)
	}

	closing := f.client(n, "/absent")
	go func() {
		_, err := closing.Call(ctx, triggerRequest)
		result <- err
	}()
	if err := closing.Close(); err != nil {
		f.Error(err)
	}
	if err := Receive(f, "the call ends", result); !errors.Is(err, ros.ErrClosed) {
		f.Errorf("call of a closed client: %v", err)
	}
	there := f.client(n, "/there")
	f.reach(there)
	if _, err := there.Call(ctx, nil); err == nil {
		f.Error("an empty request was sent")
	}
	if _, err := there.Call(ctx, triggerRequest); err != nil {
		f.Errorf("a service after all that: %v", err)
	}
	var counted atomic.Int64
	f.serve(n, "/counted", func(context.Context, []byte) ([]byte, error) {
		counted.Add(1)
		return triggerReply(""), nil
	})
	counts := f.client(n, "/counted")
	if _, err := counts.Call(ctx, triggerRequest); err != nil {
		f.Error(err)
	}
	for range 20 {
		if _, err := counts.Call(cancelled, triggerRequest); !errors.Is(err, context.Canceled) {
			f.Errorf("call with an ended context: %v", err)
		}
	}
	if _, err := counts.Call(ctx, triggerRequest); err != nil || counted.Load() != 2 {
		f.Errorf("%d requests came, %v; want the 2 that were waited for", counted.Load(), err)
	}
	if _, err := n.Client("/there", "std_srvs/msg/Trigger"); err == nil {
		f.Error("a message type was accepted for a service")
	}
}
