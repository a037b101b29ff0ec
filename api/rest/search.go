package rest

import (
	"context"
	"encoding/binary"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// search answers GET [type]?..., GET [base]?_type=..., GET [type]/[id]/[type]?...
// for compartments, and the _search of each by POST
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
	if rq.Type == "AuditEvent" {
		return s.trail(ctx, rq, values)
	}
	l := Listing{Token: values.Get(search.PageParam)}
	opt, err := s.Searching(ctx, rq)
	if err != nil {
		return nil, err
	}
	switch {
	case rq.Compartment.Type != "":
		t := rq.Type
		if t == "" {
			t = search.Every
		}
		l.Path = "/" + rq.Compartment.String() + "/" + string(t)
		l.Query, l.Warnings, err = search.ParseCompartment(rq.Compartment, t, values, opt)
	case rq.Type == "":
		l.Query, l.Warnings, err = search.ParseSystem(values, opt)
	default:
		l.Path = "/" + string(rq.Type)
		l.Query, l.Warnings, err = search.Parse(rq.Type, values, opt)
	}
	if err != nil {
		return nil, err
	}
	l.Self = l.Query.Self()
	return s.Page(ctx, rq, l)
}

// Searching is how the searches of a request are read: with the parameters of
// the practice whose SearchParameter the caller may read, and no other.
func (s *Service) Searching(ctx context.Context, rq *respond.Request) (search.Options, error) {
	opt, err := s.conditions(ctx, rq)
	opt.Lenient, opt.Context, opt.Membership, opt.Terminology = rq.Prefer.Lenient, ctx, compartment.Membership, s.terminology
	return opt, err
}

// conditions is how the conditions of a request are read.
func (s *Service) conditions(ctx context.Context, rq *respond.Request) (search.Options, error) {
	opt := search.Options{Base: rq.Base, Now: rq.Grant.Caller().Now}
	r, err := s.engine.Plan(ctx, rq.Grant, fhir.Read, "SearchParameter")
	if err != nil {
		return opt, err
	}
	opt.Registry, err = s.store.Parameters(ctx, r)
	return opt, err
}

// Listing is a query whose matches are answered page by page.
type Listing struct {
	Path     string // of the links, below the base
	Query    search.Query
	Self     url.Values // what the links repeat
	Token    string     // of the page that is asked for; "" is the first
	Warnings []outcome.Issue
}

// encoded is the query of a link. The comma of a list stands in it as it is, which
// RFC 3986 (3.4) permits: who reads the link sees the list.
func encoded(q url.Values) string { return strings.ReplaceAll(q.Encode(), "%2C", ",") }

// Page answers with one page of a listing. Its links are bound to the caller,
// the policy and the query, and outlive none of them.
func (s *Service) Page(ctx context.Context, rq *respond.Request, l Listing) (respond.Response, error) {
	caller, q := rq.Grant.Caller(), l.Query
	self := encoded(l.Self)
	bound := binding(caller, l.Path, self)
	if l.Token != "" {
		c, err := search.DecodeCursor(s.cursors, bound, l.Token, caller.Now)
		if err != nil {
			return nil, err
		}
		q.After = &c
	}
	reach, err := s.engine.Reach(ctx, rq.Grant, rq.Grant.Interaction(), q.Types()...)
	if err != nil {
		return nil, err
	}
	page, err := s.store.Search(ctx, reach, q)
	if err != nil {
		return nil, err
	}
	out, err := s.gate.Release(ctx, rq.Grant, rq.Type, slices.Concat(page.Entries, page.Included)...)
	if err != nil {
		return nil, err
	}
	for i := range out {
		v := record.View{Summary: q.Summary}
		if i < len(page.Entries) {
			v.Elements = q.Elements
		}
		out[i] = out[i].View(v)
	}
	link := func(token string) string { return pageURL(rq.Base+l.Path, self, token) }
	links := respond.Links{Self: link(l.Token)}
	if n := len(page.Entries); n > 0 {
		place := func(c search.Cursor, back bool) string {
			c.Backward = back
			return link(search.EncodeCursor(s.cursors, bound, c, expiry(caller.Now)))
		}
		if page.Less {
			links.Previous = place(page.First, true)
		}
		if page.More {
			links.Next = place(page.Last, false)
		}
	}
	if l.Token != "" {
		links.First = link("")
	}
	if page.Cut {
		l.Warnings = append(l.Warnings, outcome.Issue{Category: outcome.TooCostly, Warning: true, Text: "more resources belong to these matches than one page can hold: ask for fewer matches, or for fewer kinds"})
	}
	found := respond.Set{Matches: out[:len(page.Entries)], Included: out[len(page.Entries):], Total: -1, Links: links, Warnings: l.Warnings}
	if q.Total != search.NoTotal {
		found.Total = page.Total
	}
	return respond.Searchset(found), nil
}

// pageLife is for how long a page link is good, at least.
const pageLife = 24 * time.Hour

// expiry is the end of a page link: a whole hour, so that equal answers have equal links.
func expiry(now time.Time) time.Time { return now.Truncate(time.Hour).Add(pageLife + time.Hour) }

func pageURL(u, query, token string) string {
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
func binding(c authz.Caller, path, query string) []byte {
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
	add(path)
	add(query)
	return b
}

// criteria gives the query in If-None-Exist: what would follow the "?" of a search
// URL (http://hl7.org/fhir/R4/http.html#ccreate). Some clients send the URL whole.
func criteria(t fhir.ResourceType, text, base string) string {
	if at, query, ok := strings.Cut(text, "?"); ok && strings.TrimPrefix(at, base+"/") == string(t) {
		return query
	}
	return text
}

// condition reads the query of a conditional interaction on type t.
func (s *Service) condition(ctx context.Context, rq *respond.Request, t fhir.ResourceType, query string) (search.Query, error) {
	opt, err := s.conditions(ctx, rq)
	if err != nil {
		return search.Query{}, err
	}
	return condition(t, query, opt)
}

// condition reads the query of a conditional interaction. It must hold at least one
// criterion and nothing that governs a page: an empty one would mean any resource.
func condition(t fhir.ResourceType, query string, opt search.Options) (search.Query, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return search.Query{}, errCondition
	}
	for _, name := range []string{"_count", "_sort", "_total", "_summary", "_contained", "_containedType", search.PageParam} {
		if values.Has(name) {
			return search.Query{}, errCondition
		}
	}
	values.Del("_format")
	values.Del("_pretty")
	q, _, err := search.Parse(t, values, opt)
	if err != nil {
		return search.Query{}, err
	}
	if len(q.Legs[0].Where) == 0 || len(q.Includes) > 0 || len(q.Elements) > 0 {
		return search.Query{}, errCondition
	}
	q.Count = 2
	return q, nil
}

var errCondition = outcome.New(outcome.Invalid, "a condition is made of search parameters, at least one, and of nothing that governs a page")
