package deident

import (
	"context"
	"errors"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/view"
)

// Rows takes the rows of a table.
type Rows interface{ Write(r view.Row) error }

// Table makes rows of a release by a view. Its resources come in the order of their ids in the release, which
// is that of no other release and says nothing of the store; in another order they are not taken.
type Table struct {
	view *view.View
	to   Rows
	last fhir.ID
	rows int
}

// NewTable makes an empty table. It serves one release, whose pieces it takes one after the other.
func NewTable(v *view.View, to Rows) *Table { return &Table{view: v, to: to} }

// View is the view of the table.
func (t *Table) View() *view.View { return t.view }

// Count is how many rows there are.
func (t *Table) Count() int { return t.rows }

var errOrder = errors.New("deident: the rows of a table are not in the order of the release")

// Tabulate makes the rows of one resource in each of the tables that are of its type. Nothing that is not
// de-identified comes into a table this way, and nothing of another release than r.
func (r *Release) Tabulate(ctx context.Context, d Deidentified, tables ...*Table) error {
	if d.body == nil || d.of != r {
		return errForeign
	}
	var root *element.Node
	for _, t := range tables {
		if t.view.Resource() != d.ref.Type {
			continue
		}
		if t.last >= d.ref.ID {
			return errOrder
		}
		if root == nil {
			var err error
			if root, err = codec.ReadJSON(d.body(), codec.Limits{}); err != nil {
				return err
			}
		}
		t.last = d.ref.ID
		if err := t.view.Rows(ctx, root, func(row view.Row) error {
			t.rows++
			return t.to.Write(row)
		}); err != nil {
			return err
		}
	}
	return nil
}
