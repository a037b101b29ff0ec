package rest

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

const (
	trailCount    = 50
	trailMaxCount = 200
)

// trail answers GET AuditEvent?... and AuditEvent/_search. The resources are not stored: the
// gate makes them of the trail, and its parameters are asked of what it makes.
func (s *Service) trail(ctx context.Context, rq *respond.Request, values url.Values) (respond.Response, error) {
	q, self, warnings, err := trailQuery(rq, values)
	if err != nil {
		return nil, err
	}
	path := "/AuditEvent"
	if rq.Compartment.Type != "" {
		path = "/" + rq.Compartment.String() + path
		name, ok := map[fhir.ResourceType]string{"Patient": "patient", "Practitioner": "agent"}[rq.Compartment.Type]
		if !ok {
			return nil, outcome.New(outcome.Invalid, "accesses are in the compartments of a Patient and of a Practitioner")
		}
		if err := q.take(name, "", rq.Compartment.String(), rq.Base); err != nil {
			return nil, err
		}
	}
	token := values.Get(search.PageParam)
	if q.After, err = s.Place(rq, path, self, token); err != nil {
		return nil, err
	}
	page, err := s.gate.Search(ctx, rq.Grant, q.search())
	if err != nil {
		return nil, err
	}
	var next *search.Cursor
	if page.More {
		next = &page.Last
	}
	links := s.Links(rq, path, self, token, next)
	if token != "" {
		links.First = pageURL(rq.Base+path, encoded(self), "")
	}
	return respond.AuditEvents(page.Entries, links, warnings), nil
}

// traced answers GET AuditEvent/[id].
func (s *Service) traced(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	id := string(rq.ID)
	event, at, ok := audit.EventOf(id)
	if !ok {
		return nil, errNotFound
	}
	page, err := s.gate.Search(ctx, rq.Grant, record.TrailSearch{
		Traces:  record.Traces{IDs: []string{event}, Moments: []time.Time{at}, Count: 1},
		Matches: func(n *element.Node) bool { return n.Get("id").String() == id },
	})
	if err != nil {
		return nil, err
	}
	if len(page.Entries) == 0 {
		return nil, errNotFound
	}
	return respond.AuditEvent(page.Entries[0]), nil
}

// TrailParams are the search parameters of AuditEvent that are served; the others of R4 are not.
func TrailParams() []string { return slices.Clone(trailParams) }

var trailParams = []string{"action", "agent", "agent-role", "date", "entity", "outcome", "patient", "policy", "purpose", "subtype", "type"}

// trailQ is a search of the trail as it is read.
type trailQ struct {
	record.Traces
	tests []func(*element.Node) bool
}

func (q *trailQ) search() record.TrailSearch {
	if q.tests == nil {
		return record.TrailSearch{Traces: q.Traces}
	}
	return record.TrailSearch{Traces: q.Traces, Matches: func(n *element.Node) bool {
		for _, test := range q.tests {
			if !test(n) {
				return false
			}
		}
		return true
	}}
}

// trailQuery reads the parameters, and what the links repeat of them.
func trailQuery(rq *respond.Request, values url.Values) (*trailQ, url.Values, []outcome.Issue, error) {
	q := &trailQ{Traces: record.Traces{Count: trailCount}}
	self := url.Values{}
	var warnings []outcome.Issue
	for _, name := range sortedKeys(values) {
		switch name {
		case search.PageParam, "_format", "_pretty":
			continue
		}
		base, modifier, _ := strings.Cut(name, ":")
		if !slices.Contains(trailParams, base) && base != "_id" && base != "_count" && base != "_sort" {
			if !rq.Prefer.Lenient {
				return nil, nil, nil, outcome.New(outcome.Invalid, "AuditEvent is searched by _id, _count, _sort and "+strings.Join(trailParams, ", "))
			}
			warnings = append(warnings, outcome.Issue{Category: outcome.Invalid, Warning: true, Text: "a parameter that AuditEvent is not searched by was ignored"})
			continue
		}
		for _, v := range values[name] {
			if err := q.take(base, modifier, v, rq.Base); err != nil {
				return nil, nil, nil, err
			}
		}
		self[name] = values[name]
	}
	return q, self, warnings, nil
}

func sortedKeys(v url.Values) []string {
	out := make([]string, 0, len(v))
	for name := range v {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// take takes one parameter. What is asked of the rows only makes the reading shorter: each
// test is then asked of what the reader gets, and of nothing else.
func (q *trailQ) take(name, modifier, value, base string) error {
	if modifier != "" && (name != "agent" || modifier != "identifier") {
		return outcome.New(outcome.Invalid, "the parameters of AuditEvent have no such modifier; agent has :identifier")
	}
	values := strings.Split(value, ",")
	if slices.Contains(values, "") {
		return outcome.New(outcome.Invalid, "a parameter of AuditEvent has no value")
	}
	switch name {
	case "_count", "_sort":
		return q.govern(name, value)
	case "date":
		return q.date(values)
	case "_id":
		q.ids(values)
	case "action":
		q.codes(values, func(n *element.Node) []*element.Node {
			return []*element.Node{code("http://hl7.org/fhir/audit-event-action", n.Get("action"))}
		})
	case "outcome":
		q.Outcomes = values
		if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "|") }) {
			q.Outcomes = nil
		}
		q.codes(values, func(n *element.Node) []*element.Node {
			return []*element.Node{code("http://hl7.org/fhir/audit-event-outcome", n.Get("outcome"))}
		})
	case "type":
		q.codes(values, func(n *element.Node) []*element.Node { return []*element.Node{n.Get("type")} })
	case "subtype":
		q.codes(values, func(n *element.Node) []*element.Node { return n.Get("subtype").List() })
	case "purpose":
		q.codes(values, func(n *element.Node) []*element.Node { return codings(n.Get("purposeOfEvent")) })
	case "agent-role":
		q.codes(values, func(n *element.Node) (out []*element.Node) {
			for _, a := range n.Get("agent").List() {
				out = append(out, codings(a.Get("role"))...)
			}
			return out
		})
	case "policy":
		q.tests = append(q.tests, func(n *element.Node) bool {
			return slices.ContainsFunc(n.Get("agent").List(), func(a *element.Node) bool {
				return slices.ContainsFunc(a.Get("policy").List(), func(p *element.Node) bool { return slices.Contains(values, p.String()) })
			})
		})
	case "agent":
		if modifier == "identifier" {
			q.identified(values)
			return nil
		}
		return q.references(name, values, base)
	default: // patient, entity
		return q.references(name, values, base)
	}
	return nil
}

func (q *trailQ) govern(name, value string) error {
	if name == "_sort" {
		switch value {
		case "date":
			q.Oldest = true
		case "-date":
		default:
			return outcome.New(outcome.Invalid, "AuditEvents are sorted by date or -date")
		}
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return outcome.New(outcome.Invalid, "_count is a positive number")
	}
	q.Count = min(n, trailMaxCount)
	return nil
}

// date reads one date with its prefix (R4 search, 3.1.1.4.5 and 3.1.1.4.6).
func (q *trailQ) date(values []string) error {
	if len(values) != 1 {
		return outcome.New(outcome.Invalid, "date takes one value; two bounds are two parameters")
	}
	prefix, text := "eq", values[0]
	if len(text) > 2 && text[0] >= 'a' && text[0] <= 'z' {
		prefix, text = text[:2], text[2:]
	}
	lo, hi, ok := search.Instants(text)
	if !ok {
		return outcome.New(outcome.Invalid, "date is a date or a moment, such as ge2026-01-31")
	}
	var from, until time.Time
	switch prefix {
	case "eq":
		from, until = lo, hi
	case "ge":
		from = lo
	case "gt", "sa":
		from = hi
	case "le":
		until = hi
	case "lt", "eb":
		until = lo
	default:
		return outcome.New(outcome.Invalid, "date has the prefixes eq, ge, gt, sa, le, lt and eb")
	}
	if !from.IsZero() && from.After(q.From) {
		q.From = from
	}
	if !until.IsZero() && (q.Until.IsZero() || until.Before(q.Until)) {
		q.Until = until
	}
	return nil
}

func (q *trailQ) ids(values []string) {
	q.IDs, q.Moments = []string{}, []time.Time{}
	for _, id := range values {
		if event, at, ok := audit.EventOf(id); ok {
			q.IDs, q.Moments = append(q.IDs, event), append(q.Moments, at)
		}
	}
	q.tests = append(q.tests, func(n *element.Node) bool { return slices.Contains(values, n.Get("id").String()) })
}

// codes is a token search: code, |code, system|code or system|.
func (q *trailQ) codes(values []string, of func(*element.Node) []*element.Node) {
	q.tests = append(q.tests, func(n *element.Node) bool {
		return slices.ContainsFunc(of(n), func(c *element.Node) bool {
			return slices.ContainsFunc(values, func(v string) bool {
				system, text, both := strings.Cut(v, "|")
				if !both {
					return c.Get("code").String() == v
				}
				return c.Get("system").String() == system && (text == "" || c.Get("code").String() == text)
			})
		})
	})
}

func code(system string, c *element.Node) *element.Node {
	return element.NewObject(element.Field{Name: "system", Value: element.NewString(system)}, element.Field{Name: "code", Value: element.NewString(c.String())})
}

func codings(concepts *element.Node) (out []*element.Node) {
	for _, c := range concepts.List() {
		out = append(out, c.Get("coding").List()...)
	}
	return out
}

func (q *trailQ) identified(values []string) {
	q.tests = append(q.tests, func(n *element.Node) bool {
		return slices.ContainsFunc(n.Get("agent").List(), func(a *element.Node) bool {
			v := a.Get("who").Get("identifier").Get("value").String()
			return v != "" && slices.ContainsFunc(values, func(x string) bool { return strings.TrimPrefix(x, "|") == v })
		})
	})
}

// references is a search by reference: of a patient, of who acted, of a record.
func (q *trailQ) references(name string, values []string, base string) error {
	var refs []fhir.Ref
	for _, v := range values {
		v = strings.TrimPrefix(v, base+"/")
		if name == "patient" && !strings.Contains(v, "/") {
			v = "Patient/" + v
		}
		v, _, _ = strings.Cut(v, "/_history/")
		r, ok := fhir.ParseRef(v)
		if !ok || name == "patient" && r.Type != "Patient" {
			return outcome.New(outcome.Invalid, "patient, agent and entity are references, such as Patient/[id]")
		}
		refs = append(refs, r)
	}
	switch name {
	case "patient":
		ids := make([]fhir.ID, len(refs))
		for i, r := range refs {
			ids[i] = r.ID
		}
		if q.Patients == nil {
			q.Patients, q.EventsOnly = ids, true
		}
	case "agent":
		// An organization acts through others, and is in no column of who did.
		if q.Users == nil && !slices.ContainsFunc(refs, func(r fhir.Ref) bool { return r.Type == "Organization" }) {
			for _, r := range refs {
				q.Users = append(q.Users, r.String())
			}
		}
	case "entity":
		if q.Entities == nil {
			q.Entities, q.EventsOnly = refs, true
		}
	}
	list := "entity"
	if name == "agent" {
		list = "agent"
	}
	q.tests = append(q.tests, func(n *element.Node) bool { return record.Names(n, list, refs) })
	return nil
}
