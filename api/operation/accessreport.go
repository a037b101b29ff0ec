package operation

import (
	"context"
	"net/url"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// accessReport answers Patient/[id]/$access-report with who saw and changed what of the
// patient's records, when and why, in plain words.
func (s *Service) accessReport(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	caller := rq.Grant.Caller()
	if !record.MayAccount(caller) {
		return nil, authz.ErrDenied
	}
	a, err := arguments(rq, "start", "end", "_count", search.PageParam)
	if err != nil {
		return nil, err
	}
	period, self := record.NewAccounting(rq.ID, caller.Now), url.Values{}
	token, err := asked(a, self, &period)
	if err != nil {
		return nil, err
	}
	q := record.Traces{From: period.Since, Until: period.Until, Count: period.Count}
	path := "/Patient/" + string(rq.ID) + "/$access-report"
	if q.After, err = s.pages.Place(rq, path, self, token); err != nil {
		return nil, err
	}
	sealed, err := s.patient(ctx, rq)
	if err != nil {
		return nil, err
	}
	out, err := s.gate.AccessReport(ctx, rq.Grant, sealed, q)
	if err != nil {
		return nil, err
	}
	var next *search.Cursor
	if out.More {
		next = &out.Last
	}
	return respond.AccessReport(out, s.pages.Links(rq, path, self, token, next)), nil
}
