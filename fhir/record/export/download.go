package export

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
)

// download is a file on its way out. Which of its lines the client may see is decided at
// its beginning: that is the representation, whose bytes, size and tag are the same as
// long as the same lines are left. It is decided once more just before each part, and
// where that comes out otherwise by then, the download ends.
type download struct {
	s *Service
	// keep says which lines of a part may be seen now, and gives their resources; none where it lets out none.
	keep func(context.Context, *Part) ([]bool, []record.Sealed, error)
	// disclose makes the record of those that go out durable; nil where that is recorded otherwise.
	disclose func(context.Context, []record.Sealed) error
	key      *envelope.StreamKey
	job      string
	parts    []Part // without what is known of their lines
	left     []left
	size     int64
	tag      string
}

// left is what is left of a part.
type left struct {
	lines []byte // one bit for each
	bytes int64
}

func (l left) has(line int) bool { return l.lines[line/8]&(1<<(line%8)) != 0 }

// decide says what is left of the file of that name now.
func (d *download) decide(ctx context.Context, name string) error {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "cloister export\n%s\n%s\n", d.job, name) // never fails (hash.Hash)
	for i := range d.parts {
		l, _, err := d.of(ctx, i)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(sum, "%d\n%x\n%x\n", d.parts[i].Number, d.parts[i].SHA256, l.lines)
		d.left, d.size = append(d.left, l), d.size+l.bytes
	}
	d.tag = hex.EncodeToString(sum.Sum(nil)[:16])
	return nil
}

// of says what is left of a part now.
func (d *download) of(ctx context.Context, i int) (left, []outgoing, error) {
	p := d.parts[i]
	if err := d.s.Jobs.Lines(ctx, d.job, &p); err != nil {
		return left{}, nil, err
	}
	keep, resources, err := d.keep(ctx, &p)
	if err != nil {
		return left{}, nil, err
	}
	if p.View != "" {
		if slices.Contains(keep, false) { // rows of several resources stand together
			return left{}, nil, errGone
		}
		return left{bytes: p.Bytes}, nil, nil
	}
	var lines []outgoing
	l := left{lines: make([]byte, (len(keep)+7)/8)}
	for n, yes := range keep {
		if yes {
			l.lines[n/8] |= 1 << (n % 8)
			from := l.bytes
			l.bytes += int64(p.Lengths[n])
			if len(lines) < len(resources) {
				lines = append(lines, outgoing{resources[len(lines)], from, l.bytes})
			}
		}
	}
	if len(lines) != len(resources) {
		return left{}, nil, errPart
	}
	return l, lines, nil
}

// outgoing is the resource of a line that is left, and its place in what is left of the part.
type outgoing struct {
	resource record.Sealed
	from, to int64
}

// among are those of which the bytes from the one offset and before the other have some.
func among(lines []outgoing, from, to int64) (out []record.Sealed) {
	for _, l := range lines {
		if l.from < to && from < l.to {
			out = append(out, l.resource)
		}
	}
	return out
}

var (
	errPart    = errors.New("export: a part is not what was written")
	errChanged = errors.New("export: what may be seen of a file changed while it was fetched")
)

// copy writes the bytes from the one offset and before the other of what is left.
func (d *download) copy(ctx context.Context, w io.Writer, from, to int64) error {
	at := int64(0)
	for i := range d.parts {
		begin, end := at, at+d.left[i].bytes
		at = end
		if end <= from || begin >= to {
			continue
		}
		now, lines, err := d.of(ctx, i)
		if err != nil {
			return err
		}
		if !bytes.Equal(now.lines, d.left[i].lines) {
			return errChanged
		}
		if going := among(lines, from-begin, to-begin); d.disclose != nil && len(going) > 0 {
			if err := d.disclose(ctx, going); err != nil {
				return err
			}
		}
		c := &cut{w: w, skip: max(from-begin, 0), left: min(end, to) - max(begin, from)}
		if err := d.part(ctx, c, i); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// cut passes on so many bytes behind those that it skips.
type cut struct {
	w          io.Writer
	skip, left int64
}

func (c *cut) Write(p []byte) (int, error) {
	n := len(p)
	if c.skip >= int64(len(p)) {
		c.skip -= int64(len(p))
		return n, nil
	}
	p = p[c.skip:]
	c.skip = 0
	p = p[:min(int64(len(p)), c.left)]
	c.left -= int64(len(p))
	if _, err := c.w.Write(p); err != nil {
		return 0, err //nolint:wrapcheck // the client has gone
	}
	return n, nil
}

// part copies the lines that are left of a part, however long they are.
func (d *download) part(ctx context.Context, w *cut, i int) error {
	p, l := &d.parts[i], d.left[i]
	from, err := d.s.Sink.Open(ctx, p.Name)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() { _ = from.Close() }() // it was read
	plain, err := d.key.Open(from, bound(d.job, p.Name))
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	zip, err := gzip.NewReader(plain)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if p.View != "" {
		if _, err := io.CopyN(w, zip, w.skip+w.left); errors.Is(err, io.EOF) {
			return errPart
		} else if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		return nil
	}
	in := bufio.NewReaderSize(zip, 64<<10)
	for n := 0; w.left > 0; {
		piece, err := in.ReadSlice('\n')
		if len(piece) > 0 {
			if n >= p.Lines {
				return errPart
			}
			if l.has(n) {
				if _, err := w.Write(piece); err != nil {
					return err
				}
			}
		}
		switch {
		case err == nil:
			n++
		case errors.Is(err, bufio.ErrBufferFull): // the line goes on
		case errors.Is(err, io.EOF):
			return errPart // w waits for more
		default:
			return fmt.Errorf("export: %w", err)
		}
	}
	return nil
}
