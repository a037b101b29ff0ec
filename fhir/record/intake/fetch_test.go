package intake_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/record/egress"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// serve is a file that is served in ranges.
func serve(text, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
	}
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A connection that breaks off is gone on with, where the file is the same as before; else the
// file is fetched from its beginning. Either way each line comes in once.
func TestConnectionsBreak(t *testing.T) {
	var lines []string
	for i := range 1200 {
		lines = append(lines, observation(fmt.Sprintf("n%04d", i), `,"note":[{"text":"`+strings.Repeat(strconv.Itoa(i*7919), 20)+`"}]`))
	}
	text := strings.Join(lines, "\n")
	for _, x := range []struct {
		name, path, etag string
		body             string
		ranged           bool
	}{
		{"with a validator", "/x.ndjson", `"one"`, text, true},
		{"a weak validator", "/x.ndjson", `W/"one"`, text, false},
		{"packed", "/x.ndjson.gz", `"one"`, packed(t, text), true},
	} {
		t.Run(x.name, func(t *testing.T) {
			var breaks, ranges atomic.Int32
			url, reached := files(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					ranges.Add(1)
					if r.Header.Get("If-Range") != `"one"` {
						t.Errorf("If-Range: %q", r.Header.Get("If-Range"))
					}
				}
				if breaks.Add(1) <= 3 {
					w = &breaking{ResponseWriter: w, left: len(x.body) / 3}
				}
				serve(x.body, x.etag)(w, r)
			})
			h := newHouse(t, reached)
			p := h.exchange()
			id, err := h.Accept(context.Background(), h.Grant(p), intake.Request{Inputs: []intake.Input{{Type: "Observation", URL: url + x.path}}})
			if err != nil {
				t.Fatal(err)
			}
			for range 30 {
				if busy, _ := h.Step(context.Background()); !busy {
					h.Clock.Add(6000)
				}
			}
			if got := h.counted(p, id); !strings.HasPrefix(got, "1200 new, 0 changed, 0 same, 0 refused") {
				t.Errorf("%s", got)
			}
			if (ranges.Load() > 0) != x.ranged {
				t.Errorf("%d ranges", ranges.Load())
			}
			if got := h.status(p, id).Progress; !strings.HasPrefix(got, "1200 of 1200") {
				t.Error(got)
			}
		})
	}
}

// breaking breaks a connection off after some bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		_, _ = b.ResponseWriter.Write(p[:b.left])
		_ = http.NewResponseController(b.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	b.left -= len(p)
	return b.ResponseWriter.Write(p)
}

// What is wrong with one file is in the report, and the others go in.
func TestFilesThatCannotBeFetched(t *testing.T) {
	asked := 0
	url, reached := files(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			http.NotFound(w, r)
		case "/away":
			http.Redirect(w, r, "/fine", http.StatusFound)
		case "/down":
			asked++
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/bad.gz":
			_, _ = w.Write([]byte("no gzip"))
		case "/long":
			_, _ = w.Write([]byte(observation("long", "") + "\n" + strings.Repeat(" ", 1<<20)))
		case "/fine":
			_, _ = w.Write([]byte(observation("fine", "") + "\n" + `{"resourceType":"Patient","id":"other-type"}`))
		}
	})
	h := newHouse(t, reached, func(c *intake.Config) { c.Longest = 1 << 20 })
	p := h.exchange()
	r := intake.Request{Source: "https://elsewhere.example"}
	for _, path := range []string{"/gone", "/away", "/down", "/bad.gz", "/long", "/fine"} {
		r.Inputs = append(r.Inputs, intake.Input{Type: "Observation", URL: url + path + "?sig=SECRETwombat"})
	}
	id, err := h.Accept(context.Background(), h.Grant(p), r)
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		if busy, _ := h.Step(context.Background()); !busy {
			h.Clock.Add(6000)
		}
	}
	if got := h.counted(p, id); !strings.HasPrefix(got, "1 new, 0 changed, 0 same, 1 refused") {
		t.Errorf("%s", got)
	}
	text := h.report(p, id)
	for _, want := range []string{
		"input 1 (Observation), the whole of it", "status 404", "status 302", "could not be fetched", "not gzip", "longer than this server takes", "not of the type that the manifest gives",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(text, "SECRET") || asked != 8 {
		t.Errorf("asked %d times: %s", asked, text)
	}
	if got := h.SQL("SELECT body->'meta'->>'source' FROM record.resource WHERE id = 'fine'"); got != "https://elsewhere.example" {
		t.Errorf("meta.source is %q", got)
	}
	// An address that may not be reached is refused at once, and one that leads to such an address later.
	for _, bad := range []string{"https://evil.example/x", "file:///etc/passwd", "http://169.254.169.254/latest/meta-data", strings.Replace(url, "127.0.0.1", "10.0.0.1", 1)} {
		if _, err := h.Accept(context.Background(), h.Grant(p), intake.Request{Inputs: []intake.Input{{Type: "Observation", URL: bad}}}); status(err) != 400 {
			t.Errorf("%s: %v", bad, err)
		}
	}
	reachedIt := false
	private := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reachedIt = true }))
	defer private.Close()
	roots := x509.NewCertPool()
	roots.AddCert(private.Certificate())
	cfg := h.cfg
	if cfg.Egress, err = egress.New(egress.Config{Hosts: []string{strings.TrimPrefix(private.URL, "https://")}, Roots: roots}); err != nil {
		t.Fatal(err)
	}
	strict, err := intake.NewService(cfg)
	if err != nil {
		t.Fatal(err)
	}
	id, err = strict.Accept(context.Background(), h.Grant(p), intake.Request{Inputs: []intake.Input{{Type: "Observation", URL: private.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if busy, _ := strict.Step(context.Background()); !busy {
			h.Clock.Add(6000)
		}
	}
	if got := h.report(p, id); !strings.Contains(got, "could not be fetched") || reachedIt {
		t.Errorf("a private address was reached: %v %s", reachedIt, got)
	}
}
