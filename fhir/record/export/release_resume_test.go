package export_test

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/turn/turntest"
)

type mortalReleases struct {
	export.Releases
	*turntest.Mortal
}

func (x mortalReleases) Enter(ctx context.Context, k export.Key, tenant int32, round int) error {
	return turntest.Act(x.Mortal, "enter", func() error { return x.Releases.Enter(ctx, k, tenant, round) })
}

func (x mortalReleases) Survey(ctx context.Context, k export.Key, piece string, found []deident.Found, part deident.Report) error {
	return turntest.Act(x.Mortal, "survey", func() error { return x.Releases.Survey(ctx, k, piece, found, part) })
}

func (x mortalReleases) Settle(ctx context.Context, k export.Key, v deident.Verdict, r deident.Report) error {
	return turntest.Act(x.Mortal, "settle", func() error { return x.Releases.Settle(ctx, k, v, r) })
}

func (x mortalReleases) Shifts(ctx context.Context, k export.Key, ids []fhir.ID, draw func() (int, error)) (map[fhir.ID]int, error) {
	return turntest.Do(x.Mortal, "shifts", func() (map[fhir.ID]int, error) { return x.Releases.Shifts(ctx, k, ids, draw) })
}

func (x mortalReleases) Wrote(ctx context.Context, k export.Key, t fhir.ResourceType, list []export.Source) error {
	return turntest.Act(x.Mortal, "wrote", func() error { return x.Releases.Wrote(ctx, k, t, list) })
}

func (x mortalReleases) Keep(ctx context.Context, k export.Key, until time.Time) error {
	return turntest.Act(x.Mortal, "keep", func() error { return x.Releases.Keep(ctx, k, until) })
}

func (x mortalGate) Record(ctx context.Context, g authz.Grant, t fhir.ResourceType, in ...record.Sealed) error {
	return turntest.Act(x.Mortal, "record", func() error { return x.Gate.Record(ctx, g, t, in...) })
}

func (x mortalJobs) Restart(ctx context.Context, j export.Job, next export.Position) error {
	return turntest.Act(x.Mortal, "restart", func() error { return x.Jobs.Restart(ctx, j, next) })
}

// A worker may be killed at any point of either pass: no line is lost or there twice, no id changes, and no key is left.
func TestReleaseResumes(t *testing.T) {
	t.Run("lines", func(t *testing.T) {
		resumes(t, "", 12, func(h *house, id string) string {
			got := h.fetched(h.exchange(), id)
			integrity(h.T, got)
			return fmt.Sprint(len(got["output Patient"]), len(got["output Encounter"]), len(got), h.status(h.exchange(), id).Lines)
		}, "23 2 2 25")
	})
	t.Run("tables", func(t *testing.T) {
		resumes(t, "parquet", 8, func(h *house, id string) string {
			got := h.tables(id, "parquet")
			keyed(h.T, got)
			return fmt.Sprint(len(got["patient"].rows), len(got["encounter"].rows), len(got["level_of_care"].rows), len(got), len(got["patient"].files))
		}, "23 2 2 3 2")
	})
}

// resumes kills the makers of releases in that format, whose files are of two pages each, and compares what there is of each in the end.
func resumes(t *testing.T, format string, page int, there func(h *house, id string) string, want string) {
	t.Helper()
	h := newHouse(t, releasing, func(c *export.Config) { c.Page, c.Pages = page, 2 })
	for i := range 11 {
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"q%02d","gender":"male"}`, i))
	}
	for i := range 9 { // with those of the world enough to be alike in nothing
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"r%02d"}`, i))
	}
	h.Clock.Add(1000)
	determined(h, deident.Gender)
	ctx := context.Background()
	p := h.exchange()
	r := export.Request{Released: true, Profile: "expert-determination", Format: format, Types: []fhir.ResourceType{"Encounter", "Patient"}}
	deaths := map[string]int{}
	for _, round := range []struct {
		after bool
		only  string // with that, it has to be surveyed anew
	}{{false, ""}, {true, ""}, {false, "restart"}, {true, "restart"}} {
		for at := 1; ; at++ {
			id := h.accept(p, r)
			m := &turntest.Mortal{At: at, After: round.after, Only: round.only}
			cfg := h.cfg
			cfg.Jobs, cfg.Records, cfg.Gate, cfg.Sink, cfg.Releases = mortalJobs{cfg.Jobs, m}, mortalRecords{cfg.Records, m}, mortalGate{cfg.Gate, m}, mortalSink{cfg.Sink, m}, mortalReleases{cfg.Releases, m}
			walks := 0
			cfg.Releases = between{cfg.Releases, func(n int, _ []export.Source) {
				if n == 2 && round.only != "" {
					h.Load(`{"resourceType":"Patient","id":"q00","gender":"other"}`)
				}
			}, &walks}
			first, err := export.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for busy := true; busy && !m.Dead; {
				busy, _ = first.Step(ctx)
			}
			if m.Dead {
				deaths[m.Died]++
				if _, err := first.Step(ctx); !errors.Is(err, turntest.ErrKilled) {
					t.Fatalf("the dead walk: %v", err)
				}
				h.Clock.Add(61_000) // its lease ends
			}
			h.Load(`{"resourceType":"Patient","id":"q00","gender":"male"}`)
			h.Clock.Add(1000)
			h.finish()
			if s := h.status(p, id); s.State != export.Done {
				t.Fatalf("killed %s (call %d): %s %s", m.Died, at, s.State, s.Reason)
			}
			if x := there(h, id); x != want {
				t.Errorf("killed %s (call %d): %s", m.Died, at, x)
			}
			if err := h.Cancel(ctx, h.Grant(p), id); err != nil {
				t.Fatal(err)
			}
			if !m.Dead {
				break
			}
		}
	}
	h.Clock.Add(5 * 60_000)
	if err := h.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if n := h.SQL("SELECT count(*)::text FROM deident.release"); h.objects() != 0 || n != "0" {
		t.Errorf("%d objects and the keys of %s releases are left", h.objects(), n)
	}
	var where []string
	for d, n := range deaths {
		where = append(where, fmt.Sprintf("%s %d", d, n))
	}
	sort.Strings(where)
	t.Log(where)
	for _, point := range []string{"take", "enter", "search", "shifts", "survey", "settle", "record", "wrote", "reserve", "create", "write", "close", "publish", "restart", "keep", "finish"} {
		if deaths["before "+point] == 0 || deaths["after "+point] == 0 {
			t.Errorf("nobody was killed at %s", point)
		}
	}
}

// Whoever is late, because somebody else has taken the release since, changes nothing of it.
func TestALateTurnChangesNoRelease(t *testing.T) {
	h := newHouse(t, releasing)
	ctx := context.Background()
	x, id, later := h.cfg.Releases, record.NewID(), h.Now().Add(time.Hour)
	old, newest := export.Key{Release: id, Turn: 1}, export.Key{Release: id, Turn: 2}
	if err := x.Enter(ctx, old, h.Tenant, 0); !errors.Is(err, export.ErrOver) {
		t.Errorf("what was not begun is entered: %v", err)
	}
	if err := x.Begin(ctx, id, h.Tenant, later); err != nil {
		t.Fatal(err)
	}
	for _, k := range []export.Key{old, newest} {
		if err := x.Enter(ctx, k, h.Tenant, 0); err != nil {
			t.Fatal(err)
		}
	}
	found := []deident.Found{{Ref: fhir.Ref{Type: "Patient", ID: "anna"}, Patient: "anna"}}
	if err := x.Survey(ctx, newest, "Patient", found, deident.Report{}); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"enter":  x.Enter(ctx, old, h.Tenant, 0),
		"survey": x.Survey(ctx, old, "Patient", []deident.Found{{Ref: fhir.Ref{Type: "Patient", ID: "bert"}}}, deident.Report{}),
		"settle": x.Settle(ctx, old, deident.Verdict{}, deident.Report{}),
		"wrote":  x.Wrote(ctx, old, "Patient", []export.Source{{ID: "anna", Version: 1}}),
		"keep":   x.Keep(ctx, old, later),
	} {
		if !errors.Is(err, export.ErrOver) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := x.Shifts(ctx, old, []fhir.ID{"anna"}, func() (int, error) { return 1, nil }); !errors.Is(err, export.ErrOver) {
		t.Errorf("shifts: %v", err)
	}
	if err := x.Enter(ctx, export.Key{Release: id, Turn: 3}, h.Tenant+1, 0); err == nil {
		t.Error("another practice enters")
	}
	if got := h.SQL("SELECT id FROM deident.member"); got != "anna" {
		t.Errorf("members: %s", got)
	}
	// Who goes on with a page that was surveyed counts the same, or all is counted anew: nobody is counted for what she had.
	if err := x.Survey(ctx, newest, "Patient", found, deident.Report{}); err != nil {
		t.Errorf("surveyed twice: %v", err)
	}
	changed := []deident.Found{{Ref: found[0].Ref, Patient: "anna", Counted: []byte{1}, Cells: []string{"a\tb\tc"}}}
	if err := x.Survey(ctx, newest, "Patient", changed, deident.Report{}); !errors.Is(err, export.ErrDrift) || h.SQL("SELECT cell FROM deident.cell") != "" {
		t.Errorf("counted otherwise: %v", err)
	}
	// A later round forgets what the one before it found, and draws other surrogates.
	was := h.SQL("SELECT surrogate FROM deident.member")
	if err := x.Enter(ctx, export.Key{Release: id, Turn: 3}, h.Tenant, 1); err != nil {
		t.Fatal(err)
	}
	if err := x.Survey(ctx, export.Key{Release: id, Turn: 3}, "Patient", found, deident.Report{}); err != nil {
		t.Fatal(err)
	}
	if now := h.SQL("SELECT surrogate FROM deident.member"); now == was || now == "" {
		t.Errorf("%q, then %q", was, now)
	}
	// What was erased is gone: nobody begins it again by being late.
	if err := x.Erase(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := x.Enter(ctx, export.Key{Release: id, Turn: 4}, h.Tenant, 1); !errors.Is(err, export.ErrOver) {
		t.Errorf("what was erased is entered: %v", err)
	}
}

// What is read for a release the gate opens for nobody, and what is read otherwise it records for no release.
func TestTheGateOpensNothingOfARelease(t *testing.T) {
	h := newHouse(t, releasing)
	ctx := context.Background()
	free := h.Grant(h.exchange())
	under, err := h.Engine.Releasing(free, "safe-harbor")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		g                  authz.Grant
		releases, recorded bool
	}{"for a release": {under, false, true}, "otherwise": {free, true, false}} {
		g, err := h.Engine.Extend(c.g, fhir.Read, "Patient")
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.Engine.Plan(ctx, g, fhir.Read, "Patient")
		if err != nil {
			t.Fatal(err)
		}
		x, err := h.Store.Read(ctx, r, "anna")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := h.Gate.Release(ctx, g, "Patient", x); (err == nil) != c.releases || (len(out) > 0) != c.releases {
			t.Errorf("%s: released %v", name, err)
		}
		if err := h.Gate.Record(ctx, g, "Patient", x); (err == nil) != c.recorded {
			t.Errorf("%s: recorded %v", name, err)
		}
	}
}
