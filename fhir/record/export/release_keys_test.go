package export_test

import (
	"context"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/turn/turntest"
)

func (x mortalReleases) Erase(ctx context.Context, release string) error {
	return turntest.Act(x.Mortal, "erase", func() error { return x.Releases.Erase(ctx, release) })
}

func (x mortalJobs) Drop(ctx context.Context, tenant int32, owner [32]byte, id string) error {
	return turntest.Act(x.Mortal, "drop", func() error { return x.Jobs.Drop(ctx, tenant, owner, id) })
}

// keysOf is the number of releases of that id with keys.
func (h *house) keysOf(id string) string {
	h.T.Helper()
	return h.SQL("SELECT count(*)::text FROM deident.release WHERE id = $1::text::uuid", id)
}

// mortal is a server of the house that is killed at a call.
func (h *house) mortal(m *turntest.Mortal) *export.Service {
	h.T.Helper()
	cfg := h.cfg
	cfg.Jobs, cfg.Releases = mortalJobs{cfg.Jobs, m}, mortalReleases{cfg.Releases, m}
	s, err := export.New(cfg)
	if err != nil {
		h.T.Fatal(err)
	}
	return s
}

// The keys of a release that has failed are erased by whoever sweeps next, if who ended it was killed before it did that. Others stay.
func TestD3_164_514_c_KeysOfAFailedReleaseAreSwept(t *testing.T) {
	agreement := terms.Terms{Agreements: []terms.Agreement{{Validity: terms.Validity{Reference: "Contract/dua", Recipients: []string{"exchange"}, From: "2026-01-01", Until: "2027-01-01"}}}}
	for _, at := range []turntest.Mortal{{At: 1, Only: "finish", After: true}, {At: 1, Only: "erase"}, {At: 1, Only: "erase", After: true}, {At: 1, Only: "finish"}} {
		h := newHouse(t, releasing)
		ctx := t.Context()
		done := h.accept(h.exchange(), released("Patient"))
		h.finish()
		underWay := h.accept(h.exchange(), released("Patient"))
		p := h.exchange()
		p.Purpose, p.Client = "HOPERAT", "exchange"
		h.cfg.Terms.Set(h.Tenant, agreement)
		r := released("Patient")
		r.Profile = "limited-data-set"
		id := h.accept(p, r)
		for range 2 {
			if _, err := h.Step(ctx); err != nil {
				t.Fatal(err)
			}
		}
		h.cfg.Terms.Set(h.Tenant, terms.Terms{})
		first := h.mortal(&at)
		for busy := true; busy && !at.Dead; {
			busy, _ = first.Step(ctx)
		}
		failed := !(at.Only == "finish" && !at.After)
		if !at.Dead || (h.status(p, id).State == export.Failed) != failed || (h.keysOf(id) == "0") != (at.Only == "erase" && at.After) {
			t.Fatalf("killed %s: %s, with %s keys", at.Died, h.status(p, id).State, h.keysOf(id))
		}
		// One that is made at once, and has no job.
		single := record.NewID()
		if err := h.cfg.Releases.Begin(ctx, single, h.Tenant, h.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := h.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if (h.keysOf(id) == "0") != failed || h.keysOf(done) != "1" || h.keysOf(underWay) != "1" || h.keysOf(single) != "1" {
			t.Errorf("killed %s: of the failed one %s, of others %s, %s and %s", at.Died, h.keysOf(id), h.keysOf(done), h.keysOf(underWay), h.keysOf(single))
		}
		h.Clock.Add(61_000)
		h.finish()
		if h.status(p, id).State != export.Failed || h.keysOf(id) != "0" || h.status(h.exchange(), underWay).State != export.Done {
			t.Errorf("killed %s: %s", at.Died, h.status(p, id).State)
		}
	}
}

// Who is killed while a release is cancelled leaves no keys that nobody can have erased: they are gone, or the job is there to be
// cancelled again.
func TestD3_164_514_c_KeysOfACancelledRelease(t *testing.T) {
	h := newHouse(t, releasing)
	for _, at := range []turntest.Mortal{{At: 1, Only: "erase"}, {At: 1, Only: "erase", After: true}, {At: 1, Only: "drop"}, {At: 1, Only: "drop", After: true}} {
		p := h.exchange()
		id := h.accept(p, released("Patient"))
		h.finish()
		if err := h.mortal(&at).Cancel(t.Context(), h.Grant(p), id); err == nil || !at.Dead {
			t.Fatalf("%v, %v", at.Dead, err)
		}
		err := h.Cancel(t.Context(), h.Grant(p), id)
		if n := h.keysOf(id); n != "0" || err != nil && status(err) != 404 {
			t.Errorf("killed %s: %s keys are left, and %v", at.Died, n, err)
		}
		if _, err := h.fetch(p, id, "1.ndjson"); status(err) != 404 {
			t.Errorf("killed %s: %v", at.Died, err)
		}
	}
}
