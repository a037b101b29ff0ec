package authz_test

import (
	"context"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
)

// interactions are all that touch a resource.
var interactions = []fhir.Interaction{
	fhir.Read, fhir.VRead, fhir.Update, fhir.Delete, fhir.HistoryInstance, fhir.Create, fhir.SearchType, fhir.Patch, fhir.HistoryType, fhir.HistorySystem,
	fhir.SearchSystem, fhir.PrepareConsent, fhir.SignConsent, fhir.RevokeConsent, fhir.WitnessConsent, fhir.Mask,
}

// A client that is registered with a release profile reaches nothing by any interaction with any type,
// whatever the policy permits: it gets a grant for making that release, and no other.
func TestAConfinedClientReachesNothingButItsRelease(t *testing.T) {
	known := classes{1: 0}
	e := authz.NewEngine(lenient{}, &known, func() time.Time { return time.Unix(1e9, 0) })
	ctx := context.Background()
	free := authz.Principal{Tenant: 1, Subject: "test|x", Client: "x", Roles: []string{"hie"}, Purpose: "HOPERAT", Scopes: smart.Parse("system/*.cruds")}
	bound := free
	bound.Profile = "safe-harbor"
	g, err := e.Authorize(ctx, bound, fhir.Operation, "")
	if err != nil || g.Profile() != "safe-harbor" {
		t.Fatal(err, g.Profile())
	}
	own, err := e.Releasing(g, "safe-harbor")
	if err != nil || own.Releasing() != "safe-harbor" || own.Same(g) {
		t.Fatal(err)
	}
	whole, _ := e.Authorize(ctx, free, fhir.Operation, "")
	asked := 0
	for _, i := range interactions {
		for _, rt := range fhir.ResourceTypes() {
			if _, ok := authz.ActionOf(i); !ok {
				continue
			}
			asked++
			if _, err := e.Authorize(ctx, free, i, rt); err != nil && i != fhir.Mask && rt != "AuditEvent" { // which is for who oversees access
				t.Fatalf("%s %s: the policy of this test permits too little: %v", i, rt, err)
			}
			if _, err := e.Authorize(ctx, bound, i, rt); err == nil && !authz.OnSystem(i) {
				t.Fatalf("%s %s is authorized", i, rt)
			}
			if _, err := e.Extend(g, i, rt); err == nil {
				t.Fatalf("%s %s is extended", i, rt)
			}
			if r, err := e.Plan(ctx, g, i, rt); err == nil || !r.Empty() {
				t.Fatalf("%s %s is planned", i, rt)
			}
			if d, err := e.Decide(ctx, g, i, authz.Resource{Type: rt, Facts: anyFact}); err == nil || d.Permit {
				t.Fatalf("%s %s is permitted", i, rt)
			}
		}
	}
	if asked < 1000 {
		t.Fatalf("%d questions", asked)
	}
	if e.Oversee(g) == nil {
		t.Error("it oversees")
	}
	// Whoever may do everything else reads the trail, unless she is confined.
	overseer := authz.NewEngine(permissive{}, &known, func() time.Time { return time.Unix(1e9, 0) })
	for p, want := range map[string]bool{"": true, "safe-harbor": false} {
		who := free
		who.Profile = p
		h, err := overseer.Authorize(ctx, who, fhir.Operation, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := overseer.Trail(h, fhir.Read); (err == nil) != want {
			t.Errorf("the trail, with the profile %q: %v", p, err)
		}
		if authz.Covers(h, fhir.Create, "Subscription") != want {
			t.Errorf("a Subscription, with the profile %q", p)
		}
	}
	if _, err := e.WhatIf(g, authz.Question{Roles: []string{"hie"}, Purpose: "TREAT", Action: authz.ActionRead, Type: "Patient"}, 0); err == nil {
		t.Error("it asks about the policy")
	}
	if r, err := e.Outbound(ctx, g, fhir.SearchType, "Patient"); err == nil || !r.Of("Patient").Empty() {
		t.Error("it exports")
	}
	if r, err := e.Outbound(ctx, own, fhir.SearchType, "Patient"); err != nil || r.Of("Patient").Empty() {
		t.Error("its release reaches nothing", err)
	}
	for name, c := range map[string]struct {
		g       authz.Grant
		profile string
		want    bool
	}{
		"its own": {g, "safe-harbor", true}, "another": {g, "limited-data-set", false}, "none": {g, "", false}, "no grant": {authz.Grant{}, "safe-harbor", false},
		"of a release": {own, "safe-harbor", false}, "anybody's": {whole, "limited-data-set", true}, "anybody's none": {whole, "", false},
	} {
		if _, err := e.Releasing(c.g, c.profile); (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Kept for later, it is still confined.
	f, err := authz.Freeze(g)
	if err != nil || f.Principal(func(s string) authz.Scopes { return smart.Parse(s) }).Profile != "safe-harbor" {
		t.Errorf("%+v %v", f, err)
	}
}

// permissive permits everything to everybody.
type permissive struct{ lenient }

func (permissive) Permit(authz.Question) ([]authz.Fact, error) { return []authz.Fact{0}, nil }
