package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// account is one page of the accounting of anna's, as JSON of its entries.
func (h *house) account(p authz.Principal, change ...func(*record.Accounting)) (out []string, page record.Accounted, err error) {
	h.t.Helper()
	ctx := context.Background()
	g, err := h.engine.Authorize(ctx, p, fhir.Operation, "")
	if err != nil {
		return nil, page, err
	}
	r, err := h.engine.Plan(ctx, g, fhir.Read, "Patient")
	if err != nil {
		return nil, page, err
	}
	sealed, err := h.store.Read(ctx, r, "anna")
	if err != nil {
		return nil, page, err
	}
	q := record.NewAccounting("anna", h.now())
	q.Count = 10
	for _, f := range change {
		f(&q)
	}
	if page, err = h.gate.Account(ctx, g, sealed, q); err != nil {
		return nil, page, err
	}
	for i := range page.Len() {
		var b bytes.Buffer
		if err := page.Render(&b, i); err != nil {
			h.t.Fatal(err)
		}
		out = append(out, b.String())
	}
	return out, page, nil
}

func (h *house) mustAccount(p authz.Principal, change ...func(*record.Accounting)) []string {
	h.t.Helper()
	out, _, err := h.account(p, change...)
	if err != nil {
		h.t.Fatalf("%v: %v", err, errors.Unwrap(err))
	}
	return out
}

func TestS24_H1_S23_Accounting(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange of the county','address':[{'use':'old','city':'Oldtown'},{'use':'work','line':['1 Main St'],'city':'Newtown','state':'WA','postalCode':'98001','period':{'start':'2020-01-01'}}]}")
	h.load(encounter("e1", "sud"))
	obs := h.load(strings.Replace(observation(",'encounter':{'reference':'Encounter/e1'}"), "{", "{'id':'o1',", 1))
	plain := h.load(strings.Replace(observation(""), "{", "{'id':'o2',", 1))
	h.load(specific().String())
	hie := h.as("hie", "TREAT", "", "hie")
	hie.Client = "county-exchange"
	officer := h.as("privacy-officer", "HOPERAT", "Practitioner/p", "general", "sud")
	outsider := h.as("privacy-officer", "HOPERAT", "Practitioner/p", "general")
	self := h.as("patient", "PATRQT", "Patient/anna")
	if got := h.mustAccount(self); len(got) != 0 {
		t.Fatalf("before any disclosure: %s", got)
	}

	see := func(p authz.Principal, ref fhir.Ref) {
		t.Helper()
		if _, err := h.read(p, ref); err != nil {
			t.Fatal(err)
		}
	}
	see(hie, obs)   // with consent
	see(hie, plain) // for treatment, no record of a program: 45 CFR 164.528(a)(1)(i)
	see(self, obs)  // to the individual
	h.load(strings.Replace(team, "Practitioner/dora", "Practitioner/otis", 1))
	see(h.as("sud-counselor", "TREAT", "Practitioner/otis", "sud"), obs)
	h.tick()
	for name, p := range map[string]authz.Principal{"the patient": self, "the privacy officer": officer} {
		got := h.mustAccount(p)
		if len(got) != 1 {
			t.Errorf("%s: %d entries %s", name, len(got), got)
			continue
		}
		for _, want := range []string{
			`"code":"110106"`, `"code":"disclose"`, `"recorded":"2026-03-01T`, `"reference":"Patient/anna"`, `"name":"Observation (1)"`, `with the patient's consent (42 CFR 2.33)`, `"reference":"Consent/c"`,
			`"reference":"Organization/hie","display":"Exchange of the county"`, `"altId":"county-exchange"`, `"code":"TREAT"`,
			`"extension":[{"url":"` + audit.RecipientAddress + `","valueAddress":{"line":["1 Main St"],"city":"Newtown","state":"WA","postalCode":"98001"}}]`,
		} {
			if !strings.Contains(got[0], want) {
				t.Errorf("%s: no %s in %s", name, want, got[0])
			}
		}
		if strings.Contains(got[0], "o1") || strings.Contains(got[0], "8480") || strings.Contains(got[0], "Oldtown") {
			t.Errorf("%s: it names the record, or its content: %s", name, got[0])
		}
	}
	// A privacy officer who is not of the program cannot tell that there are such records.
	if got := h.mustAccount(outsider); len(got) != 0 {
		t.Errorf("the general program's officer: %s", got)
	}
	// S23: for an intermediary, what went out with consent.
	if got := h.mustAccount(self, func(q *record.Accounting) { q.Consented = true }); len(got) != 1 {
		t.Errorf("intermediary: %s", got)
	}
	// S24: three years for what was disclosed with consent.
	h.clock.Add((3*365*24*time.Hour + 48*time.Hour).Milliseconds())
	if got := h.mustAccount(self); len(got) != 0 {
		t.Errorf("after three years: %s", got)
	}
	if got := h.mustAccount(self, func(q *record.Accounting) { q.ConsentedSince = q.Since }); len(got) != 1 {
		t.Errorf("for a period that is asked for: %s", got)
	}
}

// What is disclosed outside of treatment, payment and operations is accounted for during six years.
func TestH1_164_528_OtherDisclosures(t *testing.T) {
	h := clinic(t)
	record1 := func(at time.Duration, roles []string, purpose, outcome, entities, labels, patients string) {
		var id string
		if err := h.row("INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients) "+
			"VALUES ($1, $2, gen_random_uuid(), $3, 'search-type', 'Observation', 's', 'registry', '', $4, $5, 'p', 'r', $6::text::text[], $7::text::integer[], $8::text::text[]) RETURNING id::text",
			&id, h.tenant, h.now().Add(-at), outcome, roles, purpose, entities, labels, patients); err != nil {
			t.Fatal(err)
		}
	}
	const year = 365 * 24 * time.Hour
	two, of2 := "{Observation/a/_history/1,Condition/b/_history/2,Observation/c/_history/1}", "{anna,anna,ben}"
	record1(time.Hour, []string{"registry"}, "PUBHLTH", "0", two, "{0,0,0}", of2)
	record1(5*year, []string{"research-analyst"}, "HRESCH", "0", "{Observation/a/_history/1}", "{2048}", "{anna}")
	record1(7*year, []string{"registry"}, "PUBHLTH", "0", "{Observation/a/_history/1}", "{0}", "{anna}")
	record1(time.Hour, []string{"registry"}, "PUBHLTH", "4", "{}", "{}", "{}")
	record1(time.Hour, []string{"hie"}, "TREAT", "0", "{Observation/a/_history/1}", "{0}", "{anna}")
	record1(time.Hour, []string{"hie"}, "COC", "0", "{Observation/a/_history/1}", "{0}", "{anna}")
	record1(time.Hour, []string{"therapist"}, "PUBHLTH", "0", "{Observation/a/_history/1}", "{0}", "{anna}")
	record1(time.Hour, []string{"proxy"}, "PATRQT", "0", "{Observation/a/_history/1}", "{0}", "{anna}")
	// P21, L43: a note of a session is not there, whoever read it, and it does not count.
	record1(time.Hour, []string{"registry"}, "PUBHLTH", "0", "{DocumentReference/n/_history/1,Observation/a/_history/1}", "{2,0}", "{anna,anna}")
	record1(time.Hour, []string{"registry"}, "PUBHLTH", "0", "{DocumentReference/n/_history/1}", "{2}", "{anna}")
	for name, p := range map[string]authz.Principal{"the patient": h.as("patient", "PATRQT", "Patient/anna"), "the officer": h.as("privacy-officer", "HOPERAT", "Practitioner/p", "general", "sud")} {
		got := h.mustAccount(p)
		all := strings.Join(got, "\n")
		if len(got) != 3 || strings.Count(all, "without consent") != 3 || strings.Contains(all, "DocumentReference") || strings.Contains(all, "ben") || !strings.Contains(all, `"name":"Condition (1), Observation (1)"`) || !strings.Contains(all, `"display":"registry"`) {
			t.Errorf("%s: %d entries\n%s", name, len(got), all)
		}
	}
	if got := h.mustAccount(h.as("patient", "PATRQT", "Patient/anna"), func(q *record.Accounting) { q.Consented = true }); len(got) != 0 {
		t.Errorf("with consent alone: %s", got)
	}
	// Page by page it is the same list.
	whole := h.mustAccount(h.as("patient", "PATRQT", "Patient/anna"))
	var paged []string
	one := func(q *record.Accounting) { q.Count = 1 }
	out, page, err := h.account(h.as("patient", "PATRQT", "Patient/anna"), one)
	for range 5 {
		if err != nil {
			t.Fatal(err)
		}
		paged = append(paged, out...)
		if !page.More {
			break
		}
		last := page.Last
		out, page, err = h.account(h.as("patient", "PATRQT", "Patient/anna"), one, func(q *record.Accounting) { q.After = &last })
	}
	if strings.Join(paged, "\n") != strings.Join(whole, "\n") || page.More {
		t.Errorf("page by page:\n%s\nat once:\n%s", strings.Join(paged, "\n"), strings.Join(whole, "\n"))
	}
}

// A personal representative asks as the patient does (45 CFR 164.502(g)(1), 164.528), and learns of
// no disclosure of what she may not read: care to which a minor consented alone, a program's records,
// notes of sessions. Where somebody lives is not the address of a recipient.
func TestH1_H5_S27_AccountingForARepresentative(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'RelatedPerson','id':'rp','active':true,'patient':{'reference':'Patient/anna'},'relationship':[{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-RoleCode','code':'HPOWATT'}]}]}")
	h.load("{'resourceType':'Practitioner','id':'rita','name':[{'text':'Rita Researcher'}],'address':[{'use':'home','city':'Hometown'},{'city':'Endtown','period':{'end':'2020-01-01'}}]}")
	disclosed := func(typ string, labels label.Set) {
		var id string
		if err := h.row("INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients) "+
			"VALUES ($1, $2, gen_random_uuid(), '0', 'read', $3, 's', 'registry', 'Practitioner/rita', '{research-analyst}', 'HRESCH', 'p', 'r', ARRAY[$3 || '/a/_history/1'], ARRAY[$4::integer], '{anna}') RETURNING id::text",
			&id, h.tenant, h.now().Add(-time.Hour), typ, int32(labels)); err != nil {
			t.Fatal(err)
		}
	}
	disclosed("Observation", 0)
	disclosed("Condition", label.MinorConsented)
	disclosed("Encounter", label.Part2)
	disclosed("MedicationRequest", label.SUD)
	disclosed("DocumentReference", label.PsychNote)
	self := strings.Join(h.mustAccount(h.as("patient", "PATRQT", "Patient/anna")), "\n")
	for _, want := range []string{"Observation (1)", "Condition (1)", "Encounter (1)", "MedicationRequest (1)", "Rita Researcher"} {
		if !strings.Contains(self, want) {
			t.Errorf("the patient: no %s in %s", want, self)
		}
	}
	if strings.Contains(self, "Hometown") || strings.Contains(self, "Endtown") || strings.Contains(self, "DocumentReference") {
		t.Errorf("the patient: %s", self)
	}
	rp := h.mustAccount(h.as("proxy", "PATRQT", "RelatedPerson/rp"))
	if len(rp) != 1 || !strings.Contains(rp[0], "Observation (1)") {
		t.Errorf("her representative: %s", rp)
	}
	// Neither one who stands for her no longer, nor the role alone, nor she for another purpose.
	for what, p := range map[string]authz.Principal{
		"nobody's representative": h.as("proxy", "PATRQT", "RelatedPerson/other"), "for treatment": h.as("proxy", "TREAT", "RelatedPerson/rp"), "a relative with the role of a patient": h.as("patient", "PATRQT", "RelatedPerson/rp"),
	} {
		if out, _, err := h.account(p); err == nil {
			t.Errorf("%s: %s", what, out)
		}
	}
	h.load("{'resourceType':'RelatedPerson','id':'rp','active':false,'patient':{'reference':'Patient/anna'}}")
	if out, _, err := h.account(h.as("proxy", "PATRQT", "RelatedPerson/rp")); err == nil {
		t.Errorf("after the practice ended it: %s", out)
	}
}

func TestAccountingIsForThePatientAndThePrivacyOfficer(t *testing.T) {
	h := clinic(t)
	for role, c := range map[string]struct {
		purpose, user string
		orgs          []fhir.ID
		want          outcome.Category
	}{
		"therapist":      {"TREAT", "Practitioner/dora", nil, outcome.Forbidden},
		"practice-admin": {"HOPERAT", "Practitioner/v", []fhir.ID{"general", "sud"}, outcome.Forbidden},
		"hie":            {"TREAT", "", []fhir.ID{"hie"}, outcome.Forbidden},
		"patient":        {"PATRQT", "Patient/ben", nil, outcome.NotFound},
	} {
		_, _, err := h.account(h.as(role, c.purpose, c.user, c.orgs...))
		if got := outcome.Of(err); err == nil || got.Issues[0].Category != c.want && got.Issues[0].Category != outcome.NotFound {
			t.Errorf("%s: %v", role, err)
		}
	}
	// The question is recorded before it is answered.
	before := h.count("SELECT count(*) FROM audit.event WHERE interaction = 'operation' AND type = 'AuditEvent' AND entities[1] LIKE 'Patient/anna/%'")
	h.mustAccount(h.as("patient", "PATRQT", "Patient/anna"))
	if after := h.count("SELECT count(*) FROM audit.event WHERE interaction = 'operation' AND type = 'AuditEvent' AND entities[1] LIKE 'Patient/anna/%'"); after != before+1 {
		t.Errorf("recorded %d times", after-before)
	}
}
