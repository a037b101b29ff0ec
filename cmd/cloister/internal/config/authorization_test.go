package config

import (
	"strings"
	"testing"
)

func TestAuthorizationIsChecked(t *testing.T) {
	key := "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	on := Authorization{Server: Embedded, AuthKey: AuthKey{AuthKeys: []string{key}}, Registration: "pending", KeyHosts: []string{"apps.example.org"}, Proxies: []string{"10.0.0.0/8"}}
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
