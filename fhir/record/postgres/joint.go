package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// A compartment has members of dozens of types, and a statement with a SELECT
// for each takes longer to plan than to run. Legs that ask for the same resource
// at the other end of a reference, and else for the same, are one SELECT: the
// index on references finds the rows of all of them at once.

// jointLeast is how many legs are worth one SELECT for all of them.
var jointLeast = 2 // tests go without

// joint splits legs into those that are one SELECT and the rest. Only the order
// by _lastUpdated, a column that all types have, lets several types be one.
func (p place) joint(legs []leg) (groups [][]leg, rest []leg) {
	if len(p.by.keys) != 1 || p.by.keys[0].Param != "_lastUpdated" {
		return nil, legs
	}
	at := map[string]int{}
	for _, l := range legs {
		like, ok := l.like()
		if !ok {
			rest = append(rest, l)
			continue
		}
		i, known := at[like]
		if !known {
			i = len(groups)
			at[like] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], l)
	}
	groups = slices.DeleteFunc(groups, func(g []leg) bool {
		if len(g) < jointLeast {
			rest = append(rest, g...)
		}
		return len(g) < jointLeast
	})
	return groups, rest
}

// link is the criterion by which the rows of a leg are found: a reference to one patient or encounter.
func (l leg) link() int {
	return slices.IndexFunc(l.where, func(c *term) bool {
		return c.Op == search.Match && c.narrow() && len(c.Any) == 1
	})
}

// patient is the one by whom the rows of a leg are found, or "".
func (l leg) patient() fhir.ID {
	if n := l.link(); n >= 0 && l.where[n].Any[0].Target.Type == "Patient" {
		return l.where[n].Any[0].Target.ID
	}
	return ""
}

// like is what a leg has in common with those that can be one SELECT with it.
func (l leg) like() (string, bool) {
	n := l.link()
	if n < 0 {
		return "", false
	}
	var b strings.Builder
	fmt.Fprint(&b, l.where[n].Any[0].Hash)
	for i, c := range l.where {
		switch {
		case i == n:
		case c.Op == search.Match && (c.Param == "_lastUpdated" || c.clinical(l.t)):
			fmt.Fprint(&b, " ", c.clinical(l.t), c.Not)
			for _, v := range c.Any {
				fmt.Fprint(&b, " ", v.Prefix, v.Lo, v.Hi)
			}
		default:
			return "", false
		}
	}
	return b.String(), true
}

// together is the SELECT of several legs in one schema; "" where the caller reaches none of them.
func (w *pageWriter) together(legs []leg, schema string) string {
	k, p := w.k, w.p
	legs = slices.DeleteFunc(slices.Clone(legs), func(l leg) bool {
		return !slices.Contains(schemas(w.f.reach.Of(l.t)), schema)
	})
	if len(legs) == 0 {
		return ""
	}
	rs := make([]authz.Restriction, len(legs))
	var all []int64
	var order []string
	types, refs := map[string][]int16{}, map[string][]int64{}
	for i, l := range legs {
		rs[i] = w.f.reach.Of(l.t)
		hs := sorted(k.references(l.t, l.where[l.link()]))
		all = append(all, hs...)
		s := intArray(hs)
		if refs[s] == nil {
			order = append(order, s)
			refs[s] = hs
		}
		types[s] = append(types[s], l.t.Code())
	}
	x := restrict(k.q, rs[0])
	x.patient, x.besides = legs[0].patient(), rs
	where := " WHERE NOT r.deleted AND " + x.visible("r", rs) + " AND r.refs && " + k.hashes(sorted(all))
	if len(order) > 1 {
		where += " AND " + either(len(order), func(i int) string {
			codes := types[order[i]]
			return "(r.type + 0 = ANY (" + k.q.named("types "+intArray(codes), func() any { return codes }) + "::smallint[]::integer[]) AND arrayoverlap(r.refs, " + k.hashes(refs[order[i]]) + "))"
		})
	}
	first := legs[0]
	n := first.link()
	k.rechecked = true
	where += k.criteria("r", schema, first.t, slices.Delete(slices.Clone(first.where), n, n+1))
	k.rechecked = false

	selected := x.hitColumns("r", needed(rs...))
	if w.links {
		selected += linkColumns("r")
	}
	beyond := ""
	if p.at != nil {
		op := " > "
		if p.tie() {
			op = " < "
		}
		if p.inclusive {
			op = strings.TrimSuffix(op, " ") + "= "
		}
		row, its := "", ""
		if p.at.Row != 0 {
			row, its = ", r.pk", ", "+k.q.named("place row", func() any { return p.at.Row })
		}
		beyond = " WHERE (r.updated, r.type, r.id" + row + ")" + op + "(" +
			k.q.named("place 0", func() any { return p.values[0] }) + "::timestamptz, " +
			k.q.named("place type", func() any { return p.at.Type.Code() }) + "::smallint, " +
			k.q.named("place id", func() any { return string(p.at.ID) }) + its + ")"
	}
	return "(SELECT " + selected + ", r.updated AS k0 FROM " + found(schema+".resource r", where, "") + beyond + p.clause([]string{"r.updated"}, "r.type", "r.id", 0) + " LIMIT " + w.limit + ")"
}
