package smart

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
)

// tokens is the answer of the token endpoint (RFC 6749, 5.1) with the launch context of SMART App Launch 2.2.
type tokens struct {
	Access    string          `json:"access_token"`
	Type      string          `json:"token_type"`
	Expires   int64           `json:"expires_in"`
	Scope     string          `json:"scope"`
	Refresh   string          `json:"refresh_token,omitempty"`
	ID        string          `json:"id_token,omitempty"`
	Patient   fhir.ID         `json:"patient,omitempty"`
	Encounter fhir.ID         `json:"encounter,omitempty"`
	Context   json.RawMessage `json:"fhirContext,omitempty"`
	Banner    *bool           `json:"need_patient_banner,omitempty"`
	StyleURL  string          `json:"smart_style_url,omitempty"`
	Intent    string          `json:"intent,omitempty"`
	User      string          `json:"fhirUser,omitempty"`
}

// CodeExchange implements op.Server. A code that was presented is used up, whatever comes of it.
func (p *provider) CodeExchange(ctx context.Context, r *op.ClientRequest[oidc.AccessTokenRequest]) (*op.Response, error) {
	s := p.s
	a, err := appOf(r.Client)
	if err != nil {
		return nil, err
	}
	c, g, err := s.Store.RedeemCode(ctx, hashOf(r.Data.Code), s.Now())
	switch {
	case errors.Is(err, ErrReused):
		return nil, s.fault(ctx, s.reused(ctx, g))
	case errors.Is(err, ErrNotFound):
		return nil, s.fault(ctx, s.refused(ctx, audit.Security{Client: a.ID, Reason: audit.ReasonGrant}))
	case err != nil:
		return nil, s.fault(ctx, err)
	}
	var reason audit.Reason
	switch {
	case c.App != a.ID:
		reason = audit.ReasonClient
	case c.Redirect != r.Data.RedirectURI:
		reason = audit.ReasonRedirect
	case !proves(r.Data.CodeVerifier, c.Challenge):
		reason = audit.ReasonProof
	}
	if reason != "" { // somebody has a code that she should not have
		if err := s.end(ctx, End{Grant: g.ID}); err != nil {
			return nil, s.fault(ctx, err)
		}
		e := g.event(audit.TokenRefused)
		e.Reason = reason
		return nil, s.fault(ctx, s.refused(ctx, e))
	}
	out, err := s.issue(ctx, a, g, g.Scopes)
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	if g.Keep != Once {
		now := s.Now()
		text, next := secret()
		err := s.Store.StartRefresh(ctx, g.ID, RefreshToken{next, refreshUntil(g, now)}, now)
		if errors.Is(err, ErrNotFound) {
			return nil, badGrant()
		}
		if err != nil {
			return nil, s.fault(ctx, err)
		}
		out.Refresh = text
	}
	return p.give(ctx, g, out)
}

// give records that tokens go out.
func (p *provider) give(ctx context.Context, g Grant, out *tokens) (*op.Response, error) {
	if err := p.s.record(ctx, g.event(audit.TokenIssued)); err != nil {
		return nil, p.s.fault(ctx, err)
	}
	return op.NewResponse(out), nil
}

// proves checks a code verifier (RFC 7636, 4.6).
func proves(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || !unreserved(verifier) {
		return false
	}
	h := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(h[:])), []byte(challenge)) == 1
}

// reused records that a code or refresh token came a second time; its grant has ended by then.
func (s *Server) reused(ctx context.Context, g Grant) error {
	s.Ended.Add(g.ID)
	e := g.event(audit.TokenReused)
	e.Reason = audit.ReasonReplay
	if err := s.record(ctx, e); err != nil {
		return err
	}
	return badGrant()
}

// refused records a code or token that is not good.
func (s *Server) refused(ctx context.Context, e audit.Security) error {
	e.Kind = audit.TokenRefused
	if err := s.record(ctx, e); err != nil {
		return err
	}
	return badGrant()
}

// RefreshToken implements op.Server.
func (p *provider) RefreshToken(ctx context.Context, r *op.ClientRequest[oidc.RefreshTokenRequest]) (*op.Response, error) {
	s := p.s
	a, err := appOf(r.Client)
	if err != nil {
		return nil, err
	}
	hash := hashOf(r.Data.RefreshToken)
	g, err := s.Store.Refreshing(ctx, hash)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, s.fault(ctx, err)
	}
	if err != nil || g.App != a.ID {
		return nil, s.fault(ctx, s.refused(ctx, audit.Security{Client: a.ID, Reason: audit.ReasonGrant}))
	}
	scopes := within(a.Scopes, g.Scopes)
	if text := r.Form.Get("scope"); text != "" {
		asked, ok := split(text)
		if !ok || len(asked) == 0 || !subset(scopes, asked) {
			e := g.event(audit.TokenRefused)
			e.Reason = audit.ReasonScope
			if err := s.record(ctx, e); err != nil {
				return nil, s.fault(ctx, err)
			}
			return nil, badScope("a refresh cannot ask for more than was granted")
		}
		scopes = asked
	}
	// The tokens are made first: what fails here leaves the app its refresh token.
	out, err := s.issue(ctx, a, g, scopes)
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	now := s.Now()
	text, next := secret()
	g, err = s.Store.RotateRefresh(ctx, hash, RefreshToken{next, refreshUntil(g, now)}, now)
	switch {
	case errors.Is(err, ErrReused):
		return nil, s.fault(ctx, s.reused(ctx, g))
	case errors.Is(err, ErrNotFound):
		return nil, s.fault(ctx, s.refused(ctx, audit.Security{Client: a.ID, Reason: audit.ReasonGrant}))
	case err != nil:
		return nil, s.fault(ctx, err)
	}
	out.Refresh = text
	return p.give(ctx, g, out)
}

func refreshUntil(g Grant, now time.Time) time.Time {
	until := now.Add(OfflineIdle)
	if g.Until.Before(until) {
		until = g.Until
	}
	return until
}

// issue makes the tokens of a grant, if its user still is who she was.
func (s *Server) issue(ctx context.Context, a app.App, g Grant, scopes []string) (*tokens, error) {
	account, m, err := s.still(ctx, a, g)
	if err != nil {
		return nil, err
	}
	out := &tokens{
		Type: "Bearer", Expires: int64(AccessLife.Seconds()), Scope: strings.Join(scopes, " "),
		Patient: g.Patient, Encounter: g.Encounter, Context: g.Context, Intent: g.Intent, Banner: g.Banner, StyleURL: g.StyleURL,
	}
	if out.Banner == nil && g.Patient != "" { // nobody around the app shows whom it is about
		yes := true
		out.Banner = &yes
	}
	if out.StyleURL == "" {
		out.StyleURL = s.Issuer + pathStyle
	}
	if out.Access, err = s.access(ctx, g, m.Roles, m.Organizations, scopes, AccessLife); err != nil {
		return nil, unavailable(err)
	}
	if slices.Contains(scopes, scopeOpenID) {
		if out.ID, err = s.idToken(ctx, g, account, scopes, out.Access); err != nil {
			return nil, unavailable(err)
		}
		if slices.Contains(scopes, scopeUser) {
			out.User = s.userURL(g.User)
		}
	}
	return out, nil
}

// still checks that everything a grant rests on holds; where it does not, the grant ends.
func (s *Server) still(ctx context.Context, a app.App, g Grant) (identity.Account, identity.Membership, error) {
	over := func(reason audit.Reason) (identity.Account, identity.Membership, error) {
		if err := s.end(ctx, End{Grant: g.ID}); err != nil {
			return identity.Account{}, identity.Membership{}, err
		}
		e := g.event("")
		e.Reason = reason
		return identity.Account{}, identity.Membership{}, s.refused(ctx, e)
	}
	account, err := s.People.Account(ctx, g.Account)
	if isGone(err) || err == nil && account.Disabled {
		return over(audit.ReasonDisabled)
	}
	if err != nil {
		return account, identity.Membership{}, err //nolint:wrapcheck // an outcome of identity
	}
	if _, ok := a.ApprovedBy(g.Practice); !ok {
		return over(audit.ReasonNotPermitted)
	}
	m, ok := membership(account, identity.Session{}, g.Practice, g.User)
	if !ok || m.Tenant != g.Tenant {
		return over(audit.ReasonNotPermitted)
	}
	if g.Keep != Offline {
		sessions, err := s.People.Sessions(ctx, g.Account)
		if err != nil {
			return account, m, err //nolint:wrapcheck // an outcome of identity
		}
		if !slices.ContainsFunc(sessions, func(x identity.Session) bool { return x.ID == g.Session }) {
			return over(audit.ReasonExpired)
		}
	}
	return account, m, nil
}

// ClientCredentialsExchange implements op.Server: a backend service acts for itself (SMART App Launch 2.2, Backend Services).
func (p *provider) ClientCredentialsExchange(ctx context.Context, r *op.ClientRequest[oidc.ClientCredentialsRequest]) (*op.Response, error) {
	s := p.s
	a, err := appOf(r.Client)
	if err != nil {
		return nil, err
	}
	g, out, err := s.backend(ctx, a, r.Form.Get("scope"), r.Form.Get("practice"))
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	return p.give(ctx, g, out)
}

func (s *Server) backend(ctx context.Context, a app.App, scope, practice string) (Grant, *tokens, error) {
	if practice == "" && len(a.Approvals) == 1 {
		practice = a.Approvals[0].Practice
	}
	by, ok := a.ApprovedBy(practice)
	if !ok {
		if err := s.record(ctx, audit.Security{Kind: audit.TokenRefused, Client: a.ID, Reason: audit.ReasonNotPermitted}); err != nil {
			return Grant{}, nil, err
		}
		return Grant{}, nil, badRequest("practice must name the one for which the token is, among those that approved the app")
	}
	asked, ok := split(scope)
	if !ok || len(asked) == 0 {
		return Grant{}, nil, badScope("scope is missing or malformed")
	}
	granted := slices.DeleteFunc(within(a.Scopes, asked), func(x string) bool { return !strings.HasPrefix(x, "system/") })
	if len(granted) == 0 {
		if err := s.record(ctx, audit.Security{Kind: audit.TokenRefused, Tenant: by.Tenant, Client: a.ID, Reason: audit.ReasonScope}); err != nil {
			return Grant{}, nil, err
		}
		return Grant{}, nil, badScope("the app registered none of these scopes")
	}
	g := Grant{ID: newID(), App: a.ID, Tenant: by.Tenant, Practice: by.Practice, Scopes: granted, Purpose: a.Purposes[0], Profile: a.Profile}
	access, err := s.access(ctx, g, a.Roles, a.Organizations, granted, AccessLife)
	if err != nil {
		return Grant{}, nil, err
	}
	out := &tokens{Access: access, Type: "Bearer", Expires: int64(AccessLife.Seconds()), Scope: strings.Join(granted, " ")}
	return g, out, nil
}

func appOf(c op.Client) (app.App, error) {
	x, ok := c.(*client)
	if !ok {
		return app.App{}, failed("the server cannot do this now: try again")
	}
	return x.App, nil
}

// answer writes JSON.
func answer(w http.ResponseWriter, status int, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err //nolint:wrapcheck // logged as it is
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client went away
	return nil
}
