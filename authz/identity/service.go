package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Auditor makes security events durable: when RecordSecurity returns nil, the event survives a crash.
type Auditor interface {
	RecordSecurity(ctx context.Context, e audit.Security) error
}

// Mailer sends a mail of plain text.
type Mailer interface {
	Send(ctx context.Context, to, subject, text string) error
}

// Limits say how often what may be tried.
type Limits struct {
	// Pair bounds the passwords that one address, or one known device, tries with one account.
	Pair Limit
	// Account bounds the wrong passwords for one account from everywhere but its known devices. Passkeys and
	// links by e-mail stay open.
	Account Limit
	// Address bounds the wrong passwords from one address (IPv6: one /64), whatever the account; known devices are exempt.
	Address Limit
	// Second bounds the codes that are tried after the right password.
	Second Limit
	// Mail bounds the mails to one account; MailFrom those that one address asks for.
	Mail, MailFrom Limit
}

// DefaultLimits are those of a server that says nothing else. No account can be tried more than 100 times
// an hour from unknown places (ASVS 2.2.1).
var DefaultLimits = Limits{
	Pair:     Limit{Free: 5, Window: 24 * time.Hour, Base: time.Second, Max: 15 * time.Minute},
	Account:  Limit{Free: 100, Window: time.Hour},
	Address:  Limit{Free: 100, Window: time.Hour},
	Second:   Limit{Free: 10, Window: 24 * time.Hour, Base: 30 * time.Second, Max: 15 * time.Minute},
	Mail:     Limit{Free: 5, Window: time.Hour},
	MailFrom: Limit{Free: 20, Window: time.Hour},
}

// Assurance is what a provider must have asked for before staff may come in.
type Assurance struct {
	ACR []string // any of these values of acr counts as a second factor
	// Own asks for a factor of ours where the provider saw none; without it the sign-in is refused.
	Own bool
}

// Config of a [Service]. Store, Box, Audit, Pages and Now are required.
type Config struct {
	Store Store
	Box   *Box
	Audit Auditor
	Mail  Mailer // nil: nobody can be invited or recover by e-mail
	Now   func() time.Time
	Log   *slog.Logger
	// Pages is the address of the pages of sign-in without a trailing slash, such as
	// https://fhir.example.org/smart: links in mails and the origin of passkeys come from it.
	Pages string
	// Title is how passkeys and authenticator apps name this server.
	Title string

	Argon2   Argon2   // the zero value means DefaultArgon2
	Limits   Limits   // the zero value means DefaultLimits
	Breached Breached // nil: no list

	Idle, Absolute time.Duration // of sessions; 0 means 30 minutes and 12 hours (NIST SP 800-63B, AAL2)
	Fresh          time.Duration // how long after a sign-in factors may change; 0 means 15 minutes
	Invitations    time.Duration // how long an invitation lasts; 0 means 72 hours
	Recoveries     time.Duration // how long a recovery link lasts; 0 means one hour

	// PatientFactor makes a second factor mandatory for patients and proxies too.
	PatientFactor bool
	// Assured says what is asked of a provider; nil asks each for amr or refuses.
	Assured func(issuer string) Assurance
}

// Service signs people in. All methods are safe for concurrent use.
type Service struct {
	cfg    Config
	store  Store
	box    *Box
	hasher *hasher
	keys   *webauthn.WebAuthn

	mu    sync.RWMutex
	hooks []func(context.Context, Ended) error

	mails sync.WaitGroup
}

// New checks the configuration and makes the service.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Box == nil || c.Audit == nil || c.Now == nil {
		return nil, errors.New("identity: store, box, audit and clock are required")
	}
	u, err := url.Parse(c.Pages)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.HasSuffix(c.Pages, "/") {
		return nil, errors.New("identity: the address of the pages is not an absolute URL without a trailing slash")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Title == "" {
		c.Title = u.Hostname()
	}
	if c.Argon2 == (Argon2{}) {
		c.Argon2 = DefaultArgon2
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits
	}
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&c.Idle, 30 * time.Minute},
		{&c.Absolute, 12 * time.Hour},
		{&c.Fresh, 15 * time.Minute},
		{&c.Invitations, 72 * time.Hour},
		{&c.Recoveries, time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.or
		}
		if *d.value < 0 {
			return nil, errors.New("identity: a duration is negative")
		}
	}
	if err := c.Argon2.Check(); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	for _, l := range []Limit{c.Limits.Pair, c.Limits.Account, c.Limits.Address, c.Limits.Second, c.Limits.Mail, c.Limits.MailFrom} {
		if l.Free < 2 || l.Window <= 0 || l.Base < 0 || l.Max < l.Base {
			return nil, errors.New("identity: a limit lets nothing through, or has no window")
		}
	}
	s := &Service{cfg: c, store: c.Store, box: c.Box, hasher: newHasher(c.Argon2)}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return s, nil // WebAuthn knows domains alone (Web Authentication Level 3, 4, RP ID)
	}
	if s.keys, err = relyingParty(u, c.Title); err != nil {
		return nil, err
	}
	return s, nil
}

// Passkeys reports whether there can be passkeys: an address without a domain has none.
func (s *Service) Passkeys() bool { return s.keys != nil }

// Close waits for the mails that are under way.
func (s *Service) Close() { s.mails.Wait() }

// Derivations counts the argon2 computations since the start: it is how a test knows that an
// unknown account costs what a known one costs.
func (s *Service) Derivations() int64 { return s.hasher.count.Load() }

// OnEnd adds a hook that is called after sessions have ended. It is added before the service is used.
func (s *Service) OnEnd(hook func(context.Context, Ended) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = append(s.hooks, hook)
}

// ended calls the hooks, all of them, whatever one says.
func (s *Service) ended(ctx context.Context, list ...Ended) error {
	s.mu.RLock()
	hooks := slices.Clone(s.hooks)
	s.mu.RUnlock()
	var errs []error
	for _, e := range list {
		for _, h := range hooks {
			errs = append(errs, h(ctx, e))
		}
	}
	return errors.Join(errs...)
}

// address brings an e-mail address into the form that accounts are found by.
func address(email string) (string, bool) {
	email = strings.ToLower(strings.TrimSpace(email))
	a, err := mail.ParseAddress(email)
	return email, err == nil && a.Address == email && len(email) <= 254 && !strings.ContainsAny(email, "\r\n \t")
}

// place is what an address counts as: an IPv6 customer has a whole /64.
func place(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// note records an event in every practice of an account: each has a privacy officer of its own.
// An account of none, and somebody unknown, are recorded for the installation.
func (s *Service) note(ctx context.Context, a Account, from From, e audit.Security) error {
	e.At, e.Address = s.cfg.Now().UTC(), from.Address.Unmap()
	e.Account = a.ID
	if e.Outcome == "" {
		e.Outcome = audit.Success
	}
	seen := map[int32]bool{}
	for _, m := range a.Memberships {
		if seen[m.Tenant] {
			continue
		}
		seen[m.Tenant] = true
		e.ID, e.Tenant, e.User = newID(), m.Tenant, m.User
		if err := s.cfg.Audit.RecordSecurity(ctx, e); err != nil {
			return unavailable(err)
		}
	}
	if len(seen) == 0 {
		e.ID = newID()
		if err := s.cfg.Audit.RecordSecurity(ctx, e); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

// refused records a refusal and gives it back; without the record the answer is another.
func (s *Service) refused(ctx context.Context, a Account, from From, kind audit.Kind, reason audit.Reason, err error) error {
	if noted := s.note(ctx, a, from, audit.Security{Kind: kind, Outcome: audit.Refused, Reason: reason}); noted != nil {
		return noted
	}
	return err
}

// unavailable is what a client is told where a store or the audit trail fails.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	var known *outcome.Error
	if errors.As(err, &known) {
		return err
	}
	return outcome.New(outcome.Unavailable, "this does not work at the moment: try again later").Because(err)
}
