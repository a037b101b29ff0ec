package respond

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// A stream that was not let out to this very request is not sent.
func TestStreamsOfNobodyAreNotSent(t *testing.T) {
	w := httptest.NewRecorder()
	sent := Send(w, &Head{}, &Request{}, NDJSON(record.Stream{}), nil)
	if w.Code != http.StatusInternalServerError || !errors.Is(sent.Err, errHeld) || sent.Broken {
		t.Errorf("%d %v", w.Code, sent.Err)
	}
}

func TestStreamsFailBeforeAndAfterTheirFirstByte(t *testing.T) {
	for _, c := range []struct {
		before int
		err    error
		gzip   bool
		status int
		broken bool
	}{
		{0, nil, false, 200, false}, {0, nil, true, 200, false}, {1 << 20, nil, false, 200, false},
		{0, outcome.New(outcome.Forbidden, ""), false, 403, false}, {0, outcome.New(outcome.Forbidden, ""), true, 403, false},
		{10, errors.New("secret"), false, 500, false}, {1 << 20, errors.New("secret"), false, 200, true},
	} {
		m := blank()
		m.status, m.contentType = http.StatusOK, "application/fhir+ndjson"
		m.stream = func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("x", c.before))
			return errors.Join(err, c.err)
		}
		w := httptest.NewRecorder()
		sent := m.pour(w, &Head{Gzip: c.gzip})
		if w.Code != c.status || sent.Status != c.status || sent.Broken != c.broken || (sent.Err != nil) != (c.err != nil) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%+v: %d %+v", c, w.Code, sent)
		}
		if zipped := w.Header().Get("Content-Encoding") != ""; zipped != (c.gzip && c.status == 200) {
			t.Errorf("%+v: %v", c, w.Header())
		}
	}
	m := blank()
	m.status, m.stream = http.StatusOK, func(io.Writer) error { panic("secret") }
	w := httptest.NewRecorder()
	if sent := m.pour(w, &Head{}); w.Code != http.StatusInternalServerError || strings.Contains(fmt.Sprint(sent.Err), "secret") {
		t.Errorf("a panic: %d %v", w.Code, sent.Err)
	}
}

func TestZipped(t *testing.T) {
	for field, want := range map[string]bool{"gzip": true, "deflate, gzip;q=0.2": true, "x-gzip": true, "gzip;q=0": false, "br": false, "": false, "gzip;q=x": false} {
		if Zipped([]string{field}) != want {
			t.Errorf("%q", field)
		}
	}
}
