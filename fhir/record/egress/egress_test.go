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

func TestOnlyWhatIsListedPassesByItsText(t *testing.T) {
	g, err := New(Config{Hosts: []string{"files.example.org"}, Own: []string{"other.example.org:8443"}, Local: true})
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
		"http://127.1:9000/a":                                      false,
		"http://10.0.0.1:9000/a":                                   false,
		"http://localhost.example.org:9000/a":                      false,
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
	plain, err := New(Config{Hosts: []string{"127.0.0.1:9000"}, Own: []string{"localhost:9001"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"http://127.0.0.1:9000/a", "http://localhost:9001/a", "https://127.0.0.1:9001/a", "https://[::1]:9000/a"} {
		if _, err := plain.Check(text); err == nil {
			t.Errorf("%q, which is not listed, or in the clear", text)
		}
	}
	for _, bad := range []string{"", "*.example.org", "https://x", "a/b", "u@h", "h:port", "h?x"} {
		if _, err := New(Config{Hosts: []string{bad}}); err == nil {
			t.Errorf("%q is taken for a host", bad)
		}
	}
}

func TestAddressesThatAreNotPublicAreNotReached(t *testing.T) {
	g, err := New(Config{Networks: prefixes("10.1.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	private := []string{
		"127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "0.1.2.3",
		"::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "fc00::1", "fec0::1", "2001:db8::1", "100::1",
	}
	for _, a := range private {
		if g.reaches(netip.MustParseAddr(a), false) {
			t.Errorf("%s is reached", a)
		}
		if !g.reaches(netip.MustParseAddr(a), true) {
			t.Errorf("%s is not reached, although it is the operator's own", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "10.1.2.3", "::ffff:10.1.2.3"} {
		if !g.reaches(netip.MustParseAddr(a), false) {
			t.Errorf("%s is not reached", a)
		}
	}
	// No list opens these.
	all, err := New(Config{Networks: prefixes("0.0.0.0/0", "::/0"), Local: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{
		"169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "::ffff:100.100.100.200", "168.63.129.16", "192.0.0.192",
		"0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1",
	} {
		for _, own := range []bool{false, true} {
			if all.reaches(netip.MustParseAddr(a), own) || g.reaches(netip.MustParseAddr(a), own) {
				t.Errorf("%s is reached, own: %v", a, own)
			}
		}
	}
}

// get asks for a URL, and says what came of it.
func get(t *testing.T, c Config, url string) (status int, body string, err error) {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	res, err := g.Client(0).Get(url)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// What counts is the address at the moment of dialling, whatever the name said before; nothing
// leads past that: no proxy of the environment, no redirect, no other spelling of the address.
func TestTheAddressIsCheckedWhenItIsDialled(t *testing.T) {
	var asked []string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, "here")
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	host := strings.TrimPrefix(s.URL, "https://")
	_, port, _ := strings.Cut(host, ":")
	t.Setenv("HTTP_PROXY", s.URL)
	t.Setenv("HTTPS_PROXY", s.URL)
	// Hosts that are listed, none of which is public: addresses, and a name that leads to one.
	for _, h := range []string{host, "localhost:" + port, "0.0.0.0:" + port, "[::1]:" + port, "[::]:" + port, "[::ffff:127.0.0.1]:" + port, "[::ffff:7f00:1]:" + port, "10.0.0.1", "169.254.169.254", "[fd00:ec2::254]"} {
		if _, _, err := get(t, Config{Hosts: []string{h}, Networks: prefixes("192.168.0.0/16"), Roots: roots}, "https://"+h+"/in"); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", h, err)
		}
	}
	for _, h := range []string{"0.0.0.0:" + port, "[::]:" + port, "169.254.169.254", "[fd00:ec2::254]"} {
		if _, _, err := get(t, Config{Own: []string{h}, Roots: roots, Local: true}, "https://"+h+"/in"); !errors.Is(err, ErrAddress) {
			t.Errorf("%s, as an own one: %v", h, err)
		}
	}
	// A host of the operator's own opens no other one that leads to the same place.
	if _, _, err := get(t, Config{Own: []string{"localhost:1"}, Hosts: []string{host}, Roots: roots}, "https://"+host+"/in"); !errors.Is(err, ErrAddress) {
		t.Errorf("an address by a host that is not its own: %v", err)
	}
	if len(asked) != 0 {
		t.Fatalf("the loopback was asked for %q", asked)
	}
	// A host that is not listed is refused by whoever uses the client.
	if _, _, err := get(t, Config{Own: []string{host}, Roots: roots}, "https://localhost:"+port+"/in"); err == nil || !strings.Contains(err.Error(), "no https URL") {
		t.Errorf("a host that is not listed: %v", err)
	}
	for name, c := range map[string]Config{"own": {Own: []string{host}}, "network": {Hosts: []string{host}, Networks: prefixes("127.0.0.0/8")}, "local": {Local: true}} {
		asked = nil
		c.Roots = roots
		if _, text, err := get(t, c, s.URL+"/in"); err != nil || text != "here" {
			t.Errorf("%s: %q %v", name, text, err)
		}
		if status, _, err := get(t, c, s.URL+"/away"); err != nil || status != http.StatusTemporaryRedirect || len(asked) != 2 {
			t.Errorf("%s: a redirect was followed: %d, %q, %v", name, status, asked, err)
		}
	}
}

// For development: this machine, over http, at any port; no other one.
func TestThisMachineInTheClear(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	defer s.Close()
	if _, text, err := get(t, Config{Local: true}, s.URL); err != nil || text != "here" {
		t.Errorf("%q %v", text, err)
	}
	if _, _, err := get(t, Config{Own: []string{strings.TrimPrefix(s.URL, "http://")}}, s.URL); err == nil {
		t.Error("http without development")
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
