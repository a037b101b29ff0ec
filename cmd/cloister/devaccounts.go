package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238: what all authenticator apps have
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/issuer"
	"github.com/cloister-health/cloister/cmd/cloister/internal/signin"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// accountsFile is how the personas sign in. It is as secret as the sample clinic: not at all.
const accountsFile = "accounts.json"

// devAccount is the account of a persona.
type devAccount struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Secret   string `json:"secret,omitempty"` // of the one-time codes of staff; patients need none
}

// personaAccounts gives each persona who is a person an account. Those of an earlier start stay.
func personaAccounts(ctx context.Context, s *identity.Service, tenant func(string) (int32, bool), people []clinic.Persona, dir string, log *slog.Logger) (map[string]devAccount, error) {
	path := filepath.Join(dir, accountsFile)
	out := map[string]devAccount{}
	text, err := os.ReadFile(path) //nolint:gosec // in the data directory
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range people {
		// A declared emergency is a purpose, not a person; and systems do not sign in.
		user, ok := fhir.ParseRef(p.Claims.FHIRUser)
		id, known := tenant(p.Practice)
		if !ok || !known || p.Claims.Purpose == "ETREAT" {
			continue
		}
		email := p.Name + "@" + p.Practice + ".example"
		_, err := s.Find(ctx, email)
		switch _, kept := out[p.Name]; {
		case err == nil && kept:
			continue
		case err == nil:
			log.Warn("an account is there, and how to sign in with it is not known any more: --reset starts clean", "persona", p.Name)
			continue
		}
		var public *outcome.Error
		if !errors.As(err, &public) || public.Status() >= 500 {
			return nil, fmt.Errorf("the accounts cannot be read: %w", err)
		}
		m := identity.Membership{Tenant: id, Practice: p.Practice, User: user, Roles: p.Claims.Roles}
		for _, o := range p.Claims.Organizations {
			m.Organizations = append(m.Organizations, fhir.ID(o))
		}
		name, _, _ := strings.Cut(p.Description, ",")
		a := devAccount{Email: email, Password: phrase()}
		if a.Secret, err = create(ctx, s, identity.Account{Name: name, Email: email, Memberships: []identity.Membership{m}}, a.Password); err != nil {
			return nil, fmt.Errorf("the account of %s: %w", p.Name, err)
		}
		out[p.Name] = a
		// After each: a start that is interrupted leaves no account that nobody can sign in with.
		if text, err = json.MarshalIndent(out, "", "  "); err != nil { //nolint:gosec // what dev made up for this machine, kept so that it can be printed again
			return nil, err //nolint:wrapcheck // plain strings
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err //nolint:wrapcheck // names the file
		}
	}
	return out, nil
}

// create makes an account, and for staff sets up the authenticator app, as they would do themselves at their first sign-in.
func create(ctx context.Context, s *identity.Service, a identity.Account, password string) (secret string, err error) {
	if _, err := s.Create(ctx, "cloister dev", a, password); err != nil || !a.Memberships[0].Staff() {
		return "", err
	}
	from := identity.From{Address: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Agent: "cloister dev"}
	step, err := s.Password(ctx, a.Email, password, from)
	if err != nil {
		return "", err
	}
	if step.Challenge == nil {
		return "", errors.New("no second factor is asked for")
	}
	secret, _, err = s.EnrolTOTP(ctx, step.Challenge.ID)
	if err != nil {
		return "", err
	}
	// The code before: whoever signs in now needs one that was not used.
	code, err := oneTimeCode(secret, time.Now().Add(-codePeriod))
	if err != nil {
		return "", err
	}
	done, err := s.ConfirmTOTP(ctx, step.Challenge.ID, code, from)
	if err != nil {
		return "", err
	}
	return secret, s.SignOut(ctx, done.Token)
}

// words make passwords that can be read from a page and typed.
var words = strings.Fields("amber birch cedar delta ember fjord grove heron inlet jetty kelp larch marsh north ocean pearl quartz river slate tidal umber valley willow yarrow")

func phrase() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // it never fails
	out := make([]string, len(b))
	for i := range b {
		out[i] = words[int(b[i])%len(words)]
	}
	return strings.Join(out, " ")
}

const codePeriod = 30 * time.Second

// oneTimeCode is the code that an authenticator app shows at that moment (RFC 6238). The server checks codes with a library;
// this is the app.
func oneTimeCode(secret string, at time.Time) (string, error) {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		return "", fmt.Errorf("the secret of one-time codes: %w", err)
	}
	m := hmac.New(sha1.New, key)
	_ = binary.Write(m, binary.BigEndian, at.Unix()/int64(codePeriod/time.Second)) // a hash takes all
	sum := m.Sum(nil)
	n := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&0xf:]) & 0x7fffffff
	return fmt.Sprintf("%06d", n%1_000_000), nil
}

// credentials are what a persona types now.
func credentials(all map[string]devAccount) func(string) (issuer.Credentials, bool) {
	return func(persona string) (issuer.Credentials, bool) {
		a, ok := all[persona]
		if !ok {
			return issuer.Credentials{}, false
		}
		c := issuer.Credentials{Email: a.Email, Password: a.Password}
		if a.Secret != "" {
			var err error
			if c.Code, err = oneTimeCode(a.Secret, time.Now()); err != nil {
				return issuer.Credentials{}, false
			}
		}
		return c, true
	}
}

// openSignIn wires the authorization server of dev, and gives all personas their accounts.
func openSignIn(ctx context.Context, c signin.Config, dir string, people []clinic.Persona) (*signin.SignIn, map[string]devAccount, error) {
	key, err := signin.KeyFile(filepath.Join(dir, "auth.key"))
	if err != nil {
		return nil, nil, err
	}
	if c.Box, err = identity.NewBox(key); err != nil {
		return nil, nil, err //nolint:wrapcheck // says where it is from
	}
	s, err := signin.Open(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	all, err := personaAccounts(ctx, s.Identity, c.Practices.Tenant, people, dir, c.Log)
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, all, nil
}
