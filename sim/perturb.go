package sim

import (
	"fmt"
	"strings"
)

// Perturbation is what an episode changes against those that demonstrations are
// made in, to see how far a policy carries. The zero value changes nothing.
type Perturbation struct {
	// Language asks in phrases that no demonstration uses.
	Language bool
	// Light moves the lamp, dims or brightens it and tints it.
	Light bool
	// Texture gives table and floor other colours and another pattern.
	Texture bool
	// Camera shifts and turns the three cameras a little, each on its own.
	Camera bool
	// Distractors adds things that no instruction names.
	Distractors bool
}

// Perturbations returns the names of the single perturbations in a fixed order.
func Perturbations() []string {
	return []string{"language", "light", "texture", "camera", "distractors"}
}

// fields returns the switches in the order of Perturbations.
func (p *Perturbation) fields() []*bool {
	return []*bool{&p.Language, &p.Light, &p.Texture, &p.Camera, &p.Distractors}
}

// Vision names the perturbation of all that only cameras see, light+texture+camera.
const Vision = "vision"

// ParsePerturbation reads names joined by "+", "none", "all" or [Vision].
func ParsePerturbation(s string) (Perturbation, error) {
	var p Perturbation
	switch s {
	case "", "none":
		return p, nil
	case "all":
		for _, f := range p.fields() {
			*f = true
		}
		return p, nil
	case Vision:
		return Perturbation{Light: true, Texture: true, Camera: true}, nil
	}
next:
	for name := range strings.SplitSeq(s, "+") {
		for i, known := range Perturbations() {
			if name == known {
				*p.fields()[i] = true
				continue next
			}
		}
		return p, fmt.Errorf("sim: perturbation %q is not known; it is none, vision, all, or some of %s joined by +",
			name, strings.Join(Perturbations(), ", "))
	}
	return p, nil
}

// String returns the form that ParsePerturbation reads: "light+camera", "none".
func (p Perturbation) String() string {
	var on []string
	for i, name := range Perturbations() {
		if *p.fields()[i] {
			on = append(on, name)
		}
	}
	if len(on) == 0 {
		return "none"
	}
	return strings.Join(on, "+")
}
