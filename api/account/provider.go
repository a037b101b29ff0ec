package account

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/authz/oidc"
)

// Providers are the identity providers of practices.
type Providers interface {
	Offers() []oidc.Offer
	Offered(name string) (oidc.Offer, bool)
	Visit(name, back string, maxAge *time.Duration) (identity.Visit, bool)
	Authorize(ctx context.Context, v identity.Visit, ask oidc.Ask) (string, error)
	Redeem(ctx context.Context, v identity.Visit, answer url.Values) (oidc.Arrival, error)
	SignOut(ctx context.Context, issuer, hint, back string) (to, title string, ok bool)
}

const (
	visitCookie = "cloister-visit" // the sign-in at a provider that this browser began
	hintCookie  = "cloister-hint"  // its ID token, sealed, for the sign-out there
)

// longestHint is how much of a cookie browsers are sure to keep.
const longestHint = 3800

// offer is a button of the sign-in page.
type offer struct{ Name, Title, Query string }

// offers are the providers that can lead to what is asked for: those of its practice, where that is known, and else
// those of the practices that the app is approved for.
func (p *Pages) offers(r *http.Request, in *smart.Interaction) []offer {
	if p.Providers == nil {
		return nil
	}
	var out []offer
	for _, o := range p.Providers.Offers() {
		if in == nil || leads(o, in) {
			out = append(out, offer{o.Name, o.Title, visiting(returnTo(r), r.URL.Query().Get("again"))})
		}
	}
	return out
}

func leads(o oidc.Offer, in *smart.Interaction) bool {
	return slices.ContainsFunc(o.Practices, func(practice string) bool {
		if in.Practice != "" {
			return practice == in.Practice
		}
		_, approved := in.App.ApprovedBy(practice)
		return approved
	})
}

// again says that she signs in once more, though she is signed in.
func again(r *http.Request) bool { return r.URL.Query().Get("again") != "" }

// visiting is the query of a link to a provider, with its question mark.
func visiting(back, again string) string {
	q := url.Values{}
	if back != "" {
		q.Set("interaction", back)
	}
	if again != "" {
		q.Set("again", again)
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// provider sends the browser to an identity provider.
func (p *Pages) provider(w http.ResponseWriter, r *http.Request) {
	name, back := r.PathValue("name"), returnTo(r)
	absent := func() {
		p.fail(w, r, http.StatusNotFound, "There is nothing to sign in with here", "Go back to the page of sign-in and choose one of the ways that it offers.")
	}
	if p.Providers == nil {
		absent()
		return
	}
	o, ok := p.Providers.Offered(name)
	if !ok {
		absent()
		return
	}
	ask, maxAge := oidc.Ask{Anew: again(r)}, (*time.Duration)(nil)
	// Somebody who only wants to be another there proves nothing by it. Whatever else asks for a new sign-in asks for its proof.
	proof := ask.Anew && r.URL.Query().Get("again") != otherAccount
	if back != "" {
		in, err := p.held(r, back)
		if err == nil && !leads(o, &in) {
			absent()
			return
		}
		if err == nil {
			proof = proof || slices.Contains(in.Prompt, "login") || slices.Contains(in.Prompt, "select_account")
			ask.Hint, maxAge = in.LoginHint, in.MaxAge
		}
	}
	if proof {
		ask.Anew, maxAge = true, new(time.Duration)
	}
	v, _ := p.Providers.Visit(name, back, maxAge)
	v, token, err := p.Identity.Depart(v)
	if err != nil {
		p.stopped(w, r, err)
		return
	}
	to, err := p.Providers.Authorize(r.Context(), v, ask)
	if err != nil {
		p.strayed(w, r, o, err)
		return
	}
	p.set(w, visitCookie, token, identity.VisitLife)
	http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // the provider's own endpoint, from its discovery document
}

// otherAccount is the value of again with which a provider asks anew who she is, and how old that sign-in is does not matter.
const otherAccount = "other"

// callback takes the browser back from a provider.
func (p *Pages) callback(w http.ResponseWriter, r *http.Request) {
	if p.Providers == nil {
		p.fail(w, r, http.StatusNotFound, "There is nothing to sign in with here", "Go back to the page of sign-in and choose one of the ways that it offers.")
		return
	}
	answer, from := r.URL.Query(), p.from(r)
	r = r.Clone(r.Context())
	r.URL.RawQuery = "" // what a page says of its address is not said of an answer
	v, err := p.Identity.Arrive(r.Context(), p.cookie(r, visitCookie), answer.Get("state"), from)
	if err != nil {
		status, text := public(err)
		p.strange(r, "", err)
		p.fail(w, r, status, "Please start again", text)
		return
	}
	p.set(w, visitCookie, "", -1)
	if v.Return != "" {
		r.URL.RawQuery = url.Values{"interaction": {v.Return}}.Encode()
	}
	o, ok := p.Providers.Offered(v.Provider)
	if !ok {
		o = oidc.Offer{Name: v.Provider, Title: "it"}
	}
	arrival, err := p.Providers.Redeem(r.Context(), v, answer)
	if err != nil {
		if status, _ := public(err); status == http.StatusForbidden {
			if noted := p.Identity.Rejected(r.Context(), from); noted != nil {
				err = noted
			}
		}
		p.strayed(w, r, o, err)
		return
	}
	step, err := p.Identity.External(r.Context(), arrival.External, from)
	if err != nil {
		p.strayed(w, r, o, err)
		return
	}
	p.keepHint(w, arrival)
	p.stepped(w, r, step)
}

// strange logs why a provider's word was not taken. The reason is no text of a client.
func (p *Pages) strange(r *http.Request, provider string, err error) {
	cause := errors.Unwrap(err)
	if cause == nil {
		cause = err
	}
	p.Log.WarnContext(r.Context(), "a sign-in at an identity provider failed", "provider", provider, "error", cause)
}

// providerData says why a provider did not lead in, and what may.
type providerData struct {
	Text, Label string
	Link        string // of the label, below the pages
}

// strayed answers for a sign-in at a provider that led nowhere.
func (p *Pages) strayed(w http.ResponseWriter, r *http.Request, o oidc.Offer, err error) {
	p.strange(r, o.Name, err)
	status, text := public(err)
	title, d := "This did not work", providerData{Text: text, Label: "Try again", Link: "sign-in/provider/" + o.Name + visiting(returnTo(r), "")}
	switch status {
	case http.StatusServiceUnavailable:
		title = o.Title + " does not answer"
		d.Text = "Nobody can be signed in with " + o.Title + " at the moment. Try again in a few minutes. Nothing is wrong with your account here."
	case http.StatusForbidden:
		title = "You are not signed in"
		d.Label, d.Link = "Use another account at "+o.Title, "sign-in/provider/"+o.Name+visiting(returnTo(r), otherAccount)
	}
	p.show(w, r, status, "provider", page{Title: title, Data: d})
}

// hintPath is where alone the browser sends the hint: it is long.
func (p *Pages) hintPath() string { return p.prefix + "/smart/sign-out" }

func (p *Pages) hint(value string, age int) *http.Cookie {
	name := hintCookie
	if p.secure {
		name = "__Secure-" + name
	}
	return &http.Cookie{Name: name, Value: value, Path: p.hintPath(), MaxAge: age, HttpOnly: true, Secure: p.secure, SameSite: http.SameSiteLaxMode} //nolint:gosec // Secure wherever there is https
}

// keepHint leaves the ID token with the browser, sealed, as far as it fits: some providers end a session without asking only for one.
func (p *Pages) keepHint(w http.ResponseWriter, a oidc.Arrival) {
	sealed := p.Identity.SealHint(a.External.Issuer, a.Token)
	if len(sealed) > longestHint {
		http.SetCookie(w, p.hint("", -1))
		return
	}
	http.SetCookie(w, p.hint(sealed, 0))
}

// signOutThere takes the browser on to the provider of a session that has just ended, and reports whether there is one.
// The way there is no redirect: a form of ours leads to no other site.
func (p *Pages) signOutThere(w http.ResponseWriter, r *http.Request, issuer string) bool {
	if issuer == "" || p.Providers == nil {
		return false
	}
	var hint string
	if c, err := r.Cookie(p.hint("", 0).Name); err == nil {
		hint = p.Identity.OpenHint(issuer, c.Value)
	}
	http.SetCookie(w, p.hint("", -1))
	to, title, ok := p.Providers.SignOut(r.Context(), issuer, hint, p.Base+"/smart/signed-out")
	if !ok {
		return false
	}
	w.Header().Set("Refresh", "0; url="+to)
	p.show(w, r, http.StatusOK, "signed-out-there", page{Title: "You are signed out", Data: map[string]string{"To": to, "Title": title}})
	return true
}
