package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	vault "github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keepers says which URIs name a key encryption key.
const Keepers = "file:/path/to/keyset.json (made by cloister keys create) or hcvault://vault.example.org:8200/transit/keys/NAME"

// keepers find the key of a URI, by its scheme. Another KMS is one more line,
// if it is a tink.AEAD.
var keepers = map[string]func(uri string) (tink.AEAD, error){
	"file":    file,
	"hcvault": transit,
}

// Check says what is wrong with the form of a key URI.
func Check(uri string) error {
	_, err := keeperOf(uri)
	return err
}

func keeperOf(uri string) (func(string) (tink.AEAD, error), error) {
	scheme, rest, _ := strings.Cut(uri, ":")
	keeper := keepers[scheme]
	if keeper == nil || rest == "" {
		return nil, errors.New("envelope: a key is named by " + Keepers)
	}
	return keeper, nil
}

// file reads a Tink keyset in JSON, whose mode must keep it from everybody else.
func file(uri string) (tink.AEAD, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(uri, "file:"), "//")
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("envelope: others may read or write %s (mode %s): chmod 600 it, and make a new key if somebody did", path, info.Mode())
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(f))
	if err != nil {
		return nil, fmt.Errorf("envelope: %s holds no Tink keyset: make one with cloister keys create", path)
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("envelope: the keyset of %s is not for AEAD: make one with cloister keys create", path)
	}
	return a, nil
}

// Create makes a key encryption key in a new file that nobody else may read. It
// never replaces one: what was wrapped under it would be lost.
func Create(path string) error {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)); err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	// A name of its own first: a file with half a key must never stand under path.
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(b.Bytes())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("envelope: %s is there already, and stays: data keys may be wrapped under it", path)
	} else if err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	return nil
}

// How long Vault may take: a note that waits for it keeps a transaction open.
const (
	vaultTimeout = 5 * time.Second
	vaultRetries = 1
)

// transit is a key of a Vault transit engine, whose type takes associated data
// (aes256-gcm96, chacha20-poly1305). Token, certificates, namespace and agent are
// those of Vault's own variables: VAULT_TOKEN, VAULT_CACERT, VAULT_NAMESPACE,
// VAULT_AGENT_ADDR.
func transit(uri string) (tink.AEAD, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("envelope: a key of Vault is named by hcvault://vault.example.org:8200/transit/keys/NAME")
	}
	cfg := vault.DefaultConfig()
	if cfg.Error != nil {
		return nil, fmt.Errorf("envelope: the variables of Vault are wrong: %w", cfg.Error)
	}
	cfg.Address, cfg.Timeout, cfg.MaxRetries = "https://"+u.Host, vaultTimeout, vaultRetries
	client, err := vault.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("envelope: the variables of Vault are wrong: %w", err)
	}
	a, err := hcvault.NewAEAD(u.EscapedPath(), client.Logical())
	if err != nil {
		return nil, errors.New("envelope: a key of Vault is named by hcvault://vault.example.org:8200/transit/keys/NAME")
	}
	return a, nil
}
