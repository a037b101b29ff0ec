package authz_test

import (
	"context"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
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
