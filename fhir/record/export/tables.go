package export

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/search"
	"github.com/cloister-health/cloister/fhir/view"
	"github.com/cloister-health/cloister/fhir/view/clinical"
	"github.com/cloister-health/cloister/fhir/view/tabular"
)

// A release can be tables in place of resources: the rows that the ready-made views make of them. It is made like any
// other, of the same resources and in the same order, but each turn writes the rows of several pages as one file a view,
// which is whole in itself.

var (
	errTables   = outcome.New(outcome.Invalid, "tables are of de-identified releases: name one by _profile, or ask for NDJSON. A table of what identifies would have neither labels nor what a consent obliges its recipient to")
	errFormat   = outcome.New(outcome.Invalid, "_outputFormat is application/fhir+ndjson, and text/csv or application/vnd.apache.parquet for tables of a de-identified release")
	errViewless = outcome.New(outcome.Invalid, "there is no view of a type that _type names; there are views of "+join(viewed()))
	// errView says that a view does not hold what the records say, however often it is tried.
	errView = errors.New("export: a view does not hold what is in the records")
)

// viewed are the types of which there are views.
func viewed() (out []fhir.ResourceType) {
	seen := map[fhir.ResourceType]bool{}
	for _, v := range clinical.Views() {
		if t := v.Resource(); !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

// viewsOf are the views of a type.
func viewsOf(t fhir.ResourceType) (out []*view.View) {
	for _, v := range clinical.Views() {
		if v.Resource() == t {
			out = append(out, v)
		}
	}
	return out
}

// tabled refuses what a release in the format that it asks for has nothing of.
func (r *Request) tabled() error {
	if r.Format == "" {
		return nil
	}
	f, ok := tabular.FormatNamed(r.Format)
	if !ok {
		return errFormat
	}
	some := false
	for _, t := range r.Types {
		for _, v := range viewsOf(t) {
			if err := f.Holds(v); err != nil {
				return err
			}
			some = true
		}
	}
	if !some {
		return errViewless
	}
	return nil
}

// tables writes the rows of the next pages of a type. Who makes the release is asked anew for each page.
func (w *work) tables(ctx context.Context, m *maker, at Position, t fhir.ResourceType) (next Position, worked bool, err error) {
	format, ok := tabular.FormatNamed(w.c.Request.Format)
	if !ok {
		return at, false, errFormat
	}
	var list []*table
	defer func() {
		for _, x := range list {
			x.abandon()
		}
	}()
	var after fhir.ID
	if at.After != nil {
		after = at.After.ID
	}
	for _, v := range viewsOf(t) {
		x := &table{w: w, ctx: ctx, format: format}
		x.rows = deident.NewTable(v, x)
		list = append(list, x)
		if after != "" {
			continue
		}
		// A view has a file also where there is no row of it: its columns.
		if err := x.begin(); err != nil {
			return at, false, err
		}
		worked = true
	}
	began := w.s.Now()
	for n := 1; ; n++ {
		page, err := m.write(ctx, t, after)
		if err != nil {
			return at, false, err
		}
		for _, d := range page.made {
			for _, x := range list {
				if err := x.put(page.of, d); err != nil {
					return at, false, err
				}
			}
		}
		worked = worked || len(page.made) > 0 || page.next != ""
		// A turn ends long before its lease.
		if after = page.next; after == "" || n >= w.s.Pages || w.s.Now().Sub(began) > lease/4 {
			break
		}
		if m, err = w.maker(ctx, m.k); err != nil {
			return at, false, err
		}
	}
	for _, x := range list {
		if err := x.end(); err != nil {
			return at, false, err
		}
	}
	if after == "" {
		return Position{Step: at.Step + 1}, worked, nil
	}
	return Position{Step: at.Step, After: &search.Cursor{Type: t, ID: after}}, worked, nil
}

// table is what a turn writes of one view.
type table struct {
	w      *work
	ctx    context.Context //nolint:containedctx // a table lasts as long as one turn
	format tabular.Format
	rows   *deident.Table
	of     fhir.ID // the resource whose rows come
	o      *object // the file that they go to, nil as long as there is none
	to     tabular.Writer
}

// put makes the rows of one resource.
func (x *table) put(of *deident.Release, d deident.Deidentified) error {
	x.of = d.Ref().ID
	err := of.Tabulate(x.ctx, d, x.rows)
	if o := (*outcome.Error)(nil); errors.As(err, &o) && o.Status() == outcome.New(outcome.Unprocessable, "").Status() {
		return fmt.Errorf("%w: %s: %w", errView, x.rows.View().Name(), err)
	}
	return err //nolint:wrapcheck // it says what
}

// Write implements [deident.Rows]. No file has more rows than it may have lines.
func (x *table) Write(r view.Row) error {
	if x.o != nil && x.o.Lines >= x.w.s.Longest {
		if err := x.end(); err != nil {
			return err
		}
	}
	if x.o == nil {
		if err := x.begin(); err != nil {
			return err
		}
	}
	if err := x.to.Write(r); err != nil {
		return err //nolint:wrapcheck // it says which column, or that the object is not written
	}
	x.o.Lines++
	if n := len(x.o.IDs); n == 0 || x.o.IDs[n-1] != x.of {
		x.o.IDs, x.o.Versions, x.o.Rows = append(x.o.IDs, x.of), append(x.o.Versions, 0), append(x.o.Rows, 0)
	}
	return nil
}

// begin begins a file.
func (x *table) begin() (err error) {
	v := x.rows.View()
	if x.o, err = x.w.create(x.ctx, Part{Kind: Output, Type: v.Resource(), View: v.Name(), Format: x.format.Name}); err != nil {
		return err
	}
	x.to, err = x.format.New(x.o, v)
	return err //nolint:wrapcheck // it says which column, or that the object is not written
}

// end ends the file, if there is one.
func (x *table) end() error {
	if x.o == nil {
		return nil
	}
	o := x.o
	x.o = nil
	defer o.abandon()
	if err := x.to.Close(); err != nil {
		return err //nolint:wrapcheck // the object is not written
	}
	return x.w.done(o)
}

func (x *table) abandon() {
	if x.o != nil {
		x.o.abandon()
	}
}

// Write writes what is no lines.
func (o *object) Write(p []byte) (int, error) {
	_, _ = o.sum.Write(p) // never fails (hash.Hash)
	n, err := o.zip.Write(p)
	o.Bytes += int64(n)
	if err != nil {
		return n, fmt.Errorf("export: %w", err)
	}
	return n, nil
}

const extension = ".ndjson"

// fileName is the name of the file that a part is of, below the URL of the job.
func (p *Part) fileName() string {
	e := extension
	if f, ok := tabular.FormatNamed(p.Format); ok {
		e = f.Extension
	}
	return strconv.Itoa(p.File) + e
}

// MediaType is that of a file by its name.
func MediaType(name string) string {
	for _, f := range tabular.Formats() {
		if len(name) > len(f.Extension) && name[len(name)-len(f.Extension):] == f.Extension {
			return f.MediaType
		}
	}
	return "application/fhir+ndjson"
}

// Table is what a manifest tells of a file of rows.
type Table struct {
	View      string // its name
	Canonical string
	Format    string // csv or parquet
}

// table is what a manifest tells of a part, nil where that is lines of resources.
func (p *Part) table() *Table {
	if p.View == "" {
		return nil
	}
	t := &Table{View: p.View, Format: p.Format}
	if v, ok := clinical.Named(p.View); ok {
		t.Canonical = v.URL()
	}
	return t
}
