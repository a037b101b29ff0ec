package operation

import (
	"context"

	"github.com/cloister-health/cloister/api/respond"
)

// meta answers [type]/[id]/$meta with the meta of the resource as a read shows
// it (http://hl7.org/fhir/R4/resource-operation-meta.html).
func (s *Service) meta(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	r, err := s.read(ctx, rq)
	if err != nil {
		return nil, err
	}
	return respond.Meta(r), nil
}
