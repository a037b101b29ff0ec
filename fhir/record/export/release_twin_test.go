package export_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// twins are a house and one from which everything is physically absent that the exchange may not see; before does the same to both.
func twins(t *testing.T, before func(*house)) (full, twin *house) {
	t.Helper()
	ctx := context.Background()
	full, twin = newHouse(t, releasing), newHouse(t, releasing)
	before(full)
	before(twin)
	sees := map[fhir.ResourceType]authz.Restriction{}
	for _, rt := range fhir.ResourceTypes() {
		g, err := twin.Engine.Authorize(ctx, twin.exchange(), fhir.Read, rt)
		if err != nil {
			continue
		}
		if sees[rt], err = twin.Engine.Plan(ctx, g, fhir.Read, rt); err != nil {
			t.Fatal(err)
		}
	}
	owner, err := pgx.Connect(ctx, twin.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close(ctx) }()
	if err := postgres.Excise(ctx, owner, sees); err != nil {
		t.Fatal(err)
	}
	return full, twin
}

// A release of the full database is that of one from which everything is physically absent that its client may not see.
func TestL28_TwinsReleaseTheSame(t *testing.T) {
	full, twin := twins(t, func(h *house) {
		h.remove("Observation/o05")
		for i := range 11 {
			h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"q%02d","gender":"male"}`, i))
		}
		h.Load(optOut("q03"))
		h.Clock.Add(1000)
		determined(h, deident.Gender)
	})
	for _, profile := range []string{"safe-harbor", "expert-determination"} {
		var got [2]string
		for n, h := range []*house{full, twin} {
			id := h.accept(h.exchange(), export.Request{Released: true, Profile: profile})
			h.finish()
			s := h.status(h.exchange(), id)
			told, held := *s.Release, "nothing"
			if told.Held != nil {
				told.Held, held = nil, fmt.Sprintf("%+v", *told.Held)
			}
			got[n] = fmt.Sprintf("%+v %+v %s\n", s.Files, told, held) + shape(h.fetched(h.exchange(), id))
		}
		if got[0] != got[1] || len(got[0]) < 2000 {
			t.Errorf("%s\n--- full\n%s\n--- twin\n%s", profile, got[0], got[1])
		}
	}
}
