package account

import (
	"net/http"
	"strings"

	"github.com/cloister-health/cloister/authz/identity"
)

// pending is the challenge of a started sign-in, as its cookie has it. Who changes what is needed
// sees another form and is refused by the service all the same.
type pending struct {
	ID      string
	App     bool // a code of an authenticator app can be given
	Passes  bool // a passkey can
	Printed bool // a recovery code can
	Enrol   bool // none of them: one must be set up
}

func (c pending) String() string {
	s := c.ID + "."
	for flag, set := range map[string]bool{"a": c.App, "p": c.Passes, "r": c.Printed, "e": c.Enrol} {
		if set {
			s += flag
		}
	}
	return s
}

func (p *Pages) pending(r *http.Request) (pending, bool) {
	at := strings.LastIndexByte(p.cookie(r, challengeCookie), '.')
	if at < 1 {
		return pending{}, false
	}
	id, flags := p.cookie(r, challengeCookie)[:at], p.cookie(r, challengeCookie)[at:]
	has := func(flag string) bool { return strings.Contains(flags, flag) }
	return pending{ID: id, App: has("a"), Passes: has("p"), Printed: has("r"), Enrol: has("e")}, true
}

// stepped takes the browser to what follows a step: the second factor, or where the sign-in was asked for.
func (p *Pages) stepped(w http.ResponseWriter, r *http.Request, s identity.Step) {
	back := returnTo(r)
	if s.Device != "" {
		p.set(w, deviceCookie, s.Device, deviceLife)
	}
	if c := s.Challenge; c != nil {
		n := pending{ID: c.ID, Enrol: c.Enrol}
		for _, f := range c.Needs {
			n.App = n.App || f == identity.TOTP
			n.Passes = n.Passes || f == identity.Passkey
			n.Printed = n.Printed || f == identity.Recovery
		}
		p.set(w, challengeCookie, n.String(), identity.ChallengeLife)
		if c.Enrol {
			p.see(w, r, within("enrol", back))
			return
		}
		p.see(w, r, within("second-factor", back))
		return
	}
	p.set(w, challengeCookie, "", -1)
	p.leaveOther(r, s)
	p.set(w, sessionCookie, s.Token, 0)
	if back != "" {
		p.see(w, r, "interaction/"+back)
		return
	}
	p.see(w, r, "account")
}

// leaveOther ends the session of somebody else in this browser, which could not be reached any more.
func (p *Pages) leaveOther(r *http.Request, s identity.Step) {
	old := p.cookie(r, sessionCookie)
	if old == "" || old == s.Token {
		return
	}
	before, _, err := p.Identity.Current(r.Context(), old)
	if err != nil || before.Account == s.Session.Account {
		return
	}
	if err := p.Identity.SignOut(r.Context(), old); err != nil {
		p.Log.WarnContext(r.Context(), "the session of another account was left to its idle limit", "error", err)
	}
}

// signInData is what the sign-in page shows beside its form.
type signInData struct {
	Email    string
	App      string // the app that asks for the sign-in, or ""
	Passkeys bool   // there can be some
	Again    bool   // she is signed in, and what she wants to change asks for it anew
}

func (p *Pages) signIn(w http.ResponseWriter, r *http.Request) {
	d, brand := p.askedBy(r)
	d.Again = r.URL.Query().Get("again") != ""
	p.show(w, r, http.StatusOK, "sign-in", page{Title: "Sign in", Brand: brand, Data: d})
}

// askedBy is what the interaction behind a sign-in says of it.
func (p *Pages) askedBy(r *http.Request) (signInData, Brand) {
	d, back := signInData{Passkeys: p.Identity.Passkeys()}, returnTo(r)
	if back == "" {
		return d, Brand{}
	}
	in, err := p.held(r, back)
	if err != nil {
		return d, Brand{}
	}
	d.Email, d.App = in.LoginHint, in.App.Name
	return d, p.Brands.of(in.Practice)
}

func (p *Pages) password(w http.ResponseWriter, r *http.Request) {
	email, secret := strings.TrimSpace(r.PostForm.Get("email")), r.PostForm.Get("password")
	var faults []fault
	if email == "" {
		faults = append(faults, fault{"email", "Enter your e-mail address"})
	}
	if secret == "" {
		faults = append(faults, fault{"password", "Enter your password"})
	}
	status := http.StatusUnprocessableEntity
	if len(faults) == 0 {
		s, err := p.Identity.Password(r.Context(), email, secret, p.from(r))
		if err == nil {
			p.stepped(w, r, s)
			return
		}
		var text string
		status, text = public(err)
		faults = []fault{{"email", text}}
	}
	d, brand := p.askedBy(r)
	d.Email = email
	p.show(w, r, status, "sign-in", page{Title: "Sign in", Faults: faults, Brand: brand, Data: d})
}

func (p *Pages) signOut(w http.ResponseWriter, r *http.Request) {
	if token := p.cookie(r, sessionCookie); token != "" {
		if err := p.Identity.SignOut(r.Context(), token); err != nil {
			p.stopped(w, r, err)
			return
		}
	}
	p.set(w, sessionCookie, "", -1)
	p.set(w, challengeCookie, "", -1)
	p.see(w, r, "signed-out")
}

// signedOut is where browsers end up after a sign-out. One that an app asked for without proof ended nothing, so that
// the page offers it.
func (p *Pages) signedOut(w http.ResponseWriter, r *http.Request) {
	if token := p.cookie(r, sessionCookie); token != "" {
		if _, a, err := p.Identity.Current(r.Context(), token); err == nil {
			p.show(w, r, http.StatusOK, "still-in", page{Title: "Sign out?", Account: a.Email})
			return
		}
	}
	p.show(w, r, http.StatusOK, "signed-out", page{Title: "You are signed out"})
}
