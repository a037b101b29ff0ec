package mtls_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/mtls"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// certificate makes a self-signed one that is good around noon.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "exchange"}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k, Leaf: leaf}
}

func asPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestHeader(t *testing.T) {
	c := certificate(t)
	der := c.Certificate[0]
	name := mtls.Thumbprint(c.Leaf)
	standard := ":" + base64.StdEncoding.EncodeToString(der) + ":"
	escaped := url.PathEscape(asPEM(der))
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for what, x := range map[string]struct {
		header, from string
		values       []string
		want         string
	}{
		"RFC 9440":                          {"Client-Cert", "10.1.2.3:99", []string{standard}, name},
		"PEM":                               {"X-SSL-Client-Cert", "10.1.2.3:99", []string{escaped}, name},
		"a proxy on this machine":           {"Client-Cert", "[::1]:99", []string{standard}, name},
		"somebody who is no proxy":          {"Client-Cert", "192.0.2.1:99", []string{standard}, ""},
		"an address that is none":           {"Client-Cert", "pipe", []string{standard}, ""},
		"no header is configured":           {"", "10.1.2.3:99", []string{standard}, ""},
		"two of them":                       {"Client-Cert", "10.1.2.3:99", []string{standard, standard}, ""},
		"a sequence that does not end":      {"Client-Cert", "10.1.2.3:99", []string{strings.TrimSuffix(standard, ":")}, ""},
		"something else in base64":          {"Client-Cert", "10.1.2.3:99", []string{":aGVsbG8=:"}, ""},
		"two certificates":                  {"Client-Cert", "10.1.2.3:99", []string{escaped + escaped}, ""},
		"a key":                             {"Client-Cert", "10.1.2.3:99", []string{strings.ReplaceAll(escaped, "CERTIFICATE", "PRIVATE%20KEY")}, ""},
		"too long":                          {"Client-Cert", "10.1.2.3:99", []string{escaped + strings.Repeat("%0A", 6000)}, ""},
		"nothing":                           {"Client-Cert", "10.1.2.3:99", []string{""}, ""},
		"a thumbprint instead":              {"Client-Cert", "10.1.2.3:99", []string{name}, ""},
		"a proxy that sends none":           {"Client-Cert", "10.1.2.3:99", nil, ""},
		"a header that is not the one told": {"Client-Cert", "10.1.2.3:99", nil, ""},
	} {
		var got string
		reached := false
		h := mtls.Handler(x.header, trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			reached = true
			got = mtls.Presented(r.Context(), noon)
			if x.header != "" && r.Header.Values(x.header) != nil {
				t.Errorf("%s: the header goes on", what)
			}
		}))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.RemoteAddr = x.from
		for _, v := range x.values {
			name := x.header
			if name == "" {
				name = "Client-Cert"
			}
			r.Header.Add(name, v)
		}
		r.Header.Set("X-Other-Cert", standard)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if !reached || got != x.want {
			t.Errorf("%s: %q, want %q", what, got, x.want)
		}
	}
}

func TestConnection(t *testing.T) {
	c := certificate(t)
	s := httptest.NewUnstartedServer(mtls.Handler("", nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, mtls.Presented(r.Context(), noon))
	})))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	for _, want := range []string{"", mtls.Thumbprint(c.Leaf)} {
		client := s.Client()
		tr, ok := client.Transport.(*http.Transport)
		if !ok {
			t.Fatal("no transport")
		}
		tr = tr.Clone()
		if want != "" {
			tr.TLSClientConfig.Certificates = []tls.Certificate{c}
		}
		res, err := (&http.Client{Transport: tr}).Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(text) != want {
			t.Errorf("%q, want %q", text, want)
		}
	}
}

func TestPresented(t *testing.T) {
	c := certificate(t)
	ctx := mtls.With(t.Context(), c.Leaf)
	for at, want := range map[time.Time]string{
		noon: mtls.Thumbprint(c.Leaf), noon.Add(time.Hour): mtls.Thumbprint(c.Leaf), noon.Add(time.Hour + 1): "", noon.Add(-time.Hour - 1): "",
	} {
		if got := mtls.Presented(ctx, at); got != want {
			t.Errorf("at %s: %q, want %q", at, got, want)
		}
	}
	if mtls.Presented(context.Background(), noon) != "" {
		t.Error("a request without a certificate presents one")
	}
	if n := mtls.Thumbprint(c.Leaf); !mtls.Valid(n) || mtls.Valid(n+"A") || mtls.Valid(n[:42]) || mtls.Valid("") || mtls.Valid(strings.Repeat("_", 42)+"!") {
		t.Error("what is a thumbprint")
	}
}

func TestRead(t *testing.T) {
	der := certificate(t).Certificate[0]
	for _, file := range [][]byte{der, []byte(asPEM(der)), []byte("a comment\n" + asPEM(der))} {
		if c, err := mtls.Read(file); err != nil || !bytes.Equal(c.Raw, der) {
			t.Error(err)
		}
	}
	for _, file := range []string{"", "x", strings.ReplaceAll(asPEM(der), "CERTIFICATE", "PRIVATE KEY"), asPEM([]byte("x"))} {
		if _, err := mtls.Read([]byte(file)); err == nil {
			t.Errorf("%q is taken for a certificate", file)
		}
	}
}
