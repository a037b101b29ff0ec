package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/cloister-health/cloister/fhir/outcome"
)

// Argon2 are the costs of a password hash (RFC 9106, argon2id).
type Argon2 struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// DefaultArgon2 is the second choice of OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one thread.
var DefaultArgon2 = Argon2{Memory: 19 * 1024, Time: 2, Threads: 1}

// least are the choices of OWASP's Password Storage Cheat Sheet, which it calls equal in strength.
var least = []Argon2{{47104, 1, 1}, {19456, 2, 1}, {12288, 3, 1}, {9216, 4, 1}, {7168, 5, 1}}

// Check refuses costs below every one of OWASP's choices, and such as would stop the server.
func (a Argon2) Check() error {
	if a.Memory > 1<<20 || a.Time > 64 || a.Threads == 0 || a.Threads > 16 {
		return errors.New("argon2id: memory up to 1 GiB, up to 64 passes and up to 16 threads")
	}
	for _, l := range least {
		if a.Memory >= l.Memory && a.Time >= l.Time {
			return nil
		}
	}
	return errors.New("argon2id: too cheap; the least are 46 MiB with 1 pass, 19 MiB with 2, 12 MiB with 3, 9 MiB with 4, 7 MiB with 5")
}

const (
	saltSize = 16
	hashSize = 32
)

// The lengths of a password, in characters (NIST SP 800-63B, ASVS 2.1.1).
const (
	MinPassword = 12
	MaxPassword = 128
)

// hasher computes argon2id for no more people at a time than there are processors: each takes
// its memory, so that a crowd waits instead of exhausting it.
type hasher struct {
	costs Argon2
	turns chan struct{}
	count atomic.Int64
	dummy string
}

func newHasher(costs Argon2) *hasher {
	h := &hasher{costs: costs, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
	// Of no password: its key is random.
	var salt [saltSize]byte
	var key [hashSize]byte
	_, _ = rand.Read(salt[:]) // never fails (crypto/rand)
	_, _ = rand.Read(key[:])
	h.dummy = format(costs, salt[:], key[:])
	return h
}

func (h *hasher) derive(ctx context.Context, password string, salt []byte, c Argon2) ([]byte, error) {
	select {
	case h.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.turns }()
	h.count.Add(1)
	return argon2.IDKey([]byte(norm.NFKC.String(password)), salt, c.Time, c.Memory, c.Threads, hashSize), nil
}

// hash gives the PHC string of a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	var salt [saltSize]byte
	_, _ = rand.Read(salt[:]) // never fails (crypto/rand)
	key, err := h.derive(ctx, password, salt[:], h.costs)
	if err != nil {
		return "", err
	}
	return format(h.costs, salt[:], key), nil
}

// verify reports whether password is the one of stored, and whether stored is to be computed
// anew under today's costs. Without stored it does the same work, for nothing.
func (h *hasher) verify(ctx context.Context, stored, password string) (ok, stale bool, err error) {
	there := stored != ""
	if !there {
		stored = h.dummy
	}
	if utf8.RuneCountInString(password) > MaxPassword {
		password, there = "", false
	}
	costs, salt, want, err := parseHash(stored)
	if err != nil {
		return false, false, err
	}
	got, err := h.derive(ctx, password, salt, costs)
	if err != nil {
		return false, false, err
	}
	same := subtle.ConstantTimeCompare(got, want) == 1
	return same && there, costs != h.costs, nil
}

func format(c Argon2, salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.Memory, c.Time, c.Threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

func parseHash(text string) (c Argon2, salt, key []byte, err error) {
	bad := errors.New("identity: a stored password hash cannot be read")
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, bad
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.Memory, &c.Time, &c.Threads); n != 3 || err != nil {
		return c, nil, nil, bad
	}
	var err1, err2 error
	salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	key, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < saltSize || len(key) != hashSize || c.Time == 0 || c.Threads == 0 || c.Memory == 0 {
		return c, nil, nil, bad
	}
	return c, salt, key, nil
}

// Breached tells whether a password is known from a breach.
type Breached interface {
	Breached(password string) (bool, error)
}

// acceptable refuses a password that is too short, says whose it is, or is known from a breach
// (NIST SP 800-63B, 5.1.1.2). It asks for no kinds of characters.
func (s *Service) acceptable(password, email string) error {
	refuse := func(text string) error { return outcome.New(outcome.Unprocessable, text) }
	switch n := utf8.RuneCountInString(norm.NFKC.String(password)); {
	case !utf8.ValidString(password):
		return refuse("the password is not valid text")
	case n < MinPassword:
		return refuse(fmt.Sprintf("the password is too short: take at least %d characters, such as four words", MinPassword))
	case utf8.RuneCountInString(password) > MaxPassword || n > MaxPassword:
		return refuse(fmt.Sprintf("the password is too long: take at most %d characters", MaxPassword))
	}
	low := strings.ToLower(password)
	local, _, _ := strings.Cut(email, "@")
	for _, word := range []string{local, "cloister"} {
		if rest := strings.ReplaceAll(low, word, ""); len(word) >= 4 && utf8.RuneCountInString(rest) < MinPassword-4 {
			return refuse("the password says whose it is: take one that does not hold your address or the name of this software")
		}
	}
	if s.cfg.Breached == nil {
		return nil
	}
	known, err := s.cfg.Breached.Breached(password)
	if err != nil { // a list that cannot be read lets nothing pass
		return outcome.New(outcome.Unavailable, "the password could not be checked now: try again later").Because(err)
	}
	if known {
		return refuse("this password is known from a breach of some other service: take another")
	}
	return nil
}
