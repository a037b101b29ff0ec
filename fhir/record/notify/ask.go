package notify

import (
	"bytes"
	"context"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Range says which events a client asks for, and how much of them.
type Range struct {
	From, To int64   // numbers, both among them; To 0: to the last
	Content  Content // "": as in its notifications
}

// Events gives what was told before ($events), as far as it may be told now. Numbers do not change.
func (s *Service) Events(ctx context.Context, g authz.Grant, id fhir.ID, r Range) (Answer, error) {
	x, c, err := s.find(ctx, g, fhir.Read, id)
	if err != nil {
		return Answer{}, err
	}
	// The token that asks says no more than what the subscription was made with.
	if err := s.standing(ctx, c.Principal); err != nil {
		return Answer{}, err
	}
	_, o, err := s.ordered(ctx, &x)
	if err != nil {
		return Answer{}, err
	}
	if r.Content == "" {
		r.Content = o.content
	}
	if r.Content == FullResource && o.content != FullResource || r.Content == IDOnly && o.content == Empty {
		r.Content = o.content
	}
	if r.To == 0 || r.To > x.Events {
		r.To = x.Events
	}
	events, err := s.Subscriptions.List(ctx, x, max(r.From, 1), r.To, MaxCount+1)
	if err != nil {
		return Answer{}, err
	}
	if len(events) > MaxCount {
		return Answer{}, outcome.New(outcome.TooCostly, "too many events at once: ask for at most 100 by eventsSinceNumber and eventsUntilNumber")
	}
	told, err := s.show(ctx, s.sight(c.Principal), events)
	if err != nil {
		return Answer{}, err
	}
	if err := s.record(ctx, g); err != nil {
		return Answer{}, err
	}
	n := notification{base: s.Base, x: &x, topic: o.topic.URL, kind: queryEvents, content: r.Content, events: told, at: s.Now()}
	body, err := n.write()
	if err != nil {
		return Answer{}, err
	}
	return Answer{Stream: vault.Whole(g, n.noticed(), body)}, nil
}

// Status tells of subscriptions of the caller's own ($status): of the one of that id, or of
// those of these ids and states; without any, of all.
func (s *Service) Status(ctx context.Context, g authz.Grant, self string, id fhir.ID, ids, states []string) (Answer, error) {
	if _, err := mine(g, fhir.Read); err != nil {
		return Answer{}, err
	}
	c := g.Caller()
	list, err := s.Subscriptions.Owned(ctx, c.Tenant, ownerOf(c), string(id))
	if err != nil {
		return Answer{}, err
	}
	if id != "" && len(list) == 0 {
		return Answer{}, notFound()
	}
	if id == "" {
		list = inState(list, states)
		if ids != nil {
			list = slices.DeleteFunc(list, func(x Subscription) bool { return !slices.Contains(ids, x.ID) })
		}
	}
	entries := make([]*element.Node, len(list))
	for i := range list {
		_, o, err := s.ordered(ctx, &list[i])
		if err != nil {
			return Answer{}, err
		}
		n := notification{base: s.Base, x: &list[i], topic: o.topic.URL, kind: queryStatus, content: o.content}
		var b bytes.Buffer
		name := uuid(list[i].ID, "status")
		n.status(&b, name)
		// It was written by this package, so that it is one literal value of JSON.
		entries[i] = object("fullUrl", "urn:uuid:"+name, "resource", element.NewNode(element.Number, b.String()), "search", object("mode", "match"))
	}
	if err := s.record(ctx, g); err != nil {
		return Answer{}, err
	}
	return held(g, searchset(self, entries)), nil
}
