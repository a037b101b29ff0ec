package rest

import (
	"context"
	"net/url"
	"strconv"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// history answers GET [type]/[id]/_history with the versions of one resource,
// the newest first (http://hl7.org/fhir/R4/http.html#history).
func (s *Service) history(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	count, before, err := historyParams(rq)
	if err != nil {
		return nil, err
	}
	r, err := s.engine.Plan(ctx, rq.Grant, fhir.HistoryInstance, rq.Type)
	if err != nil {
		return nil, err
	}
	page, err := s.store.History(ctx, r, rq.ID, count, before)
	if err != nil {
		return nil, err
	}
	if len(page.Entries) == 0 {
		return nil, errNotFound
	}
	out, err := s.release(ctx, rq, page.Entries...)
	if err != nil {
		return nil, err
	}
	self := rq.Base + "/" + string(rq.Type) + "/" + string(rq.ID) + "/_history?_count=" + strconv.Itoa(count)
	l := respond.Links{Self: self}
	if before > 0 {
		l.Self += "&" + search.PageParam + "=" + before.String()
	}
	if page.More {
		l.Next = self + "&" + search.PageParam + "=" + out[len(out)-1].Version().String()
	}
	return respond.History(out, l), nil
}

// historyParams reads _count and the page: the version below which it starts,
// which the caller has seen and which therefore needs no seal.
func historyParams(rq *respond.Request) (count int, before fhir.VersionID, err error) {
	count = search.DefaultCount
	q, err := url.ParseQuery(rq.Query)
	if err != nil {
		return 0, 0, errQuery
	}
	for name, values := range q {
		if general(name) {
			continue
		}
		ok := len(values) == 1
		switch name {
		case "_count":
			n, err := strconv.Atoi(values[0])
			ok = ok && err == nil && n > 0
			count = min(n, search.MaxCount)
		case search.PageParam:
			v, parsed := fhir.ParseVersionID(values[0])
			ok = ok && parsed
			before = v
		default:
			ok = rq.Prefer.Lenient
		}
		if !ok {
			return 0, 0, outcome.New(outcome.Invalid, "a history takes _count (a positive number) and the parameters of its own links, each once")
		}
	}
	return count, before, nil
}

var errQuery = outcome.New(outcome.Invalid, "the query is not well-formed: escape reserved characters")

// general reports a parameter of every interaction that has been honoured
// before the handler (R4 http.html, "general parameters").
func general(name string) bool { return name == "_format" || name == "_pretty" }
