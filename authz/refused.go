package authz

import (
	"sort"

	"github.com/cloister-health/cloister/authz/internal/issue"
	"github.com/cloister-health/cloister/fhir"
)

// Refused issues the grant of a request that has been refused before it had
// one, so that the refusal can be recorded. It has no scopes: nothing can be
// planned, read, or written under it. It is not Valid for a principal without a practice
// or a subject, to whom no record can be ascribed.
func (e *Engine) Refused(p Principal, i fhir.Interaction) Grant {
	if p.Tenant <= 0 || p.Subject == "" {
		return Grant{}
	}
	c := Caller{
		Tenant: p.Tenant, Subject: p.Subject, Client: p.Client,
		Roles: append([]string(nil), p.Roles...), Purpose: p.Purpose, User: p.User,
		PolicyVersion: e.policies.Of(p.Tenant).Policy.Version(), Now: e.now().UTC(), RequestID: p.RequestID,
	}
	sort.Strings(c.Roles)
	for _, o := range p.Organizations {
		c.Organizations = append(c.Organizations, string(o))
	}
	return issue.NewGrant(c, nil, "", i)
}
