package postgres

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// A search for ranges or texts can be answered in two ways: from their index,
// and then sorted; or in the order of the page, row by row, until it is full. The
// first is slow where much matches, the second where little does, and by orders
// of magnitude. The planner cannot tell: it knows how values are spread over all
// parameters, not over one. So the statement finds out by itself: its guard
// collects visible matches up to a limit, and what follows goes one way or the other.

// guardLimit is up to where matches are collected and sorted.
var guardLimit = 2000 // tests go without

// table is the index table that answers c, where it is one and c goes by values alone.
func (c *term) table(t fhir.ResourceType) string {
	if c.Op != search.Match || c.Not || len(c.Any) == 0 || c.Param == "_id" || c.Param == "_lastUpdated" || c.clinical(t) {
		return ""
	}
	name := indexTable(c.Type, c.Any[0].Part)
	for _, v := range c.Any {
		if indexTable(c.Type, v.Part) != name {
			return ""
		}
	}
	return name
}

// byHash says that c is answered by an index on hashes.
func (c *term) byHash(t fhir.ResourceType) bool {
	if c.Not || len(c.Any) == 0 && len(c.hops) == 0 {
		return false
	}
	switch c.Op {
	case search.Match:
		return c.Param == "_id" || c.Param != "_lastUpdated" && c.Type != search.Date && c.table(t) == ""
	case search.Chain, search.Has:
		return !slices.ContainsFunc(c.hops, func(h *hop) bool { return !h.known })
	default:
		return false
	}
}

// source is FROM and WHERE for the visible resources in alias for which the
// criteria hold. Without a hash to go by it starts from index rows, and goes to
// their resources one by one, for it ends after a few; a resource that has
// several comes several times.
func (k *compiler) source(alias, schema string, t fhir.ResourceType, list []*term) string {
	from, rest := schema+".resource "+alias, list
	if !slices.ContainsFunc(list, func(c *term) bool { return c.byHash(t) }) {
		if n := slices.IndexFunc(list, func(c *term) bool { return c.table(t) != "" }); n >= 0 {
			c := list[n]
			scans := k.alternatives(c.table(t), c)
			for i, scan := range scans {
				scans[i] = "(SELECT i.pk " + k.indexed(schema, c.table(t), t, c.Param) + " AND " + scan + " OFFSET 0)"
			}
			from = "(" + strings.Join(scans, " UNION ALL ") + ") AS f" +
				" CROSS JOIN LATERAL (SELECT " + alias + ".* FROM " + from + " WHERE " + alias + ".pk = f.pk OFFSET 0) AS " + alias
			rest = slices.Delete(slices.Clone(list), n, n+1)
		}
	}
	w := windowOf(t, list)
	live := k.live
	if w.from.IsZero() && w.to.IsZero() && slices.ContainsFunc(list, func(c *term) bool { return c.byHash(t) }) {
		live = k.beside
	}
	return from + " WHERE " + live(alias, t) + k.where(alias, schema, t, rest)
}

// guarded says that a search of l, in an order that a column gives, needs a guard.
func (l leg) guarded(window bool) bool {
	w := windowOf(l.t, l.where)
	if narrow(l.where) {
		return false
	}
	return window && (!w.from.IsZero() || !w.to.IsZero()) || slices.ContainsFunc(l.where, func(c *term) bool { return c.table(l.t) != "" })
}

// guard finds the matches of l in schema, up to the limit.
func (k *compiler) guard(schema string, l leg) string {
	return "SELECT r.pk FROM " + k.source("r", schema, l.t, l.where) + " LIMIT " + strconv.Itoa(guardLimit+1)
}

// few and many are the two ways that a guard leaves open.
func few(name string) string {
	return " AND (SELECT count(*) FROM " + name + ") <= " + strconv.Itoa(guardLimit) + " AND r.pk = ANY (ARRAY(SELECT pk FROM " + name + "))"
}

func many(name string) string {
	return " AND (SELECT count(*) FROM " + name + ") > " + strconv.Itoa(guardLimit)
}
