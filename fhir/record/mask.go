package record

import (
	"context"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/record/redact"
)

// Masks says what is left out of resources that are about to be released.
type Masks interface {
	// Withheld compares each resource, all of the type of r, with the fuller views
	// of it that r covers. r is planned for [fhir.Mask].
	Withheld(ctx context.Context, r authz.Restriction, in []Sealed) ([]vault.Withheld, error)
}

// Masking is g with what knows of things left out. Without it, everything that
// is left out is left out without a trace.
func (g *Gate) Masking(m Masks) *Gate {
	h := *g
	h.masks = m
	return &h
}

// tells reports whether anybody with the caller's roles can be told that something is
// left out: nobody from outside the practice is, nor who acts for herself.
func (g *Gate) tells(gr authz.Grant) bool {
	return g.masks != nil && authz.RecipientOf(gr.Caller().Roles) == authz.Workforce
}

// masked reports whether the holder of gr may have been shown marks of what she
// changes. It depends on the policy alone, not on what is stored.
func (g *Gate) masked(gr authz.Grant, c Change) bool {
	if c.Content == nil || c.Interaction != fhir.Update && c.Interaction != fhir.Patch || redact.Mentions(c.Ref.Type) == nil || !g.tells(gr) {
		return false
	}
	_, err := g.decider.Extend(gr, fhir.Mask, c.Ref.Type)
	return err == nil
}

// marks gives the lists of each resource in which something is left out of which
// the holder of gr is to be told, by position.
func (g *Gate) marks(ctx context.Context, gr authz.Grant, in []Sealed) (map[int][]string, error) {
	if !g.tells(gr) {
		return nil, nil
	}
	at := map[fhir.ResourceType][]int{}
	for i, s := range in {
		if t := vault.Head(s).Ref.Type; redact.Mentions(t) != nil {
			at[t] = append(at[t], i)
		}
	}
	out := map[int][]string{}
	for t, of := range at {
		r, err := g.decider.Plan(ctx, gr, fhir.Mask, t)
		if err != nil {
			return nil, err
		}
		if r.Empty() {
			continue
		}
		sealed := make([]Sealed, len(of))
		for n, i := range of {
			sealed[n] = in[i]
		}
		withheld, err := g.masks.Withheld(ctx, r, sealed)
		if err != nil {
			return nil, err
		}
		for _, w := range withheld {
			d, err := g.decider.Decide(ctx, gr, fhir.Mask, authz.Resource{Type: t, Labels: w.Labels, Facts: w.Facts, Patient: w.Patient})
			if err != nil {
				return nil, err
			}
			if !d.Permit {
				return nil, authz.ErrDenied
			}
			out[of[w.At]] = append(out[of[w.At]], w.Lists...)
		}
	}
	return out, nil
}

// marked is a body with marks in these lists.
func marked(h vault.Header, body []byte, lists []string) ([]byte, error) {
	if lists == nil || h.Deleted {
		return body, nil
	}
	root, err := codec.ReadJSON(body, codec.DefaultLimits)
	if err != nil {
		return nil, outcome.New(outcome.Internal, "the server failed; its log says why").Because(err)
	}
	redact.Mark(h.Ref.Type, root, lists)
	return root.AppendJSON(make([]byte, 0, len(body)+256)), nil
}
