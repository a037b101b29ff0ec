package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// composite compiles a composite: the paths are those of its elements, and more
// has the components in order, each with its paths below an element.
func (d *definitions) composite(base string, p searchParameter, r *row) error {
	if len(p.Component) != 2 {
		return fmt.Errorf("a composite of %d parts", len(p.Component))
	}
	elements, err := d.elementsOf(base, p.Expression)
	if err != nil {
		return err
	}
	var paths []string
	for _, e := range elements {
		paths = append(paths, strings.Join(e.steps, ".")+":Element")
	}
	defs := make([]searchParameter, 0, len(p.Component))
	for _, c := range p.Component {
		i := slices.IndexFunc(d.params, func(x searchParameter) bool { return x.URL == c.Definition })
		if i < 0 {
			return fmt.Errorf("component %s has no definition", c.Definition)
		}
		defs = append(defs, d.params[i])
	}
	var selected [][]selection
	for _, c := range p.Component {
		var all []selection
		for _, alternative := range split(c.Expression, '|') {
			// All elements of one composite have the same components.
			next, err := d.walk([]selection{{at: elements[0].at}}, split(strings.TrimSpace(alternative), '.'))
			if err != nil {
				return err
			}
			all = append(all, next...)
		}
		selected = append(selected, all)
	}
	parts, err := components(defs, selected)
	if err != nil {
		// R4 has the definitions of DocumentReference.relationship the wrong way around.
		slices.Reverse(defs)
		var other error
		if parts, other = components(defs, selected); other != nil {
			return err
		}
	}
	if !strings.Contains(parts[0], " token ") {
		return errors.New("a composite that does not begin with a token")
	}
	r.paths, r.more = strings.Join(paths, "|"), strings.Join(parts, ";")
	return nil
}

// components spells the parts of a composite, each by its definition.
func components(defs []searchParameter, selected [][]selection) ([]string, error) {
	var parts []string
	for i, def := range defs {
		_, text, err := indexed(def.Type, selected[i])
		if err != nil {
			return nil, err
		}
		parts = append(parts, strings.Join([]string{def.Code, def.Type, text}, " "))
	}
	return parts, nil
}

// elementsOf resolves the expression of a composite; the resource itself is the
// selection without steps.
func (d *definitions) elementsOf(base, expression string) ([]selection, error) {
	var out []selection
	for _, alternative := range split(expression, '|') {
		if alternative = strings.TrimSpace(alternative); alternative == base {
			out = append(out, selection{at: base})
			continue
		}
		next, err := d.alternative(base, alternative)
		if err != nil {
			return nil, err
		}
		out = append(out, next...)
	}
	if len(out) == 0 {
		return nil, errors.New("expression selects nothing of this base")
	}
	return out, nil
}

// markUnions finds the parameters that are two others together, as R4 has them
// for observations and their components, so that their values need no place in
// the index.
func markUnions(rows []row) {
	find := func(code string) (row, bool) {
		i := slices.IndexFunc(rows, func(r row) bool { return r.code == code })
		if i < 0 {
			return row{}, false
		}
		return rows[i], true
	}
	alternatives := func(paths ...string) []string {
		var out []string
		for _, p := range paths {
			out = append(out, strings.Split(p, "|")...)
		}
		slices.Sort(out)
		return out
	}
	for i, r := range rows {
		rest, ok := strings.CutPrefix(r.code, "combo-")
		if !ok || strings.HasPrefix(r.paths, "!") {
			continue
		}
		a, okA := find(rest)
		b, okB := find("component-" + rest)
		if okA && okB && slices.Equal(alternatives(r.paths), alternatives(a.paths, b.paths)) {
			rows[i].more = strings.TrimPrefix(rows[i].more+";", ";") + "union " + a.code + " " + b.code
		}
	}
}

// clinicalDates are the codes of date parameters that say when what a resource
// tells of was so, the better ones first.
var clinicalDates = []string{
	"date", "onset-date", "authoredon", "authored-on", "authored", "effective", "effective-time", "occurrence", "birthdate",
	"recorded", "sent", "start-date", "started", "start", "collected", "whenhandedover", "identified", "issued", "created", "period",
	"timestamp", "datetime", "datewritten",
}

// markClinicalDate marks the best date parameter of which a resource has at
// most one value.
func markClinicalDate(rows []row) {
	for _, code := range clinicalDates {
		i := slices.IndexFunc(rows, func(r row) bool { return r.code == code })
		if i >= 0 && rows[i].typ == "date" && rows[i].single {
			rows[i].more = "clinical"
			return
		}
	}
}
