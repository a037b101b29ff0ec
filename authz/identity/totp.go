package identity

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// period is that of RFC 6238, and of every authenticator app.
const period = 30 * time.Second

// step is the step of RFC 6238 that code is for: this one, the one before or the one after.
func step(secret, code string, now time.Time) (int64, bool) {
	code = strings.ReplaceAll(code, " ", "")
	current := now.Unix() / int64(period/time.Second)
	found := int64(-1)
	for n := current - 1; n <= current+1; n++ {
		// Every step is tried, and each compared in constant time.
		if ok, err := hotp.ValidateCustom(code, uint64(n), secret, hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1}); err == nil && ok { //nolint:gosec // not before 1970
			found = n
		}
	}
	return found, found >= 0
}

func aboutTOTP(account string) string { return "totp " + account }

// TOTP is the second step with a one-time code. Of all who show one code, one is let in.
func (s *Service) TOTP(ctx context.Context, challenge, code string, from From) (Step, error) {
	r, p, err := s.challenged(ctx, challenge)
	if err != nil {
		return Step{}, err
	}
	if p.Enrol || r.TOTP == nil {
		return Step{}, ErrWrong
	}
	key, ok, err := s.secondAllowed(ctx, r.ID, from)
	if err != nil {
		return Step{}, err
	}
	if !ok {
		return Step{}, s.refused(ctx, r.Account, from, audit.Locked, audit.ReasonThrottled, ErrLocked)
	}
	plain, err := s.box.Open(r.TOTP, aboutTOTP(r.ID))
	if err != nil {
		return Step{}, unavailable(err)
	}
	n, ok := step(string(plain), code, s.cfg.Now())
	if !ok {
		return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonCredential, ErrWrong)
	}
	used, err := s.store.UseTOTP(ctx, r.ID, n)
	if err != nil {
		return Step{}, unavailable(err)
	}
	if !used {
		return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonReplay, ErrWrong)
	}
	return s.second(ctx, challenge, r, p, key, from, methodOTP)
}

// second ends the challenge and opens the session.
func (s *Service) second(ctx context.Context, challenge string, r Record, p progress, key []byte, from From, method string) (Step, error) {
	if err := s.take(ctx, challenge); err != nil {
		return Step{}, err
	}
	if key != nil {
		if err := s.store.Forget(ctx, key); err != nil {
			return Step{}, unavailable(err)
		}
	}
	p.Methods = append(slices.Clone(p.Methods), method, methodSeveral)
	return s.open(ctx, r, p, from)
}

// enrolment is what EnrolTOTP and EnrolPasskey remember until they are confirmed.
type enrolment struct {
	Factor  Factor          `json:"factor"`
	Secret  []byte          `json:"secret,omitempty"` // sealed
	Session json.RawMessage `json:"session,omitempty"`
}

// enrolmentName is under what an enrolment is kept: of one challenge or session, one per factor.
func enrolmentName(f Factor, holder string) []byte {
	return digest("enrol " + string(f) + " " + holder)
}

// holder is who enrols a factor: somebody at a first sign-in, who has none yet, or somebody who is signed in.
type holder struct {
	Record
	progress progress
	session  Session // or zero
	first    bool    // only as long as there is no factor
}

// holder finds who holds a challenge to enrol, or the token of a fresh session. A challenge
// that asks for a factor is no leave to add one.
func (s *Service) holder(ctx context.Context, challengeOrSession string) (holder, error) {
	session, _, err := s.Current(ctx, challengeOrSession)
	if err == nil {
		if s.cfg.Now().Sub(session.SignedIn) > s.cfg.Fresh {
			return holder{}, ErrStale
		}
		r, ok, err := s.store.Account(ctx, session.Account)
		if err != nil {
			return holder{}, unavailable(err)
		}
		if !ok {
			return holder{}, ErrSession
		}
		if closed(r, session.Provider, session.Practices) {
			return holder{}, errProvided
		}
		return holder{Record: r, session: session}, nil
	}
	if !errors.Is(err, ErrSession) {
		return holder{}, err
	}
	pending, ok, err := s.store.TryPending(ctx, digest(challengeOrSession), pendingChallenge, 4*challengeTries, s.cfg.Now())
	if err != nil {
		return holder{}, unavailable(err)
	}
	if !ok {
		return holder{}, ErrChallenge
	}
	r, p, err := s.resume(ctx, pending)
	if err != nil {
		return holder{}, err
	}
	if !p.Enrol || len(r.Factors()) > 0 {
		return holder{}, ErrChallenge
	}
	if closed(r, p.Provider, p.Practices) {
		return holder{}, errProvided
	}
	return holder{Record: r, progress: p, first: true}, nil
}

// errProvided refuses to change factors to whoever came in by a provider that does not speak for the whole account.
var errProvided = outcome.New(outcome.Forbidden, "sign in with your password or a passkey of this server to change how you sign in")

// closed says that a provider does not speak for all that an account opens: with a factor of ours
// it could open what it does not speak for.
func closed(r Record, provider string, practices []string) bool {
	if provider == "" {
		return false
	}
	return r.Password != "" || len(r.Passkeys) > 0 || len(Session{Provider: provider, Practices: practices}.narrow(r.Account).Memberships) < len(r.Memberships)
}

// EnrolTOTP makes a secret for an authenticator app. The argument is the id of a challenge that
// says Enrol, or the token of a session that is fresh.
func (s *Service) EnrolTOTP(ctx context.Context, challengeOrSession string) (secret, uri string, err error) {
	h, err := s.holder(ctx, challengeOrSession)
	if err != nil {
		return "", "", err
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: s.cfg.Title, AccountName: h.Email, Period: uint(period / time.Second), SecretSize: 20, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return "", "", unavailable(err)
	}
	if err := s.remember(ctx, h, challengeOrSession, enrolment{Factor: TOTP, Secret: s.box.Seal([]byte(key.Secret()), aboutTOTP(h.ID))}); err != nil {
		return "", "", err
	}
	return key.Secret(), key.URL(), nil
}

func (s *Service) remember(ctx context.Context, h holder, challengeOrSession string, e enrolment) error {
	data, err := json.Marshal(e) //nolint:gosec // its secret is sealed
	if err != nil {
		return unavailable(err)
	}
	return unavailable(s.store.PutPending(ctx, Pending{
		Hash: enrolmentName(e.Factor, challengeOrSession), Purpose: pendingEnrolment, Account: h.ID, Data: data, Expires: s.cfg.Now().Add(2 * ChallengeLife),
	}))
}

// enrolling finds an enrolment that was begun, and counts the attempt.
func (s *Service) enrolling(ctx context.Context, f Factor, h holder, challengeOrSession string) (enrolment, error) {
	var e enrolment
	p, ok, err := s.store.TryPending(ctx, enrolmentName(f, challengeOrSession), pendingEnrolment, challengeTries, s.cfg.Now())
	if err != nil {
		return e, unavailable(err)
	}
	if !ok || p.Account != h.ID {
		return e, ErrChallenge
	}
	if err := json.Unmarshal(p.Data, &e); err != nil {
		return e, unavailable(err)
	}
	return e, nil
}

// ConfirmTOTP shows that the app has the secret, which from then on is a factor. At a first
// sign-in it is the second step, too.
func (s *Service) ConfirmTOTP(ctx context.Context, challengeOrSession, code string, from From) (Step, error) {
	h, err := s.holder(ctx, challengeOrSession)
	if err != nil {
		return Step{}, err
	}
	e, err := s.enrolling(ctx, TOTP, h, challengeOrSession)
	if err != nil {
		return Step{}, err
	}
	plain, err := s.box.Open(e.Secret, aboutTOTP(h.ID))
	if err != nil {
		return Step{}, unavailable(err)
	}
	n, ok := step(string(plain), code, s.cfg.Now())
	if !ok {
		return Step{}, ErrWrong
	}
	return s.enrolled(ctx, h, TOTP, methodOTP, challengeOrSession, from, func() (bool, error) {
		return s.store.SetTOTP(ctx, h.ID, e.Secret, n, h.first)
	})
}

// enrolled keeps a factor that was confirmed, tells its owner, and goes on.
func (s *Service) enrolled(ctx context.Context, h holder, f Factor, method, challengeOrSession string, from From, keep func() (bool, error)) (Step, error) {
	if h.first {
		if err := s.take(ctx, challengeOrSession); err != nil {
			return Step{}, err
		}
	}
	if _, ok, err := s.store.TakePending(ctx, enrolmentName(f, challengeOrSession), pendingEnrolment, s.cfg.Now()); err != nil {
		return Step{}, unavailable(err)
	} else if !ok {
		return Step{}, ErrChallenge
	}
	ok, err := keep()
	if err != nil {
		return Step{}, unavailable(err)
	}
	if !ok {
		return Step{}, ErrChallenge
	}
	if err := s.note(ctx, h.Account, from, audit.Security{Kind: audit.FactorAdded, Methods: []string{method}, Session: h.session.ID}); err != nil {
		return Step{}, err
	}
	if !h.first {
		s.tell(h.Email, factorAdded)
		return Step{Token: challengeOrSession, Session: h.session}, nil
	}
	h.progress.Methods = append(slices.Clone(h.progress.Methods), method, methodSeveral)
	return s.open(ctx, h.Record, h.progress, from)
}
