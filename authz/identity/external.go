package identity

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/cloister-health/cloister/authz/audit"
)

// External signs in whom an identity provider vouches for. The external identity must be linked to
// an account; an open invitation of a practice that the provider speaks for links it, if the provider says that
// the address which was invited is verified. An address alone links nothing: another practice's provider could claim it.
func (s *Service) External(ctx context.Context, x External, from From) (Step, error) {
	if x.Issuer == "" || x.Subject == "" {
		return Step{}, ErrUnlinked
	}
	r, linked, err := s.store.AccountByExternal(ctx, x.Issuer, x.Subject)
	if err != nil {
		return Step{}, unavailable(err)
	}
	if !linked {
		if r, err = s.link(ctx, x, from); err != nil {
			return Step{}, err
		}
	}
	if r.Disabled {
		return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonDisabled, ErrUnlinked)
	}
	if r, err = s.mapped(ctx, r, x, from); err != nil {
		return Step{}, err
	}
	now := s.cfg.Now().UTC()
	p := progress{Methods: methods(x.AMR), Provider: x.Issuer, Subject: x.Subject, SID: x.SessionID, Practices: slices.Clone(x.Practices), SignedIn: x.SignedIn.UTC()}
	if x.SignedIn.IsZero() || x.SignedIn.After(now) {
		p.SignedIn = now
	}
	// What counts is what this session opens: the memberships of practices that the provider speaks for.
	open := Session{Provider: x.Issuer, Practices: p.Practices}.narrow(r.Account)
	if len(open.Memberships) == 0 {
		return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonUnlinked, ErrUnlinked)
	}
	var asked Assurance
	if s.cfg.Assured != nil {
		asked = s.cfg.Assured(x.Issuer)
	}
	strong := several(x.AMR) || x.ACR != "" && slices.Contains(asked.ACR, x.ACR)
	p.Methods = slices.DeleteFunc(p.Methods, func(m string) bool { return m == methodSeveral })
	switch {
	case strong:
		p.Methods = append(p.Methods, methodSeveral)
		return s.open(ctx, r, p, from)
	case !open.Staff() && !s.cfg.PatientFactor && len(r.Factors()) == 0:
		return s.open(ctx, r, p, from)
	case !open.Staff() && !s.cfg.PatientFactor, asked.Own:
		r.Memberships = open.Memberships
		return s.proceed(ctx, r, p, from)
	}
	return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonFactor, ErrFactor)
}

// link finds the open invitation that an external identity is for, and joins.
func (s *Service) link(ctx context.Context, x External, from From) (Record, error) {
	refuse := func() (Record, error) {
		return Record{}, s.refused(ctx, Account{}, from, audit.SignIn, audit.ReasonUnlinked, ErrUnlinked)
	}
	email, ok := address(x.Email)
	if !ok || !x.EmailVerified {
		return refuse()
	}
	now := s.cfg.Now()
	if r, waits, err := s.waiting(ctx, email, x); err != nil {
		return Record{}, err
	} else if waits {
		if err := s.store.Link(ctx, x.Issuer, x.Subject, r.ID, now); err != nil {
			return Record{}, unavailable(err)
		}
		return r, s.note(ctx, r.Account, from, audit.Security{Kind: audit.AccountLinked})
	}
	list, err := s.store.OpenInvitations(ctx, email, now)
	if err != nil {
		return Record{}, unavailable(err)
	}
	for _, pending := range list {
		var i Invitation
		if err := json.Unmarshal(pending.Data, &i); err != nil {
			return Record{}, unavailable(err)
		}
		if !slices.Contains(x.Practices, i.Membership.Practice) {
			continue
		}
		r, exists, err := s.store.AccountByEmail(ctx, email)
		if err != nil {
			return Record{}, unavailable(err)
		}
		if exists && r.Disabled {
			return refuse()
		}
		if _, ok, err := s.store.TakePending(ctx, pending.Hash, pendingInvitation, now); err != nil {
			return Record{}, unavailable(err)
		} else if !ok {
			continue
		}
		name := x.Name
		if checkName(name) != nil {
			name = i.Name
		}
		if checkName(name) != nil {
			name = email
		}
		if r, err = s.join(ctx, r, i, name, "", from); err != nil {
			return Record{}, err
		}
		if err := s.store.Link(ctx, x.Issuer, x.Subject, r.ID, now); err != nil {
			return Record{}, unavailable(err)
		}
		return r, s.note(ctx, r.Account, from, audit.Security{Kind: audit.AccountLinked})
	}
	return refuse()
}

// waiting finds an account that was made for somebody who has not come yet, by a practice's directory or
// by the command line: nothing proves her yet, and all that it opens is what the provider speaks for.
func (s *Service) waiting(ctx context.Context, email string, x External) (Record, bool, error) {
	r, ok, err := s.store.AccountByEmail(ctx, email)
	if err != nil {
		return Record{}, false, unavailable(err)
	}
	waits := ok && !r.Disabled && r.Password == "" && len(r.Factors()) == 0 && !r.Linked && len(r.Memberships) > 0 &&
		!slices.ContainsFunc(r.Memberships, func(m Membership) bool { return !slices.Contains(x.Practices, m.Practice) })
	return r, waits, nil
}

// mapped brings the roles of the memberships that a provider speaks for in line with what it says.
// Only staff get roles so: a claim makes no patient a member of staff.
func (s *Service) mapped(ctx context.Context, r Record, x External, from From) (Record, error) {
	if x.Roles == nil {
		return r, nil
	}
	r.Memberships = slices.Clone(r.Memberships)
	for i, m := range r.Memberships {
		if !slices.Contains(x.Practices, m.Practice) || !m.Staff() {
			continue
		}
		roles := slices.Compact(slices.Sorted(slices.Values(x.Roles)))
		if slices.Equal(roles, slices.Sorted(slices.Values(m.Roles))) {
			continue
		}
		m.Roles = roles
		if err := checkMembership(m); err != nil || !m.Staff() {
			return r, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonNotPermitted, ErrUnlinked)
		}
		if err := s.store.PutMembership(ctx, r.ID, m); err != nil {
			return r, unavailable(err)
		}
		r.Memberships[i] = m
		changed := r.Account
		changed.Memberships = []Membership{m}
		if err := s.note(ctx, changed, from, audit.Security{Kind: audit.RolesChanged}); err != nil {
			return r, err
		}
	}
	return r, nil
}

// kinds of the methods of RFC 8176: what one knows, has, and is.
var methodKinds = map[string]int{
	"pwd": 1, "pin": 1, "kba": 1,
	"otp": 2, "sms": 2, "tel": 2, "hwk": 2, "swk": 2, "sc": 2, "pop": 2,
	"face": 3, "fpt": 3, "iris": 3, "retina": 3, "vbm": 3,
}

// several says that methods are of two kinds, or are called so by the provider.
func several(amr []string) bool {
	kinds := map[int]bool{}
	for _, m := range amr {
		if m == methodSeveral {
			return true
		}
		if k := methodKinds[m]; k > 0 {
			kinds[k] = true
		}
	}
	return len(kinds) > 1
}

// methods keeps what RFC 8176 could call a method: a provider's text goes into lists and the audit trail.
func methods(amr []string) []string {
	out := []string{}
	for _, m := range amr {
		ok := m != "" && len(m) <= 16
		for _, r := range m {
			ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-')
		}
		if ok && len(out) < 8 {
			out = append(out, m)
		}
	}
	return out
}
