package intake_test

import (
	"context"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/intake"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// After cloister keys rewrap the old key opens no import any more, and the new one all of them.
func TestRewrappedImports(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	done := h.upload(p, false, observation("one", ""))
	h.finish()
	under := h.upload(p, false, observation("two", `,"derivedFrom":[{"reference":"Observation/three"}]`), observation("three", ""))
	if _, err := h.Step(ctx); err != nil {
		t.Fatal(err)
	}
	old, next := envelopetest.Keys(), envelope.New("test:next", envelopetest.Primitive("another one"))
	for _, want := range []int{2, 0} {
		if n, err := postgres.RewrapKeys(ctx, h.DSN, next.With(old), nil); err != nil || n != want {
			t.Fatal(n, err)
		}
	}
	with := func(keys *envelope.Keys) *intake.Service {
		cfg := h.cfg
		cfg.Keys = keys
		s, err := intake.NewService(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if _, err := with(old).Status(ctx, h.Grant(p), done); status(err) != 503 {
		t.Errorf("the old key: %v", err)
	}
	h.Service = with(next)
	h.finish()
	if got := h.counted(p, done); got != "1 new, 0 changed, 0 same, 0 refused, 0 unresolved" {
		t.Error(got)
	}
	if got := h.counted(p, under); got != "2 new, 0 changed, 0 same, 0 refused, 0 unresolved" {
		t.Error(got)
	}
}
