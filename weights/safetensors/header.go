package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"
)

// parseHeader reads the JSON header of a file with data bytes of tensors after
// it; offsets in the result count from there. It refuses what the reference
// refuses (bytes that no tensor or two tensors cover, sizes that do not fit the
// type, overflow, text that is not UTF-8) and, beyond it, names and keys that
// occur twice and keys it does not know.
func parseHeader(raw []byte, data int64) (map[string]Tensor, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("the header is not UTF-8")
	}
	if len(raw) == 0 || raw[0] != '{' {
		return nil, errors.New("the header does not start with {")
	}
	p := &parser{json.NewDecoder(bytes.NewReader(raw))}
	p.UseNumber()
	tensors := map[string]Tensor{}
	err := p.object(func(name string) error {
		if name == "__metadata__" {
			return p.object(func(string) error { _, err := p.text(); return err })
		}
		t, err := p.tensor()
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		t.name = name
		tensors[name] = t
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the header: %w", err)
	}
	if _, err := p.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the header goes on after its closing brace")
	}
	return tensors, checkCover(tensors, data)
}

// parseIndex reads the weight_map of an index and passes over its other keys.
func parseIndex(raw []byte) (map[string]string, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("it is not UTF-8")
	}
	p := &parser{json.NewDecoder(bytes.NewReader(raw))}
	index := map[string]string{}
	err := p.object(func(key string) error {
		if key != "weight_map" {
			var skipped json.RawMessage
			return p.Decode(&skipped)
		}
		return p.object(func(name string) (err error) {
			index[name], err = p.text()
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if _, err := p.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it goes on after its closing brace")
	}
	if len(index) == 0 {
		return nil, errors.New("it has no weight_map")
	}
	return index, nil
}

// checkCover makes sure that the tensors lie one after the other and end where
// the file ends.
func checkCover(tensors map[string]Tensor, data int64) error {
	order := make([]Tensor, 0, len(tensors))
	for _, t := range tensors {
		order = append(order, t)
	}
	slices.SortFunc(order, func(a, b Tensor) int {
		if a.begin != b.begin {
			return compare(a.begin, b.begin)
		}
		if a.end != b.end {
			return compare(a.end, b.end)
		}
		return bytes.Compare([]byte(a.name), []byte(b.name))
	})
	at := int64(0)
	for _, t := range order {
		switch {
		case t.begin < at:
			return fmt.Errorf("tensor %q starts at %d, inside the one before, which ends at %d", t.name, t.begin, at)
		case t.begin > at:
			return fmt.Errorf("tensor %q starts at %d and leaves a hole from %d", t.name, t.begin, at)
		case t.end > data:
			return fmt.Errorf("tensor %q ends at %d, the file has %d bytes of data", t.name, t.end, data)
		}
		at = t.end
	}
	if at != data {
		return fmt.Errorf("the tensors end at %d, the file has %d bytes of data", at, data)
	}
	return nil
}

func compare(a, b int64) int {
	if a < b {
		return -1
	}
	return 1
}

// parser reads JSON token by token, since encoding/json keeps the last of two
// equal keys without a word.
type parser struct{ *json.Decoder }

// object calls field for each key of an object, which must read the value.
func (p *parser) object(field func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.More() {
		key, err := p.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%q occurs twice", key)
		}
		seen[key] = true
		if err := field(key); err != nil {
			return err
		}
	}
	return p.delim('}')
}

func (p *parser) tensor() (Tensor, error) {
	var t Tensor
	var offsets []int64
	have := map[string]bool{}
	err := p.object(func(key string) (err error) {
		have[key] = true
		switch key {
		case "dtype":
			var text string
			if text, err = p.text(); err == nil {
				t.DType = DType(text)
			}
		case "shape":
			t.Shape, err = p.ints()
		case "data_offsets":
			offsets, err = p.ints()
		default:
			err = errors.New("is not a key of a tensor")
		}
		if err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if !have[key] {
			return t, fmt.Errorf("has no %q", key)
		}
	}
	size, ok := t.DType.size()
	if !ok {
		return t, fmt.Errorf("dtype %q is unknown", t.DType)
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] {
		return t, fmt.Errorf("data_offsets %v are not a beginning and an end", offsets)
	}
	t.begin, t.end = offsets[0], offsets[1]
	bytes := size
	for _, d := range t.Shape {
		if d > 0 && bytes > math.MaxInt64/d {
			return t, fmt.Errorf("shape %v overflows", t.Shape)
		}
		bytes *= d
	}
	if bytes != t.end-t.begin {
		return t, fmt.Errorf("shape %v of %s needs %d bytes, data_offsets give %d", t.Shape, t.DType, bytes, t.end-t.begin)
	}
	return t, nil
}

// ints reads a list of integers from 0 to 2^63-1.
func (p *parser) ints() ([]int64, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	list := []int64{}
	for p.More() {
		token, err := p.next()
		if err != nil {
			return nil, err
		}
		number, ok := token.(json.Number)
		if !ok {
			return nil, fmt.Errorf("%v is not a number", token)
		}
		n, err := number.Int64()
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s is not a size", number)
		}
		list = append(list, n)
	}
	return list, p.delim(']')
}

// next is Token, to which the end of the header is an error.
func (p *parser) next() (json.Token, error) {
	token, err := p.Token()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	return token, err
}

func (p *parser) text() (string, error) {
	token, err := p.next()
	if err != nil {
		return "", err
	}
	text, ok := token.(string)
	if !ok {
		return "", fmt.Errorf("%v is not a string", token)
	}
	return text, nil
}

func (p *parser) delim(want json.Delim) error {
	token, err := p.next()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v where %v is expected", token, want)
	}
	return nil
}
