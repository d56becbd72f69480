package cyclone

// #include <stdlib.h>
// #include "wire.h"
import "C"

import (
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// discovery tells the graph which node our readers and writers belong to, on topic ros_discovery_info,
// and keeps what other participants tell there. DDS itself knows participants and endpoints, not nodes.
type discovery struct {
	participant C.dds_entity_t
	r           *reader

	mu     sync.Mutex // also orders what is published
	w      writer
	self   msgs.ParticipantEntitiesInfo
	buf    []byte
	others map[msgs.Gid][]msgs.NodeEntitiesInfo
}

func newDiscovery(participant C.dds_entity_t, names *ros.Names) (*discovery, error) {
	const topic = "ros_discovery_info"
	typ, err := wireType("rmw_dds_common/msg/ParticipantEntitiesInfo", "msg", "")
	if err != nil {
		return nil, err
	}
	d := &discovery{participant: participant, others: make(map[msgs.Gid][]msgs.NodeEntitiesInfo)}
	if d.self.Gid, err = gid(participant); err != nil {
		return nil, err
	}
	d.self.NodeEntitiesInfoSeq = []msgs.NodeEntitiesInfo{{NodeNamespace: names.Namespace(), NodeName: names.Node()}}
	if d.w, err = newWriter(participant, topic, typ, ros.LatchedQoS(), ""); err != nil {
		return nil, err
	}
	// Every participant writes here, so the last messages of all of them are wanted.
	all := ros.QoS{Durability: ros.TransientLocal, History: ros.KeepAll}
	if d.r, err = newReader(participant, topic, typ, all, all.Queue(), "", d.receive); err != nil {
		d.w.close()
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.publish(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *discovery) close() {
	d.r.close()
	d.w.close()
}

func (d *discovery) receive(m message) {
	var info msgs.ParticipantEntitiesInfo
	if msgs.Unmarshal(m.data, &info) != nil {
		return // of another ROS version, whose Gid has another size
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others[info.Gid] = info.NodeEntitiesInfoSeq
}

// publish tells the present state; d.mu is held.
func (d *discovery) publish() error {
	buf, err := msgs.AppendMarshal(d.buf[:0], &d.self)
	if err == nil {
		d.buf = buf
		err = d.w.write(buf, nil)
	}
	if err != nil {
		return fmt.Errorf("cyclone: ros_discovery_info: %w", err)
	}
	return nil
}

// gid is an entity's GUID as rmw passes it on: in the first 16 of 24 bytes.
func gid(entity C.dds_entity_t) (g msgs.Gid, err error) {
	var guid C.dds_guid_t
	if rc := C.dds_get_guid(entity, &guid); rc != C.DDS_RETCODE_OK {
		return g, fmt.Errorf("guid: %w", codeError(rc))
	}
	return gidOf(guid), nil
}

func gidOf(guid C.dds_guid_t) (g msgs.Gid) {
	for i, b := range guid.v {
		g.Data[i] = byte(b)
	}
	return g
}

// announce adds endpoints to the node, or with on false takes them away.
func (d *discovery) announce(on bool, ws []writer, rs []*reader) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := &d.self.NodeEntitiesInfoSeq[0]
	edit := removeGid
	if on {
		edit = addGid
	}
	for _, w := range ws {
		if err := edit(&n.WriterGidSeq, w.entity); err != nil {
			return err
		}
	}
	for _, r := range rs {
		if err := edit(&n.ReaderGidSeq, r.entity); err != nil {
			return err
		}
	}
	return d.publish()
}

func addGid(list *[]msgs.Gid, entity C.dds_entity_t) error {
	g, err := gid(entity)
	if err == nil {
		*list = append(*list, g)
	}
	return err
}

func removeGid(list *[]msgs.Gid, entity C.dds_entity_t) error {
	g, err := gid(entity)
	*list = slices.DeleteFunc(*list, func(o msgs.Gid) bool { return o == g })
	return err
}

// nodes are those of participants that are alive, this one included.
func (d *discovery) nodes() ([]msgs.NodeEntitiesInfo, error) {
	var list *C.dds_guid_t
	n := C.graph_participants(d.participant, &list)
	if n < 0 {
		return nil, fmt.Errorf("cyclone: list participants: %w", codeError(n))
	}
	defer C.free(unsafe.Pointer(list))
	d.mu.Lock()
	defer d.mu.Unlock()
	alive := make(map[msgs.Gid][]msgs.NodeEntitiesInfo, n)
	var nodes []msgs.NodeEntitiesInfo
	for _, guid := range unsafe.Slice(list, n) {
		g := gidOf(guid)
		alive[g] = d.others[g]
		nodes = append(nodes, d.others[g]...)
	}
	d.others = alive
	return nodes, nil
}
