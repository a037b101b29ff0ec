package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
)

func containsAny(s string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, w) })
}

const provider = "https://id.example.org"

func external(subject, email string, verified bool, amr ...string) identity.External {
	return identity.External{Issuer: provider, Subject: subject, Email: email, EmailVerified: verified, Name: "Tess Doe", AMR: amr, Practices: []string{"harbor"}, SessionID: "sid-" + subject}
}

// TestAnAddressAloneLinksNothing: an invitation and a verified address together do, once.
func TestAnAddressAloneLinksNothing(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.account("anna@example.org", h.staff("harbor", "Practitioner/anna"))
	for what, x := range map[string]identity.External{
		"an account, verified":     external("s1", "anna@example.org", true, "mfa"),
		"an account, not verified": external("s1", "anna@example.org", false, "mfa"),
		"nobody":                   external("s1", "nobody@example.org", true, "mfa"),
		"no subject":               external("", "anna@example.org", true, "mfa"),
	} {
		_, err := h.External(ctx, x, home)
		if err == nil {
			t.Errorf("%s: came in", what)
			continue
		}
		wantErr(t, err, identity.ErrUnlinked)
	}
	if err := h.Invite(ctx, operator, identity.Invitation{Email: "tess@example.org", Name: "Tess", Membership: h.staff("harbor", "Practitioner/tess")}); err != nil {
		t.Fatal(err)
	}
	_, err := h.External(ctx, external("s2", "tess@example.org", false, "mfa"), home)
	wantErr(t, err, identity.ErrUnlinked)
	stranger := external("s2", "tess@example.org", true, "mfa")
	stranger.Practices = []string{"lakeside"}
	_, err = h.External(ctx, stranger, home)
	wantErr(t, err, identity.ErrUnlinked)

	step := must(h.External(ctx, external("s2", "Tess@Example.org", true, "pwd", "otp"), home))(t)
	if step.Token == "" || !slices.Equal(step.Session.Methods, []string{"pwd", "otp", "mfa"}) || step.Session.Provider != provider {
		t.Fatalf("%+v", step)
	}
	// From now on the subject is what counts, whatever the address.
	again := must(h.External(ctx, external("s2", "changed@example.org", false, "mfa"), home))(t)
	if again.Session.Account != step.Session.Account {
		t.Error("another account")
	}
	_, err = h.External(ctx, external("s3", "tess@example.org", true, "mfa"), home)
	wantErr(t, err, identity.ErrUnlinked) // the invitation was used
	if !h.recorded("harbor", audit.AccountLinked, "") || !h.recorded("", audit.SignIn, audit.ReasonUnlinked) {
		t.Error("links and refusals are not in the audit trail")
	}
	// Who signs in elsewhere recovers there.
	if err := h.Recover(ctx, "tess@example.org", home); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if n := len(h.mails.to("tess@example.org")); n != 1 {
		t.Errorf("%d mails, want the invitation alone", n)
	}
}

func TestStaffWithoutASecondFactorAtTheProvider(t *testing.T) {
	own := false
	h := newHouse(t, func(c *identity.Config) {
		c.Assured = func(string) identity.Assurance {
			return identity.Assurance{ACR: []string{"urn:example:loa2"}, Own: own}
		}
	})
	ctx := t.Context()
	link := func(email, subject string, m identity.Membership) {
		if err := h.Invite(ctx, operator, identity.Invitation{Email: email, Name: "Somebody", Membership: m}); err != nil {
			t.Fatal(err)
		}
		_, _ = h.External(ctx, external(subject, email, true, "mfa"), home)
	}
	link("tess@example.org", "tess", h.staff("harbor", "Practitioner/tess"))
	link("anna@example.org", "anna", h.patient("harbor", "Patient/anna"))
	for _, amr := range [][]string{nil, {"pwd"}, {"pwd", "pin"}, {"otp"}} {
		_, err := h.External(ctx, external("tess", "", false, amr...), home)
		wantErr(t, err, identity.ErrFactor)
		if step := must(h.External(ctx, external("anna", "", false, amr...), home))(t); step.Token == "" {
			t.Error("a patient was asked for a second factor")
		}
	}
	for _, amr := range [][]string{{"mfa"}, {"pwd", "otp"}, {"pin", "hwk"}, {"fpt", "swk"}} {
		if step := must(h.External(ctx, external("tess", "", false, amr...), home))(t); step.Token == "" {
			t.Errorf("%v: %+v", amr, step)
		}
	}
	x := external("tess", "", false, "pwd")
	x.ACR = "urn:example:loa2"
	if step := must(h.External(ctx, x, home))(t); step.Token == "" {
		t.Errorf("by acr: %+v", step)
	}
	x.ACR = "urn:example:loa1"
	_, err := h.External(ctx, x, home)
	wantErr(t, err, identity.ErrFactor)
	if !h.recorded("harbor", audit.SignIn, audit.ReasonFactor) {
		t.Error("the refusal is not in the audit trail")
	}
	own = true
	step := must(h.External(ctx, external("tess", "", false, "pwd"), home))(t)
	if step.Challenge == nil || !step.Challenge.Enrol {
		t.Fatalf("%+v", step)
	}
	secret, _, err := h.EnrolTOTP(ctx, step.Challenge.ID)
	if err != nil {
		t.Fatal(err)
	}
	if done := must(h.ConfirmTOTP(ctx, step.Challenge.ID, h.code(secret), home))(t); done.Token == "" || done.Session.Provider != provider {
		t.Errorf("%+v", done)
	}
}

// TestAProviderOpensItsPracticesAlone: with what it vouches for nobody gets at another practice, not even by a factor added on the way.
func TestAProviderOpensItsPracticesAlone(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.account("tess@example.org", h.staff("lakeside", "Practitioner/tess"))
	if err := h.Invite(ctx, operator, identity.Invitation{Email: "tess@example.org", Membership: h.staff("harbor", "Practitioner/tess2")}); err != nil {
		t.Fatal(err)
	}
	step := must(h.External(ctx, external("tess", "tess@example.org", true, "mfa"), home))(t)
	_, a := must2(h.Current(ctx, step.Token))(t)
	if len(a.Memberships) != 1 || a.Memberships[0].Practice != "harbor" {
		t.Fatalf("the provider of harbor opens %+v", a.Memberships)
	}
	if h.recorded("lakeside", audit.SignIn, "") || !h.recorded("harbor", audit.SignIn, "") {
		t.Error("the other practice is told when she works for this one")
	}
	if _, err := h.EnrolPasskey(ctx, step.Token); err == nil {
		t.Error("a passkey was added, which would open the other practice")
	}
	if _, _, err := h.EnrolTOTP(ctx, step.Token); err == nil {
		t.Error("an authenticator app was added")
	}
	// Its roles are its practice's alone.
	x := external("tess", "", false, "mfa")
	x.Roles = []string{"supervisor", "therapist"}
	must(h.External(ctx, x, home))(t)
	for _, m := range must(h.Find(ctx, "tess@example.org"))(t).Memberships {
		if want := map[string]int{"harbor": 2, "lakeside": 1}[m.Practice]; len(m.Roles) != want {
			t.Errorf("%s: %v", m.Practice, m.Roles)
		}
	}
	for _, roles := range [][]string{{}, {authzOperator}, {"patient"}} {
		x.Roles = roles
		if _, err := h.External(ctx, x, home); err == nil {
			t.Errorf("came in with roles %v", roles)
		}
	}
	// Nor does a claim make a patient a member of staff.
	if err := h.Invite(ctx, operator, identity.Invitation{Email: "anna@example.org", Name: "Anna", Membership: h.patient("harbor", "Patient/anna")}); err != nil {
		t.Fatal(err)
	}
	y := external("anna", "anna@example.org", true, "mfa")
	y.Roles = []string{"therapist"}
	must(h.External(ctx, y, home))(t)
	if m := must(h.Find(ctx, "anna@example.org"))(t).Memberships; len(m) != 1 || m[0].Staff() {
		t.Errorf("%+v", m)
	}
}

const authzOperator = "operator"

func TestTheProviderEndsItsSessions(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for _, s := range []string{"tess", "ria"} {
		if err := h.Invite(ctx, operator, identity.Invitation{Email: s + "@example.org", Name: s, Membership: h.staff("harbor", "Practitioner/"+s)}); err != nil {
			t.Fatal(err)
		}
	}
	tess := must(h.External(ctx, external("tess", "tess@example.org", true, "mfa"), home))(t)
	ria := must(h.External(ctx, external("ria", "ria@example.org", true, "mfa"), home))(t)
	for _, c := range [][3]string{{provider, "", ""}, {"https://other.example.org", "tess", ""}, {provider, "ria", "sid-tess"}, {"", "tess", ""}} {
		if err := h.EndProvided(ctx, c[0], c[1], c[2]); err != nil {
			t.Fatal(err)
		}
	}
	must2(h.Current(ctx, tess.Token))(t)
	if err := h.EndProvided(ctx, provider, "", "sid-tess"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Current(ctx, tess.Token); !errors.Is(err, identity.ErrSession) {
		t.Error("it goes on:", err)
	}
	must2(h.Current(ctx, ria.Token))(t)
	if !slices.Contains(h.ended(), identity.Ended{Account: tess.Session.Account, Session: tess.Session.ID}) {
		t.Error("what was granted goes on")
	}
}
