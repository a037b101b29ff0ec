package respond

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"net/http"

	"github.com/cloister-health/cloister/fhir/record"
)

// NDJSON answers with released resources, one on each line (Bulk Data Access 2.0, "Bulk
// Data Output File Request"). It is written as it is read: its length is not known, and a
// part of it cannot be asked for.
func NDJSON(s record.Stream) Response { return lines{s} }

// Collection answers with a Bundle of what is de-identified.
func Collection(s record.Stream) Response { return collection{s} }

type collection struct{ s record.Stream }

func (x collection) build(m *message, rq *Request) error {
	if !x.s.HeldBy(rq.Grant) {
		return errHeld
	}
	m.status, m.contentType, m.stream = http.StatusOK, "application/fhir+json; charset=utf-8", x.s.Copy
	m.explained = true // nothing of it is a patient's any more
	return nil
}

type lines struct{ s record.Stream }

func (x lines) build(m *message, rq *Request) error {
	if !x.s.HeldBy(rq.Grant) {
		return errHeld
	}
	m.status, m.contentType, m.stream = http.StatusOK, "application/fhir+ndjson", x.s.Copy
	m.noticed, m.explained = x.s.Noticed(), true // by a file of its own
	return nil
}

// pour writes a stream. What fails before the first byte is an error like any other.
func (m *message) pour(w http.ResponseWriter, head *Head) Sent {
	out := &spout{m: m, w: w, head: head}
	if head.NoBody {
		out.begin()
		return Sent{Status: m.status}
	}
	err := out.fill()
	switch {
	case err == nil:
		return Sent{Status: m.status, Bytes: out.n}
	case out.begun:
		return Sent{Status: m.status, Bytes: out.n, Err: err, Broken: true}
	}
	m.reset()
	m.fail(err)
	m.flush(w, head)
	return Sent{Status: m.status, Bytes: len(m.body), Err: err}
}

// spout is the body of a stream; its first byte sends the header.
type spout struct {
	m     *message
	w     http.ResponseWriter
	head  *Head
	begun bool
	n     int
}

const spoutSize = 64 << 10

func (s *spout) fill() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("respond: panic (%T) while writing a stream", p) // the value may hold content
		}
	}()
	to := bufio.NewWriterSize(s, spoutSize)
	if s.head.Gzip {
		zip := gzip.NewWriter(to)
		if err = s.m.stream(zip); err == nil {
			err = zip.Close()
		}
	} else {
		err = s.m.stream(to)
	}
	if err == nil {
		err = to.Flush()
	}
	if err == nil && !s.begun {
		s.begin()
	}
	return err
}

func (s *spout) begin() {
	s.begun = true
	h := s.w.Header()
	s.m.head(h, s.head)
	h["Content-Type"] = []string{s.m.contentType}
	h["Accept-Ranges"] = []string{"none"}
	h["Vary"] = []string{"Accept, Accept-Encoding, Authorization, Origin"}
	if s.head.Gzip {
		h["Content-Encoding"] = []string{"gzip"}
	}
	s.w.WriteHeader(s.m.status)
}

func (s *spout) Write(p []byte) (int, error) {
	if !s.begun {
		s.begin()
	}
	n, err := s.w.Write(p)
	s.n += n
	return n, err //nolint:wrapcheck // the client has gone
}
