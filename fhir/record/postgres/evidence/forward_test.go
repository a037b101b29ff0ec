package evidence_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/audit/forward"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

// heard is what receivers got.
type heard struct {
	mu   sync.Mutex
	raw  bytes.Buffer
	seqs map[int64]int
	down bool
}

func (h *heard) take(b []byte, seqs ...int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.raw.Write(b)
	for _, n := range seqs {
		h.seqs[n]++
	}
}

func (h *heard) isDown() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.down }

func (h *heard) set(down bool) { h.mu.Lock(); h.down = down; h.mu.Unlock() }

// collector answers OTLP/HTTP, and drops requests half-way or after it has taken them, while it is down.
func collector(t *testing.T, h *heard) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the forwarder was killed in the middle of it: what has not come whole is not heard
		}
		if h.isDown() {
			if rand.IntN(2) == 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			panic(http.ErrAbortHandler)
		}
		var rq struct {
			ResourceLogs []struct {
				ScopeLogs []struct {
					LogRecords []struct {
						TimeUnixNano string
						Attributes   []struct {
							Key   string
							Value struct{ StringValue, IntValue string }
						}
					}
				}
			}
		}
		if err := json.Unmarshal(body, &rq); err != nil || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v", r.URL, err)
		}
		for _, rec := range rq.ResourceLogs[0].ScopeLogs[0].LogRecords {
			for _, a := range rec.Attributes {
				if a.Key == "cloister.audit.seq" {
					n, err := strconv.ParseInt(a.Value.IntValue, 10, 64)
					if err != nil {
						t.Error(err)
					}
					h.take(nil, n)
				}
			}
		}
		h.take(body)
		_, _ = io.WriteString(w, `{"partialSuccess":{}}`)
	}))
	t.Cleanup(s.Close)
	return "otlp+http://" + strings.TrimPrefix(s.URL, "http://")
}

// daemon takes RFC 5424 messages in frames of counted octets; while it is down it hangs up in the middle.
func daemon(t *testing.T, h *heard) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = daemonReads(c, h) }()
		}
	}()
	return "syslog+tcp://" + l.Addr().String()
}

func daemonReads(c net.Conn, h *heard) error {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		size, err := in.ReadString(' ')
		if errors.Is(err, io.EOF) && size == "" {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(size))
		if err != nil {
			return err
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		if h.isDown() {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // what was not read is lost
			}
			return nil
		}
		var m forward.Message
		head, text, ok := strings.Cut(string(frame), " - ")
		_, text, ok2 := strings.Cut(text, " - ")
		if !ok || !ok2 || !strings.HasPrefix(head, "<") || json.Unmarshal([]byte(text), &m) != nil {
			return fmt.Errorf("no RFC 5424 message: %s", frame)
		}
		h.take(frame, m.Seq)
	}
}

// Every event arrives although the receiver goes down and the forwarder is killed, and nothing of patients or people goes out.
func TestForwardedOnceAtLeastWithoutPeople(t *testing.T) {
	for name, open := range map[string]func(*testing.T, *heard) string{"syslog": daemon, "otlp": collector} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			got := &heard{seqs: map[int64]int{}}
			address := open(t, got)
			to, err := forward.Open(address)
			if err != nil {
				t.Fatal(err)
			}
			start := func() *evidence.Forwarder {
				f := &evidence.Forwarder{Name: address, To: to, Log: slog.New(slog.DiscardHandler), Every: time.Millisecond}
				if err := f.Connect(context.Background(), h.dsn); err != nil {
					t.Fatal(err)
				}
				return f
			}
			one, two := start(), start()
			defer one.Close()
			defer two.Close()
			ctx := context.Background()
			s := h.sealer()
			r := rand.New(rand.NewPCG(7, 7))
			now := time.Now()
			h.write(h.store, r, 5, now.Add(-time.Hour), now)
			seal(t, s)
			if err := one.Forward(ctx); err != nil { // what was there before is not told
				t.Fatal(err)
			}
			var first int64
			h.query(&first, "SELECT last_value FROM audit.seq")
			failed := 0
			for i := range 12 {
				got.set(i%3 == 1)
				h.write(h.store, r, 30, now.Add(-time.Hour), now)
				seal(t, s)
				short, cancel := context.WithCancel(ctx)
				if i%4 == 2 {
					time.AfterFunc(time.Duration(r.IntN(20))*time.Millisecond, cancel) // killed
				}
				var both sync.WaitGroup
				for _, f := range []*evidence.Forwarder{one, two} {
					both.Go(func() {
						if err := f.Forward(short); err != nil {
							got.mu.Lock()
							failed++
							got.mu.Unlock()
						}
					})
				}
				both.Wait()
				cancel()
			}
			got.set(false)
			// PostgreSQL may not have noticed yet that the forwarder which was killed last is gone: it is its turn still.
			for behind, until := true, time.Now().Add(time.Minute); behind && time.Now().Before(until); {
				if err := two.Forward(ctx); err != nil {
					t.Fatal(err)
				}
				h.query(&behind, "SELECT (SELECT seq FROM audit.forwarded) < (SELECT max(through) FROM audit.link)")
			}
			var all []int64
			for _, table := range []string{"event", "security", "downgrade"} {
				all = append(all, h.seqs(table, fmt.Sprintf("seq > %d", first))...)
			}
			if len(all) != 360 || failed == 0 {
				t.Errorf("%d rows, %d failures", len(all), failed)
			}
			for _, n := range all {
				if got.seqs[n] == 0 {
					t.Errorf("row %d has not arrived", n)
				}
				delete(got.seqs, n)
			}
			if len(got.seqs) != 0 {
				t.Errorf("rows arrived that are not there: %v", got.seqs)
			}
			out := got.raw.String()
			for _, secret := range []string{"canary", "Practitioner", "Patient", "https://id.example", "pwd", "therapist"} {
				if strings.Contains(out, secret) {
					t.Errorf("%q goes out", secret)
				}
			}
			for _, told := range []string{"read", "Observation", "TREAT", "3c8a7b6f5e4d", "sign-in", "downgrade", "app"} {
				if !strings.Contains(out, told) {
					t.Errorf("%q does not go out", told)
				}
			}
		})
	}
}

// A receiver that takes the bytes and does not read them has not heard them.
func TestSyslogNeedsToBeRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	to, err := forward.Open("syslog+tcp://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := to.Send(ctx, []forward.Message{{Seq: 1}}); err == nil {
		t.Error("what sits in a buffer counts as heard")
	}
}

// Over TLS the receiver's certificate is verified.
func TestSyslogOverTLSVerifies(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	got := &heard{seqs: map[int64]int{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = daemonReads(c, got) }()
		}
	}()
	to, err := forward.Open("syslog+tls://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Send(context.Background(), []forward.Message{{Seq: 1}}); err == nil {
		t.Error("a certificate that nobody vouches for is accepted")
	}
	pool := x509.NewCertPool()
	pool.AddCert(certified.Certificate())
	if err := forward.Trust(to, pool).Send(context.Background(), []forward.Message{{Seq: 2, Kind: "event"}}); err != nil {
		t.Fatal(err)
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	if len(got.seqs) != 1 || got.seqs[2] != 1 {
		t.Errorf("%v", got.seqs)
	}
}

func TestAddressesOfReceivers(t *testing.T) {
	for _, good := range []string{"syslog+tls://log.example.org:6514", "syslog+tcp://127.0.0.1:601", "syslog+udp://[::1]:514", "otlp+https://otel.example.org:4318", "otlp+http://127.0.0.1:4318/v1/logs"} {
		if err := forward.Check(good); err != nil {
			t.Error(err)
		}
	}
	bad := []string{"", "log.example.org", "https://otel.example.org", "syslog://x:1", "syslog+tls://x", "syslog+tcp://x:1/y", "otlp+https://u:p@x", "otlp+https://x/?a", "otlp+grpc://x:4317"}
	if i := slices.IndexFunc(bad, func(s string) bool { return forward.Check(s) == nil }); i >= 0 {
		t.Errorf("%q is accepted", bad[i])
	}
}
