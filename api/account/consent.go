package account

import (
	"net/http"
	"slices"
	"strings"
)

func (p *Pages) consent(w http.ResponseWriter, r *http.Request, s *stage, status int, faults []fault) {
	d := consentData{
		ID: s.in.ID, App: s.in.App.Name, As: s.option.As, Practice: s.brand.Name, Patient: s.patient,
		Fixed: s.in.Patient != "", Several: len(s.options) > 1, Staff: s.member.Staff(), Proxy: s.member.User.Type == "RelatedPerson",
		Until: until(s.in.Scopes),
	}
	d.Self = s.patient != nil && s.member.User.Type == "Patient" && s.patient.ID == s.member.User.ID
	d.Groups = explain(s.in.Scopes)
	d.Reaches = reaches(d.Groups)
	w.Header().Set("Content-Security-Policy", policy("'none'", targets(s.in.App)...))
	x := s.page("Connect "+s.in.App.Name+"?", d)
	x.Faults, x.Wide = faults, true
	p.show(w, r, status, "consent", x)
}

// decide takes the answer of the page of consent. What is approved was asked for, and was left ticked.
func (p *Pages) decide(w http.ResponseWriter, r *http.Request) {
	s, ok := p.enter(w, r)
	if !ok {
		return
	}
	if r.PostForm.Get("answer") == "no" {
		p.refuseWith(w, r, s.in.ID, "access_denied", "the user said no")
		return
	}
	if s.option == nil || s.patient == nil && (s.in.NeedPatient || s.in.Patient != "") {
		p.goOn(w, r, s, http.StatusUnprocessableEntity, nil)
		return
	}
	a := s.approval()
	a.Scopes = kept(s.in.Scopes, r.PostForm["scope"])
	if !slices.ContainsFunc(a.Scopes, func(scope string) bool { return !fixed(scope) }) {
		p.consent(w, r, s, http.StatusUnprocessableEntity, []fault{{"scopes", "Leave at least one line ticked, or choose Do not connect"}})
		return
	}
	to, err := p.Server.Approve(p.Server.Browser(r), s.in.ID, a)
	if err != nil {
		p.stopped(w, r, err)
		return
	}
	p.leave(w, r, to)
}

// fixed reports whether a scope is launch context, which cannot be left out of a launch.
func fixed(scope string) bool { return scope == "launch" || strings.HasPrefix(scope, "launch/") }

// kept are those of the asked scopes that were left ticked, and the launch context.
func kept(asked, ticked []string) []string {
	var out []string
	for _, s := range asked {
		if fixed(s) || slices.Contains(ticked, s) {
			out = append(out, s)
		}
	}
	return out
}
