//go:build rclgo

package rclgo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tiiuae/rclgo/pkg/rclgo"
	"go.uber.org/zap"

	"github.com/ddvla/ddvla/ros"
)

// Available tells whether this program was built with the back end.
const Available = true

type node struct {
	names  *ros.Names
	log    *zap.Logger
	clock  ros.Clock
	rcl    *rclgo.Context
	node   *rclgo.Node
	ctx    context.Context // ends with the node
	cancel context.CancelFunc

	mu     sync.Mutex // rclgo does not synchronise making and closing
	closed bool
	parts  map[part]struct{}
}

// A part is what a node makes and closes: publisher, subscription, server, client.
type part interface{ Close() error }

// NewNode joins the ROS graph with one rcl context and node. ctx bounds the node's service handlers, whose
// contexts derive from it; it does not close the node. ROS_LOCALHOST_ONLY is read by rcl itself.
func NewNode(ctx context.Context, o ros.Options) (ros.Node, error) {
	names, err := ros.NewNames(o) // for Resolve; rcl applies the same rules to what it is given
	if err != nil {
		return nil, fmt.Errorf("rclgo: %w", err)
	}
	if o.LocalhostOnly && os.Getenv("ROS_LOCALHOST_ONLY") != "1" {
		return nil, errors.New("rclgo: localhost only was asked for; rcl takes it from ROS_LOCALHOST_ONLY=1 alone, so set that")
	}
	// rcl would make a publisher of /rosout of its own for the node, on which nothing ever comes: package
	// rosout publishes the logs.
	args := []string{"--ros-args", "--disable-rosout-logs"}
	for _, r := range o.Remaps {
		args = append(args, "-r", r.String())
	}
	parsed, _, err := rclgo.ParseArgs(args)
	if err != nil {
		return nil, fmt.Errorf("rclgo: remap rules: %w", brief(err))
	}
	options := rclgo.NewDefaultContextOptions()
	options.DomainID = uint(o.DomainID)
	rcl, err := rclgo.NewContextWithOpts(parsed, options)
	if err != nil {
		return nil, fmt.Errorf("rclgo: join domain %d: %w", o.DomainID, brief(err))
	}
	namespace := o.Namespace
	if namespace == "" {
		namespace = "/"
	}
	inner, err := rcl.NewNode(o.Name, namespace)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rclgo: node %s: %w", o.Name, brief(err)), brief(rcl.Close()))
	}
	n := &node{names: names, log: o.Log(), rcl: rcl, node: inner, parts: make(map[part]struct{})}
	n.ctx, n.cancel = context.WithCancel(ctx)
	return n, nil
}

// brief cuts the stack trace that rclgo puts into the text of its errors; errors.As still finds them.
func brief(err error) error {
	if err == nil {
		return nil
	}
	return &briefError{err}
}

type briefError struct{ err error }

func (e *briefError) Error() string {
	first, _, _ := strings.Cut(strings.TrimSpace(e.err.Error()), "\n")
	return first
}

func (e *briefError) Unwrap() error { return e.err }

func (n *node) Name() string                        { return n.node.FullyQualifiedName() }
func (n *node) Resolve(name string) (string, error) { return n.names.Topic(name) }
func (n *node) Now() time.Time                      { return n.clock.Now() }
func (n *node) UseSimTime(on bool) error            { return n.clock.Follow(n, on) }

// make runs create, alone, unless the node is closed, and remembers the part for Close.
func (n *node) make(create func() (part, error)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ros.ErrClosed
	}
	p, err := create()
	if err != nil {
		return err
	}
	n.parts[p] = struct{}{}
	return nil
}

// unmake runs destroy, alone, and forgets the part.
func (n *node) unmake(p part, destroy func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.parts, p)
	return brief(destroy())
}

func (n *node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	parts := n.parts
	n.parts = make(map[part]struct{})
	n.mu.Unlock()
	n.cancel()
	var errs []error
	for p := range parts {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, brief(n.node.Close()), brief(n.rcl.Close()))...)
}
