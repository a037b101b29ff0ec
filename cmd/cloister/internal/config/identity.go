package config

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/cmd/cloister/internal/mail"
)

// AuthKey names the keys that seal signing keys and secrets of sign-in in the database.
type AuthKey struct {
	AuthKeys []string `name:"auth-key" env:"CLOISTER_AUTH_KEY" placeholder:"BASE64,..." help:"32 random bytes in base64 that seal signing keys and secrets of sign-in in the database; all servers of a database share them. After a change the old key follows the new one, separated by a comma. Make one with: openssl rand -base64 32. Prefer the variable to the flag: other users of the machine can read command lines."`
}

// Box is what seals.
func (a AuthKey) Box() (*identity.Box, error) {
	if len(a.AuthKeys) == 0 {
		return nil, fault("CLOISTER_AUTH_KEY", "is not set: make one with openssl rand -base64 %d, and keep it where the database and its backups are not", identity.KeySize)
	}
	keys := make([][]byte, 0, len(a.AuthKeys))
	for _, text := range a.AuthKeys {
		key, err := identity.ParseKey(text)
		if err != nil {
			return nil, fault("CLOISTER_AUTH_KEY", "is not %d bytes in base64: make one with openssl rand -base64 %d", identity.KeySize, identity.KeySize)
		}
		keys = append(keys, key)
	}
	return identity.NewBox(keys...) //nolint:wrapcheck // it cannot fail with keys of that size
}

// Identity is how people sign in.
type Identity struct {
	AuthKey     `embed:""`
	MailServer  string        `name:"mail-server" env:"CLOISTER_MAIL_SERVER" placeholder:"URL" help:"SMTP server for invitations and recovery: smtp://user:password@mail.example.org:587 or smtps://mail.example.org. TLS is required, but to this machine itself. Without one nobody is invited by mail."`
	MailFrom    string        `name:"mail-from" env:"CLOISTER_MAIL_FROM" placeholder:"ADDRESS" help:"Sender of the mails, such as no-reply@example.org."`
	Breached    string        `name:"breached-passwords" env:"CLOISTER_BREACHED_PASSWORDS" placeholder:"FILE" help:"Passwords known from breaches, which nobody may take: SHA-1 in hexadecimal, sorted, one per line, as Have I Been Pwned publishes them, or prefixes of one length. Nothing is asked over a network."`
	Idle        time.Duration `name:"session-idle" env:"CLOISTER_SESSION_IDLE" default:"30m" help:"How long a session lasts that is not used."`
	Absolute    time.Duration `name:"session-absolute" env:"CLOISTER_SESSION_ABSOLUTE" default:"12h" help:"How long a session lasts at most."`
	Invitations time.Duration `name:"invitation-life" env:"CLOISTER_INVITATION_LIFE" default:"72h" help:"How long an invitation is good."`
	Recoveries  time.Duration `name:"recovery-life" env:"CLOISTER_RECOVERY_LIFE" default:"1h" help:"How long a recovery link is good."`
	Patients    string        `name:"patient-factor" env:"CLOISTER_PATIENT_FACTOR" default:"optional" help:"Second factor of patients and of those who act for them: optional or required. That of staff is always required."`
}

// Check reports what is wrong.
func (i Identity) Check() error {
	var errs []error
	if _, err := i.Box(); err != nil {
		errs = append(errs, err)
	}
	if (i.MailServer == "") != (i.MailFrom == "") {
		errs = append(errs, fault("CLOISTER_MAIL_FROM", "and CLOISTER_MAIL_SERVER go together: set both, or neither"))
	} else if _, err := i.Mailer(); err != nil {
		errs = append(errs, err)
	}
	for _, d := range []struct {
		name       string
		value, max time.Duration
	}{
		{"CLOISTER_SESSION_IDLE", i.Idle, i.Absolute},
		{"CLOISTER_SESSION_ABSOLUTE", i.Absolute, 30 * 24 * time.Hour},
		{"CLOISTER_INVITATION_LIFE", i.Invitations, 30 * 24 * time.Hour},
		{"CLOISTER_RECOVERY_LIFE", i.Recoveries, 24 * time.Hour},
	} {
		if d.value < time.Minute || d.value > d.max {
			errs = append(errs, fault(d.name, "is %s: set it between 1m and %s", d.value, d.max))
		}
	}
	if i.Patients != "optional" && i.Patients != "required" {
		errs = append(errs, fault("CLOISTER_PATIENT_FACTOR", "is %q: set it to optional or required", i.Patients))
	}
	if i.Breached != "" {
		if _, err := os.Stat(i.Breached); err != nil {
			errs = append(errs, fault("CLOISTER_BREACHED_PASSWORDS", "names a file that cannot be read"))
		}
	}
	return errors.Join(errs...)
}

// Mailer is what sends invitations and links of recovery; nil where no mail server is named.
func (i Identity) Mailer() (identity.Mailer, error) {
	if i.MailServer == "" {
		return nil, nil //nolint:nilnil // nobody is written to then
	}
	server, err := mail.Parse(i.MailServer, i.MailFrom)
	if err != nil {
		return nil, fault("CLOISTER_MAIL_SERVER", "(with CLOISTER_MAIL_FROM) %v", err)
	}
	return server, nil
}

// Service is the configuration of the service, but for what a program wires: store, audit, pages and clock.
func (i Identity) Service() (identity.Config, error) {
	c := identity.Config{Idle: i.Idle, Absolute: i.Absolute, Invitations: i.Invitations, Recoveries: i.Recoveries, PatientFactor: i.Patients == "required"}
	var err error
	if c.Box, err = i.Box(); err != nil {
		return identity.Config{}, err
	}
	if c.Mail, err = i.Mailer(); err != nil {
		return identity.Config{}, err
	}
	if i.Breached != "" {
		list, err := identity.OpenBreachedList(i.Breached)
		if err != nil {
			return identity.Config{}, fmt.Errorf("CLOISTER_BREACHED_PASSWORDS: %w", err)
		}
		c.Breached = list
	}
	return c, nil
}
