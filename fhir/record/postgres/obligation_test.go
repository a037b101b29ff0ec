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
	"github.com/cloister-health/cloister/fhir/record"
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

// consents says which consents each record on a page was released under.
func (h *house) under(p authz.Principal, i fhir.Interaction, refs ...fhir.Ref) map[fhir.Ref]string {
	h.t.Helper()
	out := map[fhir.Ref]string{}
	for _, ref := range refs {
		g, err := h.engine.Authorize(context.Background(), p, i, ref.Type)
		if err != nil {
			h.t.Fatal(err)
		}
		r, err := h.engine.Plan(context.Background(), g, i, ref.Type)
		if err != nil {
			h.t.Fatal(err)
		}
		s, err := h.store.Read(context.Background(), r, ref.ID)
		if err != nil {
			h.t.Fatalf("%s: %v", ref, errors.Unwrap(err))
		}
		released, err := h.gate.Release(context.Background(), g, ref.Type, s)
		if err != nil {
			h.t.Fatalf("%s: %v %v", ref, err, errors.Unwrap(err))
		}
		for _, s := range released[0].Scopes() {
			out[ref] += string(s.Consent) + " "
		}
	}
	return out
}

func TestS19_L55_WhichConsentReleasesARecord(t *testing.T) {
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	h.load(encounter("e1", "sud"))
	obs := h.load(strings.Replace(observation(",'encounter':{'reference':'Encounter/e1'}"), "{", "{'id':'o1',", 1))
	plain := h.load(strings.Replace(observation(""), "{", "{'id':'o2',", 1))
	h.load(specific().String())
	second := specific()
	second.id = "c2"
	h.load(second.String())
	other := specific()
	other.id, other.recipient = "c3", "Organization/other"
	h.load(other.String())
	got := h.under(h.as("hie", "TREAT", "", "hie"), fhir.Read, obs, plain)
	if got[obs] != "c c2 " || got[plain] != "" {
		t.Errorf("to the exchange: %v", got)
	}
	// Within the program the same consents are not what it rests on.
	if got := h.under(h.as("hie", "TREAT", "", "hie", "sud"), fhir.Read, obs); got[obs] != "" {
		t.Errorf("to the program's own: %v", got)
	}
	// A gate that cannot explain a consent does not release under it.
	g, err := h.engine.Authorize(context.Background(), h.as("hie", "TREAT", "", "hie"), fhir.Read, "Observation")
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.engine.Plan(context.Background(), g, fhir.Read, "Observation")
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[fhir.Ref]bool{obs: false, plain: true} {
		s, err := h.store.Read(context.Background(), r, ref.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := record.NewGate(h.engine, h.store, h.now).Release(context.Background(), g, "Observation", s); (err == nil) != want {
			t.Errorf("%s by a gate that explains nothing: %v", ref, err)
		}
	}
}
