package export_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// releasing lets a house make de-identified releases.
func releasing(c *export.Config) {
	store := c.Records.(*postgres.Store) //nolint:forcetypeassert,errcheck // of the fixture
	c.Releases, c.OptOuts, c.Terms = store.Releases(), store, &terms.Practices{}
}

// determined is a determination for the exchange.
func determined(h *house, quasi ...deident.Quasi) {
	in := terms.Validity{Reference: "DocumentReference/expert", Recipients: []string{"exchange"}, From: "2026-01-01", Until: "2027-01-01"}
	h.cfg.Terms.Set(h.Tenant, terms.Terms{Determinations: []terms.Determination{{Validity: in, K: deident.MinK, Days: 30, Quasi: quasi}}})
}

var safe = export.Request{Released: true, Profile: "safe-harbor"}

func released(types ...fhir.ResourceType) export.Request {
	r := safe
	r.Types = types
	return r
}

var surrogate = regexp.MustCompile(`[A-Z2-7]{26}`)

// plain is a line without what is random in it: surrogates, and dates that were moved.
func plain(line string) string {
	return regexp.MustCompile(`20\d\d-\d\d-\d\d`).ReplaceAllString(surrogate.ReplaceAllString(line, "S"), "day")
}

// shape is all of a release but what is random: its lines, and for each patient those that refer to her.
func shape(files map[string][]string) string {
	var out []string
	of := map[string][]string{}
	for k, lines := range files {
		for _, l := range lines {
			out = append(out, k+" "+plain(l))
			for _, s := range slices.Compact(slices.Sorted(slices.Values(surrogate.FindAllString(l, -1)))) {
				of[s] = append(of[s], plain(l))
			}
		}
	}
	for _, lines := range of {
		slices.Sort(lines)
		out = append(out, "of one: "+strings.Join(lines, " & "))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// integrity fails where a reference leads to nothing, an id is there twice, or lines are in another order than that of their ids.
func integrity(t testing.TB, files map[string][]string) {
	t.Helper()
	ids := map[string]bool{}
	for k, lines := range files {
		last := ""
		for _, l := range lines {
			id := idOf.FindStringSubmatch(l)[1]
			_, typ, _ := strings.Cut(k, " ")
			if !surrogate.MatchString(id) || ids[typ+"/"+id] || id <= last {
				t.Errorf("%s after %s in %s", id, last, k)
			}
			ids[typ+"/"+id], last = true, id
		}
	}
	for _, lines := range files {
		for _, l := range lines {
			for _, m := range regexp.MustCompile(`"reference":"([^"]*)"`).FindAllStringSubmatch(l, -1) {
				if !ids[m[1]] {
					t.Errorf("a reference to nothing: %s", l)
				}
			}
		}
	}
}

func TestD3_164_514_c_AReleaseAndItsKeysAreApart(t *testing.T) {
	h := newHouse(t, releasing)
	p := h.exchange()
	id := h.accept(p, safe)
	h.finish()
	got := h.fetched(p, id)
	for kind, want := range map[string]int{"output Patient": 3, "output Observation": 13, "output Encounter": 2, "output Condition": 1, "output Organization": 2, "output Practitioner": 1} {
		if len(got[kind]) != want {
			t.Errorf("%s: %d lines, want %d", kind, len(got[kind]), want)
		}
	}
	if len(got) != 6 {
		t.Errorf("%d files: nothing but these is released, and no consent is explained", len(got))
	}
	integrity(t, got)
	s := h.status(p, id)
	if s.Release == nil || s.Release.Profile != "safe-harbor|1.1.0" || s.Step != s.Steps || s.Lines != 22 || s.Files[0].Name != "1.ndjson" {
		t.Errorf("%+v", s)
	}
	all := fmt.Sprintf("%v %+v %+v", got, s, s.Release)
	for _, x := range []string{"anna", "bert", "cleo", "Anna", "dora", "o05", "Program", canary, "sud", "2026-02-01", "Consent"} {
		if strings.Contains(all, x) {
			t.Errorf("%s is in it", x)
		}
	}
	// Neither side alone leads from one to the other.
	if x := h.SQL("SELECT unnest(ids) FROM export.part"); len(strings.Fields(x)) != 22 || surrogate.ReplaceAllString(x, "") != strings.Repeat(" ", 21) || strings.Trim(h.SQL("SELECT unnest(rows)::text FROM export.part"), "0 ") != "" {
		t.Errorf("parts know what is behind their lines: %s", x)
	}
	for _, role := range []string{postgres.RoleApp, postgres.RoleNotes, postgres.RoleDeident, "cloister_identity"} {
		for _, table := range strings.Fields(h.SQL("SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname IN ('deident', 'record', 'notes', 'audit', 'export', 'identity')")) {
			may := h.SQL("SELECT has_table_privilege($1, $2, 'SELECT, INSERT, UPDATE, DELETE')::text", role, table) == "true"
			if own := strings.HasPrefix(table, "deident."); own && may != (role == postgres.RoleDeident) || !own && may && role == postgres.RoleDeident {
				t.Errorf("%s and %s: %v", role, table, may)
			}
		}
	}
	// Each resource is in the audit record, before it is written.
	if n := h.SQL("SELECT count(DISTINCT e)::text FROM audit.event, unnest(entities) AS e WHERE client = 'exchange' AND e LIKE 'Observation/%'"); n != "13" {
		t.Errorf("%s Observations are recorded", n)
	}
	// A second one shares nothing with it but what the records say.
	again := h.accept(p, safe)
	h.finish()
	second := h.fetched(p, again)
	integrity(t, second)
	if shape(got) != shape(second) {
		t.Errorf("another release says something else\n%s\n%s", shape(got), shape(second))
	}
	for _, x := range surrogate.FindAllString(fmt.Sprint(second), -1) {
		if strings.Contains(all, x) {
			t.Fatalf("%s is in both", x)
		}
	}
	// The keys go with the release, and nothing but it.
	if err := h.Cancel(context.Background(), h.Grant(p), id); err != nil {
		t.Fatal(err)
	}
	if n := h.SQL("SELECT count(*)::text FROM deident.member"); n != "22" {
		t.Errorf("%s keys are left after one release was cancelled", n)
	}
	h.Clock.Add((25 * time.Hour).Milliseconds())
	if err := h.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := h.SQL("SELECT count(*)::text FROM deident.member"); n != "0" {
		t.Errorf("%s keys are left after the other expired", n)
	}
}

func TestD4_164_514_e_ReleaseRefusals(t *testing.T) {
	h := newHouse(t, releasing)
	ctx := context.Background()
	bound := h.exchange()
	bound.Profile = "safe-harbor"
	research := h.exchange()
	research.Purpose = "HOPERAT"
	agreement := terms.Agreement{Validity: terms.Validity{Reference: "Contract/dua", Recipients: []string{"exchange"}, From: "2026-01-01", Until: "2026-03-02"}}
	for name, c := range map[string]struct {
		who    authz.Principal
		r      export.Request
		laid   terms.Terms
		status int
	}{
		"by name":                      {h.exchange(), export.Request{Released: true, Profile: "safe-harbor"}, terms.Terms{}, 200},
		"with its version":             {h.exchange(), export.Request{Released: true, Profile: "safe-harbor|1.1.0"}, terms.Terms{}, 200},
		"by its URL":                   {h.exchange(), export.Request{Released: true, Profile: fhir.Canonical + "/release-profile/safe-harbor|1.1.0"}, terms.Terms{}, 200},
		"no such version":              {h.exchange(), export.Request{Released: true, Profile: "safe-harbor|2"}, terms.Terms{}, 400},
		"an empty version":             {h.exchange(), export.Request{Released: true, Profile: "safe-harbor|"}, terms.Terms{}, 400},
		"no such profile":              {h.exchange(), export.Request{Released: true, Profile: "none"}, terms.Terms{}, 400},
		"nothing":                      {h.exchange(), export.Request{Released: true}, terms.Terms{}, 400},
		"nothing, of a bound client":   {bound, export.Request{Released: true}, terms.Terms{}, 400},
		"none asked of a bound client": {bound, export.Request{}, terms.Terms{}, 200},
		"its own":                      {bound, export.Request{Released: true, Profile: "safe-harbor"}, terms.Terms{}, 200},
		"another":                      {bound, export.Request{Released: true, Profile: "limited-data-set"}, terms.Terms{Agreements: []terms.Agreement{agreement}}, 403},
		"_since":                       {h.exchange(), export.Request{Released: true, Profile: "safe-harbor", Since: "2020-01-01T00:00:00Z"}, terms.Terms{}, 400},
		"_until":                       {h.exchange(), export.Request{Released: true, Profile: "safe-harbor", Until: "2020-01-01T00:00:00Z"}, terms.Terms{}, 400},
		"_typeFilter":                  {h.exchange(), export.Request{Released: true, Profile: "safe-harbor", Filters: []string{"Observation?date=2026-02-01"}}, terms.Terms{}, 400},
		"_elements, leniently":         {h.exchange(), export.Request{Released: true, Profile: "safe-harbor", Elements: []string{"id"}, Lenient: true}, terms.Terms{}, 400},
		"patient":                      {h.exchange(), export.Request{Released: true, Profile: "safe-harbor", Level: export.Patient, Patients: []fhir.ID{"anna"}}, terms.Terms{}, 400},
		"a type that is not released":  {h.exchange(), export.Request{Released: true, Profile: "safe-harbor", Types: []fhir.ResourceType{"DocumentReference"}, Lenient: true}, terms.Terms{}, 400},
		"a purpose of no limited set":  {h.exchange(), export.Request{Released: true, Profile: "limited-data-set"}, terms.Terms{Agreements: []terms.Agreement{agreement}}, 403},
		"no agreement":                 {research, export.Request{Released: true, Profile: "limited-data-set"}, terms.Terms{}, 403},
		"an agreement":                 {research, export.Request{Released: true, Profile: "limited-data-set"}, terms.Terms{Agreements: []terms.Agreement{agreement}}, 200},
		"no determination":             {h.exchange(), export.Request{Released: true, Profile: "expert-determination"}, terms.Terms{Agreements: []terms.Agreement{agreement}}, 403},
	} {
		h.cfg.Terms.Set(h.Tenant, c.laid)
		if c.r.Level == "" {
			c.r.Level = export.System
		}
		id, err := h.Accept(ctx, h.Grant(c.who), c.r)
		if status(err) != c.status {
			t.Errorf("%s: %d %v, want %d", name, status(err), err, c.status)
		}
		if err == nil {
			if s := h.status(c.who, id); s.Release == nil {
				t.Errorf("%s: it is not de-identified", name)
			}
			_ = h.Cancel(ctx, h.Grant(c.who), id)
		}
	}
	// What is not de-identified is not a bound client's, whoever began it.
	free := h.exchange()
	id := h.accept(free, export.Request{Types: []fhir.ResourceType{"Patient"}})
	h.finish()
	if _, err := h.fetch(bound, id, "1.ndjson"); status(err) != 404 {
		t.Errorf("a bound client fetches what identifies: %v", err)
	}
	if _, err := h.Status(ctx, h.Grant(bound), id, 1); status(err) != 404 {
		t.Errorf("a bound client asks for what identifies: %v", err)
	}
	// An agreement that ends while the release is made ends it.
	h.cfg.Terms.Set(h.Tenant, terms.Terms{Agreements: []terms.Agreement{agreement}})
	r := export.Request{Level: export.System, Released: true, Profile: "limited-data-set"}
	if id, err := h.Accept(ctx, h.Grant(research), r); err != nil {
		t.Error(err)
	} else {
		h.cfg.Terms.Set(h.Tenant, terms.Terms{})
		h.finish()
		if s := h.status(research, id); s.State != export.Failed || s.Reason != export.Denied {
			t.Errorf("%+v", s)
		}
	}
	// What is not begun after all leaves no keys.
	for n := range 5 {
		if _, err := h.Accept(ctx, h.Grant(bound), export.Request{Level: export.System}); n < 4 && err != nil || n == 4 && status(err) != 429 {
			t.Errorf("%d under way: %v", n, err)
		}
	}
	if n := h.SQL("SELECT count(*)::text FROM deident.release"); n != "4" {
		t.Errorf("the keys of %s releases, of which four are under way", n)
	}
	// Without keys there are no releases, and a bound client gets nothing.
	h.cfg.Releases = nil
	bare, err := export.New(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []export.Request{{Level: export.System}, {Level: export.System, Released: true, Profile: "safe-harbor"}} {
		if _, err := bare.Accept(ctx, h.Grant(bound), x); status(err) != 400 {
			t.Errorf("without keys: %v", err)
		}
	}
}

// between does something before a page is read that is to be written.
type between struct {
	export.Releases
	walk func(n int, page []export.Source)
	n    *int
}

func (b between) Walk(ctx context.Context, release string, t fhir.ResourceType, after fhir.ID, most int) ([]export.Source, error) {
	page, err := b.Releases.Walk(ctx, release, t, after, most)
	*b.n++
	b.walk(*b.n, page)
	return page, err
}

// has says of a page whether this resource is on it, so that it is not written yet.
func has(page []export.Source, id fhir.ID) bool {
	return slices.ContainsFunc(page, func(s export.Source) bool { return s.ID == id })
}

// What goes away between the survey and the writing leaves no reference to it, and no small group, behind.
func TestD8_WhatChangesIsSurveyedAgain(t *testing.T) {
	crowd := func(h *house) {
		for i := range 22 {
			h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"q%02d","gender":%q}`, i, []string{"male", "female"}[i%2]))
		}
	}
	for name, c := range map[string]struct {
		r      export.Request
		change func(h *house, n int, page []export.Source)
		want   map[string]int
		state  export.State
		reason export.Reason
		round  string
	}{
		"nothing": {released("Encounter", "Observation", "Patient"), func(*house, int, []export.Source) {}, map[string]int{"Encounter": 2, "Observation": 13, "Patient": 25}, export.Done, "", "0"},
		"deleted": {released("Encounter", "Observation", "Patient"), func(h *house, _ int, page []export.Source) {
			if has(page, "o05") { // Encounters are written, and perhaps some Observations
				h.remove("Observation/o05")
			}
		}, map[string]int{"Encounter": 2, "Observation": 12, "Patient": 25}, export.Done, "", "1"},
		"a consent is revoked": {released("Encounter", "Observation", "Patient"), func(h *house, _ int, page []export.Source) {
			if has(page, "sa") { // its Encounter is written
				h.Load(consent("c", "part2-specific", "inactive"))
			}
		}, map[string]int{"Encounter": 1, "Observation": 12, "Patient": 25}, export.Done, "", "1"},
		"somebody wants out": {released("Encounter", "Observation", "Patient"), func(h *house, _ int, page []export.Source) {
			if has(page, "o02") {
				h.Load(optOut("cleo"))
			}
		}, map[string]int{"Encounter": 2, "Observation": 9, "Patient": 24}, export.Done, "", "1"},
		"again and again": {released("Observation", "Patient"), func(h *house, n int, _ []export.Source) {
			h.remove(fmt.Sprintf("Observation/o%02d", n))
		}, nil, export.Failed, export.Changed, "2"},
		"a group becomes small": {export.Request{Released: true, Profile: "expert-determination", Types: []fhir.ResourceType{"Patient"}}, func(h *house, _ int, page []export.Source) {
			if has(page, "q00") {
				h.Load(`{"resourceType":"Patient","id":"q00","gender":"other"}`)
			}
		}, map[string]int{"Patient": 25}, export.Done, "", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, releasing)
			crowd(h)
			h.Clock.Add(1000)
			determined(h, deident.Gender)
			n := 0
			h.cfg.Releases = between{h.cfg.Releases, func(n int, page []export.Source) { c.change(h, n, page) }, &n}
			var err error
			if h.Service, err = export.New(h.cfg); err != nil {
				t.Fatal(err)
			}
			p := h.exchange()
			id := h.accept(p, c.r)
			round := ""
			for busy := true; busy; {
				if busy, err = h.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
				if x := h.SQL("SELECT round::text FROM deident.release"); x != "" {
					round = x
				}
			}
			s := h.status(p, id)
			if s.State != c.state || s.Reason != c.reason || round != c.round {
				t.Errorf("%s %s after round %s", s.State, s.Reason, round)
			}
			if s.State != export.Done {
				if x := h.SQL("SELECT count(*)::text FROM deident.release"); x != "0" {
					t.Errorf("its keys are left")
				}
				return
			}
			got := h.fetched(p, id)
			integrity(t, got)
			lines := 0
			for k, want := range c.want {
				lines += want
				if len(got["output "+k]) != want {
					t.Errorf("%s: %d, want %d", k, len(got["output "+k]), want)
				}
			}
			if s.Lines != int64(lines) {
				t.Errorf("%d lines, want %d", s.Lines, lines)
			}
			if name == "a group becomes small" {
				text := strings.Join(got["output Patient"], "\n")
				if f, m := strings.Count(text, `"female"`), strings.Count(text, `"male"`); f != 11 || m != 0 {
					t.Errorf("%d and %d are alike: ten are too few", f, m)
				}
			}
		})
	}
}

func optOut(patient string) string {
	text := strings.Replace(consent("out-"+patient, "deidentified-optout", "active"), `"code":"OPTIN"`, `"code":"OPTOUT"`, 1)
	return strings.Replace(strings.Replace(text, `"Patient/anna"`, `"Patient/`+patient+`"`, 2), `"provision":{"type":"permit"`, `"provision":{"type":"deny"`, 1)
}

// A file of a release is let out whole, or not at all: with one line less, others would refer to nothing.
func TestD7_2_16_AReleaseIsFetchedWhole(t *testing.T) {
	for name, c := range map[string]struct {
		change func(h *house)
		gone   string
	}{
		"nothing":              {func(*house) {}, ""},
		"deleted":              {func(h *house) { h.remove("Observation/o05") }, "Observation"},
		"changed":              {func(h *house) { h.Load(observation("o05", "anna", `,"valueInteger":77`)) }, ""}, // what was released was true
		"a consent is revoked": {func(h *house) { h.Load(consent("c", "part2-specific", "inactive")) }, "Encounter Observation"},
		"somebody wants out":   {func(h *house) { h.Load(optOut("cleo")) }, "Observation Patient"},
		// What is visible all the same is nothing to be released: whatever the Consent bars, she does not want to be in such a set.
		"somebody wants out, says research": {func(h *house) { h.Load(strings.Replace(optOut("cleo"), `"code":"TREAT"`, `"code":"HRESCH"`, 1)) }, "Observation Patient"},
		"the keys are lost":                 {func(h *house) { h.Exec("DELETE FROM deident.release") }, "Encounter Observation Patient"},
		"another client asks":               {func(*house) {}, "404"},
		"nobody may any more":               {func(h *house) { h.cfg.Terms.Set(h.Tenant, terms.Terms{}) }, ""}, // a safe harbor needs no document
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, releasing)
			p := h.exchange()
			id := h.accept(p, released("Encounter", "Observation", "Patient"))
			h.finish()
			files := h.status(p, id).Files
			c.change(h)
			h.Clock.Add(1000)
			who := p
			if c.gone == "404" {
				who.Client = "other"
			}
			for _, f := range files {
				text, err := h.fetch(who, id, f.Name)
				want := 200
				if c.gone == "404" {
					want = 404
				} else if strings.Contains(c.gone, string(f.Type)) {
					want = 410
				}
				if status(err) != want || want == 200 && strings.Count(text, "\n") != f.Lines || want != 200 && text != "" {
					t.Errorf("%s: %v, want %d", f.Type, err, want)
				}
			}
		})
	}
}

// A Group of fewer than eleven is known to whoever knows the Group.
func TestAReleaseOfASmallGroup(t *testing.T) {
	h := newHouse(t, releasing)
	p := h.exchange()
	id := h.accept(p, export.Request{Released: true, Profile: "safe-harbor", Level: export.Group, Group: "panel"})
	h.finish()
	if s := h.status(p, id); s.State != export.Failed || s.Reason != export.Small {
		t.Errorf("%+v", s)
	}
	var members []string
	for i := range 12 {
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"q%02d"}`, i))
		members = append(members, fmt.Sprintf(`{"entity":{"reference":"Patient/q%02d"}}`, i))
	}
	h.Load(`{"resourceType":"Group","id":"large","type":"person","actual":true,"managingEntity":{"reference":"Organization/hie"},"member":[` + strings.Join(members, ",") + `]}`)
	h.Clock.Add(1000)
	id = h.accept(p, export.Request{Released: true, Profile: "safe-harbor", Level: export.Group, Group: "large"})
	h.finish()
	if got := h.fetched(p, id); len(got["output Patient"]) != 12 || len(got) != 1 {
		t.Errorf("%v", got)
	}
	id = h.accept(p, export.Request{Released: true, Profile: "safe-harbor", Level: export.Patient})
	h.finish()
	if got := h.fetched(p, id); len(got["output Patient"]) != 15 || got["output Organization"] != nil {
		t.Errorf("%v", got)
	}
}
