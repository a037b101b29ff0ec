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
		made := ""
		for _, rq := range p.Requests {
			a := h.ask(p.Name, rq, &made)
			if rq.Status != 0 && a.status != rq.Status {
				t.Errorf("%s %s %s: %d, want %d (%s)\n%s", p.Name, rq.Method, rq.Path, a.status, rq.Status, rq.Expect, a.body)
			}
			if a.status != http.StatusOK && a.status != http.StatusCreated {
				if c := clinic.FindCanaries([]byte(a.body)); len(c) > 0 {
					t.Errorf("%s %s: a refusal carries data", p.Name, rq.Path)
				}
				continue
			}
			if rq.Method != http.MethodGet {
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

// ask makes a request that dev prints. made is the path of what the last one before it made.
func (h *house) ask(token string, rq clinic.Request, made *string) answer {
	h.t.Helper()
	path := rq.Path
	if rest, ok := strings.CutPrefix(path, clinic.Made); ok {
		path = *made + rest
	}
	a := h.do(token, call{method: rq.Method, path: "/fhir" + path, body: rq.Body})
	if rq.Makes {
		*made, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Location"), base), "/_history/")
	}
	return a
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

// Clients that say nothing of it expect what they stored back; what they may not read they do not get.
func TestWriteAnswersWithWhatTheWriterMayRead(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	p, _ := persona("therapist")
	patient := between(p.Requests[0].Path, "patient=", "&")
	body := `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/` + patient + `"}}`
	for prefer, want := range map[string]bool{"": true, "return=representation": true, "return=minimal": false, "return=OperationOutcome": false} {
		c := call{method: "POST", path: "/fhir/Observation", body: body}
		if prefer != "" {
			c.header = map[string]string{"Prefer": prefer}
		}
		a := h.do("therapist", c)
		if a.status != http.StatusCreated || strings.Contains(a.body, `"resourceType": "Observation"`) != want {
			t.Errorf("Prefer %q: %d %s", prefer, a.status, a.body)
		}
	}
	// An exchange may bring in what it may not read back: sensitive codes.
	body = `{"resourceType":"Condition","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}]},"subject":{"reference":"Patient/` + patient + `"}}`
	p, _ = persona("hie")
	p.Claims.Scope = "system/*.cruds"
	h.callers["hie-writer"] = p
	a := h.do("hie-writer", call{method: "POST", path: "/fhir/Condition", body: body})
	if a.status != http.StatusCreated || a.body != "" {
		t.Errorf("as %s, who may write but not read it: %d %s", p.Name, a.status, a.body)
	}
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}
