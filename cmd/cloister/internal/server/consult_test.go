package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// card is the one card of the hook's answer.
type card struct {
	Summary, Detail, Indicator string
	Source                     struct{ Label, URL string }
	Extension                  struct {
		Decision    string
		BasedOn     string
		Obligations []struct {
			ID         struct{ System, Code string }
			Parameters struct {
				Codes []struct{ System, Code string }
			}
		}
	}
}

func (c card) redacts(code string) bool {
	for _, o := range c.Extension.Obligations {
		for _, x := range o.Parameters.Codes {
			if o.ID.Code == "REDACT" && x.Code == code {
				return true
			}
		}
	}
	return false
}

func (c card) refrains() bool {
	return slices.ContainsFunc(c.Extension.Obligations, func(o struct {
		ID         struct{ System, Code string }
		Parameters struct {
			Codes []struct{ System, Code string }
		}
	}) bool {
		return o.ID.Code == "NORDSCLCD"
	})
}

func (h *house) consult(t *testing.T, token, context string) (card, answer) {
	t.Helper()
	a := h.do(token, call{method: "POST", path: "/cds-services/patient-consent-consult", header: map[string]string{"Content-Type": "application/json"},
		body: `{"hook":"patient-consent-consult","hookInstance":"d1577c69-dfbe-44ad-ba6d-3e05e953b2ea","context":` + context + `}`})
	var out struct{ Cards []card }
	if a.status != http.StatusOK {
		return card{}, a
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || len(out.Cards) != 1 || out.Cards[0].Summary != out.Cards[0].Extension.Decision || out.Cards[0].Source.Label == "" || out.Cards[0].Indicator == "" {
		t.Fatalf("%s: %v", a.body, err)
	}
	return out.Cards[0], a
}

// The hook of the LEAP consent decision service, as its clients call it.
func TestS14_ConsentConsultHook(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	exchange, payer := found(t, "", "Organization", "Tri-County").ref.String(), found(t, "", "Organization", "Meridian").ref.String()
	colin, abena := found(t, "Colin", "Patient").ref.String(), found(t, "Abena", "Patient").ref.String()
	consent := found(t, "Colin", "Consent").ref.String()
	context := func(actor, patient, purpose, more string) string {
		return `{"actor":[{"value":"` + actor + `"}],"patientId":[{"value":"` + patient + `"}],"purposeOfUse":` + purpose + more + `}`
	}
	c, a := h.consult(t, "privacy-officer", context(exchange, colin, `"TREAT"`, ""))
	if c.Extension.Decision != "CONSENT_PERMIT" || c.redacts("42CFRPart2") || !c.redacts("PSYTHPN") || !c.redacts("SUDCN") || !c.redacts("HIV") || !c.refrains() || c.Extension.BasedOn != base+"/"+consent {
		t.Errorf("a consent that names the exchange: %s", a.body)
	}
	c, a = h.consult(t, "privacy-officer", context(exchange, abena, `["TREAT"]`, ""))
	if c.Extension.Decision != "CONSENT_PERMIT" || !c.redacts("42CFRPart2") || !c.redacts("SUD") || c.refrains() || c.Extension.BasedOn != "" {
		t.Errorf("one that was revoked: %s", a.body)
	}
	c, a = h.consult(t, "privacy-officer", context(payer, colin, `["TREAT"]`, ""))
	if !c.redacts("42CFRPart2") {
		t.Errorf("another recipient: %s", a.body)
	}
	for purpose, want := range map[string]string{`["HMARKT"]`: "NO_CONSENT", `["TREAT","HMARKT"]`: "NO_CONSENT", `[]`: "CONSENT_DENY"} {
		if c, a = h.consult(t, "privacy-officer", context(exchange, colin, purpose, "")); c.Extension.Decision != want {
			t.Errorf("for %s: %s", purpose, a.body)
		}
	}
	// The content that would be sent says itself what has to be redacted.
	screen := `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}]},"subject":{"reference":"` + colin + `"}}`
	plain := `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"` + colin + `"}}`
	strange := `{"resourceType":"Medication","contained":[{"resourceType":"Substance","id":"s","code":{"concept":{"text":"R5"}}}]}`
	bundle := func(list ...string) string {
		return `,"content":{"resourceType":"Bundle","entry":[{"resource":` + strings.Join(list, `},{"resource":`) + `}]}`
	}
	if c, a = h.consult(t, "privacy-officer", context(exchange, colin, `["TREAT"]`, bundle(plain, screen))); c.Extension.Decision != "CONSENT_PERMIT" || !c.redacts("HIV") || c.redacts("PSYTHPN") {
		t.Errorf("with content: %s", a.body)
	}
	if c, a = h.consult(t, "privacy-officer", context(exchange, colin, `["TREAT"]`, bundle(plain))); c.Extension.Decision != "CONSENT_PERMIT" || len(c.Extension.Obligations) != 0 {
		t.Errorf("with harmless content: %s", a.body)
	}
	if c, a = h.consult(t, "privacy-officer", context(exchange, colin, `["TREAT"]`, bundle(strange))); c.Extension.Decision != "NO_CONSENT" {
		t.Errorf("with content that is no R4: %s", a.body)
	}
	// Hidden and absent are one answer, and so is one whom no identifier means.
	_, hidden := h.consult(t, "colleague", context(exchange, found(t, "Nora", "Patient").ref.String(), `["TREAT"]`, ""))
	_, absent := h.consult(t, "colleague", context(exchange, "Patient/"+string(sample.Absent()), `["TREAT"]`, ""))
	_, unknown := h.consult(t, "colleague", strings.Replace(context(exchange, "123", `["TREAT"]`, ""), `{"value":"123"}`, `{"system":"urn:oid:1.2.3","value":"123"}`, 1))
	if hidden.status != http.StatusOK || !strings.Contains(hidden.body, "NO_CONSENT") || normal(hidden) != normal(absent) || normal(hidden) != normal(unknown) {
		t.Errorf("hidden:\n%s\nabsent:\n%s\nunknown:\n%s", normal(hidden), normal(absent), normal(unknown))
	}
	// A recipient by the identifier that the directory has.
	staff := `{"system":"https://cloister.health/fhir/sid/harbor/staff","value":"therapist/0"}`
	daniel := found(t, "Daniel", "Patient").ref.String()
	if c, a = h.consult(t, h.asPatient(t, "Daniel"), `{"actor":[`+staff+`],"patientId":[{"value":"`+daniel+`"}],"purposeOfUse":["TREAT"]}`); c.Extension.Decision != "CONSENT_PERMIT" || c.redacts("42CFRPart2") {
		t.Errorf("by identifier: %s", a.body)
	}
	for name, bad := range map[string]string{
		"no patient": `{"actor":[{"value":"x"}]}`, "no actor": `{"patientId":[{"value":"x"}]}`, "consents of its own": context(exchange, colin, `["TREAT"]`, `,"consent":[{"resourceType":"Consent"}]`),
	} {
		if _, a := h.consult(t, "privacy-officer", bad); a.status != http.StatusBadRequest || !strings.HasPrefix(a.body, `{"error":"invalid"`) || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if _, a := h.consult(t, "hie", context(exchange, colin, `["TREAT"]`, "")); a.status != http.StatusForbidden {
		t.Errorf("the exchange asks: %d", a.status)
	}
	d := h.do("privacy-officer", call{method: "GET", path: "/cds-services"})
	if d.status != http.StatusOK || !strings.Contains(d.body, `"services":[{"hook":"patient-consent-consult","id":"patient-consent-consult"`) {
		t.Errorf("discovery: %d %s", d.status, d.body)
	}
}
