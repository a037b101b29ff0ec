package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
)

var sentence = regexp.MustCompile(`<p>(.*)</p>`)

// report is what p is told of the accesses to a patient's records, page by page.
func (h *house) report(p authz.Principal, patient fhir.ID, count int) (out []string, err error) {
	h.t.Helper()
	h.tick()
	ctx := context.Background()
	g, err := h.engine.Authorize(ctx, p, fhir.Operation, "")
	if err != nil {
		return nil, err
	}
	r, err := h.engine.Plan(ctx, g, fhir.Read, "Patient")
	if err != nil {
		return nil, err
	}
	sealed, err := h.store.Read(ctx, r, patient)
	if err != nil {
		return nil, err
	}
	q := record.Traces{Count: count}
	for {
		page, err := h.gate.AccessReport(ctx, g, sealed, q)
		if err != nil {
			return nil, err
		}
		for _, x := range page.Entries {
			var b bytes.Buffer
			if err := x.Render(&b, record.Form{}); err != nil {
				h.t.Fatal(err)
			}
			r, err := codec.Parse(b.Bytes())
			if err != nil {
				h.t.Fatalf("%v\n%s", err, b.String())
			}
			m := sentence.FindStringSubmatch(r.Root.Get("text").Get("div").String())
			if m == nil {
				h.t.Fatalf("no sentence: %s", b.String())
			}
			out = append(out, m[1])
		}
		if !page.More {
			return out, nil
		}
		q.After = &page.Last
	}
}

func TestH1_P21_AccessReport(t *testing.T) {
	s := newSaga(t)
	h := s.h
	h.load("{'resourceType':'CarePlan','id':'cp','status':'active','intent':'plan','subject':{'reference':'Patient/anna'}}")
	h.load("{'resourceType':'Practitioner','id':'dora','name':[{'text':'Dana <Okafor>'}]}")
	s.play()
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	if _, err := h.read(dora, fhir.Ref{Type: "CarePlan", ID: "cp"}); err != nil {
		t.Fatal(err)
	}
	self := h.as("patient", "PATRQT", "Patient/anna")
	got, err := h.report(self, "anna", 200)
	if err != nil {
		t.Fatalf("%v: %v", err, errors.Unwrap(err))
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"Dana &lt;Okafor&gt;, therapist, read your treatment plan on 1 March 2026 at 12:00 UTC, for treatment.",
		"Dana &lt;Okafor&gt;, therapist, read your measurement or finding (2) on ",
		"Exchange, health information exchange, read your measurement or finding on 1 March 2026 at 12:00 UTC, for treatment, with your consent.",
		"You read your measurement or finding on ",
		", front desk, read your personal details on ",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if strings.Contains(all, "the patient") || strings.Contains(all, "bert") || strings.Contains(all, "cleo") {
		t.Error(all)
	}
	// Page by page it is the same; each page is one more question, which the next report tells of.
	paged, err := h.report(self, "anna", 1)
	if err != nil || len(paged) < len(got) || !strings.HasSuffix(strings.Join(paged, "\n"), all) {
		t.Errorf("%v: page by page\n%s\nat once\n%s", err, strings.Join(paged, "\n"), all)
	}
	if again, err := h.report(self, "anna", 3); err != nil || !strings.Contains(strings.Join(again, "\n"), "You looked up who had accessed your records on ") {
		t.Errorf("%v: the question is not in the answer to the next: %s", err, again)
	}
	// The officer of the general practice is told of the patient, and of nothing of the program.
	officer, err := h.report(s.officer, "anna", 200)
	if err != nil {
		t.Fatal(err)
	}
	outside := strings.Join(officer, "\n")
	if !strings.Contains(outside, "read the patient's measurement or finding on ") || strings.Contains(outside, "consent") || strings.Contains(outside, "visit") || strings.Contains(outside, "your") {
		t.Errorf("the officer:\n%s", outside)
	}
	if _, err := h.report(s.officer, "cleo", 10); status(err) != 404 {
		t.Errorf("a patient of the program alone: %v", err)
	}
	if _, err := h.report(self, "bert", 10); status(err) != 404 {
		t.Errorf("another patient: %v", err)
	}
	if _, err := h.report(dora, "anna", 10); status(err) != 403 {
		t.Errorf("a therapist: %v", err)
	}
	if rp, err := h.report(h.as("proxy", "PATRQT", "RelatedPerson/rp"), "bert", 10); err != nil || !strings.Contains(strings.Join(rp, "\n"), "the patient's") {
		t.Errorf("a representative: %s, %v", rp, err)
	}
	// A note of a session is in nobody's.
	h.behind("INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients) "+
		"VALUES ($1, $2, gen_random_uuid(), '0', 'read', 'DocumentReference', 's', '', 'Practitioner/dora', '{therapist}', 'TREAT', 'p', 'r', '{DocumentReference/n/_history/1}', '{2}', '{anna}')", h.tenant, h.now())
	for what, p := range map[string]authz.Principal{"the patient": self, "the officer": s.within} {
		if got, err := h.report(p, "anna", 200); err != nil || strings.Contains(strings.Join(got, ""), "document") {
			t.Errorf("%s: %v %s", what, err, got)
		}
	}
}
