package smart

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// EndSession implements op.Server (OpenID Connect RP-Initiated Logout 1.0). With an ID token of ours, however old, the session
// in which it was given ends, and what lives as long as the session. Without one nothing ends here: another site could sign
// people out. They are shown where they can do that themselves.
func (p *provider) EndSession(ctx context.Context, r *op.Request[oidc.EndSessionRequest]) (*op.Redirect, error) {
	s := p.s
	if r.Data.IdTokenHint == "" {
		return op.NewRedirect(s.SignOut), nil
	}
	var c idClaims
	err := s.verify(ctx, ForID, typeID, r.Data.IdTokenHint, &c)
	if errors.Is(err, errNoToken) || err == nil && (c.Issuer != s.Issuer || r.Data.ClientID != "" && r.Data.ClientID != c.Audience) {
		return nil, badRequest("id_token_hint is no ID token that this server gave the app")
	}
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	a, err := s.Store.App(ctx, c.Audience)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, s.fault(ctx, err)
	}
	to := r.Data.PostLogoutRedirectURI
	if to != "" && !slices.Contains(a.LogoutRedirects, to) {
		return nil, badRequest("post_logout_redirect_uri is not one that the app registered")
	}
	g, err := s.Store.Grant(ctx, c.Grant)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, s.fault(ctx, err)
	}
	if err == nil {
		if err := s.signOut(ctx, g); err != nil {
			return nil, s.fault(ctx, err)
		}
	}
	if to == "" {
		return op.NewRedirect(s.SignOut), nil
	}
	u, err := url.Parse(to)
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	if r.Data.State != "" {
		v := u.Query()
		v.Set("state", r.Data.State)
		u.RawQuery = v.Encode()
	}
	return op.NewRedirect(u.String()), nil
}

func (s *Server) signOut(ctx context.Context, g Grant) error {
	err := s.People.EndSession(ctx, g.Account, g.Session)
	var public *outcome.Error
	if errors.As(err, &public) && (public.Status() == http.StatusNotFound || public.Status() == http.StatusUnauthorized) {
		err = nil // it has ended before
	}
	if err != nil {
		return err //nolint:wrapcheck // an outcome of identity
	}
	if err := s.end(ctx, End{Session: g.Session}); err != nil {
		return err
	}
	return s.record(ctx, g.event(audit.SignOut))
}
