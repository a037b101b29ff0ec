package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// client is one keep-alive connection. It does as little as it can: its work
// is done on the processors that are being measured.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	body bytes.Buffer
}

func dial(ctx context.Context, address string) (*client, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return &client{conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

var errProtocol = errors.New("bench: an answer that this client does not understand")

// do sends one request, ready to be written, and reads the answer into c.body.
func (c *client) do(request []byte) (status int, err error) {
	if _, err := c.conn.Write(request); err != nil {
		return 0, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, errProtocol
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, errProtocol
	}
	length, chunked := -1, false
	for {
		if line, err = c.r.ReadSlice('\n'); err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		switch name, value, _ := bytes.Cut(line, []byte(": ")); string(name) {
		case "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, errProtocol
			}
		case "Transfer-Encoding":
			chunked = true
		}
	}
	c.body.Reset()
	switch {
	case chunked:
		err = c.chunks()
	case length >= 0:
		_, err = io.CopyN(&c.body, c.r, int64(length))
	default:
		err = errProtocol
	}
	return status, err
}

func (c *client) chunks() error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimRight(line, "\r\n")), 16, 64)
		if err != nil {
			return errProtocol
		}
		if n > 0 {
			if _, err := io.CopyN(&c.body, c.r, n); err != nil {
				return err
			}
		}
		if _, err := c.r.Discard(2); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// get is a request that is ready to be written.
func get(address, path, token string) []byte { return ask("GET", address, path, token, nil) }

// ask is any request, ready to be written.
func ask(method, address, path, token string, body []byte) []byte {
	var b bytes.Buffer
	_, _ = fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: application/fhir+json\r\n", method, path, address)
	if token != "" {
		_, _ = fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	if body != nil {
		_, _ = fmt.Fprintf(&b, "Content-Type: application/fhir+json\r\nPrefer: return=minimal\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// sample is one measurement.
type sample struct {
	Rate     float64       `json:"per_second"` // answers
	P50      time.Duration `json:"p50_ns"`
	P95      time.Duration `json:"p95_ns"`
	P99      time.Duration `json:"p99_ns"`
	Own      time.Duration `json:"own_cpu_ns"`      // processor time per answer of this process: client and server
	Database time.Duration `json:"database_cpu_ns"` // and of the private database
}

// request is one that is sent in turn; kind tells measurements of a mix apart.
type request struct {
	bytes []byte
	kind  int
}

var errNoAnswer = errors.New("bench: no answer came in time: measure longer")

// drive lets n clients ask for d, each one request after the other, and
// measures what comes after the first tenth of d, one sample for each kind. An
// answer outside 200 to 299 fails it.
func drive(ctx context.Context, address string, requests []request, n int, d time.Duration) ([]sample, error) {
	ctx, cancel := context.WithTimeout(ctx, d+d/10+time.Minute)
	defer cancel()
	kinds := 0
	for _, r := range requests {
		kinds = max(kinds, r.kind+1)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	all := make([][]time.Duration, kinds)
	var failure error
	own, children := processor()
	start := time.Now()
	warm, end := start.Add(d/10), start.Add(d/10+d)
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			took, err := repeat(ctx, address, requests, i*len(requests)/n, kinds, warm, end)
			mu.Lock()
			defer mu.Unlock()
			for k := range took {
				all[k] = append(all[k], took[k]...)
			}
			failure = errors.Join(failure, err)
		}()
	}
	wg.Wait()
	if failure != nil {
		return nil, failure
	}
	own2, children2 := processor()
	count := 0
	for _, took := range all {
		count += len(took)
	}
	if count == 0 {
		return nil, errNoAnswer
	}
	out := make([]sample, kinds)
	answers := time.Duration(max(float64(count)*1.1, 1)) // those of the first tenth used processors, too
	for k, took := range all {
		slices.Sort(took)
		at := func(q float64) time.Duration {
			if len(took) == 0 {
				return 0
			}
			return took[min(int(q*float64(len(took))), len(took)-1)]
		}
		out[k] = sample{float64(len(took)) / d.Seconds(), at(.50), at(.95), at(.99), (own2 - own) / answers, (children2 - children) / answers}
	}
	return out, nil
}

// repeat is one client.
func repeat(ctx context.Context, address string, requests []request, first, kinds int, warm, end time.Time) ([][]time.Duration, error) {
	c, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	took := make([][]time.Duration, kinds)
	for i := first; ; i++ {
		before := time.Now()
		if !before.Before(end) {
			return took, nil
		}
		r := requests[i%len(requests)]
		status, err := c.do(r.bytes)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		if status < 200 || status > 299 {
			return nil, fmt.Errorf("bench: an answer of status %d: %.300s", status, c.body.Bytes())
		}
		if after := time.Now(); !before.Before(warm) && after.Before(end) {
			took[r.kind] = append(took[r.kind], after.Sub(before))
		}
	}
}
