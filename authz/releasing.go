package authz

import "github.com/cloister-health/cloister/authz/internal/issue"

// Releasing derives from g the grant under which a de-identified release is made for the same
// caller: it reaches what g's caller may reach, and what is read under it is for the release alone. A
// client that is registered with a profile gets it for that profile and for no other; under any
// other grant of such a client nothing can be planned, extended or decided.
func (e *Engine) Releasing(g Grant, profile string) (Grant, error) {
	if !g.Valid() || profile == "" || g.Releasing() != "" || g.Profile() != "" && g.Profile() != profile {
		return Grant{}, ErrDenied
	}
	return issue.Release(g, profile), nil
}
