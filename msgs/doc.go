// Package msgs holds the ROS 2 messages that ddvla speaks as plain Go structs,
// and the one codec that turns them into bytes and back: CDR in its XCDR1 form,
// as every ROS 2 middleware puts it on the wire and every rosbag2 file stores it.
//
// A message type has a name ([Message.ROSType]) and one method that visits its
// fields in wire order ([Message.CDR]); the same method serves [Marshal],
// [AppendMarshal] and [Unmarshal]. [New] makes a message from its ROS name and
// [Definition] writes its definition in the text form that bags carry.
//
// Package ros moves these bytes, package bag stores them; neither looks inside.
package msgs
