package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/app"
)

const keys = `{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`

func public() app.App {
	return app.App{
		ID: "chart", Name: "Chart", Auth: app.None, Redirects: []string{"https://app.example.org/cb"}, Grants: []string{app.Code, app.Refresh},
		Scopes: []string{"openid", "launch/patient", "patient/*.rs"}, Purposes: []string{"PATRQT"},
	}
}

func backend() app.App {
	return app.App{
		ID: "pump", Name: "Pump", Auth: app.PrivateKeyJWT, JWKS: []byte(keys), Grants: []string{app.ClientCredentials}, Scopes: []string{"system/Patient.rs"},
		Purposes: []string{"HOPERAT"}, Roles: []string{"research-analyst"},
	}
}

func TestValidate(t *testing.T) {
	for _, a := range []app.App{public(), backend()} {
		if err := a.Validate(); err != nil {
			t.Errorf("%s: %v", a.ID, err)
		}
	}
	secret := app.HashSecret("x")
	for why, c := range map[string]struct {
		of     func() app.App
		change func(*app.App)
		member string
	}{
		"no id":                  {public, func(a *app.App) { a.ID = "" }, "client_id"},
		"the pages' own id":      {public, func(a *app.App) { a.ID = app.Self }, "client_id"},
		"id with a slash":        {public, func(a *app.App) { a.ID = "a/b" }, "client_id"},
		"no name":                {public, func(a *app.App) { a.Name = " " }, "client_name"},
		"name that turns around": {public, func(a *app.App) { a.Name = "a\u202eb" }, "client_name"},
		"unknown method":         {public, func(a *app.App) { a.Auth = "client_secret_jwt" }, "token_endpoint_auth_method"},
		"public with a secret":   {public, func(a *app.App) { a.Secret = secret }, "token_endpoint_auth_method"},
		"secret missing":         {public, func(a *app.App) { a.Auth = app.SecretBasic }, "token_endpoint_auth_method"},
		"keys beside a secret":   {backend, func(a *app.App) { a.Secret = secret }, "token_endpoint_auth_method"},
		"no keys":                {backend, func(a *app.App) { a.JWKS = nil }, "jwks"},
		"both kinds of keys":     {backend, func(a *app.App) { a.JWKSURI = "https://x.example/keys" }, "jwks"},
		"keys over http":         {backend, func(a *app.App) { a.JWKS, a.JWKSURI = nil, "http://x.example/keys" }, "jwks_uri"},
		"a private key": {backend, func(a *app.App) {
			a.JWKS = []byte(strings.Replace(keys, `"kid"`, `"d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI","kid"`, 1))
		}, "jwks"},
		"a key without a kid":             {backend, func(a *app.App) { a.JWKS = []byte(strings.Replace(keys, `"kid":"a",`, "", 1)) }, "jwks"},
		"a backend with a secret":         {backend, func(a *app.App) { a.Auth, a.JWKS, a.Secret = app.SecretBasic, nil, secret }, "token_endpoint_auth_method"},
		"a backend with redirects":        {backend, func(a *app.App) { a.Redirects = []string{"https://x.example/"} }, "grant_types"},
		"a backend everywhere":            {backend, func(a *app.App) { a.Everywhere = true }, "grant_types"},
		"a backend without roles":         {backend, func(a *app.App) { a.Roles = nil }, "roles"},
		"a backend as the operator":       {backend, func(a *app.App) { a.Roles = []string{"operator"} }, "roles"},
		"a backend with user scopes":      {backend, func(a *app.App) { a.Scopes = []string{"user/Patient.rs"} }, "scope"},
		"users with system scopes":        {public, func(a *app.App) { a.Scopes = []string{"system/Patient.rs"} }, "scope"},
		"a malformed scope":               {public, func(a *app.App) { a.Scopes = []string{"patient/Observation.sr"} }, "scope"},
		"a scope that is two":             {public, func(a *app.App) { a.Scopes = []string{"openid profile"} }, "scope"},
		"no scope":                        {public, func(a *app.App) { a.Scopes = nil }, "scope"},
		"no purpose":                      {public, func(a *app.App) { a.Purposes = nil }, "purposes_of_use"},
		"a purpose in lower case":         {public, func(a *app.App) { a.Purposes = []string{"treat"} }, "purposes_of_use"},
		"roles for users":                 {public, func(a *app.App) { a.Roles = []string{"therapist"} }, "roles"},
		"unknown grant":                   {public, func(a *app.App) { a.Grants = []string{"password"} }, "grant_types"},
		"no grant":                        {public, func(a *app.App) { a.Grants = nil }, "grant_types"},
		"refresh alone":                   {public, func(a *app.App) { a.Grants = []string{app.Refresh} }, "grant_types"},
		"no redirect":                     {public, func(a *app.App) { a.Redirects = nil }, "redirect_uris"},
		"a redirect over http":            {public, func(a *app.App) { a.Redirects = []string{"http://x.example/"} }, "redirect_uris"},
		"a redirect with a fragment":      {public, func(a *app.App) { a.Redirects = []string{"https://x.example/#"} }, "redirect_uris"},
		"a redirect with a password":      {public, func(a *app.App) { a.Redirects = []string{"https://a:b@x.example/"} }, "redirect_uris"},
		"javascript":                      {public, func(a *app.App) { a.Redirects = []string{"javascript:alert(1)"} }, "redirect_uris"},
		"a short scheme":                  {public, func(a *app.App) { a.Redirects = []string{"phone:/cb"} }, "redirect_uris"},
		"an origin with a path":           {public, func(a *app.App) { a.Origins = []string{"https://x.example/"} }, "origins"},
		"a public resource server":        {public, func(a *app.App) { a.Introspects = true }, "token_endpoint_auth_method"},
		"a launch page over http":         {public, func(a *app.App) { a.LaunchURI = "http://x.example/" }, "initiate_login_uri"},
		"more redirects than anybody has": {public, func(a *app.App) { a.Redirects = make([]string, 65) }, "redirect_uris"},
	} {
		a := c.of()
		c.change(&a)
		if err := a.Validate(); err == nil || !strings.Contains(err.Error(), c.member) {
			t.Errorf("%s: %v, want a fault of %s", why, err, c.member)
		}
	}
}

func TestApproval(t *testing.T) {
	a := public()
	if _, ok := a.ApprovedBy("harbor"); ok || a.Active() {
		t.Error("nobody has approved it")
	}
	a.Approvals = []app.Approval{{Tenant: 1, Practice: "harbor"}}
	if _, ok := a.ApprovedBy("lakeside"); ok || !a.Active() {
		t.Error("one practice has approved it")
	}
	if p, ok := a.ApprovedBy("harbor"); !ok || p.Tenant != 1 {
		t.Error("harbor has approved it")
	}
	a.Everywhere = true
	if _, ok := a.ApprovedBy("lakeside"); !ok {
		t.Error("it is good everywhere")
	}
	if _, ok := a.ApprovedBy(""); ok {
		t.Error("no practice is none")
	}
	a.Withdrawn = time.Unix(1, 0)
	if _, ok := a.ApprovedBy("harbor"); ok || a.Active() {
		t.Error("it is withdrawn")
	}
}

func TestSecret(t *testing.T) {
	a := app.App{Secret: app.HashSecret("good")}
	if !a.SecretIs("good") || a.SecretIs("bad") || a.SecretIs("") || (app.App{}).SecretIs("") {
		t.Error("secrets are compared wrongly")
	}
}
