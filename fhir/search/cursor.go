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
// It is good until expires, to the second.
func EncodeCursor(key [32]byte, binding []byte, c Cursor, expires time.Time) string {
	plain := make([]byte, 0, 64)
	form := byte(cursorForm)
	if c.Row != 0 {
		form = cursorOfRow
	}
	plain = append(plain, form)
	plain = binary.BigEndian.AppendUint64(plain, uint64(expires.Unix())) //nolint:gosec // the same bits
	plain = append(plain, flag(c.Backward))
	plain = appendText(plain, string(c.Type))
	plain = appendText(plain, string(c.ID))
	if c.Row != 0 {
		plain = binary.BigEndian.AppendUint64(plain, uint64(c.Row)) //nolint:gosec // the same bits
	}
	for _, k := range c.Keys {
		plain = appendText(append(plain, flag(k.Null)), k.Text)
	}
	seal, nonce := cursorKeys(key)
	// A nonce that follows from all that is sealed repeats only for the same
	// token (synthetic nonce, as in RFC 8452).
	n := mac(nonce, binding, plain)[:seal.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(seal.Seal(n, n, plain, binding))
}

// DecodeCursor opens a token of [EncodeCursor]. One that is modified, foreign
// or bound to something else is an *outcome.Error of category Invalid (400),
// always the same; one that was good until now says that it has expired.
func DecodeCursor(key [32]byte, binding []byte, token string, now time.Time) (Cursor, error) {
	c, expires, err := openCursor(key, binding, token)
	if err != nil {
		return Cursor{}, outcome.New(outcome.Invalid, "this page link is not valid here: start the search again").Because(err)
	}
	if !now.Before(expires) {
		return Cursor{}, outcome.New(outcome.Invalid, "this page link has expired: start the search again")
	}
	return c, nil
}

const (
	cursorForm  = 2
	cursorOfRow = 3 // with a row
	maxToken    = 8 << 10
)

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// cursorReader reads what EncodeCursor wrote; it is authentic, so any fault is one of ours.
type cursorReader struct {
	rest []byte
	bad  bool
}

func (r *cursorReader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *cursorReader) flag() bool { b := r.take(1); return len(b) == 1 && b[0] == 1 }

func (r *cursorReader) text() string {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad = true
		return ""
	}
	r.rest = r.rest[size:]
	return string(r.take(n))
}

func (r *cursorReader) number() int64 {
	b := r.take(8)
	if r.bad {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b)) //nolint:gosec // the same bits
}

func openCursor(key [32]byte, binding []byte, token string) (c Cursor, expires time.Time, err error) {
	if len(token) > maxToken {
		return c, expires, errors.New("cursor: token too long")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return c, expires, errors.New("cursor: token is no base64url")
	}
	// Go's decoder passes over line ends; one token, one spelling.
	if base64.RawURLEncoding.EncodeToString(raw) != token {
		return c, expires, errors.New("cursor: token has a second spelling")
	}
	seal, _ := cursorKeys(key)
	if len(raw) < seal.NonceSize() {
		return c, expires, errors.New("cursor: token too short")
	}
	plain, err := seal.Open(nil, raw[:seal.NonceSize()], raw[seal.NonceSize():], binding)
	if err != nil {
		return c, expires, errors.New("cursor: token is not authentic for this binding")
	}
	if len(plain) < 9 || plain[0] != cursorForm && plain[0] != cursorOfRow {
		return c, expires, errors.New("cursor: token of another form")
	}
	expires = time.Unix(int64(binary.BigEndian.Uint64(plain[1:])), 0) //nolint:gosec // the same bits
	r := cursorReader{rest: plain[9:]}
	c.Backward = r.flag()
	c.Type, c.ID = fhir.ResourceType(r.text()), fhir.ID(r.text())
	if plain[0] == cursorOfRow {
		c.Row = r.number()
	}
	for len(r.rest) > 0 && !r.bad {
		k := Key{Null: r.flag()}
		k.Text = r.text()
		c.Keys = append(c.Keys, k)
	}
	if r.bad || !c.ID.Valid() {
		return c, expires, errors.New("cursor: token does not read")
	}
	return c, expires, nil
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
