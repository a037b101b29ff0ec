package smart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"github.com/cloister-health/cloister/authz/app"
)

const (
	keySetLimit = 5 * time.Second // one fetch
	maxKeySet   = 64 << 10
	// keySetFresh is how long a key set is not fetched again, keySetPause how long not even for a key that it lacks,
	// keySetOld how long it serves while it cannot be fetched.
	keySetFresh = 5 * time.Minute
	keySetPause = 30 * time.Second
	keySetOld   = time.Hour
	maxKeySets  = 1000
)

// keySets fetches the keys of apps that publish them.
type keySets struct {
	client *http.Client
	now    func() time.Time
	flight singleflight.Group

	mu   sync.Mutex
	sets map[string]*keySet
}

type keySet struct {
	set     jose.JSONWebKeySet
	good    time.Time // when it was fetched
	tried   time.Time
	failure error // of the last try
}

func newKeySets(c *http.Client, now func() time.Time) *keySets {
	return &keySets{client: c, now: now, sets: map[string]*keySet{}}
}

// get gives the key set at a URL; again asks for one that is newer, because a key is missing.
func (k *keySets) get(ctx context.Context, url string, again bool) (jose.JSONWebKeySet, error) {
	now := k.now()
	k.mu.Lock()
	have := k.sets[url]
	k.mu.Unlock()
	if have != nil {
		age := keySetFresh
		if again || have.failure != nil {
			age = keySetPause
		}
		if now.Before(have.tried.Add(age)) {
			return have.answer(now)
		}
	}
	done := k.flight.DoChan(url, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keySetLimit)
		defer cancel()
		set, err := k.fetch(ctx, url)
		next := &keySet{set: set, good: now, tried: now, failure: err}
		k.mu.Lock()
		defer k.mu.Unlock()
		if old := k.sets[url]; err != nil && old != nil {
			next.set, next.good = old.set, old.good
		} else if err != nil {
			next.good = time.Time{}
		}
		if len(k.sets) >= maxKeySets {
			clear(k.sets)
		}
		k.sets[url] = next
		return next, nil
	})
	select {
	case r := <-done:
		next, ok := r.Val.(*keySet)
		if r.Err != nil || !ok {
			return jose.JSONWebKeySet{}, errors.New("smart: the key set cannot be fetched")
		}
		return next.answer(now)
	case <-ctx.Done():
		return jose.JSONWebKeySet{}, fmt.Errorf("smart: %w", ctx.Err())
	}
}

func (k *keySet) answer(now time.Time) (jose.JSONWebKeySet, error) {
	if k.failure != nil && (k.good.IsZero() || now.After(k.good.Add(keySetOld))) {
		return jose.JSONWebKeySet{}, k.failure
	}
	return k.set, nil
}

func (k *keySets) fetch(ctx context.Context, url string) (jose.JSONWebKeySet, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil || r.URL.Scheme != "https" {
		return jose.JSONWebKeySet{}, errors.New("smart: jwks_uri is no https URL")
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := k.client.Do(r)
	if err != nil {
		return jose.JSONWebKeySet{}, errors.New("smart: the key set cannot be reached")
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeySet+1))
	if err != nil || res.StatusCode != http.StatusOK || len(body) > maxKeySet {
		return jose.JSONWebKeySet{}, errors.New("smart: the key set cannot be read")
	}
	set, err := app.Keys(body)
	if err != nil {
		return jose.JSONWebKeySet{}, fmt.Errorf("smart: %w", err)
	}
	return set, nil
}

// keyClient reaches hosts on the public Internet, and those that are named, over https; it follows no redirect. An app
// must not make this server ask its own network (server-side request forgery).
func keyClient(hosts []string) *http.Client {
	guarded := &net.Dialer{Timeout: keySetLimit, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !public(at.Addr()) {
			return errors.New("smart: the host of a jwks_uri has no public address")
		}
		return nil
	}}
	free := &net.Dialer{Timeout: keySetLimit}
	t := &http.Transport{
		Proxy: nil, TLSHandshakeTimeout: keySetLimit, ResponseHeaderTimeout: keySetLimit, MaxIdleConns: 16, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, _, err := net.SplitHostPort(address); err == nil && slices.Contains(hosts, host) {
				return free.DialContext(ctx, network, address)
			}
			return guarded.DialContext(ctx, network, address)
		},
	}
	return &http.Client{Transport: t, Timeout: keySetLimit, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("smart: a jwks_uri redirects")
	}}
}

// reserved are the ranges of the special-purpose registries (RFC 6890) that the methods of netip.Addr do not name.
var reserved = func() (out []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() &&
		!slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(a) })
}
