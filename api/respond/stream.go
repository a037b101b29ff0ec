package respond

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// NDJSON answers with released resources, one on each line (Bulk Data Access, "Bulk Data
// Output File Request"), or with the range of their bytes that is asked for.
func NDJSON(s record.Stream) Response { return File(s, "application/fhir+ndjson") }

// File answers like [NDJSON] with a file of another media type.
func File(s record.Stream, mediaType string) Response { return lines{s, mediaType} }

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

type lines struct {
	s         record.Stream
	mediaType string
}

func (x lines) build(m *message, rq *Request) error {
	if !x.s.HeldBy(rq.Grant) {
		return errHeld
	}
	m.status, m.contentType, m.stream, m.size = http.StatusOK, x.mediaType, x.s.Copy, x.s.Size()
	m.noticed, m.explained = x.s.Noticed(), true // by a file of its own
	if m.size < 0 {
		return nil
	}
	m.etag = `"` + x.s.Tag() + `"`
	// A range of what the client has no part of is all of it.
	if rq.Range == "" || rq.IfRange != "" && rq.IfRange != m.etag {
		return nil
	}
	from, to, ok := byteRange(rq.Range, m.size)
	switch {
	case !ok:
	case from >= to:
		m.reset()
		m.status, m.outcome, m.contentRange = http.StatusRequestedRangeNotSatisfiable, true, "bytes */"+strconv.FormatInt(x.s.Size(), 10)
		m.body = outcome.Resource([]outcome.Issue{{Category: outcome.Invalid, Text: "the file has no byte of that range: ask for its beginning"}}).AppendJSON(m.body)
	default:
		m.status, m.contentRange = http.StatusPartialContent, fmt.Sprintf("bytes %d-%d/%d", from, to-1, m.size)
		m.stream, m.size = func(w io.Writer) error { return x.s.CopyRange(w, from, to) }, to-from
	}
	return nil
}

// byteRange reads a Range of one range of bytes; from is not below to where there are no
// such bytes. What is not well-formed, of other units, or of several ranges is ignored
// (RFC 9110, section 14.2).
func byteRange(field string, size int64) (from, to int64, ok bool) {
	set, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(field)), "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(set), "-")
	if !ok || !dash {
		return 0, 0, false
	}
	a, beginning := offset(first)
	b, end := offset(last)
	switch {
	case first == "" && end: // the last bytes
		return max(size-b, 0), size, true
	case !beginning || last != "" && (!end || b < a):
		return 0, 0, false
	case end:
		return a, min(b, size-1) + 1, true
	}
	return a, size, true
}

// offset reads digits; a number that is too large is beyond every file.
func offset(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64 - 1
	}
	return n, true
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

// zipped reports whether the body is compressed: a range is one of the bytes as they are.
func (s *spout) zipped() bool { return s.head.Gzip && s.m.contentRange == "" }

const spoutSize = 64 << 10

func (s *spout) fill() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("respond: panic (%T) while writing a stream", p) // the value may hold content
		}
	}()
	to := bufio.NewWriterSize(s, spoutSize)
	if s.zipped() {
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
	h["Accept-Ranges"] = []string{"bytes"}
	h["Vary"] = []string{"Accept, Accept-Encoding, Authorization, Origin"}
	switch {
	case s.zipped():
		// Its bytes are others, of which no range can be asked for.
		h["Content-Encoding"], h["Accept-Ranges"] = []string{"gzip"}, []string{"none"}
		if tag, ok := strings.CutSuffix(s.m.etag, `"`); ok {
			h["Etag"] = []string{tag + `-gzip"`}
		}
	case s.m.size < 0:
		h["Accept-Ranges"] = []string{"none"}
	default:
		h["Content-Length"] = []string{strconv.FormatInt(s.m.size, 10)}
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
