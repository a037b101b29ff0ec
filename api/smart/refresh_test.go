package smart_test

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit"
)

func TestRefreshTokenReuseEndsTheGrant(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	a := f.tokens(w.therapist, "")
	b := f.refresh(a.str("refresh_token")).ok()
	c := f.refresh(b.str("refresh_token")).ok()
	f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
	f.refresh(c.str("refresh_token")).wants(400, "invalid_grant")
	for _, x := range []answer{a, b, c} {
		if _, ok := w.accepts(t, x.str("access_token")); ok {
			t.Error("an access token outlived the reuse")
		}
	}
	if !w.audit.has(audit.TokenReused, audit.ReasonReplay) {
		t.Error("it is not in the audit trail")
	}
}

func TestScopeEscalationOnRefreshIsRefused(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	token := f.tokens(w.therapist, "").str("refresh_token")
	for _, scope := range []string{"user/Observation.rs", "openid user/Patient.rs user/Observation.rs", "user/Patient.cruds", "user/*.rs", "patient/*.rs", "system/Patient.rs", "\"", " "} {
		f.refresh(token, "scope", scope).wants(400, "invalid_scope")
	}
	b := f.refresh(token, "scope", "user/Patient.r").ok() // the refusals left the token as it was
	if b.str("scope") != "user/Patient.r" || claims(t, b.str("access_token"))["scope"] != "user/Patient.r" || b.str("id_token") != "" {
		t.Error(b.text)
	}
	if c := f.refresh(b.str("refresh_token")).ok(); c.str("scope") != "openid user/Patient.rs offline_access" { // RFC 6749, 6: what was granted
		t.Error(c.text)
	}
	thief := w.flow("desk")
	thief.refresh(token).wants(400, "invalid_grant")
}

func TestRefreshTokensExpire(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	token := f.tokens(w.therapist, "").str("refresh_token")
	w.pass(89 * 24 * time.Hour)
	w.settle()
	token = f.refresh(token).ok().str("refresh_token")
	w.pass(90 * 24 * time.Hour)
	w.settle()
	f.refresh(token).wants(400, "invalid_grant")
}

// settle lets the process learn what ended.
func (p *process) settle() { _ = p.ended.Refresh(context.Background()) } // a failure shows in what follows

func TestGrantsEndWithWhatTheyStandOn(t *testing.T) {
	ctx := t.Context()
	for why, c := range map[string]struct {
		scope string
		end   func(w *world, p person, grant string) error
		lives bool
	}{
		"session, online":     {"online_access", func(w *world, p person, _ string) error { return w.people.EndSession(ctx, p.account.ID, p.session.ID) }, false},
		"session, offline":    {"offline_access", func(w *world, p person, _ string) error { return w.people.EndSession(ctx, p.account.ID, p.session.ID) }, true},
		"account is disabled": {"offline_access", func(w *world, p person, _ string) error { return w.people.Disable(ctx, "test", p.account.ID, true) }, false},
		"her own list":        {"offline_access", func(w *world, p person, grant string) error { return w.server.RevokeGrant(ctx, p.account.ID, grant) }, false},
		"somebody else's list": {"offline_access", func(w *world, _ person, grant string) error {
			if err := w.server.RevokeGrant(ctx, w.patient.account.ID, grant); err == nil {
				t.Error("somebody else's grant was revoked")
			}
			return nil
		}, true},
		"membership is over": {"offline_access", func(w *world, p person, _ string) error {
			return w.people.Leave(ctx, "test", p.account.ID, w.slugs["harbor"])
		}, false},
	} {
		w := newWorld(t)
		other := w.open()
		f := w.flow("chart", "openid", "user/Patient.rs", c.scope)
		a := f.tokens(w.therapist, "")
		list, err := w.server.Grants(ctx, w.therapist.account.ID)
		if err != nil || len(list) != 1 || list[0].Name != "Chart" || list[0].Practice != "harbor" {
			t.Fatalf("%+v %v", list, err)
		}
		if err := c.end(w, w.therapist, list[0].ID); err != nil {
			t.Fatal(why, err)
		}
		if why != "membership is over" { // ends with the next refresh
			if _, ok := w.accepts(t, a.str("access_token")); ok != c.lives {
				t.Errorf("%s: access token in this process: %v", why, ok)
			}
			other.settle() // within a second
			if _, ok := other.accepts(t, a.str("access_token")); ok != c.lives {
				t.Errorf("%s: access token in another process: %v", why, ok)
			}
		}
		if b := f.refresh(a.str("refresh_token")); (b.status == http.StatusOK) != c.lives {
			t.Errorf("%s: refresh: %d %s", why, b.status, b.text)
		}
		if list, _ := w.server.Grants(ctx, w.therapist.account.ID); (len(list) == 1) != c.lives {
			t.Errorf("%s: list: %+v", why, list)
		}
	}
}

// TestOnlineAccessEndsWhenTheSessionExpires, which nobody tells of.
func TestOnlineAccessEndsWhenTheSessionExpires(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "online_access")
	token := f.tokens(w.therapist, "").str("refresh_token")
	w.pass(11 * time.Hour)
	w.settle()
	token = f.refresh(token).ok().str("refresh_token")
	w.pass(time.Hour)
	w.settle()
	f.refresh(token).wants(400, "invalid_grant")
}

func TestNoRefreshTokenWithoutItsScope(t *testing.T) {
	w := newWorld(t)
	if a := w.flow("chart", "openid", "user/Patient.rs").tokens(w.therapist, ""); a.str("refresh_token") != "" {
		t.Error(a.text)
	}
}

// TestWhatEndedIsNotKnown: a process that has not heard for five seconds lets nobody in.
func TestWhatEndedIsNotKnown(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs")
	a := f.tokens(w.therapist, "")
	if _, ok := w.accepts(t, a.str("access_token")); !ok {
		t.Fatal("not accepted")
	}
	w.pass(6 * time.Second)
	_, err := w.tokens.Authenticate(t.Context(), a.str("access_token"))
	if statusOf(err) != http.StatusServiceUnavailable {
		t.Errorf("%v", err)
	}
	w.settle()
	if _, ok := w.accepts(t, a.str("access_token")); !ok {
		t.Error("not accepted any more")
	}
}

// TestConcurrentRefreshLeavesOneFamilyOrNone: 10,000 requests with one token.
func TestConcurrentRefreshLeavesOneFamilyOrNone(t *testing.T) {
	w := newWorld(t)
	other := w.open()
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	token := f.tokens(w.therapist, "").str("refresh_token")
	requests := 10_000
	if testing.Short() {
		requests = 500
	}
	var good atomic.Int64
	var next sync.Map
	work := make(chan *process)
	var wait sync.WaitGroup
	for range 32 {
		wait.Go(func() {
			for p := range work {
				a := p.post(t, "/token", "", f.with(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}))
				switch {
				case a.status == http.StatusOK:
					good.Add(1)
					next.Store(a.str("refresh_token"), a.str("access_token"))
				case a.status != 400 || a.str("error") != "invalid_grant":
					t.Errorf("%d %s", a.status, a.text)
				}
			}
		})
	}
	for i := range requests {
		work <- []*process{w.process, other}[i%2]
	}
	close(work)
	wait.Wait()
	if good.Load() > 1 {
		t.Errorf("%d requests got the next token", good.Load())
	}
	alive := 0
	next.Range(func(refresh, _ any) bool {
		text, _ := refresh.(string)
		if f.refresh(text).status == http.StatusOK {
			alive++
		}
		return true
	})
	if alive > 1 {
		t.Errorf("%d families are alive", alive)
	}
	c, err := pgx.Connect(t.Context(), w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	var unused int
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM identity.refresh_token WHERE used IS NULL").Scan(&unused); err != nil || unused > 1 {
		t.Errorf("%d tokens could be used, %v", unused, err)
	}
}
