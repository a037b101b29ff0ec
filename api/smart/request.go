package smart

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"

	"github.com/cloister-health/cloister/authz/app"
	"github.com/cloister-health/cloister/fhir"
)

// request is an authorization request that is sound (RFC 6749, 4.1.1; SMART App Launch 2.2, Obtain authorization code).
type request struct {
	Client    string
	Redirect  string
	State     string
	Nonce     string
	Challenge string
	Scopes    []string
	Prompt    []string
	MaxAge    *time.Duration
	LoginHint string
	Handle    string `json:"-"` // of the launch, until it is taken
	Launch    *launch
	Browser   []byte // hash of the browser's cookie
	Created   time.Time
}

// launch is what an EHR said when it launched an app.
type launch struct {
	Tenant    int32
	Practice  string
	Subject   string
	User      fhir.Ref
	Client    string // "" for any app
	Patient   fhir.ID
	Encounter fhir.ID
	Context   json.RawMessage `json:",omitempty"`
	Intent    string
	Banner    *bool
	StyleURL  string
}

const (
	maxParameter    = 2048
	challengeLength = 43 // of SHA-256 in base64url
)

// target finds the app of a request and where its answer goes. Without both there is nobody to tell of a fault.
func (s *Server) target(ctx context.Context, form url.Values) (app.App, string, error) {
	id, redirect := form.Get("client_id"), form.Get("redirect_uri")
	a, err := s.Store.App(ctx, id)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return app.App{}, "", unavailable(err)
	case err != nil || !a.Active():
		return app.App{}, "", badRequest("client_id names no app that may be used here")
	case !a.RedirectAllowed(redirect):
		return app.App{}, "", badRequest("redirect_uri is missing, or is not one that the app registered")
	}
	return a, redirect, nil
}

// parse reads a request of an app to a redirect that is its own. The error is for the app.
func (s *Server) parse(a app.App, redirect string, form url.Values) (*request, error) {
	for name, values := range form {
		if len(values) > 1 || len(values[0]) > maxParameter && name != "scope" {
			return nil, badRequest("a parameter is repeated or too long")
		}
	}
	q := &request{
		Client: a.ID, Redirect: redirect, State: form.Get("state"), Nonce: form.Get("nonce"), Challenge: form.Get("code_challenge"),
		LoginHint: form.Get("login_hint"), Handle: form.Get("launch"), Created: s.Now().UTC(),
	}
	switch {
	case form.Get("request") != "":
		return nil, &oidc.Error{ErrorType: oidc.RequestNotSupported, Description: "push the request instead (RFC 9126)"}
	case form.Get("response_type") != "code":
		return nil, &oidc.Error{ErrorType: "unsupported_response_type", Description: "response_type must be code"}
	case !a.May(app.Code):
		return nil, notAllowed("the app did not register authorization_code")
	case form.Get("response_mode") != "" && form.Get("response_mode") != "query":
		return nil, badRequest("response_mode must be query")
	case q.State == "":
		return nil, badRequest("state is missing: without it another site could start a launch in the user's name")
	case strings.TrimSuffix(form.Get("aud"), "/") != s.FHIRBase:
		return nil, badRequest("aud must be the base URL of the FHIR server, so that no other server gets the token")
	case q.Challenge == "" || form.Get("code_challenge_method") != "S256":
		return nil, badRequest("code_challenge with code_challenge_method S256 is required")
	case len(q.Challenge) != challengeLength || !unreserved(q.Challenge):
		return nil, badRequest("code_challenge is no SHA-256 in base64url")
	}
	if err := q.read(a, form); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *request) read(a app.App, form url.Values) error {
	asked, ok := split(form.Get("scope"))
	if !ok || len(asked) == 0 {
		return badScope("scope is missing or malformed")
	}
	if q.Scopes = within(ofUser(a.Scopes), ofUser(asked)); len(q.Scopes) == 0 {
		return badScope("the app registered none of these scopes")
	}
	if slices.Contains(q.Scopes, scopeLaunch) != (q.Handle != "") {
		return badRequest("the scope launch and the parameter launch belong together, and the app has to be registered for it")
	}
	for _, p := range strings.Fields(form.Get("prompt")) {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, p) {
			return badRequest("prompt has an unknown value")
		}
		q.Prompt = append(q.Prompt, p)
	}
	if slices.Contains(q.Prompt, "none") && len(q.Prompt) > 1 {
		return badRequest("prompt none stands alone")
	}
	if text := form.Get("max_age"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return badRequest("max_age is no number of seconds")
		}
		age := time.Duration(n) * time.Second
		q.MaxAge = &age
	}
	return nil
}

// unreserved reports characters of a code verifier or challenge alone (RFC 7636, 4.1).
func unreserved(text string) bool {
	for i := range len(text) {
		c := text[i]
		if c != '-' && c != '.' && c != '_' && c != '~' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// takeLaunch redeems the handle of an EHR launch.
func (s *Server) takeLaunch(ctx context.Context, q *request) error {
	if q.Handle == "" {
		return nil
	}
	body, err := s.Store.TakeTicket(ctx, KindLaunch, hashOf(q.Handle), s.Now())
	if err != nil && !errors.Is(err, ErrNotFound) {
		return unavailable(err)
	}
	l := &launch{}
	if err != nil || json.Unmarshal(body, l) != nil || l.Client != "" && l.Client != q.Client {
		return badRequest("launch is not good, or not any more")
	}
	q.Launch = l
	return nil
}

// unescape undoes the form encoding of an id or a secret in HTTP Basic (RFC 6749, 2.3.1).
func unescape(text string) (string, bool) {
	out, err := url.QueryUnescape(text)
	return out, err == nil
}

// back is the answer to the app: redirect with parameters, always with state and issuer (RFC 9207).
func (s *Server) back(redirect, state string, parameters ...string) string {
	u, err := url.Parse(redirect)
	if err != nil { // it was registered, so it is one
		return redirect
	}
	v := u.Query()
	for i := 0; i+1 < len(parameters); i += 2 {
		if parameters[i+1] != "" {
			v.Set(parameters[i], parameters[i+1])
		}
	}
	if state != "" {
		v.Set("state", state)
	}
	v.Set("iss", s.Issuer)
	u.RawQuery = v.Encode()
	return u.String()
}

// backWith is the answer that tells the app of an error.
func (s *Server) backWith(redirect, state string, err error) string {
	var oauth *oidc.Error
	if !errors.As(err, &oauth) {
		oauth = &oidc.Error{ErrorType: oidc.ServerError, Description: "the server cannot do this now"}
	}
	return s.back(redirect, state, "error", string(oauth.ErrorType), "error_description", oauth.Description)
}
