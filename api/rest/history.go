package rest

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

// history answers GET [type]/[id]/_history, GET [type]/_history and GET _history
// with the versions of one resource, of one type, or of everything that the
// caller may see (http://hl7.org/fhir/R4/http.html#history).
func (s *Service) history(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	asked, err := historyParams(rq)
	if err != nil {
		return nil, err
	}
	h := asked.History
	path := "_history"
	switch rq.Interaction {
	case fhir.HistorySystem:
		h.Types, err = s.open(rq, fhir.HistorySystem)
	case fhir.HistoryType:
		h.Types, path = []fhir.ResourceType{rq.Type}, string(rq.Type)+"/"+path
	default:
		h.Types, h.ID, path = []fhir.ResourceType{rq.Type}, rq.ID, string(rq.Type)+"/"+string(rq.ID)+"/"+path
	}
	if err != nil {
		return nil, err
	}
	caller := rq.Grant.Caller()
	bound := binding(caller, "/"+path, asked.self)
	if asked.token != "" {
		at, err := search.DecodeCursor(s.cursors, bound, asked.token, caller.Now)
		if err != nil {
			return nil, err
		}
		h.After = &at
	}
	reach, err := s.engine.Reach(ctx, rq.Grant, rq.Interaction, h.Types...)
	if err != nil {
		return nil, err
	}
	page, err := s.store.History(ctx, reach, h)
	if err != nil {
		return nil, err
	}
	out, err := s.release(ctx, rq, page.Entries...)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i] = out[i].View(asked.view)
	}
	self := rq.Base + "/" + path + "?" + asked.self
	l := respond.Links{Self: self}
	if asked.token != "" {
		l.Self += "&" + search.PageParam + "=" + url.QueryEscape(asked.token)
	}
	if page.More && len(out) > 0 {
		l.Next = self + "&" + search.PageParam + "=" + url.QueryEscape(search.EncodeCursor(s.cursors, bound, page.Last, expiry(caller.Now)))
	}
	return respond.History(out, l), nil
}

// open lists the types on which the caller may try an interaction that spans
// all types, and turns the grant of rq into one for it. Nothing of what is
// stored has a part in it.
func (s *Service) open(rq *respond.Request, i fhir.Interaction) ([]fhir.ResourceType, error) {
	var out []fhir.ResourceType
	for _, t := range fhir.ResourceTypes() {
		if g, err := s.engine.Extend(rq.Grant, i, t); err == nil {
			rq.Grant = g
			out = append(out, t)
		}
	}
	if out == nil {
		return nil, authz.ErrDenied
	}
	return out, nil
}

// askedHistory is a history as its query asks for it.
type askedHistory struct {
	record.History
	view  record.View
	token string // of the page
	self  string // the query, without the page
}

var errHistory = outcome.New(outcome.Invalid, "a history takes _since (an instant), _at (a time), _count (a positive number), _sort (_lastUpdated, -_lastUpdated or none), _elements, _summary and the parameters of its own links, each once")

func historyParams(rq *respond.Request) (a askedHistory, err error) {
	a.Count = search.DefaultCount
	q, err := url.ParseQuery(rq.Query)
	if err != nil {
		return a, errQuery
	}
	if a.view, err = viewOf(q); err != nil {
		return a, err
	}
	self := url.Values{}
	for name, values := range q {
		if general(name) {
			continue
		}
		known, ok := a.take(name, values[0])
		if !ok || len(values) > 1 || !known && !rq.Prefer.Lenient {
			return a, errHistory
		}
		if known && name != search.PageParam {
			self.Set(name, values[0])
		}
	}
	self.Set("_count", strconv.Itoa(a.Count))
	a.self = self.Encode()
	return a, nil
}

// take reads one parameter: whether it is one of a history, and whether its value is sound.
func (a *askedHistory) take(name, value string) (known, ok bool) {
	switch name {
	case "_count":
		n, err := strconv.Atoi(value)
		a.Count = min(n, search.MaxCount)
		return true, err == nil && n > 0
	case search.PageParam:
		a.token = value
		return true, value != ""
	case "_since":
		lo, _, ok := search.Instants(value)
		a.Since = lo
		return true, ok
	case "_at":
		a.From, a.To, ok = search.Instants(value)
		if !a.To.After(a.From) {
			a.To = a.From.Add(time.Microsecond)
		}
		return true, ok
	case "_sort":
		a.Oldest = value == "_lastUpdated"
		return true, a.Oldest || value == "-_lastUpdated" || value == "none"
	case "_elements", "_summary":
		return true, true // read by viewOf
	case "_list":
		return false, false // a history of a list is another feature: to ignore it would disclose more than was asked for
	}
	return false, true
}

var errQuery = outcome.New(outcome.Invalid, "the query is not well-formed: escape reserved characters")

// general reports a parameter of every interaction that has been honoured
// before the handler (R4 http.html, "general parameters").
func general(name string) bool { return name == "_format" || name == "_pretty" }
