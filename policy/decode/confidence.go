package decode

import (
	"errors"
	"fmt"
)

// ErrConfidence is what every *ConfidenceError is.
var ErrConfidence = errors.New("confidence cannot be used")

// ConfidenceError says that a decoded chunk cannot be trusted: NaN logits come
// out of an argmax as bin 0, which is a plausible pose.
type ConfidenceError struct {
	Row, Position int
	Confidence    float32
}

func (e *ConfidenceError) Error() string {
	return fmt.Sprintf("confidence of row %d, position %d is %g, must be in (0, 1]; the chunk is refused: the network gave no usable numbers", e.Row, e.Position, e.Confidence)
}

// Unwrap returns ErrConfidence.
func (e *ConfidenceError) Unwrap() error { return ErrConfidence }

// CheckConfidence refuses (with a *ConfidenceError) a confidence that is NaN,
// outside [0, 1], or 0 at a position that was neither given nor warm-started.
// confidence has shape B,L.
func CheckConfidence(confidence []float32, in *Inputs) error {
	if n := in.Batch * in.Positions; len(confidence) != n {
		return fmt.Errorf("decode: %d confidences, want %d", len(confidence), n)
	}
	for i, c := range confidence {
		set := in.Known[i] >= 0 || in.Initial[i] >= 0
		if !(c >= 0 && c <= 1) || c == 0 && !set {
			return &ConfidenceError{Row: i / in.Positions, Position: i % in.Positions, Confidence: c}
		}
	}
	return nil
}
