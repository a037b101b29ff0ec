package signin

import (
	"fmt"
	"net/http"

	"github.com/cloister-health/cloister/api/account"
	"github.com/cloister-health/cloister/api/backchannel"
	"github.com/cloister-health/cloister/authz/oidc"
)

// logoutPath is where identity providers say that a session of theirs has ended.
const logoutPath = "/smart/backchannel-logout"

// party is this server as the relying party of identity providers; nil where there are none.
func (c Config) party(base string) (*oidc.Party, error) {
	if len(c.Providers) == 0 {
		return nil, nil //nolint:nilnil // no providers, and nothing wrong with that
	}
	for _, p := range c.Providers {
		for _, practice := range p.Practices {
			if _, ok := c.Practices.Tenant(practice); !ok {
				return nil, fmt.Errorf("provider %s: practices: there is no practice %q", p.Name, practice)
			}
		}
	}
	return oidc.NewParty(c.Providers, base+"/smart/sign-in/callback", c.Now) //nolint:wrapcheck // it names the provider
}

// providers are what the pages offer; a nil interface where there are none.
func (s *SignIn) providers() account.Providers {
	if s.party == nil {
		return nil
	}
	return s.party
}

// backChannel answers identity providers, and everybody else with next.
func (s *SignIn) backChannel(next http.Handler) http.Handler {
	if s.party == nil {
		return next
	}
	ends := backchannel.Handler(s.party, s.Identity, s.cfg.Log)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == logoutPath {
			ends.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
