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
	c := g.Caller()
	sets, err := e.policies.Of(c.Tenant).Policy.Permit(Question{c.Roles, c.Purpose, ActionUpdate, "Task", label.Oversight})
	if err != nil {
		return ErrDenied.Because(err)
	}
	if len(sets) != 1 || sets[0] != 0 {
		return ErrDenied
	}
	return nil
}
