package search

import (
	"net/url"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Constraint is a condition that the tokens of a resource answer alone, without
// any other row and any other column: of each list, one is among its
// [Index.Tokens]. nil always holds. Nobody changes one once it is read.
type Constraint [][]int64

// Holds reports whether a resource with these tokens, sorted as in [Index], meets c.
func (c Constraint) Holds(tokens []int64) bool {
	for _, list := range c {
		if !slices.ContainsFunc(list, func(h int64) bool { _, ok := slices.BinarySearch(tokens, h); return ok }) {
			return false
		}
	}
	return true
}

// Constrain reads search parameters of R4 as a Constraint on resources of type
// t: all of them must hold, of each one of its comma-separated values, as in a
// search. It takes tokens and uris as they are, and what is made of nothing
// else. Chains, _has, modifiers and what every resource has (_id, _security,
// _lastUpdated ...) are refused, and so are dates, texts, numbers and
// references, which no token answers.
func Constrain(t fhir.ResourceType, q url.Values) (Constraint, error) {
	if len(q) == 0 {
		return nil, errUnconstrained
	}
	for name := range q {
		if name == "" || name[0] == '_' || strings.ContainsAny(name, ".:") {
			return nil, errUnconstrained
		}
	}
	query, _, err := Parse(t, q, Options{})
	if err != nil {
		return nil, err
	}
	var out Constraint
	for _, c := range query.Legs[0].Where {
		hashes, ok := c.hashes(nil)
		if !ok || len(hashes) == 0 {
			return nil, errUnconstrained
		}
		slices.Sort(hashes)
		out = append(out, slices.Compact(hashes))
	}
	if len(out) == 0 {
		return nil, errUnconstrained
	}
	return out, nil
}

var errUnconstrained = outcome.New(outcome.Invalid, "these parameters constrain no resource: a constraint takes tokens and uris, without chains and modifiers")

// hashes appends the tokens of which c asks for one, if it asks for nothing else.
func (c Criterion) hashes(to []int64) ([]int64, bool) {
	switch {
	case c.Not:
		return to, false
	case c.Op == Either:
		for _, g := range c.Groups {
			var ok bool
			if len(g) != 1 {
				return to, false
			}
			if to, ok = g[0].hashes(to); !ok {
				return to, false
			}
		}
		return to, true
	case c.Op != Match || c.Type != Token && c.Type != URI && c.Type != Composite:
		return to, false
	}
	for _, v := range c.Any {
		if v.Part != 0 {
			return to, false
		}
		to = append(to, v.Hash)
	}
	return to, true
}
