package postgres_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/search"
)

func TestMigrationsUpDownUp(t *testing.T) {
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	for range 2 {
		if up, err := postgres.Migrate(ctx, dsn); err != nil || len(up) < 3 {
			t.Fatalf("up: %v, %d migrations", err, len(up))
		}
		if _, err := postgres.MigrateTo(ctx, dsn, 0); err != nil {
			t.Fatalf("down: %v", err)
		}
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		var left int
		err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_namespace WHERE nspname IN ('record', 'notes', 'audit', 'identity')").Scan(&left)
		_ = conn.Close(ctx)
		if err != nil || left != 0 {
			t.Fatalf("after down: %d schemas left, %v", left, err)
		}
	}
	if _, err := postgres.Migrate(ctx, dsn); err != nil {
		t.Fatalf("up again: %v", err)
	}
}

const (
	anna = "{'resourceType':'Patient','id':'anna','active':true,'name':[{'family':'Müller','given':['Anna']}],'birthDate':'1990-02-03','identifier':[{'system':'urn:mrn','value':'A1'}]}"
	bert = "{'resourceType':'Patient','id':'bert','name':[{'family':'Bauer'}]}"
	dora = "{'resourceType':'Practitioner','id':'dora','name':[{'family':'Dora'}]}"
	emil = "{'resourceType':'Practitioner','id':'emil','name':[{'family':'Emil'}]}"
	sud  = "{'resourceType':'Organization','id':'sud','name':'Program','type':[{'coding':[{'system':'" + fhir.OrganizationKind + "','code':'part2-program'}]}]}"
	team = "{'resourceType':'CareTeam','id':'team','status':'active','subject':{'reference':'Patient/anna'},'participant':[{'member':{'reference':'Practitioner/dora'}}]}"
)

// clinic is a house with two patients, two therapists, of whom dora treats anna, and a Part 2 program.
func clinic(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	for _, r := range []string{anna, bert, dora, emil, sud, team} {
		h.load(r)
	}
	return h
}

func observation(extra string) string {
	return "{'resourceType':'Observation','status':'final','code':{'coding':[{'system':'http://loinc.org','code':'44261-6'}]},'subject':{'reference':'Patient/anna'},'effectiveDateTime':'2026-02-01','valueInteger':12" + extra + "}"
}

func TestVersionsAndTombstones(t *testing.T) {
	h := clinic(t)
	therapist := h.as("therapist", "TREAT", "Practitioner/dora")
	ref := h.mustCreate(therapist, observation(""))
	second := strings.Replace(observation(""), "{'resourceType':'Observation'", "{'resourceType':'Observation','id':'"+string(ref.ID)+"'", 1)
	second = strings.Replace(second, "'valueInteger':12", "'valueInteger':9", 1)
	rc, err := h.update(therapist, second, func(c *record.Change) { c.IfMatch = 1 })
	if err != nil || rc.Version != 2 || rc.Created {
		t.Fatalf("update: %+v, %v", rc, err)
	}
	_, err = h.update(therapist, second, func(c *record.Change) { c.IfMatch = 1 })
	h.wantStatus("stale If-Match", err, 412)

	g, r, err := h.plan(therapist, fhir.VRead, "Observation")
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range map[fhir.VersionID]string{1: `"valueInteger": 12`, 2: `"valueInteger": 9`} {
		s, err := h.store.VRead(context.Background(), r, ref.ID, v)
		if err != nil {
			t.Fatalf("version %d: %v", v, err)
		}
		bodies, err := h.release(g, "Observation", s)
		if err != nil || !strings.Contains(bodies[0], want) || !strings.Contains(bodies[0], `"versionId": "`+v.String()+`"`) {
			t.Fatalf("version %d: %v %v", v, bodies, err)
		}
	}
	h.wantStatus("delete by a therapist", h.delete(therapist, ref), 403)
	if err := h.delete(h.operator(), ref); err != nil {
		t.Fatal(err)
	}
	if err := h.delete(h.operator(), ref); err != nil {
		t.Fatalf("delete again: %v", err)
	}
	g, r, _ = h.plan(therapist, fhir.HistoryInstance, "Observation")
	page, err := h.history(r, ref.ID, 10, nil)
	if err != nil || len(page.Entries) != 3 || page.More {
		t.Fatalf("history: %d entries, %v", len(page.Entries), err)
	}
	out, err := h.gate.Release(context.Background(), g, "Observation", page.Entries...)
	if err != nil || !out[0].Deleted() || out[0].Version() != 3 || out[2].Version() != 1 || !out[2].Created() {
		t.Fatalf("history: %v", err)
	}
	page, err = h.history(r, ref.ID, 1, &search.Cursor{Keys: []search.Key{{Text: out[0].Updated().Format(time.RFC3339Nano)}, {Text: "3"}}, Type: ref.Type, ID: ref.ID})
	if err != nil || len(page.Entries) != 1 || !page.More {
		t.Fatalf("history page: %v", err)
	}
	if found, _ := h.search(therapist, "Observation", "code=44261-6"); len(found) != 0 {
		t.Fatal("a deleted resource is found")
	}
	colleague := h.as("therapist", "TREAT", "Practitioner/emil")
	_, r, _ = h.plan(colleague, fhir.HistoryInstance, "Observation")
	_, err = h.history(r, ref.ID, 10, nil)
	h.wantStatus("history of a hidden tombstone", err, 404)
}

func TestHiddenIsAbsent(t *testing.T) {
	h := clinic(t)
	ref := h.mustCreate(h.as("therapist", "TREAT", "Practitioner/dora"), observation(""))
	colleague := h.as("therapist", "TREAT", "Practitioner/emil")
	_, hidden := h.read(colleague, ref)
	_, absent := h.read(colleague, fhir.Ref{Type: "Observation", ID: "never-existed"})
	h.wantStatus("hidden", hidden, 404)
	if hidden.Error() != absent.Error() {
		t.Fatalf("hidden %q, absent %q", hidden, absent)
	}
	elsewhere := h.as("therapist", "TREAT", "Practitioner/dora")
	elsewhere.Tenant = h.other
	if h.sees(elsewhere, ref) {
		t.Fatal("a practice sees another one's record")
	}
	if !h.sees(h.as("therapist", "TREAT", "Practitioner/dora"), ref) {
		t.Fatal("the treating therapist does not see the record")
	}
	desk := h.as("front-desk", "HOPERAT", "Practitioner/emil")
	patient := fhir.Ref{Type: "Patient", ID: "anna"}
	if !h.sees(desk, patient) {
		t.Fatal("the front desk does not see the practice's patients")
	}
	desk.Tenant = h.other
	if h.sees(desk, patient) {
		t.Fatal("a front desk sees another practice's patients")
	}
}

func TestLaunchPatientNarrows(t *testing.T) {
	h := clinic(t)
	h.load(strings.NewReplacer("'team'", "'team2'", "anna", "bert").Replace(team))
	ofAnna := h.mustCreate(h.operator(), observation(""))
	ofBert := h.mustCreate(h.operator(), strings.Replace(observation(""), "anna", "bert", 1))
	p := h.as("therapist", "TREAT", "Practitioner/dora")
	if !h.sees(p, ofAnna) || !h.sees(p, ofBert) {
		t.Fatal("the therapist treats both")
	}
	p.Scopes, p.Patient = mustScopes("patient/*.rs"), "anna"
	if !h.sees(p, ofAnna) || h.sees(p, ofBert) {
		t.Fatal("patient-level scopes do not narrow to the launch patient")
	}
	p.Patient = ""
	if _, err := h.read(p, ofAnna); status(err) != 403 {
		t.Fatalf("patient-level scopes without a launch patient: %v", err)
	}
}

const (
	psychNote = "{'resourceType':'DocumentReference','status':'current','type':{'coding':[{'system':'" + fhir.NoteKind + "','code':'psychotherapy-note'}]},'subject':{'reference':'Patient/anna'},'author':[{'reference':'Practitioner/dora'}],'content':[{'attachment':{'contentType':'text/plain','data':'c2VjcmV0'}}]}"
)

func TestPsychotherapyNotesAreKeptSeparate(t *testing.T) {
	h := clinic(t)
	h.load(strings.NewReplacer("'team'", "'team2'", "dora", "emil").Replace(team))
	dora, emil := h.as("therapist", "TREAT", "Practitioner/dora"), h.as("therapist", "TREAT", "Practitioner/emil")
	ref := h.mustCreate(dora, psychNote)
	if !h.sees(dora, ref) {
		t.Fatal("the originator does not see her note")
	}
	for who, p := range map[string]struct{ role, purpose, user string }{
		"colleague": {"therapist", "TREAT", "Practitioner/emil"}, "patient": {"patient", "PATRQT", "Patient/anna"},
		"hie": {"hie", "TREAT", "Organization/hie"}, "privacy": {"privacy-officer", "HOPERAT", "Practitioner/emil"},
		"originator in an emergency": {"therapist", "ETREAT", "Practitioner/dora"}, "originator for payment": {"therapist", "HPAYMT", "Practitioner/dora"},
	} {
		if h.sees(h.as(p.role, p.purpose, p.user), ref) {
			t.Errorf("%s sees the note", who)
		}
	}
	_, err := h.create(emil, psychNote)
	h.wantStatus("a note in another's name", err, 422)

	ctx := context.Background()
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var inRecord, inNotes int
	if err := conn.QueryRow(ctx, "SELECT (SELECT count(*) FROM record.resource WHERE id = $1), (SELECT count(*) FROM notes.resource WHERE id = $1)", string(ref.ID)).Scan(&inRecord, &inNotes); err != nil {
		t.Fatal(err)
	}
	if inRecord != 0 || inNotes != 1 {
		t.Fatalf("the note stands %d times in record, %d times in notes", inRecord, inNotes)
	}
	for _, sql := range []string{"SELECT count(*) FROM notes.resource", "SELECT count(*) FROM notes.resource_history", "DELETE FROM record.resource", "DELETE FROM audit.event", "UPDATE audit.event SET outcome = '0'", "UPDATE record.resource_history SET version = 1"} {
		if _, err := conn.Exec(ctx, "SET ROLE "+postgres.RoleApp); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(ctx, sql); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s may: %s (%v)", postgres.RoleApp, sql, err)
		}
	}

	// To a colleague the note is not there; the originator is told why nothing may refer to it.
	list := "{'resourceType':'List','status':'current','mode':'working','subject':{'reference':'Patient/anna'},'entry':[{'item':{'reference':'" + ref.String() + "'}}]}"
	_, hidden := h.create(emil, list)
	_, absent := h.create(emil, strings.Replace(list, string(ref.ID), "never-existed", 1))
	h.wantStatus("a reference to a hidden note", hidden, 422)
	if hidden.Error() != absent.Error() {
		t.Fatalf("hidden %q, absent %q", hidden, absent)
	}
	_, err = h.create(dora, list)
	h.wantStatus("a reference to a note", err, 422)
	if !strings.Contains(err.Error(), "kept separate") {
		t.Fatalf("the originator is told: %v", err)
	}
	plain := h.mustCreate(dora, strings.Replace(psychNote, "psychotherapy-note", "other", 1))
	_, err = h.update(dora, strings.Replace(psychNote, "{'resourceType':'DocumentReference'", "{'resourceType':'DocumentReference','id':'"+string(plain.ID)+"'", 1))
	h.wantStatus("a note made of an ordinary document", err, 422)
}

func encounter(id, provider string) string {
	return "{'resourceType':'Encounter','id':'" + id + "','status':'finished','class':{'code':'AMB'},'subject':{'reference':'Patient/anna'},'serviceProvider':{'reference':'Organization/" + provider + "'}}"
}

func TestPart2FlowsAlongReferences(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'general','name':'General'}")
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	inProgram := h.as("therapist", "TREAT", "Practitioner/dora", "sud")
	h.load(encounter("e1", "sud"))
	h.load(encounter("e2", "general"))
	of := func(e string) string { return observation(",'encounter':{'reference':'Encounter/" + e + "'}") }
	protected := h.mustCreate(inProgram, of("e1"))
	if !h.sees(inProgram, protected) || h.sees(dora, protected) {
		t.Fatal("an Observation of a Part 2 Encounter is not protected like it")
	}
	// Twice removed.
	report := h.mustCreate(inProgram, "{'resourceType':'DiagnosticReport','status':'final','code':{'text':'x'},'subject':{'reference':'Patient/anna'},'result':[{'reference':'"+protected.String()+"'}]}")
	if h.sees(dora, report) {
		t.Fatal("protection does not flow over two references")
	}
	// A reference that the writer cannot see does not resolve, and looks absent.
	_, hidden := h.create(dora, of("e1"))
	_, absent := h.create(dora, of("e9"))
	if hidden == nil || absent == nil || hidden.Error() != absent.Error() || status(hidden) != 422 {
		t.Fatalf("hidden %v, absent %v", hidden, absent)
	}
	// A record that is there when its Encounter moves into the program moves with it.
	later := h.mustCreate(dora, of("e2"))
	laterReport := h.mustCreate(dora, "{'resourceType':'DiagnosticReport','status':'final','code':{'text':'x'},'subject':{'reference':'Patient/anna'},'result':[{'reference':'"+later.String()+"'}]}")
	if !h.sees(dora, later) {
		t.Fatal("a general record is hidden")
	}
	if _, err := h.update(inProgram, encounter("e2", "sud")); err != nil {
		t.Fatal(err)
	}
	if h.sees(dora, later) || h.sees(dora, laterReport) || !h.sees(inProgram, laterReport) {
		t.Fatal("protection that grows does not reach what refers to it")
	}
	// And back: labels never fall by an ordinary update, nor does an older version open up.
	if _, err := h.update(inProgram, encounter("e2", "general")); err != nil {
		t.Fatal(err)
	}
	if h.sees(dora, fhir.Ref{Type: "Encounter", ID: "e2"}) {
		t.Fatal("an update lowered a label")
	}
	_, r, _ := h.plan(dora, fhir.VRead, "Encounter")
	_, err := h.store.VRead(context.Background(), r, "e2", 1)
	h.wantStatus("the version from before the protection", err, 404)
}

// A program that is only described, not referred to, has no workforce and no
// consent that could name it: its record opens to neither.
func TestPart2WithoutAProgramOpensToNobody(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	ref := h.load("{'resourceType':'Observation','id':'described','status':'final','code':{'text':'x'},'subject':{'reference':'Patient/anna'},'performer':[{'reference':'#p'}],'contained':[" +
		strings.Replace(sud, "'id':'sud'", "'id':'p'", 1) + "]}")
	h.load(specific().String())
	if h.sees(h.as("therapist", "TREAT", "Practitioner/dora", "sud"), ref) || h.sees(h.as("hie", "TREAT", "", "hie"), ref) {
		t.Fatal("a Part 2 record without a program opened")
	}
	if !h.sees(h.as("patient", "PATRQT", "Patient/anna"), ref) {
		t.Fatal("the patient does not see her own record (42 CFR 2.23)")
	}
}

// Moving a record to another patient does not hand over what was written of the first.
func TestOlderVersionsStayWithTheirPatient(t *testing.T) {
	h := clinic(t)
	text := strings.Replace(observation(""), "{", "{'id':'moved',", 1)
	ref := h.load(text)
	h.load(strings.Replace(text, "anna", "bert", 1))
	bert := h.as("patient", "PATRQT", "Patient/bert")
	if !h.sees(bert, ref) || h.sees(h.as("patient", "PATRQT", "Patient/anna"), ref) {
		t.Fatal("the record is not where it was moved to")
	}
	_, r, err := h.plan(bert, fhir.VRead, "Observation")
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.store.VRead(context.Background(), r, ref.ID, 1)
	h.wantStatus("the version of another patient", err, 404)
	page, err := h.history(r, ref.ID, 10, nil)
	if err != nil || len(page.Entries) != 1 {
		t.Fatalf("history: %d entries, %v", len(page.Entries), err)
	}
}

func TestOrganizationBecomesProgram(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'general','name':'General'}")
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	h.load(encounter("e1", "general"))
	obs := h.mustCreate(dora, observation(",'encounter':{'reference':'Encounter/e1'}"))
	note := h.mustCreate(dora, strings.Replace(psychNote, "'subject'", "'custodian':{'reference':'Organization/general'},'subject'", 1))
	h.load(strings.Replace(sud, "'id':'sud'", "'id':'general'", 1))
	if h.sees(dora, obs) || h.sees(dora, fhir.Ref{Type: "Encounter", ID: "e1"}) || h.sees(dora, note) {
		t.Fatal("the records of an Organization that became a program are not protected")
	}
	if !h.sees(h.as("therapist", "TREAT", "Practitioner/dora", "general"), obs) {
		t.Fatal("the program's own workforce lost its records")
	}
}

func TestLabelsFlowInsideOneTransaction(t *testing.T) {
	h := clinic(t)
	inProgram := h.as("therapist", "TREAT", "Practitioner/dora", "sud")
	obs := h.resource(strings.Replace(observation(",'encounter':{'reference':'Encounter/new'}"), "{", "{'id':'o',", 1))
	enc := h.resource(encounter("new", "sud"))
	rs, err := h.write(inProgram,
		record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "Observation", ID: "o"}, Content: obs},
		record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "Encounter", ID: "new"}, Content: enc})
	if err != nil {
		t.Fatal(err)
	}
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	if h.sees(dora, rs[0].Ref) || !h.sees(inProgram, rs[0].Ref) {
		t.Fatal("labels do not flow between the resources of one transaction")
	}
}

// TestCallersCannotSetLabels: channels of leaks L35.
func TestCallersCannotSetLabels(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	ref := h.mustCreate(dora, observation(",'meta':{'security':[{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'PSYTHPN'}]}"))
	body, err := h.read(h.as("patient", "PATRQT", "Patient/anna"), ref)
	if err != nil || strings.Contains(body, "PSYTHPN") {
		t.Fatalf("a caller's label had an effect: %v\n%s", err, body)
	}
}

func TestNobodyWritesHerWayIn(t *testing.T) {
	h := clinic(t)
	emil := h.as("therapist", "TREAT", "Practitioner/emil")
	_, err := h.create(emil, strings.NewReplacer("'id':'team',", "", "dora", "emil").Replace(team))
	h.wantStatus("a CareTeam for oneself", err, 403)
	_, err = h.create(emil, observation(""))
	h.wantStatus("an Observation of a patient whom one does not treat", err, 422) // the patient does not resolve
	_, err = h.update(emil, strings.Replace(observation(""), "{", "{'id':'i',", 1), imported)
	h.wantStatus("an import by anybody but the operator", err, 403)
	admin := h.as("practice-admin", "HOPERAT", "Practitioner/emil")
	if _, err := h.create(admin, strings.NewReplacer("'id':'team',", "", "dora", "emil").Replace(team)); err != nil {
		t.Fatal(err)
	}
	h.mustCreate(emil, observation(""))
}

func TestEndedCareTeamEndsTreatment(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	ref := h.mustCreate(dora, observation(""))
	h.load(strings.Replace(team, "'member'", "'period':{'start':'2025-01-01','end':'2026-02-28'},'member'", 1))
	if h.sees(dora, ref) {
		t.Fatal("treatment goes on after its end")
	}
	h.load(strings.Replace(team, "'member'", "'period':{'start':'2025-01-01','end':'2026-03-01'},'member'", 1))
	if !h.sees(dora, ref) {
		t.Fatal("treatment ends before the last day is over")
	}
	h.load(strings.Replace(team, "'active'", "'inactive'", 1))
	if h.sees(dora, ref) {
		t.Fatal("an inactive CareTeam still treats")
	}
}

// TestUpsertNeverTellsThatAnIDIsTaken: channels of leaks L31.
func TestUpsertNeverTellsThatAnIDIsTaken(t *testing.T) {
	h := clinic(t)
	h.load(strings.NewReplacer("'team'", "'team2'", "anna", "bert", "dora", "emil").Replace(team))
	hidden := strings.Replace(observation(""), "{", "{'id':'taken',", 1)
	h.load(hidden)
	emil := h.as("therapist", "TREAT", "Practitioner/emil")
	own := strings.NewReplacer("anna", "bert", "'valueInteger':12", "'valueInteger':3").Replace(hidden)
	rc, err := h.update(emil, own, upsert)
	if err != nil || !rc.Created || rc.Version != 1 {
		t.Fatalf("upsert on a hidden id: %+v, %v", rc, err)
	}
	free, err := h.update(emil, strings.Replace(own, "taken", "free", 1), upsert)
	if err != nil || free.Created != rc.Created || free.Version != rc.Version {
		t.Fatalf("upsert on a free id differs: %+v, %v", free, err)
	}
	body, err := h.read(emil, rc.Ref)
	if err != nil || !strings.Contains(body, "Patient/bert") {
		t.Fatalf("his own: %s %v", body, err)
	}
	body, err = h.read(h.as("therapist", "TREAT", "Practitioner/dora"), rc.Ref)
	if err != nil || !strings.Contains(body, "Patient/anna") {
		t.Fatalf("the other one: %s %v", body, err)
	}
	if rc, err = h.update(emil, own, upsert); err != nil || rc.Version != 2 {
		t.Fatalf("second update: %+v %v", rc, err)
	}
	_, err = h.update(emil, strings.Replace(own, "taken", "none", 1))
	h.wantStatus("update of what is not there", err, 404)
	// What one may see but not change is refused, not doubled.
	front := h.as("front-desk", "HOPERAT", "Practitioner/emil")
	if !h.sees(front, fhir.Ref{Type: "Practitioner", ID: "dora"}) {
		t.Fatal("the front desk does not see the directory")
	}
	_, err = h.update(front, dora, upsert)
	h.wantStatus("update of the directory by the front desk", err, 403)
	// 42 CFR 2.33(a): consent lets a therapist outside the program read, not write.
	tpo := specific()
	tpo.kind, tpo.recipient, tpo.purposes = "part2-tpo", "class:treating-providers", []string{"TREAT", "HPAYMT", "HOPERAT"}
	h.load(tpo.String())
	h.load(encounter("e1", "sud"))
	therapist := h.as("therapist", "TREAT", "Practitioner/dora")
	if !h.sees(therapist, fhir.Ref{Type: "Encounter", ID: "e1"}) {
		t.Fatal("a TPO consent does not let the treating therapist read")
	}
	_, err = h.update(therapist, strings.Replace(encounter("e1", "sud"), ",'serviceProvider':{'reference':'Organization/sud'}", "", 1), upsert)
	h.wantStatus("update of what one may only read", err, 403)
}

func TestConcurrentUpdatesCountVersions(t *testing.T) {
	h := clinic(t)
	text := strings.Replace(observation(""), "{", "{'id':'busy',", 1)
	h.load(text)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[fhir.VersionID]int{}
	for range 8 {
		wg.Go(func() {
			for range 5 {
				rc, err := h.update(h.operator(), text)
				if err != nil {
					t.Errorf("update: %v", err)
					return
				}
				mu.Lock()
				seen[rc.Version]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for v := fhir.VersionID(2); v <= 41; v++ {
		if seen[v] != 1 {
			t.Fatalf("version %d was given %d times", v, seen[v])
		}
	}
}

// A record that is written while its Encounter moves into the program must end protected.
// Channels of leaks: L48.
func TestLabelsHoldUnderConcurrency(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'general','name':'General'}")
	dora, inProgram := h.as("therapist", "TREAT", "Practitioner/dora"), h.as("therapist", "TREAT", "Practitioner/dora", "sud")
	for i := range 20 {
		id := "race" + string(rune('a'+i))
		h.load(encounter(id, "general"))
		var wg sync.WaitGroup
		var made fhir.Ref
		wg.Go(func() {
			rc, err := h.create(dora, observation(",'encounter':{'reference':'Encounter/"+id+"'}"))
			if err == nil {
				made = rc.Ref
			} else if status(err) != 422 {
				t.Errorf("create: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := h.update(inProgram, encounter(id, "sud")); err != nil {
				t.Errorf("update: %v (%v)", err, errors.Unwrap(outcome.Of(err)))
			}
		})
		wg.Wait()
		if made != (fhir.Ref{}) && h.sees(dora, made) {
			t.Fatal("a record escaped the label of its Encounter")
		}
	}
}

func TestTransactionIsAllOrNothing(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	good := h.resource(observation(",'note':[{'text':'first'}]"))
	bad := h.resource(strings.Replace(observation(""), "anna", "nobody", 1))
	_, err := h.write(dora,
		record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "Observation", ID: "one"}, Content: good},
		record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "Observation", ID: "two"}, Content: bad})
	var ce *record.ChangeError
	if !errors.As(err, &ce) || ce.Index != 1 || status(err) != 422 {
		t.Fatalf("got %v", err)
	}
	if h.sees(h.operator(), fhir.Ref{Type: "Observation", ID: "one"}) {
		t.Fatal("half of a transaction is there")
	}
}

func TestNoRecordNoRelease(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	ref := h.mustCreate(dora, observation(""))
	g, r, err := h.plan(dora, fhir.Read, "Observation")
	if err != nil {
		t.Fatal(err)
	}
	s, err := h.store.Read(context.Background(), r, ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var before, after int
	count := "SELECT count(*) FROM audit.event WHERE interaction = 'read' AND outcome = '0' AND entities = ARRAY['" + ref.String() + "/_history/1']"
	if err := conn.QueryRow(ctx, count).Scan(&before); err != nil {
		t.Fatal(err)
	}
	if _, err := h.release(g, "Observation", s); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(ctx, count).Scan(&after); err != nil || after != before+1 {
		t.Fatalf("a disclosure left %d audit rows, %v", after-before, err)
	}
	if _, err := conn.Exec(ctx, "ALTER TABLE audit.event ADD CONSTRAINT full_disk CHECK (false) NOT VALID"); err != nil {
		t.Fatal(err)
	}
	_, err = h.release(g, "Observation", s)
	h.wantStatus("release without an audit record", err, 503)
	_, err = h.create(dora, observation(""))
	h.wantStatus("a write without an audit record", err, 503)
	// A Sealed of one request is worth nothing in another, the same caller's included.
	if _, err := conn.Exec(ctx, "ALTER TABLE audit.event DROP CONSTRAINT full_disk"); err != nil {
		t.Fatal(err)
	}
	g2, _, _ := h.plan(dora, fhir.Read, "Observation")
	_, err = h.release(g2, "Observation", s)
	h.wantStatus("release under another grant", err, 403)
}

// Another process's label class becomes known; while there is none, the
// catalogue stays the very same one, and with it the plans that were made for it.
func TestWatchLearnsNewClasses(t *testing.T) {
	h := clinic(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		h.store.Watch(ctx, 5*time.Millisecond, func(err error) { t.Errorf("watch: %v", err) })
	})
	defer wg.Wait()
	defer cancel()
	before := reflect.ValueOf(h.store.LabelClasses()).Pointer()
	time.Sleep(50 * time.Millisecond)
	if reflect.ValueOf(h.store.LabelClasses()).Pointer() != before {
		t.Fatal("an unchanged catalogue was replaced")
	}
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(ctx, "INSERT INTO record.label_class (labels) VALUES ($1)", int32(label.HIV|label.GDIS)); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		for _, l := range h.store.LabelClasses() {
			if l == label.HIV|label.GDIS {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("a class that another process added never became known")
}

// What a write would leave behind must be permitted, too: with the labels that
// flow into it, not only with those of its own content.
func TestTheNewRowIsChecked(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	h.load(encounter("e1", "sud"))
	h.load(specific().String())
	hie := h.as("hie", "TREAT", "", "hie")
	if !h.sees(hie, fhir.Ref{Type: "Encounter", ID: "e1"}) {
		t.Fatal("the consent does not open the Encounter")
	}
	// An exchange brings in nothing that would be a program's record.
	_, err := h.create(hie, observation(",'encounter':{'reference':'Encounter/e1'}"))
	h.wantStatus("a record of the program by the exchange", err, 403)
	if _, err := h.create(hie, observation("")); err != nil {
		t.Fatalf("a record without a source: %v", err)
	}
	// Nor does the front desk book with a diagnosis that it may not see, or write one into what it booked.
	desk := h.as("front-desk", "HOPERAT", "Practitioner/emil")
	booking := "{'resourceType':'Appointment','id':'a1','status':'booked','participant':[{'status':'accepted','actor':{'reference':'Patient/anna'}}]}"
	sensitive := strings.Replace(booking, "'status':'booked'", "'status':'booked','reasonCode':[{'coding':[{'system':'http://hl7.org/fhir/sid/icd-10-cm','code':'B20'}]}]", 1)
	_, err = h.create(desk, sensitive)
	h.wantStatus("an appointment with a hidden diagnosis", err, 403)
	h.load(booking)
	_, err = h.update(desk, sensitive)
	h.wantStatus("a hidden diagnosis in an appointment", err, 403)
	if _, err := h.update(desk, booking); err != nil {
		t.Fatalf("an appointment without: %v", err)
	}
}
