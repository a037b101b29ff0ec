package identity

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
)

// Recover sends a link for a new password to an address, if there is an account. What it
// answers, and how long that takes, is the same if there is none: all that depends on it happens afterwards.
//
// Links that were sent before stay good until they expire, so that whoever asks for many on
// behalf of somebody else takes nothing away from her.
func (s *Service) Recover(ctx context.Context, email string, from From) error {
	if s.cfg.Mail == nil {
		return errNoMail
	}
	email, valid := address(email)
	if !valid {
		return nil
	}
	now := s.cfg.Now()
	ok, err := s.store.Attempt(ctx, s.box.Mark("mail from", place(from.Address)), s.cfg.Limits.MailFrom, now)
	if err != nil {
		return unavailable(err)
	}
	if !ok {
		return s.refused(ctx, Account{}, from, audit.RecoveryAsked, audit.ReasonThrottled, ErrLocked)
	}
	after := context.WithoutCancel(ctx)
	s.mails.Go(func() {
		after, cancel := context.WithTimeout(after, time.Minute)
		defer cancel()
		if err := s.sendRecovery(after, email, from, now); err != nil {
			s.cfg.Log.Warn("a recovery link could not be sent", "error", err)
		}
	})
	return nil
}

func (s *Service) sendRecovery(ctx context.Context, email string, from From, now time.Time) error {
	r, ok, err := s.store.AccountByEmail(ctx, email)
	if err != nil {
		return err
	}
	if !ok || r.Disabled || r.Password == "" { // whoever signs in elsewhere recovers there
		return s.note(ctx, r.Account, from, audit.Security{Kind: audit.RecoveryAsked, Outcome: audit.Refused, Reason: audit.ReasonUnknown})
	}
	if ok, err := s.store.Attempt(ctx, s.box.Mark("mail", r.ID), s.cfg.Limits.Mail, now); err != nil || !ok {
		return err // the mails that were sent already are good
	}
	token := secret()
	if err := s.store.PutPending(ctx, Pending{Hash: digest(token), Purpose: pendingRecovery, Account: r.ID, Expires: now.Add(s.cfg.Recoveries)}); err != nil {
		return err
	}
	if err := s.note(ctx, r.Account, from, audit.Security{Kind: audit.RecoveryAsked}); err != nil {
		return err
	}
	return s.cfg.Mail.Send(ctx, r.Email, recoverySubject, fmt.Sprintf(recoveryText, s.cfg.Pages+"/recovery?token="+url.QueryEscape(token), lasting(s.cfg.Recoveries)))
}

// Reset sets a new password by a recovery link. It ends all sessions and all other links; a second factor
// that the account has is still asked for.
func (s *Service) Reset(ctx context.Context, token, password string, from From) (Step, error) {
	now := s.cfg.Now()
	pending, ok, err := s.store.TryPending(ctx, digest(token), pendingRecovery, 10*challengeTries, now)
	if err != nil {
		return Step{}, unavailable(err)
	}
	if !ok {
		return Step{}, ErrLink
	}
	r, ok, err := s.store.Account(ctx, pending.Account)
	if err != nil {
		return Step{}, unavailable(err)
	}
	if !ok || r.Disabled {
		return Step{}, ErrLink
	}
	if err := s.acceptable(password, r.Email); err != nil {
		return Step{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return Step{}, unavailable(err)
	}
	if _, ok, err := s.store.TakePending(ctx, digest(token), pendingRecovery, now); err != nil {
		return Step{}, unavailable(err)
	} else if !ok {
		return Step{}, ErrLink
	}
	if err := s.replacePassword(ctx, r, hash, "", from); err != nil {
		return Step{}, err
	}
	return s.proceed(ctx, r, progress{Methods: []string{methodPassword}, SignedIn: now.UTC()}, from)
}

// replacePassword sets a password and ends what the old one opened, but for one session.
func (s *Service) replacePassword(ctx context.Context, r Record, hash, but string, from From) error {
	if err := s.store.SetPassword(ctx, r.ID, hash, s.cfg.Now()); err != nil {
		return unavailable(err)
	}
	for _, p := range []Purpose{pendingRecovery, pendingChallenge} {
		if err := s.store.DropPending(ctx, r.ID, p); err != nil {
			return unavailable(err)
		}
	}
	list, err := s.store.EndSessions(ctx, r.ID, but)
	if err != nil {
		return unavailable(err)
	}
	over := make([]Ended, len(list))
	for i, id := range list {
		over[i] = Ended{r.ID, id}
	}
	if err := s.ended(ctx, over...); err != nil {
		return unavailable(err)
	}
	s.tell(r.Email, passwordChanged)
	return s.note(ctx, r.Account, from, audit.Security{Kind: audit.PasswordChanged})
}

// ChangePassword replaces the password of whoever holds a fresh session and knows the old one. All other
// sessions end.
func (s *Service) ChangePassword(ctx context.Context, token, old, password string, from From) error {
	h, err := s.holder(ctx, token)
	if err != nil {
		return err
	}
	if h.first {
		return ErrSession
	}
	if _, err := s.password(ctx, h.Email, old, from); err != nil {
		return err
	}
	if err := s.acceptable(password, h.Email); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return unavailable(err)
	}
	return s.replacePassword(ctx, h.Record, hash, h.session.ID, from)
}
