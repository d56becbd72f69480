package cyclone

// #cgo pkg-config: CycloneDDS
// #cgo CFLAGS: -O2 -Wall -Wextra
// #cgo noescape wire_write
// #cgo nocallback wire_write
// #include <stdlib.h>
// #include "wire.h"
import "C"

import (
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/ddvla/ddvla/ros"
)

// Prefixes and suffixes that rmw gives DDS topics (ROS 2 design, topic and service names).
const (
	topicPrefix   = "rt"
	requestPrefix = "rq"
	replyPrefix   = "rr"
	requestSuffix = "Request"
	replySuffix   = "Reply"
)

// wireType turns "std_msgs/msg/String" into "std_msgs::msg::dds_::String_". suffix is "_Request" or
// "_Response" for the halves of a service.
func wireType(typ, kind, suffix string) (string, error) {
	pkg, name, err := ros.SplitType(typ, kind)
	if err != nil {
		return "", err
	}
	return pkg + "::" + kind + "::dds_::" + name + suffix + "_", nil
}

// rosType undoes wireType; a type that is not of ROS comes back as it is.
func rosType(wire string) string {
	s, ok := strings.CutSuffix(wire, "_")
	parts := strings.Split(s, "::")
	if !ok || len(parts) != 4 || parts[2] != "dds_" {
		return wire
	}
	name := strings.TrimSuffix(strings.TrimSuffix(parts[3], "_Request"), "_Response")
	return parts[0] + "/" + parts[1] + "/" + name
}

func wireQoS(q ros.QoS) C.struct_wire_qos {
	return C.struct_wire_qos{
		best_effort:     C.bool(q.Reliability == ros.BestEffort),
		transient_local: C.bool(q.Durability == ros.TransientLocal),
		keep_all:        C.bool(q.History == ros.KeepAll),
		depth:           C.int32_t(min(q.Depth, 1<<30)),
		deadline:        C.int64_t(q.Deadline),
		lifespan:        C.int64_t(q.Lifespan),
	}
}

func rosQoS(q C.struct_wire_qos) ros.QoS {
	r := ros.QoS{Depth: int(q.depth), Deadline: time.Duration(q.deadline), Lifespan: time.Duration(q.lifespan)}
	if q.best_effort {
		r.Reliability = ros.BestEffort
	}
	if q.transient_local {
		r.Durability = ros.TransientLocal
	}
	if q.keep_all {
		r.History, r.Depth = ros.KeepAll, 0
	}
	return r
}

// policyName names the policies of DDS that package ros has (dds.h, DDS_*_QOS_POLICY_ID).
func policyName(id C.uint32_t) string {
	switch id {
	case C.DDS_RELIABILITY_QOS_POLICY_ID:
		return ros.PolicyReliability
	case C.DDS_DURABILITY_QOS_POLICY_ID:
		return ros.PolicyDurability
	case C.DDS_DEADLINE_QOS_POLICY_ID:
		return ros.PolicyDeadline
	case C.DDS_LIVELINESS_QOS_POLICY_ID:
		return ros.PolicyLiveliness
	case C.DDS_DATA_REPRESENTATION_QOS_POLICY_ID:
		return "data representation"
	}
	return fmt.Sprintf("policy %d", uint32(id))
}

// A writer is a DDS topic and a writer of it.
type writer struct {
	topic, entity C.dds_entity_t
	typ           *C.struct_ddsi_sertype
}

// newWriter creates a topic and its writer. userData is for services, else empty.
func newWriter(participant C.dds_entity_t, topic, typ string, qos ros.QoS, userData string) (writer, error) {
	var w writer
	var err error
	if w.topic, w.typ, err = newTopic(participant, topic, typ); err != nil {
		return w, err
	}
	q := newQoS(qos, userData, 0)
	defer C.dds_delete_qos(q)
	if w.entity = C.dds_create_writer(participant, w.topic, q, nil); w.entity < 0 {
		C.dds_delete(w.topic)
		return w, fmt.Errorf("create writer of %s: %w", topic, codeError(w.entity))
	}
	return w, nil
}

// write sends head followed by body; see wire_write.
func (w writer) write(head, body []byte) error {
	var b unsafe.Pointer
	if len(body) > 0 {
		b = unsafe.Pointer(&body[0])
	}
	rc := C.wire_write(w.entity, w.typ, unsafe.Pointer(&head[0]), C.size_t(len(head)), b, C.size_t(len(body)))
	if rc != C.DDS_RETCODE_OK {
		return codeError(rc)
	}
	return nil
}

func (w writer) close() {
	C.dds_delete(w.entity)
	C.dds_delete(w.topic)
}

func newTopic(participant C.dds_entity_t, topic, typ string) (C.dds_entity_t, *C.struct_ddsi_sertype, error) {
	name, ctype := C.CString(topic), C.CString(typ)
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(ctype))
	var t *C.struct_ddsi_sertype
	entity := C.wire_create_topic(participant, name, ctype, &t)
	if entity < 0 {
		return 0, nil, fmt.Errorf("create topic %s: %w", topic, codeError(entity))
	}
	return entity, t, nil
}

func newQoS(q ros.QoS, userData string, readerCache int) *C.dds_qos_t {
	w := wireQoS(q)
	var data *C.char
	if userData != "" {
		data = C.CString(userData)
		defer C.free(unsafe.Pointer(data))
	}
	return C.wire_make_qos(&w, data, C.int32_t(readerCache))
}
