package onnx

import (
	"fmt"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
	"google.golang.org/protobuf/proto"
)

const (
	opset     = 17
	irVersion = 8
	// contribDomain is that of ONNX Runtime's own operators.
	contribDomain = "com.microsoft"
	// maxModel is protobuf's limit on a message.
	maxModel = 2 << 30
)

// Marshal returns the model's bytes, or the first mistake made while building
// it. producer is recorded in the model.
func (g *Graph) Marshal(producer string) ([]byte, error) {
	m := g.scope.model
	if m.err != nil {
		return nil, m.err
	}
	if g.scope != m.root {
		return nil, fmt.Errorf("onnx: %q is the body of another graph", g.scope.proto.Name)
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.proto(producer, m.root.proto))
	if err != nil {
		return nil, fmt.Errorf("onnx: graph %q: %w", m.root.proto.Name, err)
	}
	if len(raw) >= maxModel {
		return nil, fmt.Errorf("onnx: graph %q has %d bytes, a model file holds less than %d; move constants to the store",
			m.root.proto.Name, len(raw), maxModel)
	}
	return raw, nil
}

func (m *model) proto(producer string, graph *pb.GraphProto) *pb.ModelProto {
	opsets := []*pb.OperatorSetIdProto{{Version: opset}}
	if m.contrib {
		opsets = append(opsets, &pb.OperatorSetIdProto{Domain: contribDomain, Version: 1})
	}
	return &pb.ModelProto{IrVersion: irVersion, ProducerName: producer, Graph: graph, OpsetImport: opsets}
}
