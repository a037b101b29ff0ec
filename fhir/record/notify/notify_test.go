package notify_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

func want(t *testing.T, what string, got []string, list ...string) {
	t.Helper()
	if !slices.Equal(got, list) {
		t.Errorf("%s: %q, want %q", what, got, list)
	}
}

// A subscriber is told, in order and by numbers without a gap, of what it may see and of nothing else.
func TestEventsOfWhatMayBeSeen(t *testing.T) {
	h := newHouse(t)
	id := h.active(h.exchange(), subscription("resource-change", "full-resource", channel("max-count", "valuePositiveInt", 2), "Observation", "DocumentReference"))
	// The record of each disclosure is durable before anything is sent.
	h.box.then = func(m notify.Message) {
		for _, e := range readBundle(t, m.Body).events {
			_, ref, _ := strings.Cut(e, " ")
			if n := h.SQL("SELECT count(*)::text FROM audit.event, unnest(entities) AS e WHERE subject = 'iss|exchange' AND e LIKE $1", ref+"/%"); n == "0" {
				t.Errorf("%s is sent and not recorded", ref)
			}
		}
	}
	h.Load(observation("o1", "anna", ""))
	h.Load(observation("s1", "bert", `,"encounter":{"reference":"Encounter/eb"},"note":[{"text":"`+canary+`"}]`)) // part 2, without consent
	h.Load(note("psy", "psychotherapy-note"))
	h.Load(observation("o2", "bert", ""))
	h.Load(observation("o1", "anna", `,"valueInteger":1`))
	h.Load(observation("s2", "anna", `,"encounter":{"reference":"Encounter/ea"}`)) // part 2, under her consent
	h.Remove(observation("o2", "bert", ""))
	h.settle()
	got := h.box.take()
	var events, entries []string
	for _, m := range got {
		b := readBundle(t, m.Body)
		events, entries = append(events, b.events...), append(entries, b.entries...)
		if strings.Contains(string(m.Body), canary) {
			t.Error("the canary is out")
		}
	}
	// o2 is deleted by now: what it said before is as in its history.
	want(t, "events", events, "1 Observation/o1", "2 Observation/o2", "3 Observation/o1", "4 Observation/s2", "5 Observation/o2")
	want(t, "entries", entries, "POST Observation 201", "POST Observation 201", "PUT Observation/o1 200", "POST Observation 201", "DELETE Observation/o2 204")
	if len(got) != 3 {
		t.Errorf("%d messages, want 3", len(got))
	}
	for i, noticed := range []bool{false, true, false} {
		if got[i].Noticed != noticed || strings.Contains(string(got[i].Body), "NORDSCLCD") != noticed {
			t.Errorf("message %d: notice %v", i, got[i].Noticed)
		}
	}
	if s := h.SQL("SELECT events::text || ' ' || sent::text FROM notify.subscription"); s != "5 5" {
		t.Error(s)
	}

	// The same, asked for.
	ctx := context.Background()
	a, err := h.Events(ctx, h.Grant(h.exchange()), id, notify.Range{From: 2, To: 4, Content: notify.IDOnly})
	if err != nil {
		t.Fatal(err)
	}
	b := readBundle(t, []byte(text(a)))
	want(t, "$events", b.events, "2 Observation/o2", "3 Observation/o1", "4 Observation/s2")
	if b.kind != "query-event" || b.count != "5" || !a.Noticed() {
		t.Errorf("%+v", b)
	}

	// A revoked consent leaves the number, and nothing else; and a removed resource leaves the same.
	h.Load(consent("c", "part2-specific", "inactive"))
	a, err = h.Events(ctx, h.Grant(h.exchange()), id, notify.Range{From: 4, To: 4})
	if err != nil {
		t.Fatal(err)
	}
	hidden := text(a)
	want(t, "a hidden event", readBundle(t, []byte(hidden)).events, "4")
	if strings.Contains(hidden, "s2") || a.Noticed() {
		t.Error(hidden)
	}
	h.Exec("DELETE FROM record.resource WHERE id = 's2'")
	if a, err = h.Events(ctx, h.Grant(h.exchange()), id, notify.Range{From: 4, To: 4}); err != nil || text(a) != hidden {
		t.Errorf("%v\n%s\n%s", err, text(a), hidden)
	}
	h.settle()
	if got := h.box.take(); got != nil {
		t.Errorf("a revoked consent was told: %s", got[0].Body)
	}
}

// What is not visible any more when it is sent again keeps its number alone.
func TestRevokedBeforeItIsSentAgain(t *testing.T) {
	h := newHouse(t)
	h.active(h.exchange(), subscription("resource-change", "full-resource", "", "Observation"))
	h.box.fail = errors.New("down")
	h.Load(observation("s2", "anna", `,"encounter":{"reference":"Encounter/ea"}`))
	h.settle()
	h.Load(consent("c", "part2-specific", "inactive"))
	h.box.fail = nil
	h.Clock.Add(10_000)
	h.settle()
	got := h.box.take()
	if len(got) != 1 || strings.Contains(string(got[0].Body), "Observation/s2") {
		t.Fatalf("%d %v", len(got), got)
	}
	want(t, "events", readBundle(t, got[0].Body).events, "1")
}

func TestTopicsOfEncounters(t *testing.T) {
	h := newHouse(t)
	start := h.active(h.exchange(), subscription("encounter-start", "id-only", ""))
	end := h.active(h.exchange(), subscription("encounter-end", "id-only", "", "Encounter?patient=Patient/cleo"))
	for _, s := range []string{"planned", "in-progress", "onleave", "in-progress", "finished", "finished"} {
		h.Load(encounter("e1", "cleo", "general", s))
		h.Load(encounter("e2", "bert", "sud", s))
		h.Load(encounter("e3", "anna", "general", s))
	}
	h.settle()
	got := map[string][]string{}
	for _, m := range h.box.take() {
		for _, id := range []fhir.ID{start, end} {
			if strings.Contains(string(m.Body), string(id)) {
				got[string(id)] = append(got[string(id)], readBundle(t, m.Body).events...)
			}
		}
	}
	want(t, "start", got[string(start)], "1 Encounter/e1", "2 Encounter/e3")
	want(t, "end", got[string(end)], "1 Encounter/e1")
}

// A filter asks what the resource says; a delete is told to who was told of it.
func TestFilters(t *testing.T) {
	h := newHouse(t)
	h.active(h.exchange(), subscription("resource-change", "id-only", "", "Observation?patient=Patient/anna", "Observation?status=final", "Condition"))
	h.Load(observation("o1", "anna", ""))
	h.Load(observation("o2", "bert", ""))
	h.Load(strings.Replace(observation("o3", "anna", ""), "final", "preliminary", 1))
	h.Load(`{"resourceType":"Condition","id":"k1","subject":{"reference":"Patient/bert"},"code":{"text":"headache"}}`)
	h.settle()
	h.Remove(observation("o1", "anna", ""))
	h.Remove(observation("o2", "bert", ""))
	h.Remove(`{"resourceType":"Condition","id":"k1","subject":{"reference":"Patient/bert"}}`)
	h.settle()
	want(t, "events", h.events(), "1 Observation/o1", "2 Condition/k1", "3 Observation/o1", "4 Condition/k1")
}

// What a transaction writes that began before and is committed after another one is not missed,
// nor what was under way when the subscription was stored.
func TestLateCommitsAreNotMissed(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	lock := func(id string) func() {
		c := h.Connect()
		tx, err := c.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, "SELECT FROM record.resource WHERE id = $1 FOR UPDATE", id); err != nil {
			t.Fatal(err)
		}
		return func() { _ = tx.Rollback(ctx) }
	}
	slow := func(id string, texts ...string) (finish func()) {
		all, err := h.Admit(fhir.Update, texts)
		if err != nil {
			t.Fatal(err)
		}
		unlock, done := lock(id), make(chan error)
		go func() { _, err := h.Store.Commit(ctx, all); done <- err }()
		h.waiting()
		return func() {
			unlock()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	h.active(h.exchange(), subscription("resource-change", "id-only", "", "Observation"))
	h.Load(observation("blocked", "anna", ""))
	h.settle()
	h.box.take()
	finish := slow("blocked", observation("blocked", "anna", `,"valueInteger":2`), observation("late", "anna", ""))
	h.Load(observation("early", "anna", ""))
	h.settle()
	want(t, "before", h.events(), "2 Observation/early")
	finish()
	h.settle()
	got := h.events()
	slices.Sort(got)
	if len(got) != 2 || !strings.Contains(strings.Join(got, " "), "Observation/late") {
		t.Errorf("after: %q", got)
	}

	// A transaction has looked for subscriptions, and found none, and is not committed yet.
	h2 := newHouse(t)
	h2.Load(observation("blocked", "anna", ""))
	c := h2.Connect()
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO record.import_item (tenant, digest) VALUES ($1, 'x')", h2.Tenant); err != nil { // it has a number now
		t.Fatal(err)
	}
	id := h2.subscribe(h2.exchange(), subscription("resource-change", "id-only", "", "Observation"))
	for range 3 {
		h2.settle()
		h2.Clock.Add(2000)
	}
	if st := h2.state(id); st != "requested " || h2.box.take() != nil {
		t.Errorf("it began while a transaction was under way that ran before it: %s", st)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if h2.settle(); h2.state(id) == "active " {
			return
		}
		h2.Clock.Add(2000)
	}
	t.Error("it never began")
}

// A process that has not heard of a label yet, because another one was the first to give it, tells
// of what has it all the same: a change is looked at once.
func TestLabelsThatAnotherProcessGaveFirst(t *testing.T) {
	h := newHouse(t)
	id := h.active(h.exchange(), subscription("resource-change", "id-only", "", "Observation"))
	other, err := open(h.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Store.Close()
	other.Moving = h.Now
	cfg := other.config(h.box, h.cfg.Log)
	late, err := notify.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	classes := h.SQL("SELECT count(*)::text FROM record.label_class")
	h.Load(observation("o", "anna", ""))
	if h.SQL("SELECT count(*)::text FROM record.label_class") == classes {
		t.Fatal("its labels are no new ones, so this test shows nothing")
	}
	h.Service = late
	h.settle()
	want(t, "told", h.events(), "1 Observation/o")
	if st := h.state(id); st != "active " {
		t.Error(st)
	}
}
