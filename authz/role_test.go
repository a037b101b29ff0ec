package authz_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/consent/state"
)

// classOf is a second classification of the roles, apart from the table of the engine.
var classOf = map[string]authz.Recipient{
	"therapist": authz.Workforce, "psychiatrist": authz.Workforce, "trainee": authz.Workforce, "supervisor": authz.Workforce, "sud-counselor": authz.Workforce,
	"front-desk": authz.Workforce, "biller": authz.Workforce, "privacy-officer": authz.Workforce, "practice-admin": authz.Workforce,
	"hie": authz.Outside, "research-analyst": authz.Outside, "service-organization": authz.Outside, "auditor": authz.Outside, "coroner": authz.Outside,
	"law-enforcement": authz.Outside, "court": authz.Outside, "public-health": authz.Outside, "ai-assistant": authz.Outside,
	"patient": authz.Individual, "proxy": authz.Representative, authz.Operator: authz.System,
}

// Every role that a policy can name is in one class, and no other is in one.
func TestEveryRoleHasAClass(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range pdp.Roles() {
		want, known := classOf[r]
		if !known || seen[r] {
			t.Errorf("%s: say in this test, once, which class it is of", r)
		}
		seen[r] = true
		if got := authz.RecipientOf([]string{r}); got != want {
			t.Errorf("%s is of class %d, want %d", r, got, want)
		}
		if within := slices.Contains(authz.WithinRoles(), r); within != (want != authz.Outside) {
			t.Errorf("%s: within is %v", r, within)
		}
	}
	if len(seen) != len(classOf) || len(authz.WithinRoles()) != 12 {
		t.Errorf("%d roles and %d within", len(seen), len(authz.WithinRoles()))
	}
}

func TestRecipientOf(t *testing.T) {
	for roles, want := range map[string]authz.Recipient{
		"therapist": authz.Workforce, "therapist biller": authz.Workforce, "patient": authz.Individual, "proxy": authz.Representative,
		"hie": authz.Outside, "research-analyst": authz.Outside, "": authz.Outside, "unheard-of": authz.Outside,
		"therapist hie": authz.Outside, "hie therapist": authz.Outside, "patient therapist": authz.Outside, authz.Operator: authz.System,
	} {
		if got := authz.RecipientOf(strings.Fields(roles)); got != want {
			t.Errorf("%q: %d", roles, got)
		}
	}
	for _, r := range authz.WithinRoles() {
		if !slices.Contains(pdp.Roles(), r) {
			t.Errorf("%s is no role", r)
		}
	}
}

// What the law of a state keeps in the practice reaches nobody outside of it, whatever the role; who is within, or
// asks as the patient, is not outside. A role that nobody knows makes an outsider, and alone it is no recipient at all.
func TestJ1_J4_J11_WhoIsOutside(t *testing.T) {
	states, err := state.Select("US-WA", "US-CA")
	if err != nil {
		t.Fatal(err)
	}
	lawful := func(roles, purpose string, labels label.Set, f authz.Fact) bool {
		_, ok := authz.Lawful(authz.Question{Roles: strings.Fields(roles), Purpose: purpose, Action: authz.ActionRead, Type: "Condition", Labels: labels}, f, states)
		return ok
	}
	for role, class := range classOf {
		for _, labels := range []label.Set{label.PSY, label.MH, label.SEX, label.GDIS, label.MinorConsented} {
			if role == "proxy" && labels == label.MinorConsented {
				continue // below
			}
			if got := lawful(role, "TREAT", labels, 0); got != (class != authz.Outside) {
				t.Errorf("%s and %s: %v", role, labels, got)
			}
			if !lawful(role, "TREAT", labels, authz.Consent) {
				t.Errorf("%s and %s: not even with consent", role, labels)
			}
		}
		if got := lawful(role, "TREAT", 0, 0); got != (role != authz.Assistant) {
			t.Errorf("%s and no label: %v", role, got)
		}
	}
	for _, c := range []struct {
		roles, purpose string
		labels         label.Set
		facts          authz.Fact
		want           bool
	}{
		{"proxy", "PATRQT", label.PSY, 0, true},
		{"proxy", "PATRQT", label.MinorConsented, 0, false},
		{"proxy", "TREAT", label.MinorConsented, 0, false},
		{"proxy therapist", "PATRQT", label.MinorConsented, 0, false},
		{"proxy therapist", "PWATRNY", label.MinorConsented, 0, false},
		{"therapist proxy", "TREAT", label.MinorConsented, 0, true},
		{"proxy patient", "PATRQT", label.PSY, 0, true},
		{"patient proxy", "PATRQT", label.MinorConsented, 0, false},
		{"patient proxy", "PATRQT", label.MinorConsented, authz.Self, true},
		{"therapist court", "TREAT", label.PSY, 0, false},
		{"court therapist", "TREAT", label.PSY, 0, false},
		{"proxy court", "PATRQT", label.PSY, 0, false},
		{"therapist unheard-of", "TREAT", label.PSY, 0, false},
		{"therapist unheard-of", "TREAT", 0, 0, true},
		{"unheard-of", "TREAT", 0, authz.Consent | authz.Self, false},
		{"", "TREAT", 0, authz.Consent | authz.Self, false},
		// A documented exception for such care lets what a minor consented to alone out of the practice, and not to a parent.
		{"auditor", "HCOMPL", label.MinorConsented, authz.Exception, true},
		{"auditor", "HCOMPL", label.MinorConsented, authz.Emergency, false},
		{"auditor", "HCOMPL", label.PSY, authz.Exception, false},
		{"proxy", "PATRQT", label.MinorConsented, authz.Exception, false},
	} {
		if got := lawful(c.roles, c.purpose, c.labels, c.facts); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// The engine permits whatever policy and law of the state permit together, and nothing else: a policy that asks for
// nothing of an exchange asks for the patient's consent in Washington.
func TestJ1_J11_WhatOnlyTheLawOfAStateBarsOpensWithWhatLiftsIt(t *testing.T) {
	states, err := state.Select(state.Known()...)
	if err != nil {
		t.Fatal(err)
	}
	permit, deny := 0, 0
	for _, role := range pdp.Roles() {
		for _, purpose := range []string{"TREAT", "HPAYMT", "ETREAT", "PATRQT"} {
			for _, labels := range []label.Set{0, label.PSY, label.SEX, label.Part2, label.MinorConsented, label.PsychNote, label.Part2 | label.PSY | label.MinorConsented} {
				for _, needs := range []authz.Fact{0, authz.Treating, authz.Self | authz.Unrestricted, authz.Program} {
					q := authz.Question{Roles: []string{role}, Purpose: purpose, Action: authz.ActionRead, Type: "Condition", Labels: labels}
					if _, federal := authz.Lawful(q, needs, nil); !federal {
						if sets := authz.LawfulSets(q, []authz.Fact{needs}, states); sets != nil {
							t.Fatalf("%+v with %b: federal law bars it, and %b open it", q, needs, sets)
						}
						continue
					}
					sets := authz.LawfulSets(q, []authz.Fact{needs}, states)
					for f := range authz.Fact(1) << 11 {
						if f.Has(authz.Self) && !needs.Has(authz.Self) && role != "patient" && role != "proxy" || f.Has(authz.Emergency) && purpose != "ETREAT" {
							continue // nobody of that role is the patient, and an emergency has a purpose of its own
						}
						_, lawful := authz.Lawful(q, f, states)
						want := f.Has(needs) && lawful
						if got := slices.ContainsFunc(sets, f.Has); got != want {
							t.Fatalf("%+v, where %b is needed, with %b: %v by %b, and policy and law say %v", q, needs, f, got, sets, want)
						}
						if want {
							permit++
						} else {
							deny++
						}
					}
				}
			}
		}
	}
	if permit < 1000 || deny < 1000 {
		t.Errorf("%d permit, %d deny: the test looks in the wrong place", permit, deny)
	}
}
