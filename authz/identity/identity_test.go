package identity

import (
	"crypto/sha1" //nolint:gosec // the published lists are of SHA-1
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

func TestStaff(t *testing.T) {
	ref := func(s string) fhir.Ref { r, _ := fhir.ParseRef(s); return r }
	for _, c := range []struct {
		user  string
		roles []string
		staff bool
	}{
		{"Patient/a", []string{"patient"}, false},
		{"RelatedPerson/a", []string{"proxy"}, false},
		{"RelatedPerson/a", []string{"patient", "proxy"}, false},
		{"Patient/a", nil, true},
		{"Patient/a", []string{"patient", "therapist"}, true},
		{"Practitioner/a", []string{"patient"}, true},
		{"", []string{"patient"}, true},
		{"", []string{"front-desk"}, true},
	} {
		if got := (Membership{User: ref(c.user), Roles: c.roles}).Staff(); got != c.staff {
			t.Errorf("%q %v: staff %v", c.user, c.roles, got)
		}
	}
	if !(Account{}).Staff() {
		t.Error("an account of nothing is no staff")
	}
}

func TestBox(t *testing.T) {
	old, fresh := []byte(strings.Repeat("o", KeySize)), []byte(strings.Repeat("n", KeySize))
	box := func(keys ...[]byte) *Box {
		b, err := NewBox(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before, both, after := box(old), box(fresh, old), box(fresh)
	sealed := before.Seal([]byte("secret"), "totp a")
	if strings.Contains(string(sealed), "secret") || slices.Equal(sealed, before.Seal([]byte("secret"), "totp a")) {
		t.Error("sealed twice, it is the same")
	}
	if plain, err := both.Open(sealed, "totp a"); err != nil || string(plain) != "secret" {
		t.Errorf("%q %v", plain, err)
	}
	for what, open := range map[string]func() ([]byte, error){
		"of another account": func() ([]byte, error) { return before.Open(sealed, "totp b") },
		"under another key":  func() ([]byte, error) { return after.Open(sealed, "totp a") },
		"cut short":          func() ([]byte, error) { return before.Open(sealed[:8], "totp a") },
		"empty":              func() ([]byte, error) { return before.Open(nil, "totp a") },
		"changed": func() ([]byte, error) {
			x := slices.Clone(sealed)
			x[len(x)-1] ^= 1
			return before.Open(x, "totp a")
		},
	} {
		if _, err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !slices.Equal(both.Seal(nil, "x")[1:1+keyName], after.Seal(nil, "x")[1:1+keyName]) {
		t.Error("the first key does not seal")
	}
	if slices.Equal(before.Mark("a", "bc"), before.Mark("ab", "c")) || slices.Equal(before.Mark("a"), after.Mark("a")) {
		t.Error("marks of different things are the same")
	}
	if _, err := NewBox([]byte("short")); err == nil {
		t.Error("a short key was taken")
	}
}

func TestArgon2Costs(t *testing.T) {
	for _, c := range append(slices.Clone(least), DefaultArgon2) {
		if err := c.Check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []Argon2{{}, {19455, 2, 1}, {19456, 1, 1}, {4096, 60, 1}, {19456, 2, 0}, {2 << 20, 2, 1}, {19456, 100, 1}} {
		if c.Check() == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// TestStoredHashesAreReadStrictly: what is not exactly a hash of ours opens nothing.
func TestStoredHashesAreReadStrictly(t *testing.T) {
	h := newHasher(least[4])
	text, err := h.hash(t.Context(), "correct horse battery staple")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stored, password string
		ok               bool
	}{
		{text, "correct horse battery staple", true},
		{text, "correct horse battery stapl", false},
		{text, "", false},
		{"", "correct horse battery staple", false},
		// Composed and decomposed accents are one password (NFKC).
		{mustHash(t, h, "pässwörd of many letters"), "pa\u0308sswo\u0308rd of many letters", true},
	} {
		ok, _, err := h.verify(t.Context(), c.stored, c.password)
		if err != nil || ok != c.ok {
			t.Errorf("%q: %v %v", c.password, ok, err)
		}
	}
	for _, bad := range []string{"x", strings.Replace(text, "argon2id", "argon2i", 1), strings.Replace(text, "v=19", "v=16", 1), strings.Replace(text, "t=5", "t=0", 1), text[:len(text)-8]} {
		if _, _, err := h.verify(t.Context(), bad, "x"); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func mustHash(t *testing.T, h *hasher, password string) string {
	t.Helper()
	s, err := h.hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sha1Hex(s string) string {
	sum := sha1.Sum([]byte(s))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

func breachedFile(t interface {
	TempDir() string
	Fatal(...any)
}, lines []string, end string,
) string {
	path := filepath.Join(t.TempDir(), "breached")
	if err := os.WriteFile(path, []byte(strings.Join(lines, end)+end), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBreachedList finds every password of the list and no other, whatever the length of the list and of its lines.
func TestBreachedList(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(r, "n")
		digits := rapid.SampledFrom([]int{10, 20, 40}).Draw(r, "digits")
		count := rapid.Bool().Draw(r, "count")
		end := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(r, "end")
		lines := make([]string, n)
		for i := range lines {
			lines[i] = sha1Hex(fmt.Sprint("password", i))[:digits]
		}
		slices.Sort(lines)
		if count {
			for i := range lines {
				lines[i] += ":" + strings.Repeat("7", 1+i%7)
			}
		}
		path := filepath.Join(dir, "list")
		if err := os.WriteFile(path, []byte(strings.Join(lines, end)+rapid.SampledFrom([]string{"", end}).Draw(r, "last")), 0o600); err != nil {
			r.Fatal(err)
		}
		l, err := OpenBreachedList(path)
		if err != nil {
			r.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		for i := range n {
			if found, err := l.Breached(fmt.Sprint("password", i)); err != nil || !found {
				r.Fatalf("password%d of %d: %v %v", i, n, found, err)
			}
		}
		for i := range 50 {
			if found, err := l.Breached(fmt.Sprint("another", i)); err != nil || found {
				r.Fatalf("another%d: %v %v", i, found, err)
			}
		}
	})
	for what, lines := range map[string][]string{
		"empty":      {},
		"no hashes":  {"password", "letmein"},
		"too short":  {"ABCDEF", "ABCDF0"},
		"not sorted": {sha1Hex("b"), sha1Hex("a"), sha1Hex("c"), sha1Hex("d")},
		"mixed":      {sha1Hex("a")[:12], sha1Hex("a")},
	} {
		if l, err := OpenBreachedList(breachedFile(t, lines, "\n")); err == nil {
			t.Errorf("%s: taken", what)
			_ = l.Close()
		}
	}
}

func TestAcceptablePasswords(t *testing.T) {
	known := sha1Hex("monkeys in the zoo")
	l, err := OpenBreachedList(breachedFile(t, []string{known + ":12"}, "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{cfg: Config{Breached: l}}
	for password, ok := range map[string]bool{
		"correct horse battery staple": true,
		"eleven char":                  false,
		"twelve chars":                 true,
		strings.Repeat("é", 128):       true,
		strings.Repeat("é", 129):       false,
		"tess.doe-1234":                false,
		"Cloister-2026":                false,
		"monkeys in the zoo":           false,
		"\xff\xfe correct horse":       false,
	} {
		if err := s.acceptable(password, "tess.doe@example.org"); (err == nil) != ok {
			t.Errorf("%q: %v", password, err)
		}
	}
	// A list that cannot be read any more lets nothing pass.
	_ = l.Close()
	if err := s.acceptable("correct horse battery staple", "x@example.org"); outcome.Of(err).Status() != 503 {
		t.Errorf("%v", err)
	}
}

// TestCodesOfTheStandard are the test vectors of RFC 6238, appendix B, in their last six digits.
func TestCodesOfTheStandard(t *testing.T) {
	const key = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // 12345678901234567890
	for at, code := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		now := time.Unix(at, 0)
		if n, ok := step(key, code, now); !ok || n != at/30 {
			t.Errorf("%d: %d %v", at, n, ok)
		}
		for skew, want := range map[time.Duration]bool{30 * time.Second: true, -30 * time.Second: true, 90 * time.Second: false, -90 * time.Second: false} {
			if _, ok := step(key, code, now.Add(skew)); ok != want {
				t.Errorf("%d, %s later: %v", at, skew, ok)
			}
		}
	}
	for _, bad := range []string{"", "28708", "2870820", "28708a", "-87082"} {
		if _, ok := step(key, bad, time.Unix(59, 0)); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		" Tess@Example.ORG ": "tess@example.org", "a@b": "a@b",
		"": "", "tess": "", "Tess <tess@example.org>": "", "a@b\r\nBcc: c@d": "", "a b@c": "", strings.Repeat("a", 250) + "@b.org": "",
	} {
		got, ok := address(text)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %v", text, got, ok)
		}
	}
}
