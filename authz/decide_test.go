package authz_test

import (
	"context"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search"
)

// needsTreating permits everything without a label to whom treats the patient.
type needsTreating struct{}

func (needsTreating) Version() string    { return "1" }
func (needsTreating) Asked() []label.Set { return nil }

func (needsTreating) Permit(q authz.Question) ([]authz.Fact, error) {
	if q.Labels != 0 {
		return nil, nil
	}
	return []authz.Fact{authz.Treating}, nil
}

type noClasses struct{}

func (noClasses) LabelClasses() map[int16]label.Set { return nil }

// The gate's own decision holds where the query would have let too much through.
func TestDecideHoldsAlone(t *testing.T) {
	e := authz.NewEngine(needsTreating{}, noClasses{}, func() time.Time { return time.Unix(0, 0) })
	ctx := context.Background()
	grant := func(scope string, launch fhir.ID) authz.Grant {
		g, err := e.Authorize(ctx, authz.Principal{Tenant: 1, Subject: "s", Roles: []string{"therapist"}, Purpose: "TREAT", Patient: launch, Scopes: smart.Parse(scope)}, fhir.Read, "Observation")
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	user, launched := grant("user/*.rs", ""), grant("patient/*.rs", "anna")
	for _, c := range []struct {
		what string
		g    authz.Grant
		i    fhir.Interaction
		r    authz.Resource
		want bool
	}{
		{"treated", user, fhir.Read, authz.Resource{Type: "Observation", Facts: authz.Treating, Patient: "bert"}, true},
		{"not treated", user, fhir.Read, authz.Resource{Type: "Observation", Patient: "bert"}, false},
		{"labelled", user, fhir.Read, authz.Resource{Type: "Observation", Labels: label.Part2, Facts: authz.Treating}, false},
		{"a scope that reads does not write", user, fhir.Update, authz.Resource{Type: "Observation", Facts: authz.Treating}, false},
		{"the launch patient's", launched, fhir.Read, authz.Resource{Type: "Observation", Facts: authz.Treating, Patient: "anna"}, true},
		{"another patient's", launched, fhir.Read, authz.Resource{Type: "Observation", Facts: authz.Treating, Patient: "bert"}, false},
		{"of no patient, or several", launched, fhir.Read, authz.Resource{Type: "Observation", Facts: authz.Treating}, false},
		{"of a type outside the compartment", launched, fhir.Read, authz.Resource{Type: "Practitioner", Facts: authz.Treating}, true},
		{"no grant", authz.Grant{}, fhir.Read, authz.Resource{Type: "Observation", Facts: authz.Treating}, false},
	} {
		d, err := e.Decide(ctx, c.g, c.i, c.r)
		if d.Permit != c.want || d.Permit && err != nil {
			t.Errorf("%s: %v, %v", c.what, d.Permit, err)
		}
	}
}

// So it does where a scope constrains: by the tokens of the content, and of nothing else.
func TestDecideHoldsContentAgainstTheScopes(t *testing.T) {
	e := authz.NewEngine(needsTreating{}, noClasses{}, func() time.Time { return time.Unix(0, 0) })
	ctx := context.Background()
	tokens := func(category string) []int64 {
		coding := element.NewObject(element.Field{Name: "system", Value: element.NewString("c")}, element.Field{Name: "code", Value: element.NewString(category)})
		concept := element.NewObject(element.Field{Name: "coding", Value: &element.Node{Kind: element.Array, Items: []*element.Node{coding}}})
		return search.Extract("Observation", element.NewObject(
			element.Field{Name: "status", Value: element.NewString("final")},
			element.Field{Name: "category", Value: &element.Node{Kind: element.Array, Items: []*element.Node{concept}}},
		)).Tokens
	}
	lab, vital := tokens("laboratory"), tokens("vital-signs")
	for _, c := range []struct {
		scope   string
		launch  fhir.ID
		r       authz.Resource
		want    bool
		without bool // constrained at all
	}{
		{"user/Observation.rs?category=c|laboratory", "", authz.Resource{Tokens: lab}, true, false},
		{"user/Observation.rs?category=c|laboratory", "", authz.Resource{Tokens: vital}, false, false},
		{"user/Observation.rs?category=c|laboratory", "", authz.Resource{}, false, false},
		{"user/Observation.rs?category=c|laboratory", "", authz.Resource{Deleted: true}, true, false},
		{"user/Observation.rs?category=d|laboratory", "", authz.Resource{Tokens: lab}, false, false},
		{"user/Observation.rs?category=laboratory&status=final", "", authz.Resource{Tokens: lab}, true, false},
		{"user/Observation.rs?category=laboratory&status=amended", "", authz.Resource{Tokens: lab}, false, false},
		{"user/Observation.rs?status=amended user/Observation.rs?category=vital-signs", "", authz.Resource{Tokens: vital}, true, false},
		{"patient/Observation.rs?category=laboratory", "anna", authz.Resource{Tokens: lab, Patient: "anna"}, true, false},
		{"patient/Observation.rs?category=laboratory", "anna", authz.Resource{Tokens: lab, Patient: "bert"}, false, false},
		{"patient/Observation.rs?category=laboratory", "anna", authz.Resource{Deleted: true, Patient: "bert"}, false, false},
		{"patient/Observation.rs?category=laboratory user/Observation.rs?status=final&category=vital-signs", "anna", authz.Resource{Tokens: vital, Patient: "bert"}, true, false},
		{"patient/Observation.rs?category=laboratory user/Observation.rs?status=final&category=vital-signs", "anna", authz.Resource{Tokens: lab, Patient: "bert"}, false, false},
		{"user/Observation.rs", "", authz.Resource{}, true, true},
	} {
		g, err := e.Authorize(ctx, authz.Principal{Tenant: 1, Subject: "s", Roles: []string{"therapist"}, Purpose: "TREAT", Patient: c.launch, Scopes: smart.Parse(c.scope)}, fhir.Read, "Observation")
		if err != nil {
			t.Fatal(err)
		}
		if got := authz.Constrained(g, fhir.Read, "Observation"); got == c.without {
			t.Errorf("%s: constrained %v", c.scope, got)
		}
		c.r.Type, c.r.Facts = "Observation", authz.Treating
		if d, err := e.Decide(ctx, g, fhir.Read, c.r); d.Permit != c.want || err != nil {
			t.Errorf("%s: %v, %v", c.scope, d.Permit, err)
		}
	}
	// What works on nothing but a whole type does not work with a part of it.
	p := authz.Principal{Tenant: 1, Subject: "s", Roles: []string{"therapist"}, Purpose: "TREAT", Scopes: smart.Parse("user/Task.u?status=draft user/Observation.rs")}
	g, err := e.Authorize(ctx, p, fhir.Read, "Observation")
	if err != nil {
		t.Fatal(err)
	}
	if err := authz.NewEngine(everything{}, noClasses{}, time.Now).Oversee(g); err == nil {
		t.Error("a part of the Tasks is enough to oversee access")
	}
	p.Scopes = smart.Parse("user/Task.u user/Observation.rs")
	if g, err = e.Authorize(ctx, p, fhir.Read, "Observation"); err != nil {
		t.Fatal(err)
	}
	if err := authz.NewEngine(everything{}, noClasses{}, time.Now).Oversee(g); err != nil {
		t.Error(err)
	}
}

type everything struct{ needsTreating }

func (everything) Permit(authz.Question) ([]authz.Fact, error) { return []authz.Fact{0}, nil }
