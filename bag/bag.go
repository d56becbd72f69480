// Package bag reads and writes rosbag2 recordings: directories with a
// metadata.yaml and MCAP or SQLite storage, whole files or single messages
// compressed or not, and plain .mcap and .db3 files.
//
// [Open] finds out what is there and [Reader.Messages] walks all messages in the
// order they were received, over all files, in memory that does not grow with
// the bag. Of damaged files it reads what is left, see [DamagedError].
// [Create] makes a directory that `ros2 bag play` of ROS 2 Humble plays, and
// [Recorder] stands between it and code that must not wait for a disk.
//
// Payloads stay bytes, CDR as package msgs has it; nothing here looks inside.
package bag

import (
	"errors"
	"time"
)

// Topic is one topic of a bag.
type Topic struct {
	Name   string // fully qualified, "/camera_f/color/image_raw"
	Type   string // "sensor_msgs/msg/Image"
	Count  uint64 // messages in the bag; not read by [Writer.AddTopic]
	Format string // how messages are serialized, "cdr"; empty means that
	// QoS is what rosbag2 calls offered_qos_profiles: a YAML list with one entry per
	// publisher that was seen, or empty.
	QoS string
	// Definition is the type's definition as MCAP's "ros2msg" text; empty when the
	// bag has none, as those of SQLite.
	Definition string
}

// Message is one recorded message.
type Message struct {
	Topic string
	Type  string
	Time  time.Time // when the recorder received it
	Data  []byte    // CDR with its encapsulation header
}

// What can be wrong with a bag as a whole; errors of [Open] and
// [Reader.Messages] match these with errors.Is.
var (
	ErrNotBag      = errors.New("not a bag")
	ErrUnsupported = errors.New("kind of bag that is not supported")
	ErrCorrupt     = errors.New("corrupt bag")
	ErrTruncated   = errors.New("truncated bag")
)
