package cyclone

// #include <stdlib.h>
// #include "wire.h"
import "C"

import (
	"fmt"
	"slices"
	"strings"
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
	others map[msgs.Gid][]msgs.NodeEntitiesInfo // by participant, this one included
	crowd  int                                  // number of others at which those that left are forgotten
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
	if err := d.announce(true, nil, nil); err != nil {
		d.close()
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
	if len(d.others) >= d.crowd { // each command of ros2 is a participant that comes and goes
		if _, err := d.alive(); err == nil {
			d.crowd = 2*len(d.others) + 16
		}
	}
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

// owner is the node that an endpoint belongs to, as its participant told; "" where it did not.
func (d *discovery) owner(endpoint msgs.Gid) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, nodes := range d.others {
		for _, n := range nodes {
			if slices.Contains(n.WriterGidSeq, endpoint) || slices.Contains(n.ReaderGidSeq, endpoint) {
				return fullName(n)
			}
		}
	}
	return ""
}

// fullName is a node's name with its namespace.
func fullName(n msgs.NodeEntitiesInfo) string {
	return strings.TrimSuffix(n.NodeNamespace, "/") + "/" + n.NodeName
}

// nodes are those of participants that are alive, this one included.
func (d *discovery) nodes() ([]msgs.NodeEntitiesInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	alive, err := d.alive()
	if err != nil {
		return nil, err
	}
	var nodes []msgs.NodeEntitiesInfo
	for _, g := range alive {
		nodes = append(nodes, d.others[g]...)
	}
	return nodes, nil
}

// alive lists the participants that are and forgets what others told. d.mu is held since before the list is
// made: what a participant tells that comes meanwhile must not be forgotten, since it tells it once.
func (d *discovery) alive() ([]msgs.Gid, error) {
	var list *C.dds_guid_t
	n := C.graph_participants(d.participant, &list)
	if n < 0 {
		return nil, fmt.Errorf("cyclone: list participants: %w", codeError(n))
	}
	defer C.free(unsafe.Pointer(list))
	gids := make([]msgs.Gid, 0, n)
	others := make(map[msgs.Gid][]msgs.NodeEntitiesInfo, n)
	for _, guid := range unsafe.Slice(list, n) {
		g := gidOf(guid)
		gids = append(gids, g)
		if told, ok := d.others[g]; ok {
			others[g] = told
		}
	}
	d.others = others
	return gids, nil
}
