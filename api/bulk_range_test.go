package api

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/export"
)

// exported is the first file of an export that is done.
func exported(t *testing.T, c *clinic, s *export.Service, query string) string {
	t.Helper()
	w := ask(t, c, "GET", "/fhir/$export?"+query, "exchange", "", "Prefer", "respond-async")
	if w.Code != http.StatusAccepted {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	work(t, s)
	return below(t, w.Header().Get("Content-Location")) + "/1.ndjson"
}

// Ranges of a file (RFC 9110, section 14), and their conditions.
func TestBulkRanges(t *testing.T) {
	c, s := newBulk(t)
	file := exported(t, c, s, "_type=Patient")
	w := ask(t, c, "GET", file, "exchange", "")
	whole, tag := w.Body.String(), w.Header().Get("ETag")
	if n := strconv.Itoa(len(whole)); w.Header().Get("Accept-Ranges") != "bytes" || w.Header().Get("Content-Length") != n || len(tag) != 34 || tag[0] != '"' {
		t.Fatalf("%v", w.Header())
	}
	size := len(whole)
	for _, x := range []struct {
		field, condition string
		status           int
		from, to         int
	}{
		{"bytes=0-9", "", 206, 0, 10},
		{"bytes=0-0", "", 206, 0, 1},
		{"bytes=5-", "", 206, 5, size},
		{"bytes=-7", "", 206, size - 7, size},
		{"bytes=-99999", "", 206, 0, size},
		{fmt.Sprintf("bytes=%d-", size-1), "", 206, size - 1, size},
		{"bytes=3-99999999999999999999", "", 206, 3, size},
		{"bytes=3-9", tag, 206, 3, 10},
		{"bytes=3-9", `"another"`, 200, 0, size},
		{"bytes=3-9", "W/" + tag, 200, 0, size},
		{"bytes=3-9", "Sun, 01 Mar 2026 12:00:00 GMT", 200, 0, size},
		{fmt.Sprintf("bytes=%d-", size), "", 416, 0, 0},
		{"bytes=99999999999999999999-", "", 416, 0, 0},
		{"bytes=-0", "", 416, 0, 0},
		{"bytes=9-3", "", 200, 0, size},
		{"bytes=0-1,4-5", "", 200, 0, size},
		{"bytes=a-b", "", 200, 0, size},
		{"bytes=", "", 200, 0, size},
		{"bytes=-", "", 200, 0, size},
		{"lines=0-1", "", 200, 0, size},
	} {
		for _, zip := range []string{"identity", "gzip"} {
			h := []string{"Range", x.field, "Accept-Encoding", zip}
			if x.condition != "" {
				h = append(h, "If-Range", x.condition)
			}
			w := ask(t, c, "GET", file, "exchange", "", h...)
			if w.Code != x.status {
				t.Fatalf("%s %s: %d %v", x.field, x.condition, w.Code, w.Header())
			}
			switch zipped := w.Header().Get("Content-Encoding") == "gzip"; {
			case x.status == 416:
				if w.Header().Get("Content-Range") != fmt.Sprintf("bytes */%d", size) || !strings.Contains(w.Body.String(), "OperationOutcome") {
					t.Errorf("%s: %v %s", x.field, w.Header(), w.Body)
				}
			case x.status == 206:
				if zipped || w.Body.String() != whole[x.from:x.to] || w.Header().Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", x.from, x.to-1, size) || w.Header().Get("ETag") != tag {
					t.Errorf("%s: %v %q", x.field, w.Header(), w.Body)
				}
			case zipped != (zip == "gzip"):
				t.Errorf("%s, %s: %v", x.field, zip, w.Header())
			case zipped && (w.Header().Get("Accept-Ranges") != "none" || w.Header().Get("ETag") == tag):
				t.Errorf("%s: what is compressed looks as if it were not: %v", x.field, w.Header())
			case !zipped && w.Body.String() != whole:
				t.Errorf("%s: %q", x.field, w.Body)
			}
		}
	}
	if w := ask(t, c, "HEAD", file, "exchange", "", "Range", "bytes=0-1"); w.Code != 200 || w.Header().Get("Content-Length") != strconv.Itoa(size) || w.Header().Get("ETag") != tag {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}

	// Of a file of which a line may not be seen any more, a range is another one: it begins anew.
	c.exec(t, "DELETE FROM record.resource WHERE id = 'bert' AND type = (SELECT type FROM record.resource WHERE id = 'anna' LIMIT 1)")
	w = ask(t, c, "GET", file, "exchange", "", "Range", "bytes=10-", "If-Range", tag)
	if w.Code != 200 || w.Header().Get("ETag") == tag || strings.Contains(w.Body.String(), "Bert") || w.Body.Len() >= size || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// Connections that are cut off anywhere cost nothing but what was under way: the client
// goes on where it was, and has the same bytes in the end.
func TestBulkResumption(t *testing.T) {
	c, s := newBulk(t)
	for i := range 30 {
		c.create(t, "colleague", observation("Patient/bert", fmt.Sprintf(`,"note":[{"text":"%d %s"}]`, i, strings.Repeat("long ", 500+400*(i%7)))))
	}
	file := exported(t, c, s, "_type=Observation")
	want := ask(t, c, "GET", file, "exchange", "").Body.String()
	server := httptest.NewServer(c.Handler)
	defer server.Close()
	rounds, cuts := 10, 0
	for seed := range rounds {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		var got []byte
		tag := ""
		for attempt := 0; len(got) < len(want); attempt++ {
			if attempt > 200 {
				t.Fatal("it does not come to an end")
			}
			rq, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+file, nil)
			if err != nil {
				t.Fatal(err)
			}
			rq.Header.Set("Authorization", "Bearer exchange")
			rq.Header.Set("Accept-Encoding", "identity")
			if len(got) > 0 {
				rq.Header.Set("Range", fmt.Sprintf("bytes=%d-", len(got)))
				rq.Header.Set("If-Range", tag)
			}
			res, err := http.DefaultClient.Do(rq)
			if err != nil {
				t.Fatal(err)
			}
			if attempt == 0 != (res.StatusCode == http.StatusOK) || attempt > 0 != (res.StatusCode == http.StatusPartialContent) {
				t.Fatalf("attempt %d: %d %v", attempt, res.StatusCode, res.Header)
			}
			tag = res.Header.Get("ETag")
			piece, err := io.ReadAll(io.LimitReader(res.Body, 1+r.Int64N(int64(len(want)/3))))
			_ = res.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			got, cuts = append(got, piece...), cuts+1
		}
		if string(got) != want {
			t.Fatalf("seed %d: other bytes", seed)
		}
	}
	if cuts < 4*rounds {
		t.Errorf("%d connections for %d downloads", cuts, rounds)
	}
}
