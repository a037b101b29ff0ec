package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// inProgram stores a session of a patient in the Part 2 program, and says whether the exchange sees it.
func (h *house) inProgram(t *testing.T, patient, program fhir.Ref) (seen func() bool) {
	t.Helper()
	text := fmt.Sprintf(`{"resourceType":"Encounter","id":"session","status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB"},
"subject":{"reference":%q},"serviceProvider":{"reference":%q},"period":{"start":"2026-02-01T10:00:00Z","end":"2026-02-01T11:00:00Z"}}`, patient, program)
	res, err := codec.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.load("harbor", res); err != nil {
		t.Fatal(err)
	}
	return func() bool { return h.do("hie", get("/Encounter/session")).status == http.StatusOK }
}

// prepared is prepare with the signers whom the practice asks for.
func (h *house) prepared(t *testing.T, token, kind string, patient fhir.Ref, answers string, more ...string) string {
	t.Helper()
	a := h.post(token, "/Consent/$prepare", paramsOf(append([]string{"questionnaire", "valueCanonical", formsAt + kind, "patient", "valueReference", patient.String(), "answers", "resource", answers}, more...)...))
	if a.status != http.StatusCreated {
		t.Fatalf("%s prepares %s: %d %s", token, kind, a.status, a.body)
	}
	at, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Location"), base), "/_history/")
	return at
}

// S28 (42 CFR 2.14(c)): where a minor does not consent to treatment alone, minor and parent sign, each for
// themselves, and nothing is disclosed before both have. The parent learns of it by the minor's signature and not before.
func TestS28_2_14_c_MinorAndParentSign(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	alba, program, exchange := found(t, "Alba", "Patient").ref, found(t, "", "Organization", "part2-program").ref, found(t, "", "Organization", "Tri-County").ref
	seen := h.inProgram(t, alba, program)
	answers := answersTo("discloser", program.String(), "recipient", exchange.String(), "purpose", "TREAT", "until", "2027-01-01")
	consent := h.prepared(t, "privacy-officer", "part2-specific", alba, answers)
	minor, parent := h.asPatient(t, "Alba"), paramsOf("authority", "valueCode", "parent")
	for path, body := range map[string]string{"/$sign": parent, "/$revoke": parent} {
		hidden, absent := h.post("proxy", consent+path, body), h.post("proxy", "/Consent/"+string(sample.Absent())+path, body)
		if hidden.status != http.StatusNotFound || normal(hidden) != normal(absent) {
			t.Errorf("before the minor signed, %s of the parent: %d %s", path, hidden.status, hidden.body)
		}
	}
	narrow := h.callers[minor]
	narrow.Claims.Scope = "patient/Consent.cruds patient/Provenance.cruds patient/RelatedPerson.rs"
	h.callers["narrow"] = narrow
	if a := h.post("narrow", consent+"/$sign", ""); a.status != http.StatusForbidden {
		t.Errorf("by a token that does not show how old the patient is: %d %s", a.status, a.body)
	}
	a := h.post(minor, consent+"/$sign", "")
	if a.status != http.StatusOK || !strings.Contains(a.body, "signed by: patient; it permits nothing until it is signed by: parent") || strings.Contains(a.body, `"status":"active"`) || strings.Contains(a.body, `"status": "active"`) {
		t.Fatalf("the minor signs: %d %s", a.status, a.body)
	}
	if seen() {
		t.Fatal("the minor's signature alone permits a disclosure")
	}
	if s := h.state(t, minor, consent); s != "partly-signed" {
		t.Errorf("signed by the minor it is %s", s)
	}
	if a := h.do(minor, get(consent+"/$verify-signature")); !strings.Contains(strings.ReplaceAll(a.body, " ", ""), `{"name":"awaited","valueCode":"parent"}`) {
		t.Errorf("it is not said who has to sign: %s", a.body)
	}
	if a := h.do("proxy", get(consent)); a.status != http.StatusOK || !strings.Contains(a.body, "My parent or guardian signs this, too") {
		t.Errorf("the parent does not see what the minor signed: %d %s", a.status, a.body)
	}
	for _, at := range []string{"/Encounter/session", "/" + program.String()} {
		if a := h.do("proxy", get(at)); a.status != http.StatusNotFound {
			t.Errorf("and sees %s: %d", at, a.status)
		}
	}
	if a := h.post(minor, consent+"/$sign", ""); a.status != http.StatusConflict {
		t.Errorf("the minor signs twice: %d %s", a.status, a.body)
	}
	if a := h.post("proxy", consent+"/$sign", ""); a.status != http.StatusUnprocessableEntity || seen() {
		t.Errorf("the parent signs without authority: %d", a.status)
	}
	a = h.post("proxy", consent+"/$sign", parent)
	if a.status != http.StatusOK || strings.Contains(a.body, "it permits nothing") || !strings.Contains(a.body, "authority-parent") {
		t.Fatalf("the parent signs: %d %s", a.status, a.body)
	}
	if !seen() {
		t.Error("both have signed, and nothing is disclosed")
	}
	for _, token := range []string{minor, "proxy", "privacy-officer"} {
		if s := h.state(t, token, consent); s != "signed" {
			t.Errorf("%s: signed by both it is %s", token, s)
		}
	}
	if a := h.do("privacy-officer", get(consent+"/$verify-signature")); strings.Count(strings.ReplaceAll(a.body, " ", ""), `"valueCode":"valid"`) != 2 {
		t.Errorf("not two signatures, each of its own: %s", a.body)
	}
	if a := h.post("proxy", consent+"/$revoke", parent); a.status != http.StatusOK || seen() {
		t.Errorf("one of both revokes: %d %s", a.status, a.body)
	}

	// What was changed after the minor signed it the parent's signature does not complete.
	consent = h.prepared(t, "privacy-officer", "part2-specific", alba, answers)
	if a := h.post(minor, consent+"/$sign", ""); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	a = h.do("privacy-officer", get(consent))
	if a := h.do("privacy-officer", call{method: "PUT", path: "/fhir" + consent, body: strings.Replace(a.body, `"2027-01-01"`, `"2037-01-01"`, 1)}); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := h.post("proxy", consent+"/$sign", parent); a.status != http.StatusNotFound || seen() {
		t.Errorf("the parent signs what the minor did not: %d %s", a.status, a.body)
	}
	// Nor does the practice, by an update that says that both signed.
	consent = h.prepared(t, "privacy-officer", "part2-specific", alba, answers)
	if a := h.post(minor, consent+"/$sign", ""); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	proxy, _ := persona("proxy")
	a = h.do("privacy-officer", get(consent))
	mother := fmt.Sprintf(`{"reference":%q}`, proxy.Claims.FHIRUser)
	body := strings.NewReplacer(" ", "").Replace(a.body)
	body = strings.Replace(strings.Replace(body, `"status":"proposed"`, `"status":"active"`, 1), `"performer":[`, `"performer":[`+mother+`,`, 1)
	body = strings.Replace(body, `"policy":[`, `"policy":[{"uri":"`+fhir.ConsentStatement+`#authority-parent"},`, 1)
	body = strings.Replace(body, `"verification":[`, `"verification":[{"verified":true,"verifiedWith":`+mother+`},`, 1)
	if a := h.do("privacy-officer", call{method: "PUT", path: "/fhir" + consent, body: body}); a.status != http.StatusOK || seen() {
		t.Errorf("the practice says that both signed: %d, seen: %v\n%s", a.status, seen(), a.body)
	}
}

// A witness signs, too, where the form asks for one, and for nobody.
func TestS7_2_31_a_8_Witness(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	sinead, program, exchange := found(t, "Sinead", "Patient").ref, found(t, "", "Organization", "part2-program").ref, found(t, "", "Organization", "Tri-County").ref
	problem := found(t, "Sinead", "Condition").ref
	seen := func() bool { return h.do("hie", get("/"+problem.String())).status == http.StatusOK }
	consent := h.prepared(t, "privacy-officer", "part2-specific", sinead, answersTo(
		"discloser", program.String(), "recipient", exchange.String(), "purpose", "TREAT", "until", "2027-01-01"), "cosigner", "valueCode", "witness")
	patient, witness := h.asPatient(t, "Sinead"), paramsOf("role", "valueCode", "witness")
	if a := h.post("privacy-officer", consent+"/$sign", witness); a.status != http.StatusConflict || seen() {
		t.Errorf("a witness of nothing: %d %s", a.status, a.body)
	}
	for token, want := range map[string]int{patient: http.StatusForbidden, "hie": http.StatusForbidden, "front-desk": http.StatusForbidden, "therapist": http.StatusNotFound} {
		if a := h.post(token, consent+"/$sign", witness); a.status != want {
			t.Errorf("%s is a witness: %d %s", token, a.status, a.body)
		}
	}
	if a := h.post(patient, consent+"/$sign", paramsOf("role", "valueCode", "notary")); a.status != http.StatusBadRequest {
		t.Errorf("another role: %d %s", a.status, a.body)
	}
	a := h.post(patient, consent+"/$sign", "")
	if a.status != http.StatusOK || !strings.Contains(a.body, "signed by: patient; it permits nothing until it is signed by: witness") || seen() {
		t.Fatalf("the patient signs: %d %s", a.status, a.body)
	}
	// One person with two records is one person.
	double, _ := persona("privacy-officer")
	double.Claims.Subject = h.callers[patient].Claims.Subject
	h.callers["double"] = double
	if a := h.post("double", consent+"/$sign", witness); a.status != http.StatusUnprocessableEntity || seen() {
		t.Errorf("the signer is the witness: %d %s", a.status, a.body)
	}
	a = h.post("privacy-officer", consent+"/$sign", witness)
	if a.status != http.StatusOK || !strings.Contains(a.body, "1.2.840.10065.1.12.1.11") || !strings.Contains(a.body, "WIT") || !seen() {
		t.Fatalf("the witness signs: %d %s", a.status, a.body)
	}
	if s := h.state(t, patient, consent); s != "signed" {
		t.Errorf("signed by both it is %s", s)
	}
	if a := h.do("privacy-officer", get(consent+"/$verify-signature")); strings.Count(strings.ReplaceAll(a.body, " ", ""), `"valueCode":"valid"`) != 2 {
		t.Errorf("not two signatures, each of its own: %s", a.body)
	}

	// A representative who signed is no witness of it.
	alba, general := found(t, "Alba", "Patient").ref, found(t, "", "Organization", "General").ref
	consent = h.prepared(t, "proxy", "hipaa-authorization", alba, answersTo(
		"discloser", general.String(), "recipient", exchange.String(), "purpose", "PATRQT", "until", "2027-01-01"), "cosigner", "valueCode", "witness")
	if a := h.post("proxy", consent+"/$sign", paramsOf("authority", "valueCode", "parent", "witness", "valueReference", h.user("proxy"))); a.status != http.StatusUnprocessableEntity {
		t.Errorf("she names herself as the witness: %d %s", a.status, a.body)
	}
	if a := h.post("proxy", consent+"/$sign", paramsOf("authority", "valueCode", "parent")); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := h.post("proxy", consent+"/$sign", witness); a.status != http.StatusUnprocessableEntity {
		t.Errorf("she is the witness of her own signature: %d %s", a.status, a.body)
	}
	if s := h.state(t, "proxy", consent); s != "partly-signed" {
		t.Errorf("it is %s", s)
	}
}

func (h *house) user(token string) string {
	p, _ := persona(token)
	return p.Claims.FHIRUser
}

// 42 CFR 2.31(a)(8): what is changed after it was signed permits nothing, however the change comes, from the next request
// on; what nobody signed here permits what it says, as a consent on paper does that the practice records.
func TestS7_2_31_a_8_ChangedAfterItWasSigned(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	sinead, program, exchange := found(t, "Sinead", "Patient").ref, found(t, "", "Organization", "part2-program").ref, found(t, "", "Organization", "Tri-County").ref
	problem := found(t, "Sinead", "Condition").ref
	seen := func() bool { return h.do("hie", get("/"+problem.String())).status == http.StatusOK }
	patient := h.asPatient(t, "Sinead")
	consent := h.prepared(t, "privacy-officer", "part2-specific", sinead, answersTo("discloser", program.String(), "recipient", exchange.String(), "purpose", "TREAT", "until", "2027-01-01"))
	if a := h.post(patient, consent+"/$sign", ""); a.status != http.StatusOK || !seen() {
		t.Fatalf("%d %s", a.status, a.body)
	}
	signed := h.do("privacy-officer", get(consent)).body
	put := func(body string) {
		t.Helper()
		if a := h.do("privacy-officer", call{method: "PUT", path: "/fhir" + consent, body: body}); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	other := strings.Replace(signed, `"2027-01-01"`, `"2037-01-01"`, 1)
	denied := func(how string) {
		t.Helper()
		if seen() {
			t.Errorf("%s: what nobody signed permits a disclosure", how)
		}
		if s := h.state(t, "privacy-officer", consent); s != "changed" {
			t.Errorf("%s: it is %s", how, s)
		}
		v, _ := h.evaluate(t, patient, about(sinead, problem, exchange, "TREAT")...)
		if v.decision != "deny" {
			t.Errorf("%s: $evaluate says %s", how, v.decision)
		}
	}
	restored := func(how string) {
		t.Helper()
		put(signed)
		if s := h.state(t, "privacy-officer", consent); !seen() || s != "signed" {
			t.Errorf("%s, and back to what was signed: %s, seen: %v", how, s, seen())
		}
	}
	put(other)
	denied("an update")
	restored("an update")
	if a := h.do("privacy-officer", call{method: "PATCH", path: "/fhir" + consent, body: `[{"op":"replace","path":"/provision/period/end","value":"2037-01-01"}]`, header: map[string]string{"Content-Type": "application/json-patch+json"}}); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	denied("a patch")
	restored("a patch")
	bundle := `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":` + other + `,"request":{"method":"PUT","url":"` + consent[1:] + `"}}]}`
	if a := h.do("privacy-officer", call{method: "POST", path: "/fhir", body: bundle}); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	denied("a transaction")
	// What is done in the background to all that is stored brings nothing back.
	tenant, _ := h.core.Store.Tenant("harbor")
	if err := h.core.Store.BeginRelabel(t.Context(), tenant, label.Default()); err != nil {
		t.Fatal(err)
	}
	me := record.NewID()
	for busy, until := true, time.Now().Add(time.Minute); busy && time.Now().Before(until); {
		var err error
		if busy, err = h.core.Store.RelabelBatch(t.Context(), label.Default(), me); err != nil {
			t.Fatal(err)
		}
	}
	denied("classified anew")
	restored("a transaction")
	imported, err := codec.Parse([]byte(other))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.load("harbor", imported); err != nil {
		t.Fatal(err)
	}
	denied("an import")
	restored("an import")
	// The signature does not outlive the end of the consent.
	put(strings.Replace(strings.ReplaceAll(signed, `"status": "active"`, `"status":"active"`), `"status":"active"`, `"status":"inactive"`, 1))
	put(signed)
	denied("set inactive, and active again")

	paper, condition := found(t, "Colin", "Consent").ref, found(t, "Colin", "Condition").ref
	reads := func() bool { return h.do("hie", get("/"+condition.String())).status == http.StatusOK }
	a := h.do("privacy-officer", get("/"+paper.String()))
	if a := h.do("privacy-officer", call{method: "PUT", path: "/fhir/" + paper.String(), body: a.body}); a.status != http.StatusOK || !reads() {
		t.Errorf("on paper: %d, seen: %v", a.status, reads())
	}
	changed := strings.Replace(a.body, exchange.String(), "Organization/"+string(found(t, "", "Organization", "Meridian").ref.ID), 1)
	if a := h.do("privacy-officer", call{method: "PUT", path: "/fhir/" + paper.String(), body: changed}); a.status != http.StatusOK || reads() {
		t.Errorf("on paper, to somebody else: %d, seen: %v", a.status, reads())
	}
	if a := h.do("privacy-officer", call{method: "PUT", path: "/fhir/" + paper.String(), body: a.body}); a.status != http.StatusOK || !reads() {
		t.Errorf("on paper, as it was: %d, seen: %v", a.status, reads())
	}
}
