package smart

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/app"
)

// FuzzAssertion: whatever is sent as an assertion names a client by both iss and sub, in their one spelling, or nobody.
func FuzzAssertion(f *testing.F) {
	for _, s := range []string{"", "..", "a.b.c", "e30.eyJpc3MiOiJhIiwic3ViIjoiYSJ9.x", "e30.eyJpc3MiOiJhIiwiSVNTIjoiYiIsInN1YiI6ImEifQ.x", "e30.eyJpc3MiOiJhIiwic3ViIjoiYSIsImF1ZCI6W119.x", "e30.bnVsbA.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := assertedClient(text)
		if err != nil {
			if id != "" {
				t.Errorf("%q: %q with an error", text, id)
			}
			return
		}
		c, err := claimsOf(text)
		if err != nil || id == "" || c.Issuer != id || c.Subject != id || strings.Count(text, ".") != 2 {
			t.Errorf("%q: %q %+v %v", text, id, c, err)
		}
	})
}

// FuzzScopes: what is granted was asked for, or registered and within what was asked for; and nothing is granted that is not registered.
func FuzzScopes(f *testing.F) {
	for _, s := range [][2]string{{"patient/*.rs openid", "patient/Observation.rs"}, {"patient/Observation.rs", "patient/*.cruds"}, {"user/Patient.rs", "patient/Patient.rs"}, {"patient/*.rs", "patient/Observation.rs?category=x"}, {"patient/Observation.rs?category=x", "patient/Observation.rs"}, {"user/*.read", "user/Patient.r"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, have, asked string) {
		h, ok1 := split(have)
		a, ok2 := split(asked)
		if !ok1 || !ok2 {
			return
		}
		granted := within(h, a)
		if !subset(h, granted) {
			t.Errorf("%q of %q: %q is not registered", asked, have, granted)
		}
		for _, g := range granted {
			if !slices.Contains(a, g) && !subset(a, []string{g}) {
				t.Errorf("%q of %q: %q was not asked for", asked, have, g)
			}
			if strings.HasPrefix(g, "system/") && slices.Contains(ofUser(granted), g) {
				t.Errorf("%q: a user has a system scope", g)
			}
		}
	})
}

// FuzzRedirect: an answer goes where the app registered, but for the port of a loopback address.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{"https://app.example.org/cb", "http://127.0.0.1/cb", "http://127.0.0.1:80/cb", "http://127.0.0.1:80@evil/cb", "http://[::1]:9/cb", "http://127.1/cb", "http://127.0.0.1:1/cb#x", "http://127.0.0.1:1/cb?x"} {
		f.Add(s)
	}
	registered := []string{"https://app.example.org/cb", "http://127.0.0.1/cb"}
	f.Fuzz(func(t *testing.T, text string) {
		strict, native := app.App{Redirects: registered}, app.App{Redirects: registered, Loopback: true}
		if strict.RedirectAllowed(text) != slices.Contains(registered, text) {
			t.Errorf("%q", text)
		}
		if native.RedirectAllowed(text) && !slices.Contains(registered, text) {
			u, err := url.Parse(text)
			if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Path != "/cb" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.ContainsAny(text, "?#@\\ ") {
				t.Errorf("%q", text)
			}
		}
	})
}

// FuzzLaunch: whatever an EHR posts, what comes through has ids that are ids.
func FuzzLaunch(f *testing.F) {
	for _, s := range []string{`{}`, `{"patient":"a"}`, `{"fhirContext":[{"reference":"ImagingStudy/1"}]}`, `{"patient":"a/b"}`, `{"patient":"a"}{}`, `null`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := readLaunch(strings.NewReader(text))
		if err == nil && (q.Patient != "" && !q.Patient.Valid() || q.Encounter != "" && !q.Encounter.Valid() || len(q.Intent) > maxIntent) {
			t.Errorf("%q: %+v", text, q)
		}
	})
}

// FuzzToken: a token that this server did not make is none.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.AAAA"} {
		f.Add(s)
	}
	s := &Server{Config: Config{Issuer: "https://x.example/smart", Keys: &Ring{now: fixed, loaded: fixed()}, Now: fixed}}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := s.alive(t.Context(), text); err == nil {
			t.Errorf("%q is a token", text)
		}
		_ = scopesOf(text)
		_, _ = practiceOf(text)
		_, _ = split(text)
	})
}
