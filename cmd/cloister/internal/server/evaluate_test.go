package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// verdict is what $evaluate answered.
type verdict struct {
	decision                     string
	by, facts, needs, verdicts   []string
	consents, missing, obligated []string
}

func (h *house) evaluate(t *testing.T, token string, parts ...string) (verdict, answer) {
	t.Helper()
	a := h.post(token, "/Consent/$evaluate", paramsOf(parts...))
	var v verdict
	if a.status != http.StatusOK {
		return v, a
	}
	if _, err := codec.Parse([]byte(a.body)); err != nil {
		t.Errorf("what $evaluate answers is no Parameters resource: %v\n%s", err, a.body)
	}
	type parameter struct {
		Name, ValueCode, ValueString string
		ValueReference               struct{ Reference string }
		ValueCoding                  struct{ Code string }
		Part                         []parameter
	}
	var p struct{ Parameter []parameter }
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatal(err)
	}
	for _, x := range p.Parameter {
		switch x.Name {
		case "decision":
			v.decision = x.ValueCode
		case "by":
			v.by = append(v.by, x.ValueString)
		case "fact":
			v.facts = append(v.facts, x.ValueCode)
		case "needs":
			v.needs = append(v.needs, x.ValueString)
		case "obligation":
			v.obligated = append(v.obligated, x.ValueCoding.Code)
		case "consent":
			for _, y := range x.Part {
				switch y.Name {
				case "reference":
					v.consents = append(v.consents, y.ValueReference.Reference)
				case "verdict":
					v.verdicts = append(v.verdicts, y.ValueCode)
				}
			}
		case "missing":
			for _, y := range x.Part {
				v.missing = append(v.missing, y.ValueCode+y.ValueReference.Reference)
			}
		}
	}
	return v, a
}

func about(patient, resource, recipient fhir.Ref, purpose string) []string {
	return []string{"patient", "valueReference", patient.String(), "resource", "valueReference", resource.String(), "recipient", "valueReference", recipient.String(), "purpose", "valueCode", purpose}
}

// S8, S14, S15: who is told why the exchange sees a record, or does not.
func TestS14_EvaluateSaysWhy(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	exchange, program := found(t, "", "Organization", "Tri-County").ref, found(t, "", "Organization", "part2-program").ref
	for name, c := range map[string]struct {
		given, token string
		purpose      string
		want         verdict
	}{
		"a consent permits it":  {"Colin", "Colin", "TREAT", verdict{decision: "permit", by: []string{"exchange-consent"}, verdicts: []string{"permits"}, obligated: []string{"NORDSCLCD"}}},
		"to the program, too":   {"Colin", "privacy-officer", "TREAT", verdict{}},
		"for no other purpose":  {"Colin", "Colin", "HPAYMT", verdict{decision: "deny", verdicts: []string{"does-not-apply"}}},
		"it was revoked":        {"Abena", "Abena", "TREAT", verdict{decision: "deny", verdicts: []string{"not-in-force"}}},
		"it has expired":        {"Martin", "Martin", "TREAT", verdict{decision: "deny", verdicts: []string{"not-in-force"}}},
		"nobody ever consented": {"Sinead", "Sinead", "TREAT", verdict{decision: "deny", by: []string{"part2-needs-program-consent-or-self"}}},
	} {
		token := c.token
		patient, problem := found(t, c.given, "Patient").ref, found(t, c.given, "Condition").ref
		if token == c.given {
			token = h.asPatient(t, c.given)
		}
		v, a := h.evaluate(t, token, about(patient, problem, exchange, c.purpose)...)
		if c.want.decision == "" { // the privacy officer sees no Condition
			if a.status != http.StatusNotFound {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
			continue
		}
		if v.decision != c.want.decision || !slices.Equal(v.verdicts, c.want.verdicts) || c.want.by != nil && !slices.Equal(v.by, c.want.by) || !slices.Equal(v.obligated, c.want.obligated) {
			t.Errorf("%s: %+v\n%s", name, v, a.body)
		}
		if v.decision == "deny" && c.purpose == "TREAT" && (len(v.needs) == 0 || !slices.Contains(v.missing, "part2-tpo") || !slices.Contains(v.missing, program.String())) {
			t.Errorf("%s: it is not said what is missing: %s", name, a.body)
		}
	}
	// By class, for one who reads no clinical record.
	colin := found(t, "Colin", "Patient").ref
	class := []string{"patient", "valueReference", colin.String(), "type", "valueCode", "Condition", "label", "valueCode", "42CFRPart2", "label", "valueCode", "SUD", "program", "valueReference", program.String(), "purpose", "valueCode", "TREAT", "recipient", "valueReference"}
	if v, a := h.evaluate(t, "privacy-officer", append(class, exchange.String())...); v.decision != "permit" {
		t.Errorf("the privacy officer: %d %s", a.status, a.body)
	}
	payer := found(t, "", "Organization", "Meridian").ref.String()
	if v, a := h.evaluate(t, "privacy-officer", append(class, payer)...); v.decision != "deny" {
		t.Errorf("another organization: %d %s", a.status, a.body)
	}
	if v, a := h.evaluate(t, "privacy-officer", append(append([]string{"at", "valueDateTime", "2036-01-01T00:00:00Z"}, class...), exchange.String())...); v.decision != "deny" || !slices.Equal(v.verdicts, []string{"not-in-force"}) {
		t.Errorf("after its end: %d %s", a.status, a.body)
	}
	if v, a := h.evaluate(t, "privacy-officer", append(append([]string{"assume", "valueCode", "consent"}, class...), payer)...); v.decision != "permit" {
		t.Errorf("as if she had consented: %d %s", a.status, a.body)
	}
	// Who has no business with consents is not answered.
	for _, token := range []string{"hie", "biller", "front-desk", "research-analyst"} {
		if _, a := h.evaluate(t, token, append(class, exchange.String())...); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", token, a.status, a.body)
		}
	}
	for name, bad := range map[string][]string{
		"no patient": {"type", "valueCode", "Condition"}, "no type": {"patient", "valueReference", colin.String()}, "no such type": {"patient", "valueReference", colin.String(), "type", "valueCode", "Nothing"},
		"no such label":     {"patient", "valueReference", colin.String(), "type", "valueCode", "Condition", "label", "valueCode", "NOTHING"},
		"no such fact":      {"patient", "valueReference", colin.String(), "type", "valueCode", "Condition", "assume", "valueCode", "luck"},
		"a role for no one": {"patient", "valueReference", colin.String(), "type", "valueCode", "Condition", "recipient", "valueReference", found(t, "", "Practitioner", "Elena").ref.String(), "purpose", "valueCode", "HMARKT"},
		"both":              {"patient", "valueReference", colin.String(), "type", "valueCode", "Condition", "resource", "valueReference", "Condition/x"},
	} {
		if _, a := h.evaluate(t, "privacy-officer", bad...); a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// What is said about a read is what the read does: patients ask about the exchange
// and every record of theirs, and the exchange tries.
func TestEvaluateAgreesWithReads(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	exchange := found(t, "", "Organization", "Tri-County").ref
	permitted, denied := 0, 0
	for _, given := range []string{"Nora", "Daniel", "Colin", "Abena", "Martin", "Sinead", "Grace", "Petra", "Alba"} {
		token, patient := h.asPatient(t, given), found(t, given, "Patient").ref
		asked := map[fhir.ResourceType]int{}
		for _, s := range sampleRecords() {
			if s.given != given || s.practice != clinic.Practices()[0].Slug || asked[s.ref.Type] > 2 || h.do(token, get("/"+s.ref.String())).status != http.StatusOK {
				continue
			}
			asked[s.ref.Type]++
			v, a := h.evaluate(t, token, about(patient, s.ref, exchange, "TREAT")...)
			reads := h.do("hie", get("/"+s.ref.String())).status == http.StatusOK
			if (v.decision == "permit") != reads {
				t.Errorf("%s: the exchange reads it: %v, and is said to be: %s", s.ref, reads, a.body)
			}
			if reads {
				permitted++
			} else {
				denied++
			}
		}
	}
	t.Logf("%d permitted, %d denied", permitted, denied)
	if permitted < 20 || denied < 20 {
		t.Error("the questions show too little of one kind")
	}
}

// Clinicians ask about themselves; what is said of what they see is that they see it.
func TestEvaluateOneself(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	for token, given := range map[string]string{"therapist": "Daniel", "sud-counselor": "Abena"} {
		patient := found(t, given, "Patient").ref
		for _, s := range sampleRecords() {
			if s.given != given || s.practice != clinic.Practices()[0].Slug || s.ref.Type != "Condition" {
				continue
			}
			v, a := h.evaluate(t, token, "patient", "valueReference", patient.String(), "resource", "valueReference", s.ref.String())
			switch h.do(token, get("/"+s.ref.String())).status {
			case http.StatusOK:
				if v.decision != "permit" {
					t.Errorf("%s reads %s, and is told: %s", token, s.ref, a.body)
				}
			default:
				if a.status != http.StatusNotFound {
					t.Errorf("%s does not see %s, and is told: %d %s", token, s.ref, a.status, a.body)
				}
			}
		}
	}
}

// What the caller may not see changes nothing in what she is told: hidden and absent are one answer,
// and so is a Consent that is hidden from her.
func TestEvaluateKnowsOnlyWhatTheCallerSees(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	exchange := found(t, "", "Organization", "Tri-County").ref
	nora, note := found(t, "Nora", "Patient").ref, found(t, "Nora", "DocumentReference", "psychotherapy-note").ref
	absent := fhir.Ref{Type: "DocumentReference", ID: sample.Absent()}
	token := h.asPatient(t, "Nora")
	_, hidden := h.evaluate(t, token, about(nora, note, exchange, "TREAT")...)
	_, never := h.evaluate(t, token, about(nora, absent, exchange, "TREAT")...)
	if hidden.status != http.StatusNotFound || normal(hidden) != normal(never) {
		t.Errorf("hidden:\n%s\nabsent:\n%s", normal(hidden), normal(never))
	}
	_, hidden = h.evaluate(t, "colleague", about(nora, absent, exchange, "TREAT")...)
	_, never = h.evaluate(t, "colleague", about(fhir.Ref{Type: "Patient", ID: sample.Absent()}, absent, exchange, "TREAT")...)
	if hidden.status != http.StatusNotFound || normal(hidden) != normal(never) {
		t.Errorf("a hidden patient:\n%s\nan absent one:\n%s", normal(hidden), normal(never))
	}
	// A therapist outside the program who is not among the recipients reads none of its consents.
	grace := found(t, "Grace", "Patient").ref
	ask := func() answer {
		_, a := h.evaluate(t, "third-therapist", "patient", "valueReference", grace.String(), "type", "valueCode", "Condition", "recipient", "valueReference", exchange.String(), "purpose", "valueCode", "TREAT",
			"label", "valueCode", "42CFRPart2", "program", "valueReference", "Organization/"+string(found(t, "", "Organization", "part2-program").ref.ID))
		return a
	}
	before := ask()
	consent := h.prepare(t, "privacy-officer", "part2-specific", grace, answersTo(
		"discloser", found(t, "", "Organization", "part2-program").ref.String(), "recipient", exchange.String(), "purpose", "TREAT", "until", "2027-01-01"))
	if a := h.post(h.asPatient(t, "Grace"), consent+"/$sign", ""); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := h.do("third-therapist", get(consent)); a.status != http.StatusNotFound {
		t.Fatalf("she reads the consent: %d", a.status)
	}
	if after := ask(); before.status != http.StatusOK || normal(before) != normal(after) || strings.Contains(after.body, consent[1:]) {
		t.Errorf("before:\n%s\nafter a consent that she does not see:\n%s", normal(before), normal(after))
	}
}
