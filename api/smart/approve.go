package smart

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// errGone is the one answer for an interaction that is not there, has expired, or is another browser's.
var errGone = outcome.New(outcome.NotFound, "this sign-in has expired: go back to the app and start again")

// waiting finds the request behind an interaction.
func (s *Server) waiting(ctx context.Context, id string) (*request, app.App, error) {
	body, err := s.Store.LookTicket(ctx, KindInteraction, hashOf(id), s.Now())
	if errors.Is(err, ErrNotFound) {
		return nil, app.App{}, errGone
	}
	if err != nil {
		return nil, app.App{}, unavailable(err)
	}
	q := &request{}
	if err := json.Unmarshal(body, q); err != nil {
		return nil, app.App{}, unavailable(err)
	}
	if !q.of(ctx) {
		return nil, app.App{}, errGone
	}
	a, err := s.Store.App(ctx, q.Client)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, app.App{}, unavailable(err)
	}
	if err != nil || !a.Active() {
		return nil, app.App{}, errGone
	}
	return q, a, nil
}

// Interaction gives the request that waits under that id. ctx comes from [Server.Browser].
func (s *Server) Interaction(ctx context.Context, id string) (Interaction, error) {
	q, a, err := s.waiting(ctx, id)
	if err != nil {
		return Interaction{}, err
	}
	i := Interaction{
		ID: id, App: a, Scopes: q.Scopes, NeedPatient: needPatient(q.Scopes), Prompt: q.Prompt, MaxAge: q.MaxAge, LoginHint: q.LoginHint,
		Created: q.Created, Expires: q.Created.Add(interactionLife),
	}
	if l := q.Launch; l != nil {
		i.Practice, i.Patient, i.Encounter, i.StyleURL = l.Practice, l.Patient, l.Encounter, l.StyleURL
		i.NeedPatient = i.NeedPatient && l.Patient == ""
	}
	return i, nil
}

// Approve turns the request into a grant, and gives the address that takes the browser back to the app with a code. ctx comes
// from [Server.Browser]. What the approval says of the user is looked up anew.
func (s *Server) Approve(ctx context.Context, id string, a Approval) (redirect string, err error) {
	q, registered, err := s.waiting(ctx, id)
	if err != nil {
		return "", err
	}
	account, session, m, err := s.person(ctx, a)
	if err != nil {
		return "", err
	}
	now := s.Now().UTC()
	if q.MaxAge != nil && now.Sub(session.SignedIn) > *q.MaxAge || slices.Contains(q.Prompt, "login") && session.SignedIn.Before(q.Created) {
		return "", outcome.New(outcome.SignIn, "the app asks you to sign in anew")
	}
	if _, ok := registered.ApprovedBy(m.Practice); !ok {
		return "", outcome.New(outcome.Forbidden, "your practice has not approved this app")
	}
	g := Grant{
		ID: newID(), App: registered.ID, Account: account.ID, Session: session.ID, Tenant: m.Tenant, Practice: m.Practice, User: m.User,
		Scopes: within(q.Scopes, a.Scopes), Nonce: q.Nonce, SignedIn: session.SignedIn, Methods: session.Methods, Created: now,
	}
	if len(g.Scopes) == 0 {
		return "", outcome.New(outcome.Invalid, "choose at least one of what the app asks for, or refuse")
	}
	var ok bool
	if g.Purpose, ok = purposeFor(registered, m); !ok {
		return "", outcome.New(outcome.Forbidden, "this app is not for what you are in this practice")
	}
	if err := g.place(q, a, m, s.Issuer); err != nil {
		return "", err
	}
	g.Keep = keepOf(g.Scopes, registered.May(app.Refresh))
	g.Until = now.Add(map[Keep]time.Duration{Once: accessLife, Online: onlineLife, Offline: offlineLife}[g.Keep])
	text, hash := secret()
	if err := s.record(ctx, g.event(audit.GrantGiven)); err != nil {
		return "", err
	}
	err = s.Store.BeginGrant(ctx, hashOf(id), g, Code{Hash: hash, Grant: g.ID, App: g.App, Redirect: q.Redirect, Challenge: q.Challenge, Until: now.Add(codeLife)})
	if errors.Is(err, ErrNotFound) {
		return "", errGone
	}
	if err != nil {
		return "", unavailable(err)
	}
	return s.back(q.Redirect, q.State, "code", text), nil
}

// event is one about the grant.
func (g *Grant) event(k audit.Kind) audit.Security {
	return audit.Security{Kind: k, Tenant: g.Tenant, Account: g.Account, User: g.User, Client: g.App, Session: g.ID, Methods: g.Methods}
}

// person looks up who approves, as she is now.
func (s *Server) person(ctx context.Context, a Approval) (account identity.Account, session identity.Session, m identity.Membership, err error) {
	if account, err = s.People.Account(ctx, a.Account.ID); err != nil {
		return account, session, m, err //nolint:wrapcheck // an outcome of identity
	}
	if account.Disabled {
		return account, session, m, outcome.New(outcome.Login, "sign in first")
	}
	sessions, err := s.People.Sessions(ctx, account.ID)
	if err != nil {
		return account, session, m, err //nolint:wrapcheck // an outcome of identity
	}
	i := slices.IndexFunc(sessions, func(x identity.Session) bool { return x.ID == a.Session.ID && x.Account == account.ID })
	if i < 0 {
		return account, session, m, outcome.New(outcome.Login, "sign in first")
	}
	session = sessions[i]
	m, ok := membership(account, session, a.Membership.Practice, a.Membership.User)
	if !ok {
		return account, session, m, outcome.New(outcome.Forbidden, "you are not a member of this practice")
	}
	return account, session, m, nil
}

// membership finds what an account is in a practice. A session that a provider opened speaks for its practices alone.
func membership(a identity.Account, session identity.Session, practice string, user fhir.Ref) (identity.Membership, bool) {
	if session.Provider != "" && !slices.Contains(session.Practices, practice) {
		return identity.Membership{}, false
	}
	for _, m := range a.Memberships {
		if m.Practice == practice && m.User == user && m.Tenant > 0 {
			return m, true
		}
	}
	return identity.Membership{}, false
}

// place gives the grant its patient and what the launch said.
func (g *Grant) place(q *request, a Approval, m identity.Membership, issuer string) error {
	g.Patient = a.Patient
	if l := q.Launch; l != nil {
		same := l.User == m.User
		if l.User == (fhir.Ref{}) {
			same = l.Subject == issuer+"|"+g.Account
		}
		if l.Tenant != m.Tenant || !same {
			return outcome.New(outcome.Forbidden, "this app was launched by somebody else: sign in as she, or launch it again")
		}
		if l.Patient != "" && a.Patient != "" && a.Patient != l.Patient {
			return outcome.New(outcome.Invalid, "the launch says which patient it is about")
		}
		if l.Patient != "" {
			g.Patient = l.Patient
		}
		g.Encounter, g.Context, g.Banner, g.StyleURL, g.Intent = l.Encounter, l.Context, l.Banner, l.StyleURL, l.Intent
	}
	switch {
	case g.Patient == "" && needPatient(g.Scopes):
		return outcome.New(outcome.Invalid, "choose a patient")
	case g.Patient != "" && !g.Patient.Valid():
		return outcome.New(outcome.Invalid, "this is no patient")
	case g.Patient != "" && m.User.Type == "Patient" && g.Patient != m.User.ID:
		return outcome.New(outcome.Forbidden, "you can choose yourself alone")
	}
	return nil
}

// patientRequest is the purpose of people who look at their own records, or those of somebody they act for.
const patientRequest = "PATRQT"

// purposeFor chooses among the purposes of the app: what somebody is in the practice decides, and no request.
func purposeFor(a app.App, m identity.Membership) (string, bool) {
	for _, p := range a.Purposes {
		if (p == patientRequest) != m.Staff() {
			return p, true
		}
	}
	return "", false
}

// refusals are the errors that the pages may give an app (RFC 6749, 4.1.2.1; OpenID Connect Core 3.1.2.6).
var refusals = []string{"access_denied", "login_required", "interaction_required", "consent_required", "account_selection_required", "server_error", "temporarily_unavailable"}

// Refuse ends the request, and gives the address that takes the browser back to the app with an error. description is
// one sentence of ours. ctx comes from [Server.Browser].
func (s *Server) Refuse(ctx context.Context, id, oauthError, description string) (redirect string, err error) {
	if !slices.Contains(refusals, oauthError) {
		return "", outcome.New(outcome.Internal, "the server failed; its log says why").Because(errors.New("smart: the pages refuse with an unknown error"))
	}
	q, _, err := s.waiting(ctx, id)
	if err != nil {
		return "", err
	}
	if _, err := s.Store.TakeTicket(ctx, KindInteraction, hashOf(id), s.Now()); errors.Is(err, ErrNotFound) {
		return "", errGone
	} else if err != nil {
		return "", unavailable(err)
	}
	if err := s.record(ctx, audit.Security{Kind: audit.GrantRefused, Client: q.Client, Reason: audit.ReasonUser}); err != nil {
		return "", err
	}
	return s.back(q.Redirect, q.State, "error", oauthError, "error_description", description), nil
}

// userTokenLife is how long a token of the pages lasts.
const userTokenLife = time.Minute

// UserToken makes a token with which the pages read, as the user would, the patients among whom she may choose.
func (s *Server) UserToken(ctx context.Context, a Approval) (string, error) {
	account, session, m, err := s.person(ctx, a)
	if err != nil {
		return "", err
	}
	g := Grant{
		ID: newID(), App: app.Self, Account: account.ID, Session: session.ID, Tenant: m.Tenant, Practice: m.Practice, User: m.User,
		Scopes: []string{"user/Patient.rs"}, Purpose: "TREAT", SignedIn: session.SignedIn,
	}
	if !m.Staff() {
		g.Purpose = patientRequest
	}
	token, err := s.access(ctx, g, m.Roles, m.Organizations, g.Scopes, userTokenLife)
	if err != nil {
		return "", unavailable(err)
	}
	return token, nil
}

// Grants lists what an account lets apps do, newest first.
func (s *Server) Grants(ctx context.Context, account string) ([]GrantSummary, error) {
	list, err := s.Store.Grants(ctx, account, s.Now())
	if err != nil {
		return nil, unavailable(err)
	}
	return list, nil
}

// RevokeGrant ends a grant of an account. One that is not there, or is somebody else's, is NotFound.
func (s *Server) RevokeGrant(ctx context.Context, account, id string) error {
	g, err := s.Store.Grant(ctx, id)
	if errors.Is(err, ErrNotFound) || err == nil && g.Account != account {
		return outcome.New(outcome.NotFound, "there is no such app")
	}
	if err != nil {
		return unavailable(err)
	}
	return s.revoke(ctx, End{Grant: id}, g.event(""))
}
