package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// Every request that dev prints does what it says.
func TestPersonasRequests(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	for _, p := range clinic.Personas(sample) {
		for _, rq := range p.Requests {
			a := h.do(p.Name, call{method: rq.Method, path: "/fhir" + rq.Path})
			if rq.Status != 0 && a.status != rq.Status {
				t.Errorf("%s %s %s: %d, want %d (%s)\n%s", p.Name, rq.Method, rq.Path, a.status, rq.Status, rq.Expect, a.body)
			}
			if a.status != http.StatusOK {
				if c := clinic.FindCanaries([]byte(a.body)); len(c) > 0 {
					t.Errorf("%s %s: a refusal carries data", p.Name, rq.Path)
				}
				continue
			}
			empty := strings.HasPrefix(rq.Expect, "an empty Bundle")
			if strings.Contains(rq.Path, "?") && strings.Contains(a.body, `"entry"`) == empty {
				t.Errorf("%s %s: %q, but got\n%.400s", p.Name, rq.Path, rq.Expect, a.body)
			}
		}
	}
	if c := clinic.FindCanaries([]byte(h.log.String())); len(c) > 0 {
		t.Errorf("the log carries data: %v", c)
	}
}

func TestHiddenIsByteIdenticalToAbsent(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	var note string
	p, _ := persona("colleague")
	for _, rq := range p.Requests {
		if strings.Contains(rq.Expect, "404") && note == "" {
			note = rq.Path
		}
	}
	hidden := h.do("colleague", get(note))
	absent := h.do("colleague", get("/DocumentReference/"+string(sample.Absent())))
	if hidden.status != http.StatusNotFound || normal(hidden) != normal(absent) {
		t.Fatalf("hidden:\n%s\nabsent:\n%s", normal(hidden), normal(absent))
	}
	if own := h.do("therapist", get(note)); own.status != http.StatusOK {
		t.Fatalf("the author: %d", own.status)
	}
}
