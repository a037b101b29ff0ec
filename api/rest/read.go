package rest

import (
	"context"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
)

// read answers GET [type]/[id] with the current version
// (http://hl7.org/fhir/R4/http.html#read).
func (s *Service) read(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if rq.Type == "AuditEvent" {
		return s.traced(ctx, rq)
	}
	v, err := view(rq)
	if err != nil {
		return nil, err
	}
	r, err := s.engine.Plan(ctx, rq.Grant, fhir.Read, rq.Type)
	if err != nil {
		return nil, err
	}
	sealed, err := s.store.Read(ctx, r, rq.ID)
	if err != nil {
		return nil, err
	}
	out, err := s.release(ctx, rq, sealed)
	if err != nil {
		return nil, err
	}
	return respond.Resource(out[0].View(v)), nil
}
