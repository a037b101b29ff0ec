package intake

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// The bounds of one unit of lines, and of one line.
const (
	UnitLines = 500
	UnitBytes = 8 << 20
	MaxLine   = 16 << 20
)

// Unit is a piece of an input, one transaction's worth.
type Unit struct {
	Name  string // of the input, for the report
	Body  []byte
	First int // the number of its first line; 0: it is a Bundle or a single resource
	Lines int // how many it has
}

// Lines cuts NDJSON into units. Its memory is that of one unit and one line.
type Lines struct {
	raw  int64
	in   *bufio.Reader
	next int
	max  int // bytes of a line
	end  bool
}

// NewLines reads lines; one that is longer than so many bytes becomes a fault in its place.
func NewLines(r io.Reader, longest int) *Lines {
	return &Lines{in: bufio.NewReaderSize(r, 64<<10), next: 1, max: longest}
}

// Read is how many bytes the units so far are of.
func (l *Lines) Read() int64 { return l.raw }

// tooLong stands in a unit for a line that is. It is no JSON, whoever writes it.
const tooLong = "\x00too long\n"

// Next gives the next unit, or io.EOF.
func (l *Lines) Next() (Unit, error) {
	u := Unit{First: l.next}
	var b bytes.Buffer
	for !l.end && u.Lines < UnitLines && b.Len() < UnitBytes {
		n, err := l.line(&b)
		if err != nil && !errors.Is(err, io.EOF) {
			return u, err
		}
		l.end = err != nil
		if n > 0 {
			u.Lines++
		}
	}
	if u.Lines == 0 {
		return u, io.EOF
	}
	l.next += u.Lines
	u.Body = bytes.Clone(b.Bytes())
	return u, nil
}

// line adds a line, and says how long it was.
func (l *Lines) line(b *bytes.Buffer) (n int, err error) {
	start := b.Len()
	for {
		piece, err := l.in.ReadSlice('\n')
		n += len(piece)
		l.raw += int64(len(piece))
		if n <= l.max {
			b.Write(piece)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case n > l.max:
			b.Truncate(start)
			b.WriteString(tooLong)
		}
		return n, err //nolint:wrapcheck // whoever opened it says what it is
	}
}

// Parse reads the candidates of a unit; those that do not read are refused.
func (u *Unit) Parse() []*Candidate {
	limits := codec.Limits{Bytes: max(len(u.Body), 1)}
	if u.First > 0 {
		return u.lines(limits)
	}
	one := &Candidate{Place: "file", unit: u}
	r, faults, err := codec.ParseBatch(u.Body, limits)
	if err != nil {
		one.refuse(err)
		return []*Candidate{one}
	}
	one.Resource = r
	if r.Type != "Bundle" {
		return []*Candidate{one}
	}
	switch r.BundleType() {
	case "transaction", "batch", "collection", "searchset":
	default:
		return []*Candidate{one} // a document or a message is a resource of its own
	}
	var out []*Candidate
	for i, e := range r.Entries() {
		c := &Candidate{Place: fmt.Sprintf("entry %d", i), FullURL: e.FullURL, Resource: e.Resource, unit: u}
		if f := faults[i]; f != nil {
			c.refuse(f)
		} else if e.Resource == nil {
			c.refuse(outcome.New(outcome.Invalid, "the entry has no resource: leave it out"))
		}
		out = append(out, c)
	}
	return out
}

func (u *Unit) lines(limits codec.Limits) (out []*Candidate) {
	for i, line := range bytes.Split(u.Body, []byte("\n")) {
		c := &Candidate{Place: fmt.Sprintf("line %d", u.First+i), Line: u.First + i, unit: u}
		if string(line)+"\n" == tooLong {
			c.refuse(outcome.New(outcome.TooLong, fmt.Sprintf("the line is longer than %d MiB: put attachments elsewhere, and refer to them", MaxLine>>20)))
			out = append(out, c)
			continue
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var err error
		if c.Resource, err = codec.ParseLimited(line, limits); err != nil {
			c.refuse(err)
			c.Ref = claimed(line, limits)
		}
		out = append(out, c)
	}
	return out
}

// claimed is what a resource that does not pass the check says that it is.
func claimed(line []byte, l codec.Limits) fhir.Ref {
	root, err := codec.ReadJSON(line, l)
	if err != nil {
		return fhir.Ref{}
	}
	ref := fhir.Ref{Type: fhir.ResourceType(root.Get("resourceType").String()), ID: fhir.ID(root.Get("id").String())}
	if !ref.Type.Valid() || !ref.ID.Valid() {
		return fhir.Ref{}
	}
	return ref
}
