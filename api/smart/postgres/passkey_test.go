package postgres_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
)

// authenticator is a device with one passkey, as WebAuthn describes one: it computes what a browser would send.
type authenticator struct {
	t        *testing.T
	key      *ecdsa.PrivateKey
	id       []byte
	handle   []byte
	count    uint32
	origin   string
	verifies bool // the user, by PIN or fingerprint
}

func newAuthenticator(t *testing.T) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authenticator{t: t, key: key, id: []byte("credential-" + rand.Text()), count: 1, origin: "https://fhir.example.org", verifies: true}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// head is the data item head of CBOR (RFC 8949, 3).
func head(major byte, n int) []byte {
	switch {
	case n < 24:
		return []byte{major<<5 | byte(n)}
	case n < 256:
		return []byte{major<<5 | 24, byte(n)}
	}
	return []byte{major<<5 | 25, byte(n >> 8), byte(n)}
}

func cborText(s string) []byte  { return append(head(3, len(s)), s...) }
func cborBytes(b []byte) []byte { return append(head(2, len(b)), b...) }

func (a *authenticator) data(attested bool) []byte {
	sum := sha256.Sum256([]byte("fhir.example.org"))
	flags := byte(1)
	if a.verifies {
		flags |= 4
	}
	if attested {
		flags |= 0x40
	}
	out := append(sum[:], flags)
	out = binary.BigEndian.AppendUint32(out, a.count)
	if attested {
		out = append(out, make([]byte, 16)...)
		out = binary.BigEndian.AppendUint16(out, uint16(len(a.id)))
		out = append(out, a.id...)
		point, err := a.key.PublicKey.Bytes()
		if err != nil {
			a.t.Fatal(err)
		}
		// COSE: kty EC2, alg ES256, crv P-256, x, y.
		out = append(out, 0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21)
		out = append(append(out, cborBytes(point[1:33])...), 0x22)
		out = append(out, cborBytes(point[33:])...)
	}
	return out
}

type options struct {
	PublicKey struct {
		Challenge        string
		UserVerification string
		RPID             string `json:"rpId"`
		User             struct{ ID string }
		AllowCredentials []struct{ ID string }
	}
}

func (a *authenticator) read(raw []byte) options {
	a.t.Helper()
	var o options
	if err := json.Unmarshal(raw, &o); err != nil {
		a.t.Fatal(err)
	}
	return o
}

func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (a *authenticator) client(kind, challenge string) []byte {
	return toJSON(map[string]any{"type": kind, "challenge": challenge, "origin": a.origin, "crossOrigin": false})
}

// create answers navigator.credentials.create.
func (a *authenticator) create(raw []byte) []byte {
	a.t.Helper()
	o := a.read(raw)
	handle, err := base64.RawURLEncoding.DecodeString(o.PublicKey.User.ID)
	if err != nil {
		a.t.Fatal(err)
	}
	a.handle = handle
	object := slices.Concat([]byte{0xa3}, cborText("fmt"), cborText("none"), cborText("attStmt"), []byte{0xa0}, cborText("authData"), cborBytes(a.data(true)))
	return toJSON(map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key", "response": map[string]any{
		"clientDataJSON": b64(a.client("webauthn.create", o.PublicKey.Challenge)), "attestationObject": b64(object),
	}})
}

// get answers navigator.credentials.get.
func (a *authenticator) get(raw []byte) []byte {
	a.t.Helper()
	o := a.read(raw)
	data, client := a.data(false), a.client("webauthn.get", o.PublicKey.Challenge)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(slices.Concat(data, hash[:]))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return toJSON(map[string]any{"id": b64(a.id), "rawId": b64(a.id), "type": "public-key", "response": map[string]any{
		"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(signature), "userHandle": b64(a.handle),
	}})
}

func TestPasskeys(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a := h.account("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	key := newAuthenticator(t)

	step := must(h.Password(ctx, "tess@example.org", goodPassword, home))(t)
	raw := must(h.EnrolPasskey(ctx, step.Challenge.ID))(t)
	if !bytes.Contains(raw, []byte(`"userVerification":"required"`)) || !bytes.Contains(raw, []byte(`"residentKey":"required"`)) {
		t.Errorf("%s", raw)
	}
	evil := *key
	evil.origin = "https://fhir.example.org.evil.example"
	if _, err := h.ConfirmPasskey(ctx, step.Challenge.ID, evil.create(raw), "", home); err == nil {
		t.Fatal("a passkey of another origin was enrolled")
	}
	done := must(h.ConfirmPasskey(ctx, step.Challenge.ID, key.create(raw), "My phone", home))(t)
	if !slices.Equal(done.Session.Methods, []string{"pwd", "hwk", "mfa"}) {
		t.Fatalf("%+v", done)
	}
	if list := must(h.Factors(ctx, a.ID))(t); len(list) != 1 || list[0].Name != "My phone" {
		t.Errorf("%+v", list)
	}

	// As the second step.
	step = must(h.Password(ctx, "tess@example.org", goodPassword, home))(t)
	raw = must(h.BeginPasskey(ctx, step.Challenge.ID))(t)
	key.count++
	response := key.get(raw)
	if _, err := h.FinishPasskey(ctx, "", response, home); err == nil {
		t.Fatal("a ceremony of one challenge was good without it")
	}
	raw = must(h.BeginPasskey(ctx, step.Challenge.ID))(t)
	response = key.get(raw)
	must(h.FinishPasskey(ctx, step.Challenge.ID, response, home))(t)
	step = must(h.Password(ctx, "tess@example.org", goodPassword, home))(t)
	if _, err := h.FinishPasskey(ctx, step.Challenge.ID, response, home); err == nil {
		t.Fatal("a response was replayed")
	}

	// Alone.
	alone := func(k *authenticator) (identity.Step, error) {
		return h.FinishPasskey(ctx, "", k.get(must(h.BeginPasskey(ctx, ""))(t)), home)
	}
	key.count++
	in := must(alone(key))(t)
	if in.Session.Account != a.ID || !slices.Equal(in.Session.Methods, []string{"hwk", "mfa"}) {
		t.Fatalf("%+v", in)
	}
	// Whoever was not verified holds one factor, not two.
	key.verifies = false
	key.count++
	if _, err := alone(key); err == nil {
		t.Fatal("came in without verification of the user")
	}
	key.verifies = true
	// The counter must go up: else there are two of this device.
	key.count -= 2
	_, err := alone(key)
	wantErr(t, err, identity.ErrPasskey)
	if !h.recorded("harbor", audit.SignIn, audit.ReasonClone) {
		t.Error("a cloned passkey is not recorded as one")
	}
	key.count += 3
	must(alone(key))(t)
	// Somebody else's key under the same name.
	forged := newAuthenticator(t)
	forged.id, forged.handle, forged.count = key.id, key.handle, 99
	_, err = alone(forged)
	wantErr(t, err, identity.ErrPasskey)
	// An unknown one answers the same.
	_, err = alone(newAuthenticator(t))
	wantErr(t, err, identity.ErrPasskey)
	if err := h.Disable(ctx, "test", a.ID, true); err != nil {
		t.Fatal(err)
	}
	key.count++
	_, err = alone(key)
	wantErr(t, err, identity.ErrPasskey)
}
