package operation

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

const (
	accountingCount    = 100
	accountingMaxCount = 500
)

// accounting answers Patient/[id]/$accounting with the disclosures of the
// patient's records (S23, S24, H1; 42 CFR 2.24, 2.25, 45 CFR 164.528).
func (s *Service) accounting(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	caller := rq.Grant.Caller()
	if !record.MayAccount(caller) {
		return nil, authz.ErrDenied
	}
	a, err := arguments(rq, "start", "end", "intermediary", "_count", search.PageParam)
	if err != nil {
		return nil, err
	}
	q := record.NewAccounting(rq.ID, caller.Now)
	self := url.Values{}
	token, err := asked(a, self, &q)
	if err != nil {
		return nil, err
	}
	path := "/Patient/" + string(rq.ID) + "/$accounting"
	if q.After, err = s.pages.Place(rq, path, self, token); err != nil {
		return nil, err
	}
	sealed, err := s.patient(ctx, rq)
	if err != nil {
		return nil, err
	}
	out, err := s.gate.Account(ctx, rq.Grant, sealed, q)
	if err != nil {
		return nil, err
	}
	var next *search.Cursor
	if out.More {
		next = &out.Last
	}
	return respond.Accounting(out, s.pages.Links(rq, path, self, token, next)), nil
}

// patient reads the patient whom an operation is about.
func (s *Service) patient(ctx context.Context, rq *respond.Request) (record.Sealed, error) {
	g, err := s.engine.Extend(rq.Grant, fhir.Read, "Patient")
	if err != nil {
		return record.Sealed{}, err
	}
	r, err := s.engine.Plan(ctx, g, fhir.Read, "Patient")
	if err != nil {
		return record.Sealed{}, err
	}
	return s.store.Read(ctx, r, rq.ID) //nolint:wrapcheck // it is an outcome
}

// asked reads the parameters into q and into what the links repeat. A period
// that the client asks for stays within what is accounted for.
func asked(a args, self url.Values, q *record.Accounting) (token string, err error) {
	one := map[string]string{}
	for _, name := range []string{"start", "end", "intermediary", "_count", search.PageParam} {
		if one[name], err = a.text(name); err != nil {
			return "", err
		}
		if one[name] != "" && name != search.PageParam {
			self.Set(name, one[name])
		}
	}
	oldest := q.Since
	for _, p := range []struct {
		name string
		take func(lo, hi time.Time)
	}{
		{"start", func(lo, _ time.Time) {
			if lo.Before(oldest) {
				lo = oldest
			}
			q.Since, q.ConsentedSince = lo, lo
		}},
		{"end", func(_, hi time.Time) {
			if hi.Before(q.Until) {
				q.Until = hi
			}
		}},
	} {
		if v := one[p.name]; v != "" {
			lo, hi, ok := search.Instants(v)
			if !ok {
				return "", outcome.New(outcome.Invalid, "start and end are dates, such as 2026-01-31")
			}
			p.take(lo, hi)
		}
	}
	switch one["intermediary"] {
	case "", "false":
	case "true":
		q.Consented = true
	default:
		return "", outcome.New(outcome.Invalid, "intermediary is true or false")
	}
	q.Count = accountingCount
	if v := one["_count"]; v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return "", outcome.New(outcome.Invalid, "_count is a positive number")
		}
		q.Count = min(n, accountingMaxCount)
	}
	return one[search.PageParam], nil
}
