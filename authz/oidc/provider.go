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

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
	failed   time.Time // of the last attempt
	cause    error
}

func newProvider(i Issuer, now func() time.Time) *provider {
	p := &provider{issuer: i, now: now}
	p.fetch = &throttle{next: http.DefaultTransport, now: now, answers: map[string]*answer{}}
	p.client = &http.Client{Transport: p.fetch, Timeout: askLimit, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 5 || r.URL.Scheme != "https" && !loopback(r.URL) {
			return errors.New("oidc: the issuer redirects to a place that is not trusted")
		}
		return nil
	}}
	return p
}

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
	v, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	var unreachable error
	token, err := v.Verify(context.WithValue(ctx, unreachableKey{}, &unreachable), bearer)
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
	return payload, err //nolint:wrapcheck // see verify
}

// discover reads the issuer's configuration once (OpenID Connect Discovery 1.0).
func (p *provider) discover(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	p.mu.Lock()
	v, cause := p.verifier, p.cause
	wait := cause != nil && p.now().Before(p.failed.Add(retryAfter))
	p.mu.Unlock()
	if v != nil {
		return v, nil
	}
	if wait {
		return nil, fmt.Errorf("%w: %w", errUnreachable, cause)
	}
	// One attempt serves all who wait; it must not end with the request that happened to start it.
	done := p.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLimit)
		defer cancel()
		v, err := p.ask(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.verifier, p.cause, p.failed = v, err, p.now()
		return v, err
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, fmt.Errorf("%w: %w", errUnreachable, r.Err)
		}
		v, _ := r.Val.(*oidc.IDTokenVerifier)
		return v, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errUnreachable, ctx.Err())
	}
}

func (p *provider) ask(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	ctx = oidc.ClientContext(ctx, p.client)
	found, err := oidc.NewProvider(ctx, p.issuer.URL)
	if err != nil {
		return nil, fmt.Errorf("oidc: discovery: %w", err)
	}
	var doc struct {
		Keys string `json:"jwks_uri"`
	}
	if err := found.Claims(&doc); err != nil {
		return nil, fmt.Errorf("oidc: discovery: %w", err)
	}
	if u, err := url.Parse(doc.Keys); err != nil || u.Scheme != "https" && !loopback(u) {
		return nil, errors.New("oidc: the issuer's key set is not at an https URL")
	}
	algorithms := p.issuer.Algorithms
	if len(algorithms) == 0 {
		algorithms = Algorithms()
	}
	set := keys{oidc.NewRemoteKeySet(context.WithoutCancel(ctx), doc.Keys)}
	return oidc.NewVerifier(p.issuer.URL, set, &oidc.Config{ClientID: p.issuer.Audience, SupportedSigningAlgs: algorithms, Now: p.now}), nil
}

// throttle is the transport to one issuer. It repeats an answer that is fresh
// instead of asking again. Its errors are errUnreachable.
type throttle struct {
	next http.RoundTripper
	now  func() time.Time

	mu      sync.Mutex
	answers map[string]*answer
}

type answer struct {
	at   time.Time
	body []byte
	head http.Header
	err  error
}

// RoundTrip implements http.RoundTripper.
func (t *throttle) RoundTrip(r *http.Request) (*http.Response, error) {
	key := r.URL.String()
	t.mu.Lock()
	a := t.answers[key]
	t.mu.Unlock()
	age := keysFor
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
	if res.StatusCode/100 == 3 {
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
