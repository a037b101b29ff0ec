package envelope_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
)

func TestDataKeysOpenForTheirOwnerAndPlace(t *testing.T) {
	ctx := context.Background()
	keys := envelopetest.Keys()
	key, wrapped, err := keys.NewDataKey(ctx, []byte("anna"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.Seal([]byte("she said"), []byte("note 1"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("said")) {
		t.Fatal("it is not encrypted")
	}
	again, err := keys.Unwrap(ctx, keys.URI(), wrapped, []byte("anna"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open(text, []byte("note 1")); err != nil || string(got) != "she said" {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := again.Open(text, []byte("note 2")); err == nil {
		t.Error("it opens in another place")
	}
	if _, err := keys.Unwrap(ctx, keys.URI(), wrapped, []byte("bert")); err == nil {
		t.Error("the data key opens for another owner")
	}
	other := envelope.New(keys.URI(), envelopetest.Primitive("another"))
	if _, err := other.Unwrap(ctx, keys.URI(), wrapped, []byte("anna")); err == nil {
		t.Error("the data key opens with another key encryption key")
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := keys.NewDataKey(done, nil); err == nil {
		t.Error("a key was made for nobody who waits")
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	keys := envelopetest.Keys()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		for _, x := range []any{keys, *keys} {
			if s := fmt.Sprintf(verb, x); s != "[key encryption keys]" {
				t.Errorf("%s shows %s", verb, s)
			}
		}
	}
}

func TestRewrap(t *testing.T) {
	ctx := context.Background()
	old, next := envelope.New("old:", envelopetest.Primitive("old")), envelope.New("new:", envelopetest.Primitive("new"))
	key, wrapped, err := old.NewDataKey(ctx, []byte("anna"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.Seal([]byte("she said"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := next.Rewrap(ctx, "old:", wrapped, []byte("anna")); err == nil {
		t.Fatal("rewrapped without the old key")
	}
	anew, err := next.With(old).Rewrap(ctx, "old:", wrapped, []byte("anna"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Unwrap(ctx, "new:", anew, []byte("anna")); err == nil {
		t.Error("the old key still opens it")
	}
	same, err := next.Unwrap(ctx, "new:", anew, []byte("anna"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := same.Open(text, nil); err != nil || string(got) != "she said" {
		t.Errorf("the data key is another one: %q %v", got, err)
	}
}

func TestFileOfAKey(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "key.json")
	if err := envelope.Create(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v (%v)", info.Mode(), err)
	}
	if err := envelope.Create(path); err == nil {
		t.Error("a key was replaced")
	}
	keys, err := envelope.Open("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	_, wrapped, err := keys.NewDataKey(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	// It may move: its new name opens what was wrapped under the old one.
	moved := path + ".moved"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if _, err := envelope.Open("file:" + path); err == nil {
		t.Error("a file that is not there was opened")
	}
	again, err := envelope.Open("file://" + moved)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Unwrap(ctx, keys.URI(), wrapped, nil); err != nil {
		t.Error(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o660} {
		if err := os.Chmod(moved, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := envelope.Open("file:" + moved); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := envelope.Open("file:" + path); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("no keyset: %v", err)
	}
}

func TestUnknownKeepers(t *testing.T) {
	for _, uri := range []string{"", "file:", "keyset.json", "aws-kms://x", "hcvault:"} {
		if envelope.Check(uri) == nil {
			t.Errorf("%q is a key", uri)
		}
	}
	for _, uri := range []string{"hcvault://host", "hcvault://host/transit/cloister", "hcvault:///transit/keys/x", "hcvault://token@host/transit/keys/x"} {
		if _, err := envelope.Open(uri); err == nil {
			t.Errorf("%q is a key", uri)
		}
	}
}

// vault answers as the transit engine does: it "encrypts" into what names the
// key and the associated data, and gives nothing to whoever has no token.
func vault(t *testing.T) (host string, down *atomic.Bool) {
	t.Helper()
	down = &atomic.Bool{}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Plaintext, Ciphertext string
			AD                    string `json:"associated_data"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		switch {
		case down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Header.Get("X-Vault-Token") != "good":
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/v1/transit/encrypt/cloister":
			_, _ = fmt.Fprintf(w, `{"data":{"ciphertext":"vault:v1:%s.%s"}}`, in.AD, base64.StdEncoding.EncodeToString([]byte(in.Plaintext)))
		case r.URL.Path == "/v1/transit/decrypt/cloister":
			ad, text, _ := strings.Cut(strings.TrimPrefix(in.Ciphertext, "vault:v1:"), ".")
			plain, _ := base64.StdEncoding.DecodeString(text)
			if ad != in.AD {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			_, _ = fmt.Fprintf(w, `{"data":{"plaintext":%q}}`, plain)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VAULT_CACERT", ca)
	t.Setenv("VAULT_TOKEN", "good")
	return strings.TrimPrefix(s.URL, "https://"), down
}

func TestVault(t *testing.T) {
	ctx := context.Background()
	host, down := vault(t)
	uri := "hcvault://" + host + "/transit/keys/cloister"
	keys, err := envelope.Open(uri)
	if err != nil {
		t.Fatal(err)
	}
	_, wrapped, err := keys.NewDataKey(ctx, []byte("anna"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Unwrap(ctx, uri, wrapped, []byte("anna")); err != nil {
		t.Error(err)
	}
	if _, err := keys.Unwrap(ctx, uri, wrapped, []byte("bert")); err == nil {
		t.Error("the data key opens for another owner")
	}
	down.Store(true)
	if _, err := keys.Unwrap(ctx, uri, wrapped, []byte("anna")); err == nil {
		t.Error("Vault is down, and the key opens")
	}
	down.Store(false)
	t.Setenv("VAULT_TOKEN", "bad")
	stranger, err := envelope.Open(uri)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := stranger.NewDataKey(ctx, nil); err == nil || strings.Contains(err.Error(), "bad") {
		t.Errorf("with a token that Vault does not know: %v", err)
	}
}
