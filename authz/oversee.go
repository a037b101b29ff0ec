package authz

import (
	"github.com/cloister-health/cloister/authz/internal/issue"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// Oversee refuses whoever does not oversee access in the practice: whom no line
// of policy lets work on what is labelled [label.Oversight]. It depends on roles,
// purpose and scopes alone.
func (e *Engine) Oversee(g Grant) error {
	if !g.Valid() || issue.Closed(g) {
		return ErrDenied
	}
	if !issue.Whole(issue.Scoped(g, "Task", fhir.Update)) {
		return ErrDenied
	}
	return e.oversees(g.Caller())
}

func (e *Engine) oversees(c Caller) error {
	sets, err := e.policies.Of(c.Tenant).Policy.Permit(Question{c.Roles, c.Purpose, ActionUpdate, "Task", label.Oversight})
	if err != nil {
		return ErrDenied.Because(err)
	}
	if len(sets) != 1 || sets[0] != 0 {
		return ErrDenied
	}
	return nil
}

// trail is the type of what the server itself records of accesses. No line of policy can
// name it: whoever oversees access in the practice reads and searches it, and nobody else.
const trail fhir.ResourceType = "AuditEvent"

// Trail derives from g the grant of the same request for reading the audit trail, or
// refuses: nothing but read and search, whole scopes, and whoever oversees access.
func (e *Engine) Trail(g Grant, i fhir.Interaction) (Grant, error) {
	if !g.Valid() || issue.Closed(g) || i != fhir.Read && i != fhir.SearchType || !issue.Whole(issue.Scoped(g, trail, i)) {
		return Grant{}, ErrDenied
	}
	if err := e.oversees(g.Caller()); err != nil {
		return Grant{}, err
	}
	return issue.Extend(g, i), nil
}
