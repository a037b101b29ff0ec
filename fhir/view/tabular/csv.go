package tabular

import (
	"encoding/csv"
	"io"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/view"
)

// csvFile is CSV by RFC 4180: a line of names first, lines ended by CR LF. An empty field is a value that is
// not there: FHIR has no empty strings.
type csvFile struct {
	w      *csv.Writer
	fields []string
}

func newCSV(w io.Writer, v *view.View) (Writer, error) {
	columns := v.Columns()
	c := &csvFile{w: csv.NewWriter(w), fields: make([]string, len(columns))}
	c.w.UseCRLF = true
	for i, x := range columns {
		if x.Collection {
			return nil, outcome.New(outcome.NotSupported, "column "+x.Name+" is a collection, which CSV does not have; join() it, or write Parquet")
		}
		c.fields[i] = x.Name
	}
	return c, c.w.Write(c.fields)
}

func (c *csvFile) Write(r view.Row) error {
	for i, x := range r {
		c.fields[i] = ""
		if len(x) > 0 {
			c.fields[i] = x[0]
		}
	}
	return c.w.Write(c.fields)
}

func (c *csvFile) Close() error {
	c.w.Flush()
	return c.w.Error()
}
