package export_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// A server that is told to stop gives back what it was working on: nobody waits for its lease.
func TestShutdownGivesTheTurnBack(t *testing.T) {
	h := newHouse(t)
	p := h.exchange()
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}})
	ctx, stop := context.WithCancel(context.Background())
	cfg := h.cfg
	begun := false
	cfg.Sink = wrapped{cfg.Sink, func(string) error {
		begun = true
		stop()
		return ctx.Err()
	}}
	first, err := export.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		first.Run(ctx, 1)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if !begun || h.status(p, id).Lines != 0 {
		t.Fatal("it was not in the middle of a page")
	}
	h.finish() // the clock stands still
	if got := h.fetched(p, id); ids(got["output Patient"]) != "anna bert cleo" {
		t.Errorf("%v", got)
	}
}

// After cloister keys rewrap the old key opens no export any more, and the new one all of them.
func TestRewrappedExports(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	done := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}})
	h.finish()
	under := h.accept(p, export.Request{Types: []fhir.ResourceType{"Observation"}})
	if _, err := h.Step(ctx); err != nil {
		t.Fatal(err)
	}
	old, next := envelopetest.Keys(), envelope.New("test:next", envelopetest.Primitive("another one"))
	heard := 0
	if n, err := postgres.RewrapKeys(ctx, h.DSN, next.With(old), func() { heard++ }); err != nil || n != heard || n < 2 {
		t.Fatal(n, heard, err)
	}
	if n, err := postgres.RewrapKeys(ctx, h.DSN, next.With(old), nil); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	with := func(keys *envelope.Keys) *export.Service {
		cfg := h.cfg
		cfg.Keys = keys
		s, err := export.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := with(old)
	if _, err := before.Status(ctx, h.Grant(p), done, 1); status(err) != 503 || errors.Is(err, export.ErrOver) {
		t.Errorf("the old key: %v", err)
	}
	h.Service = with(next)
	h.finish()
	if got := h.fetched(p, done); ids(got["output Patient"]) != "anna bert cleo" {
		t.Errorf("%v", got)
	}
	if got := h.fetched(p, under); !strings.HasPrefix(ids(got["output Observation"]), "o00 o01 o02 o03") {
		t.Errorf("%v", got)
	}
}
