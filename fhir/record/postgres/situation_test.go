package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent/exception"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// supervision is a CareTeam of the staff in which emil supervises dora, who treats anna.
const supervision = "{'resourceType':'CareTeam','id':'up','status':'active','category':[{'coding':[{'system':'" + fhir.CareTeamKind + "','code':'supervision'}]}],'period':{'start':'2026-03-02','end':'2026-03-31'},'participant':[" +
	"{'role':[{'coding':[{'system':'" + fhir.CareTeamKind + "','code':'supervisor'}]}],'member':{'reference':'Practitioner/emil'}}," +
	"{'role':[{'coding':[{'system':'" + fhir.CareTeamKind + "','code':'supervisee'}]}],'member':{'reference':'Practitioner/dora'},'period':{'end':'2026-03-20'}}]}"

func TestSupervising(t *testing.T) {
	h := clinic(t)
	obs := h.load(strings.Replace(observation(""), "{", "{'id':'o1',", 1))
	both := h.load("{'resourceType':'Appointment','id':'two','status':'booked','participant':[{'actor':{'reference':'Patient/anna'},'status':'accepted'},{'actor':{'reference':'Patient/bert'},'status':'accepted'}]}")
	note := h.load(strings.Replace(psychNote, "{", "{'id':'n1',", 1))
	emil, dora := h.as("supervisor", "TREAT", "Practitioner/emil"), h.as("supervisor", "TREAT", "Practitioner/dora")
	at := func(s string) {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		h.clock.Store(v.UnixMilli())
	}
	want := func(what string, want bool) {
		t.Helper()
		if got := h.sees(emil, obs); got != want {
			t.Errorf("%s: the supervisor sees the record: %v", what, got)
		}
	}
	at("2026-03-05T12:00:00Z")
	want("without supervision", false)
	h.load(supervision)
	want("in force", true)
	if h.sees(emil, both) {
		t.Error("a record of a second patient, whom the supervisee does not treat, is seen")
	}
	if h.sees(emil, note) {
		t.Error("a psychotherapy note is seen by supervision (45 CFR 164.508(a)(2))")
	}
	if _, err := h.update(emil, strings.Replace(observation(""), "{", "{'id':'o1',", 1)); err == nil {
		t.Error("a supervisor writes by supervision")
	}
	if h.sees(dora, fhir.Ref{Type: "Patient", ID: "bert"}) {
		t.Error("the supervisee sees a patient of nobody's")
	}
	h.load(strings.NewReplacer("'team'", "'team-bert'", "anna", "bert", "dora", "emil").Replace(team))
	if h.sees(dora, fhir.Ref{Type: "Patient", ID: "bert"}) {
		t.Error("supervision works upwards")
	}
	if h.sees(emil, both) {
		t.Error("one patient by treatment and the other by supervision make one fact")
	}
	at("2026-03-20T23:59:59Z")
	want("on the supervisee's last day", true)
	at("2026-03-21T00:00:00Z")
	want("after it", false)
	at("2026-03-01T23:59:59Z")
	want("before the team begins", false)
	at("2026-03-05T12:00:00Z")
	for what, text := range map[string]string{
		"a team that is not active":      strings.Replace(supervision, "'active'", "'inactive'", 1),
		"a team of a patient's":          strings.Replace(supervision, "'period'", "'subject':{'reference':'Patient/anna'},'period'", 1),
		"a team of another kind":         strings.Replace(supervision, "'supervision'", "'other'", 1),
		"a supervisor without that role": strings.Replace(supervision, "'supervisor'", "'other'", 1),
		"a supervisor who has left":      strings.Replace(supervision, "'member':{'reference':'Practitioner/emil'}", "'member':{'reference':'Practitioner/emil'},'period':{'end':'2026-03-03'}", 1),
		"a team that has ended":          strings.Replace(supervision, "'end':'2026-03-31'", "'end':'2026-03-03'", 1),
		"a supervisee without that role": strings.Replace(supervision, "'supervisee'", "'other'", 1),
		"a modified team":                strings.Replace(supervision, "'period'", "'modifierExtension':[{'url':'http://x','valueBoolean':true}],'period'", 1),
	} {
		h.load(text)
		want(what, false)
	}
	h.load(supervision)
	want("in force again", true)
	if err := h.delete(h.operator(), fhir.Ref{Type: "CareTeam", ID: "up"}); err != nil {
		t.Fatal(err)
	}
	want("deleted", false)
	h.load(supervision)
	h.load(strings.Replace(team, "'participant'", "'period':{'end':'2026-03-04'},'participant'", 1))
	want("once the supervisee's time with the patient is over", false)
	h.load(team)
	want("while it lasts", true)
	h.load(strings.Replace(team, "'active'", "'inactive'", 1))
	want("once the supervisee has stopped treating", false)
}

func TestS33_2_51_EmergencyHoldsForItsTimeCallerPatientAndPurpose(t *testing.T) {
	h := clinic(t)
	h.load(strings.Replace(session("s", "finished", "{'start':'2026-02-20'}", "Practitioner/dora"), "'participant'", "'serviceProvider':{'reference':'Organization/sud'},'participant'", 1))
	part2 := fhir.Ref{Type: "Encounter", ID: "s"}
	note := h.load(strings.Replace(psychNote, "{", "{'id':'n1',", 1))
	obs := h.load(strings.Replace(observation(""), "{", "{'id':'o1',", 1))
	emil := func(purpose string) authz.Principal { return h.as("psychiatrist", purpose, "Practitioner/emil") }
	declare := func(p authz.Principal, e record.Emergency) error {
		h.tick()
		ctx := t.Context()
		g, r, err := h.plan(p, fhir.Read, "Patient")
		if err != nil {
			return err
		}
		c := h.resource("{'resourceType':'Task','status':'requested','intent':'order'}")
		cleared, err := h.gate.Admit(ctx, g, record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "Task"}, Content: c, Oversight: true})
		if err != nil {
			return err
		}
		e.ID, e.Starts, e.Ends = record.NewID(), h.now(), h.now().Add(time.Hour)
		return h.store.DeclareEmergency(ctx, []record.Cleared{cleared}, r, e)
	}
	if h.sees(emil("ETREAT"), part2) {
		t.Fatal("an emergency that nobody declared opens a record")
	}
	for what, e := range map[string]record.Emergency{
		"a patient who does not exist": {Patient: "nobody"}, "an identifier that nobody has": {Identifier: "urn:mrn|none"}, "a hidden kind of id": {Patient: "s"},
	} {
		h.wantStatus(what, declare(emil("ETREAT"), e), 404)
	}
	h.wantStatus("for treatment", declare(emil("TREAT"), record.Emergency{Patient: "bert"}), 403)
	h.wantStatus("by the front desk", declare(h.as("front-desk", "ETREAT", "Practitioner/emil"), record.Emergency{Patient: "bert"}), 403)
	h.wantStatus("by nobody", declare(h.as("psychiatrist", "ETREAT", ""), record.Emergency{Patient: "bert"}), 404)
	if n := h.count("SELECT (SELECT count(*) FROM record.emergency) + (SELECT count(*) FROM record.resource WHERE type = $1)", fhir.ResourceType("Task").Code()); n != 0 {
		t.Fatalf("%d rows of declarations that came to nothing", n)
	}
	begin := h.now().Add(time.Second)
	if err := declare(emil("ETREAT"), record.Emergency{Patient: "bert"}); err != nil {
		t.Fatal(err)
	}
	// What tells of it is the privacy officer's, and not who declared it nor the practice's.
	if n := h.count("SELECT count(*) FROM record.resource r JOIN record.label_class c ON c.id = r.label_class WHERE r.type = $1 AND c.labels & $2 <> 0", fhir.ResourceType("Task").Code(), int32(label.Oversight)); n != 1 {
		t.Errorf("%d tasks are labelled as the privacy officer's", n)
	}
	for _, p := range []authz.Principal{emil("ETREAT"), emil("TREAT"), h.as("practice-admin", "HOPERAT", "Practitioner/emil"), h.as("front-desk", "HOPERAT", "Practitioner/emil")} {
		if found, err := h.search(p, "Task", ""); err == nil && len(found) > 0 {
			t.Errorf("%v for %s sees that there was an emergency", p.Roles, p.Purpose)
		}
	}
	if found, err := h.search(h.as("privacy-officer", "HOPERAT", "Practitioner/dora"), "Task", ""); err != nil || len(found) != 1 {
		t.Errorf("the privacy officer sees %d tasks: %v", len(found), err)
	}
	want := func(at time.Time, p authz.Principal, ref fhir.Ref, want bool) {
		t.Helper()
		h.clock.Store(at.UnixMilli())
		if got := h.sees(p, ref); got != want {
			t.Errorf("at %v as %s for %s: %s is seen: %v", at.Sub(begin), p.User, p.Purpose, ref, got)
		}
	}
	want(begin, emil("ETREAT"), part2, true)
	want(begin, emil("BTG"), part2, true)
	want(begin, emil("TREAT"), part2, false)
	want(begin, h.as("psychiatrist", "ETREAT", "Practitioner/dora"), part2, false)
	want(begin, h.as("hie", "ETREAT", "Practitioner/emil"), part2, false)
	want(begin, emil("ETREAT"), obs, false) // another patient's
	want(begin.Add(-time.Second), emil("ETREAT"), part2, false)
	want(begin.Add(time.Hour-time.Second), emil("ETREAT"), part2, true)
	want(begin.Add(time.Hour), emil("ETREAT"), part2, false)

	// Two at once: the end of one session is that of the other, where they are of one patient and caller.
	h.clock.Store(begin.Add(2 * time.Hour).UnixMilli())
	for range 2 {
		if err := declare(emil("BTG"), record.Emergency{Identifier: "urn:mrn|A1"}); err != nil {
			t.Fatal(err)
		}
	}
	at := h.now()
	want(at, emil("BTG"), obs, true)
	want(at, emil("BTG"), note, false) // P19
	if n := h.count("SELECT count(*) FROM audit.event WHERE purpose = 'BTG' AND entities[1] LIKE 'Observation/%' AND sessions[1] IN (SELECT id::text FROM record.emergency WHERE patient = 'anna')"); n == 0 {
		t.Error("the disclosure does not name its session")
	}
	if n := h.count("SELECT count(*) FROM audit.event WHERE sessions <> '{}' AND purpose NOT IN ('ETREAT', 'BTG')"); n != 0 {
		t.Errorf("%d accesses outside of emergencies name a session", n)
	}
	g, _, err := h.plan(emil("BTG"), fhir.Read, "Patient")
	if err != nil {
		t.Fatal(err)
	}
	h.wantStatus("another caller's session", h.store.EndEmergency(t.Context(), g, record.NewID(), "", false), 404)
	if err := h.store.EndEmergency(t.Context(), g, "", "anna", false); err != nil {
		t.Fatal(err)
	}
	want(h.now(), emil("BTG"), obs, false)
}

func TestExceptionHoldsForItsRecipientPurposeScopeAndKind(t *testing.T) {
	h := clinic(t)
	h.load(strings.NewReplacer("'team'", "'team-bert'", "anna", "bert").Replace(team))
	h.load("{'resourceType':'Organization','id':'agency','name':'Agency'}")
	h.load(strings.Replace(session("s", "finished", "{'start':'2026-02-20'}", "Practitioner/dora"), "'participant'", "'serviceProvider':{'reference':'Organization/sud'},'participant'", 1))
	part2 := fhir.Ref{Type: "Encounter", ID: "s"}
	note := h.load(strings.Replace(psychNote, "{", "{'id':'n1',", 1))
	other := h.load(strings.NewReplacer("{'resourceType'", "{'id':'n2','resourceType'", "dora", "emil").Replace(psychNote))
	obs := h.load(strings.Replace(observation(""), "{", "{'id':'o1',", 1))
	both := h.load("{'resourceType':'Appointment','id':'two','status':'booked','participant':[{'actor':{'reference':'Patient/anna'},'status':'accepted'},{'actor':{'reference':'Patient/bert'},'status':'accepted'}]}")
	officer := h.as("privacy-officer", "HOPERAT", "Practitioner/emil", "sud")
	document := func(s exception.Statement) error {
		h.tick()
		ctx := t.Context()
		g, _, err := h.plan(officer, fhir.Read, "Patient")
		if err != nil {
			return err
		}
		reach, err := h.engine.Reach(ctx, g, fhir.Read, "Patient", "Organization")
		if err != nil {
			return err
		}
		s.Starts = h.now()
		if s.Ends.IsZero() {
			s.Ends = h.now().Add(24 * time.Hour)
		}
		s.Documentation = map[string]string{}
		return h.store.DocumentException(ctx, reach, record.Exception{ID: record.NewID(), Statement: s})
	}
	gina, ines, olga := fhir.Ref{Type: "Practitioner", ID: "gina"}, fhir.Ref{Type: "Practitioner", ID: "ines"}, fhir.Ref{Type: "Practitioner", ID: "olga"}
	h.load(strings.Replace(sud, "'id':'sud'", "'id':'sud2'", 1))
	two := h.load("{'resourceType':'Observation','id':'two','status':'final','code':{'text':'x'},'subject':{'reference':'Patient/bert'},'performer':[{'reference':'Organization/sud'},{'reference':'Organization/sud2'}]}")
	as := func(role, purpose string, orgs ...fhir.ID) authz.Principal {
		return h.as(role, purpose, gina.String(), orgs...)
	}
	want := func(what string, p authz.Principal, ref fhir.Ref, want bool) {
		t.Helper()
		if got := h.sees(p, ref); got != want {
			t.Errorf("%s: %s %s sees %s: %v", what, p.Roles, p.Purpose, ref, got)
		}
	}
	must := func(s exception.Statement) {
		t.Helper()
		if err := document(s); err != nil {
			t.Fatal(err)
		}
	}
	want("nothing documented", as("trainee", "TRAIN"), note, false)
	must(exception.Statement{Kind: "training", Purposes: []string{"TRAIN"}, Recipient: gina, Originator: fhir.Ref{Type: "Practitioner", ID: "dora"}})
	want("her training", as("trainee", "TRAIN"), note, true)
	want("another originator", as("trainee", "TRAIN"), other, false)
	want("another purpose", as("trainee", "TREAT"), note, false)
	want("another caller", h.as("trainee", "TRAIN", "Practitioner/dora"), note, false)
	want("another role", as("therapist", "TRAIN"), note, false)

	// An agency, whoever works for it; two patients' record is not one's.
	must(exception.Statement{Kind: "originator-oversight", Purposes: []string{"HCOMPL"}, Recipient: fhir.Ref{Type: "Organization", ID: "agency"}, Patient: "anna", Originator: fhir.Ref{Type: "Practitioner", ID: "dora"}})
	want("the agency", as("auditor", "HCOMPL", "agency"), note, true)
	want("another agency", as("auditor", "HCOMPL", "other"), note, false)
	want("a client of the agency's that says for nobody that it asks", h.as("auditor", "HCOMPL", "", "agency"), note, false)
	want("another originator", as("auditor", "HCOMPL", "agency"), other, false)

	// The kind has to fit where the record comes from.
	must(exception.Statement{Kind: "audit-evaluation", Purposes: []string{"HCOMPL"}, Recipient: gina, Program: "sud"})
	want("the program's record", as("auditor", "HCOMPL"), part2, true)
	want("what is not the program's", as("auditor", "HCOMPL"), obs, false)
	want("a psychotherapy note, of whoever", as("auditor", "HCOMPL"), note, false)
	must(exception.Statement{Kind: "audit-evaluation", Purposes: []string{"HCOMPL"}, Recipient: gina, Patient: "anna"})
	want("a patient's ordinary record", as("auditor", "HCOMPL"), obs, true)
	want("a note of hers under a kind that opens none (P13)", as("auditor", "HCOMPL"), note, false)
	want("a record of two patients", as("auditor", "HCOMPL"), both, false)
	must(exception.Statement{Kind: "audit-evaluation", Purposes: []string{"HCOMPL"}, Recipient: ines, Program: "sud"})
	want("a record of that program", h.as("auditor", "HCOMPL", ines.String()), part2, true)
	want("a record of it and of another program", h.as("auditor", "HCOMPL", ines.String()), two, false)

	// Neither a purpose that is not the kind's, nor one that is and was not documented.
	must(exception.Statement{Kind: "court-order", Purposes: []string{"HCOMPL"}, Recipient: olga, Patient: "bert"})
	want("a purpose that the kind does not have", h.as("auditor", "HCOMPL", olga.String()), part2, false)
	must(exception.Statement{Kind: "court-order", Purposes: []string{"LEGAL"}, Recipient: olga, Patient: "bert"})
	want("the purpose that is documented", h.as("court", "LEGAL", olga.String()), part2, true)
	want("another purpose of the kind", h.as("privacy-officer", "HLEGAL", olga.String()), part2, false)

	// Types and records narrow.
	must(exception.Statement{Kind: "court-order", Purposes: []string{"LEGAL"}, Recipient: gina, Patient: "bert", Types: []fhir.ResourceType{"Condition"}})
	want("another type", as("court", "LEGAL"), part2, false)
	must(exception.Statement{Kind: "court-order", Purposes: []string{"LEGAL"}, Recipient: gina, Patient: "bert", Records: []fhir.Ref{{Type: "Encounter", ID: "t"}}})
	want("another record", as("court", "LEGAL"), part2, false)
	must(exception.Statement{Kind: "court-order", Purposes: []string{"LEGAL"}, Recipient: gina, Patient: "bert", Records: []fhir.Ref{part2}, Ends: h.now().Add(time.Hour)})
	want("the record", as("court", "LEGAL"), part2, true)
	want("its patient", as("court", "LEGAL"), fhir.Ref{Type: "Patient", ID: "bert"}, false)
	h.clock.Add(time.Hour.Milliseconds())
	want("after the end", as("court", "LEGAL"), part2, false)
	h.wantStatus("a patient who does not exist", document(exception.Statement{Kind: "court-order", Purposes: []string{"LEGAL"}, Recipient: gina, Patient: "nobody"}), 404)

	// An exception that is ended is over.
	g, r, err := h.plan(officer, fhir.Read, "Patient")
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.store.Exceptions(t.Context(), r)
	if err != nil || len(list) != 10 {
		t.Fatalf("%d exceptions, %v", len(list), err)
	}
	for _, e := range list {
		if e.Kind == "training" {
			if err := h.store.EndException(t.Context(), g, e.ID); err != nil {
				t.Fatal(err)
			}
			h.wantStatus("ended twice", h.store.EndException(t.Context(), g, e.ID), 404)
		}
	}
	want("ended", as("trainee", "TRAIN"), note, false)
}

func TestS22_2_12_c_4_AgreementOfEveryProgram(t *testing.T) {
	h := clinic(t)
	h.load(strings.Replace(sud, "'id':'sud'", "'id':'sud2'", 1))
	h.load("{'resourceType':'Organization','id':'lab','name':'Lab'}")
	of := func(id, performers string) fhir.Ref {
		return h.load("{'resourceType':'Observation','id':'" + id + "','status':'final','code':{'text':'x'},'subject':{'reference':'Patient/anna'}" + performers + "}")
	}
	one := of("one", ",'performer':[{'reference':'Organization/sud'}]")
	two := of("two", ",'performer':[{'reference':'Organization/sud'},{'reference':'Organization/sud2'}]")
	none := of("none", "")
	agreement := func(id, program string) string {
		return "{'resourceType':'OrganizationAffiliation','id':'" + id + "','active':true,'organization':{'reference':'Organization/" + program + "'},'participatingOrganization':{'reference':'Organization/lab'}," +
			"'period':{'start':'2026-02-01','end':'2026-03-31'},'code':[{'coding':[{'system':'" + fhir.AffiliationKind + "','code':'qsoa'}]}]}"
	}
	p := h.as("service-organization", "HOPERAT", "", "lab")
	want := func(what string, a, b bool) {
		t.Helper()
		if h.sees(p, one) != a || h.sees(p, two) != b || h.sees(p, none) {
			t.Errorf("%s: one program %v, two %v, none %v", what, h.sees(p, one), h.sees(p, two), h.sees(p, none))
		}
	}
	want("no agreement", false, false)
	h.load(agreement("a", "sud"))
	want("with one program", true, false)
	h.load(agreement("b", "sud2"))
	want("with both", true, true)
	for what, text := range map[string]string{
		"not active":           strings.Replace(agreement("a", "sud"), "true", "false", 1),
		"of another kind":      strings.Replace(agreement("a", "sud"), "qsoa", "member", 1),
		"with another service": strings.Replace(agreement("a", "sud"), "Organization/lab", "Organization/sud2", 1),
		"not begun":            strings.Replace(agreement("a", "sud"), "2026-02-01", "2026-03-30", 1),
	} {
		h.load(text)
		want(what, false, false)
	}
	h.load(agreement("a", "sud"))
	h.clock.Store(time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	want("after its end", false, false)
}
