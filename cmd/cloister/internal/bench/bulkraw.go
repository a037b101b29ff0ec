package bench

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cloister-health/cloister/fhir"
)

// What somebody would write by hand who asks nobody: one statement, in the order in which an export goes.
const rawBulkSQL = `SELECT type, body FROM record.resource WHERE tenant = $1 AND shadow = 0 AND NOT deleted ORDER BY type, id`

// raw writes the bodies of all rows of the practice as compressed lines, one file for each type.
func (x *desk) raw(ctx context.Context) (b Bulk, err error) {
	b = Bulk{Name: rawBulk, Side: sideRaw}
	rows, err := x.stage.raw.searches.Query(ctx, rawBulkSQL, x.tenant)
	if err != nil {
		return b, fmt.Errorf("bench: %w", err)
	}
	defer rows.Close()
	dir, err := os.MkdirTemp(x.dir, "raw-")
	if err != nil {
		return b, fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var to *lines
	defer func() { err = errors.Join(err, to.close()) }()
	last := int16(0)
	for rows.Next() {
		var t int16
		var body []byte // pgx asks for jsonb as text
		if err := rows.Scan(&t, &body); err != nil {
			return b, fmt.Errorf("bench: %w", err)
		}
		if to == nil || t != last {
			if err := to.close(); err != nil {
				return b, err
			}
			if to, err = create(filepath.Join(dir, string(fhir.TypeOf(t))+".ndjson.gz")); err != nil {
				return b, err
			}
			last = t
		}
		if err := to.put(body); err != nil {
			return b, err
		}
		b.Resources++
		b.Bytes += int64(len(body)) + 1
	}
	return b, rows.Err()
}

// lines is a file of compressed lines.
type lines struct {
	f   *os.File
	zip *gzip.Writer
}

func create(path string) (*lines, error) {
	f, err := os.Create(path) //nolint:gosec // below our own directory
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return &lines{f, gzip.NewWriter(f)}, nil
}

func (l *lines) put(body []byte) error {
	if _, err := l.zip.Write(append(body, '\n')); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// close makes the file durable, as the sink of exports does.
func (l *lines) close() error {
	if l == nil {
		return nil
	}
	return errors.Join(l.zip.Close(), l.f.Sync(), l.f.Close())
}
