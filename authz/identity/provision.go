package identity

import (
	"context"
	"errors"
	"slices"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Provisioned is a member of staff as the directory of her practice has her.
type Provisioned struct {
	Account    string // "" for somebody new
	Email      string
	Name       string
	Membership Membership
	Active     bool
}

// Provision brings an account in line with the directory of a practice, which speaks for that practice alone: it
// makes, changes and ends the one membership of staff there. Any change ends the sessions of the account at once,
// and what was granted in them. Somebody who is not active, or has no role, is no member.
func (s *Service) Provision(ctx context.Context, by string, p Provisioned) (string, error) {
	email, ok := address(p.Email)
	if !ok {
		return "", outcome.New(outcome.Value, "the e-mail address is not one")
	}
	if err := checkName(p.Name); err != nil {
		return "", err
	}
	m := p.Membership
	m.Roles = slices.Compact(slices.Sorted(slices.Values(m.Roles)))
	wanted := p.Active && len(m.Roles) > 0
	if wanted {
		if err := checkMembership(m); err != nil {
			return "", err
		}
		if !m.Staff() {
			return "", outcome.New(outcome.Value, "a directory provides members of staff")
		}
	}
	r, err := s.provided(ctx, by, p.Account, email, p.Name)
	if err != nil {
		return "", err
	}
	changed := false
	for _, old := range r.Memberships {
		if old.Tenant != m.Tenant || !old.Staff() || wanted && old.User == m.User {
			continue
		}
		if err := s.store.RemoveMembership(ctx, r.ID, m.Tenant, old.User); err != nil {
			return "", unavailable(err)
		}
		changed = true
	}
	if wanted && !slices.ContainsFunc(r.Memberships, func(old Membership) bool { return same(old, m) }) {
		if err := s.store.PutMembership(ctx, r.ID, m); err != nil {
			return "", unavailable(err)
		}
		changed = true
	}
	// Only a practice that nobody shares the account with may call its owner by another name.
	if r.Name != p.Name && !slices.ContainsFunc(r.Memberships, func(old Membership) bool { return old.Tenant != m.Tenant }) {
		if err := s.store.SetName(ctx, r.ID, p.Name); err != nil {
			return "", unavailable(err)
		}
	}
	if changed {
		return r.ID, s.changed(ctx, by, r.ID, m)
	}
	return r.ID, nil
}

// provided finds or makes the account.
func (s *Service) provided(ctx context.Context, by, account, email, name string) (Record, error) {
	if account != "" {
		r, ok, err := s.store.Account(ctx, account)
		if err == nil && !ok {
			err = errNoAccount
		}
		return r, unavailable(err)
	}
	r, ok, err := s.store.AccountByEmail(ctx, email)
	if err != nil || ok {
		return r, unavailable(err)
	}
	a := Account{ID: newID(), Name: name, Email: email}
	err = s.store.CreateAccount(ctx, a, "", s.cfg.Now())
	if errors.Is(err, ErrTaken) { // a moment ago
		r, _, err = s.store.AccountByEmail(ctx, email)
		return r, unavailable(err)
	}
	if err != nil {
		return Record{}, unavailable(err)
	}
	return Record{Account: a}, s.note(ctx, a, From{}, audit.Security{Kind: audit.AccountCreated, By: by})
}

func same(a, b Membership) bool {
	sorted := func(list []string) []string { return slices.Sorted(slices.Values(list)) }
	ids := func(list []fhir.ID) []fhir.ID { return slices.Sorted(slices.Values(list)) }
	return a.Tenant == b.Tenant && a.User == b.User && slices.Equal(sorted(a.Roles), sorted(b.Roles)) && slices.Equal(ids(a.Organizations), ids(b.Organizations))
}
