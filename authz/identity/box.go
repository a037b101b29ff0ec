package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// KeySize is the size of a key of a [Box], in bytes.
const KeySize = 32

// sealedVersion is the first byte of everything that a Box seals.
const sealedVersion = 1

// keyName is how many bytes of what is sealed name its key.
const keyName = 4

// Box seals secrets that are to be stored: AES-256-GCM under keys derived from those of the
// configuration. What it seals is bound to its associated data, so that a row copied to another account does not open.
type Box struct {
	keys []boxKey // the first seals
	mark []byte
}

type boxKey struct {
	name [keyName]byte
	aead cipher.AEAD
}

// ErrSealed says that something was not sealed by this box, or for something else.
var ErrSealed = errors.New("identity: sealed under another key, or for something else")

// NewBox makes a box that seals with the first key, and opens what any of them sealed: a key
// is changed by putting the new one before it. Each is [KeySize] random bytes.
func NewBox(keys ...[]byte) (*Box, error) {
	if len(keys) == 0 {
		return nil, errors.New("identity: a box needs a key")
	}
	b := &Box{}
	for i, k := range keys {
		if len(k) != KeySize {
			return nil, fmt.Errorf("identity: a key has %d bytes, not %d", len(k), KeySize)
		}
		sealing, err := hkdf.Key(sha256.New, k, nil, "cloister identity seal", KeySize)
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		block, err := aes.NewCipher(sealing)
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		name, err := hkdf.Key(sha256.New, k, nil, "cloister identity name", keyName)
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		b.keys = append(b.keys, boxKey{[keyName]byte(name), aead})
		if i == 0 {
			if b.mark, err = hkdf.Key(sha256.New, k, nil, "cloister identity mark", KeySize); err != nil {
				return nil, fmt.Errorf("identity: %w", err)
			}
		}
	}
	return b, nil
}

// ParseKey reads a key in base64, in any of its alphabets.
func ParseKey(text string) ([]byte, error) {
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := e.DecodeString(text); err == nil && len(key) == KeySize {
			return key, nil
		}
	}
	return nil, fmt.Errorf("not %d bytes in base64", KeySize)
}

// Seal encrypts plain for about, which says what it is and whose.
func (b *Box) Seal(plain []byte, about string) []byte {
	k := b.keys[0]
	out := make([]byte, 1+keyName+k.aead.NonceSize(), 1+keyName+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	out[0] = sealedVersion
	copy(out[1:], k.name[:])
	nonce := out[1+keyName:]
	_, _ = rand.Read(nonce)                              // never fails (crypto/rand)
	return k.aead.Seal(out, nonce, plain, []byte(about)) //nolint:gosec // the nonce is random: it was filled two lines above
}

// Open decrypts what was sealed for about.
func (b *Box) Open(sealed []byte, about string) ([]byte, error) {
	for _, k := range b.keys {
		head := 1 + keyName + k.aead.NonceSize()
		if len(sealed) < head || sealed[0] != sealedVersion || [keyName]byte(sealed[1:1+keyName]) != k.name {
			continue
		}
		plain, err := k.aead.Open(nil, sealed[1+keyName:head], sealed[head:], []byte(about))
		if err != nil {
			return nil, ErrSealed
		}
		return plain, nil
	}
	return nil, ErrSealed
}

// Mark gives parts a name that says nothing of them to whoever lacks the key, such as a
// reader of a backup who would try all network addresses.
func (b *Box) Mark(parts ...string) []byte {
	h := hmac.New(sha256.New, b.mark)
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p) // never fails (hash.Hash)
	}
	return h.Sum(nil)
}

// secret is a new random token for a cookie or a link: 256 bits in base64url.
func secret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// digest is what is stored of a token of 256 random bits, which nobody can guess from it.
func digest(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// newID is a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
