package weights

import (
	"fmt"
	"io/fs"

	"github.com/ddvla/ddvla/policy/bundle"
	"google.golang.org/protobuf/encoding/protowire"
)

// maxTokenizer bounds tokenizer.model; Llama's has 500 kB.
const maxTokenizer = 64 << 20

// emptyPiece is the lone word boundary. OpenVLA's prompts end with it
// (modeling_prismatic.py appends id 29871).
const emptyPiece = "▁"

// emptyToken finds the id of the empty piece in tokenizer.model, a SentencePiece
// model, and returns it with the number of pieces.
func emptyToken(fsys fs.FS) (id int64, pieces int, err error) {
	const name = bundle.TokenizerFile
	raw, err := readFile(fsys, name, maxTokenizer)
	if err != nil {
		return 0, 0, err
	}
	id, pieces, ok := findPiece(raw, emptyPiece)
	switch {
	case !ok:
		return 0, 0, fmt.Errorf("%s is not a SentencePiece model", name)
	case id < 0:
		return 0, 0, fmt.Errorf("%s: none of its %d pieces is the lone word boundary %q", name, pieces, emptyPiece)
	}
	return id, pieces, nil
}

// findPiece walks a serialised sentencepiece.ModelProto, whose field 1 repeats
// the pieces in the order of their ids; field 1 of a piece is its text. id is -1
// where the piece is absent; ok is false where raw is no such message.
func findPiece(raw []byte, want string) (id int64, pieces int, ok bool) {
	id = -1
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return id, pieces, false
		}
		raw = raw[n:]
		if number != 1 {
			if n = protowire.ConsumeFieldValue(number, kind, raw); n < 0 {
				return id, pieces, false
			}
			raw = raw[n:]
			continue
		}
		piece, n := protowire.ConsumeBytes(raw)
		if kind != protowire.BytesType || n < 0 {
			return id, pieces, false
		}
		raw = raw[n:]
		text, valid := pieceText(piece)
		if !valid {
			return id, pieces, false
		}
		if text == want && id < 0 {
			id = int64(pieces)
		}
		pieces++
	}
	return id, pieces, pieces > 0
}

func pieceText(raw []byte) (string, bool) {
	text := ""
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return "", false
		}
		raw = raw[n:]
		n = protowire.ConsumeFieldValue(number, kind, raw)
		if n < 0 {
			return "", false
		}
		if number == 1 && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(raw)
			text = string(value)
		}
		raw = raw[n:]
	}
	return text, true
}
