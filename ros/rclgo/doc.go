// Package rclgo is the back end of package ros over a real ROS 2 installation, through
// github.com/tiiuae/rclgo. It is compiled with build tag rclgo, where ROS 2 Humble lies at /opt/ros/humble
// and is sourced; without the tag [NewNode] says so. For ROS at another prefix, CGO_CFLAGS must name the
// folders below its include, and CGO_LDFLAGS its lib.
//
// Messages pass as CDR bytes in both directions, so one codec serves all back ends and the leaks of
// rclgo's typed paths do not matter. Type supports come from the C libraries of the message packages by
// symbol name. Each subscription, server and client has a wait set and a goroutine of its own, since
// rclgo's Spin serves only what exists when it starts, and all of it on one goroutine.
package rclgo
