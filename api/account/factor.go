package account

import (
	"errors"
	"net/http"
	"strings"

	"github.com/cloister-health/cloister/authz/identity"
)

// passkeyData is a page on which the browser is asked for a passkey: by what options, and where its answer goes.
type passkeyData struct {
	Heading, Text, Button string
	Options               string // PublicKeyCredentialCreationOptions or -RequestOptions, as JSON (WebAuthn 3, section 5.1.8)
	Create                bool
	Action                string
	Back                  string
}

func (p *Pages) secondFactor(w http.ResponseWriter, r *http.Request) {
	c, ok := p.pending(r)
	if !ok || c.Enrol {
		p.see(w, r, within("sign-in", returnTo(r)))
		return
	}
	p.show(w, r, http.StatusOK, "second-factor", page{Title: "Second step", Data: c})
}

// digits is what a user typed as a code, without the spaces that apps show in it.
func digits(s string) string {
	return strings.Map(func(c rune) rune {
		if c == ' ' || c == '-' {
			return -1
		}
		return c
	}, s)
}

func (p *Pages) code(w http.ResponseWriter, r *http.Request) {
	c, ok := p.pending(r)
	if !ok {
		p.see(w, r, within("sign-in", returnTo(r)))
		return
	}
	code := digits(r.PostForm.Get("code"))
	status, text := http.StatusUnprocessableEntity, "Enter the six digits that your app shows"
	if code != "" {
		s, err := p.Identity.TOTP(r.Context(), c.ID, code, p.from(r))
		if err == nil {
			p.stepped(w, r, s)
			return
		}
		status, text = wrongCode(err)
	}
	p.show(w, r, status, "second-factor", page{Title: "Second step", Faults: []fault{{"code", text}}, Data: c})
}

func (p *Pages) recoveryCode(w http.ResponseWriter, r *http.Request) {
	c, ok := p.pending(r)
	if !ok {
		p.see(w, r, within("sign-in", returnTo(r)))
		return
	}
	code := strings.TrimSpace(r.PostForm.Get("code"))
	status, text := http.StatusUnprocessableEntity, "Enter one of your recovery codes"
	if code != "" {
		s, err := p.Identity.RecoveryCode(r.Context(), c.ID, code, p.from(r))
		if err == nil {
			p.stepped(w, r, s)
			return
		}
		status, text = public(err)
	}
	p.show(w, r, status, "second-factor", page{Title: "Second step", Faults: []fault{{"printed", text}}, Data: c})
}

// wrongCode is [public], with words for a code that does not match.
func wrongCode(err error) (int, string) {
	status, text := public(err)
	if errors.Is(err, identity.ErrWrong) {
		text = "This code does not match. A code is good for half a minute, and once: wait for the next one"
	}
	return status, text
}

func (p *Pages) passkeyAlone(w http.ResponseWriter, r *http.Request) {
	p.set(w, challengeCookie, "", -1)
	p.askPasskey(w, r, "")
}

func (p *Pages) passkeySecond(w http.ResponseWriter, r *http.Request) {
	c, ok := p.pending(r)
	if !ok {
		p.see(w, r, within("sign-in", returnTo(r)))
		return
	}
	p.askPasskey(w, r, c.ID)
}

func (p *Pages) askPasskey(w http.ResponseWriter, r *http.Request, challenge string) {
	options, err := p.Identity.BeginPasskey(r.Context(), challenge)
	if err != nil {
		p.stopped(w, r, err)
		return
	}
	p.showPasskey(w, r, http.StatusOK, passkeyData{
		Heading: "Use your passkey", Button: "Continue with passkey", Action: "passkey", Back: "sign-in", Options: string(options),
		Text: "Your browser asks you to confirm that it is you: by fingerprint, face, PIN, or a security key.",
	})
}

func (p *Pages) showPasskey(w http.ResponseWriter, r *http.Request, status int, d passkeyData) {
	p.show(w, r, status, "passkey", page{Title: d.Heading, Passkey: true, Data: d})
}

// passkeyAnswer takes what the browser's authenticator signed, alone or as the second factor.
func (p *Pages) passkeyAnswer(w http.ResponseWriter, r *http.Request) {
	c, _ := p.pending(r) // none: the passkey is the whole sign-in
	s, err := p.Identity.FinishPasskey(r.Context(), c.ID, []byte(r.PostForm.Get("response")), p.from(r))
	if err != nil {
		status, text := public(err)
		p.fail(w, r, status, "The passkey was not accepted", text)
		return
	}
	p.stepped(w, r, s)
}

// enrolling is the challenge that demands a factor, or the session that adds one.
func (p *Pages) enrolling(w http.ResponseWriter, r *http.Request) (string, bool) {
	if c, ok := p.pending(r); ok && c.Enrol {
		return c.ID, true
	}
	if token := p.cookie(r, sessionCookie); token != "" {
		if _, _, err := p.Identity.Current(r.Context(), token); err == nil {
			return token, true
		}
	}
	p.see(w, r, within("sign-in", returnTo(r)))
	return "", false
}

// enrolData says whether a factor must be set up to go on, and whether it can be a passkey.
type enrolData struct{ Must, Passkeys bool }

func (p *Pages) enrol(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.enrolling(w, r); !ok {
		return
	}
	c, _ := p.pending(r)
	p.show(w, r, http.StatusOK, "enrol", page{Title: "Set up a second step", Data: enrolData{Must: c.Enrol, Passkeys: p.Identity.Passkeys()}})
}

// appData is what an authenticator app reads or is told.
type appData struct {
	Code   square
	Secret string // in groups of four, as people copy it
}

func (p *Pages) enrolApp(w http.ResponseWriter, r *http.Request) {
	by, ok := p.enrolling(w, r)
	if !ok {
		return
	}
	secret, uri, err := p.Identity.EnrolTOTP(r.Context(), by)
	if err != nil {
		p.stoppedOrAnew(w, r, err)
		return
	}
	code, err := drawQR(uri)
	if err != nil {
		p.stopped(w, r, err)
		return
	}
	p.show(w, r, http.StatusOK, "enrol-app", page{Title: "Set up your authenticator app", Data: appData{Code: code, Secret: groups(secret)}})
}

func groups(s string) string {
	var b strings.Builder
	for i, c := range s {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func (p *Pages) confirmApp(w http.ResponseWriter, r *http.Request) {
	by, ok := p.enrolling(w, r)
	if !ok {
		return
	}
	s, err := p.Identity.ConfirmTOTP(r.Context(), by, digits(r.PostForm.Get("code")), p.from(r))
	if err != nil {
		// The secret is shown once. What the app has by now is still good for another try.
		status, text := wrongCode(err)
		p.show(w, r, status, "enrol-app", page{Title: "Set up your authenticator app", Faults: []fault{{"code", text}}, Data: appData{}})
		return
	}
	p.enrolled(w, r, s)
}

// enrolled goes on after a factor was set up. Who adds one to a session keeps that session.
func (p *Pages) enrolled(w http.ResponseWriter, r *http.Request, s identity.Step) {
	if s.Challenge == nil && s.Token == "" {
		p.see(w, r, "account")
		return
	}
	p.stepped(w, r, s)
}

func (p *Pages) enrolPasskey(w http.ResponseWriter, r *http.Request) {
	by, ok := p.enrolling(w, r)
	if !ok {
		return
	}
	options, err := p.Identity.EnrolPasskey(r.Context(), by)
	if err != nil {
		p.stoppedOrAnew(w, r, err)
		return
	}
	p.showPasskey(w, r, http.StatusOK, passkeyData{
		Heading: "Make a passkey", Button: "Make a passkey", Action: "enrol/passkey/confirm", Back: "enrol", Options: string(options), Create: true,
		Text: "Your browser keeps the passkey on this device, or asks for a security key. Nobody can guess it, and it works on this site only.",
	})
}

func (p *Pages) confirmPasskey(w http.ResponseWriter, r *http.Request) {
	by, ok := p.enrolling(w, r)
	if !ok {
		return
	}
	name := strings.TrimSpace(r.PostForm.Get("name"))
	if name == "" {
		name = "Passkey"
	}
	s, err := p.Identity.ConfirmPasskey(r.Context(), by, []byte(r.PostForm.Get("response")), name, p.from(r))
	if err != nil {
		status, text := public(err)
		p.fail(w, r, status, "The passkey was not accepted", text)
		return
	}
	p.enrolled(w, r, s)
}

// anew sends the browser to sign in again, where a change asks for that, and reports whether it did. The page says why.
func (p *Pages) anew(w http.ResponseWriter, r *http.Request, err error) bool {
	if !errors.Is(err, identity.ErrStale) {
		return false
	}
	p.see(w, r, "sign-in?again=1")
	return true
}

func (p *Pages) stoppedOrAnew(w http.ResponseWriter, r *http.Request, err error) {
	if !p.anew(w, r, err) {
		p.stopped(w, r, err)
	}
}

func (p *Pages) removeFactor(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := p.signedIn(w, r); !ok {
		return
	}
	err := p.Identity.RemoveFactor(r.Context(), p.cookie(r, sessionCookie), identity.Factor(r.PostForm.Get("factor")), r.PostForm.Get("id"), p.from(r))
	if err != nil {
		p.stoppedOrAnew(w, r, err)
		return
	}
	p.see(w, r, "account?done=factor")
}

// recoveryCodes shows a new list of codes, once.
func (p *Pages) recoveryCodes(w http.ResponseWriter, r *http.Request) {
	_, a, ok := p.signedIn(w, r)
	if !ok {
		return
	}
	codes, err := p.Identity.RecoveryCodes(r.Context(), p.cookie(r, sessionCookie), p.from(r))
	if err != nil {
		p.stoppedOrAnew(w, r, err)
		return
	}
	p.show(w, r, http.StatusOK, "codes", page{Title: "Your recovery codes", Account: a.Email, Data: codes})
}
