package rest

import (
	"context"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// delete answers DELETE [type]/[id] (http://hl7.org/fhir/R4/http.html#delete). The
// history stays; deleting again changes nothing.
func (s *Service) delete(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	v, err := ifMatch(rq.IfMatch)
	if err != nil {
		return nil, err
	}
	rc, err := s.commitOne(ctx, rq, record.Change{Interaction: fhir.Delete, Ref: fhir.Ref{Type: rq.Type, ID: rq.ID}, IfMatch: v})
	if err != nil {
		return nil, err
	}
	return respond.Deleted(rc), nil
}
