// Package subscription answers for topic-based Subscriptions (Subscriptions R5 Backport,
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1).
package subscription

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// Service answers what is about subscriptions.
type Service struct{ notify *notify.Service }

// New wires the handlers.
func New(n *notify.Service) *Service { return &Service{n} }

// Operation is one operation on Subscription.
type Operation struct {
	Code       string
	Instance   bool   // on one, else on the type
	Safe       bool   // also by GET
	Definition string // canonical
	Handler    respond.Handler
}

const definitions = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-"

// Operations lists them.
func (s *Service) Operations() []Operation {
	return []Operation{
		{Code: "status", Safe: true, Definition: definitions + "status", Handler: s.status},
		{Code: "status", Instance: true, Safe: true, Definition: definitions + "status", Handler: s.status},
		{Code: "events", Instance: true, Safe: true, Definition: definitions + "events", Handler: s.events},
		{Code: "get-ws-binding-token", Safe: true, Definition: definitions + "get-ws-binding-token", Handler: s.token},
		{Code: "get-ws-binding-token", Instance: true, Safe: true, Definition: definitions + "get-ws-binding-token", Handler: s.token},
		{Code: "rotate-secret", Instance: true, Definition: fhir.Canonical + "/OperationDefinition/rotate-secret", Handler: s.rotate},
	}
}

// Create answers POST [base]/Subscription.
func (s *Service) Create(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	return answered(s.notify.Create(ctx, rq.Grant, rq.Content))
}

// Read answers GET [base]/Subscription/[id]. Another client's is not there.
func (s *Service) Read(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	return answered(s.notify.Read(ctx, rq.Grant, rq.ID))
}

// Update answers PUT [base]/Subscription/[id].
func (s *Service) Update(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	var match fhir.VersionID
	if rq.IfMatch != "" {
		var ok bool
		if match, ok = respond.ParseETag(rq.IfMatch); !ok {
			return nil, outcome.New(outcome.Precondition, "If-Match is the ETag of a version that was read here")
		}
	}
	return answered(s.notify.Update(ctx, rq.Grant, rq.ID, match, rq.Content))
}

// Delete answers DELETE [base]/Subscription/[id].
func (s *Service) Delete(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := s.notify.Delete(ctx, rq.Grant, rq.ID); err != nil {
		return nil, err
	}
	return respond.Gone(), nil
}

// Search answers GET [base]/Subscription, among the caller's own.
func (s *Service) Search(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	values, err := parameters(rq, "status")
	if err != nil {
		return nil, err
	}
	return answered(s.notify.Search(ctx, rq.Grant, self(rq, "", values), split(values["status"])))
}

func (s *Service) status(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	values, err := parameters(rq, "id", "status")
	if err != nil {
		return nil, err
	}
	path := "/$status"
	if rq.ID != "" {
		path = "/" + string(rq.ID) + path
	}
	return answered(s.notify.Status(ctx, rq.Grant, self(rq, path, values), rq.ID, split(values["id"]), split(values["status"])))
}

func (s *Service) events(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	values, err := parameters(rq, "eventsSinceNumber", "eventsUntilNumber", "content")
	if err != nil {
		return nil, err
	}
	r := notify.Range{Content: notify.Content(values.Get("content"))}
	switch r.Content {
	case "", notify.Empty, notify.IDOnly, notify.FullResource:
	default:
		return nil, outcome.New(outcome.Invalid, "content is empty, id-only or full-resource")
	}
	for name, to := range map[string]*int64{"eventsSinceNumber": &r.From, "eventsUntilNumber": &r.To} {
		if text := values.Get(name); text != "" {
			if *to, err = strconv.ParseInt(text, 10, 64); err != nil || *to < 1 || len(values[name]) > 1 {
				return nil, outcome.New(outcome.Invalid, "eventsSinceNumber and eventsUntilNumber are numbers of events, from 1, once each")
			}
		}
	}
	return answered(s.notify.Events(ctx, rq.Grant, rq.ID, r))
}

func (s *Service) rotate(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	return answered(s.notify.Rotate(ctx, rq.Grant, rq.ID))
}

func (s *Service) token(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	values, err := parameters(rq, "id")
	if err != nil {
		return nil, err
	}
	return answered(s.notify.BindingToken(ctx, rq.Grant, rq.ID, split(values["id"])))
}

func answered(a notify.Answer, err error) (respond.Response, error) {
	if err != nil {
		return nil, err
	}
	return respond.Kept(a), nil
}

// parameters reads the parameters of a query, and those of the Parameters of a POST.
func parameters(rq *respond.Request, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(rq.Query)
	if err != nil {
		return nil, outcome.New(outcome.Invalid, "the query is not well-formed: escape reserved characters")
	}
	values.Del("_format")
	values.Del("_pretty")
	if rq.Content != nil {
		if rq.Content.Type != "Parameters" {
			return nil, outcome.New(outcome.Invalid, "the body is a Parameters resource")
		}
		for _, p := range rq.Content.Root.Get("parameter").List() {
			for _, f := range p.Fields {
				if strings.HasPrefix(f.Name, "value") {
					values.Add(p.Get("name").String(), f.Value.Text)
				}
			}
		}
	}
	for name := range values {
		if !slices.Contains(known, name) {
			return nil, outcome.New(outcome.Invalid, "there is no parameter of one of these names here; it takes "+strings.Join(known, ", "))
		}
	}
	return values, nil
}

func self(rq *respond.Request, path string, values url.Values) string {
	out := rq.Base + "/Subscription" + path
	if q := values.Encode(); q != "" {
		out += "?" + q
	}
	return out
}

// split reads lists that commas separate; nil is no list.
func split(values []string) (out []string) {
	for _, v := range values {
		out = append(out, strings.Split(v, ",")...)
	}
	return out
}
