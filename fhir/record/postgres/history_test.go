package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// A history holds a version only where both it and the current one are visible,
// and speaks of time as if the others had never been.
func TestHistoryOfAMovedResource(t *testing.T) {
	h := clinic(t)
	text := observation(",'id':'moved'")
	var at []time.Time
	for _, patient := range []string{"anna", "bert", "anna"} {
		h.load(strings.Replace(text, "Patient/anna", "Patient/"+patient, 1))
		at = append(at, h.now())
	}
	dora, bert := h.as("therapist", "TREAT", "Practitioner/dora"), h.as("patient", "PATRQT", "Patient/bert")
	versions := func(p authz.Principal, i fhir.Interaction, q record.History) string {
		t.Helper()
		g, err := h.engine.Authorize(context.Background(), p, i, "Observation")
		if err != nil {
			t.Fatal(err)
		}
		q.Types, q.Count = []fhir.ResourceType{"Observation"}, 10
		reach, err := h.engine.Reach(context.Background(), g, i, q.Types...)
		if err != nil {
			t.Fatal(err)
		}
		page, err := h.store.History(context.Background(), reach, q)
		if err != nil {
			return fmt.Sprint(status(err))
		}
		out, err := h.gate.Release(context.Background(), g, "Observation", page.Entries...)
		if err != nil {
			t.Fatal(err)
		}
		var vs []string
		for _, r := range out {
			vs = append(vs, r.Version().String())
		}
		return strings.Join(vs, " ")
	}
	second := record.History{From: at[1], To: at[1].Add(time.Millisecond)}
	for _, c := range []struct {
		who  authz.Principal
		i    fhir.Interaction
		q    record.History
		want string
	}{
		{dora, fhir.HistoryInstance, record.History{ID: "moved"}, "3 1"},
		{dora, fhir.HistoryType, record.History{}, "3 1"},
		{dora, fhir.HistoryType, record.History{Oldest: true}, "1 3"},
		{dora, fhir.HistoryType, second, "1"}, // for her, version 1 lasted until version 3
		{dora, fhir.HistoryInstance, record.History{ID: "moved", Since: at[1].Add(time.Millisecond)}, "3"},
		{bert, fhir.HistoryInstance, record.History{ID: "moved"}, "404"},
		{bert, fhir.HistoryType, record.History{}, ""}, // version 2 was his, the current one is not
		{bert, fhir.HistoryType, second, ""},
		{h.operator(), fhir.HistoryType, record.History{}, "3 2 1"},
		{h.operator(), fhir.HistoryType, second, "2"},
	} {
		if got := versions(c.who, c.i, c.q); got != c.want {
			t.Errorf("%s %s %+v: %q, want %q", c.who.Subject, c.i, c.q, got, c.want)
		}
	}
}

// The pages of a history over several types hold each version once.
func TestHistoryPages(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	for range 30 {
		h.mustCreate(dora, observation(""))
	}
	g, err := h.engine.Authorize(context.Background(), dora, fhir.HistoryType, "Observation")
	if err != nil {
		t.Fatal(err)
	}
	reach, err := h.engine.Reach(context.Background(), g, fhir.HistoryType, "Observation", "Patient")
	if err != nil {
		t.Fatal(err)
	}
	q := record.History{Types: []fhir.ResourceType{"Observation", "Patient"}, Count: 10}
	var seen int
	for range 10 {
		page, err := h.store.History(context.Background(), reach, q)
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page.Entries)
		if !page.More {
			break
		}
		q.After = &page.Last
	}
	if seen != 31 {
		t.Errorf("%d versions on all pages, want 31", seen)
	}
}
