package signature_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cloister-health/cloister/fhir/signature"
)

var claims = signature.Claims{
	Type: signature.Consent, Who: "RelatedPerson/r", OnBehalf: "Patient/p",
	At: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), Canonical: "http://hl7.org/fhir/canonicalization/json#static",
}

func generated(t *testing.T) (*signature.Keys, []byte) {
	t.Helper()
	set, err := signature.Generate()
	if err != nil {
		t.Fatal(err)
	}
	k, err := signature.Parse(set)
	if err != nil {
		t.Fatal(err)
	}
	return k, set
}

func TestSignatureHoldsItsContentAndClaims(t *testing.T) {
	k, _ := generated(t)
	const content = `{"resourceType":"Consent","status":"active"}`
	s, err := k.Sign([]byte(content), claims)
	if err != nil {
		t.Fatal(err)
	}
	if parts := strings.Split(s, "."); len(parts) != 3 || parts[1] != "" {
		t.Errorf("the content is not detached: %s", s)
	}
	if got, err := k.Verify([]byte(content), s); err != nil || got != claims {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := k.Verify([]byte(strings.Replace(content, "active", "draft", 1)), s); !errors.Is(err, signature.ErrContent) {
		t.Errorf("other content: %v", err)
	}
	parts := strings.Split(s, ".")
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{"RelatedPerson/r", "RelatedPerson/s"}, {"Patient/p", "Patient/q"}, {"2026-03-02", "2026-03-03"}} {
		changed := strings.Replace(string(header), change[0], change[1], 1)
		if changed == string(header) {
			t.Fatalf("the header does not say %s: %s", change[0], header)
		}
		if _, err := k.Verify([]byte(content), base64.RawURLEncoding.EncodeToString([]byte(changed))+".."+parts[2]); !errors.Is(err, signature.ErrContent) {
			t.Errorf("%s made %s: %v", change[0], change[1], err)
		}
	}
	other, _ := generated(t)
	if _, err := other.Verify([]byte(content), s); !errors.Is(err, signature.ErrUnknown) {
		t.Errorf("another server: %v", err)
	}
	for _, bad := range []string{"", "..", "a.b.c", parts[0] + "." + parts[0] + "." + parts[2]} {
		if _, err := k.Verify([]byte(content), bad); !errors.Is(err, signature.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// What says less than everything is no signature.
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key(t, elliptic.P256())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := signer.Sign([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	text, err := plain.DetachedCompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify([]byte(content), text); !errors.Is(err, signature.ErrUnknown) {
		t.Errorf("a signature with a stranger's key and no id: %v", err)
	}
}

func key(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func set(t *testing.T, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	out, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A key that is retired checks and does not sign.
func TestKeysAreReplaced(t *testing.T) {
	old, next := key(t, elliptic.P256()), key(t, elliptic.P384())
	before, err := signature.Parse(set(t, jose.JSONWebKey{Key: old}))
	if err != nil {
		t.Fatal(err)
	}
	s, err := before.Sign([]byte("content"), claims)
	if err != nil {
		t.Fatal(err)
	}
	after, err := signature.Parse(set(t, jose.JSONWebKey{Key: next}, jose.JSONWebKey{Key: &old.PublicKey}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.Verify([]byte("content"), s); err != nil {
		t.Errorf("a signature of the retired key: %v", err)
	}
	s, err = after.Sign([]byte("content"), claims)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := before.Verify([]byte("content"), s); !errors.Is(err, signature.ErrUnknown) {
		t.Errorf("the new key is known to who has never seen it: %v", err)
	}
	published, err := after.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(published), `"d"`) || strings.Count(string(published), `"kty"`) != 2 {
		t.Errorf("what is published: %s", published)
	}
}

func TestKeysAreChecked(t *testing.T) {
	good := key(t, elliptic.P256())
	for name, bad := range map[string][]byte{
		"no JSON":               []byte("-----BEGIN"),
		"no key":                set(t),
		"a public key alone":    set(t, jose.JSONWebKey{Key: &good.PublicKey}),
		"a symmetric key":       set(t, jose.JSONWebKey{Key: []byte("0123456789abcdef")}),
		"a curve without a use": set(t, jose.JSONWebKey{Key: key(t, elliptic.P521())}),
		"one id for two":        set(t, jose.JSONWebKey{Key: good, KeyID: "a"}, jose.JSONWebKey{Key: key(t, elliptic.P256()), KeyID: "a"}),
	} {
		if _, err := signature.Parse(bad); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	var none *signature.Keys
	if _, err := none.Sign([]byte("content"), claims); err == nil {
		t.Error("a signature without a key")
	}
	k, _ := generated(t)
	if _, err := k.Sign([]byte("content"), signature.Claims{Type: signature.Consent, At: claims.At, Canonical: "x"}); err == nil {
		t.Error("a signature of nobody")
	}
}
