package smart

import (
	"context"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz/app"
)

// discovered is the metadata of the server (OpenID Connect Discovery 1.0, 3; RFC 8414) with what op does not know.
type discovered struct {
	oidc.DiscoveryConfiguration
	Pushed       string   `json:"pushed_authorization_request_endpoint"`            // RFC 9126, 5
	ISS          bool     `json:"authorization_response_iss_parameter_supported"`   // RFC 9207, 3
	Capabilities []string `json:"capabilities"`                                     // SMART App Launch 2.2
	Introspects  []string `json:"introspection_endpoint_auth_methods_supported"`    // RFC 8414: no "none"
	TokenAlgs    []string `json:"token_endpoint_auth_signing_alg_values_supported"` // of assertions
	Prompts      []string `json:"prompt_values_supported"`                          // OpenID Connect Prompt Create 1.0
	Challenges   []string `json:"code_challenge_methods_supported"`                 // RFC 8414
	Register     string   `json:"registration_endpoint,omitempty"`                  // where apps may register themselves
	Bound        bool     `json:"tls_client_certificate_bound_access_tokens"`       // RFC 8705, 3.3
}

// Configuration is what [base]/.well-known/smart-configuration says (SMART App Launch 2.2, Conformance).
type Configuration struct {
	Issuer, JWKS, Authorization, Token, Introspection, Revocation, Registration string // Registration is "" where there is none
	GrantTypes, AuthMethods, AuthAlgorithms, ResponseTypes, Challenges          []string
	Scopes, Capabilities                                                        []string
}

// Configuration says what this server does.
func (s *Server) Configuration() Configuration {
	c := Configuration{
		Issuer: s.Issuer, JWKS: s.Issuer + pathKeys, Authorization: s.Issuer + pathAuthorize, Token: s.Issuer + pathToken,
		Introspection: s.Issuer + pathIntrospect, Revocation: s.Issuer + pathRevoke,
		GrantTypes:     []string{app.Code, app.Refresh, app.ClientCredentials},
		AuthMethods:    []string{string(app.None), string(app.SecretBasic), string(app.SecretPost), string(app.PrivateKeyJWT)},
		ResponseTypes:  []string{"code"},
		Challenges:     []string{"S256"},
		Scopes:         []string{scopeOpenID, scopeUser, scopeProfile, scopeLaunch, scopePatient, scopeEncounter, scopeOffline, scopeOnline, "patient/*.cruds", "user/*.cruds", "system/*.cruds"},
		Capabilities:   capabilities(),
		AuthAlgorithms: assertionNames(),
	}
	if s.Registration != RegistrationOff {
		c.Registration = s.Issuer + pathRegister
	}
	return c
}

// capabilities are those of SMART App Launch 2.2 that hold.
func capabilities() []string {
	return []string{
		"launch-ehr", "launch-standalone", "authorize-post",
		"client-public", "client-confidential-symmetric", "client-confidential-asymmetric", "sso-openid-connect",
		"context-banner", "context-style", "context-ehr-patient", "context-ehr-encounter", "context-standalone-patient",
		"permission-offline", "permission-online", "permission-patient", "permission-user", "permission-v1", "permission-v2",
	}
}

func assertionNames() []string {
	out := make([]string, 0, len(assertionAlgorithms))
	for _, a := range assertionAlgorithms {
		out = append(out, string(a))
	}
	return out
}

// Discovery implements op.Server.
func (p *provider) Discovery(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	c := p.s.Configuration()
	confidential := c.AuthMethods[1:]
	d := discovered{
		DiscoveryConfiguration: oidc.DiscoveryConfiguration{
			Issuer: c.Issuer, AuthorizationEndpoint: c.Authorization, TokenEndpoint: c.Token, IntrospectionEndpoint: c.Introspection,
			UserinfoEndpoint: c.Issuer + pathUserinfo, RevocationEndpoint: c.Revocation, EndSessionEndpoint: c.Issuer + pathEndSession, JwksURI: c.JWKS,
			ScopesSupported: c.Scopes, ResponseTypesSupported: c.ResponseTypes, ResponseModesSupported: []string{"query"},
			SubjectTypesSupported: []string{"public"}, IDTokenSigningAlgValuesSupported: []string{string(algorithms[ForID])},
			ClaimTypesSupported: []string{"normal"}, ClaimsSupported: []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "amr", "azp", "sid", "at_hash", "fhirUser", "profile", "name"},
		},
		Pushed: c.Issuer + pathPushed, ISS: true, Capabilities: c.Capabilities, Introspects: confidential, TokenAlgs: c.AuthAlgorithms,
		Prompts: []string{"none", "login", "consent", "select_account"}, Challenges: c.Challenges, Register: c.Registration, Bound: true,
	}
	for _, g := range c.GrantTypes {
		d.GrantTypesSupported = append(d.GrantTypesSupported, oidc.GrantType(g))
	}
	for _, m := range c.AuthMethods {
		d.TokenEndpointAuthMethodsSupported = append(d.TokenEndpointAuthMethodsSupported, oidc.AuthMethod(m))
		d.RevocationEndpointAuthMethodsSupported = append(d.RevocationEndpointAuthMethodsSupported, oidc.AuthMethod(m))
	}
	return op.NewResponse(d), nil
}

// Keys implements op.Server.
func (p *provider) Keys(ctx context.Context, _ *op.Request[struct{}]) (*op.Response, error) {
	set, err := p.s.Keys.Published(ctx)
	if err != nil {
		return nil, p.s.fault(ctx, err)
	}
	return op.NewResponse(set), nil
}

// style is what apps look like by default (SMART App Launch 2.2, Styling).
const style = `{"color_background":"#ffffff","color_error":"#b00020","color_highlight":"#1a5f7a","color_modal_backdrop":"","color_success":"#2e7d32","color_text":"#1c1b1f","dim_border_radius":"4px","dim_font_size":"16px","dim_spacing_size":"16px","font_family_body":"system-ui, sans-serif","font_family_heading":"system-ui, sans-serif"}`

func writeStyle(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(style)) // the client went away
}
