package text

/*
#cgo pkg-config: sentencepiece
#cgo CXXFLAGS: -std=c++17 -O2
#include "spm.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// pieces is a SentencePiece model in libsentencepiece, which both Llama's own
// code and its fast tokenizers follow: dummy prefix, byte fallback, BPE merges by
// score.
type pieces struct {
	processor unsafe.Pointer
	facts     C.ddvla_spm_facts
}

// openPieces reads a serialized model. The processor is freed with the result.
func openPieces(model []byte) (*pieces, error) {
	if len(model) == 0 {
		return nil, errors.New("is empty")
	}
	p := &pieces{}
	var message [256]C.char
	p.processor = C.ddvla_spm_open((*C.char)(unsafe.Pointer(unsafe.SliceData(model))), C.size_t(len(model)), &p.facts, &message[0], C.size_t(len(message)))
	if p.processor == nil {
		return nil, fmt.Errorf("is no SentencePiece model: %s", C.GoString(&message[0]))
	}
	runtime.AddCleanup(p, func(processor unsafe.Pointer) { C.ddvla_spm_close(processor) }, p.processor)
	return p, nil
}

// encode appends to ids those of s, without BOS, and returns how many s has,
// which may be more than the room that the slice was given.
func (p *pieces) encode(s string, ids []int32) (int, error) {
	if s == "" {
		return 0, nil
	}
	var message [256]C.char
	n := C.ddvla_spm_encode(p.processor, (*C.char)(unsafe.Pointer(unsafe.StringData(s))), C.size_t(len(s)),
		(*C.int32_t)(unsafe.Pointer(unsafe.SliceData(ids))), C.size_t(len(ids)), &message[0], C.size_t(len(message)))
	runtime.KeepAlive(p)
	if n < 0 {
		return 0, fmt.Errorf("libsentencepiece: %s", C.GoString(&message[0]))
	}
	return int(n), nil
}

// piece returns the text of an id, a word boundary as "▁"; ok is false where the
// model has no such id.
func (p *pieces) piece(id int64) (text string, ok bool) {
	var room [1024]C.char
	if id < 0 || id >= int64(p.facts.pieces) {
		return "", false
	}
	n := C.ddvla_spm_piece(p.processor, C.int32_t(id), &room[0], C.size_t(len(room)))
	runtime.KeepAlive(p)
	if n < 0 {
		return "", false
	}
	return C.GoStringN(&room[0], C.int(n)), true
}
