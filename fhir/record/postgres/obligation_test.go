package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
)

// What is told of a consent is what it permits the one who asks.
func TestS19_2_32_b_ScopeOfAConsent(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	both := specific()
	both.purposes = []string{"TREAT", "COC"}
	// The same consent names another recipient, too.
	h.load(strings.Replace(both.String(), "'actor':[", "'actor':[{'role':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-ParticipationType','code':'IRCP'}]},'reference':{'reference':'Organization/other'}},", 1))
	tpo := part2Consent{id: "t", status: "active", kind: "part2-tpo", effect: "permit", recipient: "class:treating-providers", purposes: []string{"TREAT", "HPAYMT", "HOPERAT"}, programs: []string{"sud"}}
	h.load(tpo.String())
	narrow := specific()
	narrow.id = "n"
	h.load(strings.Replace(narrow.String(), "'provision':{", "'provision':{'class':[{'system':'http://hl7.org/fhir/resource-types','code':'Condition'}],", 1))
	revoked := specific()
	revoked.id, revoked.status = "r", "inactive"
	h.load(revoked.String())
	denial := specific()
	denial.id, denial.effect = "d", "deny"
	h.load(denial.String())

	ask := func(p authz.Principal, ids ...fhir.ID) []obligation.Scope {
		t.Helper()
		g, err := h.engine.Authorize(context.Background(), p, fhir.Read, "Observation")
		if err != nil {
			t.Fatal(err)
		}
		out, err := h.store.ConsentScopes(context.Background(), g, ids)
		if err != nil {
			t.Fatalf("%v: %v", err, errors.Unwrap(err))
		}
		return out
	}
	hie := h.as("hie", "TREAT", "", "hie")
	got := ask(hie, "c", "t", "n", "r", "d", "nothing")
	if len(got) != 2 || got[0].Until.IsZero() {
		t.Fatalf("%+v", got)
	}
	until := got[0].Until
	want := []obligation.Scope{
		{Consent: "c", Kind: "part2-specific", Recipients: []string{"Organization/hie"}, Purposes: []string{"TREAT"}, Whole: true, Until: until},
		{Consent: "n", Kind: "part2-specific", Recipients: []string{"Organization/hie"}, Purposes: []string{"TREAT"}, Until: until},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = ask(h.as("therapist", "TREAT", "Practitioner/dana"), "c", "t")
	want = []obligation.Scope{{Consent: "t", Kind: "part2-tpo", Recipients: []string{"class:treating-providers"}, Purposes: []string{"HOPERAT", "HPAYMT", "TREAT"}, Whole: true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// The other practice has no such consent.
	foreign := hie
	foreign.Tenant = h.other
	if got := ask(foreign, "c"); len(got) != 0 {
		t.Errorf("across practices: %+v", got)
	}
	if _, err := h.store.ConsentScopes(context.Background(), authz.Grant{}, []fhir.ID{"c"}); err == nil {
		t.Error("without a grant")
	}
}
