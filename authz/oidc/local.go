package oidc

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// Local is the authorization server that runs in this program: its tokens are checked without HTTP,
// and end with the grant that they name.
type Local struct {
	Issuer Issuer // without Algorithms: there is one
	Keys   Keys
	Ended  *Ended
}

// Keys gives the public key with that id by which access tokens are checked; ok is false for one that is not published.
type Keys interface {
	Verification(ctx context.Context, kid string) (key crypto.PublicKey, ok bool, err error)
}

// LocalAlgorithm is the one signature algorithm of local access tokens.
const LocalAlgorithm = oidc.ES256

// localType is the typ of an access token (RFC 9068, 2.1). An ID token has another, and opens nothing.
const localType = "at+jwt"

// local checks the tokens of a Local.
type local struct {
	Local
	verifier *oidc.IDTokenVerifier
}

func newLocal(l Local, now func() time.Time) (*local, error) {
	if err := l.Issuer.Validate(); err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	if l.Keys == nil || l.Ended == nil {
		return nil, errors.New("oidc: the local issuer needs keys and the grants that ended")
	}
	cfg := &oidc.Config{ClientID: l.Issuer.Audience, SupportedSigningAlgs: []string{LocalAlgorithm}, Now: now}
	return &local{l, oidc.NewVerifier(l.Issuer.URL, localKeys{l.Keys}, cfg)}, nil
}

func (l *local) verify(ctx context.Context, bearer string) (*oidc.IDToken, error) {
	var unreachable error
	token, err := l.verifier.Verify(context.WithValue(ctx, unreachableKey{}, &unreachable), bearer)
	if err != nil && unreachable != nil {
		return nil, unreachable
	}
	return token, err //nolint:wrapcheck // the caller wraps it into the one refusal
}

type localKeys struct{ keys Keys }

// VerifySignature implements oidc.KeySet.
func (k localKeys) VerifySignature(ctx context.Context, bearer string) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(bearer, []jose.SignatureAlgorithm{LocalAlgorithm})
	if err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	head := signed.Signatures[0].Protected
	if kind, _ := head.ExtraHeaders[jose.HeaderType].(string); kind != localType {
		return nil, errors.New("oidc: the token is no access token")
	}
	key, ok, err := k.keys.Verification(ctx, head.KeyID)
	if err != nil {
		err = fmt.Errorf("%w: %w", errUnreachable, err)
		if at, ok := ctx.Value(unreachableKey{}).(*error); ok {
			*at = err
		}
		return nil, err
	}
	if !ok {
		return nil, errors.New("oidc: the token is signed with a key that is not in use")
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	return payload, nil
}

const (
	// endedFor is how long an end is remembered: longer than any token lives, by as much as clocks of servers may differ.
	endedFor = 10 * time.Minute
	// endedFresh is for how long this process trusts what it knows of ends that others made.
	endedFresh = 5 * time.Second
)

// Ended knows which grants ended within the life of a token: at once those that this process
// ended, and with the next refresh those of others. It is safe for concurrent use.
type Ended struct {
	source func(ctx context.Context, since time.Time) ([]string, error)
	now    func() time.Time

	mu    sync.RWMutex
	keys  map[string]bool
	own   map[string]time.Time
	known time.Time // as of when keys holds what others ended
}

// NewEnded makes the set; source lists what ended since then. Before the first refresh every question fails.
func NewEnded(source func(ctx context.Context, since time.Time) ([]string, error), now func() time.Time) *Ended {
	return &Ended{source: source, now: now, keys: map[string]bool{}, own: map[string]time.Time{}}
}

// Add ends what the keys name, in this process at once.
func (e *Ended) Add(keys ...string) {
	now := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range keys {
		e.own[k] = now
	}
}

// Refresh learns what other processes ended.
func (e *Ended) Refresh(ctx context.Context) error {
	at := e.now()
	list, err := e.source(ctx, at.Add(-endedFor))
	if err != nil {
		return fmt.Errorf("oidc: the grants that ended cannot be read: %w", err)
	}
	keys := make(map[string]bool, len(list))
	for _, k := range list {
		keys[k] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys, e.known = keys, at
	maps.DeleteFunc(e.own, func(_ string, ended time.Time) bool { return at.Sub(ended) > endedFor })
	return nil
}

// Watch refreshes every interval until ctx ends.
func (e *Ended) Watch(ctx context.Context, interval time.Duration, report func(error)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := e.Refresh(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

var errStale = fmt.Errorf("%w: which grants have ended is not known", errUnreachable)

// Any reports whether one of the keys has ended. The error says that this process does not know, so that nobody gets in.
func (e *Ended) Any(keys ...string) (bool, error) {
	now := e.now()
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.known.IsZero() || now.Sub(e.known) > endedFresh {
		return false, errStale
	}
	return slices.ContainsFunc(keys, func(k string) bool {
		_, own := e.own[k]
		return own || e.keys[k]
	}), nil
}

// EndedApp is the key under which all tokens of an app end, or with a practice those for it.
func EndedApp(client, practice string) string {
	if practice == "" {
		return "app:" + client
	}
	return "app:" + client + "/" + practice
}

// EndedKey is the key under which all tokens end that a signing key signed.
func EndedKey(kid string) string { return "key:" + kid }
