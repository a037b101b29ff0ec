package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/patch"
	"github.com/cloister-health/cloister/fhir/record"
)

const icd = "http://hl7.org/fhir/sid/icd-10-cm"

func reason(code string) string {
	return "{'coding':[{'system':'" + icd + "','code':'" + code + "'}]}"
}

func condition(id, code, more string) string {
	return "{'resourceType':'Condition','id':'" + id + "','code':" + reason(code) + ",'subject':{'reference':'Patient/anna'}" + more + "}"
}

// apart is what a program of 42 CFR Part 2 says of anna: a visit there, and a diagnosis.
var apart = []string{
	"{'resourceType':'Organization','id':'general','name':'General'}",
	"{'resourceType':'Encounter','id':'there','status':'finished','class':{'code':'AMB'},'subject':{'reference':'Patient/anna'},'serviceProvider':{'reference':'Organization/sud'}}",
	condition("opioid", "F11.20", ",'encounter':{'reference':'Encounter/there'}"),
	condition("mood", "F32.1", ""),
}

func visit(more string) string {
	return "{'resourceType':'Encounter','id':'visit','status':'finished','class':{'code':'AMB'},'subject':{'reference':'Patient/anna'},'serviceProvider':{'reference':'Organization/general'}" + more + "}"
}

const (
	both      = ",'diagnosis':[{'condition':{'reference':'Condition/mood'},'rank':1},{'condition':{'reference':'Condition/opioid'},'rank':2}]"
	narrative = ",'text':{'status':'additional','div':'<div xmlns=\\\"http://www.w3.org/1999/xhtml\\\">also opioids</div>'}"
)

// hospital is a clinic where dora's token says that she works for the program (in), or does not (out).
func hospital(t *testing.T) (h *house, in, out, hie authz.Principal) {
	t.Helper()
	h = clinic(t)
	for _, r := range apart {
		h.load(r)
	}
	in, out, hie = h.as("therapist", "TREAT", "Practitioner/dora", "sud"), h.as("therapist", "TREAT", "Practitioner/dora"), h.as("hie", "TREAT", "", "hie")
	return h, in, out, hie
}

func (h *house) mustRead(p authz.Principal, ref fhir.Ref) string {
	h.t.Helper()
	body, err := h.read(p, ref)
	if err != nil {
		h.t.Fatalf("%s as %s: %v", ref, p.Subject, err)
	}
	return body
}

// wantSays reads ref as p and looks for texts that must be in it, and, with a - before them, must not.
func (h *house) wantSays(p authz.Principal, ref fhir.Ref, texts ...string) {
	h.t.Helper()
	body := h.mustRead(p, ref)
	for _, text := range texts {
		absent := strings.HasPrefix(text, "-")
		if strings.Contains(body, strings.TrimPrefix(text, "-")) == absent {
			h.t.Errorf("%s as %s %v: %q in\n%s", ref, p.Subject, p.Organizations, text, body)
		}
	}
}

func (h *house) wantFinds(p authz.Principal, text, want string) {
	h.t.Helper()
	_, got := h.find(p, query(h.t, text))
	if got = strings.TrimSpace(strings.Trim(got, "+ ")); got != want {
		h.t.Errorf("%s as %s %v: %q, want %q", text, p.Subject, p.Organizations, got, want)
	}
}

// A resource is shown without what it mentions and the caller may not see, and
// no query finds it by that.
func TestViews(t *testing.T) {
	h, in, out, hie := hospital(t)
	ref := h.load(visit(both + ",'reasonCode':[" + reason("F32.1") + "," + reason("F11.20") + "]" + narrative))
	h.load(visit(both + ",'reasonCode':[" + reason("F32.1") + "," + reason("F11.20") + "]" + narrative + ",'period':{'start':'2026-02-02'}"))
	h.wantSays(in, ref, "Condition/opioid", "Condition/mood", "F11.20", "F32.1", "also opioids", `"versionId": "2"`)
	// A substance use disorder of no program is hers to see, the program's diagnosis is not.
	h.wantSays(out, ref, "-opioid", "Condition/mood", "F11.20", "F32.1", "-also", `"versionId": "2"`)
	h.wantSays(hie, ref, "-opioid", "Condition/mood", "-F11", "F32.1", "-also", `"versionId": "2"`)

	for _, c := range []struct{ query, in, out, hie string }{
		{"Encounter?_id=visit", "visit", "visit", "visit"},
		{"Encounter?diagnosis=Condition/mood", "visit", "visit", "visit"},
		{"Encounter?diagnosis=Condition/opioid", "visit", "", ""},
		{"Encounter?reason-code=F11.20", "visit", "visit", ""},
		{"Encounter?reason-code:not=F11.20&_id=visit", "", "", "visit"},
		{"Encounter?_text=opioids", "visit", "", ""},
		{"Encounter?diagnosis.code=F11.20", "visit", "", ""},
		{"Encounter?_sort=-date&patient=anna", "visit there", "visit", "visit"},
		{"Encounter?_id=visit&_include=Encounter:diagnosis", "visit + mood opioid", "visit + mood", "visit + mood"},
		{"Condition?_has:Encounter:diagnosis:reason-code=F11.20&_sort=_id", "mood opioid", "mood", ""},
		{"Condition?_revinclude=Encounter:diagnosis&_sort=_id", "mood opioid + visit", "mood + visit", "mood + visit"},
		{"Condition?_id=opioid&_revinclude=Encounter:diagnosis", "opioid + visit", "", ""},
	} {
		h.wantFinds(in, c.query, c.in)
		h.wantFinds(out, c.query, c.out)
		h.wantFinds(hie, c.query, c.hie)
	}
	for _, p := range []authz.Principal{in, out, hie} {
		if page, _ := h.find(p, query(t, "Encounter?_id=visit&_total=accurate&_count=0")); page.Total != 1 {
			t.Errorf("%s %v: %d in all, want one view", p.Subject, p.Organizations, page.Total)
		}
		g, r, err := h.plan(p, fhir.HistoryInstance, "Encounter")
		if err != nil {
			t.Fatal(err)
		}
		page, err := h.history(r, ref.ID, 10, nil)
		if err != nil || len(page.Entries) != 2 {
			t.Fatalf("history: %d versions, %v", len(page.Entries), err)
		}
		bodies, err := h.release(g, "Encounter", page.Entries...)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range bodies {
			if want := len(p.Organizations) == 1 && p.Organizations[0] == "sud"; strings.Contains(b, "opioid") != want {
				t.Errorf("history of %s %v: %s", p.Subject, p.Organizations, b)
			}
		}
		g, r, _ = h.plan(p, fhir.VRead, "Encounter")
		s, err := h.store.VRead(context.Background(), r, ref.ID, 1)
		if err != nil {
			t.Fatal(err)
		}
		if bodies, err := h.release(g, "Encounter", s); err != nil || strings.Contains(bodies[0], "2026-02-02") {
			t.Errorf("version 1: %s %v", bodies, err)
		}
	}
	// Nothing flows on from a mention: what refers to the visit says only that there was one.
	obs := h.load(observation(",'id':'obs','encounter':{'reference':'Encounter/visit'}"))
	for _, p := range []authz.Principal{in, out, hie} {
		if !h.sees(p, obs) {
			t.Errorf("%s %v does not see what was observed at a visit that she sees", p.Subject, p.Organizations)
		}
	}
	if h.sees(out, fhir.Ref{Type: "Encounter", ID: "there"}) {
		t.Error("what a program provides is hidden as a whole")
	}
}

// Nothing is kept twice that mentions only what records of behavioral health are about.
func TestOrdinaryMentionsMakeNoViews(t *testing.T) {
	h, in, out, _ := hospital(t)
	ref := h.mustCreate(out, strings.Replace(visit(",'reasonCode':["+reason("F32.1")+"],'diagnosis':[{'condition':{'reference':'Condition/mood'}}]"+narrative), "'id':'visit',", "", 1))
	h.wantSays(out, ref, "also", "mood", "F32.1")
	if n := h.rows(ref); n != 1 {
		t.Errorf("%d rows", n)
	}
	h.wantSays(in, ref, "also")
}

// rows is in how many views ref is kept.
func (h *house) rows(ref fhir.Ref) (n int) {
	h.t.Helper()
	if err := h.row("SELECT count(*) FROM record.resource WHERE type = $1 AND id = $2", &n, ref.Type.Code(), string(ref.ID)); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// What several protections cover is shown for each of them.
func TestViewsOfSeveralGroups(t *testing.T) {
	h, in, out, hie := hospital(t)
	h.load("{'resourceType':'Organization','id':'sud2','name':'Second','type':[{'coding':[{'system':'" + fhir.OrganizationKind + "','code':'part2-program'}]}]}")
	h.load(strings.ReplaceAll(strings.ReplaceAll(apart[1], "Organization/sud", "Organization/sud2"), "'there'", "'there2'"))
	h.load(condition("alcohol", "F10.20", ",'encounter':{'reference':'Encounter/there2'}"))
	h.load(strings.Replace(visit(""), "'visit'", "'plain'", 1))
	entry := func(id string) string { return "{'item':{'reference':'Condition/" + id + "'}}" }
	ref := h.load("{'resourceType':'List','id':'problems','status':'current','mode':'working','subject':{'reference':'Patient/anna'},'encounter':{'reference':'Encounter/plain'},'entry':[" + entry("mood") + "," + entry("opioid") + "," + entry("alcohol") + "]}")
	second, twice := in, in
	second.Organizations, twice.Organizations = []fhir.ID{"sud2"}, []fhir.ID{"sud", "sud2"}
	h.wantSays(twice, ref, "mood", "opioid", "alcohol")
	h.wantSays(in, ref, "mood", "opioid", "-alcohol")
	h.wantSays(second, ref, "mood", "-opioid", "alcohol")
	h.wantSays(out, ref, "mood", "-opioid", "-alcohol")
	h.wantSays(hie, ref, "mood", "-opioid", "-alcohol")
	if n := h.rows(ref); n != 4 {
		t.Errorf("%d views, want one for each set of programs", n)
	}
	for p, want := range map[*authz.Principal]string{&twice: "problems", &in: "problems", &second: "", &out: ""} {
		h.wantFinds(*p, "List?item=Condition/opioid", want)
	}
	// More kinds than are told apart: all or nothing of what is beyond them.
	for i, code := range []string{"B20", "A51.0", "T74.11XA", "D57.1"} {
		h.load(condition(fmt.Sprint("c", i), code, ""))
	}
	many := h.load("{'resourceType':'List','id':'many','status':'current','mode':'working','subject':{'reference':'Patient/anna'},'encounter':{'reference':'Encounter/plain'},'entry':[" +
		entry("mood") + "," + entry("c0") + "," + entry("c1") + "," + entry("c2") + "," + entry("c3") + "]}")
	h.wantSays(out, many, "mood", "c0", "c1", "c2", "c3")
	h.wantSays(hie, many, "mood", "-c0", "-c1", "-c2", "-c3")
	if n := h.rows(many); n != 2 {
		t.Errorf("%d views, want two", n)
	}
}

// A caller who writes to a view changes what she sees and destroys nothing else.
func TestWritingBackKeepsWhatIsHidden(t *testing.T) {
	h, in, out, hie := hospital(t)
	ref := h.load(visit(both + ",'reasonCode':[" + reason("F32.1") + "]" + narrative))
	// She takes away what she saw, and adds something.
	if _, err := h.update(out, visit(",'diagnosis':[{'condition':{'reference':'Condition/mood'},'rank':3}],'priority':{'text':'routine'}"), func(c *record.Change) { c.IfMatch = 1 }); err != nil {
		t.Fatal(err)
	}
	h.wantSays(out, ref, "-opioid", `"rank": 3`, "-F32.1", "routine", `"versionId": "2"`)
	h.wantSays(hie, ref, "-opioid", `"rank": 3`, "-F32.1", "routine", `"versionId": "2"`)
	h.wantSays(in, ref, "Condition/opioid", `"rank": 2`, `"rank": 3`, "-F32.1", "routine", "also opioids", `"versionId": "2"`)
	h.wantFinds(in, "Encounter?diagnosis=Condition/opioid", "visit")
	_, err := h.update(out, visit(""), func(c *record.Change) { c.IfMatch = 1 })
	h.wantStatus("stale If-Match", err, 412)
	// Again, with a text of her own: both are kept, and hers only once.
	for range 2 {
		if _, err := h.update(out, visit(",'diagnosis':[{'condition':{'reference':'Condition/mood'},'rank':3}]"+strings.Replace(narrative, "also opioids", "came late", 1))); err != nil {
			t.Fatal(err)
		}
	}
	h.wantSays(out, ref, "came late", "-also", `"versionId": "4"`)
	h.wantSays(in, ref, "Condition/opioid", "also opioids", "came late", `"versionId": "4"`)
	if body := h.mustRead(in, ref); strings.Count(body, "came late") != 1 || strings.Count(body, "also opioids") != 1 || strings.Count(body, "Condition/opioid") != 1 {
		t.Errorf("something is kept twice: %s", body)
	}
	// Whoever sees it all writes it all.
	if _, err := h.update(in, visit(",'reasonCode':["+reason("F32.1")+"]")); err != nil {
		t.Fatal(err)
	}
	h.wantSays(in, ref, "-opioid", "F32.1", "-also", `"versionId": "5"`)
	h.wantSays(out, ref, "-opioid", "F32.1", "-came", `"versionId": "5"`)
	h.wantFinds(in, "Encounter?diagnosis=Condition/opioid", "")
	// The program's past stays the program's.
	g, r, _ := h.plan(out, fhir.HistoryInstance, "Encounter")
	page, err := h.history(r, ref.ID, 10, nil)
	if err != nil || len(page.Entries) != 5 {
		t.Fatalf("%d versions, %v", len(page.Entries), err)
	}
	bodies, err := h.release(g, "Encounter", page.Entries...)
	if err != nil || strings.Contains(strings.Join(bodies, ""), "opioid") {
		t.Errorf("history of a view: %v %v", bodies, err)
	}
}

// A patch is made of the version that the caller sees.
func TestPatchOfAView(t *testing.T) {
	h, in, out, _ := hospital(t)
	ref := h.load(visit(both))
	p, err := patch.Parse("application/json-patch+json", []byte(`[{"op":"test","path":"/diagnosis/0/rank","value":1},{"op":"remove","path":"/diagnosis/0"},{"op":"add","path":"/priority","value":{"text":"routine"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	g, err := h.engine.Authorize(ctx, out, fhir.Patch, "Encounter")
	if err != nil {
		t.Fatal(err)
	}
	rg, err := h.engine.Extend(g, fhir.Read, "Encounter")
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.engine.Plan(ctx, rg, fhir.Read, "Encounter")
	if err != nil {
		t.Fatal(err)
	}
	s, err := h.store.Read(ctx, r, ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	cleared, err := h.gate.Patch(ctx, g, s, p, record.Change{Interaction: fhir.Patch, Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.Commit(ctx, []record.Cleared{cleared}); err != nil {
		t.Fatal(err)
	}
	h.wantSays(out, ref, "-diagnosis", "routine")
	h.wantSays(in, ref, "Condition/opioid", "-mood", "routine")
}

// What comes to be protected later is taken out of what mentioned it, and out of its past.
func TestLaterProtectionLeavesAView(t *testing.T) {
	h, in, out, hie := hospital(t)
	h.load(condition("plain", "I10", ""))
	ref := h.load(visit(",'diagnosis':[{'condition':{'reference':'Condition/plain'}}]" + narrative))
	h.load(visit(",'diagnosis':[{'condition':{'reference':'Condition/plain'}},{'condition':{'reference':'Condition/mood'}}]" + narrative))
	obs := h.load(observation(",'id':'obs','encounter':{'reference':'Encounter/visit'}"))
	team := h.load("{'resourceType':'Flag','id':'flag','status':'active','code':{'text':'x'},'subject':{'reference':'Patient/anna'},'encounter':{'reference':'Encounter/visit'}}")
	for _, p := range []authz.Principal{in, out, hie} {
		h.wantSays(p, ref, "plain", "also")
	}
	h.load(condition("plain", "I10", ",'encounter':{'reference':'Encounter/there'}"))
	h.wantSays(in, ref, "plain", "mood", "also", `"versionId": "2"`)
	for _, p := range []authz.Principal{out, hie} {
		h.wantSays(p, ref, "-plain", "mood", "-also", `"versionId": "2"`)
		h.wantFinds(p, "Encounter?diagnosis=Condition/plain", "")
		if !h.sees(p, obs) || !h.sees(p, team) {
			t.Errorf("%s does not see what refers to the visit", p.Subject)
		}
		g, r, _ := h.plan(p, fhir.HistoryInstance, "Encounter")
		page, err := h.history(r, ref.ID, 10, nil)
		if err != nil || len(page.Entries) != 2 {
			t.Fatalf("%d versions, %v", len(page.Entries), err)
		}
		bodies, err := h.release(g, "Encounter", page.Entries...)
		if err != nil || strings.Contains(strings.Join(bodies, ""), "plain") || strings.Contains(strings.Join(bodies, ""), "also") {
			t.Errorf("history of a view: %v %v", bodies, err)
		}
	}
	// Another one, in a resource that has views already.
	h.load(condition("mood", "F32.1", ",'encounter':{'reference':'Encounter/there'}"))
	h.wantSays(in, ref, "plain", "mood")
	h.wantSays(out, ref, "-plain", "-mood")
	// And by what the resource is, not by what it mentions.
	if _, err := h.update(out, visit(",'partOf':{'reference':'Encounter/visit2'}")); status(err) != 422 {
		t.Fatal(err)
	}
	h.load("{'resourceType':'Encounter','id':'visit2','status':'finished','class':{'code':'AMB'},'subject':{'reference':'Patient/anna'}}")
	if _, err := h.update(out, visit(",'partOf':{'reference':'Encounter/visit2'}")); err != nil {
		t.Fatal(err)
	}
	h.wantSays(in, ref, "plain", "mood", "visit2")
	h.load("{'resourceType':'Encounter','id':'visit2','status':'finished','class':{'code':'AMB'},'subject':{'reference':'Patient/anna'},'serviceProvider':{'reference':'Organization/sud'}}")
	if h.sees(out, ref) || h.sees(hie, ref) || !h.sees(in, ref) || h.sees(out, obs) {
		t.Error("what is part of a program's visit is the program's as a whole, and so is what refers to it")
	}
}

// Who may see only a view deletes that, and those that say less.
func TestDeletingAView(t *testing.T) {
	h, in, out, hie := hospital(t)
	src := pdp.Embedded()
	src.Policy += "\np, clinician, TREAT, delete, clinical, general+sud+high, treating, allow, test-delete\np, clinician, TREAT, delete, clinical, general+sud+high+42CFRPart2!, treating+program, allow, test-delete-program\n"
	policy, err := pdp.New(src)
	if err != nil {
		t.Fatal(err)
	}
	h.engine = authz.NewEngine(policy, h.store, h.now)
	h.gate = record.NewGate(h.engine, h.store, h.now)
	ref := h.load(visit(both + ",'reasonCode':[" + reason("B20") + "]"))
	if err := h.delete(out, ref); err != nil {
		t.Fatal(err)
	}
	h.wantFinds(out, "Encounter?_id=visit", "")
	h.wantFinds(hie, "Encounter?_id=visit", "")
	h.wantSays(in, ref, "opioid", `"versionId": "1"`)
	if err := h.delete(out, ref); err != nil {
		t.Errorf("delete again: %v", err)
	}
	// She stores it anew; what she never saw stays as it is.
	if _, err := h.update(out, visit(",'priority':{'text':'routine'}"), upsert); err != nil {
		t.Fatal(err)
	}
	h.wantSays(out, ref, "routine", `"versionId": "3"`)
	h.wantSays(in, ref, "opioid", "-routine")
	if err := h.delete(in, ref); err != nil {
		t.Fatal(err)
	}
	for _, p := range []authz.Principal{in, out, hie} {
		h.wantFinds(p, "Encounter?_id=visit", "")
	}
}

// What only a mention ties to a program is the program's as a whole, and so is
// what a minor's own care is the reason for.
func TestS38_RecordsWithoutAnotherOrigin(t *testing.T) {
	h, in, out, hie := hospital(t)
	goal := h.load("{'resourceType':'Goal','id':'goal','lifecycleStatus':'active','description':{'text':'stay sober'},'subject':{'reference':'Patient/anna'},'addresses':[{'reference':'Condition/opioid'}]}")
	h.load(condition("later", "I10", ""))
	later := h.load("{'resourceType':'Goal','id':'later','lifecycleStatus':'active','description':{'text':'stay sober'},'subject':{'reference':'Patient/anna'},'addresses':[{'reference':'Condition/later'}]}")
	if !h.sees(out, later) {
		t.Error("nothing ties the goal to the program yet")
	}
	h.load(condition("later", "I10", ",'encounter':{'reference':'Encounter/there'}"))
	for _, ref := range []fhir.Ref{goal, later} {
		if !h.sees(in, ref) || h.sees(out, ref) || h.sees(hie, ref) || h.rows(ref) != 1 {
			t.Errorf("%s is a record of the program", ref)
		}
	}
	alone := condition("alone", "I10", ",'extension':[{'url':'urn:x','valueCoding':{'system':'"+fhir.EncounterKind+"','code':'minor-consented'}}]")
	h.load(alone)
	ref := h.load(visit(",'diagnosis':[{'condition':{'reference':'Condition/alone'}}]"))
	if !h.sees(out, ref) || h.sees(hie, ref) || h.rows(ref) != 1 {
		t.Error("a visit for what the minor consented to alone is hidden as a whole")
	}
	// What a sensitive code alone protects is told apart wherever it comes from.
	h.load(condition("hiv", "B20", ""))
	ref = h.load("{'resourceType':'Goal','id':'hivgoal','lifecycleStatus':'active','description':{'text':'rest'},'subject':{'reference':'Patient/anna'},'addresses':[{'reference':'Condition/hiv'}]}")
	h.wantSays(out, ref, "Condition/hiv")
	h.wantSays(hie, ref, "-hiv\"", "rest")
}

// A mention stays protected when what it refers to is gone.
func TestMentionOfADeletedResourceStaysProtected(t *testing.T) {
	h, in, out, _ := hospital(t)
	ref := h.load(visit(both))
	if err := h.delete(h.operator(), fhir.Ref{Type: "Condition", ID: "opioid"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.update(in, visit(both+",'priority':{'text':'routine'}")); err != nil {
		t.Fatal(err)
	}
	h.wantSays(in, ref, "Condition/opioid", "routine")
	h.wantSays(out, ref, "-opioid", "routine")
}

// With consent she reads what she may not change: she changes no lesser view of it.
func TestNobodyChangesLessThanSheSees(t *testing.T) {
	h, in, out, _ := hospital(t)
	ref := h.load(visit(both))
	c := specific()
	c.recipient = "Practitioner/dora"
	h.load(c.String())
	h.wantSays(out, ref, "Condition/opioid")
	_, err := h.update(out, visit(""))
	h.wantStatus("update", err, 403)
	h.wantSays(in, ref, "Condition/opioid", `"versionId": "1"`)
	c.status = "inactive"
	h.load(c.String())
	if _, err := h.update(out, visit("")); err != nil {
		t.Fatal(err)
	}
	h.wantSays(in, ref, "Condition/opioid", `"versionId": "2"`)
}

// Nobody writes her way in, and an id that is hidden from her is free.
func TestViewsAndHiddenIDs(t *testing.T) {
	h, in, out, _ := hospital(t)
	_, err := h.update(out, visit(both), upsert)
	h.wantStatus("a mention of what she cannot see", err, 422)
	desk := h.as("front-desk", "HOPERAT", "Practitioner/emil")
	h.load("{'resourceType':'Location','id':'room','name':'Room'}")
	appointment := "{'resourceType':'Appointment','status':'booked','start':'2026-05-01T10:00:00Z','end':'2026-05-01T11:00:00Z','participant':[{'actor':{'reference':'Patient/anna'},'status':'accepted'}]%}"
	_, err = h.create(desk, strings.Replace(appointment, "%", ",'reasonCode':["+reason("F11.20")+"]", 1))
	h.wantStatus("a reason that she may not see", err, 403)
	ref := h.mustCreate(in, strings.Replace(appointment, "%", ",'reasonCode':["+reason("F11.20")+"],'comment':'methadone'", 1))
	h.wantSays(in, ref, "F11.20", "methadone")
	h.wantSays(desk, ref, "-F11.20", "-methadone", "2026-05-01")
	// A row of her own beside one of several views.
	h.load(visit(both))
	other := h.as("therapist", "TREAT", "Practitioner/emil")
	h.load(strings.ReplaceAll(team, "'team'", "'team2'"))
	h.load("{'resourceType':'CareTeam','id':'team3','status':'active','subject':{'reference':'Patient/bert'},'participant':[{'member':{'reference':'Practitioner/emil'}}]}")
	if _, err := h.update(other, strings.Replace(visit(""), "anna", "bert", 1), upsert); err != nil {
		t.Fatal(err)
	}
	mine := fhir.Ref{Type: "Encounter", ID: "visit"}
	h.wantSays(other, mine, "Patient/bert")
	h.wantSays(out, mine, "Patient/anna", "-opioid")
	h.wantSays(in, mine, "Patient/anna", "opioid")
}
