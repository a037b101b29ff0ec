package rest

import (
	"context"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
)

// vread answers GET [type]/[id]/_history/[vid] with one version
// (http://hl7.org/fhir/R4/http.html#vread).
func (s *Service) vread(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	v, err := view(rq)
	if err != nil {
		return nil, err
	}
	r, err := s.engine.Plan(ctx, rq.Grant, fhir.VRead, rq.Type)
	if err != nil {
		return nil, err
	}
	sealed, err := s.store.VRead(ctx, r, rq.ID, rq.Version)
	if err != nil {
		return nil, err
	}
	out, err := s.release(ctx, rq, sealed)
	if err != nil {
		return nil, err
	}
	return respond.Resource(out[0].View(v)), nil
}
