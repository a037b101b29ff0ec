package app

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// maxURI bounds a URI in bytes.
const maxURI = 2048

// RedirectAllowed reports whether an answer may go to uri: it is registered, byte by byte. Where the
// app registered Loopback, the port of a loopback address may differ (RFC 8252, 7.3), and nothing else.
func (a App) RedirectAllowed(uri string) bool {
	if uri == "" || len(uri) > maxURI {
		return false
	}
	if slices.Contains(a.Redirects, uri) {
		return true
	}
	if !a.Loopback {
		return false
	}
	asked, ok := withoutPort(uri)
	return ok && slices.ContainsFunc(a.Redirects, func(r string) bool {
		registered, ok := withoutPort(r)
		return ok && registered == asked
	})
}

// withoutPort takes the port out of a redirect to a loopback address; ok is false for all others, and for
// a spelling other than the one that would be written out again.
func withoutPort(uri string) (string, bool) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" || u.User != nil || u.Fragment != "" || u.Opaque != "" || u.String() != uri {
		return "", false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil || !ip.IsLoopback() || ip.Zone() != "" {
		return "", false
	}
	if port := u.Port(); strings.HasSuffix(u.Host, ":") || len(port) > 5 || strings.HasPrefix(port, "0") {
		return "", false
	}
	host := ip.String()
	if ip.Is6() {
		host = "[" + host + "]"
	}
	u.Host = host
	return u.String(), true
}

// OriginOf is the web origin of an https or loopback URI, or "".
func OriginOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// AllowedOrigins are the origins whose pages may read answers: those registered, and for a public app those of its redirects.
func (a App) AllowedOrigins() []string {
	out := slices.Clone(a.Origins)
	if a.Public() {
		for _, r := range a.Redirects {
			if o := OriginOf(r); o != "" && !slices.Contains(out, o) {
				out = append(out, o)
			}
		}
	}
	return out
}
