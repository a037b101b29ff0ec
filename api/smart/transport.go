package smart

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz/app"
)

const (
	maxBody   = 64 << 10
	deadline  = 30 * time.Second
	pathStyle = "/smart-style.json"
)

// route says how a path is reached.
type route struct {
	get, post bool
	json      bool // the body is JSON, not a form
	cors      bool // pages of registered apps may read the answer
	cached    bool // the same for everybody
}

var routes = map[string]route{
	pathDiscovery:  {get: true, cors: true, cached: true},
	pathKeys:       {get: true, cors: true, cached: true},
	pathStyle:      {get: true, cors: true, cached: true},
	pathAuthorize:  {get: true, post: true},
	pathToken:      {post: true, cors: true},
	pathIntrospect: {post: true},
	pathRevoke:     {post: true, cors: true},
	pathRegister:   {post: true, json: true},
	pathPushed:     {post: true, cors: true},
	pathUserinfo:   {get: true, post: true, cors: true},
	pathEndSession: {get: true, post: true},
	pathLaunch:     {post: true, json: true},
}

// transport stands around every endpoint: what it does not let through reaches none.
func (s *Server) transport(core http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil { // its value may quote what it choked on
				s.Log.ErrorContext(r.Context(), "the authorization server panicked", "kind", fmt.Sprintf("%T", p))
				s.complain(w, r, failed("the server cannot do this now: try again"))
			}
		}()
		s.headers(w.Header())
		at, ok := routes[r.URL.Path]
		if !ok {
			s.complain(w, r, op.NewStatusError(badRequest("there is nothing here"), http.StatusNotFound))
			return
		}
		if at.cors && s.allowOrigin(w, r, at) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), deadline)
		defer cancel()
		r = r.WithContext(context.WithValue(ctx, addressKey{}, s.Address(r)))
		if err := s.admit(w, r, at); err != nil {
			s.complain(w, r, err)
			return
		}
		if err := s.dispatch(challenging{w, r}, r, core, at); err != nil {
			s.complain(w, r, s.fault(ctx, err))
		}
	})
}

func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, core http.Handler, at route) error {
	switch r.URL.Path {
	case pathPushed:
		return s.push(w, r)
	case pathRegister:
		return s.register(w, r)
	case pathLaunch:
		return s.makeLaunch(w, r)
	case pathToken:
		if err := s.unnamed(r); err != nil {
			return err
		}
	case pathStyle:
		w.Header().Set("Cache-Control", "public, max-age=3600")
		writeStyle(w)
		return nil
	}
	if at.cached {
		w.Header().Set("Cache-Control", "public, max-age=3600")
	}
	core.ServeHTTP(w, r)
	return nil
}

func (s *Server) headers(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if s.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// admit refuses what no endpoint should have to look at.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, at route) error {
	if s.limits.request(s.Address(r)) {
		return tooMany()
	}
	post := r.Method == http.MethodPost
	if post && !at.post || r.Method == http.MethodGet && !at.get || !post && r.Method != http.MethodGet {
		allowed := []string{}
		if at.get {
			allowed = append(allowed, http.MethodGet)
		}
		if at.post {
			allowed = append(allowed, http.MethodPost)
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return op.NewStatusError(badRequest("this endpoint does not support that method"), http.StatusMethodNotAllowed)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if post {
		want := "application/x-www-form-urlencoded"
		if at.json {
			want = "application/json"
		}
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if (err != nil || kind != want) && (r.ContentLength != 0 || r.URL.Path != pathUserinfo) {
			return op.NewStatusError(badRequest("send "+want), http.StatusUnsupportedMediaType)
		}
		if r.URL.RawQuery != "" {
			return badRequest("send parameters in the body alone") // a URL is logged on its way
		}
		if at.json {
			return nil
		}
	}
	if err := r.ParseForm(); err != nil {
		return badRequest("the parameters cannot be read")
	}
	for _, values := range r.Form {
		if len(values) > 1 {
			return badRequest("a parameter is repeated")
		}
	}
	if _, _, basic := r.BasicAuth(); r.URL.Path == pathIntrospect && !basic && r.Form.Has("client_id") && r.Form.Get("client_secret") == "" && r.Form.Get("client_assertion") == "" {
		return badClient() // a public app proves nothing
	}
	if r.Method == http.MethodGet && r.URL.Path == pathUserinfo && r.Form.Has("access_token") {
		return badRequest("send the token in the Authorization header")
	}
	return nil
}

// challenging tells a client that failed how to prove who it is (RFC 6749, 5.2; RFC 6750, 3).
type challenging struct {
	http.ResponseWriter
	r *http.Request
}

// WriteHeader adds the challenge to a 401.
func (c challenging) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		value := `Basic realm="cloister"`
		if p := c.r.URL.Path; p == pathUserinfo || p == pathLaunch {
			value = `Bearer error="invalid_token"`
		}
		c.Header().Set("WWW-Authenticate", value)
	}
	if status == http.StatusTooManyRequests {
		c.Header().Set("Retry-After", "60")
	}
	if status != http.StatusOK { // an error is not to be kept, whatever the endpoint
		c.Header().Set("Cache-Control", "no-store")
	}
	c.ResponseWriter.WriteHeader(status)
}

// complain writes an error (RFC 6749, 5.2).
func (s *Server) complain(w http.ResponseWriter, r *http.Request, err error) {
	op.WriteError(challenging{w, r}, r, err, quiet)
}

// clientOf proves which app sends a request to an endpoint that is not op's.
func (s *Server) clientOf(r *http.Request) (app.App, error) {
	c := &op.ClientCredentials{
		ClientID: r.PostForm.Get("client_id"), ClientSecret: r.PostForm.Get("client_secret"),
		ClientAssertion: r.PostForm.Get("client_assertion"), ClientAssertionType: r.PostForm.Get("client_assertion_type"),
	}
	id, password, basic := r.BasicAuth()
	if basic {
		if c.ClientSecret != "" {
			return app.App{}, badRequest("prove who you are in one way")
		}
		var ok1, ok2 bool
		c.ClientID, ok1 = unescape(id)
		c.ClientSecret, ok2 = unescape(password)
		if !ok1 || !ok2 {
			return app.App{}, badClient()
		}
	}
	if c.ClientAssertion != "" && c.ClientAssertionType != oidc.ClientAssertionTypeJWTAssertion {
		return app.App{}, badRequest("client_assertion_type is not " + oidc.ClientAssertionTypeJWTAssertion)
	}
	return s.authenticate(r.Context(), c, basic, r.PostForm.Get("client_id"))
}

// origins knows which origins registered apps have. A preflight does not say whose it is.
type origins struct {
	store Store
	now   func() time.Time

	mu    sync.Mutex
	known []string
	at    time.Time
}

// originsFresh is how late an app that was approved may read answers in a browser.
const originsFresh = 5 * time.Second

func (o *origins) has(ctx context.Context, origin string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := o.now(); o.at.IsZero() || now.Sub(o.at) > originsFresh {
		known, err := o.store.Origins(ctx)
		if err != nil {
			return false, err //nolint:wrapcheck // logged as it is
		}
		o.known, o.at = known, now
	}
	return slices.Contains(o.known, origin), nil
}

// allowOrigin lets pages of registered apps read an answer (Fetch, CORS protocol), never with cookies. It reports whether that was
// a preflight, which is answered by it.
func (s *Server) allowOrigin(w http.ResponseWriter, r *http.Request, at route) bool {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	known := false
	if origin != "" {
		var err error
		if known, err = s.origins.has(r.Context(), origin); err != nil && !errors.Is(err, context.Canceled) {
			s.Log.ErrorContext(r.Context(), "the origins of apps cannot be read", "error", err.Error())
		}
	}
	if known {
		h.Set("Access-Control-Allow-Origin", origin)
	}
	if preflight {
		if known {
			methods := http.MethodPost
			if at.get {
				methods = "GET, POST"
			}
			h.Set("Access-Control-Allow-Methods", methods)
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			h.Set("Access-Control-Max-Age", "600")
		}
		w.WriteHeader(http.StatusNoContent)
	}
	return preflight
}
