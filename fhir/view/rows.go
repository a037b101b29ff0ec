package view

import (
	"context"
	"errors"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// What one resource may cost.
const (
	maxRows  = 100_000
	maxSteps = 10_000_000 // of FHIRPath
)

// Rows makes the rows of one resource and gives each to emit. Of a resource of another type, or one that a
// where leaves out, there is none. The error is one of emit or of ctx, or an *outcome.Error with the path of the
// expression that failed.
func (v *View) Rows(ctx context.Context, resource *element.Node, emit func(Row) error) error {
	if resource.Get("resourceType").String() != string(v.resource) {
		return nil
	}
	focus, ok := fhirpath.Resource(resource)
	if !ok {
		return nil
	}
	steps := maxSteps
	r := &run{ctx: ctx, view: v, resource: resource, row: make(Row, len(v.columns)), emit: emit, steps: &steps}
	for _, w := range v.where {
		keep, err := r.holds(w, focus)
		if err != nil || !keep {
			return err
		}
	}
	return r.selection(v.root, focus, 0, r.done)
}

// run makes the rows of one resource, one at a time: each structure fills its columns and goes on to
// the next, so that no product of them is ever kept.
type run struct {
	ctx      context.Context //nolint:containedctx // a run lasts as long as one call
	view     *View
	resource *element.Node
	row      Row
	rows     int
	emit     func(Row) error
	steps    *int
}

func (r *run) done() error {
	if r.rows++; r.rows > maxRows {
		return outcome.At(outcome.TooCostly, "ViewDefinition", "one resource gives more rows than a view may make of it")
	}
	return r.emit(r.row)
}

func (r *run) eval(e expression, focus fhirpath.Value, index int) ([]fhirpath.Value, error) {
	if *r.steps <= 0 {
		return nil, outcome.At(outcome.TooCostly, "ViewDefinition", "the view takes too much work for one resource")
	}
	variables := r.view.constants
	if e.counts {
		variables = make(map[string][]fhirpath.Value, len(r.view.constants)+1)
		for name, v := range r.view.constants {
			variables[name] = v
		}
		variables[rowIndex] = []fhirpath.Value{fhirpath.Int(index)}
	}
	out, err := e.Eval(r.ctx, focus, fhirpath.Options{Resource: r.resource, Variables: variables,
		Limits: fhirpath.Limits{Steps: *r.steps, Items: maxRows, Spent: r.steps}})
	switch {
	case err == nil:
		return out, nil
	case r.ctx.Err() != nil:
		return nil, r.ctx.Err()
	case errors.Is(err, fhirpath.ErrSteps) || errors.Is(err, fhirpath.ErrItems) || errors.Is(err, fhirpath.ErrText):
		return nil, outcome.At(outcome.TooCostly, e.path, err.Error())
	}
	return nil, outcome.At(outcome.Unprocessable, e.path, err.Error())
}

// holds evaluates a where, which has to be true or false.
func (r *run) holds(e expression, focus fhirpath.Value) (bool, error) {
	out, err := r.eval(e, focus, 0)
	switch {
	case err != nil:
		return false, err
	case len(out) == 0:
		return false, nil
	case len(out) > 1 || out[0].Kind() != fhirpath.Boolean:
		return false, outcome.At(outcome.Unprocessable, e.path, "the condition is not a Boolean; exists() and comparisons give one")
	}
	return out[0].Text() == "true", nil
}

// selection makes the rows of s for what its forEach finds at focus, and goes on to next with each.
func (r *run) selection(s *selection, focus fhirpath.Value, index int, next func() error) error {
	foci, err := r.foci(s, focus, index)
	if err != nil {
		return err
	}
	if foci == nil && s.each == nil && s.repeat == nil {
		return r.one(s, focus, index, next)
	}
	for i, f := range foci {
		if err := r.one(s, f, i, next); err != nil {
			return err
		}
	}
	if len(foci) > 0 || !s.orNull {
		return nil
	}
	for i := s.first; i < s.end; i++ {
		r.row[i] = nil
	}
	for _, c := range s.columns {
		if c.index {
			r.row[c.at] = []string{"0"}
		}
	}
	return next()
}

func (r *run) foci(s *selection, focus fhirpath.Value, index int) ([]fhirpath.Value, error) {
	if s.each != nil {
		return r.eval(*s.each, focus, index)
	}
	var out []fhirpath.Value
	for _, e := range s.repeat {
		if err := r.again(s, e, focus, index, &out, 0); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// again finds what e finds at focus, and below each of that whatever the expressions of the repeat find,
// parents first.
func (r *run) again(s *selection, e expression, focus fhirpath.Value, index int, out *[]fhirpath.Value, depth int) error {
	found, err := r.eval(e, focus, index)
	if err != nil {
		return err
	}
	for _, f := range found {
		if len(*out) >= maxRows || depth > codecDepth {
			return outcome.At(outcome.TooCostly, e.path, "the repetition finds too much")
		}
		*out = append(*out, f)
		for _, below := range s.repeat {
			if err := r.again(s, below, f, index, out, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// codecDepth is as deep as a resource can be nested; what repeats deeper does not go down.
const codecDepth = 64

func (r *run) one(s *selection, focus fhirpath.Value, index int, next func() error) error {
	for i := range s.columns {
		if err := r.fill(&s.columns[i], focus, index); err != nil {
			return err
		}
	}
	return r.below(s, 0, focus, index, next)
}

// below goes through the selects of s, then its unionAll, then on to next.
func (r *run) below(s *selection, i int, focus fhirpath.Value, index int, next func() error) error {
	switch {
	case i < len(s.selects):
		return r.selection(s.selects[i], focus, index, func() error { return r.below(s, i+1, focus, index, next) })
	case len(s.unions) == 0:
		return next()
	}
	for _, u := range s.unions {
		if err := r.selection(u, focus, index, next); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) fill(c *cell, focus fhirpath.Value, index int) error {
	out, err := r.eval(c.expression, focus, index)
	if err != nil {
		return err
	}
	column := r.view.columns[c.at]
	var values []string
	for _, v := range out {
		if v.Kind() != fhirpath.Complex && !v.HasValue() { // extensions alone
			continue
		}
		if v.Kind() == fhirpath.Complex || v.Kind() == fhirpath.Quantity {
			return outcome.At(outcome.Unprocessable, c.path, "column "+column.Name+" gets a value that is not of a primitive type")
		}
		if !column.fits(v) {
			return outcome.At(outcome.Unprocessable, c.path, "column "+column.Name+" gets a value that is no "+column.Type)
		}
		values = append(values, v.Text())
	}
	if len(values) > 1 && !column.Collection {
		return outcome.At(outcome.Unprocessable, c.path,
			"column "+column.Name+" gets several values and is no collection; say so, or take first() of them")
	}
	r.row[c.at] = values
	return nil
}
