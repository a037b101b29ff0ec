package notify

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Answer is what the client of a subscription is answered; it is held by its request.
type Answer struct {
	record.Stream
	Ref     fhir.Ref // zero: it is no Subscription
	Version fhir.VersionID
	Updated time.Time
	Created bool
}

const kept fhir.ResourceType = "Subscription"

func notFound() error { return outcome.New(outcome.NotFound, "") }

// mine asks who may have subscriptions: a client that acts for itself, whose scopes say so.
// It gives the client as it is kept.
func mine(g authz.Grant, i fhir.Interaction) (authz.Frozen, error) {
	who, err := authz.Freeze(g)
	if err != nil {
		return who, err
	}
	if !authz.Covers(g, i, kept) {
		return who, authz.ErrDenied
	}
	return who, nil
}

// standing refuses a client that may not act any more.
func (s *Service) standing(ctx context.Context, who authz.Frozen) error {
	if s.Clients == nil {
		return nil
	}
	return s.Clients.Standing(ctx, who)
}

// record makes a request durable in the audit trail, before anything comes of it.
func (s *Service) record(ctx context.Context, g authz.Grant) error {
	_, err := s.Gate.Release(ctx, g, kept)
	return err
}

// Create keeps a new Subscription. Its secret is in the answer, and in no other.
func (s *Service) Create(ctx context.Context, g authz.Grant, in *codec.Resource) (Answer, error) {
	who, err := mine(g, fhir.Create)
	if err != nil {
		return Answer{}, err
	}
	if err := s.standing(ctx, who); err != nil {
		return Answer{}, err
	}
	o, err := s.accept(ctx, g, in)
	if err != nil {
		return Answer{}, err
	}
	now := s.Now().UTC().Truncate(time.Millisecond)
	c := g.Caller()
	x := Subscription{ID: record.NewID(), Tenant: c.Tenant, Owner: ownerOf(c), Version: 1, Updated: now, Spoke: now}
	o.onto(&x)
	text := contents{Principal: who, Resource: plainOf(in), Secrets: []secret{{Key: newKey()}}}
	if err := s.seal(ctx, &x, text); err != nil {
		return Answer{}, err
	}
	if err := s.record(ctx, g); err != nil {
		return Answer{}, err
	}
	if err := s.Subscriptions.Add(ctx, x, s.Most); err != nil {
		return Answer{}, err
	}
	a, err := s.answer(g, &x, text, text.Secrets[0].Key)
	a.Created = true
	return a, err
}

func newKey() []byte {
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}

// accept reads a Subscription, and refuses what could not be carried out.
func (s *Service) accept(ctx context.Context, g authz.Grant, in *codec.Resource) (order, error) {
	if in == nil || in.Type != kept {
		return order{}, outcome.New(outcome.Invalid, "the body is not a resource of the type that the URL names")
	}
	o, err := read(in.Root, s.Now())
	if err != nil {
		return o, err
	}
	return o, s.check(ctx, g, o)
}

// onto writes an order into what is kept in the clear.
func (o order) onto(x *Subscription) {
	x.Channel, x.Types, x.Beat, x.Expires = o.channel, o.types, time.Duration(o.beat)*time.Second, o.end
	x.Status, x.Reason = Requested, ""
	if o.off {
		x.Status, x.Reason = Off, Asked
	}
}

// plainOf is a Subscription without what is for the server to say.
func plainOf(in *codec.Resource) []byte {
	root := in.Root.Clone()
	root.Delete("id")
	root.Delete("error")
	if m := root.Get("meta"); m != nil {
		m.Delete("versionId")
		m.Delete("lastUpdated")
		m.Delete("security")
		if len(m.Fields) == 0 {
			root.Delete("meta")
		}
	}
	return root.AppendJSON(nil)
}

// find finds a subscription of the caller's own.
func (s *Service) find(ctx context.Context, g authz.Grant, i fhir.Interaction, id fhir.ID) (Subscription, contents, error) {
	if _, err := mine(g, i); err != nil {
		return Subscription{}, contents{}, err
	}
	c := g.Caller()
	list, err := s.Subscriptions.Owned(ctx, c.Tenant, ownerOf(c), string(id))
	if err == nil && (len(list) != 1 || id == "") {
		err = notFound()
	}
	if err != nil {
		return Subscription{}, contents{}, err
	}
	text, err := s.open(ctx, &list[0])
	return list[0], text, err
}

// Read gives a Subscription of the caller's own.
func (s *Service) Read(ctx context.Context, g authz.Grant, id fhir.ID) (Answer, error) {
	x, c, err := s.find(ctx, g, fhir.Read, id)
	if err != nil {
		return Answer{}, err
	}
	if err := s.record(ctx, g); err != nil {
		return Answer{}, err
	}
	return s.answer(g, &x, c, nil)
}

// Update keeps another version of a Subscription of the caller's own. What it was to be told is
// not forgotten, unless it was off.
func (s *Service) Update(ctx context.Context, g authz.Grant, id fhir.ID, match fhir.VersionID, in *codec.Resource) (Answer, error) {
	who, err := mine(g, fhir.Update)
	if err != nil {
		return Answer{}, err
	}
	x, c, err := s.find(ctx, g, fhir.Update, id)
	if err != nil {
		return Answer{}, err
	}
	if err := s.standing(ctx, who); err != nil {
		return Answer{}, err
	}
	if match != 0 && match != x.Version {
		return Answer{}, outcome.New(outcome.Precondition, "the resource has changed since the version that If-Match names: read it again")
	}
	if in != nil && in.ID() != id {
		return Answer{}, outcome.At(outcome.Invalid, "Subscription.id", "the id of the resource is that of the URL")
	}
	o, err := s.accept(ctx, g, in)
	if err != nil {
		return Answer{}, err
	}
	c.Principal, c.Resource = who, plainOf(in)
	return s.replace(ctx, g, x, c, func(x *Subscription) { o.onto(x) }, nil)
}

// Rotate gives a subscription another secret; the one before it signs for a day, too.
func (s *Service) Rotate(ctx context.Context, g authz.Grant, id fhir.ID) (Answer, error) {
	x, c, err := s.find(ctx, g, fhir.Update, id)
	if err != nil {
		return Answer{}, err
	}
	now := s.Now().UTC()
	c.Secrets = slices.DeleteFunc(c.Secrets, func(k secret) bool { return !k.Until.IsZero() })
	for i := range c.Secrets {
		c.Secrets[i].Until = now.Add(overlap)
	}
	key := newKey()
	c.Secrets = append([]secret{{Key: key}}, c.Secrets...)
	return s.replace(ctx, g, x, c, func(*Subscription) {}, key)
}

func (s *Service) replace(ctx context.Context, g authz.Grant, x Subscription, c contents, change func(*Subscription), key []byte) (Answer, error) {
	x.Version++
	x.Updated = s.Now().UTC().Truncate(time.Millisecond)
	change(&x)
	if err := s.seal(ctx, &x, c); err != nil {
		return Answer{}, err
	}
	if err := s.record(ctx, g); err != nil {
		return Answer{}, err
	}
	if err := s.Subscriptions.Replace(ctx, x); err != nil {
		return Answer{}, err
	}
	return s.answer(g, &x, c, key)
}

// Delete ends a Subscription of the caller's own; nothing of it is left.
func (s *Service) Delete(ctx context.Context, g authz.Grant, id fhir.ID) error {
	x, _, err := s.find(ctx, g, fhir.Delete, id)
	if err != nil {
		return err
	}
	if err := s.record(ctx, g); err != nil {
		return err
	}
	return s.Subscriptions.Remove(ctx, x.Tenant, x.Owner, x.ID)
}

// Search lists the subscriptions of the caller's own of one of these states; without any, all.
func (s *Service) Search(ctx context.Context, g authz.Grant, self string, states []string) (Answer, error) {
	if _, err := mine(g, fhir.SearchType); err != nil {
		return Answer{}, err
	}
	c := g.Caller()
	list, err := s.Subscriptions.Owned(ctx, c.Tenant, ownerOf(c), "")
	if err != nil {
		return Answer{}, err
	}
	list = inState(list, states)
	entries := make([]*element.Node, len(list))
	for i := range list {
		c, err := s.open(ctx, &list[i])
		if err != nil {
			return Answer{}, err
		}
		root, err := s.resource(&list[i], c, nil)
		if err != nil {
			return Answer{}, err
		}
		entries[i] = object("fullUrl", s.Base+"/Subscription/"+list[i].ID, "resource", root, "search", object("mode", "match"))
	}
	if err := s.record(ctx, g); err != nil {
		return Answer{}, err
	}
	return held(g, searchset(self, entries)), nil
}

func inState(list []Subscription, states []string) []Subscription {
	if states == nil {
		return list
	}
	return slices.DeleteFunc(list, func(x Subscription) bool { return !slices.Contains(states, string(x.Status)) })
}

func searchset(self string, entries []*element.Node) []byte {
	b := object("resourceType", "Bundle", "type", "searchset")
	b.Set("total", element.NewNumber(int64(len(entries))))
	b.Set("link", array(object("relation", "self", "url", self)))
	if len(entries) > 0 {
		b.Set("entry", array(entries...))
	}
	return b.AppendJSON(nil)
}

// resource is a Subscription as its client sees it; key is its secret where that is to be told.
func (s *Service) resource(x *Subscription, c contents, key []byte) (*element.Node, error) {
	root, err := c.root()
	if err != nil {
		return nil, err
	}
	r := &codec.Resource{Type: kept, Root: root}
	r.SetID(fhir.ID(x.ID))
	r.SetMeta(x.Version, x.Updated)
	root.Set("status", element.NewString(string(x.Status)))
	if x.Reason != "" {
		root.Set("error", element.NewString(string(x.Reason)))
	}
	if key != nil {
		ch := root.Get("channel")
		ext := object("url", SecretExtension, "valueString", secretPrefix+base64.StdEncoding.EncodeToString(key))
		ch.Set("extension", array(append(slices.Clone(ch.Get("extension").List()), ext)...))
	}
	return root, nil
}

func (s *Service) answer(g authz.Grant, x *Subscription, c contents, key []byte) (Answer, error) {
	root, err := s.resource(x, c, key)
	if err != nil {
		return Answer{}, err
	}
	a := held(g, root.AppendJSON(nil))
	a.Ref, a.Version, a.Updated = fhir.Ref{Type: kept, ID: fhir.ID(x.ID)}, x.Version, x.Updated
	return a, nil
}

// held is an answer to the request of g.
func held(g authz.Grant, body []byte) Answer {
	return Answer{Stream: vault.Whole(g, false, body)}
}

func array(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

// object makes an object of name, value, name, value ...
func object(pairs ...any) *element.Node {
	n := element.NewObject()
	for i := 0; i+1 < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		switch v := pairs[i+1].(type) {
		case string:
			n.Set(name, element.NewString(v))
		case *element.Node:
			n.Set(name, v)
		}
	}
	return n
}
