// Package egress opens connections to addresses that others name, and only to those that the operator allows:
// a client must not make this server ask its own network (server-side request forgery, CWE-918).
//
// A URL is checked twice: by its text against the list of hosts, and by the address that its
// name has resolved to at the moment of dialling, which no answer of a name server can change any more.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cloister-health/cloister/fhir/outcome"
)

// Config says whom the server may connect to.
type Config struct {
	// Hosts are names, or addresses, with a port where it is not that of https; there are no wildcards.
	Hosts []string
	// Own are more of them, which are reached although their addresses are not public.
	Own []string
	// Networks are reached although they are not public. Link-local addresses, and those at which
	// clouds tell a machine its secrets, are not, whatever is listed here or in Own.
	Networks []netip.Prefix
	// Local allows this machine, at any port and over http, too: for development alone.
	Local bool
	// Roots are the certificate authorities that are trusted; nil means those of the system.
	Roots *x509.CertPool
	// Dial bounds the making of a connection, Head the wait for the header of an answer;
	// 0 is 10 and 30 seconds.
	Dial, Head time.Duration
}

// Guard opens connections.
type Guard struct {
	hosts map[string]bool // host:port; true: its address need not be public
	cfg   Config
}

// New reads the lists. The error names what is wrong.
func New(c Config) (*Guard, error) {
	g := &Guard{hosts: map[string]bool{}, cfg: c}
	if g.cfg.Dial == 0 {
		g.cfg.Dial = 10 * time.Second
	}
	if g.cfg.Head == 0 {
		g.cfg.Head = 30 * time.Second
	}
	for i, h := range slices.Concat(c.Hosts, c.Own) {
		u, err := url.Parse("https://" + h)
		if err != nil || u.Host != h || u.Hostname() == "" || u.Opaque != "" || strings.ContainsAny(h, "*%/?#@ ") {
			return nil, fmt.Errorf("egress: %q is no host: write a name or an address, with a port where that is not 443", h)
		}
		g.hosts[place(u)] = i >= len(c.Hosts)
	}
	return g, nil
}

// place is the host and port of a URL.
func place(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), port)
}

// MaxURL is the length up to which a URL is taken.
const MaxURL = 2048

var errURL = outcome.New(outcome.Invalid, "the address is no https URL on a host that this server may connect to: its operator keeps the list")

// Check reads a URL that somebody named. It is https (http to loopback, where that is allowed),
// on a host of the lists, and carries no name, password or fragment.
func (g *Guard) Check(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if len(text) > MaxURL || err != nil || u.Opaque != "" || u.User != nil || u.Fragment != "" || u.Host == "" || strings.ContainsAny(text, "\r\n\t\\") {
		return nil, errURL
	}
	local := g.cfg.Local && loopback(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return nil, errURL
	}
	if _, listed := g.hosts[place(u)]; !listed && !local {
		return nil, errURL
	}
	return u, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || host == "localhost"
}

// ErrAddress says that a name has led to an address that the server does not connect to.
var ErrAddress = errors.New("egress: the address is not public, and no network of the configuration")

// Transport is a way to the allowed addresses: without a proxy, and with a check of each
// address at the moment of dialling.
func (g *Guard) Transport() *http.Transport {
	return &http.Transport{
		Proxy:       nil, // a proxy would resolve names by itself
		DialContext: g.dial, TLSHandshakeTimeout: g.cfg.Dial, ResponseHeaderTimeout: g.cfg.Head,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: g.cfg.Roots},
		MaxResponseHeaderBytes: 64 << 10, MaxConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
		DisableCompression: true, ForceAttemptHTTP2: true,
	}
}

// dial connects to a host and port, if the address to which the name leads now may be reached.
func (g *Guard) dial(ctx context.Context, network, to string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return nil, ErrAddress
	}
	own := g.hosts[place(&url.URL{Host: net.JoinHostPort(host, port)})]
	local := g.cfg.Local && loopback(host)
	d := net.Dialer{Timeout: g.cfg.Dial, ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !strings.HasPrefix(network, "tcp") || !g.reaches(at.Addr(), own) && (!local || !at.Addr().Unmap().IsLoopback()) {
			return ErrAddress
		}
		return nil
	}}
	return d.DialContext(ctx, network, to) //nolint:wrapcheck // net/http wraps it
}

// Client follows no redirect: a 3xx is an answer like any other. timeout bounds a whole
// exchange; 0 leaves that to the context.
func (g *Guard) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: guarded{g, g.Transport()}, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// guarded checks the URL of each request, whoever made it.
type guarded struct {
	g *Guard
	*http.Transport
}

func (x guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := x.g.Check(r.URL.String()); err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper closes it
		}
		return nil, err
	}
	return x.Transport.RoundTrip(r) //nolint:wrapcheck // net/http wraps it
}

// reaches reports whether the server connects to an address, which may be that of a host of its own.
func (g *Guard) reaches(a netip.Addr, own bool) bool {
	a = a.Unmap()
	switch {
	case !a.IsValid() || a.Zone() != "" || closed(a):
		return false
	case own:
		return true
	}
	for _, p := range g.cfg.Networks {
		if p.Contains(a) {
			return true
		}
	}
	return public(a)
}

// closed reports whether no list opens an address: it belongs to no single machine, or to the
// link, or tells whoever asks the secrets of the machine that the server runs on.
func closed(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || within(a, metadata)
}

// public reports whether an address belongs to somebody on the internet (IANA special-purpose
// address registries), and neither leads on to another one nor to the host that the server runs on.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !within(a, special)
}

func within(a netip.Addr, list []netip.Prefix) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

var (
	special = prefixes(
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16", // these hold an IPv4 address
		"100::/64", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10",
	)
	// metadata are where clouds tell a machine its secrets, beside link-local addresses.
	metadata = prefixes("168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::/32")
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, text := range list {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}
