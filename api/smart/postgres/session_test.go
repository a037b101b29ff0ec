package postgres_test

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
)

func TestSessionsEnd(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a := h.account("anna@example.org", h.patient("harbor", "Patient/anna"))
	in := func() identity.Step { return must(h.Password(ctx, "anna@example.org", goodPassword, home))(t) }
	gone := func(s identity.Step, why string) {
		t.Helper()
		if _, _, err := h.Current(ctx, s.Token); !errors.Is(err, identity.ErrSession) {
			t.Errorf("%s: %v", why, err)
		}
	}

	idle := in()
	h.advance(29 * time.Minute)
	must2(h.Current(ctx, idle.Token))(t)
	h.advance(29 * time.Minute)
	must2(h.Current(ctx, idle.Token))(t) // the limit moved
	h.advance(30 * time.Minute)
	gone(idle, "idle for half an hour")

	long := in()
	for range 30 { // used all the time
		h.advance(24 * time.Minute)
		if _, _, err := h.Current(ctx, long.Token); err != nil {
			break
		}
	}
	if over := h.now().Sub(long.Session.SignedIn); over != 12*time.Hour {
		t.Errorf("a session that is used ended after %s, want 12 hours", over)
	}
	gone(long, "twelve hours")

	one, two := in(), in()
	list := must(h.Sessions(ctx, a.ID))(t)
	if len(list) != 2 || list[0].Client != "Firefox" {
		t.Fatalf("%+v", list)
	}
	other := h.account("ben@example.org", h.patient("harbor", "Patient/ben"))
	if err := h.EndSession(ctx, other.ID, one.Session.ID); err != nil {
		t.Fatal(err)
	}
	must2(h.Current(ctx, one.Token))(t) // it is not his
	if err := h.EndSession(ctx, a.ID, one.Session.ID); err != nil {
		t.Fatal(err)
	}
	gone(one, "ended")
	if got := h.ended(); len(got) != 1 || got[0] != (identity.Ended{Account: a.ID, Session: one.Session.ID}) {
		t.Errorf("hooks were told %+v", got)
	}
	must2(h.Current(ctx, two.Token))(t)
	if err := h.SignOut(ctx, two.Token); err != nil {
		t.Fatal(err)
	}
	gone(two, "signed out")
	if err := h.SignOut(ctx, two.Token); err != nil {
		t.Error("signing out twice", err)
	}
	if !h.recorded("harbor", audit.SignOut, "") || !h.recorded("harbor", audit.SessionsEnded, "") {
		t.Error("the end of a session is not in the audit trail")
	}

	last := in()
	h.advance(13 * time.Hour)
	if err := h.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if got := h.ended(); !slices.Contains(got, identity.Ended{Account: a.ID, Session: last.Session.ID}) {
		t.Errorf("a session that ran out: hooks were told %+v", got)
	}
}

func must2[A, B any](a A, b B, err error) func(*testing.T) (A, B) {
	return func(t *testing.T) (A, B) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a, b
	}
}

// TestDisablingEndsAtOnce also what is under way: nobody is signed in when it is done, whatever the order.
func TestDisablingEndsAtOnce(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a := h.account("anna@example.org", h.patient("harbor", "Patient/anna"))
	for range 5 {
		if err := h.Disable(ctx, "test", a.ID, false); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var tokens [4]atomic.Value
		for i := range tokens {
			wg.Go(func() {
				if s, err := h.Password(ctx, "anna@example.org", goodPassword, home); err == nil {
					tokens[i].Store(s.Token)
				} else if !errors.Is(err, identity.ErrWrong) && !errors.Is(err, identity.ErrLocked) {
					t.Error(err)
				}
			})
		}
		if err := h.Disable(ctx, "test", a.ID, true); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if list := must(h.Sessions(ctx, a.ID))(t); len(list) > 0 {
			t.Fatalf("%d sessions of an account that is disabled", len(list))
		}
		for i := range tokens {
			if token, ok := tokens[i].Load().(string); ok {
				if _, _, err := h.Current(ctx, token); err == nil {
					t.Fatal("a session of an account that is disabled is good")
				}
			}
		}
		h.advance(time.Minute)
	}
	if !slices.Contains(h.ended(), identity.Ended{Account: a.ID}) || !h.recorded("harbor", audit.AccountDisabled, "") {
		t.Error("nobody was told")
	}
}

func TestInvitations(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	admin := authz.Principal{Tenant: h.tenant["harbor"], Subject: "admin", Roles: []string{"practice-admin"}}
	i := identity.Invitation{Email: "Tess@example.org", Name: "Tess", Membership: h.staff("harbor", "Practitioner/tess")}
	for what, by := range map[string]authz.Principal{
		"a therapist":                  {Tenant: h.tenant["harbor"], Subject: "x", Roles: []string{"therapist"}},
		"the admin of another":         {Tenant: h.tenant["lakeside"], Subject: "x", Roles: []string{"practice-admin"}},
		"the admin of no practice yet": {Subject: "x", Roles: []string{"practice-admin"}},
	} {
		if err := h.Invite(ctx, by, i); !errors.Is(err, authz.ErrDenied) {
			t.Errorf("%s may invite: %v", what, err)
		}
	}
	over := i
	over.Membership.Roles = []string{authz.Operator}
	if err := h.Invite(ctx, operator, over); err == nil {
		t.Error("the role of the command line was given away")
	}
	mixed := i
	mixed.Membership.User = h.patient("harbor", "Patient/x").User
	if err := h.Invite(ctx, operator, mixed); err == nil {
		t.Error("a patient became a therapist by one membership")
	}
	if err := h.Invite(ctx, admin, i); err != nil {
		t.Fatal(err)
	}
	mail := h.mails.to("tess@example.org")[0]
	if mail.subject == "" || containsAny(mail.subject+mail.text, "harbor", "Harbor", "therapist", "Tess") {
		t.Errorf("the mail says too much: %+v", mail)
	}
	token := h.token("tess@example.org")
	if _, err := h.AcceptInvitation(ctx, token, "Tess", "short", home); err == nil {
		t.Error("a short password was taken")
	}
	step := must(h.AcceptInvitation(ctx, token, "Tess", goodPassword, home))(t)
	if step.Challenge == nil || !step.Challenge.Enrol {
		t.Errorf("%+v", step)
	}
	_, err := h.AcceptInvitation(ctx, token, "Tess", goodPassword, home)
	wantErr(t, err, identity.ErrLink)

	// A second practice: the password of the account is asked for, not set.
	j := identity.Invitation{Email: "tess@example.org", Membership: h.staff("lakeside", "Practitioner/tess2")}
	if err := h.Invite(ctx, operator, j); err != nil {
		t.Fatal(err)
	}
	second := h.token("tess@example.org")
	_, err = h.AcceptInvitation(ctx, second, "Mallory", "mallory's own password", away)
	wantErr(t, err, identity.ErrWrong)
	must(h.AcceptInvitation(ctx, second, "Mallory", goodPassword, home))(t)
	a := must(h.Find(ctx, "tess@example.org"))(t)
	if a.Name != "Tess" || len(a.Memberships) != 2 {
		t.Errorf("%+v", a)
	}

	late := identity.Invitation{Email: "late@example.org", Name: "Late", Membership: h.patient("harbor", "Patient/late")}
	if err := h.Invite(ctx, operator, late); err != nil {
		t.Fatal(err)
	}
	h.advance(72 * time.Hour)
	_, err = h.AcceptInvitation(ctx, h.token("late@example.org"), "Late", goodPassword, home)
	wantErr(t, err, identity.ErrLink)
	for _, k := range []audit.Kind{audit.Invited, audit.AccountCreated} {
		if !h.recorded("harbor", k, "") {
			t.Errorf("%s is not in the audit trail", k)
		}
	}
	if !h.recorded("lakeside", audit.RolesChanged, "") || h.recorded("harbor", audit.RolesChanged, "") {
		t.Error("the membership of a practice is that practice's to know")
	}
}

func TestRecovery(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a, secret, signed := h.enrolled("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	for _, email := range []string{"tess@example.org", "nobody@example.org", "no address"} {
		if err := h.Recover(ctx, email, home); err != nil {
			t.Errorf("%s: %v", email, err)
		}
	}
	token := h.token("tess@example.org")
	if n := len(h.mails.to("nobody@example.org")); n > 0 {
		t.Errorf("%d mails to nobody", n)
	}
	// Many asked on her behalf: the link that came stays good, and no flood of mails comes.
	for range 12 {
		if err := h.Recover(ctx, "tess@example.org", away); err != nil {
			t.Fatal(err)
		}
	}
	h.Close()
	if n := len(h.mails.to("tess@example.org")); n != 5 {
		t.Errorf("%d mails within an hour, want 5", n)
	}
	const fresh = "a new and longer password"
	step := must(h.Reset(ctx, token, fresh, home))(t)
	if step.Token != "" || step.Challenge == nil || step.Challenge.Enrol {
		t.Fatalf("a link by e-mail stands for a second factor: %+v", step)
	}
	if _, _, err := h.EnrolTOTP(ctx, step.Challenge.ID); err == nil {
		t.Error("a link by e-mail replaces a second factor")
	}
	if _, _, err := h.Current(ctx, signed.Token); !errors.Is(err, identity.ErrSession) {
		t.Error("sessions go on after a reset:", err)
	}
	if !slices.Contains(h.ended(), identity.Ended{Account: a.ID, Session: signed.Session.ID}) {
		t.Error("what was granted in the session goes on")
	}
	// All other links are over, too.
	for _, l := range h.mails.to("tess@example.org") {
		if m := linkToken.FindStringSubmatch(l.text); m != nil {
			_, err := h.Reset(ctx, m[1], fresh, home)
			wantErr(t, err, identity.ErrLink)
		}
	}
	must(h.TOTP(ctx, step.Challenge.ID, h.code(secret), home))(t)
	_, err := h.Password(ctx, "tess@example.org", goodPassword, home)
	wantErr(t, err, identity.ErrWrong)
	if !h.recorded("harbor", audit.PasswordChanged, "") || !h.recorded("harbor", audit.RecoveryAsked, "") || !h.recorded("", audit.RecoveryAsked, audit.ReasonUnknown) {
		t.Error("a recovery is not in the audit trail")
	}

	h.advance(2 * time.Hour)
	if err := h.Recover(ctx, "tess@example.org", home); err != nil {
		t.Fatal(err)
	}
	late := h.token("tess@example.org")
	h.advance(time.Hour)
	_, err = h.Reset(ctx, late, fresh, home)
	wantErr(t, err, identity.ErrLink)
}

// TestAStaleSessionChangesNoFactor: a browser that was left open is not enough.
func TestAStaleSessionChangesNoFactor(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	_, _, signed := h.enrolled("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	err := h.RemoveFactor(ctx, signed.Token, identity.TOTP, "", home)
	wantErr(t, err, identity.ErrLast)
	h.advance(15 * time.Minute)
	_, err = h.EnrolPasskey(ctx, signed.Token)
	wantErr(t, err, identity.ErrStale)
	_, err = h.RecoveryCodes(ctx, signed.Token, home)
	wantErr(t, err, identity.ErrStale)
	wantErr(t, h.RemoveFactor(ctx, signed.Token, identity.TOTP, "", home), identity.ErrStale)
	wantErr(t, h.ChangePassword(ctx, signed.Token, goodPassword, "another good password", home), identity.ErrStale)
}
