package mail

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is an SMTP server with as much of RFC 5321 as a client needs.
type server struct {
	t      *testing.T
	listen net.Listener
	tls    *tls.Config // nil: it does not offer STARTTLS
	mu     sync.Mutex
	mails  []string
	secure bool // the last mail came over TLS
}

func start(t *testing.T, cfg *tls.Config) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, listen: l, tls: cfg}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *server) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	secure, in := false, bufio.NewReader(c)
	say := func(text string) { _, _ = fmt.Fprintf(c, "%s\r\n", text) }
	say("220 test")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		switch verb {
		case "EHLO":
			if s.tls != nil && !secure {
				say("250-test\r\n250 STARTTLS")
			} else {
				say("250 test")
			}
		case "STARTTLS":
			say("220 go")
			upgraded := tls.Server(c, s.tls)
			if upgraded.Handshake() != nil {
				return
			}
			c, in, secure = upgraded, bufio.NewReader(upgraded), true
		case "DATA":
			say("354 go")
			var b strings.Builder
			for {
				l, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				b.WriteString(l)
			}
			s.mu.Lock()
			s.mails, s.secure = append(s.mails, b.String()), secure
			s.mu.Unlock()
			say("250 taken")
		case "RCPT":
			if strings.Contains(line, "refused@") {
				say("550 no such user refused@example.org")
			} else {
				say("250 ok")
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *server) port() int {
	a, ok := s.listen.Addr().(*net.TCPAddr)
	if !ok {
		s.t.Fatal("no TCP")
	}
	return a.Port
}

func (s *server) got() (list []string, secure bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mails, s.secure
}

// certificate is one for a name, with the pool that trusts it.
func certificate(t *testing.T, name string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, pool
}

func parse(t *testing.T, server string) *Server {
	t.Helper()
	s, err := Parse(server, "Harbor <no-reply@example.org>")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSendOnThisMachine(t *testing.T) {
	box := start(t, nil)
	s := parse(t, fmt.Sprintf("smtp://127.0.0.1:%d", box.port()))
	if err := s.Send(t.Context(), "tess@example.org", "Your invitation", "https://fhir.example.org/smart/invitation?token=abc_DEF-123\n"); err != nil {
		t.Fatal(err)
	}
	list, _ := box.got()
	if len(list) != 1 {
		t.Fatalf("%d mails", len(list))
	}
	text := strings.ReplaceAll(list[0], "=\r\n", "") // quoted-printable
	for _, want := range []string{"From: \"Harbor\" <no-reply@example.org>", "To: <tess@example.org>", "Subject: Your invitation", "Auto-Submitted: auto-generated", "token=3Dabc_DEF-123"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestTLSIsRequired elsewhere: a server that does not offer it, or whose certificate is not good, gets nothing.
func TestTLSIsRequired(t *testing.T) {
	good, pool := certificate(t, "mail.example.org")
	for _, c := range []struct {
		name string
		cfg  *tls.Config
		pool *x509.CertPool
		want bool
	}{
		{"not offered", nil, pool, false},
		{"not trusted", good, x509.NewCertPool(), false},
		{"trusted", good, pool, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := start(t, c.cfg)
			s := parse(t, "smtp://mail.example.org")
			if s.loopback() || s.port != 587 {
				t.Fatalf("%+v", s)
			}
			// As if mail.example.org were elsewhere: the name stays, the address is that of the test.
			s.dialPort(t, box.port())
			s.tls = &tls.Config{ServerName: "mail.example.org", RootCAs: c.pool, MinVersion: tls.VersionTLS12}
			err := s.Send(t.Context(), "tess@example.org", "s", "t")
			list, secure := box.got()
			if c.want && (err != nil || len(list) != 1 || !secure) || !c.want && (err == nil || len(list) > 0) {
				t.Errorf("%v, %d mails, TLS %v", err, len(list), secure)
			}
		})
	}
}

// dialPort leads to the server of the test by an address that is none of this machine's names.
func (s *Server) dialPort(t *testing.T, port int) {
	t.Helper()
	s.port = port
	s.dial = func(network, _ string) (string, string) { return network, fmt.Sprintf("127.0.0.1:%d", port) }
}

func TestARefusalNamesNobody(t *testing.T) {
	box := start(t, nil)
	err := parse(t, fmt.Sprintf("smtp://localhost:%d", box.port())).Send(t.Context(), "refused@example.org", "s", "t")
	if err == nil || strings.Contains(err.Error(), "refused@") {
		t.Errorf("%v", err)
	}
	if err := parse(t, "smtp://localhost").Send(t.Context(), "not an address\r\nBcc: x@y", "s", "t"); err == nil || strings.Contains(err.Error(), "Bcc") {
		t.Errorf("%v", err)
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{"", "mail.example.org", "http://mail.example.org", "smtp://", "smtp://host:0", "smtp://host/path", "smtp://host:99999"} {
		if _, err := Parse(bad, "a@example.org"); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := Parse("smtp://host", "nobody"); err == nil {
		t.Error("a sender that is none was taken")
	}
	if s := parse(t, "smtps://u:p%40ss@mail.example.org"); s.port != 465 || !s.implicit || s.user != "u" || s.password != "p@ss" {
		t.Errorf("%+v", s)
	}
}
