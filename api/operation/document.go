package operation

import (
	"context"
	"slices"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// document answers Composition/[id]/$document with a document Bundle: the
// composition and all that it refers to, as far as the caller may see it
// (http://hl7.org/fhir/R4/composition-operation-document.html).
func (s *Service) document(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	a, err := arguments(rq, "persist")
	if err != nil {
		return nil, err
	}
	persist, err := a.text("persist")
	if err != nil {
		return nil, err
	}
	if persist != "" && persist != "false" {
		return nil, outcome.New(outcome.Invalid, "documents are not kept here: leave persist out, and store the Bundle's parts")
	}
	sub, err := s.as(rq, fhir.Read, "Composition")
	if err != nil {
		return nil, err
	}
	q := search.Query{
		Legs:     []search.Leg{{Type: "Composition", Where: []search.Criterion{{Param: "_id", Type: search.Token, Any: []search.Value{{ID: rq.ID}}}}}},
		Count:    1,
		Includes: []search.Include{{Source: "Composition", Param: "*"}},
	}
	reach, err := s.engine.Reach(ctx, sub.Grant, fhir.Read, q.Types()...)
	if err != nil {
		return nil, err
	}
	page, err := s.store.Search(ctx, reach, q)
	if err != nil {
		return nil, err
	}
	switch {
	case len(page.Entries) == 0:
		return nil, outcome.New(outcome.NotFound, "")
	case page.Cut:
		return nil, outcome.New(outcome.TooCostly, "the composition refers to more resources than one document can hold")
	}
	out, err := s.gate.Release(ctx, sub.Grant, "Composition", slices.Concat(page.Entries, page.Included)...)
	if err != nil {
		return nil, err
	}
	return respond.Assembled(out, rq.Grant.Caller().Now), nil
}
