// Package releaser writes a de-identified release to a directory: files of NDJSON for resource types, tables of views, and a manifest.
package releaser

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// Directory is an [export.Destination]. What is in it is of one release, whole, once Finish has returned without an error.
type Directory struct {
	root    *os.Root
	report  *os.File
	content Content
	files   []string // that were written
	tables  []tableOutput
}

const manifestFile = "manifest.json"

// Create makes the directory, or takes an empty one, and begins the report, which is a new file outside of it.
func Create(dir, report string, c Content) (_ *Directory, err error) {
	inside, err := below(dir, report)
	if err != nil {
		return nil, err
	}
	if inside {
		return nil, fmt.Errorf("the report %s is no part of the release: put it somewhere else than %s", report, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err //nolint:wrapcheck // it names the path
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the path
	}
	defer func() {
		if err != nil {
			_ = root.Close() // nothing was written
		}
	}()
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the path
	}
	if len(list) > 0 {
		return nil, fmt.Errorf("%s is not empty: name another directory for the release", dir)
	}
	f, err := os.OpenFile(report, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("--report: %w", err)
	}
	return &Directory{root: root, report: f, content: c}, nil
}

// below reports whether a path lies in a directory.
func below(dir, path string) (bool, error) {
	d, err := filepath.Abs(dir)
	if err != nil {
		return false, err //nolint:wrapcheck // it says what
	}
	p, err := filepath.Abs(path)
	if err != nil {
		return false, err //nolint:wrapcheck // it says what
	}
	rel, err := filepath.Rel(d, p)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)), nil
}

// Open implements [export.Destination]: it begins TYPE.ndjson and the tables of the type.
func (d *Directory) Open(t fhir.ResourceType) (export.Writer, error) {
	k := &kind{d: d}
	var err error
	if d.content.Resources {
		if k.lines, err = d.create(string(t) + ".ndjson"); err != nil {
			return nil, err
		}
	}
	if k.tables, err = d.open(t); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// kind is what is written of one resource type.
type kind struct {
	d      *Directory
	lines  *file // nil: none
	tables []*table
}

// Put implements [export.Writer].
func (k *kind) Put(of *deident.Release, r deident.Deidentified) error {
	if k.lines != nil {
		if err := of.NDJSON(k.lines.to).Put(r); err != nil {
			return err //nolint:wrapcheck // it says what
		}
	}
	for _, t := range k.tables {
		if err := t.put(of, r); err != nil {
			return err
		}
	}
	return nil
}

// Close makes the files durable.
func (k *kind) Close() error {
	err := k.d.end(k.tables)
	if k.lines != nil {
		err = errors.Join(err, k.lines.Close())
	}
	return err
}

func (d *Directory) create(name string) (*file, error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the path
	}
	d.files = append(d.files, name)
	return &file{f, bufio.NewWriterSize(f, 1<<20)}, nil
}

// file is one file of the release.
type file struct {
	*os.File
	to *bufio.Writer
}

// Close makes the file durable.
func (f *file) Close() error { return errors.Join(f.to.Flush(), f.Sync(), f.File.Close()) }

// Reset implements [export.Destination].
func (d *Directory) Reset() error {
	var errs []error
	for _, name := range d.files {
		errs = append(errs, d.root.Remove(name))
	}
	d.files, d.tables = nil, nil
	return errors.Join(errs...)
}

// manifest says what is in a release.
type manifest struct {
	Transaction string        `json:"transactionTime"`
	Profile     string        `json:"profile"`
	Canonical   string        `json:"canonical"`
	Citation    string        `json:"citation"`
	Basis       string        `json:"basis,omitempty"` // the agreement or the determination
	Suppressed  *suppressed   `json:"suppressed,omitempty"`
	Output      []output      `json:"output"`
	Tables      []tableOutput `json:"tables,omitempty"`
}

// suppressed is what a determination held back, as the manifest of an export has it.
type suppressed struct {
	Groups      int            `json:"groups"`
	Smallest    int            `json:"smallestGroup"`
	Generalised string         `json:"patientsGeneralised"`
	Patients    string         `json:"patientsLeftOut"`
	Codes       map[string]int `json:"codesLeftOut"`
}

type output struct {
	Type  fhir.ResourceType `json:"type"`
	File  string            `json:"file"`
	Count int               `json:"count"`
}

// Finish writes the manifest and the report.
func (d *Directory) Finish(made export.Made) error {
	m := manifest{
		Transaction: made.Transaction.UTC().Format("2006-01-02T15:04:05.000Z"), Profile: made.Profile, Canonical: made.Canonical, Citation: made.Citation, Output: []output{},
	}
	if made.Reference.ID != "" {
		m.Basis = made.Reference.String()
	}
	if h := made.Held; h != nil {
		m.Suppressed = &suppressed{h.Groups, h.Smallest, h.Generalised, h.Suppressed, h.Codes}
	}
	if err := d.empty(); err != nil {
		return err
	}
	m.Tables = d.tables
	for _, t := range slices.Sorted(maps.Keys(made.Lines)) {
		if !d.content.Resources {
			break
		}
		m.Output = append(m.Output, output{t, string(t) + ".ndjson", made.Lines[t]})
	}
	f, err := d.create(manifestFile)
	if err != nil {
		return err
	}
	if err := errors.Join(pretty(f.to, m), f.Close()); err != nil {
		return err
	}
	return errors.Join(pretty(d.report, made.Report), d.report.Sync())
}

func pretty(w interface{ Write([]byte) (int, error) }, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v) //nolint:wrapcheck // it is ours
}

// Close closes the directory and the report.
func (d *Directory) Close() error { return errors.Join(d.root.Close(), d.report.Close()) }
