package authz

import (
	"context"
	"fmt"
	"sort"

	"github.com/cloister-health/cloister/authz/internal/issue"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// Outbound is [Engine.Reach] for what leaves in bulk: psychotherapy notes and SUD
// counseling notes are in none of it, whatever policy and consent say (45 CFR
// 164.508(a)(2), 42 CFR 2.31(b) let them out one disclosure at a time).
func (e *Engine) Outbound(ctx context.Context, g Grant, i fhir.Interaction, types ...fhir.ResourceType) (Reach, error) {
	out := Reach{grant: g, of: make(map[fhir.ResourceType]Restriction, len(types))}
	for _, t := range types {
		r, err := e.Plan(ctx, g, i, t)
		if err != nil {
			return Reach{}, err
		}
		// The catalogue only grows: it knows every class that r was planned with.
		out.of[t] = issue.Without(r, label.Notes, e.classes.LabelClasses())
	}
	return out, nil
}

// Backend are scopes that can be kept, and that know whom they are for.
type Backend interface {
	Scopes
	fmt.Stringer
	// System reports whether all of them are for a client that acts for itself
	// (SMART Backend Services, system/), and there are some.
	System() bool
}

// Frozen is the principal of a grant, kept for work that goes on after its request.
// It is no permission: whoever goes on asks [Engine.Authorize] for that anew.
type Frozen struct {
	Tenant        int32     `json:"tenant"`
	Subject       string    `json:"subject"`
	Client        string    `json:"client,omitempty"`
	Roles         []string  `json:"roles"`
	Purpose       string    `json:"purpose"`
	User          fhir.Ref  `json:"user,omitzero"`
	Organizations []fhir.ID `json:"organizations,omitempty"`
	Scopes        string    `json:"scopes"`
	Profile       string    `json:"profile,omitempty"` // the release profile of the client
	Policy        string    `json:"policy"`            // version of the policy at that time
	RequestID     string    `json:"request"`           // of the request that began the work
}

// Freeze keeps the principal of a grant. It refuses everybody but a client that acts for
// itself: what a user or a patient lets an app do ends with the token that says so.
func Freeze(g Grant) (Frozen, error) {
	scopes, ok := issue.ScopesOf(g).(Backend)
	if !ok || !scopes.System() {
		return Frozen{}, ErrDenied
	}
	c := g.Caller()
	f := Frozen{
		Tenant: c.Tenant, Subject: c.Subject, Client: c.Client, Roles: c.Roles, Purpose: c.Purpose, User: c.User,
		Scopes: scopes.String(), Profile: g.Profile(), Policy: c.PolicyVersion, RequestID: c.RequestID,
	}
	for _, o := range c.Organizations {
		f.Organizations = append(f.Organizations, fhir.ID(o))
	}
	sort.Strings(f.Roles)
	return f, nil
}

// Principal is f as who asks now; parse reads scopes from their text.
func (f Frozen) Principal(parse func(string) Scopes) Principal {
	return Principal{
		Tenant: f.Tenant, Subject: f.Subject, Client: f.Client, Roles: f.Roles, Purpose: f.Purpose, User: f.User,
		Organizations: f.Organizations, Scopes: parse(f.Scopes), Profile: f.Profile, RequestID: f.RequestID,
	}
}

// Covers reports whether the scopes of g cover an interaction on a type. Policy has no say in
// it: it is for what is not in the record.
func Covers(g Grant, i fhir.Interaction, t fhir.ResourceType) bool {
	return g.Valid() && !issue.Closed(g) && len(issue.Scoped(g, t, i)) > 0
}
