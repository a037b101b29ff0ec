package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir/element"
)

// SMART is the configuration of the issuer whose tokens are accepted, as SMART
// App Launch 2.0 publishes it. Cloister adds nothing to it: what the issuer does not do must not be here.
type SMART struct {
	Issuer                string
	JWKS                  string // jwks_uri
	AuthorizationEndpoint string // "" where there is none
	TokenEndpoint         string
	IntrospectionEndpoint string // "" where there is none, as the two below
	RevocationEndpoint    string
	RegistrationEndpoint  string
	GrantTypes            []string
	TokenAuthMethods      []string // token_endpoint_auth_methods_supported
	TokenAuthAlgorithms   []string // token_endpoint_auth_signing_alg_values_supported
	ResponseTypes         []string
	ChallengeMethods      []string // code_challenge_methods_supported
	Scopes                []string
	Capabilities          []string
}

// handler answers GET [base]/.well-known/smart-configuration
// (http://hl7.org/fhir/smart-app-launch/STU2/conformance.html).
func (c *SMART) handler() (respond.Handler, error) {
	if c.TokenEndpoint == "" || len(c.GrantTypes) == 0 {
		return nil, errors.New("api: SMART has no TokenEndpoint or no GrantTypes")
	}
	n := element.NewObject()
	set := func(name, value string) {
		if value != "" {
			n.Set(name, text(value))
		}
	}
	all := func(name string, values []string) {
		if len(values) == 0 {
			return
		}
		l := list()
		for _, v := range values {
			l.Items = append(l.Items, text(v))
		}
		n.Set(name, l)
	}
	set("issuer", c.Issuer)
	set("jwks_uri", c.JWKS)
	set("authorization_endpoint", c.AuthorizationEndpoint)
	set("token_endpoint", c.TokenEndpoint)
	set("introspection_endpoint", c.IntrospectionEndpoint)
	set("revocation_endpoint", c.RevocationEndpoint)
	set("registration_endpoint", c.RegistrationEndpoint)
	all("grant_types_supported", c.GrantTypes)
	all("token_endpoint_auth_methods_supported", c.TokenAuthMethods)
	all("token_endpoint_auth_signing_alg_values_supported", c.TokenAuthAlgorithms)
	all("response_types_supported", c.ResponseTypes)
	all("code_challenge_methods_supported", c.ChallengeMethods)
	all("scopes_supported", c.Scopes)
	n.Set("capabilities", list())
	if len(c.Capabilities) > 0 {
		all("capabilities", c.Capabilities)
	}
	resp := respond.Document(http.StatusOK, n.AppendJSON(nil), "application/json", "")
	return func(context.Context, *respond.Request) (respond.Response, error) { return resp, nil }, nil
}
