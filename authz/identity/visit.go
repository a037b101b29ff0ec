package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
)

// VisitLife is how long a sign-in at an identity provider may take.
const VisitLife = 10 * time.Minute

// Visit is a sign-in at an identity provider that one browser began. The browser keeps it, sealed, in a cookie: whoever begins one
// costs the server nothing, and the answer of a provider is good in that browser alone.
type Visit struct {
	Provider string         `json:"provider"`         // by name
	Return   string         `json:"return,omitempty"` // the interaction in which it happens
	MaxAge   *time.Duration `json:"maxAge,omitempty"` // how old the sign-in at the provider may be; nil: any age
	Begun    time.Time      `json:"begun"`
	Secret   string         `json:"secret"`
}

// State goes to the provider and comes back with the browser (RFC 6749, 4.1.1). Nobody who sees it, the nonce or the verifier knows
// another of them, or the secret that they come from.
func (v Visit) State() string { return v.derive("state") }

// Nonce is bound into the ID token (OpenID Connect Core 1.0, 3.1.2.1).
func (v Visit) Nonce() string { return v.derive("nonce") }

// Verifier is the code verifier of PKCE (RFC 7636, 4.1).
func (v Visit) Verifier() string { return v.derive("verifier") }

func (v Visit) derive(what string) string {
	h := hmac.New(sha256.New, []byte(v.Secret))
	_, _ = h.Write([]byte(what)) // a hash takes all
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// aboutVisit is what a sealed visit is.
const aboutVisit = "visit to a provider"

// Depart begins a visit, and gives the value of the cookie that it comes back with.
func (s *Service) Depart(v Visit) (Visit, string, error) {
	v.Begun, v.Secret = s.cfg.Now().UTC(), secret()
	plain, err := json.Marshal(v) //nolint:gosec // it leaves this function sealed
	if err != nil {
		return Visit{}, "", unavailable(err)
	}
	return v, base64.RawURLEncoding.EncodeToString(s.box.Seal(plain, aboutVisit)), nil
}

// Arrive finds the visit of a browser that comes back from a provider, once. state is what the provider sent along. The error is
// [ErrVisit] if the browser began none, or not this one, or too long ago, or has come back from it before.
func (s *Service) Arrive(ctx context.Context, cookie, state string, from From) (Visit, error) {
	var v Visit
	sealed, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return Visit{}, ErrVisit
	}
	plain, err := s.box.Open(sealed, aboutVisit)
	if err != nil || json.Unmarshal(plain, &v) != nil {
		return Visit{}, ErrVisit
	}
	now := s.cfg.Now()
	// Counted before anything is asked or recorded; a sign-in that succeeds takes its own back.
	ok, err := s.store.Attempt(ctx, s.visits(from), s.cfg.Limits.Address, now)
	if err != nil {
		return Visit{}, unavailable(err)
	}
	if !ok {
		return Visit{}, ErrLocked
	}
	refuse := func(reason audit.Reason) (Visit, error) {
		return Visit{}, s.refused(ctx, Account{}, from, audit.SignIn, reason, ErrVisit)
	}
	if now.Sub(v.Begun) >= VisitLife || now.Before(v.Begun) {
		return refuse(audit.ReasonExpired)
	}
	if subtle.ConstantTimeCompare([]byte(state), []byte(v.State())) != 1 {
		return refuse(audit.ReasonProvider)
	}
	ok, err = s.store.Attempt(ctx, s.box.Mark("visit", v.Secret), Limit{Free: 1, Window: VisitLife}, now)
	if err != nil {
		return Visit{}, unavailable(err)
	}
	if !ok {
		return refuse(audit.ReasonReplay)
	}
	return v, nil
}

// visits is under what the arrivals from an address are counted.
func (s *Service) visits(from From) []byte { return s.box.Mark("visits", place(from.Address)) }

// Rejected records that the answer of a provider was not good.
func (s *Service) Rejected(ctx context.Context, from From) error {
	return s.note(ctx, Account{}, from, audit.Security{Kind: audit.SignIn, Outcome: audit.Refused, Reason: audit.ReasonProvider})
}

// SealHint seals the ID token of a provider, for the cookie of the browser that signed in there; OpenHint opens it for the sign-out,
// and gives "" for what is none of that provider.
func (s *Service) SealHint(issuer, token string) string {
	return base64.RawURLEncoding.EncodeToString(s.box.Seal([]byte(token), "hint of "+issuer))
}

// OpenHint is the other half of [Service.SealHint].
func (s *Service) OpenHint(issuer, cookie string) string {
	sealed, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return ""
	}
	token, err := s.box.Open(sealed, "hint of "+issuer)
	if err != nil {
		return ""
	}
	return string(token)
}

// logoutTokens is for how long a logout token is remembered after it has been used.
const logoutTokens = 30 * time.Minute

// LoggedOut ends what an identity provider opened, on its word: a logout token (OpenID Connect Back-Channel Logout 1.0) with that jti,
// which is good once. [ErrWord] if it was used before.
func (s *Service) LoggedOut(ctx context.Context, issuer, subject, sid, jti string) error {
	key := s.box.Mark("logout token", issuer, jti)
	ok, err := s.store.Attempt(ctx, key, Limit{Free: 1, Window: logoutTokens}, s.cfg.Now())
	if err != nil {
		return unavailable(err)
	}
	if !ok {
		return s.refused(ctx, Account{}, From{}, audit.SessionsEnded, audit.ReasonReplay, ErrWord)
	}
	if err := s.endWord(ctx, issuer, subject, sid); err != nil {
		// The provider may say it again.
		if e := s.store.Forget(context.WithoutCancel(ctx), key); e != nil {
			s.cfg.Log.WarnContext(ctx, "a logout token that failed stays used", "error", e)
		}
		return err
	}
	return nil
}

func (s *Service) endWord(ctx context.Context, issuer, subject, sid string) error {
	// Sign-ins that wait for a factor of ours first: none of them becomes a session after this.
	if subject != "" {
		r, ok, err := s.store.AccountByExternal(ctx, issuer, subject)
		if err != nil {
			return unavailable(err)
		}
		if ok {
			if err := s.store.DropPending(ctx, r.ID, pendingChallenge); err != nil {
				return unavailable(err)
			}
		}
	}
	return s.EndProvided(ctx, issuer, subject, sid)
}
