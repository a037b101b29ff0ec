package notify_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/notify"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// with is the service with other keys.
func (h *house) with(keys *envelope.Keys) *notify.Service {
	h.T.Helper()
	cfg := h.cfg
	cfg.Keys = keys
	s, err := notify.New(cfg)
	if err != nil {
		h.T.Fatal(err)
	}
	return s
}

// After cloister keys rewrap the old key opens no subscription any more, and the new one all of
// them: also one that its client has changed just then.
func TestRewrappedSubscriptions(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	body := subscription("resource-change", "id-only", "", "Observation")
	ids := []fhir.ID{h.active(p, body), h.active(p, body)}
	update := func(s *notify.Service, id fhir.ID) {
		t.Helper()
		if _, err := s.Update(ctx, h.Grant(p), id, 0, h.parse(strings.Replace(body, `"status"`, `"id":"`+string(id)+`","status"`, 1))); err != nil {
			t.Fatal(err)
		}
	}
	old, keeper := envelopetest.Keys(), &envelopetest.Keeper{AEAD: envelopetest.Primitive("another one")}
	next := envelope.New("test:next", keeper)
	// A server that has the old key still makes a new data key with it in the middle of the first run.
	first := fhir.ID(h.SQL("SELECT min(id::text) FROM notify.subscription"))
	keeper.Before = func() { update(h.Service, first) }
	heard := 0
	if n, err := postgres.RewrapKeys(ctx, h.DSN, next.With(old), func() { heard++ }); err != nil || n != 1 || heard != 2 {
		t.Fatal(n, heard, err)
	}
	if n, err := postgres.RewrapKeys(ctx, h.DSN, next.With(old), nil); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if n, err := postgres.RewrapKeys(ctx, h.DSN, next.With(old), nil); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	for _, id := range ids {
		if _, err := h.with(old).Read(ctx, h.Grant(p), id); status(err) != 503 {
			t.Errorf("the old key: %v", err)
		}
	}
	h.Service = h.with(next)
	h.settle()
	h.box.take()
	h.Load(observation("o1", "anna", ""))
	h.settle()
	if got := h.events(); len(got) != len(ids) {
		t.Errorf("told of %q", got)
	}
	update(h.Service, first)
}
