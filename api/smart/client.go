package smart

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/mtls"
)

// client is an app as op sees it.
type client struct {
	app.App
	request *request // at the authorization endpoint
	refusal error    // what the app is to be told there instead of a code
}

var _ op.Client = (*client)(nil)

func (c *client) GetID() string { return c.ID }

// RedirectURIs are those that op compares the request with. [app.App.RedirectAllowed] has decided by then.
func (c *client) RedirectURIs() []string {
	if c.request != nil {
		return []string{c.request.Redirect}
	}
	return c.Redirects
}

func (c *client) PostLogoutRedirectURIs() []string { return c.LogoutRedirects }

// ApplicationType is native where op is to leave the scheme of a redirect to the registration.
func (c *client) ApplicationType() op.ApplicationType {
	if c.request != nil && !strings.HasPrefix(c.request.Redirect, "https://") {
		return op.ApplicationTypeNative
	}
	return op.ApplicationTypeWeb
}

func (c *client) AuthMethod() oidc.AuthMethod { return oidc.AuthMethod(c.Auth) }

func (c *client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

func (c *client) GrantTypes() []oidc.GrantType {
	out := make([]oidc.GrantType, 0, len(c.Grants))
	for _, g := range c.Grants {
		out = append(out, oidc.GrantType(g))
	}
	return out
}

func (c *client) LoginURL(string) string               { return "" }
func (c *client) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeJWT }
func (c *client) IDTokenLifetime() time.Duration       { return idLife }
func (c *client) DevMode() bool                        { return false }
func (c *client) IsScopeAllowed(string) bool           { return true } // decided before op asks
func (c *client) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c *client) ClockSkew() time.Duration             { return 0 }
func (c *client) RestrictAdditionalIdTokenScopes() func([]string) []string { //nolint:revive,staticcheck // the name is op's
	return slices.Clone[[]string]
}
func (c *client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return slices.Clone[[]string]
}

// provider implements op.Server.
type provider struct {
	op.UnimplementedServer
	s *Server
}

// VerifyClient implements op.Server: the app proves who it is by the one method that it registered.
func (p *provider) VerifyClient(ctx context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	basic := strings.HasPrefix(strings.ToLower(r.Header.Get("Authorization")), "basic ")
	a, err := p.s.authenticate(ctx, r.Data, basic, r.Form.Get("client_id"))
	if err != nil {
		return nil, p.s.fault(ctx, err)
	}
	return &client{App: a}, nil
}

// authenticate finds the app behind credentials, basic where they came in the Authorization header. named is the
// client_id of the form, or "".
func (s *Server) authenticate(ctx context.Context, c *op.ClientCredentials, basic bool, named string) (app.App, error) {
	id := c.ClientID
	if c.ClientAssertion != "" {
		claimed, err := assertedClient(c.ClientAssertion)
		if err != nil || id != "" && id != claimed || basic || c.ClientSecret != "" {
			return app.App{}, s.noClient(ctx, "")
		}
		id = claimed
	}
	if named != "" && named != id {
		return app.App{}, s.noClient(ctx, "")
	}
	if s.limits.failing(addressOf(ctx), id) {
		return app.App{}, tooMany()
	}
	if !storable(id) {
		return app.App{}, s.noClient(ctx, id)
	}
	a, err := s.Store.App(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return app.App{}, unavailable(err)
	}
	if err != nil || !a.Active() {
		return app.App{}, s.noClient(ctx, id)
	}
	good := false
	switch a.Auth {
	case app.None:
		good = !basic && c.ClientSecret == "" && c.ClientAssertion == ""
	case app.SecretBasic:
		good = basic && a.SecretIs(c.ClientSecret)
	case app.SecretPost:
		good = !basic && a.SecretIs(c.ClientSecret)
	case app.PrivateKeyJWT:
		if c.ClientAssertion == "" {
			break
		}
		if err := s.checkAssertion(ctx, a, c.ClientAssertion); err != nil {
			if !errors.Is(err, errAssertion) {
				return app.App{}, err
			}
			break
		}
		good = true
	}
	if len(a.Certificates) > 0 && !slices.Contains(a.Certificates, mtls.Presented(ctx, s.Now())) {
		good = false
	}
	if !good {
		return app.App{}, s.noClient(ctx, id)
	}
	return a, nil
}

// noClient counts and records a refused authentication.
func (s *Server) noClient(ctx context.Context, id string) error {
	s.limits.failed(addressOf(ctx), id)
	if err := s.record(ctx, audit.Security{Kind: audit.TokenRefused, Reason: audit.ReasonClient}); err != nil {
		return err
	}
	return badClient()
}
