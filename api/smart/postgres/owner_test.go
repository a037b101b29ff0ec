package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
)

// told counts the mails to an address whose subject is that.
func (h *house) told(address, subject string) (n int) {
	h.Close() // waits for mails
	for _, l := range h.mails.to(address) {
		if l.subject == subject {
			n++
		}
	}
	return n
}

// TestAFactorIsRemovedByItsOwner, who is told of each change, and never the last one of somebody who needs one.
func TestAFactorIsRemovedByItsOwner(t *testing.T) {
	const email = "tess@example.org"
	h := newHouse(t)
	ctx := t.Context()
	a, secret, signed := h.enrolled(email, h.staff("harbor", "Practitioner/tess"))
	wantErr(t, h.RemoveFactor(ctx, signed.Token, identity.TOTP, "", home), identity.ErrLast)
	key := newAuthenticator(t)
	done := must(h.ConfirmPasskey(ctx, signed.Token, key.create(must(h.EnrolPasskey(ctx, signed.Token))(t)), "My phone", home))(t)
	if done.Token != signed.Token || h.told(email, "A second factor was added") != 1 {
		t.Errorf("%+v", done)
	}
	_, _, strange := h.enrolled("theo@example.org", h.staff("harbor", "Practitioner/theo"))
	passkey := must(h.Factors(ctx, a.ID))(t)[0].ID
	for why, err := range map[string]error{
		"somebody else's passkey": h.RemoveFactor(ctx, strange.Token, identity.Passkey, passkey, home), "no session": h.RemoveFactor(ctx, "x", identity.TOTP, "", home),
		"no such passkey": h.RemoveFactor(ctx, signed.Token, identity.Passkey, "AAAA", home), "no kind of factor": h.RemoveFactor(ctx, signed.Token, "sms", "", home),
	} {
		if err == nil {
			t.Errorf("%s: removed", why)
		}
	}
	if err := h.RemoveFactor(ctx, signed.Token, identity.TOTP, "", home); err != nil {
		t.Fatal(err)
	}
	if h.told(email, "A second factor was removed") != 1 || !h.recorded("harbor", audit.FactorRemoved, "") || !h.recorded("harbor", audit.FactorAdded, "") {
		t.Error("nobody is told")
	}
	h.advance(time.Minute)
	step := must(h.Password(ctx, email, goodPassword, home))(t)
	if !slices.Equal(step.Challenge.Needs, []identity.Factor{identity.Passkey}) {
		t.Errorf("%+v", step.Challenge)
	}
	if _, err := h.TOTP(ctx, step.Challenge.ID, h.code(secret), home); err == nil {
		t.Error("a factor that was removed is good")
	}
	wantErr(t, h.RemoveFactor(ctx, signed.Token, identity.Passkey, passkey, home), identity.ErrLast)
	h.advance(16 * time.Minute)
	wantErr(t, h.RemoveFactor(ctx, signed.Token, identity.Passkey, passkey, home), identity.ErrStale)
}

// TestTheCodeOfAnEnrolmentIsUsed: whoever looked over her shoulder while she set the app up cannot sign in with what she typed.
func TestTheCodeOfAnEnrolmentIsUsed(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	_, secret, _ := h.enrolled("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	h.advance(-time.Minute) // back to the moment of the enrolment
	step := must(h.Password(ctx, "tess@example.org", goodPassword, home))(t)
	_, err := h.TOTP(ctx, step.Challenge.ID, h.code(secret), home)
	wantErr(t, err, identity.ErrWrong)
	if !h.recorded("harbor", audit.SignIn, audit.ReasonReplay) {
		t.Error("a replay is not recorded as one")
	}
}

// TestMailsNameNoPractice: a screen shows the first lines of a mail to whoever looks at it.
func TestMailsNameNoPractice(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	if err := h.Invite(ctx, operator, identity.Invitation{Email: "anna@example.org", Name: "Anna", Membership: h.patient("harbor", "Patient/anna")}); err != nil {
		t.Fatal(err)
	}
	must(h.AcceptInvitation(ctx, h.token("anna@example.org"), "Anna", goodPassword, home))(t)
	if err := h.Recover(ctx, "anna@example.org", home); err != nil {
		t.Fatal(err)
	}
	must(h.Reset(ctx, h.token("anna@example.org"), "a new and longer password", home))(t)
	h.Close()
	list := h.mails.to("anna@example.org")
	if len(list) != 3 {
		t.Fatalf("%d mails", len(list))
	}
	for _, l := range list {
		for _, word := range []string{"harbor", "Harbor", "patient", "Patient", "health", "Anna", "therap"} {
			if strings.Contains(l.subject+l.text, word) {
				t.Errorf("%q says %q", l.subject, word)
			}
		}
	}
}
