package postgres_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

const observationCategory = "http://terminology.hl7.org/CodeSystem/observation-category"

// of is an Observation of anna in these categories.
func of(id string, categories ...string) string {
	var list []string
	for _, c := range categories {
		list = append(list, "{'coding':[{'system':'"+observationCategory+"','code':'"+c+"'}]}")
	}
	extra := ",'id':'" + id + "'"
	if list != nil {
		extra += ",'category':[" + strings.Join(list, ",") + "]"
	}
	return observation(extra)
}

// found gives the ids that a search finds, and after a + those that it includes, sorted.
func (h *house) found(p authz.Principal, t fhir.ResourceType, query string) string {
	h.t.Helper()
	ctx := context.Background()
	g, err := h.engine.Authorize(ctx, p, fhir.SearchType, t)
	if err != nil {
		h.t.Fatalf("%s?%s: %v", t, query, err)
	}
	v, err := url.ParseQuery(query)
	if err != nil {
		h.t.Fatal(err)
	}
	q, _, err := search.Parse(t, v, search.Options{Base: "http://localhost/fhir"})
	if err != nil {
		h.t.Fatalf("%s?%s: %v", t, query, err)
	}
	reach, err := h.engine.Reach(ctx, g, fhir.SearchType, q.Types()...)
	if err != nil {
		h.t.Fatal(err)
	}
	page, err := h.store.Search(ctx, reach, q)
	if err != nil {
		h.t.Fatalf("%s?%s: %v", t, query, err)
	}
	var out []string
	for i, list := range [][]record.Sealed{page.Entries, page.Included} {
		released, err := h.gate.Release(ctx, g, t, list...)
		if err != nil {
			h.t.Fatalf("%s?%s: release: %v", t, query, err)
		}
		var ids []string
		for _, r := range released {
			ids = append(ids, string(r.Ref().ID))
		}
		slices.Sort(ids)
		if i == 1 && ids != nil {
			out = append(out, "+")
		}
		out = append(out, ids...)
	}
	if q.Total != search.NoTotal && page.Total != len(page.Entries) {
		h.t.Errorf("%s?%s: %d in all, %d on the page", t, query, page.Total, len(page.Entries))
	}
	return strings.Join(out, " ")
}

// granular is a clinic with Observations of several categories, and dora with a scope for one of them.
func granular(t *testing.T, scope string) (*house, authz.Principal) {
	t.Helper()
	h := clinic(t)
	for _, text := range []string{
		of("lab", "laboratory"), of("vital", "vital-signs"), of("both", "vital-signs", "laboratory"), of("none"),
		strings.Replace(of("other", "laboratory"), observationCategory, "urn:other", 1),
		// What was open once, and what is since.
		of("left", "laboratory"), of("left", "vital-signs"), of("came", "vital-signs"), of("came", "laboratory"), of("came", "survey"), of("came", "laboratory"),
		strings.Replace(of("member", "vital-signs"), "'valueInteger'", "'hasMember':[{'reference':'Observation/lab'}],'valueInteger'", 1),
		strings.Replace(of("panel", "laboratory"), "'valueInteger'", "'hasMember':[{'reference':'Observation/vital'},{'reference':'Observation/lab'}],'valueInteger'", 1),
		of("gone", "laboratory"), of("gone-too", "vital-signs"),
	} {
		h.load(text)
	}
	for _, id := range []fhir.ID{"gone", "gone-too"} {
		if err := h.delete(h.operator(), fhir.Ref{Type: "Observation", ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	p := h.as("therapist", "TREAT", "Practitioner/dora")
	p.Scopes, p.Patient = mustScopes(scope), "anna"
	return h, p
}

const (
	laboratory = "Observation.rs?category=" + observationCategory + "|laboratory"
	open       = " user/Patient.rs user/Practitioner.rs"
)

// A scope for laboratory results opens them by no path more, and nothing else by any.
// Channels of leaks: L56.
func TestGranularScopeAgreesOnEveryPath(t *testing.T) {
	for _, level := range []string{"user/", "patient/", "system/"} {
		t.Run(level, func(t *testing.T) {
			h, p := granular(t, level+laboratory+open)
			ctx := context.Background()
			visible := []string{"both", "came", "lab", "panel"}
			for _, id := range []string{"lab", "vital", "both", "none", "other", "left", "came", "member", "panel"} {
				ref := fhir.Ref{Type: "Observation", ID: fhir.ID(id)}
				if got, want := h.sees(p, ref), slices.Contains(visible, id); got != want {
					t.Errorf("%s: seen %v, want %v", id, got, want)
				}
			}
			all := strings.Join(visible, " ")
			for _, c := range []struct {
				t           fhir.ResourceType
				query, want string
			}{
				{"Observation", "_total=accurate&_count=50", all},
				{"Observation", "patient=anna&_total=accurate&_count=50", all},
				{"Observation", "patient=anna&_sort=-date&_count=50", all},
				{"Observation", "patient=anna&date=ge2026-01-01&_count=50", all},
				{"Observation", "category=vital-signs&_total=accurate", "both"},
				{"Observation", "category:not=vital-signs&_count=50", "came lab panel"},
				{"Observation", "_id=vital", ""},
				{"Observation", "has-member=Observation/lab", "panel"},
				{"Observation", "has-member=Observation/vital", "panel"}, // what it says of itself
				{"Observation", "has-member.category=vital-signs", ""},
				{"Observation", "has-member.category=laboratory", "panel"},
				{"Observation", "_id=panel&_include=Observation:has-member", "panel + lab"},
				{"Observation", "_id=lab&_revinclude=Observation:has-member", "lab + panel"},
				{"Observation", "_id=lab&_revinclude=*", "lab + panel"},
				{"Observation", "_id=panel&_include=*", "panel + anna lab"},
				{"Observation", "_has:Observation:has-member:_id=member", ""},
				{"Observation", "_has:Observation:has-member:_id=panel", "lab"},
				{"Patient", "_has:Observation:patient:category=vital-signs", "anna"}, // both
				{"Patient", "_has:Observation:patient:_id=vital", ""},
				{"Patient", "_has:Observation:patient:_id=lab", "anna"},
				{"Patient", "_id=anna&_revinclude=Observation:patient", "anna + " + all},
			} {
				if got := h.found(p, c.t, c.query); got != c.want {
					t.Errorf("%s?%s: %q, want %q", c.t, c.query, got, c.want)
				}
			}
			history := func(i fhir.Interaction, id fhir.ID) string {
				g, r, err := h.plan(p, i, "Observation")
				if err != nil {
					t.Fatal(err)
				}
				page, err := h.history(r, id, 50, nil)
				if err != nil {
					return err.Error()
				}
				released, err := h.gate.Release(ctx, g, "Observation", page.Entries...)
				if err != nil {
					t.Fatal(err)
				}
				var out []string
				for _, x := range released {
					s := string(x.Ref().ID) + "/" + x.Version().String()
					if x.Deleted() {
						s += "-"
					}
					out = append(out, s)
				}
				slices.Sort(out)
				return strings.Join(out, " ")
			}
			if got := history(fhir.HistoryType, ""); got != "both/1 came/2 came/4 gone/1 gone/2- lab/1 panel/1" {
				t.Errorf("history of the type: %s", got)
			}
			for id, want := range map[fhir.ID]string{"came": "came/2 came/4", "gone": "gone/1 gone/2-", "left": "there is no such resource", "vital": "there is no such resource", "gone-too": "there is no such resource"} {
				if got := history(fhir.HistoryInstance, id); got != want {
					t.Errorf("history of %s: %s, want %s", id, got, want)
				}
			}
			for version, want := range map[fhir.VersionID]bool{1: false, 2: true, 3: false, 4: true} {
				g, r, err := h.plan(p, fhir.VRead, "Observation")
				if err != nil {
					t.Fatal(err)
				}
				s, err := h.store.VRead(ctx, r, "came", version)
				if err == nil {
					_, err = h.release(g, "Observation", s)
				}
				if (err == nil) != want || err != nil && status(err) != 404 {
					t.Errorf("version %d: %v", version, err)
				}
			}
		})
	}
}

// Of patient-level and wider scopes each opens what it says, and no more.
func TestScopesOfDifferentLevelsDoNotJoin(t *testing.T) {
	h, p := granular(t, "patient/Observation.rs?category=survey user/"+laboratory+open)
	h.load(strings.NewReplacer("'team'", "'team2'", "anna", "bert").Replace(team))
	ofBert := strings.NewReplacer("anna", "bert")
	for _, text := range []string{ofBert.Replace(of("b-lab", "laboratory")), ofBert.Replace(of("b-survey", "survey")), of("survey", "survey")} {
		h.load(text)
	}
	for id, want := range map[fhir.ID]bool{"lab": true, "survey": true, "vital": false, "b-lab": true, "b-survey": false} {
		if got := h.sees(p, fhir.Ref{Type: "Observation", ID: id}); got != want {
			t.Errorf("%s: seen %v, want %v", id, got, want)
		}
	}
	if got := h.found(p, "Observation", "patient=bert&_total=accurate"); got != "b-lab" {
		t.Errorf("of bert: %q", got)
	}
	p.Patient = ""
	if got := h.found(p, "Observation", "_id=survey,lab"); got != "lab" {
		t.Errorf("without a launch patient: %q", got)
	}
	// Several parameters must all hold.
	p.Scopes = mustScopes("user/Observation.rs?category=laboratory&status=final,amended&code=http://loinc.org|44261-6" + open)
	if got := h.found(p, "Observation", "_count=50&patient=anna"); got != "both came lab other panel" {
		t.Errorf("all hold: %q", got)
	}
	p.Scopes = mustScopes("user/Observation.rs?category=laboratory&status=preliminary" + open)
	if got := h.found(p, "Observation", "_count=50"); got != "" {
		t.Errorf("one does not hold: %q", got)
	}
}

// Constraints that read alike are those of their own types, where one statement is about several.
func TestGranularScopesOfSeveralTypes(t *testing.T) {
	h, p := granular(t, "user/Observation.rs?status=final user/DiagnosticReport.rs?status=final user/Procedure.rs?status=completed"+open)
	report := "{'resourceType':'DiagnosticReport','id':'%','status':'%','code':{'text':'x'},'subject':{'reference':'Patient/anna'}}"
	for id, status := range map[string]string{"final": "final", "partial": "partial"} {
		h.load(strings.Replace(strings.Replace(report, "%", "report-"+id, 1), "%", status, 1))
	}
	for id, status := range map[string]string{"completed": "completed", "stopped": "stopped"} {
		h.load("{'resourceType':'Procedure','id':'proc-" + id + "','status':'" + status + "','code':{'text':'x'},'subject':{'reference':'Patient/anna'}}")
	}
	h.load(strings.Replace(of("amended"), "'final'", "'amended'", 1))
	want := "anna + both came lab left member none other panel proc-completed report-final vital"
	if got := h.found(p, "Patient", "_id=anna&_revinclude=*"); got != want {
		t.Errorf("included: %q, want %q", got, want)
	}
	ctx := context.Background()
	types := []fhir.ResourceType{"DiagnosticReport", "Observation", "Procedure"}
	g, err := h.engine.Authorize(ctx, p, fhir.HistorySystem, "")
	if err != nil {
		t.Fatal(err)
	}
	reach, err := h.engine.Reach(ctx, g, fhir.HistorySystem, types...)
	if err != nil {
		t.Fatal(err)
	}
	page, err := h.store.History(ctx, reach, record.History{Types: types, Count: 100})
	if err != nil {
		t.Fatal(err)
	}
	released, err := h.gate.Release(ctx, g, "", page.Entries...)
	if err != nil {
		t.Fatal(err)
	}
	count := map[fhir.ResourceType]int{}
	for _, r := range released {
		count[r.Ref().Type]++
		if id := string(r.Ref().ID); id == "report-partial" || id == "proc-stopped" || id == "amended" {
			t.Errorf("the history has %s", id)
		}
	}
	if count["DiagnosticReport"] != 1 || count["Procedure"] != 1 || count["Observation"] < 10 {
		t.Errorf("the history has %v", count)
	}
}

// A write satisfies the scope with what it leaves behind, and with what it takes away.
func TestGranularScopeOfAWriter(t *testing.T) {
	h, p := granular(t, "user/"+strings.Replace(laboratory, ".rs", ".cruds", 1)+open)
	wide := p
	wide.Scopes = mustScopes("user/Observation.rs user/" + strings.Replace(laboratory, ".rs", ".cud", 1) + open)
	update := func(p authz.Principal, text string) error { _, err := h.update(p, text); return err }
	created := func(p authz.Principal, text string) error {
		_, err := h.create(p, strings.NewReplacer(",'id':'new'", "").Replace(text))
		return err
	}
	may := func(p authz.Principal) authz.Principal { // a therapist deletes nothing
		o := h.operator()
		o.Scopes = p.Scopes
		return o
	}
	count := func() int { return h.count("SELECT count(*) FROM record.resource WHERE NOT deleted") }
	before := count()
	for _, c := range []struct {
		what string
		err  error
		want int
	}{
		{"create without the category", created(p, of("new")), 403},
		{"create of another", created(p, of("new", "vital-signs")), 403},
		{"create of another, by whom no fact is asked", created(may(p), of("new", "vital-signs")), 403},
		{"out of the scope", update(p, of("lab", "vital-signs")), 403},
		{"out of the scope, seen", update(wide, of("lab", "vital-signs")), 403},
		{"into the scope", update(p, of("vital", "laboratory")), 404},
		{"into the scope, seen", update(wide, of("vital", "laboratory")), 403},
		{"delete", h.delete(may(p), fhir.Ref{Type: "Observation", ID: "vital"}), 404},
		{"delete, seen", h.delete(may(wide), fhir.Ref{Type: "Observation", ID: "vital"}), 403},
		{"delete of what is absent", h.delete(may(p), fhir.Ref{Type: "Observation", ID: "absent"}), 404},
	} {
		if status(c.err) != c.want {
			t.Errorf("%s: %v, want %d", c.what, c.err, c.want)
		}
	}
	if now := count(); now != before {
		t.Errorf("%d resources, %d before", now, before)
	}
	for _, p := range []authz.Principal{p, wide} {
		for what, err := range map[string]error{
			"create": created(p, of("new", "laboratory", "survey")), "update": update(p, of("lab", "laboratory", "exam")),
		} {
			h.wantStatus(what, err, 0)
		}
	}
	// An id that a resource beyond the scope bears is free.
	if _, err := h.update(p, of("vital", "laboratory"), upsert); err != nil {
		t.Errorf("an id in use beyond the scope: %v", err)
	}
	if body, err := h.read(h.operator(), fhir.Ref{Type: "Observation", ID: "vital"}); err != nil || !strings.Contains(body, "vital-signs") {
		t.Errorf("what was beyond the scope: %s, %v", body, err)
	}
	h.wantStatus("delete within the scope", h.delete(may(p), fhir.Ref{Type: "Observation", ID: "both"}), 0)
}

// A view is open by what it says itself: a constraint is no way to ask for what it leaves out.
func TestGranularScopeAsksOfTheViewOneSees(t *testing.T) {
	h, in, out, hie := hospital(t)
	visited := visit(both + ",'reasonCode':[" + reason("F32.1") + "," + reason("F11.20") + "]")
	ref := h.load(visited)
	h.load(strings.Replace(visited, "'status'", "'period':{'start':'2026-02-02'},'status'", 1))
	for _, c := range []struct {
		scope        string
		in, out, hie bool
	}{
		{"reason-code=F32.1", true, true, true},
		{"reason-code=F11.20", true, true, false},
		{"reason-code=F32.1&reason-code=F11.20", true, true, false},
		{"reason-code=F11.20,F32.1", true, true, true},
		{"reason-code=F99", false, false, false},
	} {
		for i, p := range []authz.Principal{in, out, hie} {
			p.Scopes = mustScopes("user/Encounter.rs?" + c.scope)
			want := []bool{c.in, c.out, c.hie}[i]
			if got := h.sees(p, ref); got != want {
				t.Errorf("%s as %s %v: seen %v, want %v", c.scope, p.Subject, p.Organizations, got, want)
			}
			g, r, err := h.plan(p, fhir.HistoryInstance, "Encounter")
			if err != nil {
				t.Fatal(err)
			}
			page, err := h.history(r, ref.ID, 10, nil)
			if _, err := h.release(g, "Encounter", page.Entries...); err != nil {
				t.Error(err)
			}
			if want != (err == nil && len(page.Entries) == 2) {
				t.Errorf("%s as %s %v: %d versions, %v", c.scope, p.Subject, p.Organizations, len(page.Entries), err)
			}
		}
	}
	// Of several views one is seen, whatever they are sought by.
	in.Scopes = mustScopes("user/Encounter.rs?reason-code=F32.1")
	if got := h.found(in, "Encounter", "_total=accurate&_id=visit"); got != "visit" {
		t.Errorf("found %q", got)
	}
	h.wantSays(in, ref, "Condition/opioid", "F11.20")
}

// Constraints are of use to a note's originator, too: its category is among what its index tells of.
func TestGranularScopeOnNotes(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	category := func(id, code string) string {
		return strings.Replace(noteOf("'id':'"+id+"',", "dora"), "'status'", "'category':[{'coding':[{'system':'urn:c','code':'"+code+"'}]}],'status'", 1)
	}
	h.load(category("n1", "a"))
	h.load(category("n2", "b"))
	dora.Scopes = mustScopes("user/DocumentReference.rs?category=urn:c|a")
	for id, want := range map[fhir.ID]bool{"n1": true, "n2": false} {
		if got := h.sees(dora, fhir.Ref{Type: "DocumentReference", ID: id}); got != want {
			t.Errorf("%s: seen %v, want %v", id, got, want)
		}
	}
	dora.Scopes = mustScopes("user/DocumentReference.rs?contenttype=text/plain") // kept out of a note's index
	if got := h.found(dora, "DocumentReference", "_count=5"); got != "" {
		t.Errorf("by what no index tells: %q", got)
	}
}
