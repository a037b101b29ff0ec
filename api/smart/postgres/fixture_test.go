package postgres_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 6238
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
	records "github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

var migrated = cluster.Template{Name: "identity", Prepare: func(ctx context.Context, dsn string) error {
	_, err := records.Migrate(ctx, dsn)
	return err
}}

const (
	goodPassword  = "correct horse battery staple"
	wrongPassword = "some other password"
	pages         = "https://fhir.example.org/smart"
)

var (
	home = identity.From{Address: netip.MustParseAddr("192.0.2.1"), Agent: "Firefox"}
	away = identity.From{Address: netip.MustParseAddr("198.51.100.9"), Agent: "curl"}
)

// house is the service over real stores, on a database of its own.
type house struct {
	*identity.Service
	t      *testing.T
	dsn    string
	store  *postgres.Store
	audit  *records.Store
	clock  atomic.Int64 // milliseconds since the epoch
	mails  *letterbox
	tenant map[string]int32
	mu     sync.Mutex
	over   []identity.Ended
}

func (h *house) now() time.Time          { return time.UnixMilli(h.clock.Load()).UTC() }
func (h *house) advance(d time.Duration) { h.clock.Add(d.Milliseconds()) }
func (h *house) ended() (out []identity.Ended) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.over)
}

// letterbox keeps what was sent.
type letterbox struct {
	mu   sync.Mutex
	list []letter
}

type letter struct{ to, subject, text string }

func (l *letterbox) Send(_ context.Context, to, subject, text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, letter{to, subject, text})
	return nil
}

func (l *letterbox) to(address string) (out []letter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.list {
		if x.to == address {
			out = append(out, x)
		}
	}
	return out
}

var linkToken = regexp.MustCompile(`\?token=([A-Za-z0-9_-]+)`)

// token is that of the last link that was sent to an address.
func (h *house) token(address string) string {
	h.t.Helper()
	h.Close() // waits for mails
	list := h.mails.to(address)
	for _, l := range slices.Backward(list) {
		if m := linkToken.FindStringSubmatch(l.text); m != nil {
			return m[1]
		}
	}
	h.t.Fatalf("no link among %d mails", len(list))
	return ""
}

// newHouse starts the service; change alters its configuration.
func newHouse(t *testing.T, change ...func(*identity.Config)) *house {
	t.Helper()
	h := &house{t: t, dsn: cluster.NewDatabase(t, migrated), mails: &letterbox{}, tenant: map[string]int32{}}
	h.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	ctx := t.Context()
	var err error
	if h.audit, err = records.Open(ctx, records.Options{URL: h.dsn, Now: h.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.audit.Close)
	for _, slug := range []string{"harbor", "lakeside"} {
		if h.tenant[slug], err = h.audit.EnsureTenant(ctx, slug, slug); err != nil {
			t.Fatal(err)
		}
	}
	if h.store, err = postgres.Open(ctx, postgres.Options{URL: h.dsn}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.store.Close)
	cfg := identity.Config{Store: h.store, Box: box(t), Audit: h.audit, Mail: h.mails, Now: h.now, Pages: pages, Title: "Harbor"}
	for _, f := range change {
		f(&cfg)
	}
	if h.Service, err = identity.New(cfg); err != nil {
		t.Fatal(err)
	}
	h.OnEnd(func(_ context.Context, e identity.Ended) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.over = append(h.over, e)
		return nil
	})
	return h
}

func box(t *testing.T) *identity.Box {
	t.Helper()
	b, err := identity.NewBox([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (h *house) staff(practice, user string) identity.Membership {
	ref, ok := fhir.ParseRef(user)
	if !ok {
		h.t.Fatalf("bad user %q", user)
	}
	return identity.Membership{Tenant: h.tenant[practice], Practice: practice, User: ref, Roles: []string{"therapist"}, Organizations: []fhir.ID{"org"}}
}

func (h *house) patient(practice, user string) identity.Membership {
	m := h.staff(practice, user)
	m.Roles, m.Organizations = []string{"patient"}, nil
	return m
}

// account makes one with the usual password.
func (h *house) account(email string, m ...identity.Membership) identity.Account {
	h.t.Helper()
	a, err := h.Create(h.t.Context(), "test", identity.Account{Email: email, Name: "Somebody", Memberships: m}, goodPassword)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// enrolled makes a member of staff with an authenticator app, and gives its secret. The clock moves
// on, so that the code of the enrolment is in the past.
func (h *house) enrolled(email string, m ...identity.Membership) (identity.Account, string, identity.Step) {
	h.t.Helper()
	ctx := h.t.Context()
	a := h.account(email, m...)
	step := must(h.Password(ctx, email, goodPassword, home))(h.t)
	if step.Challenge == nil || !step.Challenge.Enrol {
		h.t.Fatalf("staff without a factor got %+v", step)
	}
	secret, uri, err := h.EnrolTOTP(ctx, step.Challenge.ID)
	if err != nil || uri == "" {
		h.t.Fatal(err)
	}
	step = must(h.ConfirmTOTP(ctx, step.Challenge.ID, h.code(secret), home))(h.t)
	if step.Token == "" {
		h.t.Fatalf("enrolled, and got %+v", step)
	}
	h.advance(time.Minute)
	return a, secret, step
}

// code is the one-time code of now (RFC 6238), computed independently of the service.
func (h *house) code(secret string) string {
	h.t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		h.t.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, h.now().Unix()/30)
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[offset:])&0x7fffffff%1000000)
}

// events lists what was recorded for a practice, the newest first; "" for the installation.
func (h *house) events(practice string) []audit.Security {
	h.t.Helper()
	list, err := h.audit.Security(h.t.Context(), records.SecurityQuery{Tenant: h.tenant[practice], To: h.now().Add(time.Hour)})
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

func (h *house) recorded(practice string, kind audit.Kind, reason audit.Reason) bool {
	h.t.Helper()
	return slices.ContainsFunc(h.events(practice), func(e audit.Security) bool { return e.Kind == kind && e.Reason == reason })
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err, errors.Unwrap(err))
		}
		return v
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) && (err == nil || err.Error() != want.Error()) {
		t.Fatalf("got %v (%v), want %v", err, errors.Unwrap(err), want)
	}
}

var operator = authz.Principal{Subject: "operator", Roles: []string{authz.Operator}}
