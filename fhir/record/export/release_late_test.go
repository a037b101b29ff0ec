package export_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/turn/turntest"
)

// kept is all that is kept of releases and of the exports that they are, but for when a turn ends and what may lie in the sink.
func (h *house) kept() string {
	h.T.Helper()
	out := ""
	for _, table := range []string{"deident.release", "deident.member", "deident.patient", "deident.cell", "deident.rare", "deident.piece", "export.part"} {
		out += table + ": " + h.SQL("SELECT COALESCE(string_agg(x::text, '; ' ORDER BY x::text), '') FROM "+table+" AS x") + "\n"
	}
	return out + h.SQL("SELECT COALESCE(string_agg(concat_ws(' ', id, state, reason, step, after, lines, parts, turn), '; ' ORDER BY id), '') FROM export.job")
}

// latePoints are the calls by which a worker touches a release.
var latePoints = []string{"take", "enter", "search", "shifts", "survey", "settle", "record", "wrote", "reserve", "create", "write", "close", "publish", "restart", "keep", "finish"}

// A worker that was held up for longer than its lease, at any point of either pass, wakes when others have gone on without
// it: whatever they made of the release meanwhile stays as they left it, down to the last row.
func TestALateWorkerChangesNoRelease(t *testing.T) {
	h := newHouse(t, releasing, func(c *export.Config) { c.Page = 12 })
	for i := range 11 {
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"q%02d","gender":"male"}`, i))
	}
	for i := range 9 {
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"r%02d"}`, i))
	}
	h.Clock.Add(1000)
	determined(h, deident.Gender)
	ctx := context.Background()
	p := h.exchange()
	r := export.Request{Released: true, Profile: "expert-determination", Types: []fhir.ResourceType{"Encounter", "Patient"}}
	step := func() {
		if _, err := h.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var id string
	meanwhile := []struct {
		name string
		do   func()
		want export.State // "": it is gone
		open bool         // nobody has entered: what the late one does is as that of one who was killed
	}{
		{"it is made", h.finish, export.Done, false},
		{"one piece of it is made", step, export.Done, false},
		{"others only took it", func() { // and have not said so to the keys yet
			if _, _, err := h.cfg.Jobs.Take(ctx, 1000); err != nil {
				t.Fatal(err)
			}
			h.Clock.Add(1001)
		}, export.Done, true},
		{"it is surveyed anew", func() { // by whoever finds something changed
			h.Load(`{"resourceType":"Patient","id":"q00","gender":"other"}`)
			h.Clock.Add(1000)
			for range 6 {
				step()
			}
		}, export.Done, false},
		{"it fails", func() {
			laid := h.cfg.Terms.Of(h.Tenant)
			h.cfg.Terms.Set(h.Tenant, terms.Terms{})
			h.finish()
			h.cfg.Terms.Set(h.Tenant, laid)
		}, export.Failed, false},
		{"it is cancelled", func() {
			if err := h.Cancel(ctx, h.Grant(p), id); err != nil {
				t.Fatal(err)
			}
		}, "", false},
	}
	tried := map[string]int{}
	n := 0
	for _, point := range latePoints {
		for _, after := range []bool{false, true} {
			if point == "take" && !after { // who has taken nothing is not late
				continue
			}
			for at := 1; at <= 2; at++ {
				for i, m := range meanwhile {
					if n++; turntest.Faults(t) < 50 && (i != n/len(meanwhile)%len(meanwhile) || at == 2 && n%4 > 0) { // quick: one of them at each point
						continue
					}
					r.Format = []string{"", "parquet"}[n/2%2]
					id = h.accept(p, r)
					late := &lateWorker{house: h, point: point, format: r.Format, denied: n%2 == 0, open: m.open, Mortal: turntest.Mortal{At: at, Only: point, After: after}}
					late.Sleeps = func() {
						h.Clock.Add(61_000) // its lease ends
						m.do()
						late.before = h.kept()
					}
					late.run(point == "restart")
					if late.Died == "" {
						h.finish()
					} else {
						tried[late.Died]++
						late.check(fmt.Sprintf("%s, call %d, %s", late.Died, at, m.name), id, m.want)
					}
					if err := h.Cancel(ctx, h.Grant(p), id); err != nil && status(err) != 404 {
						t.Fatal(err)
					}
					if left := h.SQL("SELECT count(*)::text FROM deident.release"); left != "0" {
						t.Fatalf("%s at %s: the keys of %s releases are left", m.name, late.Died, left)
					}
				}
			}
		}
	}
	for _, point := range latePoints {
		if tried["before "+point] == 0 && point != "take" || tried["after "+point] == 0 {
			t.Errorf("nobody was late at %s", point)
		}
	}
	h.Clock.Add(5 * 60_000)
	if err := h.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if h.objects() != 0 {
		t.Errorf("%d objects are left", h.objects())
	}
}

// lateWorker is one that sleeps at a point, and may not even go on when it wakes.
type lateWorker struct {
	*house
	turntest.Mortal
	point  string
	format string
	denied bool
	open   bool
	before string // what was kept when it woke
}

// run lets it work until it has slept. With changes, it finds that what it writes has changed.
func (w *lateWorker) run(changes bool) {
	w.T.Helper()
	cfg, m := w.cfg, &w.Mortal
	cfg.Jobs, cfg.Records, cfg.Gate, cfg.Sink, cfg.Releases = mortalJobs{cfg.Jobs, m}, mortalRecords{cfg.Records, m}, mortalGate{cfg.Gate, m}, mortalSink{cfg.Sink, m}, mortalReleases{cfg.Releases, m}
	cfg.Clients = registry(func(string) error {
		if w.denied && w.Died != "" {
			return authz.ErrDenied
		}
		return nil
	})
	walks := 0
	cfg.Releases = between{cfg.Releases, func(n int, _ []export.Source) {
		if n == 2 && changes {
			w.Load(`{"resourceType":"Patient","id":"q00","gender":"other"}`)
		}
	}, &walks}
	slow, err := export.New(cfg)
	if err != nil {
		w.T.Fatal(err)
	}
	for busy := true; busy && w.Died == ""; {
		busy, _ = slow.Step(context.Background()) // what it says when it is late is its own business
	}
}

// check fails where anything is otherwise than the others left it, and where the release does not come to its end after all.
func (w *lateWorker) check(where, id string, want export.State) {
	w.T.Helper()
	if now := w.kept(); now != w.before && !w.open {
		w.T.Errorf("%s: the late one has changed something\n--- before\n%s\n--- after\n%s", where, w.before, now)
	}
	w.Load(`{"resourceType":"Patient","id":"q00","gender":"male"}`)
	w.Clock.Add(61_000)
	w.finish()
	if want == "" {
		return
	}
	s := w.status(w.exchange(), id)
	if s.State != want && !(w.point == "restart" && s.Reason == export.Changed) { // it was surveyed anew too often
		w.T.Errorf("%s: %s %s", where, s.State, s.Reason)
	}
	if s.State == export.Failed {
		if n := w.SQL("SELECT count(*)::text FROM deident.release"); n != "0" {
			w.T.Errorf("%s: the keys of %s releases are left", where, n)
		}
		return
	}
	if w.format != "" {
		got := w.tables(id, w.format)
		keyed(w.T, got)
		if x := fmt.Sprint(len(got["patient"].rows), len(got["encounter"].rows), len(got["level_of_care"].rows), len(s.Files)); x != "23 2 2 3" {
			w.T.Errorf("%s: rows and files are %s", where, x)
		}
		return
	}
	got := w.fetched(w.exchange(), id)
	integrity(w.T, got)
	if len(got["output Patient"]) != 23 || len(got["output Encounter"]) != 2 || s.Lines != 25 {
		w.T.Errorf("%s: %d and %d lines of %d", where, len(got["output Patient"]), len(got["output Encounter"]), s.Lines)
	}
}

// A release that was erased is not begun again by a worker that enters late.
func TestAnErasedReleaseIsNotEntered(t *testing.T) {
	h := newHouse(t, releasing)
	ctx := context.Background()
	const id = "5f0c1d6e-4f5e-4f0b-9a3c-0d6f3c0f9a11"
	x := h.Store.Releases()
	if err := x.Begin(ctx, id, h.Tenant, h.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := x.Enter(ctx, export.Key{Release: id, Turn: 1}, h.Tenant, 0); err != nil {
		t.Fatal(err)
	}
	if err := x.Erase(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := x.Enter(ctx, export.Key{Release: id, Turn: 2}, h.Tenant, 0); !errors.Is(err, export.ErrOver) {
		t.Errorf("it is entered: %v", err)
	}
	if left := h.SQL("SELECT count(*)::text FROM deident.release WHERE id::text = $1", id); left != "0" {
		t.Errorf("%s are there again", left)
	}
}
