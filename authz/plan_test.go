package authz_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
)

// rule is a policy that a test changes: it permits reading the labels to the role.
type rule struct {
	version string
	role    string
	labels  label.Set
	// everybody may read what has no labels.
	everybody bool
	broken    bool
	asked     int
}

func (p *rule) Version() string { return p.version }

func (*rule) Asked() []label.Set { return nil }

func (p *rule) Permit(q authz.Question) ([]authz.Fact, error) {
	p.asked++
	if p.broken && q.Labels != 0 {
		return nil, errors.New("out of order")
	}
	if p.everybody && q.Labels == 0 || slices.Contains(q.Roles, p.role) && q.Labels&^p.labels == 0 {
		return []authz.Fact{0}, nil
	}
	return nil, nil
}

type classes map[int16]label.Set

func (c *classes) LabelClasses() map[int16]label.Set { return *c }

func planFor(t *testing.T, e *authz.Engine, roles ...string) ([]authz.Arm, error) {
	t.Helper()
	p := authz.Principal{Tenant: 1, Subject: "test|x", Roles: roles, Purpose: "TREAT", Scopes: smart.Parse("system/*.rs")}
	g, err := e.Authorize(context.Background(), p, fhir.Read, "Observation")
	if err != nil {
		return nil, err
	}
	r, err := e.Plan(context.Background(), g, fhir.Read, "Observation")
	return r.Arms(), err
}

func TestPlanFollowsPolicyAndClasses(t *testing.T) {
	policy := &rule{version: "1", role: "therapist", labels: label.SUD}
	known := classes{1: 0, 2: label.SUD}
	e := authz.NewEngine(policy, &known, func() time.Time { return time.Unix(1e9, 0) })
	want := func(what string, roles []string, classes ...int16) {
		t.Helper()
		for range 2 { // compiled, then remembered
			arms, err := planFor(t, e, roles...)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if len(arms) != 1 || !slices.Equal(arms[0].Classes, classes) {
				t.Errorf("%s: the arms are %v, want the classes %v", what, arms, classes)
			}
			arms[0].Classes[0] = 99 // a copy: the next caller does not see this
		}
	}
	want("at first", []string{"therapist"}, 1, 2)
	before := policy.asked
	want("again", []string{"therapist"}, 1, 2)
	if got := policy.asked - before; got > 2 { // Authorize asks once
		t.Errorf("a remembered plan asked the policy %d times", got)
	}
	known = classes{1: 0, 2: label.SUD, 3: label.SUD}
	want("with a new class", []string{"therapist"}, 1, 2, 3)
	known = classes{1: 0, 2: label.SUD, 3: label.HIV}
	want("with other classes, as many", []string{"therapist"}, 1, 2)
	policy.version, policy.labels = "2", 0
	want("under a new policy", []string{"therapist"}, 1)
	known = classes{1: 0, 2: label.SUD}
	policy.version, policy.labels, policy.role, policy.everybody = "3", label.SUD, "biller", true
	want("for two roles", []string{"therapist", "biller"}, 1, 2)
	// One role that reads like two is none that anybody knows, and opens nothing.
	for _, role := range []string{"therapistbiller", "therapist,biller", "therapist biller", "therapist\x00biller", `therapist""biller`, `"therapist""biller"`, "therapist\"\"biller"} {
		if arms, err := planFor(t, e, role); err == nil || arms != nil {
			t.Errorf("for the one role %s: %v", role, arms)
		}
		p := authz.Principal{Tenant: 1, Subject: "test|x", Roles: []string{role}, Purpose: "TREAT", Scopes: smart.Parse("system/*.rs")}
		g, err := e.Authorize(context.Background(), p, fhir.Batch, "")
		if err != nil {
			t.Fatal(err)
		}
		if r, err := e.Plan(context.Background(), g, fhir.Read, "Observation"); err != nil || !r.Empty() {
			t.Errorf("for the one role %s: the plan of another caller, %v, %v", role, r.Arms(), err)
		}
	}
}

func TestBrokenPolicyIsNotRemembered(t *testing.T) {
	policy := &rule{version: "1", role: "therapist", broken: true}
	e := authz.NewEngine(policy, &classes{1: 0, 2: label.SUD}, func() time.Time { return time.Unix(1e9, 0) })
	if _, err := planFor(t, e, "therapist"); err == nil {
		t.Fatal("a policy that fails permits")
	}
	policy.broken = false
	if arms, err := planFor(t, e, "therapist"); err != nil || len(arms) != 1 || !slices.Equal(arms[0].Classes, []int16{1}) {
		t.Errorf("after the failure: %v, %v", arms, err)
	}
}
