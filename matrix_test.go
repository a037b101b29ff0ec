package cloister_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/pdp"
)

// columns are the classes of labels that the matrix on the page shows; all classes are in authz/pdp/testdata/matrix.txt.
var columns = []struct {
	title string
	set   label.Set
}{
	{"no label", 0}, {"mental health", label.PSY}, {"SUD", label.SUD}, {"HIV and other", label.HIV}, {"minor consented", label.MinorConsented},
	{"part 2", label.Part2 | label.SUD}, {"part 2, minor", label.Part2 | label.MinorConsented},
	{"psychotherapy note", label.PsychNote}, {"counseling note", label.CounselingNote | label.Part2},
}

// matrix writes who may do what: rows that say the same are one.
func matrix(t *testing.T, b *bytes.Buffer) {
	t.Helper()
	p, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	type key struct{ purpose, action, types, cells string }
	var order []key
	roles := map[key][]string{}
	for _, r := range p.Rows() {
		types := r.Kind.Group
		if n := len(r.Kind.Types); n < 4 {
			var names []string
			for _, x := range r.Kind.Types {
				names = append(names, string(x))
			}
			types += ": " + strings.Join(names, ", ")
		} else {
			types += fmt.Sprintf(": %s and %d more", r.Kind.Types[0], n-1)
		}
		var cells []string
		for _, c := range columns {
			cells = append(cells, pdp.Needs(r.Needs[c.set]))
		}
		k := key{r.Purpose, string(r.Action), types, strings.ReplaceAll(strings.Join(cells, " | "), "deny", "·")}
		if roles[k] == nil {
			order = append(order, k)
		}
		roles[k] = append(roles[k], r.Role)
	}
	if len(order) < 20 {
		t.Fatalf("%d rows: the matrix looks in the wrong place", len(order))
	}
	// Rows that differ in the action alone are one, and then those that differ in types alone.
	type row struct{ roles, purpose, actions, types, cells string }
	var rows []row
	join := func(rs []row, same func(a, b row) bool, add func(a *row, b row)) []row {
		var out []row
		for _, r := range rs {
			if i := slices.IndexFunc(out, func(o row) bool { return same(o, r) }); i >= 0 {
				add(&out[i], r)
			} else {
				out = append(out, r)
			}
		}
		return out
	}
	for _, k := range order {
		rows = append(rows, row{strings.Join(roles[k], ", "), k.purpose, k.action, k.types, k.cells})
	}
	rows = join(rows, func(a, b row) bool {
		return a.roles == b.roles && a.purpose == b.purpose && a.types == b.types && a.cells == b.cells
	},
		func(a *row, b row) { a.actions += ", " + b.actions })
	rows = join(rows, func(a, b row) bool {
		return a.roles == b.roles && a.purpose == b.purpose && a.actions == b.actions && a.cells == b.cells
	},
		func(a *row, b row) { a.types += "; " + b.types })
	b.WriteString("## Who may do what\n\nThe policy of the house, for callers with one role. A cell names the facts that must hold between caller and record " +
		"([segmentation](segmentation.md#facts)): `-` is none, `·` is denied whatever holds. What no row names is denied. " +
		"Every cell, with all label classes, is in [matrix.txt](../authz/pdp/testdata/matrix.txt).\n\n| roles | purpose | action | types |")
	for _, c := range columns {
		b.WriteString(" " + c.title + " |")
	}
	b.WriteString("\n|" + strings.Repeat(" --- |", 4+len(columns)) + "\n")
	for _, r := range rows {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", r.roles, r.purpose, r.actions, r.types, r.cells)
	}
	b.WriteString("\n")
}
