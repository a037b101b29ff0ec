package account

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz/identity"
)

// letterLife is how long the token of a letter stays in its cookie; how long it is good is for the service to say.
const letterLife = time.Hour

// opened moves the token of a letter out of the address bar, from where it would get into histories and logs, and
// reports whether the answer is given.
func (p *Pages) opened(w http.ResponseWriter, r *http.Request, path string) bool {
	token := r.URL.Query().Get("token")
	if token == "" {
		return false
	}
	if len(token) > 256 || strings.ContainsAny(token, " ;,\"\\\r\n") {
		token = ""
	}
	p.set(w, letterCookie, token, letterLife)
	p.see(w, r, path)
	return true
}

// passwordRule is what the page says of a new password; the service decides.
var passwordRule = fmt.Sprintf("At least %d characters. Four words that do not belong together are easy to remember.", identity.MinPassword)

// letterData is the form behind an invitation or a recovery.
type letterData struct{ Name, Rule string }

func (p *Pages) invitation(w http.ResponseWriter, r *http.Request) {
	if !p.opened(w, r, "invitation") {
		p.showInvitation(w, r, http.StatusOK, "", nil)
	}
}

func (p *Pages) showInvitation(w http.ResponseWriter, r *http.Request, status int, name string, faults []fault) {
	if p.cookie(r, letterCookie) == "" {
		p.fail(w, r, http.StatusNotFound, "Open the link from your invitation", "The link in the e-mail leads to this page. It is good for a limited time, and once.")
		return
	}
	p.show(w, r, status, "invitation", page{Title: "Welcome", Faults: faults, Data: letterData{name, passwordRule}})
}

// chosen reads a new password, which is typed twice.
func chosen(r *http.Request) (string, []fault) {
	secret := r.PostForm.Get("password")
	switch {
	case secret == "":
		return "", []fault{{"password", "Choose a password"}}
	case secret != r.PostForm.Get("again"):
		return "", []fault{{"again", "The two passwords differ. Type the same one twice"}}
	}
	return secret, nil
}

func (p *Pages) accept(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimSpace(r.PostForm.Get("name"))
	secret, faults := chosen(r)
	if name == "" {
		faults = append([]fault{{"name", "Enter your name"}}, faults...)
	}
	status := http.StatusUnprocessableEntity
	if len(faults) == 0 {
		s, err := p.Identity.AcceptInvitation(r.Context(), p.cookie(r, letterCookie), name, secret, p.from(r))
		if err == nil {
			p.set(w, letterCookie, "", -1)
			p.stepped(w, r, s)
			return
		}
		var text string
		status, text = public(err)
		faults = []fault{{"password", text}}
	}
	p.showInvitation(w, r, status, name, faults)
}

func (p *Pages) recovery(w http.ResponseWriter, r *http.Request) {
	if !p.opened(w, r, "recovery/new") {
		p.show(w, r, http.StatusOK, "recovery", page{Title: "Forgotten password"})
	}
}

func (p *Pages) askRecovery(w http.ResponseWriter, r *http.Request) {
	email := strings.TrimSpace(r.PostForm.Get("email"))
	status, faults := http.StatusUnprocessableEntity, []fault{{"email", "Enter your e-mail address"}}
	if email != "" {
		err := p.Identity.Recover(r.Context(), email, p.from(r))
		if err == nil {
			p.see(w, r, within("recovery/sent", returnTo(r)))
			return
		}
		var text string
		status, text = public(err)
		faults = []fault{{"email", text}}
	}
	p.show(w, r, status, "recovery", page{Title: "Forgotten password", Faults: faults})
}

func (p *Pages) recoverySent(w http.ResponseWriter, r *http.Request) {
	p.show(w, r, http.StatusOK, "recovery-sent", page{Title: "Look into your mailbox"})
}

func (p *Pages) newPassword(w http.ResponseWriter, r *http.Request) {
	p.showNewPassword(w, r, http.StatusOK, nil)
}

func (p *Pages) showNewPassword(w http.ResponseWriter, r *http.Request, status int, faults []fault) {
	if p.cookie(r, letterCookie) == "" {
		p.fail(w, r, http.StatusNotFound, "Open the link from the e-mail", "The link leads to this page. It is good for a limited time, and once.")
		return
	}
	p.show(w, r, status, "new-password", page{Title: "Choose a new password", Faults: faults, Data: letterData{"", passwordRule}})
}

func (p *Pages) reset(w http.ResponseWriter, r *http.Request) {
	secret, faults := chosen(r)
	status := http.StatusUnprocessableEntity
	if len(faults) == 0 {
		s, err := p.Identity.Reset(r.Context(), p.cookie(r, letterCookie), secret, p.from(r))
		if err == nil {
			p.set(w, letterCookie, "", -1)
			p.stepped(w, r, s)
			return
		}
		var text string
		status, text = public(err)
		faults = []fault{{"password", text}}
	}
	p.showNewPassword(w, r, status, faults)
}

func (p *Pages) passwordPage(w http.ResponseWriter, r *http.Request) {
	if _, a, ok := p.signedIn(w, r); ok {
		p.show(w, r, http.StatusOK, "password", page{Title: "Change your password", Account: a.Email, Data: letterData{"", passwordRule}})
	}
}

func (p *Pages) changePassword(w http.ResponseWriter, r *http.Request) {
	_, a, ok := p.signedIn(w, r)
	if !ok {
		return
	}
	secret, faults := chosen(r)
	old := r.PostForm.Get("old")
	if old == "" {
		faults = append([]fault{{"old", "Enter the password that you have now"}}, faults...)
	}
	status := http.StatusUnprocessableEntity
	if len(faults) == 0 {
		err := p.Identity.ChangePassword(r.Context(), p.cookie(r, sessionCookie), old, secret, p.from(r))
		if err == nil {
			p.see(w, r, "account?done=password")
			return
		}
		if p.anew(w, r, err) {
			return
		}
		var text string
		status, text = public(err)
		field := "password"
		if errors.Is(err, identity.ErrWrong) {
			field, text = "old", "This is not the password that you have now"
		}
		faults = []fault{{field, text}}
	}
	p.show(w, r, status, "password", page{Title: "Change your password", Account: a.Email, Faults: faults, Data: letterData{"", passwordRule}})
}
