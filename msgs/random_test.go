package msgs

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// rosTypes lists all types that New knows, sorted.
func rosTypes() []string {
	return []string{
		"builtin_interfaces/msg/Duration",
		"builtin_interfaces/msg/Time",
		"diagnostic_msgs/msg/DiagnosticArray",
		"diagnostic_msgs/msg/DiagnosticStatus",
		"diagnostic_msgs/msg/KeyValue",
		"geometry_msgs/msg/Point",
		"geometry_msgs/msg/Pose",
		"geometry_msgs/msg/PoseStamped",
		"geometry_msgs/msg/Quaternion",
		"geometry_msgs/msg/Twist",
		"geometry_msgs/msg/Vector3",
		"lifecycle_msgs/msg/State",
		"lifecycle_msgs/msg/Transition",
		"lifecycle_msgs/msg/TransitionDescription",
		"lifecycle_msgs/msg/TransitionEvent",
		"lifecycle_msgs/srv/ChangeState_Request",
		"lifecycle_msgs/srv/ChangeState_Response",
		"lifecycle_msgs/srv/GetAvailableStates_Request",
		"lifecycle_msgs/srv/GetAvailableStates_Response",
		"lifecycle_msgs/srv/GetAvailableTransitions_Request",
		"lifecycle_msgs/srv/GetAvailableTransitions_Response",
		"lifecycle_msgs/srv/GetState_Request",
		"lifecycle_msgs/srv/GetState_Response",
		"rcl_interfaces/msg/FloatingPointRange",
		"rcl_interfaces/msg/IntegerRange",
		"rcl_interfaces/msg/ListParametersResult",
		"rcl_interfaces/msg/Log",
		"rcl_interfaces/msg/Parameter",
		"rcl_interfaces/msg/ParameterDescriptor",
		"rcl_interfaces/msg/ParameterEvent",
		"rcl_interfaces/msg/ParameterValue",
		"rcl_interfaces/msg/SetParametersResult",
		"rcl_interfaces/srv/DescribeParameters_Request",
		"rcl_interfaces/srv/DescribeParameters_Response",
		"rcl_interfaces/srv/GetParameterTypes_Request",
		"rcl_interfaces/srv/GetParameterTypes_Response",
		"rcl_interfaces/srv/GetParameters_Request",
		"rcl_interfaces/srv/GetParameters_Response",
		"rcl_interfaces/srv/ListParameters_Request",
		"rcl_interfaces/srv/ListParameters_Response",
		"rcl_interfaces/srv/SetParametersAtomically_Request",
		"rcl_interfaces/srv/SetParametersAtomically_Response",
		"rcl_interfaces/srv/SetParameters_Request",
		"rcl_interfaces/srv/SetParameters_Response",
		"rmw_dds_common/msg/Gid",
		"rmw_dds_common/msg/NodeEntitiesInfo",
		"rmw_dds_common/msg/ParticipantEntitiesInfo",
		"rosgraph_msgs/msg/Clock",
		"sensor_msgs/msg/CameraInfo",
		"sensor_msgs/msg/CompressedImage",
		"sensor_msgs/msg/Image",
		"sensor_msgs/msg/JointState",
		"sensor_msgs/msg/RegionOfInterest",
		"std_msgs/msg/Bool",
		"std_msgs/msg/Float64MultiArray",
		"std_msgs/msg/Header",
		"std_msgs/msg/MultiArrayDimension",
		"std_msgs/msg/MultiArrayLayout",
		"std_msgs/msg/String",
		"std_srvs/srv/Empty_Request",
		"std_srvs/srv/Empty_Response",
		"std_srvs/srv/SetBool_Request",
		"std_srvs/srv/SetBool_Response",
		"std_srvs/srv/Trigger_Request",
		"std_srvs/srv/Trigger_Response",
		"trajectory_msgs/msg/JointTrajectory",
		"trajectory_msgs/msg/JointTrajectoryPoint",
	}
}

func TestNewKnowsEveryTypeByItsName(t *testing.T) {
	names := rosTypes()
	if !slices.IsSorted(names) {
		t.Error("rosTypes is not sorted")
	}
	for _, name := range names {
		m, ok := New(name)
		if !ok {
			t.Errorf("no type %s", name)
			continue
		}
		if m.ROSType() != name {
			t.Errorf("New(%q) is a %s", name, m.ROSType())
		}
	}
	if m, ok := New("std_msgs/msg/Nothing"); ok || m != nil {
		t.Error("New makes a message of an unknown type")
	}
}

// random draws a message of a type, with the given strings in it. NaN is the
// usual one, so that other languages can hold it.
func random(rosType string, text *rapid.Generator[string]) *rapid.Generator[Message] {
	return rapid.Custom(func(t *rapid.T) Message {
		m, ok := New(rosType)
		if !ok {
			t.Fatalf("no type %s", rosType)
		}
		rapid.Bool().Draw(t, "") // rapid wants a draw for messages without fields too
		fill(t, reflect.ValueOf(m).Elem(), "", text)
		return m
	})
}

// unicodeText draws UTF-8. A byte order mark at the start is dropped by
// JavaScript's decoder.
func unicodeText() *rapid.Generator[string] {
	return rapid.Map(rapid.StringN(-1, -1, 64), func(s string) string {
		return strings.TrimLeft(s, "\ufeff")
	})
}

func asciiText() *rapid.Generator[string] { return rapid.StringMatching(`[ -~]{0,64}`) }

func fill(t *rapid.T, v reflect.Value, tag reflect.StructTag, text *rapid.Generator[string]) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), v.Type().Field(i).Tag, text)
		}
	case reflect.Slice:
		most := 4
		if strings.HasSuffix(tag.Get("ros"), "[<=1]") {
			most = 1
		}
		n := rapid.IntRange(0, most).Draw(t, "length")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(t, v.Index(i), "", text)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), "", text)
		}
	case reflect.String:
		v.SetString(text.Draw(t, "string"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int32:
		v.SetInt(int64(rapid.Int32().Draw(t, "int32")))
	case reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "int64"))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Draw(t, "uint8")))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, "uint32")))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "uint64"))
	case reflect.Float64:
		v.SetFloat(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{
			0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, 5e-324,
		})).Draw(t, "float64"))
	default:
		t.Fatalf("no random %s", v.Type())
	}
}
