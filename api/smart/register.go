package smart

import (
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
)

// metadata is what an app says of itself (RFC 7591, 2).
type metadata struct {
	Redirects       []string        `json:"redirect_uris,omitempty"`
	Auth            app.Auth        `json:"token_endpoint_auth_method,omitempty"`
	Grants          []string        `json:"grant_types,omitempty"`
	ResponseTypes   []string        `json:"response_types,omitempty"`
	Name            string          `json:"client_name,omitempty"`
	Homepage        string          `json:"client_uri,omitempty"`
	Publisher       string          `json:"publisher,omitempty"`
	LaunchURI       string          `json:"initiate_login_uri,omitempty"`
	Scope           string          `json:"scope,omitempty"`
	JWKS            json.RawMessage `json:"jwks,omitempty"`
	JWKSURI         string          `json:"jwks_uri,omitempty"`
	LogoutRedirects []string        `json:"post_logout_redirect_uris,omitempty"`
	ApplicationType string          `json:"application_type,omitempty"`
}

// registered is the answer (RFC 7591, 3.2.1).
type registered struct {
	ID     string `json:"client_id"`
	Issued int64  `json:"client_id_issued_at"`
	Secret string `json:"client_secret,omitempty"`
	// Expires is 0, for never, and there where a secret is.
	Expires *int64 `json:"client_secret_expires_at,omitempty"`
	Status  string `json:"registration_status"` // approved or pending
	metadata
}

// register answers POST /register: by policy an app registers itself, and then waits for a practice.
func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	if s.Registration == RegistrationOff {
		return op.NewStatusError(badRequest("apps are registered by the practice"), http.StatusNotFound)
	}
	if s.limits.registration(s.Address(r)) {
		return tooMany()
	}
	var m metadata
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		return badMetadata("the body is no JSON object of client metadata")
	}
	a, err := m.app(newID(), s.Now().UTC())
	if err != nil {
		return err
	}
	out := registered{ID: a.ID, Issued: a.Registered.Unix(), Status: "pending"}
	if a.Auth == app.SecretBasic || a.Auth == app.SecretPost {
		never := int64(0)
		out.Secret, _ = secret()
		out.Expires = &never
		a.Secret = app.HashSecret(out.Secret)
	}
	if err := a.Validate(); err != nil {
		return badMetadata(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	a.Everywhere = s.Registration == RegistrationOpen && forPatients(a)
	if err := s.Store.Register(ctx, a); err != nil {
		if errors.Is(err, ErrTaken) {
			return badMetadata("try again")
		}
		return unavailable(err)
	}
	if a.Everywhere {
		out.Status = "approved"
	}
	if err := s.record(ctx, audit.Security{Kind: audit.AppRegistered, Client: a.ID}); err != nil {
		return err
	}
	m.Auth, m.Grants, m.ResponseTypes, m.Scope = a.Auth, a.Grants, nil, strings.Join(a.Scopes, " ")
	if a.May(app.Code) {
		m.ResponseTypes = []string{"code"}
	}
	out.metadata = m
	return answer(w, http.StatusCreated, out)
}

// app is the app that the metadata describe. What an app can do, and for which purpose, it does not say of itself: an app with
// patient/ scopes is one for patients, any other one for treatment, and a practice has to agree.
func (m metadata) app(id string, now time.Time) (app.App, error) {
	scopes, ok := split(m.Scope)
	if !ok {
		return app.App{}, badMetadata("scope is malformed")
	}
	a := app.App{
		ID: id, Name: m.Name, Publisher: m.Publisher, Homepage: m.Homepage, LaunchURI: m.LaunchURI, Auth: m.Auth, JWKS: m.JWKS, JWKSURI: m.JWKSURI,
		Redirects: m.Redirects, LogoutRedirects: m.LogoutRedirects, Loopback: m.ApplicationType == "native", Grants: m.Grants, Scopes: scopes,
		Purposes: []string{"TREAT"}, Registered: now, Dynamic: true,
	}
	if a.Auth == "" {
		a.Auth = app.SecretBasic // RFC 7591, 2: what is not said
	}
	if len(a.Grants) == 0 {
		a.Grants = []string{app.Code}
	}
	if slices.Contains(a.Grants, app.ClientCredentials) {
		return app.App{}, badMetadata("a backend service is registered by the practice")
	}
	if slices.ContainsFunc(m.ResponseTypes, func(t string) bool { return t != "code" }) {
		return app.App{}, badMetadata("response_types: code alone")
	}
	if forPatients(a) {
		a.Purposes = []string{patientRequest}
	}
	return a, nil
}

// forPatients reports an app that reaches one patient's own records alone.
func forPatients(a app.App) bool {
	own := []string{scopeOpenID, scopeUser, scopeProfile, scopePatient, scopeOffline, scopeOnline}
	return len(a.Scopes) > 0 && !slices.ContainsFunc(a.Scopes, func(s string) bool {
		return !slices.Contains(own, s) && !strings.HasPrefix(s, "patient/")
	})
}

func badMetadata(text string) error {
	return &oidc.Error{ErrorType: "invalid_client_metadata", Description: text}
}
