package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// panel is a Group of patients that an organization manages.
func panel(id, manager string, members ...string) string {
	of := make([]string, len(members))
	for i, m := range members {
		of[i] = "{'entity':{'reference':'Patient/" + m + "'}}"
	}
	return "{'resourceType':'Group','id':'" + id + "','type':'person','actual':true,'managingEntity':{'reference':'" + manager + "'},'member':[" + strings.Join(of, ",") + "]}"
}

// A Group is read by whoever manages it, and by nobody whom it would tell of a patient she does not see.
func TestManagedGroups(t *testing.T) {
	h := clinic(t)
	for _, text := range []string{
		"{'resourceType':'Organization','id':'county','name':'County'}", "{'resourceType':'Organization','id':'other','name':'Other'}",
		"{'resourceType':'Patient','id':'dan','managingOrganization':{'reference':'Organization/sud'}}",
	} {
		h.load(text)
	}
	county, other := h.as("hie", "TREAT", "", "county"), h.as("hie", "TREAT", "", "other")
	group := fhir.Ref{Type: "Group", ID: "g"}
	want := func(what string, ours, theirs bool) {
		t.Helper()
		if a, b := h.sees(county, group), h.sees(other, group); a != ours || b != theirs {
			t.Errorf("%s: its manager sees the Group: %v, another exchange: %v", what, a, b)
		}
		if h.sees(county, group) {
			for _, id := range []fhir.ID{"anna", "bert", "dan"} {
				if text, _ := h.read(county, group); strings.Contains(text, "Patient/"+string(id)) && !h.sees(county, fhir.Ref{Type: "Patient", ID: id}) {
					t.Errorf("%s: the Group tells of %s, who is hidden", what, id)
				}
			}
		}
	}
	h.load(panel("g", "Organization/other", "bert"))
	want("managed by another", false, true)
	h.load(panel("g", "Organization/county", "anna", "bert"))
	want("managed by the caller's organization", true, false)
	if h.sees(h.as("hie", "TREAT", ""), group) || h.sees(h.as("hie", "HOPERAT", "", "county"), group) || h.sees(h.as("therapist", "TREAT", "Practitioner/dora", "county"), group) || h.sees(h.as("front-desk", "HOPERAT", "", "county"), group) {
		t.Error("the Group is not only for the exchange, to treat")
	}
	if !h.sees(h.as("practice-admin", "HOPERAT", "", "county"), group) {
		t.Error("the administrator of the organization that manages it does not see the Group")
	}
	// What it said when another organization managed it is that one's.
	for p, versions := range map[*authz.Principal]int{&county: 1, &other: 1} {
		_, r, err := h.plan(*p, fhir.HistoryInstance, "Group")
		if err != nil {
			t.Fatal(err)
		}
		page, err := h.history(r, "g", 10, nil)
		if p == &other { // nothing of what it does not see now
			versions = 0
		}
		if (err == nil || versions > 0) && len(page.Entries) != versions {
			t.Errorf("%v: %d versions, want %d (%v)", p.Organizations, len(page.Entries), versions, err)
		}
	}
	if _, err := h.update(county, panel("g", "Organization/county", "anna")); err == nil {
		t.Error("an exchange changes a Group")
	}
	for what, text := range map[string]string{
		"one that is not in use":    strings.Replace(panel("g", "Organization/county", "bert"), "'actual'", "'active':false,'actual'", 1),
		"one that is modified":      strings.Replace(panel("g", "Organization/county", "bert"), "'actual'", "'modifierExtension':[{'url':'http://x.example/not','valueBoolean':true}],'actual'", 1),
		"managed by a practitioner": panel("g", "Practitioner/dora", "bert"),
		"of a person's own":         strings.Replace(panel("g", "Organization/county", "bert"), "'reference':'Organization/county'", "'display':'Organization/county'", 1),
	} {
		h.load(text)
		want(what, false, false)
	}

	// Who of the members may not be told of hides the Group: it is not there, rather than shorter.
	h.load(panel("g", "Organization/county", "anna", "bert"))
	want("before the restriction", true, false)
	about := specific()
	about.id, about.kind, about.recipient, about.effect, about.purposes = "r", "restriction", "Organization/county", "deny", []string{"TREAT"}
	restriction := strings.Replace(about.String(), "'provision':{", "'provision':{'class':[{'system':'http://hl7.org/fhir/resource-types','code':'Patient'}],", 1)
	if !strings.Contains(restriction, "'class'") {
		t.Fatal(restriction)
	}
	h.load(restriction)
	if h.sees(county, fhir.Ref{Type: "Patient", ID: "anna"}) {
		t.Fatal("the restriction hides nothing, so this shows nothing")
	}
	want("a restriction that hides a member, but is not about Groups", false, false)
	h.load(panel("g", "Organization/county", "bert"))
	want("without her", true, false)

	id := "m"
	group = fhir.Ref{Type: "Group", ID: fhir.ID(id)}
	h.load(panel(id, "Organization/county", "bert", "dan"))
	want("with a program's patient", false, false)
	h.load(panel("late", "Organization/county", "bert"))
	group.ID = "late"
	want("before a member becomes a program's patient", true, false)
	h.load("{'resourceType':'Patient','id':'bert','managingOrganization':{'reference':'Organization/sud'}}")
	want("after it", false, false)
}

// Whoever manages a Group is told the same as on a database without what is hidden.
func TestManagedGroupsHaveTwins(t *testing.T) {
	answers := make([]string, 2)
	for n := range answers {
		h := clinic(t)
		for _, text := range []string{
			"{'resourceType':'Organization','id':'county','name':'County'}", "{'resourceType':'Organization','id':'other','name':'Other'}",
			"{'resourceType':'Patient','id':'dan','managingOrganization':{'reference':'Organization/sud'}}",
			panel("mine", "Organization/county", "anna", "bert"), panel("secret", "Organization/county", "bert", "dan"), panel("theirs", "Organization/other", "bert"),
			panel("moved", "Organization/other", "anna"), panel("moved", "Organization/county", "bert"),
		} {
			h.load(text)
		}
		p := h.as("hie", "TREAT", "", "county")
		if n == 1 {
			h.excise(p)
		}
		var b strings.Builder
		for _, q := range []string{"_sort=_id", "member=Patient/bert&_sort=_id", "member=Patient/dan", "managing-entity=Organization/other", "_id=secret", "member.name:missing=true&_sort=_id"} {
			found, err := h.search(p, "Group", q)
			fmt.Fprintln(&b, q, found, err)
		}
		for _, q := range []string{"_has:Group:member:_id=secret", "_has:Group:member:_id=mine&_sort=_id", "_has:Group:member:managing-entity=Organization/other"} {
			found, err := h.search(p, "Patient", q)
			fmt.Fprintln(&b, q, found, err)
		}
		_, r, err := h.plan(p, fhir.HistoryInstance, "Group")
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []fhir.ID{"mine", "secret", "theirs", "moved", "never"} {
			text, err := h.read(p, fhir.Ref{Type: "Group", ID: id})
			fmt.Fprintln(&b, id, text, err)
			page, err := h.store.History(context.Background(), authz.ReachOf(r), record.History{Types: []fhir.ResourceType{"Group"}, ID: id, Count: 10})
			fmt.Fprintln(&b, len(page.Entries), page.Total, err)
		}
		answers[n] = b.String()
	}
	if answers[0] != answers[1] || !strings.Contains(answers[0], "mine") || strings.Contains(answers[0], "Patient/dan\"") {
		t.Errorf("--- full\n%s\n--- twin\n%s", answers[0], answers[1])
	}
}
