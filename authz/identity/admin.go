package identity

import (
	"context"
	"errors"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// errTaken is for administrators, who may know which addresses have accounts.
var errTaken = outcome.New(outcome.Conflict, "there is an account with this address already")

// Find gives an account by its address, for the command line.
func (s *Service) Find(ctx context.Context, email string) (Account, error) {
	email, _ = address(email)
	r, ok, err := s.store.AccountByEmail(ctx, email)
	if err != nil {
		return Account{}, unavailable(err)
	}
	if !ok {
		return Account{}, errNoAccount
	}
	return r.Account, nil
}

// Account gives an account by its id.
func (s *Service) Account(ctx context.Context, id string) (Account, error) {
	r, ok, err := s.store.Account(ctx, id)
	if err != nil {
		return Account{}, unavailable(err)
	}
	if !ok {
		return Account{}, errNoAccount
	}
	return r.Account, nil
}

// Accounts lists the members of a practice; 0 lists all accounts.
func (s *Service) Accounts(ctx context.Context, tenant int32) ([]Account, error) {
	list, err := s.store.Accounts(ctx, tenant)
	return list, unavailable(err)
}

// Create makes an account with memberships. password may be "", for somebody who will be invited or
// signs in with an external identity. by is who makes it.
func (s *Service) Create(ctx context.Context, by string, a Account, password string) (Account, error) {
	email, ok := address(a.Email)
	if !ok {
		return Account{}, outcome.New(outcome.Value, "the e-mail address is not one")
	}
	if err := checkName(a.Name); err != nil {
		return Account{}, err
	}
	for _, m := range a.Memberships {
		if err := checkMembership(m); err != nil {
			return Account{}, err
		}
	}
	var hash string
	if password != "" {
		if err := s.acceptable(password, email); err != nil {
			return Account{}, err
		}
		var err error
		if hash, err = s.hasher.hash(ctx, password); err != nil {
			return Account{}, unavailable(err)
		}
	}
	a.ID, a.Email, a.Disabled = newID(), email, false
	err := s.store.CreateAccount(ctx, a, hash, s.cfg.Now())
	if errors.Is(err, ErrTaken) {
		return Account{}, errTaken
	}
	if err != nil {
		return Account{}, unavailable(err)
	}
	return a, s.note(ctx, a, From{}, audit.Security{Kind: audit.AccountCreated, By: by})
}

// Disable ends the sessions of an account, at once, and lets nobody into it; or ends that.
func (s *Service) Disable(ctx context.Context, by, account string, disabled bool) error {
	r, ok, err := s.store.Account(ctx, account)
	if err != nil {
		return unavailable(err)
	}
	if !ok {
		return errNoAccount
	}
	if err := s.store.SetDisabled(ctx, account, disabled); err != nil {
		return unavailable(err)
	}
	kind := audit.AccountEnabled
	if disabled {
		kind = audit.AccountDisabled
		if err := s.ended(ctx, Ended{Account: account}); err != nil {
			return unavailable(err)
		}
	}
	return s.note(ctx, r.Account, From{}, audit.Security{Kind: kind, By: by})
}

// Join makes an account a member of a practice, or changes what it is there. Where that takes something
// away, its sessions end, so that no token goes on with what was.
func (s *Service) Join(ctx context.Context, by, account string, m Membership) error {
	if err := checkMembership(m); err != nil {
		return err
	}
	if err := s.store.PutMembership(ctx, account, m); err != nil {
		return unavailable(err)
	}
	return s.changed(ctx, by, account, m)
}

// Leave ends all memberships of an account in a practice, and its sessions.
func (s *Service) Leave(ctx context.Context, by, account string, tenant int32) error {
	if err := s.store.RemoveMemberships(ctx, account, tenant); err != nil {
		return unavailable(err)
	}
	return s.changed(ctx, by, account, Membership{Tenant: tenant})
}

func (s *Service) changed(ctx context.Context, by, account string, m Membership) error {
	if err := s.note(ctx, Account{ID: account, Memberships: []Membership{m}}, From{}, audit.Security{Kind: audit.RolesChanged, By: by}); err != nil {
		return err
	}
	if _, err := s.store.EndSessions(ctx, account, ""); err != nil {
		return unavailable(err)
	}
	return unavailable(s.ended(ctx, Ended{Account: account}))
}
