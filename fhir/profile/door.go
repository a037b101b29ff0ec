package profile

import (
	"context"
	"fmt"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Mode says what a write makes of a resource that does not conform.
type Mode uint8

// The modes.
const (
	Off     Mode = iota // nothing is checked
	Warn                // whoever asks for an OperationOutcome is told; nothing is refused
	Enforce             // what does not conform is refused
)

var modes = map[string]Mode{"off": Off, "warn": Warn, "enforce": Enforce}

// UnmarshalText reads a mode by its name.
func (m *Mode) UnmarshalText(text []byte) error {
	v, ok := modes[string(text)]
	if !ok {
		return fmt.Errorf("%q is no mode: off, warn or enforce", text)
	}
	*m = v
	return nil
}

// String is the name of the mode.
func (m Mode) String() string {
	for name, v := range modes {
		if v == m {
			return name
		}
	}
	return "off"
}

// Door is what every write passes.
type Door struct {
	v    *Validator
	mode Mode
}

// Door makes the check of writes in one mode.
func (v *Validator) Door(m Mode) *Door { return &Door{v, m} }

// Check checks content that is about to be stored. advice is what the client may be told of content that is let in;
// wanted says that somebody will read it, without which Warn has nothing to do. The error is an *outcome.Error with
// every fault, or a failure of the source that Enforce cannot do without.
func (d *Door) Check(ctx context.Context, r *codec.Resource, wanted bool) (advice []outcome.Issue, err error) {
	if d == nil || d.mode == Off || d.mode == Warn && !wanted {
		return nil, nil
	}
	issues, err := d.v.Validate(ctx, r, Options{Enforce: d.mode == Enforce})
	switch {
	case err != nil && d.mode == Enforce:
		return nil, err
	case err != nil:
		return []outcome.Issue{{Category: outcome.Unavailable, Text: "the resource could not be validated", Warning: true}}, ctx.Err()
	case d.mode == Enforce:
		if err := Refusal(issues); err != nil {
			return nil, err
		}
	}
	for i := range issues {
		issues[i].Warning = true
	}
	return issues, nil
}
