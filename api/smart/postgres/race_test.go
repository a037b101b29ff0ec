package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cloister-health/cloister/api/smart/postgres"
	"github.com/cloister-health/cloister/authz/identity"
)

// meanwhile does something else at the moment at which a session is about to be opened, or a hash about to be replaced.
type meanwhile struct {
	*postgres.Store
	open   func()
	rehash func()
}

func (m *meanwhile) OpenSession(ctx context.Context, v identity.Session, hash []byte, subject, external string) (bool, error) {
	if do := m.open; do != nil {
		m.open = nil
		do()
	}
	return m.Store.OpenSession(ctx, v, hash, subject, external) //nolint:wrapcheck // as it is
}

func (m *meanwhile) Rehash(ctx context.Context, account, old, hash string) (bool, error) {
	if do := m.rehash; do != nil {
		m.rehash = nil
		do()
	}
	return m.Store.Rehash(ctx, account, old, hash) //nolint:wrapcheck // as it is
}

// TestAReplacedPasswordOpensNothing, not even for a sign-in that was under way: whoever lost her password and takes a new one
// must not leave the finder inside.
func TestAReplacedPasswordOpensNothing(t *testing.T) {
	store := &meanwhile{}
	h := newHouse(t, func(c *identity.Config) {
		store.Store, _ = c.Store.(*postgres.Store)
		c.Store = store
	})
	ctx := t.Context()
	a := h.account("anna@example.org", h.patient("harbor", "Patient/anna"))
	if err := h.Recover(ctx, "anna@example.org", home); err != nil {
		t.Fatal(err)
	}
	token := h.token("anna@example.org")
	const fresh = "a new and longer password"
	store.open = func() {
		if _, err := h.Reset(ctx, token, fresh, home); err != nil {
			t.Error(err)
		}
	}
	step, err := h.Password(ctx, "anna@example.org", goodPassword, away)
	wantErr(t, err, identity.ErrWrong)
	if step.Token != "" {
		t.Error("the old password opened a session")
	}
	list := must(h.Sessions(ctx, a.ID))(t)
	if len(list) != 1 { // that of the reset
		t.Errorf("%+v", list)
	}
	must(h.Password(ctx, "anna@example.org", fresh, home))(t)
	if _, err := h.Password(ctx, "anna@example.org", goodPassword, home); !errors.Is(err, identity.ErrWrong) {
		t.Error(err)
	}
}

// TestARehashBringsNoPasswordBack that was replaced while it was computed.
func TestARehashBringsNoPasswordBack(t *testing.T) {
	h := newHouse(t, func(c *identity.Config) { c.Argon2 = identity.Argon2{Memory: 7168, Time: 5, Threads: 1} })
	ctx := t.Context()
	h.account("anna@example.org", h.patient("harbor", "Patient/anna"))
	if err := h.Recover(ctx, "anna@example.org", home); err != nil {
		t.Fatal(err)
	}
	token := h.token("anna@example.org")
	const fresh = "a new and longer password"
	store := &meanwhile{Store: h.store, rehash: func() {
		if _, err := h.Reset(ctx, token, fresh, home); err != nil {
			t.Error(err)
		}
	}}
	later, err := identity.New(identity.Config{Store: store, Box: box(t), Audit: h.audit, Now: h.now, Pages: pages})
	if err != nil {
		t.Fatal(err)
	}
	_, err = later.Password(ctx, "anna@example.org", goodPassword, away)
	wantErr(t, err, identity.ErrWrong)
	if _, err := later.Password(ctx, "anna@example.org", goodPassword, away); !errors.Is(err, identity.ErrWrong) {
		t.Error("the old password is back:", err)
	}
	must(later.Password(ctx, "anna@example.org", fresh, home))(t)
}
