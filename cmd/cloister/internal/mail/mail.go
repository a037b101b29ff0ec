// Package mail sends plain text over SMTP.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Server is where mail goes out.
type Server struct {
	host     string
	port     int
	implicit bool // TLS from the first byte
	user     string
	password string
	from     mail.Address
	tls      *tls.Config // nil: that of the system
	// dial says where a connection really goes; nil: where the name leads.
	dial func(network, address string) (string, string)
}

const (
	timeout       = 30 * time.Second
	submission    = 587 // RFC 6409
	submissionTLS = 465 // RFC 8314
)

// Parse reads smtp://user:password@host:587 (STARTTLS, which the server must offer) or
// smtps://user:password@host:465, and the sender's address. Only to this machine itself does mail go without TLS.
func Parse(server, from string) (*Server, error) {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Path != "" || u.RawQuery != "" {
		return nil, errors.New("is not an address such as smtp://user:password@mail.example.org:587 or smtps://mail.example.org, with special characters of the password percent-encoded")
	}
	s := &Server{host: u.Hostname(), port: submission, implicit: u.Scheme == "smtps", user: u.User.Username()}
	if s.implicit {
		s.port = submissionTLS
	}
	s.password, _ = u.User.Password()
	if p := u.Port(); p != "" {
		if s.port, err = strconv.Atoi(p); err != nil || s.port < 1 || s.port > 65535 {
			return nil, errors.New("has a port that is none")
		}
	}
	a, err := mail.ParseAddress(from)
	if err != nil {
		return nil, errors.New("needs a sender: an address such as Harbor <no-reply@example.org>")
	}
	s.from = *a
	return s, nil
}

// loopback says that mail does not leave this machine.
func (s *Server) loopback() bool {
	ip := net.ParseIP(s.host)
	return s.host == "localhost" || ip != nil && ip.IsLoopback()
}

// Send sends one mail, and returns when the server has taken it.
func (s *Server) Send(ctx context.Context, to, subject, text string) error {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := errors.Join(m.FromFormat(s.from.Name, s.from.Address), m.To(to)); err != nil {
		return errors.New("mail: an address cannot be written to") // go-mail's own message quotes it
	}
	m.Subject(subject)
	m.SetBodyString(gomail.TypeTextPlain, text)
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no answer from a robot
	options := []gomail.Option{gomail.WithPort(s.port), gomail.WithTimeout(timeout), gomail.WithTLSPolicy(gomail.TLSMandatory)}
	switch {
	case s.implicit:
		options = append(options, gomail.WithSSL())
	case s.loopback():
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	}
	if s.tls != nil {
		options = append(options, gomail.WithTLSConfig(s.tls))
	}
	if s.dial != nil {
		options = append(options, gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			network, address = s.dial(network, address)
			return d.DialContext(ctx, network, address)
		}))
	}
	if s.user != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.user), gomail.WithPassword(s.password))
	}
	c, err := gomail.NewClient(s.host, options...)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	if err := c.DialAndSendWithContext(ctx, m); err != nil {
		var refused *gomail.SendError
		if errors.As(err, &refused) { // its text carries the recipient
			return fmt.Errorf("mail: the server refused: code %d", refused.ErrorCode())
		}
		return fmt.Errorf("mail: %w", err)
	}
	return nil
}
