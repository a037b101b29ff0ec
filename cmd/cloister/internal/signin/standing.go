package signin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/app"
	scopes "github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
)

// Standing refuses an app that may not do any more what a token of this server once let it:
// it was withdrawn, a practice took its approval back, it may ask for less, or it is
// registered with another release profile. Of apps that
// others let in nothing is known here.
func (s *SignIn) Standing(ctx context.Context, who authz.Frozen) error {
	if !strings.HasPrefix(who.Subject, s.base+"/smart|") {
		return nil
	}
	a, err := s.Store.App(ctx, who.Client)
	if errors.Is(err, smart.ErrNotFound) {
		return authz.ErrDenied
	}
	if err != nil {
		return err
	}
	approved := a.Everywhere || slices.ContainsFunc(a.Approvals, func(p app.Approval) bool { return p.Tenant == who.Tenant })
	if !a.Active() || !approved || !a.Backend() || a.Profile != who.Profile || !slices.Contains(a.Purposes, who.Purpose) ||
		slices.ContainsFunc(who.Roles, func(r string) bool { return !slices.Contains(a.Roles, r) }) ||
		slices.ContainsFunc(who.Organizations, func(o fhir.ID) bool { return !slices.Contains(a.Organizations, o) }) ||
		scopes.Narrow(strings.Join(a.Scopes, " "), who.Scopes) != who.Scopes {
		return authz.ErrDenied
	}
	return nil
}
