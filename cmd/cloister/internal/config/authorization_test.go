package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

var people = Identity{AuthKey: AuthKey{AuthKeys: []string{key}}, Idle: 30 * time.Minute, Absolute: 12 * time.Hour, Invitations: time.Hour, Recoveries: time.Hour, Patients: "optional"}

func TestAuthorizationIsChecked(t *testing.T) {
	on := Authorization{Server: Embedded, Identity: people, Registration: "pending", KeyHosts: []string{"apps.example.org"}, Proxies: []string{"10.0.0.0/8"}}
	for _, a := range []Authorization{{}, {Server: "none"}, on} {
		if err := a.Check(); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
	for _, c := range []struct {
		variable string
		change   func(*Authorization)
	}{
		{"CLOISTER_AUTHORIZATION_SERVER", func(a *Authorization) { a.Server = "yes" }},
		{"CLOISTER_AUTH_KEY", func(a *Authorization) { a.AuthKeys = nil }},
		{"CLOISTER_AUTH_KEY", func(a *Authorization) { a.AuthKeys = []string{key, "secret-that-is-short"} }},
		{"CLOISTER_MAIL_FROM", func(a *Authorization) { a.MailServer = "smtps://mail.example.org" }},
		{"CLOISTER_MAIL_SERVER", func(a *Authorization) { a.MailServer, a.MailFrom = "imap://secret-that@x", "a@example.org" }},
		{"CLOISTER_SESSION_IDLE", func(a *Authorization) { a.Idle = 13 * time.Hour }},
		{"CLOISTER_SESSION_ABSOLUTE", func(a *Authorization) { a.Absolute = 0 }},
		{"CLOISTER_PATIENT_FACTOR", func(a *Authorization) { a.Patients = "never" }},
		{"CLOISTER_BREACHED_PASSWORDS", func(a *Authorization) { a.Breached = "/nowhere/at/all" }},
		{"CLOISTER_APP_REGISTRATION", func(a *Authorization) { a.Registration = "yes" }},
		{"CLOISTER_APP_KEY_HOSTS", func(a *Authorization) { a.KeyHosts = []string{"https://apps.example.org"} }},
		{"CLOISTER_TRUSTED_PROXIES", func(a *Authorization) { a.Proxies = []string{"10.0.0.1"} }},
	} {
		a := on
		c.change(&a)
		if err := a.Check(); err == nil || !strings.Contains(err.Error(), c.variable) || strings.Contains(err.Error(), "secret-that") {
			t.Errorf("%s: %v", c.variable, err)
		}
	}
	s := good
	s.Authorization, s.Issuers, s.BaseURL = on, nil, "https://fhir.example.org/fhir"
	if err := s.Check(); err != nil {
		t.Errorf("embedded, without other issuers: %v", err)
	}
	for _, base := range []string{"http://fhir.example.org/fhir", "https://fhir.example.org/r4"} {
		s.BaseURL = base
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), "CLOISTER_BASE_URL") {
			t.Errorf("%s: %v", base, err)
		}
	}
}

// TestServiceHasWhatIsSet: a setting that is read and goes nowhere would be a promise that nobody keeps.
func TestServiceHasWhatIsSet(t *testing.T) {
	list := filepath.Join(t.TempDir(), "breached")
	if err := os.WriteFile(list, []byte("0018A45C4D1DEF81644B54AB7F969B88D65\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	i := Identity{
		AuthKey: AuthKey{AuthKeys: []string{key}}, MailServer: "smtps://mail.example.org", MailFrom: "no-reply@example.org", Breached: list,
		Idle: 7 * time.Minute, Absolute: 8 * time.Hour, Invitations: 9 * time.Hour, Recoveries: 10 * time.Minute, Patients: "required",
	}
	if err := i.Check(); err != nil {
		t.Fatal(err)
	}
	c, err := i.Service()
	if err != nil {
		t.Fatal(err)
	}
	if c.Box == nil || c.Mail == nil || c.Breached == nil || c.Idle != i.Idle || c.Absolute != i.Absolute || c.Invitations != i.Invitations || c.Recoveries != i.Recoveries || !c.PatientFactor {
		t.Errorf("%+v", c)
	}
	i.MailServer, i.MailFrom, i.Breached, i.Patients = "", "", "", "optional"
	if c, err = i.Service(); err != nil || c.Mail != nil || c.Breached != nil || c.PatientFactor {
		t.Errorf("%+v %v", c, err)
	}
}
