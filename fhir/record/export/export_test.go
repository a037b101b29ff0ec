package export_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/export"
)

func TestManifestAndLines(t *testing.T) {
	h := newHouse(t)
	p := h.exchange()
	id := h.accept(p, export.Request{URL: base + "/$export?x"})
	if s := h.status(p, id); s.State != export.Accepted || s.Files != nil {
		t.Fatalf("%+v", s)
	}
	h.finish()
	s := h.status(p, id)
	if s.State != export.Done || s.URL != base+"/$export?x" || s.Step != s.Steps || s.Transaction.IsZero() || !s.Expires.After(h.Now()) {
		t.Fatalf("%+v", s)
	}
	got := h.fetched(p, id)
	for kind, want := range map[string]string{
		"output Patient":           "anna bert cleo",
		"output Observation":       "o00 o01 o02 o03 o04 o05 o06 o07 o08 o09 o10 o11 sa",
		"output Encounter":         "ea ec",
		"output Condition":         "k1",
		"output DocumentReference": "plain",
		"output Group":             "panel",
	} {
		if ids(got[kind]) != want {
			t.Errorf("%s: %q, want %q", kind, ids(got[kind]), want)
		}
	}
	lines := int64(0)
	names := map[string]bool{}
	for i, f := range s.Files {
		if names[f.Name] || f.Lines == 0 {
			t.Errorf("file %d: %+v", i, f)
		}
		names[f.Name] = true
		if f.Kind == export.Output {
			lines += int64(f.Lines)
		}
		text, err := h.fetch(p, id, f.Name)
		if err != nil || strings.Count(text, "\n") != f.Lines || strings.Contains(text, canary) && f.Type != "DocumentReference" {
			t.Errorf("%s: %v\n%s", f.Name, err, text)
		}
	}
	if lines != s.Lines {
		t.Errorf("%d lines, want %d", lines, s.Lines)
	}
	// What is disclosed with the patient's consent is marked, and explained once (S19, 42 CFR 2.32).
	if e := got["error OperationOutcome"]; len(e) != 1 || !strings.Contains(e[0], "/Consent/c - The patient's written consent") || !strings.Contains(e[0], "42 CFR") {
		t.Errorf("the explanation: %q", e)
	}
	if sa := got["output Observation"][12]; !strings.Contains(sa, "NORDSCLCD") {
		t.Errorf("a line without its mark: %s", sa)
	}
	if _, err := h.fetch(p, id, "99.ndjson"); status(err) != 404 {
		t.Errorf("a file that there is not: %v", err)
	}
}

// Whatever policy and consent say of one note at a time, no note of a session leaves in bulk (L28).
func TestL28_NotesNeverLeave(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	h.Load(strings.Replace(consent("p", "hipaa-psychotherapy", "active"), `"organization":[{"reference":"Organization/sud"}],`, `"organization":[{"reference":"Organization/general"}],`, 1))
	for name, p := range map[string]authz.Principal{"the exchange that an authorization names": h.exchange(), "the service of its author": h.therapist()} {
		g, err := h.Engine.Authorize(ctx, p, fhir.Read, "DocumentReference")
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.Engine.Plan(ctx, g, fhir.Read, "DocumentReference")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Store.Read(ctx, r, "psy"); err != nil {
			t.Errorf("%s does not see the note at all, so this test shows nothing: %v", name, err)
		}
		id := h.accept(p, export.Request{})
		h.finish()
		if got := ids(h.fetched(p, id)["output DocumentReference"]); got != "plain" {
			t.Errorf("%s gets %q", name, got)
		}
	}
}

func TestParameters(t *testing.T) {
	h := newHouse(t)
	p := h.exchange()
	for _, c := range []struct {
		what string
		r    export.Request
		want map[string]string
	}{
		{"_type", export.Request{Types: []fhir.ResourceType{"Patient", "Condition"}}, map[string]string{"output Patient": "anna bert cleo", "output Condition": "k1"}},
		{"all patients", export.Request{Level: export.Patient, Types: []fhir.ResourceType{"Patient", "Encounter", "Observation"}},
			map[string]string{"output Patient": "anna bert cleo", "output Encounter": "ea ec", "output Observation": "o00 o01 o02 o03 o04 o05 o06 o07 o08 o09 o10 o11 sa"}},
		{"some patients", export.Request{Level: export.Patient, Types: []fhir.ResourceType{"Patient", "Observation"}, Patients: []fhir.ID{"cleo", "nobody"}},
			map[string]string{"output Patient": "cleo", "output Observation": "o02 o05 o08 o11"}},
		{"a group", export.Request{Level: export.Group, Group: "panel", Types: []fhir.ResourceType{"Patient", "Observation", "Condition"}},
			map[string]string{"output Patient": "anna cleo", "output Condition": "k1", "output Observation": "o00 o02 o03 o05 o06 o08 o09 o11 sa"}},
		{"members of a group", export.Request{Level: export.Group, Group: "panel", Patients: []fhir.ID{"anna", "bert"}, Types: []fhir.ResourceType{"Patient"}}, map[string]string{"output Patient": "anna"}},
		{"_typeFilter", export.Request{Types: []fhir.ResourceType{"Patient", "Observation"}, Filters: []string{"Observation?value-quantity=1", "Observation?_id=o04", "Observation?patient=cleo&_id=o05,o06"}},
			map[string]string{"output Patient": "anna bert cleo", "output Observation": "o04 o05"}},
		{"_since", export.Request{Types: []fhir.ResourceType{"Observation"}, Since: "2026-03-01T12:00:29Z"}, map[string]string{"output Observation": "o09 o10 o11"}},
		{"_until", export.Request{Types: []fhir.ResourceType{"Patient"}, Until: "2026-03-01T12:00:06Z"}, map[string]string{"output Patient": "anna bert"}},
	} {
		id := h.accept(p, c.r)
		h.finish()
		got := h.fetched(p, id)
		delete(got, "error OperationOutcome")
		if len(got) != len(c.want) {
			t.Errorf("%s: %d kinds of files, want %d", c.what, len(got), len(c.want))
		}
		for kind, want := range c.want {
			if ids(got[kind]) != want {
				t.Errorf("%s: %s: %q, want %q", c.what, kind, ids(got[kind]), want)
			}
		}
	}
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient", "Observation"}, Elements: []string{"Patient.name"}})
	h.finish()
	got := h.fetched(p, id)
	if l := got["output Patient"][0]; strings.Contains(l, "birthDate") || !strings.Contains(l, "Anna") || !strings.Contains(l, "SUBSETTED") {
		t.Errorf("_elements: %s", l)
	}
	if l := got["output Observation"][0]; strings.Contains(l, "SUBSETTED") {
		t.Errorf("_elements of another type: %s", l)
	}
}

func TestRefusals(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Most = 2 })
	ctx := context.Background()
	user := h.exchange()
	user.Scopes = smart.Parse("user/*.rs")
	mixed := h.exchange()
	mixed.Scopes = smart.Parse("system/*.rs patient/*.rs")
	narrow := h.exchange()
	narrow.Scopes = smart.Parse("system/Patient.rs")
	for _, c := range []struct {
		what string
		p    authz.Principal
		r    export.Request
		want int
	}{
		{"scopes of a user", user, export.Request{}, 403},
		{"scopes of a user beside others", mixed, export.Request{}, 403},
		{"a type that scopes do not cover", narrow, export.Request{Types: []fhir.ResourceType{"Observation"}}, 403},
		{"a type that policy closes", h.exchange(), export.Request{Types: []fhir.ResourceType{"Consent"}}, 403},
		{"nothing but that, leniently", h.exchange(), export.Request{Types: []fhir.ResourceType{"Consent"}, Lenient: true}, 403},
		{"no type", h.exchange(), export.Request{Types: []fhir.ResourceType{"Nothing"}}, 400},
		{"a type without patients", h.exchange(), export.Request{Level: export.Patient, Types: []fhir.ResourceType{"Organization"}}, 400},
		{"no instant", h.exchange(), export.Request{Since: "yesterday"}, 400},
		{"a filter that does not read", h.exchange(), export.Request{Filters: []string{"Observation?nothing=1"}}, 400},
		{"a filter that governs a page", h.exchange(), export.Request{Filters: []string{"Observation?_count=1"}}, 400},
		{"a filter on another type", h.exchange(), export.Request{Types: []fhir.ResourceType{"Patient"}, Filters: []string{"Observation?status=final"}}, 400},
		{"patients of a system", h.exchange(), export.Request{Patients: []fhir.ID{"anna"}}, 400},
		{"no such group", h.exchange(), export.Request{Level: export.Group, Group: "nobody"}, 404},
		{"a group that another organization manages", h.exchange(), export.Request{Level: export.Group, Group: "others"}, 404},
		{"a group that tells of a program's patient", h.exchange(), export.Request{Level: export.Group, Group: "program"}, 404},
	} {
		if c.r.Level == "" {
			c.r.Level = export.System
		}
		if _, err := h.Accept(ctx, h.Grant(c.p), c.r); status(err) != c.want {
			t.Errorf("%s: %d (%v), want %d", c.what, status(err), err, c.want)
		}
	}
	id := h.accept(h.exchange(), export.Request{Types: []fhir.ResourceType{"Patient", "Consent"}, Lenient: true})
	h.accept(h.exchange(), export.Request{Types: []fhir.ResourceType{"Patient"}})
	if _, err := h.Accept(ctx, h.Grant(h.exchange()), export.Request{Level: export.System}); status(err) != 429 {
		t.Errorf("a third export at a time: %v", err)
	}
	h.finish()
	if got := h.fetched(h.exchange(), id); len(got) != 2 || ids(got["output Patient"]) != "anna bert cleo" || len(got["error OperationOutcome"]) != 1 || !strings.Contains(got["error OperationOutcome"][0], `: Consent: `) {
		t.Errorf("leniently: %v", got)
	}
}

// The export of another client, of another practice, and one that never was, are the same.
func TestL28_AnothersExportIsNotThere(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	id := h.accept(h.exchange(), export.Request{})
	h.finish()
	other, moved, user := h.exchange(), h.exchange(), h.exchange()
	other.Client = "other"
	moved.Subject = "iss|other"
	user.Scopes = smart.Parse("user/*.rs")
	for _, p := range []authz.Principal{other, moved} {
		for _, x := range []string{id, "0b7f4e9c-0000-4000-8000-000000000000", "x"} {
			g := h.Grant(p)
			_, one := h.Status(ctx, g, x, 1)
			_, two := h.Fetch(ctx, g, x, "1.ndjson")
			if three := h.Cancel(ctx, g, x); status(one) != 404 || status(two) != 404 || status(three) != 404 || one.Error() != two.Error() || one.Error() != three.Error() {
				t.Errorf("%s: %v %v %v", x, one, two, three)
			}
		}
	}
	if _, err := h.Status(ctx, h.Grant(user), id, 1); status(err) != 403 {
		t.Errorf("a user of the same client: %v", err)
	}
	if s := h.status(h.exchange(), id); s.State != export.Done {
		t.Errorf("it is gone: %+v", s)
	}
}

// A consent that is revoked between two pages closes what comes after, and one that is
// revoked after the last page closes what is fetched then.
func TestL28_RevocationTakesEffectAtOnce(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Page = 12 })
	p := h.exchange()
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Encounter", "Observation"}})
	for h.status(p, id).Lines == 0 { // the encounters are written
		if _, err := h.Step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	h.Load(consent("c", "part2-specific", "inactive"))
	h.finish()
	s := h.status(p, id)
	got := h.fetched(p, id)
	if ids(got["output Observation"]) != "o00 o01 o02 o03 o04 o05 o06 o07 o08 o09 o10 o11" {
		t.Errorf("a page after the revocation: %q", ids(got["output Observation"]))
	}
	// The page before was written with it, and lets it out no more.
	if ids(got["output Encounter"]) != "ec" {
		t.Errorf("a line of before the revocation: %q", ids(got["output Encounter"]))
	}
	if e, there := got["error OperationOutcome"]; !there || len(e) != 0 {
		if len(e) != 0 {
			t.Errorf("a consent that is not in force is explained: %q", e)
		}
	}
	if s.Lines != 14 {
		t.Errorf("%d lines were written, want 14", s.Lines)
	}
	h.Load(consent("c", "part2-specific", "active"))
	if got := h.fetched(p, id); ids(got["output Encounter"]) != "ea ec" {
		t.Errorf("with the consent again: %q", ids(got["output Encounter"]))
	}
}

// A line of a version that was superseded goes on with that version's own permission.
func TestLinesOfSupersededVersions(t *testing.T) {
	h := newHouse(t)
	p := h.exchange()
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Observation"}})
	h.finish()
	h.Load(observation("o00", "anna", `,"valueInteger":99`))
	h.Load(observation("o01", "bert", `,"encounter":{"reference":"Encounter/eb"}`)) // it is the program's now
	h.remove("Observation/o03")
	if got := ids(h.fetched(p, id)["output Observation"]); got != "o00 o02 o04 o05 o06 o07 o08 o09 o10 o11 sa" {
		t.Errorf("%q", got)
	}

	// What is visible now once said something that is visible with an authorization alone.
	const hiv = `{"resourceType":"Condition","id":"k1","subject":{"reference":"Patient/anna"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"B20"}]}}`
	authorization := func(status string) string {
		return strings.Replace(consent("a", "hipaa-authorization", status), `"organization":[{"reference":"Organization/sud"}],`, `"organization":[{"reference":"Organization/general"}],`, 1)
	}
	h.Load(authorization("active"))
	h.Load(hiv)
	old := h.accept(p, export.Request{Types: []fhir.ResourceType{"Condition"}})
	h.finish()
	if got := ids(h.fetched(p, old)["output Condition"]); got != "k1" {
		t.Fatalf("with the authorization: %q", got)
	}
	h.Load(strings.Replace(hiv, "B20", "R51.9", 1))
	if got := ids(h.fetched(p, old)["output Condition"]); got != "k1" {
		t.Errorf("with the authorization, the version before: %q", got)
	}
	h.Load(authorization("inactive"))
	// Labels fall by a privileged act alone; this is what is there after one.
	h.Exec("UPDATE record.resource SET label_class = (SELECT label_class FROM record.resource WHERE id = 'o02') WHERE id = 'k1'")
	if got := ids(h.fetched(p, old)["output Condition"]); got != "" {
		t.Errorf("the version before goes out without the authorization: %q", got)
	}
	now := h.accept(p, export.Request{Types: []fhir.ResourceType{"Condition"}})
	h.finish()
	if got := ids(h.fetched(p, now)["output Condition"]); got != "k1" {
		t.Errorf("what it says now needs none: %q", got)
	}
}

func TestCancel(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	id := h.accept(p, export.Request{})
	for h.status(p, id).Lines == 0 {
		if _, err := h.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if h.objects() == 0 {
		t.Fatal("nothing was written")
	}
	if err := h.Cancel(ctx, h.Grant(p), id); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Status(ctx, h.Grant(p), id, 1); status(err) != 404 {
		t.Errorf("it is there still: %v", err)
	}
	if err := h.Cancel(ctx, h.Grant(p), id); status(err) != 404 {
		t.Errorf("it was cancelled twice: %v", err)
	}
	if n := h.objects(); n != 0 {
		t.Errorf("%d objects are left", n)
	}
	h.finish()
	// And so with what expires.
	id = h.accept(p, export.Request{})
	h.finish()
	h.Clock.Add(25 * 3600 * 1000)
	if _, err := h.Status(ctx, h.Grant(p), id, 1); status(err) != 404 {
		t.Errorf("it has not expired: %v", err)
	}
	if err := h.Sweep(ctx); err != nil || h.objects() != 0 {
		t.Errorf("%d objects are left, %v", h.objects(), err)
	}
	if rows := h.SQL("SELECT 'job' FROM export.job UNION ALL SELECT 'part' FROM export.part UNION ALL SELECT 'object' FROM export.object"); rows != "" {
		t.Errorf("left: %s", rows)
	}
}

// unrecorded is a gate whose record of a disclosure cannot be made durable.
type unrecorded struct{ export.Gate }

func (unrecorded) Collect(context.Context, authz.Grant, fhir.ResourceType, ...record.Sealed) ([]record.Released, error) {
	return nil, outcome.New(outcome.Unavailable, "the access could not be recorded")
}

// What is not recorded is not written, and each page that is written was recorded.
func TestNothingIsWrittenUnrecorded(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient", "Condition"}})
	cfg := h.cfg
	cfg.Gate = unrecorded{cfg.Gate}
	broken, err := export.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broken.Step(ctx); status(err) != 503 || h.objects() != 0 || h.status(p, id).Lines != 0 {
		t.Errorf("%v, %d objects", err, h.objects())
	}
	h.Clock.Add(10_000)
	h.finish()
	if got := h.SQL("SELECT unnest(entities) FROM audit.event WHERE client = 'exchange' AND interaction = 'operation' ORDER BY 1"); got != "Condition/k1/_history/1 Patient/anna/_history/1 Patient/bert/_history/1 Patient/cleo/_history/1" {
		t.Errorf("recorded: %q", got)
	}
	if _, err := h.fetch(p, id, "1.ndjson"); err != nil {
		t.Fatal(err)
	}
	if got := h.SQL("SELECT interaction || ' ' || type || ' ' || cardinality(entities) FROM audit.event WHERE client = 'exchange' ORDER BY at, id"); !strings.HasPrefix(got, "operation  0") || strings.Count(got, "operation Condition 1") != 1 ||
		strings.Count(got, "search-type Condition 0") != 1 || strings.Count(got, "search-type Condition 1") != 1 || strings.Contains(got, "search-type Patient") {
		t.Errorf("recorded: %q", got)
	}
}
