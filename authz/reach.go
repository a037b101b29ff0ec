package authz

import (
	"context"

	"github.com/cloister-health/cloister/fhir"
)

// Reach is what one request may reach of several types: a Restriction for
// each. The zero Reach reaches nothing.
type Reach struct {
	grant Grant
	of    map[fhir.ResourceType]Restriction
}

// Of is the Restriction of a type. For one that was not planned it is the zero
// Restriction, which matches nothing.
func (r Reach) Of(t fhir.ResourceType) Restriction { return r.of[t] }

// Grant is the grant under which r was planned.
func (r Reach) Grant() Grant { return r.grant }

// ReachOf joins Restrictions of one request. Where they belong to several, it reaches nothing.
func ReachOf(rs ...Restriction) Reach {
	out := Reach{of: make(map[fhir.ResourceType]Restriction, len(rs))}
	for i, r := range rs {
		if i == 0 {
			out.grant = r.Grant()
		}
		if !r.Grant().Same(out.grant) {
			return Reach{}
		}
		out.of[r.Type()] = r
	}
	return out
}

// Reach plans what g's caller may reach of each type with interaction i. What
// she may not reach at all is simply empty for her, as in [Engine.Plan].
func (e *Engine) Reach(ctx context.Context, g Grant, i fhir.Interaction, types ...fhir.ResourceType) (Reach, error) {
	out := Reach{grant: g, of: make(map[fhir.ResourceType]Restriction, len(types))}
	for _, t := range types {
		r, err := e.Plan(ctx, g, i, t)
		if err != nil {
			return Reach{}, err
		}
		out.of[t] = r
	}
	return out, nil
}
