package rest

import (
	"context"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// delete answers DELETE [type]/[id] (http://hl7.org/fhir/R4/http.html#delete). The
// history stays; deleting again changes nothing.
//
// DELETE [type]?query (http://hl7.org/fhir/R4/http.html#3.1.0.7.1) deletes the one
// resource that the caller may find with the query, or by configuration all of
// them. Where there is none it has nothing to do, which is no fault.
func (s *Service) delete(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := plain(rq); err != nil {
		return nil, err
	}
	c, err := s.deletion(ctx, rq)
	if err != nil {
		return nil, err
	}
	rc, err := s.commitOne(ctx, rq, c)
	if err != nil {
		return nil, err
	}
	return respond.Deleted(rc), nil
}

// deletion is the change that a delete asks for.
func (s *Service) deletion(ctx context.Context, rq *respond.Request) (c record.Change, err error) {
	c = record.Change{Interaction: fhir.Delete, Ref: fhir.Ref{Type: rq.Type, ID: rq.ID}, Integrity: s.integrity}
	if c.IfMatch, err = ifMatch(rq.IfMatch); err != nil {
		return c, err
	}
	if rq.ID != "" {
		return c, nil
	}
	q, err := s.condition(ctx, rq, rq.Type, rq.Query)
	if s.several {
		q.Count = search.MaxCount + 1
	}
	c.Condition = &q
	return c, err
}
