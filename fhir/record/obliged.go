package record

import (
	"context"
	"errors"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Consents explains consents to whoever receives something under them.
type Consents interface {
	// ConsentScopes gives what each of these consents permits to the grant's caller.
	// One that is not in force any more is left out.
	ConsentScopes(context.Context, authz.Grant, []fhir.ID) ([]obligation.Scope, error)
}

// Explaining is g with consents that can be explained. Without them nothing is
// released for which the law asks an explanation (42 CFR 2.32(b)).
func (g *Gate) Explaining(c Consents) *Gate {
	h := *g
	h.consents = c
	return &h
}

// Labelled says to whom security labels go unasked.
type Labelled string

// The choices of a practice.
const (
	LabelsExchange Labelled = "exchange" // to those outside of it
	LabelsAll      Labelled = "all"
	LabelsNone     Labelled = "none" // to nobody who does not ask for them
)

// Valid reports whether l is one of the choices.
func (l Labelled) Valid() bool { return l == LabelsExchange || l == LabelsAll || l == LabelsNone }

// Showing is g with that choice; without one it is [LabelsExchange].
func (g *Gate) Showing(l Labelled) *Gate {
	h := *g
	h.labelled = l
	return &h
}

// unasked is what the holder of a grant gets unasked.
func (g *Gate) unasked(gr authz.Grant) obligation.Labelling {
	outside := authz.RecipientOf(gr.Caller().Roles) == authz.Outside
	if g.labelled == LabelsAll || outside && g.labelled != LabelsNone {
		return obligation.Labels
	}
	return obligation.Obliged
}

var errConsents = errors.New("record: consents that a disclosure is made under cannot be explained")

// explain gives the scope of every consent under which a resource of in is to be
// released and that has to be explained. It fails where one cannot be.
func (g *Gate) explain(ctx context.Context, gr authz.Grant, in []Sealed) (map[fhir.ID]obligation.Scope, error) {
	var ids []fhir.ID
	for _, s := range in {
		h := vault.Head(s)
		if h.Consents != nil && len(h.Consents) == 0 { // it rests on consent, and nobody knows on which
			return nil, outcome.New(outcome.Internal, "the server failed; its log says why").Because(errConsents)
		}
		if slices.Contains(g.due(gr, h), part2.CopyOfConsent) {
			ids = append(ids, h.Consents...)
		}
	}
	if ids == nil {
		return nil, nil
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if g.consents == nil {
		return nil, outcome.New(outcome.Internal, "the server failed; its log says why").Because(errConsents)
	}
	scopes, err := g.consents.ConsentScopes(ctx, gr, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[fhir.ID]obligation.Scope, len(scopes))
	for _, s := range scopes {
		out[s.Consent] = s
	}
	for _, id := range ids {
		if _, ok := out[id]; !ok {
			return nil, outcome.New(outcome.Unavailable, "what is permitted changed during this request: repeat it").Because(errConsents)
		}
	}
	return out, nil
}

// due lists what goes with the release of a resource to the holder of gr.
func (*Gate) due(gr authz.Grant, h vault.Header) []obligation.Name {
	c := gr.Caller()
	return obligation.Of(obligation.Disclosure{
		Labels: h.Labels, Facts: h.Facts, Consents: h.Consents, Recipient: authz.RecipientOf(c.Roles), Purpose: c.Purpose,
	})
}

// Form is how a released resource is written for one request.
type Form struct {
	Base   string               // of the service, for the consents' URLs
	Labels obligation.Labelling // what the client asks for; it gets at least what it is due
}

func (r Released) form(f Form) obligation.Labelling { return max(f.Labels, r.labels) }

// Confidentiality is the label of r that goes to its holder, or zero where none does.
func (r Released) Confidentiality(f Form) label.Confidentiality {
	if r.form(f) == obligation.Obliged {
		return 0
	}
	return r.h.Labels.Confidentiality()
}

// Scopes are the consents under which r was released and which have to be
// explained to its holder, with the notice of 42 CFR 2.32. The caller owns the slice.
func (r Released) Scopes() []obligation.Scope { return slices.Clone(r.scopes) }

// secured is the body with the labels that go to the holder.
func (r Released) secured(body []byte, f Form) ([]byte, error) {
	if r.h.Deleted {
		return body, nil
	}
	consents := make([]string, len(r.scopes))
	for i, s := range r.scopes {
		consents[i] = f.Base + "/Consent/" + string(s.Consent)
	}
	security := obligation.Security(r.h.Labels, r.due, r.form(f), consents)
	if security == nil {
		return body, nil
	}
	return codec.WithSecurity(body, security)
}
