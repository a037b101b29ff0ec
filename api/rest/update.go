package rest

import (
	"context"
	"strings"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// update answers PUT [type]/[id] (http://hl7.org/fhir/R4/http.html#update). The body must
// have the id of the path. A resource that is absent, or hidden, is not found,
// unless the server is configured to let updates create.
//
// PUT [type]?query (http://hl7.org/fhir/R4/http.html#cond-update) updates the one
// resource that the caller may find with the query, and creates one where there is none.
func (s *Service) update(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := prepare(rq); err != nil {
		return nil, err
	}
	c, err := s.updating(ctx, rq)
	if err != nil {
		return nil, err
	}
	rc, err := s.commitOne(ctx, rq, c)
	if err != nil {
		return nil, err
	}
	return s.written(ctx, rq, rc), nil
}

// updating is the change that an update asks for.
func (s *Service) updating(ctx context.Context, rq *respond.Request) (c record.Change, err error) {
	c = record.Change{
		Interaction: fhir.Update, Ref: fhir.Ref{Type: rq.Type, ID: rq.ID}, Content: rq.Content,
		Upsert: s.upsert && rq.IfMatch == "", Only: strings.TrimSpace(rq.IfNoneMatch) == "*",
	}
	if c.IfMatch, err = ifMatch(rq.IfMatch); err != nil {
		return c, err
	}
	if rq.ID == "" {
		q, err := s.condition(ctx, rq, rq.Type, rq.Query)
		c.Condition = &q
		return c, err
	}
	if rq.Content.ID() != rq.ID {
		return c, outcome.New(outcome.Invalid, "the id of the resource in the body is not the id in the path")
	}
	return c, nil
}
