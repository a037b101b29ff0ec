package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/search"
)

const own = `{'resourceType':'SearchParameter','id':'ID','url':'urn:ID','name':'ID','description':'d','status':'active','code':'CODE','base':['BASE'],'type':'TYPE','expression':'EXPR'}`

func searchParameter(id, code, base, typ, expression string) string {
	return strings.NewReplacer("ID", id, "CODE", code, "BASE", base, "TYPE", typ, "EXPR", strings.ReplaceAll(expression, "'", `\u0027`)).Replace(own)
}

// parameters are those that p can use.
func (h *house) parameters(p authz.Principal, store *postgres.Store) *search.Registry {
	h.t.Helper()
	ctx := context.Background()
	g, err := h.engine.Authorize(ctx, p, fhir.SearchType, "Patient")
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := h.engine.Plan(ctx, g, fhir.Read, "SearchParameter")
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := store.Parameters(ctx, r)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// ask searches as the API does: "unknown", or the ids that p finds.
func (h *house) ask(p authz.Principal, text string) string {
	h.t.Helper()
	path, rest, _ := strings.Cut(text, "?")
	v, err := url.ParseQuery(rest)
	if err != nil {
		h.t.Fatal(err)
	}
	q, _, err := search.Parse(fhir.ResourceType(path), v, search.Options{Registry: h.parameters(p, h.store)})
	if err != nil {
		if !strings.Contains(err.Error(), "is not known for") {
			h.t.Fatalf("%s: %v", text, err)
		}
		return "unknown"
	}
	_, names := h.find(p, q)
	found, _, _ := strings.Cut(names, "+")
	ids := strings.Fields(found)
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func (h *house) wantAsk(p authz.Principal, text, want string) {
	h.t.Helper()
	if got := h.ask(p, text); got != want {
		h.t.Errorf("%s as %s: %q, want %q", text, p.Subject, got, want)
	}
}

// reindexed does all that is to do.
func (h *house) reindexed() {
	h.t.Helper()
	for {
		busy, err := h.store.ReindexBatch(context.Background(), "11111111-1111-4111-8111-111111111111")
		if err != nil {
			h.t.Fatal(err)
		}
		if !busy {
			return
		}
	}
}

func patient(id, color string) string {
	return `{'resourceType':'Patient','id':'` + id + `','extension':[{'url':'urn:color','valueCode':'` + color + `'}]}`
}

const color = "Patient.extension('urn:color').value.ofType(code)"

func TestOwnSearchParameter(t *testing.T) {
	h := newHouse(t)
	admin := h.as("practice-admin", "HOPERAT", "Practitioner/adm")
	op := h.operator()
	h.load(patient("old", "red"))
	version, _ := h.read(op, fhir.Ref{Type: "Patient", ID: "old"})
	h.wantAsk(admin, "Patient?color=red", "unknown")

	def := h.mustCreate(admin, searchParameter("x", "color", "Patient", "token", color))
	h.load(patient("new", "red"))
	h.load(patient("other", "blue"))
	h.wantAsk(admin, "Patient?color=red", "unknown")
	h.reindexed()
	h.wantAsk(admin, "Patient?color=red", "new old")
	h.wantAsk(admin, "Patient?color:not=red", "other")
	h.wantAsk(admin, "Patient?color:missing=false&_sort=color", "new old other")
	h.wantAsk(h.as("patient", "PATRQT", "Patient/old"), "Patient?color=red", "unknown")
	if after, _ := h.read(op, fhir.Ref{Type: "Patient", ID: "old"}); after != version {
		t.Errorf("indexing anew changes a resource: %s, before %s", after, version)
	}
	elsewhere := admin
	elsewhere.Tenant = h.other
	h.wantAsk(elsewhere, "Patient?color=red", "unknown")

	// A change of what it selects is another parameter; a change of its name is not.
	text := strings.Replace(searchParameter(string(def.ID), "color", "Patient", "token", color), "'name':'", "'name':'More", 1)
	if _, err := h.update(admin, text); err != nil {
		t.Fatal(err)
	}
	h.wantAsk(admin, "Patient?color=red", "new old")
	if _, err := h.update(admin, strings.Replace(searchParameter(string(def.ID), "color", "Patient", "token", "Patient.gender"), "'description':'d'", "'description':'e'", 1)); err != nil {
		t.Fatal(err)
	}
	h.wantAsk(admin, "Patient?color=red", "unknown")
	h.reindexed()
	h.wantAsk(admin, "Patient?color=red", "")
	if err := h.delete(admin, def); err != nil {
		t.Fatal(err)
	}
	h.wantAsk(admin, "Patient?color=red", "unknown")
	h.load(patient("last", "red"))
}

// Each kind of value is indexed, of old resources and new ones, under its key.
func TestOwnSearchParametersOfEveryType(t *testing.T) {
	h := newHouse(t)
	op := h.operator()
	text := func(id string) string {
		return `{'resourceType':'Patient','id':'` + id + `','birthDate':'1980-02-03','name':[{'family':'Quill'}],'multipleBirthInteger':3,
'managingOrganization':{'reference':'Organization/o'},'extension':[{'url':'urn:dose','valueQuantity':{'value':5,'code':'mg','system':'http://unitsofmeasure.org'}}]}`
	}
	h.load(`{'resourceType':'Organization','id':'o','name':'O'}`)
	h.load(text("a"))
	for _, d := range [][3]string{
		{"own-date", "date", "Patient.birthDate"}, {"own-string", "string", "Patient.name.family"}, {"own-number", "number", "Patient.multipleBirth.ofType(integer)"},
		{"own-ref", "reference", "Patient.managingOrganization"}, {"own-quantity", "quantity", "Patient.extension('urn:dose').value"}, {"own-uri", "uri", "Patient.extension.url"},
		{"own-truth", "token", "Patient.name.exists()"},
	} {
		h.mustCreate(op, searchParameter("x", d[0], "Patient", d[1], d[2]))
	}
	h.load(text("b"))
	h.reindexed()
	for _, q := range []string{"own-date=1980-02", "own-string=quil", "own-number=3", "own-ref=Organization/o", "own-ref:Organization.name=o", "own-quantity=5", "own-uri=urn:dose", "own-truth=true",
		"own-date=lt1990&own-string:exact=Quill&_sort=-own-date", "own-string=q&_sort=own-string", "_filter=own-string+sw+q+and+own-ref+re+Organization/o"} {
		h.wantAsk(op, "Patient?"+q, "a b")
	}
	h.wantAsk(op, "Organization?_has:Patient:own-ref:_id=a", "o")
	h.wantAsk(op, "Patient?own-date=1981", "")
}

// Whoever may not see a definition does not know its parameter, and one of the
// same code that she sees finds what it selects and nothing else.
func TestHiddenDefinitionIsUnknown(t *testing.T) {
	h := newHouse(t)
	admin, op := h.as("practice-admin", "HOPERAT", "Practitioner/adm"), h.operator()
	h.load(patient("p", "red"))
	h.mustCreate(op, strings.Replace(searchParameter("x", "color", "Patient", "token", color), "'url':", "'jurisdiction':[{'coding':[{'system':'http://hl7.org/fhir/sid/icd-10-cm','code':'B20'}]}],'url':", 1))
	h.reindexed()
	h.wantAsk(op, "Patient?color=red", "p")
	h.wantAsk(admin, "Patient?color=red", "unknown")
	h.mustCreate(admin, searchParameter("x", "color", "Patient", "token", "Patient.gender"))
	h.reindexed()
	h.wantAsk(admin, "Patient?color=red", "")
	h.load(strings.Replace(patient("q", "blue"), "'extension'", "'gender':'female','extension'", 1))
	h.wantAsk(admin, "Patient?color=female", "q")
	h.wantAsk(op, "Patient?color=blue", "q") // of two that she sees, the older one
}

// A parameter of one's own finds nothing that is hidden; and of notes it finds
// none at all, because their index holds no text. What it holds survives being made anew.
func TestOwnParameterFindsNothingHidden(t *testing.T) {
	h := newHouse(t)
	note := func(id, kind string) {
		h.load(`{'resourceType':'DocumentReference','id':'` + id + `','status':'current','description':'word','content':[{'attachment':{'title':'t'}}],
'type':{'coding':[` + kind + `]},'subject':{'reference':'Patient/p'},'author':[{'reference':'Practitioner/author'}]}`)
	}
	h.load(`{'resourceType':'Practitioner','id':'doc'}`)
	h.load(`{'resourceType':'Practitioner','id':'author'}`)
	h.load(patient("p", "red"))
	note("plain-before", `{'system':'http://loinc.org','code':'11506-3'}`)
	note("note-before", `{'system':'`+fhir.NoteKind+`','code':'psychotherapy-note'}`)
	h.mustCreate(h.operator(), searchParameter("x", "said", "DocumentReference", "string", "DocumentReference.description"))
	note("note-after", `{'system':'`+fhir.NoteKind+`','code':'psychotherapy-note'}`)
	h.reindexed()
	h.wantAsk(h.operator(), "DocumentReference?said=word", "plain-before")
	h.wantAsk(h.operator(), "DocumentReference?type=psychotherapy-note", "note-after note-before")
	h.wantAsk(h.operator(), "DocumentReference?patient=p", "note-after note-before plain-before")
	h.load(`{'resourceType':'CareTeam','id':'team','status':'active','subject':{'reference':'Patient/p'},'participant':[{'member':{'reference':'Practitioner/doc'}}]}`)
	h.wantAsk(h.as("therapist", "TREAT", "Practitioner/doc"), "DocumentReference?said=word", "plain-before")
}

func TestUnusableDefinitions(t *testing.T) {
	h := newHouse(t)
	admin := h.as("practice-admin", "HOPERAT", "Practitioner/adm")
	for name, text := range map[string]string{
		"expression": searchParameter("x", "a", "Patient", "token", "Patient.("),
		"composite":  searchParameter("x", "a", "Patient", "composite", "Patient"),
		"R4's code":  searchParameter("x", "gender", "Patient", "token", "Patient.gender"),
	} {
		_, err := h.create(admin, text)
		h.wantStatus(name, err, 422)
		if !strings.Contains(err.Error(), "SearchParameter.") {
			t.Errorf("%s: no path: %v", name, err)
		}
		h.mustCreate(admin, strings.Replace(text, "active", "draft", 1))
		h.load(strings.Replace(text, "'id':'x'", "'id':'imported-"+strings.ReplaceAll(strings.Fields(name)[0], "'", "")+"'", 1))
	}
	h.reindexed()
	if h.parameters(admin, h.store) != nil {
		t.Error("what cannot be used is in use")
	}
}

// A server that ends in the middle leaves what it has done, and another goes on
// from there, once; until then nobody searches by the parameter.
func TestReindexGoesOnElsewhere(t *testing.T) {
	h := newHouse(t)
	op := h.operator()
	var changes []record.Change
	for i := range 450 {
		r := h.resource(patient("p"+string(rune('a'+i/26))+string(rune('a'+i%26)), "red"))
		changes = append(changes, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Import: true})
	}
	if _, err := h.write(op, changes...); err != nil {
		t.Fatal(err)
	}
	def := h.mustCreate(op, searchParameter("x", "color", "Patient", "token", color))
	ctx := context.Background()
	_, r, err := h.plan(op, fhir.Update, "SearchParameter")
	if err != nil {
		t.Fatal(err)
	}
	state := func(want string) {
		t.Helper()
		got, err := h.store.Reindexing(ctx, r, def.ID)
		if err != nil || got.State != want {
			t.Errorf("%+v, %v: want %s", got, err, want)
		}
	}
	state(record.ReindexRequested)
	step := func(store *postgres.Store, who string, busy bool) {
		t.Helper()
		got, err := store.ReindexBatch(ctx, who)
		if err != nil || got != busy {
			t.Fatalf("busy %v, %v", got, err)
		}
	}
	const first, second = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	step(h.store, first, true)
	state(record.ReindexInProgress)
	another, err := postgres.Open(ctx, postgres.Options{URL: h.dsn, Now: h.now, MaxConns: 2, Keys: envelopetest.Keys()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(another.Close)
	step(another, second, false)
	h.clock.Add(int64(2 * time.Minute / time.Millisecond))
	step(another, second, true)
	step(h.store, first, false) // its lease is gone
	h.wantAsk(op, "Patient?color=red", "unknown")
	step(another, second, true) // the rest: 200 + 200 + 50
	state(record.ReindexCompleted)
	step(another, second, false)
	if n := len(strings.Fields(h.ask(op, "Patient?color=red&_count=1000"))); n != 450 {
		t.Errorf("%d of 450 are found", n)
	}
	if _, err := h.store.BeginReindex(ctx, r, def.ID); err != nil {
		t.Fatal(err)
	}
	state(record.ReindexRequested)
	if h.ask(op, "Patient?color=red&_id=paa") != "paa" {
		t.Error("a parameter in use is not to be found while it is indexed anew")
	}
}

// Whatever is stored while a parameter is being defined is found by it.
func TestWritesDuringDefinition(t *testing.T) {
	h := newHouse(t)
	op := h.operator()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.store.Reindex(ctx, time.Millisecond, func(err error) { t.Error(errors.Unwrap(outcome.Of(err))) })
	}()
	another, err := postgres.Open(ctx, postgres.Options{URL: h.dsn, Now: h.now, MaxConns: 2, Keys: envelopetest.Keys()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(another.Close)
	g, err := h.engine.Authorize(ctx, op, fhir.Update, "Patient")
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 25
	failed := make(chan error, writers)
	for n := range writers {
		go func() {
			store := []*postgres.Store{h.store, another}[n%2]
			for i := range each {
				r := h.resource(patient("w"+string(rune('a'+n))+string(rune('a'+i)), "red"))
				x, err := h.gate.Admit(ctx, g, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Import: true})
				if err == nil {
					_, err = store.Commit(ctx, []record.Cleared{x})
				}
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	h.mustCreate(op, searchParameter("x", "color", "Patient", "token", color))
	for range writers {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	for h.ask(op, "Patient?color=none") == "unknown" {
		time.Sleep(time.Millisecond)
	}
	stop()
	<-done
	if n := len(strings.Fields(h.ask(op, "Patient?color=red&_count=1000"))); n != writers*each {
		t.Errorf("%d of %d are found", n, writers*each)
	}
}

// A definition waits for the changes that do not know it yet, or what indexes
// the older resources could pass one of theirs by.
func TestDefinitionWaitsForChangesUnderWay(t *testing.T) {
	h := newHouse(t)
	op := h.operator()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(ctx) })
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var revision int64
	if err := tx.QueryRow(ctx, "SELECT record.search_definitions($1, false)", h.tenant).Scan(&revision); err != nil {
		t.Fatal(err)
	}
	h.load(patient("p", "red")) // other changes need not wait
	done := make(chan error, 1)
	go func() {
		_, err := h.create(op, searchParameter("x", "color", "Patient", "token", color))
		done <- err
	}()
	for waiting := 0; waiting == 0; {
		select {
		case err := <-done:
			t.Fatalf("it does not wait: %v", err)
		default:
		}
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = $1", h.tenant).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.reindexed()
	h.wantAsk(op, "Patient?color=red", "p")
}
