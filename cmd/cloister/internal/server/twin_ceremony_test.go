package server_test

import (
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// ceremony is one step of the ceremony of consent, about what exists, hidden or not. It may change
// something, on both databases the same.
func (m *material) ceremony(r *rand.Rand, of string) call {
	post := func(path, body string) call { return call{method: "POST", path: "/fhir" + path, body: body} }
	consent := "/Consent/" + string(sample.Absent())
	if len(m.ids["Consent"]) > 0 && r.IntN(4) > 0 {
		consent = "/Consent/" + m.known(r, "Consent")
	}
	switch r.IntN(6) {
	case 0:
		return get(consent + "/$verify-signature")
	case 1:
		return post(consent+"/$revoke", pick(r, []string{"", paramsOf("authority", "valueCode", "parent")}))
	case 2:
		return post(consent+"/$sign", pick(r, []string{"", paramsOf("role", "valueCode", "witness"), paramsOf("authority", "valueCode", "parent"), paramsOf("authority", "valueCode", "guardian")}))
	}
	kind := pick(r, []string{"part2-tpo", "part2-specific", "part2-sudcn", "hipaa-authorization", "hipaa-psychotherapy", "restriction"})
	recipient := "Organization/" + m.known(r, "Organization")
	items := []string{"discloser", "Organization/" + m.known(r, "Organization"), "recipient", recipient, "purpose", pick(r, []string{"TREAT", "HPAYMT", "PATRQT"}), "until", "2027-01-01"}
	switch kind {
	case "part2-tpo":
		items = items[:2]
	case "restriction":
		items = []string{"recipient", recipient}
	}
	body := []string{"questionnaire", "valueCanonical", formsAt + kind, "patient", "valueReference", "Patient/" + of, "answers", "resource", answersTo(items...)}
	return post("/Consent/$prepare", paramsOf(append(body, pick(r, [][]string{nil, {"cosigner", "valueCode", "witness"}, {"cosigner", "valueCode", "parent"}})...)...))
}

// attest is check for a request that may make a signature: no two are alike, of the same content either.
func (w *twins) attest(t *testing.T, c call) {
	t.Helper()
	full, twin := w.full.do(w.persona.Name, c), w.twin.do(w.persona.Name, c)
	if attested(full) != attested(twin) || full.status >= 500 {
		t.Errorf("as %s: %s %s\n%.300s\n--- full\n%.1500s\n--- twin\n%.1500s", w.persona.Name, c.method, c.path, c.body, attested(full), attested(twin))
	}
}

func attested(a answer) string {
	return signatures.ReplaceAllString(normal(a), `"data": "<signature>"`)
}

var signatures = regexp.MustCompile(`"data":\s*"ZXl[A-Za-z0-9+/=]+"`)

// ceremonies are those that dev prints for the persona, whole: what one request made the next ones are about.
func (w *twins) ceremonies(t *testing.T) {
	t.Helper()
	var full, twin string
	for _, rq := range w.persona.Requests {
		if rq.Method == http.MethodGet && !strings.HasPrefix(rq.Path, "{") {
			continue
		}
		a, b := w.full.ask(w.persona.Name, rq, &full), w.twin.ask(w.persona.Name, rq, &twin)
		if a.status != rq.Status || attested(a) != attested(b) {
			t.Errorf("as %s: %s %s: %d, want %d\n--- full\n%.1500s\n--- twin\n%.1500s", w.persona.Name, rq.Method, rq.Path, a.status, rq.Status, normal(a), normal(b))
		}
	}
}

// ended turns the pages again that showed something by a consent that no longer holds.
func (c *consented) ended(t *testing.T) {
	t.Helper()
	c.excise(t)
	for _, q := range append(c.turned, c.first...) {
		a := c.check(t, q)
		if s := c.shown(a); len(s) > 0 || a.header.Get("Redisclosure-Notice") != "" {
			t.Errorf("%s after the consent ended: %v %v\n%.1500s", q.path, s, a.header, a.body)
		}
	}
	for _, k := range c.only {
		if a := c.check(t, get("/"+k.ref.String())); a.status != http.StatusNotFound {
			t.Errorf("%s after the consent ended: %d", k.ref, a.status)
		}
	}
}

// S8 (42 CFR 2.31(c)): a consent that expires between two pages is not in the second.
// Channels of leaks: L5, L6, L7, L8, L9, L12, L54.
func TestTwinS8_2_31_c_ConsentExpiresBetweenPages(t *testing.T) {
	t.Parallel()
	c := underConsent(t, "hie", "Colin", nil)
	for _, h := range []*house{c.full, c.twin} {
		h.clock.Add(int64(242 * 24 * time.Hour / time.Second)) // the sample's consents last 240 days
	}
	c.ended(t)
}

// S9: nor is one that the practice sets inactive by an update in between, as on a revocation by letter.
// Channels of leaks: L5, L6, L7, L8, L9, L12, L54.
func TestTwinS9_2_31_a_6_ConsentSetInactiveBetweenPages(t *testing.T) {
	t.Parallel()
	c := underConsent(t, "hie", "Colin", nil)
	for _, h := range []*house{c.full, c.twin} {
		a := h.do("privacy-officer", get("/"+c.consent.ref.String()))
		body := strings.Replace(strings.ReplaceAll(a.body, `"status": "active"`, `"status":"active"`), `"status":"active"`, `"status":"inactive"`, 1)
		if a := h.do("privacy-officer", call{method: "PUT", path: "/fhir/" + c.consent.ref.String(), body: body}); a.status != http.StatusOK || !strings.Contains(body, `"inactive"`) {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	c.ended(t)
}

// No oracle of programs (42 CFR 2.13(c)): a patient who names a program that does not treat her is told
// what she is told of one that does not exist.
func TestS4_2_13_c_PrepareTellsOfNoProgram(t *testing.T) {
	p, _ := persona("sud-patient")
	w := newTwins(t, p, nil)
	program, exchange := found(t, "", "Organization", "part2-program").ref, found(t, "", "Organization", "Tri-County").ref
	form := func(patient fhir.Ref, discloser string) call {
		return call{method: "POST", path: "/fhir/Consent/$prepare", body: paramsOf("questionnaire", "valueCanonical", formsAt+"part2-specific", "patient", "valueReference", patient.String(), "answers", "resource",
			answersTo("discloser", discloser, "recipient", exchange.String(), "purpose", "TREAT", "until", "2027-01-01"))}
	}
	absent := "Organization/" + string(sample.Absent())
	colin, nora := found(t, "Colin", "Patient").ref, found(t, "Nora", "Patient").ref
	if a := w.check(t, form(colin, program.String())); a.status != http.StatusCreated {
		t.Errorf("her own program: %d %s", a.status, a.body)
	}
	if a := w.check(t, form(colin, absent)); a.status != http.StatusUnprocessableEntity {
		t.Errorf("no such program: %d %s", a.status, a.body)
	}
	stranger := w.full.asPatient(t, "Nora")
	never, other := w.full.do(stranger, form(nora, absent)), w.full.do(stranger, form(nora, program.String()))
	if never.status != http.StatusUnprocessableEntity || normal(never) != normal(other) {
		t.Errorf("a program that treats somebody else:\n%s\none that does not exist:\n%s", normal(other), normal(never))
	}
	for _, at := range []string{"/" + program.String(), "/Organization?_id=" + string(program.ID)} {
		hidden := strings.ReplaceAll(normal(w.full.do(stranger, get(at))), string(program.ID), string(sample.Absent()))
		gone := normal(w.full.do(stranger, get(strings.ReplaceAll(at, string(program.ID), string(sample.Absent())))))
		if hidden != gone {
			t.Errorf("%s to a patient whom it does not treat:\n%s\none that does not exist:\n%s", at, hidden, gone)
		}
	}
}
