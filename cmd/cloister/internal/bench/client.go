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
func get(address, path, token string) []byte {
	var b bytes.Buffer
	_, _ = fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: application/fhir+json\r\n", path, address)
	if token != "" {
		_, _ = fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// sample is one measurement.
type sample struct {
	rate          float64 // answers per second
	p50, p95, p99 time.Duration
}

// drive lets n clients ask for d, each one request after the other, and
// measures what comes after the first tenth of d. An answer that is not 200 fails it.
func drive(ctx context.Context, address string, requests [][]byte, n int, d time.Duration) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, d+d/10+time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []time.Duration
	var failure error
	start := time.Now()
	warm, end := start.Add(d/10), start.Add(d/10+d)
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			took, err := ask(ctx, address, requests, i*len(requests)/n, warm, end)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			failure = errors.Join(failure, err)
		}()
	}
	wg.Wait()
	if failure != nil {
		return sample{}, failure
	}
	if len(all) == 0 {
		return sample{}, errors.New("bench: no answer came in time: measure longer")
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(int(q*float64(len(all))), len(all)-1)] }
	return sample{float64(len(all)) / d.Seconds(), at(.50), at(.95), at(.99)}, nil
}

func ask(ctx context.Context, address string, requests [][]byte, first int, warm, end time.Time) ([]time.Duration, error) {
	c, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	took := make([]time.Duration, 0, 1<<12)
	for i := first; ; i++ {
		before := time.Now()
		if !before.Before(end) {
			return took, nil
		}
		status, err := c.do(requests[i%len(requests)])
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		if status != 200 {
			return nil, fmt.Errorf("bench: an answer of status %d: %.300s", status, c.body.Bytes())
		}
		if after := time.Now(); !before.Before(warm) && after.Before(end) {
			took = append(took, after.Sub(before))
		}
	}
}
