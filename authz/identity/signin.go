package identity

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
)

// The authentication methods of RFC 8176 that sessions name.
const (
	methodPassword = "pwd"
	methodOTP      = "otp"
	methodHardware = "hwk" // a passkey that stays on its device
	methodSoftware = "swk" // a passkey that is synchronised
	methodSeveral  = "mfa"
)

// deviceLife is how long a browser is known.
const deviceLife = 180 * 24 * time.Hour

// challengeTries is how many second steps one first step is good for.
const challengeTries = 5

// progress is what a challenge remembers of the steps before it.
type progress struct {
	Methods   []string  `json:"methods"`
	Provider  string    `json:"provider,omitempty"`
	Subject   string    `json:"subject,omitempty"` // at the provider
	SID       string    `json:"sid,omitempty"`
	Practices []string  `json:"practices,omitempty"`
	SignedIn  time.Time `json:"signedIn"`
	Enrol     bool      `json:"enrol,omitempty"`
}

// Password is the first step with an e-mail address and a password. It answers [ErrWrong] or
// [ErrLocked], each the same whether or not there is such an account, after the same work.
func (s *Service) Password(ctx context.Context, email, password string, from From) (Step, error) {
	r, err := s.password(ctx, email, password, from)
	if err != nil {
		return Step{}, err
	}
	return s.proceed(ctx, r, progress{Methods: []string{methodPassword}, SignedIn: s.cfg.Now().UTC()}, from)
}

// password finds the account that an address and a password belong to.
func (s *Service) password(ctx context.Context, email, password string, from From) (Record, error) {
	email, valid := address(email)
	var r Record
	if valid {
		var err error
		if r, _, err = s.store.AccountByEmail(ctx, email); err != nil {
			return Record{}, unavailable(err)
		}
	}
	v, ok, err := s.admit(ctx, r.ID, email, from)
	if err != nil {
		return Record{}, err
	}
	if !ok {
		return Record{}, s.refused(ctx, r.Account, from, audit.Locked, audit.ReasonThrottled, ErrLocked)
	}
	right, stale, err := s.hasher.verify(ctx, r.Password, password)
	switch {
	case err != nil:
		return Record{}, unavailable(err)
	case r.ID == "":
		return Record{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonUnknown, ErrWrong)
	case !right:
		return Record{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonCredential, ErrWrong)
	case r.Disabled:
		return Record{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonDisabled, ErrWrong)
	}
	if err := s.succeeded(ctx, v); err != nil {
		return Record{}, err
	}
	if stale {
		if err := s.rehash(ctx, r, password); err != nil {
			return Record{}, err
		}
	}
	return r, nil
}

// rehash brings a stored hash up to today's costs, while the password is at hand.
func (s *Service) rehash(ctx context.Context, r Record, password string) error {
	h, err := s.hasher.hash(ctx, password)
	if err != nil {
		return unavailable(err)
	}
	return unavailable(s.store.SetPassword(ctx, r.ID, h, s.cfg.Now()))
}

// proceed asks for what is still lacking, or opens the session.
func (s *Service) proceed(ctx context.Context, r Record, p progress, from From) (Step, error) {
	if slices.Contains(p.Methods, methodSeveral) {
		return s.open(ctx, r, p, from)
	}
	needs := r.Factors()
	if len(needs) == 0 {
		if !s.cfg.PatientFactor && !r.Staff() {
			return s.open(ctx, r, p, from)
		}
		needs, p.Enrol = []Factor{Passkey, TOTP}, true
		if s.keys == nil {
			needs = []Factor{TOTP}
		}
	}
	data, err := json.Marshal(p)
	if err != nil {
		return Step{}, unavailable(err)
	}
	id := secret()
	if err := s.store.PutPending(ctx, Pending{Hash: digest(id), Purpose: pendingChallenge, Account: r.ID, Data: data, Expires: s.cfg.Now().Add(ChallengeLife)}); err != nil {
		return Step{}, unavailable(err)
	}
	return Step{Challenge: &Challenge{ID: id, Needs: needs, Enrol: p.Enrol}}, nil
}

// challenged finds what a challenge was about, and counts the attempt.
func (s *Service) challenged(ctx context.Context, challenge string) (Record, progress, error) {
	pending, ok, err := s.store.TryPending(ctx, digest(challenge), pendingChallenge, challengeTries, s.cfg.Now())
	if err != nil {
		return Record{}, progress{}, unavailable(err)
	}
	if !ok {
		return Record{}, progress{}, ErrChallenge
	}
	return s.resume(ctx, pending)
}

// resume reads what a pending step knows, and the account as it is now.
func (s *Service) resume(ctx context.Context, pending Pending) (Record, progress, error) {
	var p progress
	if err := json.Unmarshal(pending.Data, &p); err != nil {
		return Record{}, p, unavailable(err)
	}
	r, ok, err := s.store.Account(ctx, pending.Account)
	if err != nil {
		return Record{}, p, unavailable(err)
	}
	if !ok || r.Disabled {
		return Record{}, p, ErrChallenge
	}
	return r, p, nil
}

// take ends a challenge that was met; somebody else may have ended it a moment ago.
func (s *Service) take(ctx context.Context, challenge string) error {
	_, ok, err := s.store.TakePending(ctx, digest(challenge), pendingChallenge, s.cfg.Now())
	if err != nil {
		return unavailable(err)
	}
	if !ok {
		return ErrChallenge
	}
	return nil
}

// open records the sign-in and opens the session: in that order, so that there is no session without a record of it.
func (s *Service) open(ctx context.Context, r Record, p progress, from From) (Step, error) {
	now := s.cfg.Now().UTC()
	token := secret()
	session := Session{
		ID: newID(), Account: r.ID, SignedIn: p.SignedIn, Methods: p.Methods, Provider: p.Provider, Practices: p.Practices,
		Idle: now.Add(s.cfg.Idle), Absolute: now.Add(s.cfg.Absolute), Client: agent(from.Agent),
	}
	if err := s.note(ctx, session.narrow(r.Account), from, audit.Security{Kind: audit.SignIn, Session: session.ID, Methods: p.Methods}); err != nil {
		return Step{}, err
	}
	ok, err := s.store.OpenSession(ctx, session, digest(token), p.Subject, p.SID)
	if err != nil {
		return Step{}, unavailable(err)
	}
	if !ok { // disabled since the first step
		return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonDisabled, ErrWrong)
	}
	step := Step{Token: token, Session: session}
	known, err := s.known(ctx, r.ID, from)
	if err != nil {
		return Step{}, err
	}
	if !known {
		step.Device = secret()
		if err := s.store.Know(ctx, r.ID, digest(step.Device), now.Add(deviceLife)); err != nil {
			return Step{}, unavailable(err)
		}
	}
	return step, nil
}

// longestAgent is how much of a User-Agent a list of sessions shows.
const longestAgent = 200

func agent(s string) string {
	out := make([]rune, 0, min(len(s), longestAgent))
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			continue
		}
		if out = append(out, r); len(out) == longestAgent {
			break
		}
	}
	return string(out)
}
