package config

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cloister-health/cloister/authz/identity"
)

// Identity is how people sign in.
type Identity struct {
	AuthKeys    []string      `name:"auth-key" env:"CLOISTER_AUTH_KEY" placeholder:"KEY,..." help:"Key under which secrets of sign-in are stored: 32 bytes in base64 (openssl rand -base64 32). To change it, put the new one before the old one, with a comma between them. Prefer the variable to the flag: other users of the machine can read command lines."`
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
	if len(i.AuthKeys) == 0 {
		errs = append(errs, fault("CLOISTER_AUTH_KEY", "is not set: it seals the secrets of sign-in; make one with openssl rand -base64 32"))
	}
	if _, err := i.keys(); err != nil {
		errs = append(errs, err)
	}
	if (i.MailServer == "") != (i.MailFrom == "") {
		errs = append(errs, fault("CLOISTER_MAIL_FROM", "and CLOISTER_MAIL_SERVER go together: set both, or neither"))
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

func (i Identity) keys() ([][]byte, error) {
	out := make([][]byte, len(i.AuthKeys))
	for n, text := range i.AuthKeys {
		var err error
		if out[n], err = identity.ParseKey(text); err != nil {
			return nil, fault("CLOISTER_AUTH_KEY", "is %v: make one with openssl rand -base64 32", err)
		}
	}
	return out, nil
}

// Service is the configuration of the service, but for what a program wires: store, audit, mail, pages and clock.
func (i Identity) Service() (identity.Config, error) {
	keys, err := i.keys()
	if err != nil {
		return identity.Config{}, err
	}
	c := identity.Config{Idle: i.Idle, Absolute: i.Absolute, Invitations: i.Invitations, Recoveries: i.Recoveries, PatientFactor: i.Patients == "required"}
	if c.Box, err = identity.NewBox(keys...); err != nil {
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
