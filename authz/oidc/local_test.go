package oidc

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/fhir/outcome"
)

// ownKeys is the key set of the local issuer.
type ownKeys struct {
	key  jose.JSONWebKey
	fail error
}

func (k *ownKeys) Verification(_ context.Context, kid string) (crypto.PublicKey, bool, error) {
	if k.fail != nil || kid != k.key.KeyID {
		return nil, false, k.fail
	}
	return k.key.Public().Key, true, nil
}

const localURL = "https://fhir.example.org/smart"

// house has a local issuer alone.
type house struct {
	*Authenticator
	keys  *ownKeys
	ended *Ended
	list  []string // what other processes ended
	fail  error
	clock *clock
	good  claims
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{keys: &ownKeys{key: key(t, "ES256", "one")}, clock: &clock{now: time.Unix(1772366400, 0)}}
	h.ended = NewEnded(func(context.Context, time.Time) ([]string, error) { return h.list, h.fail }, h.clock.Now)
	h.good = claims{
		"iss": localURL, "aud": audience, "sub": "u1", "exp": h.clock.Now().Add(5 * time.Minute).Unix(), "client_id": "chart", "sid": "g1", "scope": "user/*.rs",
		"practice": "harbor", "roles": []string{"therapist"}, "purpose_of_use": "TREAT",
	}
	var err error
	h.Authenticator, err = New(nil, slugs{"harbor": 7}, h.clock.Now, Local{Issuer{URL: localURL, Audience: audience}, h.keys, h.ended})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) status(t *testing.T, token string) int {
	t.Helper()
	_, err := h.Authenticate(t.Context(), token)
	if err == nil {
		return http.StatusOK
	}
	return outcome.Of(err).Status()
}

func (h *house) refresh(t *testing.T) {
	t.Helper()
	if err := h.ended.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTokensOfTheLocalIssuer(t *testing.T) {
	h := newHouse(t)
	good := sign(t, h.keys.key, h.good)
	if got := h.status(t, good); got != http.StatusServiceUnavailable {
		t.Errorf("before it is known what ended: %d", got)
	}
	h.refresh(t)
	if got := h.status(t, good); got != http.StatusOK {
		t.Fatalf("%d", got)
	}
	typed := func(kind jose.ContentType) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: h.keys.key}, (&jose.SignerOptions{}).WithType(kind))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := json.Marshal(h.good)
		if err != nil {
			t.Fatal(err)
		}
		j, err := s.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := j.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for why, token := range map[string]string{
		"no grant":            sign(t, h.keys.key, h.good.with("sid", nil)),
		"no client":           sign(t, h.keys.key, h.good.with("client_id", nil)),
		"another audience":    sign(t, h.keys.key, h.good.with("aud", "https://other.example/fhir")),
		"another issuer":      sign(t, h.keys.key, h.good.with("iss", "https://other.example")),
		"expired":             sign(t, h.keys.key, h.good.with("exp", h.clock.Now().Unix())),
		"sid in capitals":     sign(t, h.keys.key, h.good.with("SID", "g2")),
		"another key":         sign(t, key(t, "ES256", "one"), h.good),
		"a key not in use":    sign(t, key(t, "ES256", "two"), h.good),
		"another algorithm":   sign(t, key(t, "ES384", "one"), h.good),
		"an ID token":         typed("JWT"),
		"a client's own JWT":  typed("client-authentication+jwt"),
		"an unknown practice": sign(t, h.keys.key, h.good.with("practice", "lakeside")),
	} {
		if got := h.status(t, token); got != http.StatusUnauthorized {
			t.Errorf("%s: %d", why, got)
		}
	}
	h.keys.fail = errors.New("down")
	if got := h.status(t, sign(t, h.keys.key, h.good.with("sub", "u2"))); got != http.StatusServiceUnavailable {
		t.Errorf("keys out of reach: %d", got)
	}
}

// TestTokensEnd also where the token was verified before: the cache must not keep it alive.
func TestTokensEnd(t *testing.T) {
	for _, ends := range []string{"g1", EndedApp("chart", ""), EndedApp("chart", "harbor"), EndedKey("one")} {
		for where, end := range map[string]func(h *house){
			"here":  func(h *house) { h.ended.Add(ends) },
			"there": func(h *house) { h.list = []string{ends}; h.refresh(t) },
		} {
			h := newHouse(t)
			h.refresh(t)
			token := sign(t, h.keys.key, h.good)
			if got := h.status(t, token); got != http.StatusOK {
				t.Fatalf("%d", got)
			}
			end(h)
			if got := h.status(t, token); got != http.StatusUnauthorized {
				t.Errorf("%s ended %s: %d", ends, where, got)
			}
			h.refresh(t) // what ended here stays ended before the database says so
			if got := h.status(t, token); got != http.StatusUnauthorized {
				t.Errorf("%s ended %s, and after a refresh: %d", ends, where, got)
			}
		}
	}
	h := newHouse(t)
	h.ended.Add("g2", EndedApp("other", ""), EndedApp("chart", "lakeside"), EndedKey("two"))
	h.refresh(t)
	if got := h.status(t, sign(t, h.keys.key, h.good)); got != http.StatusOK {
		t.Errorf("something else ended: %d", got)
	}
}

func TestFailsClosedWhereEndsAreNotKnown(t *testing.T) {
	h := newHouse(t)
	h.refresh(t)
	token := sign(t, h.keys.key, h.good)
	h.fail = errors.New("down")
	h.clock.pass(endedFresh)
	if got := h.status(t, token); got != http.StatusOK {
		t.Errorf("%d", got)
	}
	if err := h.ended.Refresh(t.Context()); err == nil {
		t.Error("a failure is no failure")
	}
	h.clock.pass(time.Second)
	if got := h.status(t, token); got != http.StatusServiceUnavailable {
		t.Errorf("%d", got)
	}
	h.fail = nil
	h.refresh(t)
	if got := h.status(t, token); got != http.StatusOK {
		t.Errorf("%d", got)
	}
}

func TestLocalIssuerIsChecked(t *testing.T) {
	good := Local{Issuer{URL: localURL, Audience: audience}, &ownKeys{}, NewEnded(nil, time.Now)}
	for why, l := range map[string][]Local{
		"no keys": {{good.Issuer, nil, good.Ended}}, "no set": {{good.Issuer, good.Keys, nil}}, "http": {{Issuer{URL: "http://fhir.example.org/smart", Audience: audience}, good.Keys, good.Ended}},
		"two": {good, good}, "none": nil,
	} {
		if _, err := New(nil, slugs{}, time.Now, l...); err == nil {
			t.Errorf("%s", why)
		}
	}
	if _, err := New([]Issuer{{URL: localURL, Audience: audience}}, slugs{}, time.Now, good); err == nil {
		t.Error("the local issuer among the others")
	}
}
