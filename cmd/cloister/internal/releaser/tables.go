package releaser

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/view"
	"github.com/cloister-health/cloister/fhir/view/tabular"
)

// Content says what of a release is written.
type Content struct {
	Resources bool         // a file of NDJSON for each type
	Views     []*view.View // a table each, in each of the formats; their names are the names of the files
	Formats   []tabular.Format
}

// table is a view in the making: one file for each format.
type table struct {
	*deident.Table
	files []tableFile
}

type tableFile struct {
	tabular.Writer
	file   *file
	format tabular.Format
}

// open begins the tables of a type.
func (d *Directory) open(t fhir.ResourceType) (out []*table, err error) {
	for _, v := range d.content.Views {
		if v.Resource() != t {
			continue
		}
		x := &table{}
		x.Table = deident.NewTable(v, x)
		out = append(out, x)
		for _, f := range d.content.Formats {
			to, err := d.create(v.Name() + f.Extension)
			if err != nil {
				return out, err
			}
			w, err := f.New(to.to, v)
			if err != nil {
				return out, errors.Join(named(v, err), to.Close())
			}
			x.files = append(x.files, tableFile{w, to, f})
		}
	}
	return out, nil
}

func named(v *view.View, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("view %s: %w", v.Name(), err)
}

// Write implements [deident.Rows].
func (x *table) Write(r view.Row) error {
	for _, f := range x.files {
		if err := f.Write(r); err != nil {
			return err //nolint:wrapcheck // whoever put the resource says which view
		}
	}
	return nil
}

// put makes the rows of one resource.
func (x *table) put(of *deident.Release, r deident.Deidentified) error {
	// What one resource costs is bounded, and whoever makes the release looks for an end between pages.
	return named(x.View(), of.Tabulate(context.Background(), r, x.Table))
}

// end makes the files durable and says what is in them.
func (x *table) end() (out []tableOutput, err error) {
	for _, f := range x.files {
		err = errors.Join(err, f.Writer.Close(), f.file.Close())
		v := x.View()
		out = append(out, tableOutput{View: v.Name(), URL: v.URL(), Resource: v.Resource(), File: v.Name() + f.format.Extension, Format: f.format.Name, Rows: x.Count()})
	}
	return out, named(x.View(), err)
}

// tableOutput is what the manifest says of a table.
type tableOutput struct {
	View     string            `json:"view"`
	URL      string            `json:"url,omitempty"`
	Resource fhir.ResourceType `json:"resource"`
	File     string            `json:"file"`
	Format   string            `json:"format"`
	Rows     int               `json:"rows"`
}

// empty writes the tables of types of which there is nothing: they have columns and no rows.
func (d *Directory) empty() error {
	for _, v := range d.content.Views {
		if slices.ContainsFunc(d.tables, func(t tableOutput) bool { return t.View == v.Name() }) {
			continue
		}
		list, err := d.open(v.Resource())
		err = errors.Join(err, d.end(list))
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Directory) end(list []*table) error {
	var errs []error
	for _, x := range list {
		out, err := x.end()
		errs = append(errs, err)
		d.tables = append(d.tables, out...)
	}
	slices.SortFunc(d.tables, func(a, b tableOutput) int { return cmp.Compare(a.File, b.File) })
	return errors.Join(errs...)
}
