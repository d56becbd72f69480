package rostest

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc64"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// draws is the number of random messages of each type.
const draws = 20

// topicOf is a topic's or service's name for a type.
func topicOf(typ string) string { return "types/" + strings.ReplaceAll(typ, "/", "_") }

// everyType sends random messages of each type to a peer, which decodes them, encodes what it has got and sends
// that back.
func everyType(f *fixture) {
	deep := ros.QoS{Depth: draws}
	var s script
	for _, typ := range msgs.Types() {
		if strings.Contains(typ, "/msg/") {
			s.Recode = append(s.Recode, endpoint{Topic: topicOf(typ), Type: typ, QoS: deep})
		}
	}
	peer, n := f.peer(s), f.node("n")
	var back []chan []byte
	var out []ros.Publisher
	for _, e := range s.Recode {
		got := make(chan []byte, draws)
		if _, err := n.Subscribe(e.Topic+"_back", e.Type, deep, func(raw []byte, _ time.Time) { got <- bytes.Clone(raw) }); err != nil {
			f.Fatal(err)
		}
		p, err := n.Advertise(e.Topic, e.Type, deep)
		if err != nil {
			f.Fatal(err)
		}
		back, out = append(back, got), append(out, p)
	}
	peer.found(len(s.Recode), len(s.Recode))
	for i, e := range s.Recode {
		Wait(f, e.Type+" is matched", func() bool { return out[i].MatchedSubscriptions() == 1 })
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		for range draws {
			sent := RandomMessage(rng, e.Type)
			raw, err := msgs.Marshal(sent)
			if err != nil {
				f.Fatal(err)
			}
			f.publish(out[i], raw)
			f.same(sent, raw, Receive(f, e.Type+" comes back", back[i]))
		}
	}
}

// everyService calls a service of each type with random requests. The peer's reply is drawn from the request as it
// decoded it, so both ways are seen.
func everyService(f *fixture) {
	var s script
	for _, half := range msgs.Types() {
		if typ, request := strings.CutSuffix(half, "_Request"); request {
			s.Answer = append(s.Answer, endpoint{Topic: topicOf(typ), Type: typ})
		}
	}
	f.peer(s)
	n := f.node("n")
	for i, e := range s.Answer {
		c, err := n.Client(e.Topic, e.Type)
		if err != nil {
			f.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(uint64(i), 2))
		for range draws {
			request, err := msgs.Marshal(RandomMessage(rng, e.Type+"_Request"))
			if err != nil {
				f.Fatal(err)
			}
			want, err := randomReply(e.Type, request)
			if err != nil {
				f.Fatal(err)
			}
			sent, err := decode(e.Type+"_Response", want)
			if err != nil {
				f.Fatal(err)
			}
			f.same(sent, want, f.call(c, request))
		}
	}
}

// call calls until there is an answer; see reach.
func (f *fixture) call(c ros.Client, request []byte) (reply []byte) {
	f.Helper()
	Wait(f, "a reply", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		var err error
		reply, err = c.Call(ctx, request)
		if err != nil && ctx.Err() == nil {
			f.Fatal(err)
		}
		return err == nil
	})
	return reply
}

// same compares a message that was sent as raw with bytes that came: the bytes, and the values as Go prints them,
// which owes the codec nothing on the side that was sent. RTPS pads to a multiple of four.
func (f *fixture) same(sent msgs.Message, raw, got []byte) {
	f.Helper()
	if !bytes.HasPrefix(got, raw) || len(got)-len(raw) > 3 {
		f.Errorf("%s: % x was sent, % x came", sent.ROSType(), raw, got)
		return
	}
	came, err := decode(sent.ROSType(), got)
	if err != nil {
		f.Errorf("%s: %v", sent.ROSType(), err)
		return
	}
	if a, b := fmt.Sprintf("%+v", sent), fmt.Sprintf("%+v", came); a != b {
		f.Errorf("%s: %s was sent, %s came", sent.ROSType(), a, b)
	}
}

func decode(typ string, raw []byte) (msgs.Message, error) {
	m, ok := msgs.New(typ)
	if !ok {
		return nil, fmt.Errorf("no type %s", typ)
	}
	return m, msgs.Unmarshal(raw, m)
}

// recoded is what decoding and encoding make of a message; nothing where it does not decode.
func recoded(typ string, raw []byte) []byte {
	m, err := decode(typ, raw)
	if err != nil {
		return nil
	}
	raw, err = msgs.Marshal(m)
	if err != nil {
		return nil
	}
	return raw
}

// randomReply draws a reply of a service from the request's bytes.
func randomReply(typ string, request []byte) ([]byte, error) {
	seed := crc64.Checksum(request, crc64.MakeTable(crc64.ECMA))
	return msgs.Marshal(RandomMessage(rand.New(rand.NewPCG(seed, 3)), typ+"_Response"))
}

// RandomMessage draws a message of one of [msgs.Types]: short sequences and strings, all floating-point numbers,
// NaN among them.
func RandomMessage(rng *rand.Rand, typ string) msgs.Message {
	m, _ := msgs.New(typ)
	randomValue(rng, reflect.ValueOf(m).Elem(), "")
	return m
}

// randomValue fills in any value that messages have. The tag of a field tells its bound.
func randomValue(rng *rand.Rand, v reflect.Value, tag reflect.StructTag) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			randomValue(rng, v.Field(i), v.Type().Field(i).Tag)
		}
	case reflect.Slice:
		most := 5
		if strings.HasSuffix(tag.Get("ros"), "[<=1]") {
			most = 1
		}
		n := rng.IntN(most + 1)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			randomValue(rng, v.Index(i), "")
		}
	case reflect.Array:
		for i := range v.Len() {
			randomValue(rng, v.Index(i), "")
		}
	case reflect.String:
		text := make([]rune, rng.IntN(20))
		for i := range text {
			text[i] = []rune("aZ09_ /é漢🤖")[rng.IntN(10)]
		}
		v.SetString(string(text))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 1)
	case reflect.Float64:
		special := []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64}
		if i := rng.IntN(2 * len(special)); i < len(special) {
			v.SetFloat(special[i])
		} else {
			v.SetFloat(rng.NormFloat64())
		}
	default:
		if v.CanInt() {
			v.SetInt(int64(rng.Uint64()))
		} else {
			v.SetUint(rng.Uint64())
		}
	}
}
