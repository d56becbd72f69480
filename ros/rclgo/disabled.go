//go:build !rclgo

package rclgo

import (
	"context"
	"errors"

	"github.com/ddvla/ddvla/ros"
)

// Available tells whether this program was built with the back end.
const Available = false

// ErrDisabled is returned by a program that was built without build tag rclgo.
var ErrDisabled = errors.New("rclgo: this program was built without ROS 2; build it with -tags rclgo " +
	"in an environment where ROS 2 is sourced, or use the cyclone back end")

// NewNode returns [ErrDisabled].
func NewNode(context.Context, ros.Options) (ros.Node, error) { return nil, ErrDisabled }
