package export_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// Whatever had begun before the moment of an export is in it, however long it takes to be
// stored: the next export, of what changed since that moment, would not find it.
func TestWhatBeganBeforeTheMomentIsInIt(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	stop, err := pgx.Connect(ctx, h.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop.Close(ctx) }()
	tx, err := stop.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Where the names of a Patient are indexed: the change has its moment by then.
	if _, err := tx.Exec(ctx, "LOCK TABLE record.resource_string IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	slow := make(chan error, 1)
	go func() {
		slow <- h.Write(fhir.Update, `{"resourceType":"Patient","id":"slow","name":[{"family":"Slow"}]}`)
	}()
	for h.SQL("SELECT 'x' FROM pg_locks WHERE NOT granted") == "" {
		time.Sleep(time.Millisecond)
	}
	h.Clock.Add(1000)
	first := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}})
	moment := h.status(p, first).Transaction
	for range 20 { // more often than a job may come to nothing
		if busy, err := h.Step(ctx); err != nil || !busy {
			t.Fatal(busy, err)
		}
		if s := h.status(p, first); s.Lines != 0 || s.State == export.Failed {
			t.Fatalf("it did not wait: %+v", s)
		}
		h.Clock.Add(1000)
	}
	// What begins after the moment is not waited for.
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	h.finish()
	next := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}, Since: moment.Format("2006-01-02T15:04:05.000Z07:00")})
	h.finish()
	if got, then := ids(h.fetched(p, first)["output Patient"]), ids(h.fetched(p, next)["output Patient"]); got != "anna bert cleo slow" || then != "" {
		t.Errorf("first %q, next %q", got, then)
	}
}

// A client can choose the id of a resource that is hidden from it. Whoever sees both gets both, wherever a page ends.
func TestPagesEndBetweenRowsOfOneID(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Page = 1 })
	p := h.exchange()
	dora := h.therapist()
	dora.Scopes = smart.Parse("user/*.cruds")
	if err := h.Write(fhir.Update, observation("o01", "anna", `,"valueInteger":77`), dora); err != nil {
		t.Fatal(err)
	}
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Observation"}})
	h.finish()
	lines := h.fetched(p, id)["output Observation"]
	if got := ids(lines); got != "o00 o01"+" o01 o02 o03 o04 o05 o06 o07 o08 o09 o10 o11 sa" || !strings.Contains(strings.Join(lines[1:3], ""), "Patient/anna") || !strings.Contains(strings.Join(lines[1:3], ""), "Patient/bert") {
		t.Errorf("%q %q", got, lines[1:3])
	}
	since := h.Now().Format("2006-01-02T15:04:05.000Z07:00")
	h.remove("Observation/o01")
	// The other one is there still, so nothing is said of the end of this one.
	if got := h.export(p, export.Request{Types: []fhir.ResourceType{"Observation"}, Since: since}); len(got["deleted Bundle"]) != 0 {
		t.Errorf("%v", got)
	}
	h.Exec("UPDATE record.resource SET deleted = true, body = NULL, updated = $1 WHERE id = 'o01'", h.Now())
	if got := h.export(p, export.Request{Types: []fhir.ResourceType{"Observation"}, Since: since}); len(got["deleted Bundle"]) != 1 {
		t.Errorf("%v", got)
	}
}

// What has labels that another process was the first to give is in an export, however short the
// time since.
func TestLabelsThatAnotherProcessGaveFirst(t *testing.T) {
	h := newHouse(t)
	other, err := open(h.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Store.Close()
	other.Moving = h.Now
	late, err := export.New(other.config(h.cfg.Sink, h.Now, h.cfg.Log))
	if err != nil {
		t.Fatal(err)
	}
	classes := h.SQL("SELECT count(*)::text FROM record.label_class")
	h.Load(`{"resourceType":"Condition","id":"mood","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F84.0"}]},"subject":{"reference":"Patient/anna"}}`)
	if h.SQL("SELECT count(*)::text FROM record.label_class") == classes {
		t.Fatal("its labels are no new ones, so this test shows nothing")
	}
	id := h.accept(h.exchange(), export.Request{Types: []fhir.ResourceType{"Condition"}})
	h.Service = late
	h.finish()
	if got := ids(h.fetched(h.exchange(), id)["output Condition"]); !strings.Contains(got, "mood") {
		t.Errorf("the export has %q", got)
	}
}
