// Package mtls knows the client certificate with which a request came, and the tokens that are
// bound to one (RFC 8705).
package mtls

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Thumbprint is how tokens and registrations name a certificate: the SHA-256 of its DER form
// in base64url (x5t#S256, RFC 8705, 3.1).
func Thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Valid reports whether text can be a thumbprint.
func Valid(text string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(b) == sha256.Size
}

// Read reads the first certificate of a file, in PEM or DER.
func Read(file []byte) (*x509.Certificate, error) {
	if block, _ := pem.Decode(file); block != nil {
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("mtls: the file begins with something else than a certificate")
		}
		file = block.Bytes
	}
	c, err := x509.ParseCertificate(file)
	if err != nil {
		return nil, errors.New("mtls: the file is no certificate, in PEM or DER")
	}
	return c, nil
}

type key struct{}

// With is ctx of a request that came with a certificate whose key the client has proved to hold.
func With(ctx context.Context, c *x509.Certificate) context.Context {
	return context.WithValue(ctx, key{}, c)
}

// Presented is the thumbprint of the certificate with which a request came; "" for none, and for one
// that is not valid at that moment.
func Presented(ctx context.Context, now time.Time) string {
	c, _ := ctx.Value(key{}).(*x509.Certificate)
	if c == nil || now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return ""
	}
	return Thumbprint(c)
}

// maxHeader bounds what is read of a certificate, in bytes.
const maxHeader = 16 << 10

// Handler finds the certificate of each request: that of its own connection or, where header
// names one, that in which a trusted proxy tells it, as RFC 9440 writes it or as PEM in
// percent-encoding. What anybody else writes there counts for nothing, and nothing beyond this
// handler sees the header.
func Handler(header string, trusted []netip.Prefix, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c *x509.Certificate
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			c = r.TLS.PeerCertificates[0]
		}
		if header != "" {
			if told := r.Header.Values(header); len(told) == 1 && fromProxy(r.RemoteAddr, trusted) {
				c = parse(told[0])
			}
			r.Header.Del(header)
		}
		if c != nil {
			r = r.WithContext(With(r.Context(), c))
		}
		next.ServeHTTP(w, r)
	})
}

func fromProxy(remote string, trusted []netip.Prefix) bool {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(at.Addr().Unmap()) })
}

// parse reads the value of a header; nil for what is no certificate.
func parse(value string) *x509.Certificate {
	value = strings.TrimSpace(value)
	if len(value) > maxHeader {
		return nil
	}
	if inner, ok := strings.CutPrefix(value, ":"); ok { // a Byte Sequence (RFC 8941, 3.3.5)
		inner, ok = strings.CutSuffix(inner, ":")
		der, err := base64.StdEncoding.DecodeString(inner)
		if !ok || err != nil {
			return nil
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil
		}
		return c
	}
	text, err := url.PathUnescape(value)
	if err != nil {
		return nil
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return c
}
