package rest

import (
	"context"
	"encoding/binary"
	"net/url"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// search answers GET [type]?... and POST [type]/_search
// (http://hl7.org/fhir/R4/http.html#search). Parameters of the form and of the
// query count alike. What the caller may not see takes no part in the match,
// the order, the total or the links.
func (s *Service) search(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	values, err := url.ParseQuery(rq.Query)
	if err != nil {
		return nil, errQuery
	}
	if rq.Form != "" {
		form, err := url.ParseQuery(rq.Form)
		if err != nil {
			return nil, errQuery
		}
		for name, v := range form {
			values[name] = append(values[name], v...)
		}
	}
	caller := rq.Grant.Caller()
	q, warnings, err := search.Parse(rq.Type, values, search.Options{Base: rq.Base, Lenient: rq.Prefer.Lenient, Now: caller.Now})
	if err != nil {
		return nil, err
	}
	self := q.Self().Encode()
	bound := binding(caller, rq.Type, self)
	token := values.Get(search.PageParam)
	if token != "" {
		c, err := search.DecodeCursor(s.cursors, bound, token, caller.Now)
		if err != nil {
			return nil, err
		}
		q.After = &c
	}
	r, err := s.engine.Reach(ctx, rq.Grant, fhir.SearchType, q.Types()...)
	if err != nil {
		return nil, err
	}
	page, err := s.store.Search(ctx, r, q)
	if err != nil {
		return nil, err
	}
	out, err := s.release(ctx, rq, page.Entries...)
	if err != nil {
		return nil, err
	}
	l := respond.Links{Self: pageURL(rq, self, token)}
	if page.More && len(out) > 0 {
		l.Next = pageURL(rq, self, search.EncodeCursor(s.cursors, bound, page.Last, expiry(caller.Now)))
	}
	total := -1
	if q.Total != search.NoTotal {
		total = page.Total
	}
	return respond.Searchset(out, total, l, warnings), nil
}

// pageLife is for how long a page link is good, at least.
const pageLife = 24 * time.Hour

// expiry is the end of a page link: a whole hour, so that equal answers have equal links.
func expiry(now time.Time) time.Time { return now.Truncate(time.Hour).Add(pageLife + time.Hour) }

func pageURL(rq *respond.Request, query, token string) string {
	u := rq.Base + "/" + string(rq.Type)
	sep := "?"
	if query != "" {
		u += sep + query
		sep = "&"
	}
	if token != "" {
		u += sep + search.PageParam + "=" + url.QueryEscape(token)
	}
	return u
}

// binding ties a page to everything that it must not outlive: the caller with
// all that decides for her, the policy, and the search itself.
func binding(c authz.Caller, t fhir.ResourceType, query string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(c.Tenant)) //nolint:gosec // the same bits
	add := func(s string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s))) //nolint:gosec // a header is shorter
		b = append(b, s...)
	}
	list := func(l []string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(l))) //nolint:gosec // as above
		for _, s := range l {
			add(s)
		}
	}
	add(c.Subject)
	add(c.Client)
	add(c.User.String())
	add(c.Purpose)
	add(c.PolicyVersion)
	list(c.Roles)
	list(c.Organizations)
	add(string(t))
	add(query)
	return b
}

// match finds what a condition of a write means (If-None-Exist, conditional
// reference): at most two ids among what the caller may find.
func (s *Service) match(ctx context.Context, rq *respond.Request, t fhir.ResourceType, query string) ([]fhir.ID, error) {
	q, err := condition(t, query, rq.Base)
	if err != nil {
		return nil, err
	}
	g, err := s.engine.Extend(rq.Grant, fhir.SearchType, t)
	if err != nil {
		return nil, nil //nolint:nilerr // who may find nothing of that type meets nothing
	}
	r, err := s.engine.Reach(ctx, g, fhir.SearchType, q.Types()...)
	if err != nil {
		return nil, err
	}
	return s.store.Match(ctx, r, q)
}

// condition reads the query of a conditional interaction. It must hold at least one
// criterion and nothing that governs a page: an empty one would mean any resource.
func condition(t fhir.ResourceType, query, base string) (search.Query, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return search.Query{}, errCondition
	}
	for _, name := range []string{"_count", "_sort", "_total", "_summary", "_format", "_pretty", search.PageParam} {
		if values.Has(name) {
			return search.Query{}, errCondition
		}
	}
	q, _, err := search.Parse(t, values, search.Options{Base: base})
	if err != nil {
		return search.Query{}, err
	}
	if len(q.Legs[0].Where) == 0 {
		return search.Query{}, errCondition
	}
	q.Count = 2
	return q, nil
}

var errCondition = outcome.New(outcome.Invalid, "a condition is made of search parameters, at least one, and of nothing that governs a page")
