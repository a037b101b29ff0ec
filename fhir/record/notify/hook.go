package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloister-health/cloister/authz/obligation"
)

// Hooks posts notifications to endpoints of named hosts, over https, at public addresses, and
// nowhere else: a client must not make this server ask its own network (server-side request
// forgery). The address is checked when it is dialled, so that a name cannot change its mind.
type Hooks struct {
	hosts  []string
	local  bool
	client *http.Client
}

// HookOptions say where notifications may be sent.
type HookOptions struct {
	Hosts   []string       // host, or host:port where the port is not 443
	Private []string       // those of them that may have an address of a private network
	Local   bool           // also http and any port on this machine: for development alone
	Roots   *x509.CertPool // that certify endpoints; nil is the system's
}

const (
	dialLimit    = 5 * time.Second
	answerLimit  = 64 << 10 // bytes of an answer that are read, and thrown away
	secretPrefix = "whsec_"
)

// NewHooks makes the way out for notifications.
func NewHooks(o HookOptions) *Hooks {
	h := &Hooks{local: o.Local}
	for _, list := range [][]string{o.Hosts, o.Private} {
		for _, x := range list {
			h.hosts = append(h.hosts, withPort(x))
		}
	}
	private := make([]string, len(o.Private))
	for i, x := range o.Private {
		private[i] = withPort(x)
	}
	dialer := func(address string) *net.Dialer {
		free := slices.Contains(private, address)
		return &net.Dialer{Timeout: dialLimit, Control: func(_, at string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(at)
			if err == nil && (public(a.Addr()) || free && !metadata(a.Addr()) || o.Local && a.Addr().Unmap().IsLoopback()) {
				return nil
			}
			return errors.New("notify: the host of an endpoint has no address to which anything may be sent")
		}}
	}
	h.client = &http.Client{
		Transport: &http.Transport{
			Proxy: nil, TLSHandshakeTimeout: dialLimit, MaxIdleConns: 64, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
			DisableCompression: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return dialer(strings.ToLower(address)).DialContext(ctx, network, address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return h
}

func withPort(host string) string {
	host = strings.ToLower(host)
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), "443")
}

// Any reports whether there is anywhere to send to.
func (h *Hooks) Any() bool { return h.local || len(h.hosts) > 0 }

// Check refuses an endpoint that is not on the list. Its text is for the client.
func (h *Hooks) Check(endpoint string, header []Header) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" || len(endpoint) > 2048 {
		return errors.New("the endpoint is an absolute URL without user and fragment")
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	host := strings.ToLower(u.Hostname())
	loopback := h.local && (host == "localhost" || host == "127.0.0.1" || host == "::1")
	switch {
	case u.Scheme == "http" && loopback:
		for _, x := range header {
			if strings.EqualFold(x.Name, "Authorization") {
				return errors.New("the header field Authorization is sent over https only")
			}
		}
		return nil
	case u.Scheme != "https":
		return errors.New("the endpoint is an https URL")
	case loopback || slices.Contains(h.hosts, net.JoinHostPort(host, port)):
		return nil
	}
	return errors.New("nothing is sent to that host from here: ask the practice to list it")
}

// Send posts a message. Nothing of the answer but its status is looked at.
func (h *Hooks) Send(ctx context.Context, m Message) error {
	if err := h.Check(m.Endpoint, m.Header); err != nil { // the list may be another one than it was
		return fmt.Errorf("notify: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.Endpoint, bytes.NewReader(m.Body))
	if err != nil {
		return errors.New("notify: the endpoint is no URL")
	}
	for _, x := range m.Header {
		r.Header.Add(x.Name, x.Value)
	}
	stamp := strconv.FormatInt(m.At.Unix(), 10)
	r.Header.Set("Content-Type", "application/fhir+json")
	r.Header.Set("User-Agent", "cloister")
	r.Header.Set("webhook-id", m.ID)
	r.Header.Set("webhook-timestamp", stamp)
	r.Header.Set("webhook-signature", Signature(m.ID, stamp, m.Body, m.Keys))
	if m.Noticed {
		r.Header.Set("Redisclosure-Notice", obligation.ShortNotice)
	}
	res, err := h.client.Do(r)
	if err != nil {
		return errors.New("notify: the endpoint cannot be reached") // the cause has its URL, which may hold a secret
	}
	defer func() { _ = res.Body.Close() }() // it was read as far as it matters
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, answerLimit))
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return nil
	case res.StatusCode == http.StatusGone:
		return ErrGone
	}
	return fmt.Errorf("notify: the endpoint answered %d", res.StatusCode)
}

// Signature is the value of webhook-signature (Standard Webhooks 1.0): HMAC-SHA256 over id,
// timestamp and body, one for each key.
func Signature(id, stamp string, body []byte, keys [][]byte) string {
	out := make([]string, len(keys))
	for i, k := range keys {
		mac := hmac.New(sha256.New, k)
		_, _ = mac.Write([]byte(id + "." + stamp + ".")) // never fails (hash.Hash)
		_, _ = mac.Write(body)
		out[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(out, " ")
}

// reserved are the ranges of the special-purpose registries (RFC 6890) that the methods of netip.Addr do not name.
var reserved = func() (out []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"192.88.99.0/24", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
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

// metadata are addresses at which clouds tell a machine its secrets: no list opens them.
func metadata(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a == netip.MustParseAddr("fd00:ec2::254") || a == netip.MustParseAddr("100.100.100.200")
}
