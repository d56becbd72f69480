package onnx

import pb "github.com/advancedclimatesystems/gonnx/onnx"

// Attr is an attribute of a node.
type Attr struct{ proto *pb.AttributeProto }

// AttrInt returns an integer attribute, such as axis.
func AttrInt(name string, v int) Attr {
	return Attr{&pb.AttributeProto{Name: name, Type: pb.AttributeProto_INT, I: int64(v)}}
}

// AttrInts returns a list of integers, such as perm.
func AttrInts(name string, v ...int) Attr {
	a := &pb.AttributeProto{Name: name, Type: pb.AttributeProto_INTS}
	for _, x := range v {
		a.Ints = append(a.Ints, int64(x))
	}
	return Attr{a}
}

// AttrFloat returns a float attribute, such as epsilon.
func AttrFloat(name string, v float32) Attr {
	return Attr{&pb.AttributeProto{Name: name, Type: pb.AttributeProto_FLOAT, F: v}}
}

// AttrString returns a string attribute, such as reduction.
func AttrString(name, v string) Attr {
	return Attr{&pb.AttributeProto{Name: name, Type: pb.AttributeProto_STRING, S: []byte(v)}}
}

func subgraphAttr(name string, body *Graph) *pb.AttributeProto {
	return &pb.AttributeProto{Name: name, Type: pb.AttributeProto_GRAPH, G: body.scope.proto}
}
