package egress

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(text ...string) (out []netip.Prefix) {
	for _, x := range text {
		out = append(out, netip.MustParsePrefix(x))
	}
	return out
}

func TestOnlyWhatIsListedPassesByItsText(t *testing.T) {
	g, err := New(Config{Hosts: []string{"files.example.org", "other.example.org:8443", "127.0.0.1:9000", "localhost:9001", "[::1]:9000"}, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"https://files.example.org/a.ndjson?sig=x": true,
		"https://FILES.example.org./a":             true,
		"https://files.example.org:443/a":          true,
		"https://other.example.org:8443/a":         true,
		"http://127.0.0.1:9000/a":                  true,
		"http://localhost:9001/a":                  true,
		"http://[::1]:9000/a":                      true,

		"http://files.example.org/a":                               false,
		"https://files.example.org:444/a":                          false,
		"https://other.example.org/a":                              false,
		"https://evil.example.org/a":                               false,
		"https://files.example.org.evil.org/a":                     false,
		"https://evil.org#files.example.org":                       false,
		"https://files.example.org@evil.org/":                      false,
		"https://user:pw@files.example.org/":                       false,
		"https://files.example.org/#x":                             false,
		"https://evil.org\\@files.example.org/":                    false,
		"http://127.0.0.1/a":                                       false,
		"http://127.1:9000/a":                                      false,
		"file:///etc/passwd":                                       false,
		"ftp://files.example.org/a":                                false,
		"//files.example.org/a":                                    false,
		"https:files.example.org":                                  false,
		"":                                                         false,
		"https://files.example.org/\r\nHost: evil":                 false,
		"https://files.example.org/" + strings.Repeat("a", MaxURL): false,
	} {
		if _, err := g.Check(text); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, bad := range []string{"", "*.example.org", "https://x", "a/b", "u@h", "h:port", "h?x"} {
		if _, err := New(Config{Hosts: []string{bad}}); err == nil {
			t.Errorf("%q is taken for a host", bad)
		}
	}
}

func TestAddressesThatAreNotPublicAreNotReached(t *testing.T) {
	g, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{
		"127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "0.0.0.0", "0.1.2.3", "100.64.0.1", "100.100.100.200",
		"192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "100::1",
	} {
		if g.reaches(netip.MustParseAddr(a)) {
			t.Errorf("%s is reached", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"} {
		if !g.reaches(netip.MustParseAddr(a)) {
			t.Errorf("%s is not reached", a)
		}
	}
	if g, err = New(Config{Networks: prefixes("10.1.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	if !g.reaches(netip.MustParseAddr("10.1.2.3")) || !g.reaches(netip.MustParseAddr("::ffff:10.1.2.3")) || g.reaches(netip.MustParseAddr("10.2.0.1")) {
		t.Error("networks of the configuration")
	}
}

// What counts is the address at the moment of dialling, whatever the name said before.
func TestTheAddressIsCheckedWhenItIsDialled(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/there", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "here")
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	// A name that leads to the loopback, and one that is an address.
	_, port, _ := strings.Cut(host, ":")
	for _, h := range []string{host, "localhost:" + port} {
		g, err := New(Config{Hosts: []string{h}, Plain: true})
		if err != nil {
			t.Fatal(err)
		}
		if res, err := g.Client(0).Get("http://" + h); !errors.Is(err, ErrAddress) {
			if err == nil {
				_ = res.Body.Close()
			}
			t.Errorf("%s: %v", h, err)
		}
	}
	if asked != 0 {
		t.Fatalf("the loopback was asked %d times", asked)
	}
	t.Setenv("HTTP_PROXY", "http://"+host)
	t.Setenv("HTTPS_PROXY", "http://"+host)
	g, err := New(Config{Hosts: []string{host}, Networks: prefixes("127.0.0.0/8"), Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	res, err := g.Client(0).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if text, _ := io.ReadAll(res.Body); string(text) != "here" {
		t.Errorf("%q", text)
	}
	away, err := g.Client(0).Get(s.URL + "/away")
	if err != nil {
		t.Fatal(err)
	}
	_ = away.Body.Close()
	if away.StatusCode != http.StatusFound || asked != 2 {
		t.Errorf("a redirect was followed: %d, %d requests", away.StatusCode, asked)
	}
	// A client that is handed another URL refuses it.
	if res, err := g.Client(0).Get("http://127.0.0.1:1/"); err == nil || !strings.Contains(err.Error(), "no https URL") {
		if err == nil {
			_ = res.Body.Close()
		}
		t.Errorf("a host that is not listed: %v", err)
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	defer s.Close()
	s.Config.ErrorLog = nil
	host := strings.TrimPrefix(s.URL, "https://")
	known := x509.NewCertPool()
	known.AddCert(s.Certificate())
	for trusted, roots := range map[bool]*x509.CertPool{false: x509.NewCertPool(), true: known} {
		g, err := New(Config{Hosts: []string{host}, Networks: prefixes("127.0.0.0/8"), Roots: roots})
		if err != nil {
			t.Fatal(err)
		}
		res, err := g.Client(0).Get(s.URL)
		if err == nil {
			_ = res.Body.Close()
		}
		if (err == nil) != trusted {
			t.Errorf("trusted %v: %v", trusted, err)
		}
	}
}
