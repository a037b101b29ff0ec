package account

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/app"
)

// The cookies. Over https their names carry the prefix that binds a cookie to its host and keeps a neighbouring
// subdomain from setting it (RFC 6265bis, section 4.1.3.2).
const (
	sessionCookie   = "cloister-session"
	challengeCookie = "cloister-challenge" // what the first factor left to prove
	formCookie      = "cloister-form"      // what tokens in forms are bound to
	letterCookie    = "cloister-letter"    // the token of an invitation or a recovery, out of the address bar
	deviceCookie    = "cloister-device"    // tells this browser from strangers who try the same account
	choiceCookie    = "cloister-choice"    // who the user is in an interaction, and for which patient
)

// deviceLife is how long a browser is remembered after its last sign-in.
const deviceLife = 180 * 24 * time.Hour

// SessionCookie is the name of the cookie that holds the token of a session, on a server with that base.
func SessionCookie(base string) string {
	return cookieName(strings.HasPrefix(base, "https://"), sessionCookie)
}

func cookieName(secure bool, name string) string {
	if secure {
		return "__Host-" + name
	}
	return name
}

func (p *Pages) cookie(r *http.Request, name string) string {
	c, err := r.Cookie(cookieName(p.secure, name))
	if err != nil {
		return ""
	}
	return c.Value
}

// set gives the browser a cookie that scripts cannot read. life 0 is until the browser closes, below 0 now.
func (p *Pages) set(w http.ResponseWriter, name, value string, life time.Duration) {
	c := &http.Cookie{Name: cookieName(p.secure, name), Value: value, Path: "/", HttpOnly: true, Secure: p.secure, SameSite: http.SameSiteLaxMode} //nolint:gosec // Secure wherever there is https
	switch {
	case life < 0:
		c.MaxAge = -1
	case life > 0:
		c.MaxAge = int(life / time.Second)
	}
	http.SetCookie(w, c)
}

// guard sets the headers of every answer. A page that shows a passkey or sends the browser to an app widens the policy by that.
func (p *Pages) guard(h http.Header) {
	h.Set("Content-Security-Policy", policy("'none'"))
	// Not no-referrer: with it, browsers send "Origin: null" with forms.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
	if p.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// policy is the Content-Security-Policy (CSP3) of a page. targets are where its forms may lead, beside this server: a
// browser holds the redirect that answers a form to the same list.
func policy(script string, targets ...string) string {
	return "default-src 'none'; style-src 'self'; img-src 'self'; script-src " + script + "; form-action 'self'" +
		strings.Join(append([]string{""}, targets...), " ") + "; base-uri 'none'; frame-ancestors 'none'"
}

// targets are the sources for form-action that cover where the answer to an app may go.
func targets(a app.App) []string {
	var out []string
	for _, s := range a.Redirects {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "" {
			continue
		}
		source := u.Scheme + ":" // of a native app
		if u.Scheme == "http" || u.Scheme == "https" {
			source = u.Scheme + "://" + u.Host
			if a.Loopback && u.Scheme == "http" {
				source = u.Scheme + "://" + u.Hostname() + ":*"
			}
		}
		if !slices.Contains(out, source) && !strings.ContainsAny(source, " ;,'\"") {
			out = append(out, source)
		}
	}
	return out
}

// ours reports whether a form was sent from a page that this server gave to this browser, and answers 403 if not.
func (p *Pages) ours(w http.ResponseWriter, r *http.Request) bool {
	// All browsers that know SameSite send Origin with a form. Nothing else has reason to send one.
	if r.Header.Get("Origin") != p.origin {
		p.refuse(w, r, "foreign-origin")
		return false
	}
	if err := r.ParseForm(); err != nil {
		p.fail(w, r, http.StatusBadRequest, "This form cannot be read", "Go back and send it again.")
		return false
	}
	bound := p.cookie(r, formCookie)
	sent, err := base64.RawURLEncoding.DecodeString(r.PostForm.Get("form"))
	if bound == "" || err != nil || !hmac.Equal(sent, p.sum(r, bound)) {
		p.refuse(w, r, "form-token")
		return false
	}
	return true
}

func (p *Pages) refuse(w http.ResponseWriter, r *http.Request, why string) {
	p.Log.WarnContext(r.Context(), "a form was refused", "reason", why)
	p.fail(w, r, http.StatusForbidden, "This page is too old", "Nothing was changed. Open the page again, and send the form from there. If that does not help, let your browser keep cookies for this site.")
}

// sum is the token of a form: it holds for this browser, this session and, below an interaction, for that one alone.
func (p *Pages) sum(r *http.Request, bound string) []byte {
	m := hmac.New(sha256.New, p.Key[:])
	for _, part := range []string{bound, p.cookie(r, sessionCookie), interactionOf(r)} {
		_, _ = m.Write([]byte(part)) // a hash takes all
		_, _ = m.Write([]byte{0})
	}
	return m.Sum(nil)
}

// interactionOf is the id in the path, or else that to which a form leads back.
func interactionOf(r *http.Request) string {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/smart/interaction/"); ok {
		id, _, _ := strings.Cut(rest, "/")
		return id
	}
	return returnTo(r)
}

// token is the one for the forms of a page, and makes what it is bound to.
func (p *Pages) token(w http.ResponseWriter, r *http.Request) string {
	bound := p.cookie(r, formCookie)
	if len(bound) != 43 {
		bound = random()
		p.set(w, formCookie, bound, 0)
		r.AddCookie(&http.Cookie{Name: cookieName(p.secure, formCookie), Value: bound}) //nolint:gosec // a request: only name and value count
	}
	return base64.RawURLEncoding.EncodeToString(p.sum(r, bound))
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// returnTo is the interaction in which a sign-in happens, or "".
func returnTo(r *http.Request) string {
	id := r.URL.Query().Get("interaction")
	if id == "" || len(id) > 128 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return ""
	}
	return id
}

// within is path with the interaction in which it is asked for.
func within(path, interaction string) string {
	if interaction == "" {
		return path
	}
	return path + "?interaction=" + interaction
}

// held is an interaction that this browser began. Of somebody else's, its id is not enough.
func (p *Pages) held(r *http.Request, id string) (smart.Interaction, error) {
	return p.Server.Interaction(p.Server.Browser(r), id)
}
