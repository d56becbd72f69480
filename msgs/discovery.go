package msgs

// Gid is a rmw_dds_common/msg/Gid: in Humble 24 bytes, of which DDS uses the
// first 16 for an entity's GUID.
type Gid struct {
	Data [24]byte `ros:"char[24]"`
}

func (*Gid) ROSType() string { return "rmw_dds_common/msg/Gid" }

func (m *Gid) CDR(s *Stream) { s.ByteArray(m.Data[:]) }

// NodeEntitiesInfo is a rmw_dds_common/msg/NodeEntitiesInfo: a ROS node and the
// DDS readers and writers that belong to it.
type NodeEntitiesInfo struct {
	NodeNamespace string `ros:"string<=256"`
	NodeName      string `ros:"string<=256"`
	ReaderGidSeq  []Gid
	WriterGidSeq  []Gid
}

func (*NodeEntitiesInfo) ROSType() string { return "rmw_dds_common/msg/NodeEntitiesInfo" }

func (m *NodeEntitiesInfo) CDR(s *Stream) {
	s.BoundedString(&m.NodeNamespace, 256)
	s.BoundedString(&m.NodeName, 256)
	Sequence(s, &m.ReaderGidSeq, 24)
	Sequence(s, &m.WriterGidSeq, 24)
}

// ParticipantEntitiesInfo is a rmw_dds_common/msg/ParticipantEntitiesInfo: the
// nodes in one DDS participant, as published on topic ros_discovery_info.
type ParticipantEntitiesInfo struct {
	Gid                 Gid
	NodeEntitiesInfoSeq []NodeEntitiesInfo
}

func (*ParticipantEntitiesInfo) ROSType() string { return "rmw_dds_common/msg/ParticipantEntitiesInfo" }

func (m *ParticipantEntitiesInfo) CDR(s *Stream) {
	m.Gid.CDR(s)
	Sequence(s, &m.NodeEntitiesInfoSeq, 16)
}
