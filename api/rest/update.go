package rest

import (
	"context"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// update answers PUT [type]/[id] (http://hl7.org/fhir/R4/http.html#update). The body must
// have the id of the path. A resource that is absent, or hidden, is not found,
// unless the server is configured to let updates create.
func (s *Service) update(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := prepare(rq); err != nil {
		return nil, err
	}
	if rq.Content.ID() != rq.ID {
		return nil, outcome.New(outcome.Invalid, "the id of the resource in the body is not the id in the path")
	}
	v, err := ifMatch(rq.IfMatch)
	if err != nil {
		return nil, err
	}
	rc, err := s.commitOne(ctx, rq, record.Change{
		Interaction: fhir.Update, Ref: fhir.Ref{Type: rq.Type, ID: rq.ID}, Content: rq.Content,
		IfMatch: v, Upsert: s.upsert && rq.IfMatch == "",
	})
	if err != nil {
		return nil, err
	}
	return s.written(ctx, rq, rc), nil
}
