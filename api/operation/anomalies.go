package operation

import (
	"context"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz/audit/anomaly"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// AnomalyHistory is with how much history accesses are compared.
const AnomalyHistory = 60 * 24 * time.Hour

// accessAnomalies answers $access-anomalies for whoever oversees access: what is out of the
// ordinary among accesses. Without a period it is that of the last seven days.
func (s *Service) accessAnomalies(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if _, err := s.engine.Trail(rq.Grant, fhir.SearchType); err != nil {
		return nil, err //nolint:wrapcheck // it is an outcome
	}
	names := []string{"start", "end", "zone", "opens", "closes", "closed", "vip"}
	a, err := arguments(rq, names...)
	if err != nil {
		return nil, err
	}
	one := map[string]string{}
	for _, name := range names[:6] {
		if one[name], err = a.text(name); err != nil {
			return nil, err
		}
	}
	now := rq.Grant.Caller().Now
	q := record.Anomalous{From: now.AddDate(0, 0, -7), Until: now, Before: AnomalyHistory}
	if v := one["start"]; v != "" {
		lo, _, ok := search.Instants(v)
		if !ok {
			return nil, errPeriod
		}
		q.From = lo
	}
	if v := one["end"]; v != "" {
		_, hi, ok := search.Instants(v)
		if !ok {
			return nil, errPeriod
		}
		q.Until = hi
	}
	if !q.From.Before(q.Until) || q.Until.Sub(q.From) > 92*24*time.Hour {
		return nil, outcome.New(outcome.Invalid, "start is before end, by at most 92 days")
	}
	if q.Rules, err = anomaly.ParseRules(one["zone"], one["opens"], one["closes"], one["closed"]); err != nil {
		return nil, outcome.New(outcome.Invalid, err.Error())
	}
	for _, v := range a.texts["vip"] {
		id := fhir.ID(strings.TrimPrefix(v, "Patient/"))
		if !id.Valid() {
			return nil, outcome.New(outcome.Invalid, "vip is a Patient")
		}
		q.VIPs = append(q.VIPs, id)
	}
	out, err := s.gate.Anomalies(ctx, rq.Grant, q)
	if err != nil {
		return nil, err //nolint:wrapcheck // it is an outcome
	}
	return respond.Anomalies(out), nil
}

var errPeriod = outcome.New(outcome.Invalid, "start and end are dates, such as 2026-01-31")
