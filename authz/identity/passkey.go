package identity

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// relyingParty is this server in the words of WebAuthn. The user is always verified, by PIN or
// by what she is: a passkey is two factors then.
func relyingParty(pages *url.URL, title string) (*webauthn.WebAuthn, error) {
	yes := true
	w, err := webauthn.New(&webauthn.Config{
		RPID: pages.Hostname(), RPDisplayName: title, RPOrigins: []string{pages.Scheme + "://" + pages.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: &yes, UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("identity: passkeys: %w", err)
	}
	return w, nil
}

// owner is an account as WebAuthn sees it: its handle is the id, which says nothing of her.
type owner struct {
	Record
	keys []webauthn.Credential
}

func (o owner) WebAuthnID() []byte                         { return handle(o.ID) }
func (o owner) WebAuthnName() string                       { return o.Email }
func (o owner) WebAuthnDisplayName() string                { return o.Name }
func (o owner) WebAuthnCredentials() []webauthn.Credential { return o.keys }

// handle is the 16 bytes of a UUID.
func handle(id string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil {
		return nil
	}
	return b
}

// accountOf is the UUID of 16 bytes.
func accountOf(handle []byte) (string, bool) {
	if len(handle) != 16 {
		return "", false
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", handle[:4], handle[4:6], handle[6:8], handle[8:10], handle[10:]), true
}

func aboutPasskey(account string) string { return "passkey " + account }

func (s *Service) owner(r Record) (owner, error) {
	o := owner{Record: r}
	for _, k := range r.Passkeys {
		plain, err := s.box.Open(k.Data, aboutPasskey(r.ID))
		if err != nil {
			return o, unavailable(err)
		}
		var c webauthn.Credential
		if err := json.Unmarshal(plain, &c); err != nil {
			return o, unavailable(err)
		}
		c.Authenticator.SignCount = k.Count
		o.keys = append(o.keys, c)
	}
	return o, nil
}

func (s *Service) sealCredential(account string, c *webauthn.Credential) ([]byte, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, unavailable(err)
	}
	return s.box.Seal(plain, aboutPasskey(account)), nil
}

// ceremony is what is remembered between the begin and the end of an assertion.
type ceremony struct {
	Session webauthn.SessionData `json:"session"`
	Parent  []byte               `json:"parent,omitempty"` // digest of the challenge that it is the second step of
}

// BeginPasskey gives the options of navigator.credentials.get, as JSON: as the second step of
// a challenge, or with "" for a sign-in with a passkey alone.
func (s *Service) BeginPasskey(ctx context.Context, challenge string) (options []byte, err error) {
	if s.keys == nil {
		return nil, ErrNoPasskeys
	}
	var (
		assertion *protocol.CredentialAssertion
		c         ceremony
		account   string
	)
	if challenge == "" {
		a, session, err := s.keys.BeginDiscoverableLogin()
		if err != nil {
			return nil, unavailable(err)
		}
		assertion, c.Session = a, *session
	} else {
		r, p, err := s.challenged(ctx, challenge)
		if err != nil {
			return nil, err
		}
		if p.Enrol || len(r.Passkeys) == 0 {
			return nil, ErrChallenge
		}
		o, err := s.owner(r)
		if err != nil {
			return nil, err
		}
		a, session, err := s.keys.BeginLogin(o)
		if err != nil {
			return nil, unavailable(err)
		}
		assertion, c = a, ceremony{*session, digest(challenge)}
		account = r.ID
	}
	data, err := json.Marshal(c)
	if err != nil {
		return nil, unavailable(err)
	}
	if err := s.store.PutPending(ctx, Pending{Hash: digest(c.Session.Challenge), Purpose: pendingPasskey, Account: account, Data: data, Expires: s.cfg.Now().Add(ChallengeLife)}); err != nil {
		return nil, unavailable(err)
	}
	return json.Marshal(assertion)
}

// FinishPasskey takes what navigator.credentials.get gave, as JSON.
func (s *Service) FinishPasskey(ctx context.Context, challenge string, response []byte, from From) (Step, error) {
	if s.keys == nil {
		return Step{}, ErrNoPasskeys
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return Step{}, ErrPasskey.Because(err)
	}
	pending, ok, err := s.store.TakePending(ctx, digest(parsed.Response.CollectedClientData.Challenge), pendingPasskey, s.cfg.Now())
	if err != nil {
		return Step{}, unavailable(err)
	}
	if !ok {
		return Step{}, ErrPasskey
	}
	var c ceremony
	if err := json.Unmarshal(pending.Data, &c); err != nil {
		return Step{}, unavailable(err)
	}
	if challenge == "" && c.Parent != nil || challenge != "" && !slices.Equal(c.Parent, digest(challenge)) {
		return Step{}, ErrPasskey
	}
	if challenge == "" {
		return s.alone(ctx, parsed, c, from)
	}
	r, p, err := s.challenged(ctx, challenge)
	if err != nil {
		return Step{}, err
	}
	o, err := s.owner(r)
	if err != nil {
		return Step{}, err
	}
	used, err := s.keys.ValidateLogin(o, c.Session, parsed)
	if err != nil {
		return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonCredential, ErrPasskey.Because(err))
	}
	if err := s.usePasskey(ctx, r, used, from); err != nil {
		return Step{}, err
	}
	return s.second(ctx, challenge, r, p, nil, from, kept(used))
}

// alone is a sign-in with a passkey alone, which is two factors: the device, and what unlocks it.
func (s *Service) alone(ctx context.Context, parsed *protocol.ParsedCredentialAssertionData, c ceremony, from From) (Step, error) {
	var r Record
	var failed error
	_, used, err := s.keys.ValidatePasskeyLogin(func(_, userHandle []byte) (webauthn.User, error) {
		id, ok := accountOf(userHandle)
		if !ok {
			return nil, ErrPasskey
		}
		found, ok, err := s.store.Account(ctx, id)
		if err != nil {
			failed = unavailable(err)
			return nil, failed
		}
		if !ok {
			return nil, ErrPasskey
		}
		r = found
		return s.owner(found)
	}, c.Session, parsed)
	switch {
	case failed != nil:
		return Step{}, failed
	case err != nil:
		return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonCredential, ErrPasskey.Because(err))
	case r.Disabled:
		return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonDisabled, ErrPasskey)
	}
	if err := s.usePasskey(ctx, r, used, from); err != nil {
		return Step{}, err
	}
	return s.open(ctx, r, progress{Methods: []string{kept(used), methodSeveral}, SignedIn: s.cfg.Now().UTC()}, from)
}

// usePasskey refuses a passkey whose counter did not go up: there are two of it then.
func (s *Service) usePasskey(ctx context.Context, r Record, used *webauthn.Credential, from From) error {
	data, err := s.sealCredential(r.ID, used)
	if err != nil {
		return err
	}
	ok := !used.Authenticator.CloneWarning
	if ok {
		if ok, err = s.store.UsePasskey(ctx, r.ID, used.ID, used.Authenticator.SignCount, data, s.cfg.Now()); err != nil {
			return unavailable(err)
		}
	}
	if !ok {
		return s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonClone, ErrPasskey)
	}
	return nil
}

// kept is the method of RFC 8176 for a passkey: whether its key can leave the device.
func kept(c *webauthn.Credential) string {
	if c.Flags.BackupEligible {
		return methodSoftware
	}
	return methodHardware
}

// EnrolPasskey gives the options of navigator.credentials.create, as JSON; see [Service.EnrolTOTP].
func (s *Service) EnrolPasskey(ctx context.Context, challengeOrSession string) ([]byte, error) {
	if s.keys == nil {
		return nil, ErrNoPasskeys
	}
	h, err := s.holder(ctx, challengeOrSession)
	if err != nil {
		return nil, err
	}
	o, err := s.owner(h.Record)
	if err != nil {
		return nil, err
	}
	have := make([]protocol.CredentialDescriptor, len(o.keys))
	for i, k := range o.keys {
		have[i] = k.Descriptor()
	}
	creation, session, err := s.keys.BeginRegistration(o, webauthn.WithExclusions(have))
	if err != nil {
		return nil, unavailable(err)
	}
	data, err := json.Marshal(session)
	if err != nil {
		return nil, unavailable(err)
	}
	if err := s.remember(ctx, h, challengeOrSession, enrolment{Factor: Passkey, Session: data}); err != nil {
		return nil, err
	}
	return json.Marshal(creation)
}

// longestName is that of the name of a passkey, in characters; mostPasskeys is how many an account may have.
const (
	longestName  = 64
	mostPasskeys = 20
)

// ConfirmPasskey takes what navigator.credentials.create gave, as JSON, and the name that the
// owner gives to the passkey. See [Service.ConfirmTOTP].
func (s *Service) ConfirmPasskey(ctx context.Context, challengeOrSession string, response []byte, name string, from From) (Step, error) {
	if s.keys == nil {
		return Step{}, ErrNoPasskeys
	}
	h, err := s.holder(ctx, challengeOrSession)
	if err != nil {
		return Step{}, err
	}
	name = strings.TrimSpace(name)
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > longestName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		return Step{}, outcome.New(outcome.Unprocessable, fmt.Sprintf("the name of a passkey has at most %d characters, all on one line", longestName))
	}
	if len(h.Passkeys) >= mostPasskeys {
		return Step{}, outcome.New(outcome.BusinessRule, fmt.Sprintf("there are %d passkeys already: remove one first", mostPasskeys))
	}
	e, err := s.enrolling(ctx, Passkey, h, challengeOrSession)
	if err != nil {
		return Step{}, err
	}
	var session webauthn.SessionData
	if err := json.Unmarshal(e.Session, &session); err != nil {
		return Step{}, unavailable(err)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return Step{}, ErrPasskey.Because(err)
	}
	o, err := s.owner(h.Record)
	if err != nil {
		return Step{}, err
	}
	c, err := s.keys.CreateCredential(o, session, parsed)
	if err != nil {
		return Step{}, ErrPasskey.Because(err)
	}
	data, err := s.sealCredential(h.ID, c)
	if err != nil {
		return Step{}, err
	}
	return s.enrolled(ctx, h, Passkey, kept(c), challengeOrSession, from, func() (bool, error) {
		return s.store.AddPasskey(ctx, h.ID, Key{ID: c.ID, Name: name, Count: c.Authenticator.SignCount, Data: data, Created: s.cfg.Now().UTC()}, h.first)
	})
}

// Factors lists the factors of an account.
func (s *Service) Factors(ctx context.Context, account string) ([]Enrolled, error) {
	r, ok, err := s.store.Account(ctx, account)
	if err != nil || !ok {
		return nil, unavailable(err)
	}
	var out []Enrolled
	for _, k := range r.Passkeys {
		out = append(out, Enrolled{Factor: Passkey, ID: base64.RawURLEncoding.EncodeToString(k.ID), Name: k.Name, Created: k.Created, Used: k.Used})
	}
	if r.TOTP != nil {
		out = append(out, Enrolled{Factor: TOTP})
	}
	return out, nil
}

// RemoveFactor takes a factor away from whoever holds a fresh session; id names a passkey.
func (s *Service) RemoveFactor(ctx context.Context, token string, f Factor, id string, from From) error {
	h, err := s.holder(ctx, token)
	if err != nil {
		return err
	}
	if h.first {
		return ErrSession
	}
	left, method := len(h.Passkeys), methodOTP
	if h.TOTP != nil {
		left++
	}
	key, err := base64.RawURLEncoding.DecodeString(id)
	has := f == TOTP && h.TOTP != nil || f == Passkey && err == nil && slices.ContainsFunc(h.Passkeys, func(k Key) bool { return slices.Equal(k.ID, key) })
	if !has {
		return outcome.New(outcome.NotFound, "there is no such factor")
	}
	if left == 1 && (s.cfg.PatientFactor || h.Staff()) {
		return ErrLast
	}
	switch f {
	case TOTP:
		err = s.store.RemoveTOTP(ctx, h.ID)
	case Passkey:
		method, err = "passkey", s.store.RemovePasskey(ctx, h.ID, key)
	default:
		err = errors.New("identity: a factor of no kind")
	}
	if err != nil {
		return unavailable(err)
	}
	s.tell(h.Email, factorRemoved)
	return s.note(ctx, h.Account, from, audit.Security{Kind: audit.FactorRemoved, Methods: []string{method}, Session: h.session.ID})
}
