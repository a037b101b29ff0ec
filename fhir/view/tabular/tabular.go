// Package tabular writes the rows of a view as files: CSV and Apache Parquet.
//
// Rows go out as they come. What a writer keeps is bounded whatever the number of rows, and
// nothing is put on disk beside the file.
package tabular

import (
	"io"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/view"
)

// Writer writes one table. Close ends the file, and not what it was written to.
type Writer interface {
	Write(r view.Row) error
	Close() error
}

// Format is a kind of file.
type Format struct {
	Name      string
	Extension string
	MediaType string
	open      func(w io.Writer, v *view.View) (Writer, error)
}

// Formats lists the kinds of files.
func Formats() []Format {
	return []Format{
		{"csv", ".csv", "text/csv; charset=utf-8; header=present", newCSV}, // RFC 4180
		{"parquet", ".parquet", "application/vnd.apache.parquet", newParquet},
	}
}

// FormatNamed finds a kind by its name.
func FormatNamed(name string) (Format, bool) {
	for _, f := range Formats() {
		if f.Name == name {
			return f, true
		}
	}
	return Format{}, false
}

// New begins a file with the columns of v. The error is an *outcome.Error if the format cannot hold them.
func (f Format) New(w io.Writer, v *view.View) (Writer, error) { return f.open(w, v) }

// out says that a value does not go with what its column is in the file. What it is, it does not say.
func out(column string) error {
	return outcome.New(outcome.Unprocessable, "column "+column+" gets a value that does not fit its type")
}

// Holds says why a file of the format cannot have the columns of v. The error is an *outcome.Error.
func (f Format) Holds(v *view.View) error {
	_, err := f.New(io.Discard, v)
	return err
}
