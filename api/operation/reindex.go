package operation

import (
	"context"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// reindex answers POST $reindex and SearchParameter/[id]/$reindex: what the
// practice stores is indexed anew, in the background.
func (s *Service) reindex(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	return s.reindexed(ctx, rq, s.store.BeginReindex)
}

// reindexing answers GET of the same with how far that is.
func (s *Service) reindexing(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	return s.reindexed(ctx, rq, s.store.Reindexing)
}

// reindexed takes the permission to update SearchParameters, and on one of them
// the sight of it. The answer counts resource types and never resources: those
// who administer the index need not be those who may see what is in it.
func (s *Service) reindexed(ctx context.Context, rq *respond.Request, do func(context.Context, authz.Restriction, fhir.ID) (record.Reindexing, error)) (respond.Response, error) {
	if _, err := arguments(rq); err != nil {
		return nil, err
	}
	sub, err := s.as(rq, fhir.Update, "SearchParameter")
	if err != nil {
		return nil, err
	}
	r, err := s.engine.Plan(ctx, sub.Grant, fhir.Update, "SearchParameter")
	if err != nil {
		return nil, err
	}
	if rq.ID != "" {
		definition, err := s.read(ctx, rq)
		if err != nil {
			return nil, err
		}
		if definition.Deleted() {
			return nil, outcome.New(outcome.Deleted, "")
		}
	}
	// The record of it is durable before anything begins.
	if _, err := s.gate.Release(ctx, rq.Grant, "SearchParameter"); err != nil {
		return nil, err
	}
	state, err := do(ctx, r, rq.ID)
	if err != nil {
		return nil, err
	}
	return respond.Reindexing(state), nil
}
