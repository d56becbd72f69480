package msgs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/ddvla/ddvla/tools/npm"
)

// Every type, random values: what we write is read by Foxglove's JavaScript
// reader with our definition, to the same values; what its writers make of them,
// little and big endian, is read by us to the same message. (Its writers cut
// strings that are not ASCII, counting characters instead of bytes, so those go
// one way only.)
func TestForeignReaderAndWriterAgree(t *testing.T) {
	const perType = 12 // half of them ASCII
	type question struct {
		Definition string `json:"definition"`
		CDR        []byte `json:"cdr"`
	}
	var sent []Message
	var cdrs [][]byte
	var in bytes.Buffer
	out := json.NewEncoder(&in)
	for _, rosType := range Types() {
		definition, ok := Definition(rosType)
		if !ok {
			t.Fatalf("no definition of %s", rosType)
		}
		for i := range perType {
			text := asciiText()
			if i%2 == 1 {
				text = unicodeText()
			}
			m := random(rosType, text).Example(i)
			cdr, err := Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := out.Encode(question{definition, cdr}); err != nil {
				t.Fatal(err)
			}
			sent, cdrs = append(sent, m), append(cdrs, cdr)
		}
	}
	answers := json.NewDecoder(bytes.NewReader(npm.Run(t, in.Bytes(), "testdata/peer.js")))
	answers.UseNumber()
	for i, m := range sent {
		var a struct {
			Value       map[string]any
			Little, Big string
			Left        int
		}
		if err := answers.Decode(&a); err != nil {
			t.Fatal(err)
		}
		sameValue(t, m.ROSType(), reflect.ValueOf(m).Elem(), a.Value)
		if a.Left != 0 {
			t.Errorf("%s: the reader left %d bytes", m.ROSType(), a.Left)
		}
		if i%2 == 1 {
			continue
		}
		little, err := base64.StdEncoding.DecodeString(a.Little)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(little, cdrs[i]) {
			t.Errorf("%s: we wrote %x, the other %x", m.ROSType(), cdrs[i], little)
		}
		big, err := base64.StdEncoding.DecodeString(a.Big)
		if err != nil {
			t.Fatal(err)
		}
		if big[1] != 0 {
			t.Fatalf("not big endian: %x", big[:4])
		}
		for _, data := range [][]byte{little, big} {
			decoded, _ := New(m.ROSType())
			if err := Unmarshal(data, decoded); err != nil {
				t.Errorf("%v\n%x", err, data)
				continue
			}
			// Encoded again, since NaN equals nothing.
			if again, err := Marshal(decoded); err != nil || !bytes.Equal(again, cdrs[i]) {
				t.Errorf("%s: read as %x (%v), want %x", m.ROSType(), again, err, cdrs[i])
			}
		}
	}
}
