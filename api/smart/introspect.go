package smart

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// introspection is what is said of a token (RFC 7662, 2.2; SMART App Launch 2.2, Token Introspection).
type introspection struct {
	Active    bool    `json:"active"`
	Scope     string  `json:"scope,omitempty"`
	Client    string  `json:"client_id,omitempty"`
	Type      string  `json:"token_type,omitempty"`
	Expiry    int64   `json:"exp,omitempty"`
	Issued    int64   `json:"iat,omitempty"`
	Subject   string  `json:"sub,omitempty"`
	Audience  string  `json:"aud,omitempty"`
	Issuer    string  `json:"iss,omitempty"`
	ID        string  `json:"jti,omitempty"`
	Patient   fhir.ID `json:"patient,omitempty"`
	Encounter fhir.ID `json:"encounter,omitempty"`
	User      string  `json:"fhirUser,omitempty"`
	Practice  string  `json:"practice,omitempty"`
	Bound     *bound  `json:"cnf,omitempty"` // RFC 8705, 3.2
}

// Introspect implements op.Server. An app learns about its own tokens, a registered resource server about those of the practices
// that approved it; to anybody else a token is not active, as one that was never given.
func (p *provider) Introspect(ctx context.Context, r *op.Request[op.IntrospectionRequest]) (*op.Response, error) {
	s := p.s
	basic := strings.HasPrefix(strings.ToLower(r.Header.Get("Authorization")), "basic ")
	a, err := s.authenticate(ctx, r.Data.ClientCredentials, basic, r.Form.Get("client_id"))
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	said, err := s.introspect(ctx, a, r.Data.IntrospectionRequest.Token)
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	return op.NewResponse(said), nil
}

func (s *Server) introspect(ctx context.Context, a app.App, text string) (introspection, error) {
	if len(text) == opaqueLength {
		return s.introspectRefresh(ctx, a, text)
	}
	c, err := s.alive(ctx, text)
	if errors.Is(err, errNoToken) || err == nil && !mayIntrospect(a, c.Client, c.Practice) {
		return introspection{}, nil
	}
	if err != nil {
		return introspection{}, err
	}
	out := introspection{
		Active: true, Scope: c.Scope, Client: c.Client, Type: "Bearer", Expiry: c.Expiry, Issued: c.Issued, Subject: c.Subject, Audience: c.Audience,
		Issuer: c.Issuer, ID: c.ID, Patient: c.Patient, User: c.User, Practice: c.Practice, Bound: c.Bound,
	}
	g, err := s.Store.Grant(ctx, c.Grant)
	if err != nil && !errors.Is(err, ErrNotFound) { // a backend service has none
		return introspection{}, err
	}
	out.Encounter = g.Encounter
	if err == nil {
		out.User = s.userURL(g.User)
	}
	return out, nil
}

// mayIntrospect reports whether an app may learn about a token of client in a practice. That somebody is known to a practice is
// that practice's secret: a resource server of another one does not learn it.
func mayIntrospect(a app.App, client, practice string) bool {
	_, approved := a.ApprovedBy(practice)
	return client == a.ID || a.Introspects && approved
}

func (s *Server) introspectRefresh(ctx context.Context, a app.App, text string) (introspection, error) {
	g, until, err := s.Store.Refreshable(ctx, hashOf(text), s.Now())
	if errors.Is(err, ErrNotFound) || err == nil && !mayIntrospect(a, g.App, g.Practice) {
		return introspection{}, nil
	}
	if err != nil {
		return introspection{}, err
	}
	return introspection{
		Active: true, Scope: strings.Join(g.Scopes, " "), Client: g.App, Expiry: until.Unix(), Subject: g.Account, Issuer: s.Issuer,
		Patient: g.Patient, Encounter: g.Encounter, User: s.userURL(g.User), Practice: g.Practice,
	}, nil
}

// Revocation implements op.Server (RFC 7009): with a token ends the grant that it is of. What is no token of the app changes nothing,
// and the answer does not tell.
func (p *provider) Revocation(ctx context.Context, r *op.ClientRequest[oidc.RevocationRequest]) (*op.Response, error) {
	s := p.s
	a, err := appOf(r.Client)
	if err != nil {
		return nil, err
	}
	var g Grant
	if text := r.Data.Token; len(text) == opaqueLength {
		g, err = s.Store.Refreshing(ctx, hashOf(text))
	} else {
		var c accessClaims
		if c, err = s.alive(ctx, text); err == nil {
			g = Grant{ID: c.Grant, App: c.Client}
			if c.Subject != c.Client {
				g.Account = c.Subject
			}
			g.Tenant, _ = s.Practices.Tenant(c.Practice)
		}
	}
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, errNoToken), err == nil && g.App != a.ID:
		return op.NewResponse(struct{}{}), nil
	case err != nil:
		return nil, s.fault(ctx, err)
	}
	if err := s.revoke(ctx, End{Grant: g.ID}, g.event("")); err != nil {
		return nil, s.fault(ctx, err)
	}
	return op.NewResponse(struct{}{}), nil
}

// userInfo is what the userinfo endpoint says (OpenID Connect Core 5.3.2).
type userInfo struct {
	Subject string `json:"sub"`
	User    string `json:"fhirUser,omitempty"`
	Profile string `json:"profile,omitempty"`
	Name    string `json:"name,omitempty"`
}

// UserInfo implements op.Server.
func (p *provider) UserInfo(ctx context.Context, r *op.Request[oidc.UserInfoRequest]) (*op.Response, error) {
	s := p.s
	c, err := s.alive(ctx, r.Data.AccessToken)
	if errors.Is(err, errNoToken) {
		return nil, badToken()
	}
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	scopes := strings.Fields(c.Scope)
	if !slices.Contains(scopes, scopeOpenID) {
		return nil, op.NewStatusError(&oidc.Error{ErrorType: "insufficient_scope", Description: "the token has not the scope openid"}, http.StatusForbidden)
	}
	g, err := s.Store.Grant(ctx, c.Grant)
	if errors.Is(err, ErrNotFound) {
		return nil, badToken()
	}
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	account, err := s.People.Account(ctx, g.Account)
	if isGone(err) || err == nil && account.Disabled {
		return nil, badToken()
	}
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	u := userInfo{Subject: g.Account}
	s.describe(&u.User, &u.Profile, &u.Name, g, account, scopes)
	return op.NewResponse(u), nil
}

// isGone reports an account that is not there.
func isGone(err error) bool {
	var public *outcome.Error
	return errors.As(err, &public) && public.Status() == http.StatusNotFound
}
