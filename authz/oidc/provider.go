package oidc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/sync/singleflight"
)

const (
	// askLimit bounds one request to an issuer.
	askLimit = 10 * time.Second
	// retryAfter is the pause after an attempt that failed: while an issuer is
	// down, requests fail at once instead of queueing up behind it.
	retryAfter = 2 * time.Second
	// keysFor is how long a key set is not fetched again: go-oidc fetches it for every
	// token with a bad signature, so that whoever sends those would have us flood the issuer.
	keysFor = 10 * time.Second
	// maxAnswer bounds a discovery document or key set, in bytes.
	maxAnswer = 1 << 20
)

var errUnreachable = errors.New("oidc: the issuer cannot be reached")

// provider is one issuer, discovered when its first token comes.
type provider struct {
	issuer Issuer
	now    func() time.Time
	client *http.Client
	fetch  *throttle
	flight singleflight.Group

	mu     sync.Mutex
	found  *discovered
	failed time.Time // of the last attempt
	cause  error
}

// discovered is what an issuer says of itself.
type discovered struct {
	document
	verifier *oidc.IDTokenVerifier
	provider *oidc.Provider
}

// document is what is read of a discovery document (OpenID Connect Discovery 1.0, section 3; RFC 9207, section 3;
// OpenID Connect RP-Initiated Logout 1.0, section 2.1).
type document struct {
	Keys          string   `json:"jwks_uri"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Userinfo      string   `json:"userinfo_endpoint"`
	EndSession    string   `json:"end_session_endpoint"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	Names         bool     `json:"authorization_response_iss_parameter_supported"`
}

func newProvider(i Issuer, now func() time.Time) *provider {
	p := &provider{issuer: i, now: now}
	p.fetch = newThrottle(now, keysFor)
	p.client = asking(p.fetch)
	return p
}

// asking is a client that asks an issuer through t.
func asking(t *throttle) *http.Client {
	return &http.Client{Transport: t, Timeout: askLimit, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 5 || !trusted(r.URL) {
			return errors.New("oidc: the issuer redirects to a place that is not trusted")
		}
		return nil
	}}
}

// trusted reports whether nobody on the way can change what u answers.
func trusted(u *url.URL) bool { return u.Scheme == "https" || loopback(u) }

// loopback reports whether u is plain http that never leaves this machine.
func loopback(u *url.URL) bool {
	if u.Scheme != "http" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// verify checks the token; the error is errUnreachable where the keys could not be had.
func (p *provider) verify(ctx context.Context, bearer string) (*oidc.IDToken, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	return verified(ctx, found.verifier, bearer)
}

// verified tells a token that is not good from keys that could not be had.
func verified(ctx context.Context, v *oidc.IDTokenVerifier, text string) (*oidc.IDToken, error) {
	var unreachable error
	token, err := v.Verify(context.WithValue(ctx, unreachableKey{}, &unreachable), text)
	switch {
	case err != nil && unreachable != nil:
		return nil, unreachable
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	return token, err //nolint:wrapcheck // the caller wraps it into the one refusal
}

// keys tell a bad signature from keys that could not be had: the verifier gives
// both as the same text, so the second kind goes past it.
type keys struct{ remote *oidc.RemoteKeySet }

type unreachableKey struct{}

// VerifySignature implements oidc.KeySet.
func (k keys) VerifySignature(ctx context.Context, bearer string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, bearer)
	if at, ok := ctx.Value(unreachableKey{}).(*error); ok && errors.Is(err, errUnreachable) {
		*at = err
	}
	return payload, err //nolint:wrapcheck // see verified
}

// discover reads the issuer's configuration once (OpenID Connect Discovery 1.0).
func (p *provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	found, cause := p.found, p.cause
	wait := cause != nil && p.now().Before(p.failed.Add(retryAfter))
	p.mu.Unlock()
	if found != nil {
		return found, nil
	}
	if wait {
		return nil, fmt.Errorf("%w: %w", errUnreachable, cause)
	}
	// One attempt serves all who wait; it must not end with the request that happened to start it.
	done := p.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLimit)
		defer cancel()
		found, err := p.ask(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.found, p.cause, p.failed = found, err, p.now()
		return found, err
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, fmt.Errorf("%w: %w", errUnreachable, r.Err)
		}
		found, _ := r.Val.(*discovered)
		return found, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errUnreachable, ctx.Err())
	}
}

func (p *provider) ask(ctx context.Context) (*discovered, error) {
	ctx = oidc.ClientContext(ctx, p.client)
	found, err := oidc.NewProvider(ctx, p.issuer.URL)
	if err != nil {
		return nil, fmt.Errorf("oidc: discovery: %w", err)
	}
	d := &discovered{provider: found}
	if err := found.Claims(&d.document); err != nil {
		return nil, fmt.Errorf("oidc: discovery: %w", err)
	}
	if u, err := url.Parse(d.Keys); err != nil || !trusted(u) {
		return nil, errors.New("oidc: the issuer's key set is not at an https URL")
	}
	d.verifier = p.verifier(d.document, p.client)
	return d, nil
}

// verifier checks tokens by keys that are fetched with client.
func (p *provider) verifier(d document, client *http.Client) *oidc.IDTokenVerifier {
	algorithms := p.issuer.Algorithms
	if len(algorithms) == 0 {
		algorithms = Algorithms()
	}
	set := keys{oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), client), d.Keys)}
	return oidc.NewVerifier(p.issuer.URL, set, &oidc.Config{ClientID: p.issuer.Audience, SupportedSigningAlgs: algorithms, Now: p.now})
}

// throttle is the transport to one issuer. It repeats an answer that is fresh
// instead of asking again. Its errors are errUnreachable.
type throttle struct {
	next http.RoundTripper
	now  func() time.Time
	good time.Duration // how long an answer is repeated

	mu      sync.Mutex
	answers map[string]*answer
}

type answer struct {
	at   time.Time
	body []byte
	head http.Header
	err  error
}

func newThrottle(now func() time.Time, good time.Duration) *throttle {
	return &throttle{next: http.DefaultTransport, now: now, good: good, answers: map[string]*answer{}}
}

// RoundTrip implements http.RoundTripper.
func (t *throttle) RoundTrip(r *http.Request) (*http.Response, error) {
	key := r.URL.String()
	t.mu.Lock()
	a := t.answers[key]
	t.mu.Unlock()
	age := t.good
	if a != nil && a.err != nil {
		age = retryAfter
	}
	if a == nil || !t.now().Before(a.at.Add(age)) {
		var pass *http.Response
		if a, pass = t.ask(r); pass != nil {
			return pass, nil
		}
		t.mu.Lock()
		t.answers[key] = a
		t.mu.Unlock()
	}
	if a.err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreachable, a.err)
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.head.Clone(), Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}, nil
}

// ask asks the issuer. A redirect is passed on as it is.
func (t *throttle) ask(r *http.Request) (*answer, *http.Response) {
	a := &answer{at: t.now()}
	res, err := t.next.RoundTrip(r)
	if err != nil {
		a.err = err
		return a, nil
	}
	if res.StatusCode/100 == 3 && res.Header.Get("Location") != "" {
		return nil, res
	}
	defer func() { _ = res.Body.Close() }()
	a.head = res.Header
	a.body, a.err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if a.err == nil && res.StatusCode != http.StatusOK {
		a.err = fmt.Errorf("oidc: the issuer answers %s", res.Status)
	}
	return a, nil
}
