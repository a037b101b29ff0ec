package config

import (
	"time"

	"github.com/cloister-health/cloister/authz/audit/forward"
	"github.com/cloister-health/cloister/authz/audit/trail"
)

// Trail names the keys of the audit trail.
type Trail struct {
	AuditKey string `name:"audit-key" env:"CLOISTER_AUDIT_KEY" placeholder:"FILE" help:"JSON Web Key Set with the Ed25519 keys of the audit trail (made by cloister audit key create): the first, private one marks what is recorded and signs checkpoints, the others check what was signed before."`
}

// Check reports what is wrong.
func (t Trail) Check(required bool) error {
	if t.AuditKey == "" && required {
		return fault("CLOISTER_AUDIT_KEY", "is not set: it names the file with the key that signs the audit trail, made by cloister audit key create")
	}
	return nil
}

// Open reads the keys; without any it gives nil.
func (t Trail) Open(sign bool) (*trail.Keys, error) {
	if t.AuditKey == "" {
		return nil, nil //nolint:nilnil // no keys are no fault where they are not required
	}
	k, err := trail.ReadFile(t.AuditKey)
	if err != nil {
		return nil, fault("CLOISTER_AUDIT_KEY", "cannot be used: %v", err)
	}
	if sign && !k.CanSign() {
		return nil, fault("CLOISTER_AUDIT_KEY", "names a key set whose first key is public: what is recorded needs the private one")
	}
	return k, nil
}

// Sealing says what becomes of checkpoints beside the database.
type Sealing struct {
	Trail       `embed:""`
	Checkpoints string        `name:"audit-checkpoints" env:"CLOISTER_AUDIT_CHECKPOINTS" placeholder:"FILE" help:"File that gets a line for each signed checkpoint of the audit trail. Keep it, or a copy, where whoever has the database does not reach: it tells when the end of the trail, or all of it, was replaced."`
	Forward     []string      `name:"audit-forward" env:"CLOISTER_AUDIT_FORWARD" placeholder:"URL,..." help:"Receivers that are told of what is recorded, without patients and people: syslog+tls://host:6514, syslog+tcp://host:601, syslog+udp://host:514, otlp+https://host:4318/v1/logs."`
	SignEvery   time.Duration `name:"audit-sign-every" env:"CLOISTER_AUDIT_SIGN_EVERY" default:"1m" help:"How long what is recorded waits for a signed checkpoint at most, such as 10s or 1m."`
}

// Check reports what is wrong.
func (s Sealing) Check(required bool) error {
	if err := s.Trail.Check(required); err != nil {
		return err
	}
	for _, address := range s.Forward {
		if err := forward.Check(address); err != nil {
			return fault("CLOISTER_AUDIT_FORWARD", "is wrong: %v", err)
		}
	}
	if s.SignEvery < time.Second || s.SignEvery > time.Hour {
		return fault("CLOISTER_AUDIT_SIGN_EVERY", "is %s: set it between 1s and 1h", s.SignEvery)
	}
	return nil
}
