package pdp

import (
	"slices"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
)

type noClasses struct{}

func (noClasses) LabelClasses() map[int16]label.Set { return nil }

// What the engine says it would decide is what it decides, with the lines that do.
func TestWhatIf(t *testing.T) {
	h := house(t)
	e := authz.NewEngine(h, noClasses{}, time.Now)
	g, err := e.Authorize(t.Context(), authz.Principal{Tenant: 1, Subject: "s", Roles: []string{"hie"}, Purpose: "TREAT", Scopes: smart.Parse("system/*.rs")}, fhir.Read, "Condition")
	if err != nil {
		t.Fatal(err)
	}
	for _, labels := range []label.Set{0, label.Part2, label.Part2 | label.SUD, label.PsychNote, label.MinorConsented, label.HIV} {
		for _, facts := range []authz.Fact{0, authz.Consent, authz.Program, authz.Self | authz.Treating, authz.Originator} {
			q := authz.Question{Roles: []string{"hie"}, Purpose: "TREAT", Action: authz.ActionRead, Type: "Condition", Labels: labels}
			x, err := e.WhatIf(g, q, facts)
			if err != nil {
				t.Fatal(err)
			}
			d, err := e.Decide(t.Context(), g, fhir.Read, authz.Resource{Type: "Condition", Labels: labels, Facts: facts})
			if err != nil {
				t.Fatal(err)
			}
			if x.Permit != d.Permit || x.Version != d.PolicyVersion || x.Permit != slices.ContainsFunc(x.Needs, facts.Has) || x.Permit && len(x.By) == 0 {
				t.Errorf("%s with %v: what if says %+v, and the decision is %v", labels, authz.FactNames(facts), x, d.Permit)
			}
		}
	}
	if x, err := e.WhatIf(authz.Grant{}, authz.Question{Roles: []string{"hie"}, Purpose: "TREAT", Action: authz.ActionRead, Type: "Condition"}, 0); err == nil || x.Permit {
		t.Error("nobody asks, and is answered")
	}
}
