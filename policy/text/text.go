// Package text turns an instruction into the prompt the policy was trained on
// and the prompt into token ids.
//
// The template, the ids that must frame it and the length the graph takes come
// from the bundle's manifest; the vocabulary is the checkpoint's own
// tokenizer.model. The graph gets the ids as prompt_ids, and the operator is
// shown the text.
package text

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Errors about an instruction, for a caller that answers whoever gave it.
var (
	// ErrEmpty says that an instruction has nothing but white space.
	ErrEmpty = errors.New("instruction is empty")
	// ErrTooLong says that a prompt has more tokens than the policy takes.
	ErrTooLong = errors.New("instruction is too long")
	// ErrEncoding says that an instruction is not UTF-8.
	ErrEncoding = errors.New("instruction is not valid UTF-8")
)

const (
	// maxModel bounds the file that is read; Llama's has half a megabyte.
	maxModel = 64 << 20
	// maxInstruction bounds in bytes what is tokenised at all, since the time it
	// takes grows with it and instructions come from outside.
	maxInstruction = 16 << 10
)

// Tokenizer makes prompts. It is safe for concurrent use.
type Tokenizer struct {
	pieces *pieces
	prompt bundle.Prompt
	tokens bundle.Tokens
}

// Open reads the SentencePiece model at path and refuses one that does not fit
// the manifest's token ids.
func Open(path string, prompt bundle.Prompt, tokens bundle.Tokens) (*Tokenizer, error) {
	t, err := open(path, prompt, tokens)
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", path, err)
	}
	return t, nil
}

func open(path string, prompt bundle.Prompt, tokens bundle.Tokens) (*Tokenizer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	model, err := io.ReadAll(io.LimitReader(f, maxModel+1))
	if err != nil {
		return nil, err
	}
	if len(model) > maxModel {
		return nil, fmt.Errorf("is larger than %d bytes", maxModel)
	}
	return New(model, prompt, tokens)
}

// New is [Open] for a model that is in memory.
func New(model []byte, prompt bundle.Prompt, tokens bundle.Tokens) (*Tokenizer, error) {
	p, err := openPieces(model)
	if err != nil {
		return nil, err
	}
	n, bos, eos := int64(p.facts.pieces), int64(p.facts.bos), int64(p.facts.eos)
	switch {
	case n > tokens.ActionTokenBase:
		return nil, fmt.Errorf("has %d pieces, but tokens.action_token_base of the manifest is %d: it belongs to another policy", n, tokens.ActionTokenBase)
	case bos != tokens.BOS:
		return nil, fmt.Errorf("has BOS %d, but tokens.bos of the manifest is %d", bos, tokens.BOS)
	case eos != tokens.Stop:
		return nil, fmt.Errorf("has EOS %d, but tokens.stop of the manifest is %d", eos, tokens.Stop)
	case p.facts.is_unknown != 0:
		return nil, errors.New(`has no piece "▁", which ends every prompt; train it with the space as a piece of its own`)
	case int64(p.facts.empty) != tokens.Empty:
		return nil, fmt.Errorf("has the piece %q as %d, but tokens.empty of the manifest is %d", "▁", p.facts.empty, tokens.Empty)
	}
	return &Tokenizer{pieces: p, prompt: prompt, tokens: tokens}, nil
}

// Prompt returns the ids for the graph, BOS first and the empty token last, and
// the text they stand for. White space around the instruction is dropped, as in
// train/ddvla/prompt.py, and nothing else is changed but the case, as in openvla-oft
// (get_vla_action in experiments/robot/openvla_utils.py), which keeps the white space.
// Lower case is Go's, which is Python's for every character but İ and a Σ that
// ends a word. Text that spells a control token ("</s>") is ordinary text.
func (t *Tokenizer) Prompt(instruction string) (ids []int64, text string, err error) {
	if !utf8.ValidString(instruction) {
		return nil, "", fmt.Errorf("%w: %.60q", ErrEncoding, instruction)
	}
	instruction = strings.TrimSpace(instruction)
	if instruction == "" {
		return nil, "", fmt.Errorf("%w; say what the arms should do, for example %q", ErrEmpty, "pick up the red cube")
	}
	if len(instruction) > maxInstruction {
		return nil, "", fmt.Errorf("%w: it has %d bytes, at most %d are read; this policy takes %d tokens", ErrTooLong, len(instruction), maxInstruction, t.prompt.MaxTokens)
	}
	if t.prompt.Lowercase {
		instruction = strings.ToLower(instruction)
	}
	text = strings.Replace(t.prompt.Template, "{instruction}", instruction, 1)
	ids, err = t.encode(text)
	if err != nil {
		return nil, text, err
	}
	if len(ids) > t.prompt.MaxTokens {
		return nil, text, fmt.Errorf("%w: the prompt has %d tokens, this policy takes %d: %.120q", ErrTooLong, len(ids), t.prompt.MaxTokens, text)
	}
	return ids, text, nil
}

// encode frames the ids of text. The empty token is added unless it is there
// already: the released checkpoints saw it after the colon, where Llama's
// tokenizer leaves it out (openvla, predict_action in modeling_prismatic.py).
func (t *Tokenizer) encode(text string) ([]int64, error) {
	// A piece has at least a byte, or three for the dummy prefix alone; byte
	// fallback gives one id a byte.
	room := make([]int32, len(text)+8)
	n, err := t.pieces.encode(text, room)
	if err != nil {
		return nil, fmt.Errorf("prompt %.60q: %w", text, err)
	}
	if n > len(room) {
		return nil, fmt.Errorf("prompt %.60q: %d tokens from %d bytes", text, n, len(text))
	}
	ids := make([]int64, 0, n+2)
	ids = append(ids, t.tokens.BOS)
	for _, id := range room[:n] {
		ids = append(ids, int64(id))
	}
	if ids[len(ids)-1] != t.tokens.Empty {
		ids = append(ids, t.tokens.Empty)
	}
	return ids, nil
}

// Pieces returns what each id of a prompt stands for in the vocabulary, a word
// boundary as "▁" and a byte that has no piece of its own as "<0x0A>"; "" for an id
// beyond the vocabulary.
func (t *Tokenizer) Pieces(ids []int64) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i], _ = t.pieces.piece(id)
	}
	return texts
}
