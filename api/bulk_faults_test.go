package api

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// badLine is a network between a client and a server that cuts connections off, holds
// them up and changes bytes, anywhere.
type badLine struct {
	net.Listener
	to     string
	faults atomic.Int64
}

func newBadLine(t *testing.T, to string) *badLine {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &badLine{Listener: l, to: to}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go x.carry(c)
		}
	}()
	return x
}

func (x *badLine) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", x.to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	after, fault := rand.IntN(60_000), rand.IntN(4)
	buf := make([]byte, 4096)
	for sent := 0; ; {
		n, err := server.Read(buf)
		if sent <= after && after < sent+n {
			switch fault {
			case 0:
				x.faults.Add(1)
				n, err = after-sent, io.ErrUnexpectedEOF
			case 1:
				x.faults.Add(1)
				time.Sleep(20 * time.Millisecond)
			case 2:
				x.faults.Add(1)
				buf[after-sent] ^= 0x55
			}
		}
		if _, failed := client.Write(buf[:n]); failed != nil || err != nil {
			return
		}
		sent += n
	}
}

// Over a network that fails at any moment, a client that goes on where it was has all
// bytes in the end, and no others. That bytes were changed is found by TLS, over which the
// specification has all of it.
func TestBulkDownloadOverABadNetwork(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("CLOISTER_FAULTS"))
	if err != nil {
		rounds = 8
	}
	c, s := newBulk(t)
	for i := range 20 {
		c.create(t, "colleague", observation("Patient/bert", fmt.Sprintf(`,"note":[{"text":"%d %s"}]`, i, strings.Repeat("long ", 800))))
	}
	file := exported(t, c, s, "_type=Observation")
	want := ask(t, c, "GET", file, "exchange", "").Body.String()
	server := httptest.NewUnstartedServer(c.Handler)
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	line := newBadLine(t, server.Listener.Addr().String())
	client := server.Client()
	tr, ok := client.Transport.(*http.Transport)
	if !ok {
		t.Fatal("another transport")
	}
	tr.DisableKeepAlives = true
	client.Timeout = 10 * time.Second
	for line.faults.Load() < int64(rounds) {
		var got []byte
		tag := ""
		for attempt := 0; len(got) < len(want) || attempt == 0; attempt++ {
			if attempt > 500 {
				t.Fatal("it does not come to an end")
			}
			rq, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+line.Addr().String()+file, nil)
			if err != nil {
				t.Fatal(err)
			}
			rq.Header.Set("Authorization", "Bearer exchange")
			rq.Header.Set("Accept-Encoding", "identity")
			if len(got) > 0 {
				rq.Header.Set("Range", fmt.Sprintf("bytes=%d-", len(got)))
				rq.Header.Set("If-Range", tag)
			}
			res, err := client.Do(rq)
			if err != nil {
				continue // before the header
			}
			if want := map[bool]int{true: 206, false: 200}[len(got) > 0]; res.StatusCode != want {
				t.Fatalf("%d, want %d", res.StatusCode, want)
			}
			tag = res.Header.Get("ETag")
			piece, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err == nil && int64(len(piece)) != res.ContentLength {
				t.Fatal(errors.New("a part looks as if it were whole"))
			}
			got = append(got, piece...)
		}
		if string(got) != want {
			t.Fatalf("%d bytes, want %d, or others", len(got), len(want))
		}
	}
}
