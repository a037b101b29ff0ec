package smart

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/cloister-health/cloister/authz/audit"
)

// pushedPrefix begins the request_uri of a pushed request (RFC 9126, 2.2).
const pushedPrefix = "urn:ietf:params:oauth:request_uri:"

// pushed is a request that came over the back channel.
type pushed struct {
	Client string
	Form   url.Values
}

// VerifyAuthRequest implements op.Server. A fault that the app may be told of goes with its client, because
// op would answer the browser.
func (p *provider) VerifyAuthRequest(ctx context.Context, r *op.Request[oidc.AuthRequest]) (*op.ClientRequest[oidc.AuthRequest], error) {
	s := p.s
	form := r.Form
	if handle := form.Get("request_uri"); handle != "" {
		var err error
		if form, err = s.unpush(ctx, form.Get("client_id"), handle); err != nil {
			return nil, s.fault(ctx, err)
		}
	}
	a, redirect, err := s.target(ctx, form)
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	c := &client{App: a, request: &request{Redirect: redirect, State: form.Get("state")}}
	q, err := s.parse(a, redirect, form)
	if err == nil {
		err = s.takeLaunch(ctx, q)
	}
	if err != nil {
		c.refusal = s.fault(ctx, err)
	} else {
		c.request = q
	}
	// What op checks from here on was checked above, in our way.
	*r.Data = oidc.AuthRequest{ClientID: a.ID, RedirectURI: redirect, ResponseType: oidc.ResponseTypeCode, Scopes: []string{oidc.ScopeOpenID}}
	return &op.ClientRequest[oidc.AuthRequest]{Request: r, Client: c}, nil
}

// Authorize implements op.Server: the browser goes to the pages, or back to the app.
func (p *provider) Authorize(ctx context.Context, r *op.ClientRequest[oidc.AuthRequest]) (*op.Redirect, error) {
	s := p.s
	c, ok := r.Client.(*client)
	if !ok || c.request == nil {
		return nil, failed("the server cannot do this now: try again")
	}
	if c.refusal != nil {
		if err := s.record(ctx, audit.Security{Kind: audit.GrantRefused, Client: c.ID, Reason: reasonOf(c.refusal)}); err != nil {
			return nil, s.fault(ctx, err)
		}
		return op.NewRedirect(s.backWith(c.request.Redirect, c.request.State, c.refusal)), nil
	}
	cookie, hash := s.browserOf(r.Header)
	c.request.Browser = hash[:]
	body, err := json.Marshal(c.request)
	if err != nil {
		return nil, s.fault(ctx, err)
	}
	id, idHash := secret()
	if err := s.Store.PutTicket(ctx, Ticket{KindInteraction, idHash, body, s.Now().Add(interactionLife)}); err != nil {
		return nil, s.fault(ctx, err)
	}
	to := op.NewRedirect(s.SignIn + "/" + id)
	if cookie != nil {
		to.Header.Add("Set-Cookie", cookie.String())
	}
	return to, nil
}

// cookieName is the cookie that ties requests to the browser that made them. With its prefix no
// other host of the domain can set it (RFC 6265bis, 4.1.3).
func (s *Server) cookieName() string {
	if s.secure {
		return "__Host-cloister-browser"
	}
	return "cloister-browser"
}

// browserOf gives the hash of the browser's cookie, and the cookie to set where it has none.
func (s *Server) browserOf(h http.Header) (*http.Cookie, [32]byte) {
	r := http.Request{Header: h}
	if c, err := r.Cookie(s.cookieName()); err == nil && len(c.Value) == opaqueLength {
		return nil, hashOf(c.Value)
	}
	text, hash := secret()
	return &http.Cookie{Name: s.cookieName(), Value: text, Path: "/", HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode}, hash //nolint:gosec // Secure on https; http is for this machine alone
}

type browserKey struct{}

// Browser puts into the context which browser a request comes from. [Server.Interaction], [Server.Approve] and [Server.Refuse]
// take none without it: whoever follows a link to somebody else's interaction gets nowhere.
func (s *Server) Browser(r *http.Request) context.Context {
	ctx := context.WithValue(r.Context(), addressKey{}, s.Address(r))
	c, err := r.Cookie(s.cookieName())
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, browserKey{}, hashOf(c.Value))
}

func (q *request) of(ctx context.Context) bool {
	hash, ok := ctx.Value(browserKey{}).([32]byte)
	return ok && len(q.Browser) == len(hash) && subtle.ConstantTimeCompare(q.Browser, hash[:]) == 1
}

// unpush redeems the request_uri of a pushed request.
func (s *Server) unpush(ctx context.Context, client, handle string) (url.Values, error) {
	bad := badRequest("request_uri is not good, or not any more")
	text, ok := strings.CutPrefix(handle, pushedPrefix)
	if !ok {
		return nil, bad
	}
	body, err := s.Store.TakeTicket(ctx, KindPushed, hashOf(text), s.Now())
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, unavailable(err)
	}
	var p pushed
	if err != nil || json.Unmarshal(body, &p) != nil || p.Client != client {
		return nil, bad
	}
	return p.Form, nil
}

// push answers POST /par.
func (s *Server) push(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	a, err := s.clientOf(r)
	if err != nil {
		return err
	}
	form := url.Values{}
	for name, values := range r.PostForm {
		switch name {
		case "client_secret", "client_assertion", "client_assertion_type":
		case "request_uri":
			return badRequest("request_uri cannot be pushed")
		default:
			form[name] = values
		}
	}
	form.Set("client_id", a.ID)
	if !a.RedirectAllowed(form.Get("redirect_uri")) {
		return badRequest("redirect_uri is missing, or is not one that the app registered")
	}
	if _, err := s.parse(a, form.Get("redirect_uri"), form); err != nil {
		return err
	}
	body, err := json.Marshal(pushed{a.ID, form})
	if err != nil {
		return err //nolint:wrapcheck // logged as it is
	}
	text, hash := secret()
	if err := s.Store.PutTicket(ctx, Ticket{KindPushed, hash, body, s.Now().Add(pushedLife)}); err != nil {
		return unavailable(err)
	}
	return answer(w, http.StatusCreated, map[string]any{"request_uri": pushedPrefix + text, "expires_in": int(pushedLife.Seconds())})
}
