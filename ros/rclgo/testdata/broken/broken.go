//go:build rclgo

// Package broken misuses rclgo and its own types: the type check must say so, or it would see nothing.
package broken

// #include <rmw/rmw.h>
import "C"

import (
	"context"

	"github.com/tiiuae/rclgo/pkg/rclgo"

	"github.com/ddvla/ddvla/ros"
)

type node struct{ ros.Node }

func (node) Close() {} // another signature than ros.Node's

var _ ros.Node = node{}

func misuse(n *rclgo.Node) string {
	n.NewPublisher("only a topic")
	n.Vanish()
	var size C.size_t
	_ = size
	return rclgo.Spin(context.Background())
}
