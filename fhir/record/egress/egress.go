// Package egress opens connections to addresses that others name, and only to those that the operator allows.
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
	"strings"
	"syscall"
	"time"

	"github.com/cloister-health/cloister/fhir/outcome"
)

// Config says whom the server may connect to.
type Config struct {
	// Hosts are names, or addresses, with a port where it is not that of https; there are no wildcards.
	Hosts []string
	// Networks are reached although they are not public: private ones, loopback, link-local.
	Networks []netip.Prefix
	// Plain allows http to loopback addresses of Networks, for development.
	Plain bool
	// Roots are the certificate authorities that are trusted; nil means those of the system.
	Roots *x509.CertPool
	// Dial bounds the making of a connection, Head the wait for the header of an answer;
	// 0 is 10 and 30 seconds.
	Dial, Head time.Duration
}

// Guard opens connections.
type Guard struct {
	hosts map[string]bool // host:port
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
	for _, h := range c.Hosts {
		u, err := url.Parse("https://" + h)
		if err != nil || u.Host != h || u.Hostname() == "" || u.Opaque != "" || strings.ContainsAny(h, "*%/?#@ ") {
			return nil, fmt.Errorf("egress: %q is no host: write a name or an address, with a port where that is not 443", h)
		}
		g.hosts[place(u)] = true
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
// on a host of the list, and carries no name, password or fragment.
func (g *Guard) Check(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if len(text) > MaxURL || err != nil || u.Opaque != "" || u.User != nil || u.Fragment != "" || u.Host == "" || strings.ContainsAny(text, "\r\n\t\\") {
		return nil, errURL
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !g.cfg.Plain || !loopback(u.Hostname())) {
		return nil, errURL
	}
	if !g.hosts[place(u)] {
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
	d := net.Dialer{Timeout: g.cfg.Dial, ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return ErrAddress
		}
		to, err := netip.ParseAddrPort(address)
		if err != nil || !g.reaches(to.Addr()) {
			return ErrAddress
		}
		return nil
	}}
	return &http.Transport{
		Proxy:       nil, // a proxy would resolve names by itself
		DialContext: d.DialContext, TLSHandshakeTimeout: g.cfg.Dial, ResponseHeaderTimeout: g.cfg.Head,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: g.cfg.Roots},
		MaxResponseHeaderBytes: 64 << 10, MaxConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
		DisableCompression: true, ForceAttemptHTTP2: true,
	}
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

// reaches reports whether the server connects to an address.
func (g *Guard) reaches(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range g.cfg.Networks {
		if p.Contains(a) {
			return true
		}
	}
	return public(a)
}

// public reports whether an address belongs to somebody on the internet (IANA special-purpose
// address registries), and neither leads on to another one nor to the host that the server runs on.
func public(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

var special = func() []netip.Prefix {
	var out []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"168.63.129.16/32",                                                  // the metadata of a cloud, at a public address
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16", // these hold an IPv4 address
		"100::/64", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10",
	} {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}()
