package smart

import (
	"errors"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// unnamed completes a refresh that names no client. SMART App Launch 2.2 lists no client_id among the parameters of a refresh, and
// apps of its own JavaScript library send none; the token itself says whose it is. That holds for public apps alone: any
// other one proves who it is, as ever.
func (s *Server) unnamed(r *http.Request) error {
	f := r.Form
	if f.Get("grant_type") != string(oidc.GrantTypeRefreshToken) || f.Has("client_id") || f.Has("client_assertion") || r.Header.Get("Authorization") != "" {
		return nil
	}
	g, err := s.Store.Refreshing(r.Context(), hashOf(f.Get("refresh_token")))
	if errors.Is(err, ErrNotFound) {
		return badGrant()
	}
	if err != nil {
		return unavailable(err)
	}
	a, err := s.Store.App(r.Context(), g.App)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return unavailable(err)
	}
	if err != nil || !a.Public() {
		return badClient()
	}
	f.Set("client_id", a.ID)
	r.PostForm.Set("client_id", a.ID)
	return nil
}
