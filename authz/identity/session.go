package identity

import (
	"context"
	"errors"
	"slices"

	"github.com/cloister-health/cloister/authz/audit"
)

// Current finds the session of a token, with its account as it is now, and moves the idle
// limit. [ErrSession] if there is none, if it has ended, or if the account is disabled.
func (s *Service) Current(ctx context.Context, token string) (Session, Account, error) {
	if token == "" {
		return Session{}, Account{}, ErrSession
	}
	now := s.cfg.Now().UTC()
	session, ok, err := s.store.SessionByToken(ctx, digest(token), now, now.Add(s.cfg.Idle))
	if err != nil {
		return Session{}, Account{}, unavailable(err)
	}
	if !ok {
		return Session{}, Account{}, ErrSession
	}
	r, ok, err := s.store.Account(ctx, session.Account)
	if err != nil {
		return Session{}, Account{}, unavailable(err)
	}
	if !ok || r.Disabled {
		return Session{}, Account{}, ErrSession
	}
	return session, session.narrow(r.Account), nil
}

// narrow takes the memberships away that the provider of a session does not speak for: the
// provider of one practice must not open another.
func (s Session) narrow(a Account) Account {
	if s.Provider == "" {
		return a
	}
	a.Memberships = slices.DeleteFunc(slices.Clone(a.Memberships), func(m Membership) bool { return !slices.Contains(s.Practices, m.Practice) })
	return a
}

// Sessions lists the sessions of an account, the newest first.
func (s *Service) Sessions(ctx context.Context, account string) ([]Session, error) {
	list, err := s.store.Sessions(ctx, account, s.cfg.Now())
	return list, unavailable(err)
}

// EndSession ends one session of an account, and what was granted in it. One that has ended is no error.
func (s *Service) EndSession(ctx context.Context, account, id string) error {
	return s.endOne(ctx, account, id, audit.SessionsEnded)
}

// SignOut ends the session of a token.
func (s *Service) SignOut(ctx context.Context, token string) error {
	session, _, err := s.Current(ctx, token)
	if errors.Is(err, ErrSession) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.endOne(ctx, session.Account, session.ID, audit.SignOut)
}

func (s *Service) endOne(ctx context.Context, account, id string, kind audit.Kind) error {
	ok, err := s.store.EndSession(ctx, account, id)
	if err != nil || !ok {
		return unavailable(err)
	}
	if err := s.ended(ctx, Ended{account, id}); err != nil {
		return unavailable(err)
	}
	r, _, err := s.store.Account(ctx, account)
	if err != nil {
		return unavailable(err)
	}
	return s.note(ctx, r.Account, From{}, audit.Security{Kind: kind, Session: id})
}

// EndSessions ends all sessions of an account. by is who asked, where that was not the account.
func (s *Service) EndSessions(ctx context.Context, by, account string) error {
	r, ok, err := s.store.Account(ctx, account)
	if err != nil {
		return unavailable(err)
	}
	if !ok {
		return errNoAccount
	}
	return s.endAll(ctx, by, r.Account)
}

func (s *Service) endAll(ctx context.Context, by string, a Account) error {
	if _, err := s.store.EndSessions(ctx, a.ID, ""); err != nil {
		return unavailable(err)
	}
	if err := s.ended(ctx, Ended{Account: a.ID}); err != nil {
		return unavailable(err)
	}
	return s.note(ctx, a, From{}, audit.Security{Kind: audit.SessionsEnded, By: by})
}

// EndProvided ends what an identity provider opened, when it says that its session has ended
// (OpenID Connect Back-Channel Logout): of a subject, of one of its sessions, or of both.
func (s *Service) EndProvided(ctx context.Context, issuer, subject, sid string) error {
	if issuer == "" || subject == "" && sid == "" {
		return nil
	}
	list, err := s.store.EndProvided(ctx, issuer, subject, sid)
	if err != nil {
		return unavailable(err)
	}
	if err := s.ended(ctx, list...); err != nil {
		return unavailable(err)
	}
	for _, e := range list {
		r, _, err := s.store.Account(ctx, e.Account)
		if err != nil {
			return unavailable(err)
		}
		if err := s.note(ctx, r.Account, From{}, audit.Security{Kind: audit.SessionsEnded, Session: e.Session}); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes what has expired. It is called now and then, by any process.
func (s *Service) Sweep(ctx context.Context) error {
	list, err := s.store.Sweep(ctx, s.cfg.Now())
	if err != nil {
		return unavailable(err)
	}
	return unavailable(s.ended(ctx, list...))
}
