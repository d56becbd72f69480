package sim

import (
	"math/rand/v2"
	"strings"
)

// Phrases returns the forms of the instruction, in which %s is a colour.
func Phrases() []string {
	var out []string
	for _, verb := range []string{"reach", "reach for", "move to", "go to", "touch", "point at", "hover over"} {
		for _, noun := range []string{"cube", "block", "one"} {
			out = append(out, verb+" the %s "+noun)
		}
	}
	return out
}

// Instruction draws a phrase that names colour c.
func Instruction(rng *rand.Rand, c Colour) string {
	phrases := Phrases()
	return strings.Replace(phrases[rng.IntN(len(phrases))], "%s", string(c), 1)
}

// NamedColour returns the colour that an instruction names, the first where it
// names several.
func NamedColour(instruction string) (Colour, bool) {
	for _, word := range strings.Fields(strings.ToLower(instruction)) {
		for _, c := range Colours() {
			if strings.Trim(word, ".,;:!?\"'") == string(c) {
				return c, true
			}
		}
	}
	return "", false
}
