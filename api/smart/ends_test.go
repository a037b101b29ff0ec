package smart_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestACodeThatExpiredLeavesNothing: the list of apps shows none that never got a token.
func TestACodeThatExpiredLeavesNothing(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	code := f.code(w.therapist, "")
	w.pass(time.Minute)
	w.post(t, "/token", "", f.exchange(code)).wants(400, "invalid_grant")
	if list, err := w.server.Grants(t.Context(), w.therapist.account.ID); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
}

// TestALostKeyOpensNoEndpoint: a process that has not read the keys again must not take what a lost one signed.
func TestALostKeyOpensNoEndpoint(t *testing.T) {
	w := newWorld(t)
	other := w.open()
	a := w.flow("desk", "openid", "user/Patient.rs").tokens(w.therapist, "")
	if b := other.userinfo(t, a.str("access_token")); b.status != 200 {
		t.Fatal(b.text)
	}
	if err := w.ring.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.settle() // ends are asked for every second, keys every minute
	other.userinfo(t, a.str("access_token")).wants(401, "invalid_token")
	if b := other.post(t, "/introspect", "desk:desk-secret", url.Values{"token": {a.str("access_token")}}); b.body["active"] != false {
		t.Error(b.text)
	}
}

// TestWhatEndsIsRefusedInThisProcessAtOnce, whatever ends it, and before the set of what ended is read again.
func TestWhatEndsIsRefusedInThisProcessAtOnce(t *testing.T) {
	ctx := t.Context()
	for why, end := range map[string]func(w *world, f *flow, a answer, code string) error{
		"a refresh token came again": func(_ *world, f *flow, a answer, _ string) error {
			f.refresh(a.str("refresh_token")).ok()
			f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
			return nil
		},
		"its code came again": func(w *world, f *flow, _ answer, code string) error {
			w.post(t, "/token", "", f.exchange(code)).wants(400, "invalid_grant")
			return nil
		},
		"its code came again from another app": func(w *world, _ *flow, _ answer, code string) error {
			thief := w.flow("desk", "openid")
			w.post(t, "/token", thief.basic, thief.exchange(code)).wants(400, "invalid_grant")
			return nil
		},
		"it was revoked": func(w *world, f *flow, a answer, _ string) error {
			w.post(t, "/revoke", "", f.with(url.Values{"token": {a.str("refresh_token")}}))
			return nil
		},
		"its user revoked it": func(w *world, _ *flow, _ answer, _ string) error {
			list, err := w.server.Grants(ctx, w.therapist.account.ID)
			if err != nil {
				return err //nolint:wrapcheck // a test
			}
			return w.server.RevokeGrant(ctx, w.therapist.account.ID, list[0].ID) //nolint:wrapcheck // a test
		},
		"the account is disabled": func(w *world, _ *flow, _ answer, _ string) error {
			return w.people.Disable(ctx, "test", w.therapist.account.ID, true) //nolint:wrapcheck // a test
		},
		"her session ended": func(w *world, _ *flow, _ answer, _ string) error {
			return w.people.EndSession(ctx, w.therapist.account.ID, w.therapist.session.ID) //nolint:wrapcheck // a test
		},
		"all her sessions ended": func(w *world, _ *flow, _ answer, _ string) error {
			return w.people.EndSessions(ctx, "test", w.therapist.account.ID) //nolint:wrapcheck // a test
		},
		"she left the practice": func(w *world, _ *flow, _ answer, _ string) error {
			return w.people.Leave(ctx, "test", w.therapist.account.ID, w.slugs["harbor"]) //nolint:wrapcheck // a test
		},
		"her roles are others": func(w *world, _ *flow, _ answer, _ string) error {
			m := w.therapist.account.Memberships[0]
			m.Roles = []string{"front-desk"}
			return w.people.Join(ctx, "test", w.therapist.account.ID, m) //nolint:wrapcheck // a test
		},
		"she signed out by the app": func(w *world, _ *flow, a answer, _ string) error {
			if b := w.get(t, "/end-session?"+url.Values{"id_token_hint": {a.str("id_token")}}.Encode()); b.status != http.StatusFound {
				t.Error(b.text)
			}
			return nil
		},
	} {
		w := newWorld(t)
		f := w.flow("chart", "openid", "user/Patient.rs", "online_access")
		code := f.code(w.therapist, "")
		a := w.post(t, "/token", "", f.exchange(code)).ok()
		if _, ok := w.accepts(t, a.str("access_token")); !ok {
			t.Fatal("not accepted")
		}
		if err := end(w, f, a, code); err != nil {
			t.Fatal(why, err)
		}
		if _, ok := w.accepts(t, a.str("access_token")); ok {
			t.Errorf("%s: the access token is still good", why)
		}
		w.userinfo(t, a.str("access_token")).wants(401, "invalid_token")
	}
}

// TestRefreshStandsOnTheUserAsSheIs: what was granted ends when her roles change, by whatever way; and where nothing ended it, the
// next token has the roles of then.
func TestRefreshStandsOnTheUserAsSheIs(t *testing.T) {
	for _, ends := range []bool{true, false} {
		w := newWorld(t)
		f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
		token := f.tokens(w.therapist, "").str("refresh_token")
		if !ends {
			c, err := pgx.Connect(t.Context(), w.dsn)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Exec(t.Context(), "ALTER TABLE identity.membership DISABLE TRIGGER USER")
			_ = c.Close(t.Context())
			if err != nil {
				t.Fatal(err)
			}
		}
		m := w.therapist.account.Memberships[0]
		m.Roles = []string{"front-desk"}
		if err := w.store.PutMembership(t.Context(), w.therapist.account.ID, m); err != nil {
			t.Fatal(err)
		}
		a := f.refresh(token)
		if ends {
			a.wants(400, "invalid_grant")
			continue
		}
		who, ok := w.accepts(t, a.ok().str("access_token"))
		if !ok || len(who.Roles) != 1 || who.Roles[0] != "front-desk" {
			t.Errorf("%v %+v", ok, who.Roles)
		}
	}
}

// TestRefreshIsCutDownToTheRegistration: what an app may not ask for any more, an old grant does not give it.
func TestRefreshIsCutDownToTheRegistration(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "user/Observation.rs", "offline_access")
	token := f.tokens(w.therapist, "").str("refresh_token")
	c, err := pgx.Connect(t.Context(), w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	if _, err := c.Exec(t.Context(), `UPDATE identity.app SET body = jsonb_set(body, '{Scopes}', '["openid","offline_access","user/Patient.r"]') WHERE id = 'chart'`); err != nil {
		t.Fatal(err)
	}
	f.refresh(token, "scope", "user/Observation.rs").wants(400, "invalid_scope")
	if a := f.refresh(token).ok(); a.str("scope") != "openid user/Patient.r offline_access" {
		t.Error(a.text)
	}
}

// TestRefreshStandsOnTheApprovalOfThePractice, also where the grant was left alive when it was withdrawn.
func TestRefreshStandsOnTheApprovalOfThePractice(t *testing.T) {
	w := newWorld(t)
	w.approve("chart", "lakeside") // so that the app stays in use
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	a := f.tokens(w.therapist, "")
	c, err := pgx.Connect(t.Context(), w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	if _, err := c.Exec(t.Context(), `DELETE FROM identity.app_approval WHERE app = 'chart' AND practice = 'harbor'`); err != nil {
		t.Fatal(err)
	}
	f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
	if _, ok := w.accepts(t, a.str("access_token")); ok {
		t.Error("the access token is good after a refresh that was refused for good")
	}
	w.flow("chart", "openid", "user/Patient.rs").tokens(w.twin, "")
}

// TestNothingStandsOnADisabledAccount, also where nobody ended its grants.
func TestNothingStandsOnADisabledAccount(t *testing.T) {
	w := newWorld(t)
	f := w.flow("chart", "openid", "user/Patient.rs", "offline_access")
	a := f.tokens(w.therapist, "")
	id := f.interaction()
	in, err := w.server.Interaction(f.browser(), id)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	for _, sql := range []string{"ALTER TABLE identity.account DISABLE TRIGGER USER", "UPDATE identity.account SET disabled = true WHERE id = '" + w.therapist.account.ID + "'"} {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	w.userinfo(t, a.str("access_token")).wants(401, "invalid_token")
	if _, err := w.server.Approve(f.browser(), id, w.therapist.approval("openid")); err == nil {
		t.Error("a disabled account approves")
	}
	reads := w.therapist.approval("openid")
	reads.App = in.App
	if _, err := w.server.UserToken(t.Context(), reads); err == nil {
		t.Error("a disabled account reads")
	}
	f.refresh(a.str("refresh_token")).wants(400, "invalid_grant")
	if _, ok := w.accepts(t, a.str("access_token")); ok {
		t.Error("the access token is good after a refresh that was refused for good")
	}
}

// TestARefreshTokenOfAnotherAppIsRefused while it is good, and stays so: whoever found it must not end its owner's grant either.
func TestARefreshTokenOfAnotherAppIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, pair := range [][2]string{{"chart", "desk"}, {"desk", "chart"}} {
		f, thief := w.flow(pair[0], "openid", "user/Patient.rs", "offline_access"), w.flow(pair[1], "openid")
		token := f.tokens(w.therapist, "").str("refresh_token")
		thief.refresh(token).wants(400, "invalid_grant")
		thief.refresh(token, "scope", "openid").wants(400, "invalid_grant")
		f.refresh(token).ok()
	}
	// A confidential app's token does not do without the app's proof.
	token := w.flow("desk", "openid", "user/Patient.rs", "offline_access").tokens(w.therapist, "").str("refresh_token")
	w.post(t, "/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}).wants(401, "invalid_client")
	// A public app's token says whose it is.
	token = w.flow("chart", "openid", "user/Patient.rs", "offline_access").tokens(w.therapist, "").str("refresh_token")
	w.post(t, "/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}).ok()
	w.post(t, "/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"nothing"}}).wants(400, "invalid_grant")
}
