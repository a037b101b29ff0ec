package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// syslog sends RFC 5424 messages over UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425).
//
// TCP takes bytes that nobody ever reads, and syslog has no answer. So each delivery has a connection of its own, which is
// closed for writing at its end: the receiver closes when it has read everything up to there, and only then it has arrived.
type syslog struct {
	way, address, name string
	host               string
	config             *tls.Config
}

// Trust gives a receiver that accepts certificates of these authorities instead of the system's.
func Trust(r Receiver, roots *x509.CertPool) Receiver {
	s, ok := r.(*syslog)
	if !ok {
		return r
	}
	c := *s
	c.config = s.config.Clone()
	c.config.RootCAs = roots
	return &c
}

func newSyslog(way, address, name string) *syslog {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	return &syslog{way, address, name, printable(host, 255), &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}}
}

// printable is what a field of the header may hold (RFC 5424, section 6).
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < 33 || r > 126 {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}

// facility of audit logs (RFC 5424, section 6.2.1).
const facility = 13

func (s *syslog) format(m Message) []byte {
	severity := 6 // informational
	if m.refused() {
		severity = 4 // warning
	}
	head := "<" + strconv.Itoa(facility*8+severity) + ">1 " + m.At.UTC().Format("2006-01-02T15:04:05.000000Z07:00") + " " + s.host + " cloister - " + m.Kind + " - "
	return append([]byte(head), m.text()...)
}

func (s *syslog) Send(ctx context.Context, list []Message) (err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if s.way == "udp" {
		return s.datagrams(ctx, list)
	}
	var b []byte
	for _, m := range list {
		text := s.format(m)
		b = append(append(strconv.AppendInt(b, int64(len(text)), 10), ' '), text...)
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	if err := conn.CloseWrite(); err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(conn, 1<<16)); err != nil || n == 1<<16 {
		return fmt.Errorf("forward: the receiver did not close the connection, so that it is not known whether it has read everything: %w", errors.Join(err, ctx.Err()))
	}
	return nil
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func (s *syslog) dial(ctx context.Context) (halfCloser, error) {
	d := &net.Dialer{}
	if s.way == "tls" {
		conn, err := (&tls.Dialer{NetDialer: d, Config: s.config}).DialContext(ctx, "tcp", s.address)
		if err != nil {
			return nil, err //nolint:wrapcheck // Send wraps it
		}
		return conn.(*tls.Conn), nil //nolint:forcetypeassert,errcheck // as crypto/tls documents
	}
	conn, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err //nolint:wrapcheck // Send wraps it
	}
	return conn.(*net.TCPConn), nil //nolint:forcetypeassert,errcheck // as package net documents
}

// datagrams may be lost on the way: nobody says that one has arrived.
func (s *syslog) datagrams(ctx context.Context, list []Message) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", s.address)
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	defer func() { _ = conn.Close() }()
	for _, m := range list {
		if _, err := conn.Write(s.format(m)); err != nil {
			return fmt.Errorf("forward: %w", err)
		}
	}
	return nil
}
