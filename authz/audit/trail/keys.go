package trail

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Keys are those of a trail. The first signs and marks rows; the others, and any that are public alone, check what was signed before.
type Keys struct {
	list []key
}

type key struct {
	id      string // thumbprint (RFC 7638)
	public  ed25519.PublicKey
	private ed25519.PrivateKey // nil in a set that is public
	secret  []byte             // of macs, made from the private key
}

// jwk is an Ed25519 key as a JSON Web Key (RFC 8037, section 2).
type jwk struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	Kid string `json:"kid,omitempty"`
	X   string `json:"x"`
	D   string `json:"d,omitempty"`
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

var b64 = base64.RawURLEncoding.Strict()

// Parse reads a JSON Web Key Set of Ed25519 keys.
func Parse(text []byte) (*Keys, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var set jwks
	if err := d.Decode(&set); err != nil {
		return nil, fmt.Errorf("trail: no JSON Web Key Set: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("trail: something follows the JSON Web Key Set")
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("trail: the JSON Web Key Set is empty")
	}
	k := &Keys{}
	for i, j := range set.Keys {
		x, err := b64.DecodeString(j.X)
		if err != nil || len(x) != ed25519.PublicKeySize || j.Kty != "OKP" || j.Crv != "Ed25519" {
			return nil, fmt.Errorf("trail: key %d is no Ed25519 key (RFC 8037)", i+1)
		}
		own := key{id: thumbprint(j.X), public: x}
		if j.Kid != "" && j.Kid != own.id {
			return nil, fmt.Errorf("trail: key %d is not the one that its id names", i+1)
		}
		if k.find(own.id) != nil {
			return nil, fmt.Errorf("trail: key %d is there twice", i+1)
		}
		if j.D != "" {
			seed, err := b64.DecodeString(j.D)
			if err != nil || len(seed) != ed25519.SeedSize {
				return nil, fmt.Errorf("trail: key %d is no Ed25519 key (RFC 8037)", i+1)
			}
			own.private = ed25519.NewKeyFromSeed(seed)
			if !own.public.Equal(own.private.Public()) {
				return nil, fmt.Errorf("trail: the halves of key %d do not belong together", i+1)
			}
			if own.secret, err = hkdf.Key(sha256.New, seed, nil, "cloister audit mac", sha256.Size); err != nil {
				return nil, fmt.Errorf("trail: %w", err)
			}
		}
		k.list = append(k.list, own)
	}
	return k, nil
}

// thumbprint is the id of a key (RFC 7638, section 3).
func thumbprint(x string) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return b64.EncodeToString(sum[:])
}

// ReadFile reads a key set from a file. One with a private key must be for its owner alone.
func ReadFile(path string) (*Keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("trail: %w", err)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("trail: %w", err)
	}
	k, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if k.private() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("trail: %s holds a private key and others may read or change it: chmod 600 %s", path, path)
	}
	return k, nil
}

func (k *Keys) private() bool {
	for _, x := range k.list {
		if x.private != nil {
			return true
		}
	}
	return false
}

// CanSign reports whether the first key is private.
func (k *Keys) CanSign() bool { return k != nil && k.list[0].private != nil }

// ID is that of the key that signs.
func (k *Keys) ID() string { return k.list[0].id }

func (k *Keys) find(id string) *key {
	for i := range k.list {
		if k.list[i].id == id {
			return &k.list[i]
		}
	}
	return nil
}

// Create writes a new key into a file, before those of older, which may be nil. The file must not be there yet.
func Create(path string, older *Keys) error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return fmt.Errorf("trail: %w", err)
	}
	x := b64.EncodeToString(public)
	k := &Keys{list: []key{{id: thumbprint(x), public: public, private: private}}}
	if older != nil {
		k.list = append(k.list, older.list...)
	}
	text, err := k.marshal(true)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names it
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("trail: %s is there already and stays as it is", path)
	}
	if err != nil {
		return fmt.Errorf("trail: %w", err)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// Public is the key set without private halves: all that it takes to verify.
func (k *Keys) Public() ([]byte, error) { return k.marshal(false) }

func (k *Keys) marshal(private bool) ([]byte, error) {
	var set jwks
	for _, x := range k.list {
		j := jwk{Kty: "OKP", Crv: "Ed25519", Kid: x.id, X: b64.EncodeToString(x.public)}
		if private && x.private != nil {
			j.D = b64.EncodeToString(x.private.Seed())
		}
		set.Keys = append(set.Keys, j)
	}
	text, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("trail: %w", err)
	}
	return append(text, '\n'), nil
}

// macSize is that of a mac: the beginning of the key's id, and 16 bytes of HMAC-SHA-256.
const macSize = 4 + 16

func (x *key) tag() [4]byte {
	sum := sha256.Sum256([]byte(x.id))
	return [4]byte(sum[:4])
}

func (x *key) mac(feed func(io.Writer)) []byte {
	h := hmac.New(sha256.New, x.secret)
	feed(h)
	tag := x.tag()
	return append(tag[:], h.Sum(nil)[:macSize-4]...)
}

// mac marks something as a server's own.
func (k *Keys) mac(feed func(io.Writer)) []byte { return k.list[0].mac(feed) }

// checkMac reports whether one who holds a key made mac.
func (k *Keys) checkMac(mac []byte, feed func(io.Writer)) bool {
	if len(mac) != macSize {
		return false
	}
	for i := range k.list {
		x := &k.list[i]
		if tag := x.tag(); x.secret != nil && bytes.Equal(tag[:], mac[:4]) && hmac.Equal(x.mac(feed), mac) {
			return true
		}
	}
	return false
}

func sum(feed func(io.Writer)) (out [sha256.Size]byte) {
	h := sha256.New()
	feed(h)
	h.Sum(out[:0])
	return out
}

// String names the keys by their ids.
func (k *Keys) String() string {
	ids := make([]string, len(k.list))
	for i, x := range k.list {
		ids[i] = x.id
	}
	return strings.Join(ids, " ")
}
