package search

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// EncodeCursor makes the token of a page link: opaque, and good only with the
// same key and the same binding, in which the caller puts whatever the page
// must not outlive: principal, purpose, policy version, query. The same place
// gives the same token, so that equal answers have equal links.
//
// c.ID is 1 to 64 bytes long (R4 datatypes, id).
func EncodeCursor(key [32]byte, binding []byte, c Cursor) string {
	plain := make([]byte, 0, cursorHead+len(c.ID))
	plain = append(plain, cursorForm)
	plain = binary.BigEndian.AppendUint64(plain, uint64(c.Updated.Unix()))       //nolint:gosec // the same bits
	plain = binary.BigEndian.AppendUint32(plain, uint32(c.Updated.Nanosecond())) //nolint:gosec // below 1e9
	plain = append(plain, c.ID...)
	seal, nonce := cursorKeys(key)
	// A nonce that follows from all that is sealed repeats only for the same
	// token (synthetic nonce, as in RFC 8452).
	n := mac(nonce, binding, plain)[:seal.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(seal.Seal(n, n, plain, binding))
}

// DecodeCursor opens a token of [EncodeCursor]. One that is modified, foreign
// or bound to something else is an *outcome.Error of category Invalid (400),
// always the same.
func DecodeCursor(key [32]byte, binding []byte, token string) (Cursor, error) {
	c, err := openCursor(key, binding, token)
	if err != nil {
		return Cursor{}, outcome.New(outcome.Invalid, "this page link is not valid here: start the search again").Because(err)
	}
	return c, nil
}

const (
	cursorForm = 1
	cursorHead = 1 + 8 + 4
	maxToken   = 256
)

func openCursor(key [32]byte, binding []byte, token string) (Cursor, error) {
	if len(token) > maxToken {
		return Cursor{}, errors.New("cursor: token too long")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return Cursor{}, errors.New("cursor: token is no base64url")
	}
	// Go's decoder passes over line ends; one token, one spelling.
	if base64.RawURLEncoding.EncodeToString(raw) != token {
		return Cursor{}, errors.New("cursor: token has a second spelling")
	}
	seal, _ := cursorKeys(key)
	if len(raw) < seal.NonceSize() {
		return Cursor{}, errors.New("cursor: token too short")
	}
	plain, err := seal.Open(nil, raw[:seal.NonceSize()], raw[seal.NonceSize():], binding)
	if err != nil {
		return Cursor{}, errors.New("cursor: token is not authentic for this binding")
	}
	if len(plain) <= cursorHead || plain[0] != cursorForm {
		return Cursor{}, errors.New("cursor: token of another form")
	}
	c := Cursor{
		Updated: time.Unix(
			int64(binary.BigEndian.Uint64(plain[1:])), //nolint:gosec // the same bits
			int64(binary.BigEndian.Uint32(plain[9:])),
		).UTC(),
		ID: fhir.ID(plain[cursorHead:]),
	}
	if !c.ID.Valid() {
		return Cursor{}, errors.New("cursor: token holds no id")
	}
	return c, nil
}

// cursorKeys derives the key that seals and the key that makes nonces.
func cursorKeys(key [32]byte) (cipher.AEAD, []byte) {
	block, err := aes.NewCipher(mac(key[:], []byte("cursor seal")))
	if err != nil {
		panic("search: " + err.Error()) // 32 bytes are always a key
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		panic("search: " + err.Error()) // AES always has the block size of GCM
	}
	return seal, mac(key[:], []byte("cursor nonce"))
}

// mac is HMAC-SHA-256 of the parts, each with its length before it.
func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	return h.Sum(nil)
}
