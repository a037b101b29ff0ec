package smart_test

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// together sends requests that all wait for the row of the grant, and lets them go at once.
func (w *world) together(n int, send func() answer) []answer {
	w.t.Helper()
	ctx := w.t.Context()
	connect := func() *pgx.Conn {
		c, err := pgx.Connect(ctx, w.dsn)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	tx, err := connect().Begin(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "SELECT FROM identity.app_grant FOR UPDATE"); err != nil {
		w.t.Fatal(err)
	}
	answers := make([]answer, n)
	var wait sync.WaitGroup
	for i := range answers {
		wait.Go(func() { answers[i] = send() })
	}
	watcher := connect()
	for waiting, tries := 0, 0; waiting < n; tries++ {
		if err := watcher.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&waiting); err != nil || tries > 12_000 {
			w.t.Fatalf("%d requests wait for the grant: %v", waiting, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := tx.Rollback(ctx); err != nil {
		w.t.Fatal(err)
	}
	wait.Wait()
	return answers
}

// TestRacesOnOneGrant: of two requests with one refresh token, or one code, that come at the same moment, one gets tokens and the other is
// a reuse, not a fault of the database. It ends the grant.
func TestRacesOnOneGrant(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	token := f.tokens(w.therapist, "").str("refresh_token")
	code := f.code(w.therapist, "")
	for what, send := range map[string]func() answer{
		"refresh token": func() answer { return f.refresh(token) },
		"code":          func() answer { return w.post(t, "/token", "", f.exchange(code)) },
	} {
		good := 0
		for _, a := range w.together(2, send) {
			if a.status != http.StatusOK {
				a.wants(400, "invalid_grant")
				continue
			}
			good++
			if _, ok := w.accepts(t, a.str("access_token")); ok {
				t.Errorf("%s: the access token outlived the reuse", what)
			}
			f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
		}
		if what == "refresh token" && good != 1 || good > 1 {
			t.Errorf("%s: %d requests got tokens", what, good)
		}
	}
}

// TestInteractionIDsAndCodesAreSingleUse also for two approvals at the same moment.
func TestInteractionIDsAndCodesAreSingleUse(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs")
	id := f.interaction()
	var wait sync.WaitGroup
	codes := make([]string, 8)
	for i := range codes {
		wait.Go(func() {
			codes[i], _ = w.server.Approve(f.browser(), id, w.therapist.approval("openid", "user/Patient.rs"))
		})
	}
	wait.Wait()
	var one string
	for _, c := range codes {
		if c != "" && one != "" {
			t.Error("one interaction gave two codes")
		}
		if c != "" {
			one = c
		}
	}
	u, err := url.Parse(one)
	if err != nil || one == "" {
		t.Fatal(one, err)
	}
	answers := make([]answer, 8)
	for i := range answers {
		wait.Go(func() { answers[i] = w.post(t, "/token", "", f.exchange(u.Query().Get("code"))) })
	}
	wait.Wait()
	for _, a := range answers { // one may have got a token, and it ended with the second
		if a.status != http.StatusOK {
			a.wants(400, "invalid_grant")
		} else if _, ok := w.accepts(t, a.str("access_token")); ok {
			t.Error("a token of a code that came again is good")
		}
	}
}
