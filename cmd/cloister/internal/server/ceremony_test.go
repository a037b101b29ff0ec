package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

const formsAt = fhir.Canonical + "/Questionnaire/consent-"

// found finds the first record of the sample clinic that has and lacks those texts.
func found(t *testing.T, given string, typ fhir.ResourceType, has ...string) known {
	t.Helper()
	k, err := namedRecord{name: given, Patient: given, Type: typ, Has: has}.find(nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// asPatient makes a token of the patient of that given name, who may write.
func (h *house) asPatient(t *testing.T, given string) string {
	t.Helper()
	p, _ := persona("sud-patient")
	k := found(t, given, "Patient")
	p.Claims.Subject, p.Claims.FHIRUser, p.Claims.Patient, p.Claims.Scope = "harbor/"+given, k.ref.String(), string(k.ref.ID), "patient/*.cruds"
	h.callers[given] = p
	return given
}

func (h *house) post(token, path, body string, header ...string) answer {
	c := call{method: "POST", path: "/fhir" + path, body: body, header: map[string]string{}}
	for i := 0; i+1 < len(header); i += 2 {
		c.header[header[i]] = header[i+1]
	}
	return h.do(token, c)
}

// paramsOf writes a Parameters resource: name, type of the value, value ...
func paramsOf(parts ...string) string {
	var list []string
	for i := 0; i+2 < len(parts); i += 3 {
		if parts[i+1] == "resource" {
			list = append(list, fmt.Sprintf(`{"name":%q,"resource":%s}`, parts[i], parts[i+2]))
			continue
		}
		v := fmt.Sprintf("%q", parts[i+2])
		if parts[i+1] == "valueReference" {
			v = fmt.Sprintf(`{"reference":%q}`, parts[i+2])
		}
		list = append(list, fmt.Sprintf(`{"name":%q,%q:%s}`, parts[i], parts[i+1], v))
	}
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(list, ",") + `]}`
}

// answersTo writes the QuestionnaireResponse to a form: linkId, value ...
func answersTo(items ...string) string {
	var list []string
	for i := 0; i+1 < len(items); i += 2 {
		v := `"valueReference":{"reference":` + fmt.Sprintf("%q", items[i+1]) + `}`
		switch {
		case len(items[i+1]) == len("2026-01-01") && strings.Count(items[i+1], "-") == 2:
			v = fmt.Sprintf(`"valueDate":%q`, items[i+1])
		case !strings.Contains(items[i+1], "/"):
			v = fmt.Sprintf(`"valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":%q}`, items[i+1])
		}
		list = append(list, fmt.Sprintf(`{"linkId":%q,"answer":[{%s}]}`, items[i], v))
	}
	if list == nil {
		return `{"resourceType":"QuestionnaireResponse","status":"completed"}`
	}
	return `{"resourceType":"QuestionnaireResponse","status":"completed","item":[` + strings.Join(list, ",") + `]}`
}

// prepare fills in a form and gives the reference of the Consent that came of it.
func (h *house) prepare(t *testing.T, token, kind string, patient fhir.Ref, answers string) string {
	t.Helper()
	a := h.post(token, "/Consent/$prepare", paramsOf("questionnaire", "valueCanonical", formsAt+kind+"|1", "patient", "valueReference", patient.String(), "answers", "resource", answers))
	if a.status != http.StatusCreated {
		t.Fatalf("%s prepares %s: %d %s", token, kind, a.status, a.body)
	}
	at, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Location"), base), "/_history/")
	return at
}

func (h *house) state(t *testing.T, token, consent string) string {
	t.Helper()
	a := h.do(token, get(consent+"/$verify-signature"))
	var p struct {
		Parameter []struct{ Name, ValueCode string }
	}
	if err := json.Unmarshal([]byte(a.body), &p); a.status != http.StatusOK || err != nil || len(p.Parameter) == 0 || p.Parameter[0].Name != "state" {
		t.Fatalf("%s verifies: %d %s", token, a.status, a.body)
	}
	if _, err := codec.Parse([]byte(a.body)); err != nil {
		t.Errorf("what verify answers is no Parameters resource: %v", err)
	}
	return p.Parameter[0].ValueCode
}

// S7, S9 (42 CFR 2.31(a)): a form that a program's privacy officer filled in grants nothing
// until its patient signs it, what it says from then on, and nothing once she revokes it.
func TestS7_S9_2_31_a_Ceremony(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	sinead, problem := found(t, "Sinead", "Patient"), found(t, "Sinead", "Condition")
	program, exchange := found(t, "", "Organization", "part2-program"), found(t, "", "Organization", "Tri-County")
	seen := func() bool { return h.do("hie", get("/"+problem.ref.String())).status == http.StatusOK }

	consent := h.prepare(t, "privacy-officer", "part2-specific", sinead.ref, answersTo(
		"discloser", program.ref.String(), "recipient", exchange.ref.String(), "purpose", "TREAT", "until", "2027-01-01"))
	if seen() {
		t.Fatal("a form that nobody signed permits a disclosure")
	}
	if s := h.state(t, "privacy-officer", consent); s != "unsigned" {
		t.Errorf("before the signature: %s", s)
	}
	patient, stranger := h.asPatient(t, "Sinead"), h.asPatient(t, "Nora")
	absent := h.post(stranger, "/Consent/"+string(sample.Absent())+"/$sign", "")
	if hidden := h.post(stranger, consent+"/$sign", ""); hidden.status != http.StatusNotFound || normal(hidden) != normal(absent) {
		t.Errorf("another patient: %d %s", hidden.status, hidden.body)
	}
	for _, token := range []string{"privacy-officer", "sud-counselor", "hie", "practice-admin"} {
		if a := h.post(token, consent+"/$sign", ""); a.status != http.StatusForbidden {
			t.Errorf("%s signs: %d %s", token, a.status, a.body)
		}
	}
	reader, _ := persona("sud-patient")
	reader.Claims.Scope = "openid fhirUser launch/patient patient/*.rs"
	h.callers["reader"] = reader
	if a := h.do("reader", call{method: "POST", path: "/fhir" + consent + "/$sign"}); a.status != http.StatusForbidden {
		t.Errorf("a token that may only read signs: %d", a.status)
	}
	if seen() {
		t.Fatal("a signature that was refused permits a disclosure")
	}

	signed := h.post(patient, consent+"/$sign", paramsOf("witness", "valueReference", found(t, "", "Practitioner", "Otis").ref.String()))
	if signed.status != http.StatusOK {
		t.Fatalf("the patient signs: %d %s", signed.status, signed.body)
	}
	var copies struct {
		Type  string
		Entry []struct{ Resource map[string]any }
	}
	if err := json.Unmarshal([]byte(signed.body), &copies); err != nil || copies.Type != "collection" || len(copies.Entry) != 2 {
		t.Fatalf("her copy (45 CFR 164.508(c)(4)): %s", signed.body)
	}
	if r := copies.Entry[0].Resource; r["status"] != "active" || r["dateTime"] == nil || copies.Entry[1].Resource["resourceType"] != "Provenance" {
		t.Errorf("her copy: %s", signed.body)
	}
	if !strings.Contains(signed.body, "I can revoke this at any time") || !strings.Contains(signed.body, "urn:iso-astm:E1762-95:2013") {
		t.Error("her copy lacks the text that she signed, or the signature")
	}
	if !seen() {
		t.Error("the next read does not see the consent")
	}
	for _, token := range []string{patient, "privacy-officer"} {
		if s := h.state(t, token, consent); s != "signed" {
			t.Errorf("%s: the signed consent is %s", token, s)
		}
	}
	if a := h.post(patient, consent+"/$sign", ""); a.status != http.StatusConflict {
		t.Errorf("a second signature: %d %s", a.status, a.body)
	}

	if a := h.post(stranger, consent+"/$revoke", ""); a.status != http.StatusNotFound {
		t.Errorf("another patient revokes: %d", a.status)
	}
	if a := h.post("sud-counselor", consent+"/$revoke", ""); a.status != http.StatusForbidden {
		t.Errorf("a clinician revokes: %d", a.status)
	}
	revoked := h.post(patient, consent+"/$revoke", paramsOf("reason", "valueString", "I no longer use the exchange"))
	if revoked.status != http.StatusOK || !strings.Contains(revoked.body, `"status":"inactive"`) && !strings.Contains(revoked.body, `"status": "inactive"`) || !strings.Contains(revoked.body, "no longer use") {
		t.Fatalf("the patient revokes: %d %s", revoked.status, revoked.body)
	}
	if seen() {
		t.Error("the next read still sees what was revoked")
	}
	if s := h.state(t, patient, consent); s != "revoked" {
		t.Errorf("the revoked consent is %s", s)
	}
	for _, again := range []string{"/$revoke", "/$sign"} {
		if a := h.post(patient, consent+again, ""); a.status != http.StatusConflict {
			t.Errorf("%s of what is revoked: %d", again, a.status)
		}
	}
	if c := clinic.FindCanaries([]byte(h.log.String())); len(c) > 0 {
		t.Errorf("the log carries data: %v", c)
	}
}

// The privacy officer records a revocation that reached the practice on paper (42 CFR 2.31(a)(6)).
func TestS9_2_31_a_6_RevokedByThePractice(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	consent, problem := found(t, "Colin", "Consent"), found(t, "Colin", "Condition")
	seen := func() bool { return h.do("hie", get("/"+problem.ref.String())).status == http.StatusOK }
	if !seen() {
		t.Fatal("the exchange does not see what the sample consents to")
	}
	if a := h.post("privacy-officer", "/"+consent.ref.String()+"/$revoke", "", "If-Match", `W/"7"`); a.status != http.StatusPreconditionFailed || !seen() {
		t.Errorf("another version: %d", a.status)
	}
	if a := h.post("privacy-officer", "/"+consent.ref.String()+"/$revoke", paramsOf("reason", "valueString", "letter of the patient"), "If-Match", `W/"1"`); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if seen() {
		t.Error("the next read still sees what was revoked")
	}
}

// 45 CFR 164.502(g), 164.508(c)(1)(vi): a personal representative signs, and says by what authority.
func TestP16_164_508_c_1_vi_Representative(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	alba, general := found(t, "Alba", "Patient"), found(t, "", "Organization", "General")
	exchange := found(t, "", "Organization", "Tri-County")
	mother, _ := persona("proxy")
	mother.Claims.Scope = "patient/*.cruds"
	h.callers["mother"] = mother
	consent := h.prepare(t, "mother", "hipaa-authorization", alba.ref, answersTo(
		"discloser", general.ref.String(), "recipient", exchange.ref.String(), "purpose", "PATRQT", "until", "2027-01-01"))
	for _, body := range []string{"", paramsOf("authority", "valueCode", "neighbour")} {
		if a := h.post("mother", consent+"/$sign", body); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "164.508(c)(1)(vi)") {
			t.Errorf("without authority: %d %s", a.status, a.body)
		}
	}
	a := h.post("mother", consent+"/$sign", paramsOf("authority", "valueCode", "parent"))
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, want := range []string{"consent-statement#authority-parent", `"onBehalfOf"`, mother.Claims.FHIRUser, alba.ref.String()} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the copy lacks %s: %s", want, a.body)
		}
	}
	if s := h.state(t, "mother", consent); s != "signed" {
		t.Errorf("it is %s", s)
	}
	nora := found(t, "Nora", "Patient")
	if a := h.post("mother", "/Consent/$prepare", paramsOf("questionnaire", "valueCanonical", formsAt+"hipaa-authorization", "patient", "valueReference", nora.ref.String(),
		"answers", "resource", answersTo("discloser", general.ref.String(), "recipient", exchange.ref.String(), "purpose", "PATRQT", "until", "2027-01-01"))); a.status < 400 {
		t.Errorf("for another patient: %d", a.status)
	}
}

// P16, S7: a form that no signature can make valid is refused, with all that it lacks.
func TestP16_S7_DefectsAreListed(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	sinead, program := found(t, "Sinead", "Patient"), found(t, "", "Organization", "part2-program")
	exchange := found(t, "", "Organization", "Tri-County")
	ask := func(token, kind, answers string) answer {
		return h.post(token, "/Consent/$prepare", paramsOf("questionnaire", "valueCanonical", formsAt+kind, "patient", "valueReference", sinead.ref.String(), "answers", "resource", answers))
	}
	full := []string{"discloser", program.ref.String(), "recipient", exchange.ref.String(), "purpose", "TREAT", "until", "2027-01-01"}
	for name, c := range map[string]struct {
		kind, answers string
		want          []string
	}{
		"nothing is answered": {"part2-specific", answersTo(), []string{"Questionnaire.item[0]", "Questionnaire.item[2]", "the form needs an answer"}},
		"no such item":        {"part2-specific", answersTo(slices.Concat(full, []string{"other", "Organization/x"})...), []string{"no item of that linkId"}},
		"none of the options": {"part2-specific", answersTo("discloser", full[1], "recipient", full[3], "purpose", "HMARKT", "until", "2027-01-01"), []string{"none of those that the form offers"}},
		"what the form says":  {"part2-tpo", answersTo("discloser", full[1], "purpose", "TREAT"), []string{"the form answers this item itself"}},
		"it ends before":      {"part2-specific", answersTo("discloser", full[1], "recipient", full[3], "purpose", "TREAT", "until", "2026-01-01"), []string{"Consent.provision.period"}},
		"no such form":        {"part2-nothing", answersTo(), []string{"no active consent form"}},
	} {
		a := ask("privacy-officer", c.kind, c.answers)
		if a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		for _, want := range c.want {
			if !strings.Contains(a.body, want) {
				t.Errorf("%s: the answer lacks %q: %s", name, want, a.body)
			}
		}
	}
	if a := ask("privacy-officer", "part2-specific", answersTo(full...)); a.status != http.StatusCreated {
		t.Errorf("the whole form: %d %s", a.status, a.body)
	}
	// One that came to be in another way, and lacks most of it.
	patient := h.asPatient(t, "Sinead")
	draft := fmt.Sprintf(`{"resourceType":"Consent","id":"bare","status":"draft","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
"category":[{"coding":[{"system":%q,"code":"part2-specific"}]}],"patient":{"reference":%q},"policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"OPTIN"}]},"provision":{"type":"permit"}}`, fhir.ConsentKind, sinead.ref)
	if a := h.do("privacy-officer", call{method: "PUT", path: "/fhir/Consent/bare", body: draft}); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	a := h.post(patient, "/Consent/bare/$sign", "")
	if a.status != http.StatusUnprocessableEntity {
		t.Errorf("a bare consent is signed: %d %s", a.status, a.body)
	}
	for _, want := range []string{"42 CFR 2.31(a)(2)", "42 CFR 2.31(a)(4)", "42 CFR 2.31(a)(5)", "42 CFR 2.31(a)(6)", "42 CFR 2.31(a)(7)", "Consent.provision.actor", "Consent.organization"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the answer lacks %q: %s", want, a.body)
		}
	}
	if strings.Contains(a.body, "2.31(a)(8)") || strings.Contains(a.body, "2.31(a)(9)") {
		t.Errorf("the signature itself is said to be missing: %s", a.body)
	}
}

// A stored consent that somebody changed behind the server's back, or that was changed
// after it was signed, is found out.
func TestChangedConsentIsFoundOut(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	sinead, program := found(t, "Sinead", "Patient"), found(t, "", "Organization", "part2-program")
	exchange := found(t, "", "Organization", "Tri-County")
	patient := h.asPatient(t, "Sinead")
	consent := h.prepare(t, "privacy-officer", "part2-specific", sinead.ref, answersTo(
		"discloser", program.ref.String(), "recipient", exchange.ref.String(), "purpose", "TREAT", "until", "2027-01-01"))
	if a := h.post(patient, consent+"/$sign", ""); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	_, id, _ := strings.Cut(consent[1:], "/")
	db := h.owner()
	swap := func(from, to string) {
		t.Helper()
		for _, table := range []string{"record.resource", "record.resource_history"} {
			if _, err := db.Exec(t.Context(), "UPDATE "+table+" SET body = replace(body::text, $1, $2)::jsonb WHERE id = $3", from, to, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	swap("2027-01-01", "2037-01-01")
	if s := h.state(t, "privacy-officer", consent); s != "broken" {
		t.Errorf("with another end it is %s", s)
	}
	swap("2037-01-01", "2027-01-01")
	if s := h.state(t, "privacy-officer", consent); s != "signed" {
		t.Errorf("as it was signed it is %s", s)
	}
	a := h.do("privacy-officer", get(consent))
	changed := strings.Replace(a.body, `"2027-01-01"`, `"2037-01-01"`, 1)
	if a := h.do("privacy-officer", call{method: "PUT", path: "/fhir" + consent, body: changed}); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if s := h.state(t, "privacy-officer", consent); s != "changed" {
		t.Errorf("with a later version it is %s", s)
	}
}

func TestKeysAreOpen(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	a := h.do("", get("/.well-known/consent-jwks.json"))
	if a.status != http.StatusOK || !strings.Contains(a.body, `"kty":"EC"`) || strings.Contains(a.body, `"d":`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}
