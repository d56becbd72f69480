package msgs

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// Definition returns the definition of a ROS type in the text form of .msg files
// that MCAP calls "ros2msg": its fields one per line, then for each type used in
// it, directly or not, a line of 80 equals signs, "MSG: package/Name" and that
// type's fields. It is false for a type that this package does not have.
//
// The text comes from the Go struct: field names in snake case, types by Go type
// or by the tag `ros:"..."` where ROS tells types apart that Go does not (byte,
// char, bounded strings and sequences). An array's tag with %d names fields of their
// own, numbered from 1.
func Definition(rosType string) (string, bool) {
	m, ok := New(rosType)
	if !ok {
		return "", false
	}
	var text strings.Builder
	queue := []Message{m}
	for i := 0; i < len(queue); i++ {
		if i > 0 {
			fmt.Fprintf(&text, "\n%s\nMSG: %s\n", strings.Repeat("=", 80), shortType(queue[i]))
		}
		t := reflect.TypeOf(queue[i]).Elem()
		for f := range t.NumField() {
			field := t.Field(f)
			if tag := field.Tag.Get("ros"); strings.Contains(tag, "%d") {
				for n := range field.Type.Len() {
					fmt.Fprintf(&text, "%s "+tag+"\n", elementType(field.Type.Elem()), n+1)
				}
				continue
			}
			fmt.Fprintf(&text, "%s %s\n", fieldType(field), fieldName(field.Name))
			if used := messageOf(field.Type); used != nil && !contains(queue, used) {
				queue = append(queue, used)
			}
		}
	}
	return text.String(), true
}

// shortType is "sensor_msgs/Image" for "sensor_msgs/msg/Image".
func shortType(m Message) string {
	return strings.Replace(m.ROSType(), "/msg/", "/", 1)
}

func contains(all []Message, m Message) bool {
	for _, other := range all {
		if other.ROSType() == m.ROSType() {
			return true
		}
	}
	return false
}

// messageOf returns a message of the type that a field holds, itself or as its
// elements, or nil if that is a plain one.
func messageOf(t reflect.Type) Message {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	m, _ := reflect.New(t).Interface().(Message)
	return m
}

// fieldType writes a field's type as a .msg file does.
func fieldType(f reflect.StructField) string {
	name, tagged := f.Tag.Lookup("ros")
	used := messageOf(f.Type)
	switch {
	case tagged && used != nil: // a bounded sequence, tagged without the package
		return shortType(used)[:strings.Index(shortType(used), "/")+1] + name
	case tagged:
		return name
	case f.Type.Kind() == reflect.Slice:
		return elementType(f.Type.Elem()) + "[]"
	case f.Type.Kind() == reflect.Array:
		return fmt.Sprintf("%s[%d]", elementType(f.Type.Elem()), f.Type.Len())
	}
	return elementType(f.Type)
}

func elementType(t reflect.Type) string {
	if m := messageOf(t); m != nil {
		return shortType(m)
	}
	return t.Kind().String() // Go's names of numbers, bool and string are ROS's
}

// fieldName turns a Go name into ROS's: "FrameID" becomes "frame_id". An
// underscore goes before a capital that follows a small letter, or that a small
// letter follows.
func fieldName(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
