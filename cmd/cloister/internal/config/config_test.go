package config

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

var good = Serve{
	Database: Database{URL: "postgres://cloister@db.example.org/cloister"},
	API: API{
		BaseURL: "https://fhir.example.org/fhir", PageKey: base64.StdEncoding.EncodeToString(make([]byte, 32)), MaxBody: 32 << 20,
		CORSOrigins: []string{"https://app.example.org", "http://localhost:5173"}, Timeout: time.Minute, Conditional: "single", Shown: "exchange", KeyLife: time.Hour,
		Care:    Care{EncounterAfter: time.Hour, AppointmentBefore: time.Hour, AppointmentAfter: time.Hour, AgeOfMajority: 18},
		Session: time.Hour, SignIn: time.Minute,
	},
	Keys:    Keys{Notes: "file:/etc/cloister/notes.json"},
	Sealing: Sealing{Trail: Trail{AuditKey: "/etc/cloister/audit-key.jwks"}, SignEvery: time.Minute},
	Listen:  "0.0.0.0:8080",
	Issuers: []Issuer{{URL: "https://id.example.org"}, {URL: "https://other.example/realm", Audience: "x", Algorithms: []string{"ES256"}}},
}

func TestServe(t *testing.T) {
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	// Each change breaks one thing; the message must begin with its variable.
	for _, c := range []struct {
		variable string
		change   func(*Serve)
	}{
		{"CLOISTER_DATABASE_URL", func(s *Serve) { s.URL = "" }},
		{"CLOISTER_DATABASE_URL", func(s *Serve) { s.URL = "db.example.org" }},
		{"CLOISTER_DATABASE_URL", func(s *Serve) { s.URL = "mysql://db/x" }},
		{"CLOISTER_BASE_URL", func(s *Serve) { s.BaseURL = "" }},
		{"CLOISTER_BASE_URL", func(s *Serve) { s.BaseURL = "fhir.example.org/fhir" }},
		{"CLOISTER_BASE_URL", func(s *Serve) { s.BaseURL = "https://fhir.example.org/" }},
		{"CLOISTER_BASE_URL", func(s *Serve) { s.BaseURL = "ftp://fhir.example.org/fhir" }},
		{"CLOISTER_BASE_URL", func(s *Serve) { s.BaseURL = "https://u:p@fhir.example.org/fhir" }},
		{"CLOISTER_CONDITIONAL_DELETE", func(s *Serve) { s.Conditional = "all" }},
		{"CLOISTER_SECURITY_LABELS", func(s *Serve) { s.Shown = "some" }},
		{"CLOISTER_IDEMPOTENCY_LIFE", func(s *Serve) { s.KeyLife = 0 }},
		{"CLOISTER_TREATING_AFTER_ENCOUNTER", func(s *Serve) { s.EncounterAfter = 0 }},
		{"CLOISTER_TREATING_BEFORE_APPOINTMENT", func(s *Serve) { s.AppointmentBefore = -1 }},
		{"CLOISTER_TREATING_AFTER_APPOINTMENT", func(s *Serve) { s.AppointmentAfter = 10000 * time.Hour }},
		{"CLOISTER_AGE_OF_MAJORITY", func(s *Serve) { s.AgeOfMajority = 0 }},
		{"CLOISTER_EMERGENCY_SESSION", func(s *Serve) { s.Session = 48 * time.Hour }},
		{"CLOISTER_EMERGENCY_SIGN_IN", func(s *Serve) { s.SignIn = 0 }},
		{"CLOISTER_PAGE_KEY", func(s *Serve) { s.PageKey = "AAAA" }},
		{"CLOISTER_MAX_BODY", func(s *Serve) { s.MaxBody = 0 }},
		{"CLOISTER_MAX_BODY", func(s *Serve) { s.MaxBody = 2 << 30 }},
		{"CLOISTER_CORS_ORIGINS", func(s *Serve) { s.CORSOrigins = []string{"*"} }},
		{"CLOISTER_CORS_ORIGINS", func(s *Serve) { s.CORSOrigins = []string{"null"} }},
		{"CLOISTER_CORS_ORIGINS", func(s *Serve) { s.CORSOrigins = []string{"https://a.example/x"} }},
		{"CLOISTER_REQUEST_TIMEOUT", func(s *Serve) { s.Timeout = 0 }},
		{"CLOISTER_SHUTDOWN_GRACE", func(s *Serve) { s.Grace = -1 }},
		{"CLOISTER_LISTEN", func(s *Serve) { s.Listen = "localhost" }},
		{"CLOISTER_LISTEN", func(s *Serve) { s.Listen = ":99999" }},
		{"CLOISTER_NOTES_KEY", func(s *Serve) { s.Notes = "" }},
		{"CLOISTER_NOTES_KEY", func(s *Serve) { s.Notes = "keyset.json" }},
		{"CLOISTER_NOTES_OLDER_KEYS", func(s *Serve) { s.Older = []string{"file:/a.json", "gcp-kms://x"} }},
		{"CLOISTER_AUDIT_KEY", func(s *Serve) { s.AuditKey = "" }},
		{"CLOISTER_AUDIT_FORWARD", func(s *Serve) { s.Forward = []string{"syslog://log.example.org"} }},
		{"CLOISTER_AUDIT_SIGN_EVERY", func(s *Serve) { s.SignEvery = 0 }},
		{"CLOISTER_ISSUERS", func(s *Serve) { s.Issuers = nil }},
		{"CLOISTER_ISSUERS", func(s *Serve) { s.Issuers = []Issuer{{URL: "http://127.0.0.1:8081"}} }},
		{"CLOISTER_ISSUERS", func(s *Serve) { s.Issuers = []Issuer{{URL: "http://localhost:8081"}} }},
		{"CLOISTER_ISSUERS", func(s *Serve) { s.Issuers = []Issuer{{URL: "http://id.example.org"}} }},
		{"CLOISTER_ISSUERS", func(s *Serve) { s.Issuers = append(slices.Clone(s.Issuers), s.Issuers[0]) }},
		{"CLOISTER_ISSUERS", func(s *Serve) { s.Issuers = []Issuer{{URL: "https://a.example", Algorithms: []string{"HS256"}}} }},
	} {
		s := good
		c.change(&s)
		err := s.Check()
		if err == nil || !strings.HasPrefix(err.Error(), c.variable+" ") || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: %v", c.variable, err)
		}
	}
}

func TestAudienceOfAnIssuerIsTheBaseURLUnlessGiven(t *testing.T) {
	list := good.OIDC()
	if list[0].Audience != good.BaseURL || list[1].Audience != "x" {
		t.Errorf("%+v", list)
	}
}

func TestIssuer(t *testing.T) {
	for text, want := range map[string]string{
		"https://a": "https://a||", "https://a|b": "https://a|b|", "https://a|b|ES256+RS256": "https://a|b|ES256,RS256", "https://a||ES256": "https://a||ES256",
	} {
		var i Issuer
		if err := i.UnmarshalText([]byte(text)); err != nil || i.URL+"|"+i.Audience+"|"+strings.Join(i.Algorithms, ",") != want {
			t.Errorf("%s: %+v %v", text, i, err)
		}
	}
	for _, text := range []string{"", "|b", "a|b|c|d"} {
		if new(Issuer).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]ByteSize{"0": 0, "1024": 1024, "12B": 12, "512KiB": 512 << 10, "32MiB": 32 << 20, "1GiB": 1 << 30} {
		var b ByteSize
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s: %d %v", text, b, err)
		}
		var again ByteSize
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%s is written as %s", text, b)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "1.5MiB", "32MB", "9999999999GiB", " 1"} {
		if new(ByteSize).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestPageKey(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, nil))
	key, err := good.Key(log)
	if err != nil || len(key) != 32 || b.Len() != 0 {
		t.Errorf("%d bytes, %v, log %q", len(key), err, b.String())
	}
	one, _ := API{}.Key(log)
	two, _ := API{}.Key(log)
	if len(one) != 32 || bytes.Equal(one, two) || !strings.Contains(b.String(), "CLOISTER_PAGE_KEY") {
		t.Errorf("%x %x, log %q", one, two, b.String())
	}
}

func TestLoopback(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:80": true, "[::1]:80": true, "127.8.9.1:1": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "192.0.2.1:80": false, "example.org:80": false, "localhost": false,
	} {
		if err := CheckLoopback("X", address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestLogging(t *testing.T) {
	for level, ok := range map[string]bool{"debug": true, "info": true, "warn": true, "error": true, "INFO": false, "": false} {
		if err := (Logging{Level: level}).Check(); (err == nil) != ok {
			t.Errorf("%q: %v", level, err)
		}
	}
	if (Logging{Level: "info", Format: "xml"}).Check() == nil {
		t.Error("xml")
	}
}
