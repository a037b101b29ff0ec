package account

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
)

// option is one of the ways in which the user can take part in an interaction: a membership, or all those by which
// she acts for somebody in the same practice.
type option struct {
	Key      string
	Practice string // as the page names it
	As       string
	members  []identity.Membership
}

func (o option) first() identity.Membership { return o.members[0] }

// options are those that the session and the app leave open.
func (p *Pages) options(in smart.Interaction, s identity.Session, a identity.Account) []option {
	var out []option
	for _, m := range a.Memberships {
		if in.Practice != "" && m.Practice != in.Practice || s.Provider != "" && !slices.Contains(s.Practices, m.Practice) || !suits(in.App, m) {
			continue
		}
		o := option{Practice: p.Brands.of(m.Practice).Name, members: []identity.Membership{m}}
		switch {
		case m.Staff():
			o.Key, o.As = m.Practice+"|"+m.User.String()+"|"+strings.Join(m.Roles, "+"), "As "+roleNames(m.Roles)
		case m.User.Type == "RelatedPerson":
			o.Key, o.As = m.Practice+"|for-others", "For somebody in your care"
			if i := slices.IndexFunc(out, func(x option) bool { return x.Key == o.Key }); i >= 0 {
				out[i].members = append(out[i].members, m)
				continue
			}
		default:
			o.Key, o.As = m.Practice+"|"+m.User.String(), "For yourself, as a patient"
		}
		out = append(out, o)
	}
	return out
}

// patientRequest is the purpose of people who look at their own records, or at those of somebody for whom they act.
const patientRequest = "PATRQT"

// suits reports whether an app is for a membership: its practice approved the app, and the app is for staff, or for
// patients. Approval asks again; here it keeps what would be refused then off the page.
func suits(a app.App, m identity.Membership) bool {
	_, approved := a.ApprovedBy(m.Practice)
	return approved && slices.ContainsFunc(a.Purposes, func(purpose string) bool { return (purpose == patientRequest) != m.Staff() })
}

func roleNames(roles []string) string {
	named := make([]string, len(roles))
	for i, r := range roles {
		named[i] = strings.ReplaceAll(r, "-", " ")
	}
	return strings.Join(named, ", ")
}

// choice is what the user chose so far in one interaction. It is kept in her browser, and checked whenever it is used.
type choice struct {
	Interaction string  `json:"i"`
	Option      string  `json:"o,omitempty"`
	Patient     fhir.ID `json:"p,omitempty"`
}

const choiceLife = 15 * time.Minute

func (p *Pages) chose(r *http.Request, interaction string) choice {
	var c choice
	text, err := base64.RawURLEncoding.DecodeString(p.cookie(r, choiceCookie))
	if err != nil || json.Unmarshal(text, &c) != nil || c.Interaction != interaction {
		return choice{Interaction: interaction}
	}
	return c
}

func (p *Pages) choose(w http.ResponseWriter, c choice) {
	text, err := json.Marshal(c)
	if err != nil {
		return // three strings: it never happens, and nothing is chosen then
	}
	p.set(w, choiceCookie, base64.RawURLEncoding.EncodeToString(text), choiceLife)
}

// stage is how far an interaction has come.
type stage struct {
	in      smart.Interaction
	session identity.Session
	account identity.Account
	options []option
	option  *option // nil: to be chosen
	member  identity.Membership
	patient *patient // nil: none is needed, or it is to be chosen
	offered []patient
	brand   Brand
}

func (s *stage) approval() smart.Approval {
	a := smart.Approval{Account: s.account, Session: s.session, Membership: s.member}
	if s.patient != nil {
		a.Patient = s.patient.ID
	}
	return a
}

func (s *stage) page(title string, data any) page {
	return page{Title: title, Brand: s.brand, Account: s.account.Email, Data: data}
}

// enter loads the interaction of a request and all that was chosen in it. Where that ends in an answer (sign in
// first, expired, no access), it is given and ok is false.
func (p *Pages) enter(w http.ResponseWriter, r *http.Request) (s *stage, ok bool) {
	id := r.PathValue("id")
	in, err := p.held(r, id)
	if err != nil {
		p.fail(w, r, http.StatusNotFound, "This request has expired", "Go back to the app and connect again. A request is good for some minutes, once, and in the browser in which it began.")
		return nil, false
	}
	s = &stage{in: in, brand: p.Brands.of(in.Practice)}
	silent := slices.Contains(in.Prompt, "none")
	s.session, s.account, err = p.Identity.Current(r.Context(), p.cookie(r, sessionCookie))
	if err != nil || p.stale(in, s.session) {
		if silent {
			p.refuseWith(w, r, id, "login_required", "the user is not signed in")
			return nil, false
		}
		p.see(w, r, within("sign-in", id))
		return nil, false
	}
	if silent {
		p.refuseWith(w, r, id, "consent_required", "the user decides on a page about every connection")
		return nil, false
	}
	s.options = p.options(in, s.session, s.account)
	c := p.chose(r, id)
	for i := range s.options {
		if len(s.options) == 1 || s.options[i].Key == c.Option {
			s.option = &s.options[i]
		}
	}
	if s.option == nil {
		if len(s.options) == 0 {
			p.show(w, r, http.StatusForbidden, "no-access", s.page("No access with this account", id))
			return nil, false
		}
		return s, true
	}
	s.member = s.option.first()
	s.brand = p.Brands.of(s.member.Practice)
	if err := p.place(r, s, c); err != nil {
		p.stopped(w, r, err)
		return nil, false
	}
	return s, true
}

// stale reports whether the app asks for a newer sign-in than the session's (OpenID Connect Core 1.0, 3.1.2.1).
func (p *Pages) stale(in smart.Interaction, s identity.Session) bool {
	if in.MaxAge != nil && in.Created.Sub(s.SignedIn) > *in.MaxAge {
		return true
	}
	return (slices.Contains(in.Prompt, "login") || slices.Contains(in.Prompt, "select_account")) && s.SignedIn.Before(in.Created)
}

// place finds the patient of the launch: given by it, the user herself, or the one whom she chose. Whoever it is,
// the FHIR API must show her to the user.
func (p *Pages) place(r *http.Request, s *stage, c choice) error {
	want := s.in.Patient
	switch {
	case want != "":
	case !s.in.NeedPatient:
		return nil
	case s.member.User.Type == "Patient" && !s.member.Staff():
		want = s.member.User.ID
	default:
		want = c.Patient
	}
	for _, m := range s.option.members {
		s.member = m
		if want != "" {
			x, found, err := p.patient(r.Context(), s.approval(), want)
			if err != nil {
				return err
			}
			if found {
				s.patient, s.offered = &x, nil
				return nil
			}
			continue
		}
		if m.User.Type != "RelatedPerson" {
			return nil
		}
		all, _, err := p.patients(r.Context(), s.approval(), url.Values{})
		if err != nil {
			return err
		}
		s.offered = append(s.offered, all...)
	}
	s.member = s.option.first()
	return nil
}

// refuseWith ends the interaction with an error of OAuth and goes back to the app.
func (p *Pages) refuseWith(w http.ResponseWriter, r *http.Request, id, code, description string) {
	to, err := p.Server.Refuse(p.Server.Browser(r), id, code, description)
	if err != nil {
		p.stopped(w, r, err)
		return
	}
	p.leave(w, r, to)
}

// leave sends the browser back to the app, at an address that the authorization server made.
func (p *Pages) leave(w http.ResponseWriter, r *http.Request, to string) {
	p.set(w, choiceCookie, "", -1)
	http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // registered by the app, and compared byte by byte
}

// rolesData is the choice of practice and role.
type rolesData struct {
	ID, App string
	Options []option
}

// pickData is the choice of patient.
type pickData struct {
	ID, App  string
	Search   bool // the whole list is not offered
	Name     string
	Searched bool
	Patients []patient
	More     bool
}

// consentData is the page of consent.
type consentData struct {
	ID, App, AppURL string
	As, Practice    string
	Patient         *patient
	Self, Fixed     bool // the patient is the user herself; she was given by the launch
	Several         bool // another role could be chosen
	Groups          []group
	Reaches         bool
	Staff           bool
	Proxy           bool
	Until           string
}

func (p *Pages) interaction(w http.ResponseWriter, r *http.Request) {
	if s, ok := p.enter(w, r); ok {
		p.goOn(w, r, s, http.StatusOK, nil)
	}
}

// goOn shows what the interaction needs next.
func (p *Pages) goOn(w http.ResponseWriter, r *http.Request, s *stage, status int, faults []fault) {
	switch {
	case s.option == nil:
		d := s.page("Which access do you want to use?", rolesData{s.in.ID, s.in.App.Name, s.options})
		d.Faults = faults
		p.show(w, r, status, "role", d)
	case s.patient == nil && s.in.Patient != "":
		p.show(w, r, http.StatusForbidden, "no-access", s.page("No access with this account", s.in.ID))
	case s.patient == nil && s.in.NeedPatient:
		p.pick(w, r, s, status, pickData{Patients: s.offered, Search: s.member.User.Type != "RelatedPerson"}, faults)
	default:
		p.consent(w, r, s, status, faults)
	}
}

func (p *Pages) pick(w http.ResponseWriter, r *http.Request, s *stage, status int, d pickData, faults []fault) {
	d.ID, d.App = s.in.ID, s.in.App.Name
	x := s.page("Choose a patient", d)
	if !d.Search {
		x.Title = "For whom?"
	}
	x.Faults = faults
	p.show(w, r, status, "patients", x)
}

func (p *Pages) chooseRole(w http.ResponseWriter, r *http.Request) {
	s, ok := p.enter(w, r)
	if !ok {
		return
	}
	key := r.PostForm.Get("role")
	if !slices.ContainsFunc(s.options, func(o option) bool { return o.Key == key }) {
		s.option = nil
		p.goOn(w, r, s, http.StatusUnprocessableEntity, []fault{{"role", "Choose one of these"}})
		return
	}
	p.choose(w, choice{Interaction: s.in.ID, Option: key})
	p.see(w, r, "interaction/"+s.in.ID)
}

// findPatients searches by name. The name is posted: it does not belong into addresses, which get into logs.
func (p *Pages) findPatients(w http.ResponseWriter, r *http.Request) {
	s, ok := p.enter(w, r)
	if !ok {
		return
	}
	if s.option == nil || s.in.Patient != "" || s.member.User.Type != "Practitioner" {
		p.see(w, r, "interaction/"+s.in.ID)
		return
	}
	name := strings.TrimSpace(r.PostForm.Get("name"))
	if name == "" {
		p.pick(w, r, s, http.StatusUnprocessableEntity, pickData{Search: true}, []fault{{"name", "Enter a name, or the beginning of one"}})
		return
	}
	s.patient = nil
	found, more, err := p.patients(r.Context(), s.approval(), url.Values{"name": {escapeComma(name)}})
	if err != nil {
		p.stopped(w, r, err)
		return
	}
	p.pick(w, r, s, http.StatusOK, pickData{Search: true, Name: name, Searched: true, Patients: found, More: more}, nil)
}

// escapeComma keeps what separates values in a FHIR search from doing so in a name (R4, search 3.1.1.5.4).
func escapeComma(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`).Replace(s)
}

func (p *Pages) choosePatient(w http.ResponseWriter, r *http.Request) {
	s, ok := p.enter(w, r)
	if !ok {
		return
	}
	if s.option == nil || s.in.Patient != "" || !s.in.NeedPatient {
		p.see(w, r, "interaction/"+s.in.ID)
		return
	}
	c := choice{Interaction: s.in.ID, Option: s.option.Key, Patient: fhir.ID(r.PostForm.Get("patient"))}
	s.patient = nil
	if err := p.place(r, s, c); err != nil {
		p.stopped(w, r, err)
		return
	}
	if s.patient == nil {
		p.pick(w, r, s, http.StatusUnprocessableEntity, pickData{Search: s.member.User.Type != "RelatedPerson", Patients: s.offered}, []fault{{"name", "Choose a patient from the list"}})
		return
	}
	p.choose(w, c)
	p.see(w, r, "interaction/"+s.in.ID)
}

// startOver takes a choice back: the role, the patient, or who is signed in.
func (p *Pages) startOver(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	c := p.chose(r, id)
	switch r.PostForm.Get("what") {
	case "account":
		if token := p.cookie(r, sessionCookie); token != "" {
			if err := p.Identity.SignOut(r.Context(), token); err != nil {
				p.stopped(w, r, err)
				return
			}
		}
		p.set(w, sessionCookie, "", -1)
		p.set(w, choiceCookie, "", -1)
		p.see(w, r, within("sign-in", id))
		return
	case "patient":
		c.Patient = ""
	default:
		c = choice{Interaction: id}
	}
	p.choose(w, c)
	p.see(w, r, "interaction/"+id)
}
