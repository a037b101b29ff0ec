// Package view makes tables of resources by a ViewDefinition of SQL on FHIR v2.
//
// A ViewDefinition is read strictly: what it has and we do not know would make another table
// than its author meant. Expressions run in our FHIRPath (fhir/fhirpath) with the additional
// functions of the specification. What one resource may cost is bounded, and an
// error says which column fails and never what the resource holds.
package view

import (
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// View is a ViewDefinition that was read. It is safe for concurrent use.
type View struct {
	url, name, title, description string
	versions                      []string
	resource                      fhir.ResourceType
	columns                       []Column
	where                         []expression
	root                          *selection
	constants                     map[string][]fhirpath.Value
}

// Column is one column of the table.
type Column struct {
	Name        string
	Type        string // the FHIR primitive type of its values; "string" where the view does not say
	Collection  bool   // a value is a list
	Description string
	stated      bool // the view says the type
}

// Row is one row: for each column the literals of its values as FHIR writes them. A column without a value
// is empty (SQL NULL); one that is no collection has one at most. A Row is good until the next one is made.
type Row [][]string

// selection is one select structure.
type selection struct {
	path    string // of the structure in the view, for errors
	columns []cell
	first   int // of its columns in the row, those of all structures below included
	end     int
	each    *expression  // forEach or forEachOrNull
	repeat  []expression // applied again to what they find
	orNull  bool
	selects []*selection
	unions  []*selection
}

// cell is how a column is filled.
type cell struct {
	expression
	at    int  // in the row
	index bool // it is %rowIndex itself
}

type expression struct {
	*fhirpath.Expression
	path   string // in the view, for errors
	counts bool   // it uses %rowIndex
}

// Limits of what a view may be.
const (
	maxBytes   = 1 << 20
	maxColumns = 1000
	maxNesting = 16
)

// Parse reads the JSON of a ViewDefinition. The error is an *outcome.Error with the path of the fault.
func Parse(text []byte) (*View, error) {
	root, err := codec.ReadJSON(text, codec.Limits{Bytes: maxBytes})
	if err != nil {
		return nil, err
	}
	return New(root)
}

// Name is the name of the view as a table, "" where it has none.
func (v *View) Name() string { return v.name }

// URL is its canonical URL, "" where it has none.
func (v *View) URL() string { return v.url }

// Title is for people.
func (v *View) Title() string { return v.title }

// Description is for people.
func (v *View) Description() string { return v.description }

// Resource is the type of the resources that it is of.
func (v *View) Resource() fhir.ResourceType { return v.resource }

// Columns are its columns in their order.
func (v *View) Columns() []Column { return append([]Column(nil), v.columns...) }

// Shareable says what the view lacks to be a ShareableViewDefinition: url, name, the version of FHIR, and
// the type of each column.
func (v *View) Shareable() error {
	var lacks []string
	for _, x := range []struct {
		name string
		has  bool
	}{{"url", v.url != ""}, {"name", v.name != ""}, {"fhirVersion", len(v.versions) > 0}} {
		if !x.has {
			lacks = append(lacks, x.name)
		}
	}
	for _, c := range v.columns {
		if !c.stated {
			lacks = append(lacks, "the type of column "+c.Name)
		}
	}
	if lacks == nil {
		return nil
	}
	return outcome.At(outcome.Required, "ViewDefinition", "to be shareable it needs "+strings.Join(lacks, ", "))
}
