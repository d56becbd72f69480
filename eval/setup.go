package eval

import (
	"fmt"
	"maps"
	"slices"
)

// Schema is the version of what a run's directory holds.
const Schema = 1

// Setup is everything that Records depend on besides their Keys and the program.
type Setup struct {
	Schema int `json:"schema"`
	// Policy is the bundle's name, or "expert" or "still".
	Policy string `json:"policy"`
	// Bundle is the Digest of the bundle's manifest.
	Bundle string `json:"bundle,omitempty"`
	// Decoder is the named way to decode, where one was asked for.
	Decoder string `json:"decoder,omitempty"`
	// Instructions are "right" or "wrong".
	Instructions string `json:"instructions"`
	// Latency is what String of one gives, Every the rows between two observations.
	Latency string `json:"latency"`
	Every   int    `json:"every"`
	// Servo is what the drives add, empty for nothing.
	Servo string `json:"servo,omitempty"`
	// Pictures is the size that they are rendered in and the samples of a pixel,
	// "96x96/2"; empty without a bundle.
	Pictures string `json:"pictures,omitempty"`
	// Parameters are the node's that count and are not at their defaults.
	Parameters map[string]string `json:"parameters,omitempty"`
}

// Differences says what differs in b, a line for each field.
func (s Setup) Differences(b Setup) (list []string) {
	compare := func(name, was, is string) {
		if was != is {
			list = append(list, fmt.Sprintf("%s is %q, was %q", name, is, was))
		}
	}
	compare("schema", fmt.Sprint(s.Schema), fmt.Sprint(b.Schema))
	compare("policy", s.Policy, b.Policy)
	compare("the bundle's digest", s.Bundle, b.Bundle)
	compare("decoder", s.Decoder, b.Decoder)
	compare("instructions", s.Instructions, b.Instructions)
	compare("latency", s.Latency, b.Latency)
	compare("every", fmt.Sprint(s.Every), fmt.Sprint(b.Every))
	compare("servo", s.Servo, b.Servo)
	compare("pictures", s.Pictures, b.Pictures)
	names := maps.Clone(s.Parameters)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, b.Parameters)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, before := s.Parameters[name]
		is, now := b.Parameters[name]
		if !before {
			was = "its default"
		}
		if !now {
			is = "its default"
		}
		compare("parameter "+name, was, is)
	}
	return list
}
