package account

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz/identity"
)

// overviewData is what a user sees of her access.
type overviewData struct {
	Name     string
	Apps     []connected
	Sessions []place
	Factors  []factor
	Passkeys bool
	Done     string // what was just done
}

// connected is an app that holds a grant.
type connected struct {
	ID, App, Practice  string
	Since, Used, Until string
	Groups             []group
	Reaches            bool
}

// place is a browser in which she is signed in.
type place struct {
	ID, Client, Since, By string
	Here                  bool
}

// factor is one of her second steps.
type factor struct {
	Kind           identity.Factor
	ID, Name, Used string
}

// signedIn is the session of a request; without one the browser is sent to sign in, and ok is false.
func (p *Pages) signedIn(w http.ResponseWriter, r *http.Request) (s identity.Session, a identity.Account, ok bool) {
	s, a, err := p.Identity.Current(r.Context(), p.cookie(r, sessionCookie))
	if err != nil {
		p.see(w, r, "sign-in")
		return s, a, false
	}
	return s, a, true
}

// done says what was just changed.
var done = map[string]string{
	"app": "The app is disconnected. It can read nothing any more.", "place": "That browser is signed out.", "factor": "That way to sign in is removed.",
	"password": "Your password is changed. All other browsers are signed out.",
}

const moment = "2 January 2006, 15:04 MST"

func (p *Pages) overview(w http.ResponseWriter, r *http.Request) {
	here, a, ok := p.signedIn(w, r)
	if !ok {
		return
	}
	d := overviewData{Name: a.Name, Passkeys: p.Identity.Passkeys(), Done: done[r.URL.Query().Get("done")]}
	grants, err := p.Server.Grants(r.Context(), a.ID)
	if err != nil {
		p.stopped(w, r, err)
		return
	}
	for _, g := range grants {
		x := connected{ID: g.ID, App: g.Name, Practice: p.Brands.of(g.Practice).Name, Since: written(g.Created), Used: written(g.LastUsed), Until: written(g.Until)}
		x.Groups = explain(g.Scopes)
		x.Reaches = reaches(x.Groups)
		d.Apps = append(d.Apps, x)
	}
	sessions, err := p.Identity.Sessions(r.Context(), a.ID)
	if err != nil {
		p.stopped(w, r, err)
		return
	}
	for _, s := range sessions {
		d.Sessions = append(d.Sessions, place{ID: s.ID, Client: browser(s.Client), Since: written(s.SignedIn), By: methods(s.Methods), Here: s.ID == here.ID})
	}
	factors, err := p.Identity.Factors(r.Context(), a.ID)
	if err != nil {
		p.stopped(w, r, err)
		return
	}
	for _, f := range factors {
		x := factor{Kind: f.Factor, ID: f.ID, Name: "Authenticator app", Used: written(f.Used)}
		if f.Factor == identity.Passkey {
			x.Name = "Passkey “" + f.Name + "”"
		}
		d.Factors = append(d.Factors, x)
	}
	var brand Brand
	if len(a.Memberships) > 0 {
		one := a.Memberships[0].Practice
		if !slices.ContainsFunc(a.Memberships, func(m identity.Membership) bool { return m.Practice != one }) {
			brand = p.Brands.of(one)
		}
	}
	p.show(w, r, http.StatusOK, "account", page{Title: "Your access", Brand: brand, Account: a.Email, Wide: true, Data: d})
}

func written(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(moment)
}

// methods are authentication methods (RFC 8176) in words.
func methods(amr []string) string {
	names := map[string]string{"pwd": "password", "otp": "code of an app", "hwk": "passkey", "swk": "passkey", "pop": "passkey", "kba": "recovery code", "user": "", "mfa": ""}
	var out []string
	for _, m := range amr {
		n, known := names[m]
		if !known {
			n = m
		}
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return strings.Join(out, " and ")
}

func (p *Pages) revokeApp(w http.ResponseWriter, r *http.Request) {
	_, a, ok := p.signedIn(w, r)
	if !ok {
		return
	}
	if err := p.Server.RevokeGrant(r.Context(), a.ID, r.PostForm.Get("id")); err != nil {
		p.stopped(w, r, err)
		return
	}
	p.see(w, r, "account?done=app")
}

func (p *Pages) endSession(w http.ResponseWriter, r *http.Request) {
	_, a, ok := p.signedIn(w, r)
	if !ok {
		return
	}
	if err := p.Identity.EndSession(r.Context(), a.ID, r.PostForm.Get("id")); err != nil {
		p.stopped(w, r, err)
		return
	}
	p.see(w, r, "account?done=place")
}

// browser is a User-Agent as people call it: "Firefox on Linux". What it does not know is shown as it is.
func browser(agent string) string {
	find := func(table [][2]string) string {
		for _, t := range table {
			if strings.Contains(agent, t[0]) {
				return t[1]
			}
		}
		return ""
	}
	name := find([][2]string{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"}})
	system := find([][2]string{{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Mac OS X", "a Mac"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}})
	switch {
	case name == "" && agent == "":
		return "A browser that does not say what it is"
	case name == "" || system == "":
		return agent
	}
	return name + " on " + system
}
