// Package ros2cli runs ddvla beside a real ROS 2 Humble and uses it as a person does, with the ros2 command.
// It has tests only, which `make test-ros` runs.
package ros2cli
