package postgres

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// compiler writes one statement of a search: every table that it names, at
// whatever depth, goes under the caller's Restriction of the type that it looks
// for there.
type compiler struct {
	q     *statement
	reach authz.Reach
	depth int // of aliases
	// rechecked says that rows are found by something narrower than tokens;
	// rowwise, that they come in order, and index rows are asked of each.
	rechecked, rowwise bool
}

func compile(reach authz.Reach) *compiler { return &compiler{q: &statement{}, reach: reach} }

func (k *compiler) tenant() int32 { return k.reach.Grant().Caller().Tenant }

// alias is a name that no table of the statement has yet.
func (k *compiler) alias() string {
	k.depth++
	return "c" + strconv.Itoa(k.depth)
}

// live is the condition that a row of alias is of type t, current, and visible.
func (k *compiler) live(alias string, t fhir.ResourceType) string {
	return "NOT " + alias + ".deleted AND " + restrict(k.q, k.reach.Of(t)).where(alias)
}

// beside is live for rows that something else finds.
func (k *compiler) beside(alias string, t fhir.ResourceType) string {
	x := restrict(k.q, k.reach.Of(t))
	x.beside = true
	return "NOT " + alias + ".deleted AND " + x.where(alias)
}

// term is a criterion on its way into SQL.
type term struct {
	search.Criterion
	hops   []*hop
	groups [][]*term
	// links are the parameters by any of which a reference leads to what is
	// searched for; nil is Param.
	links []string
}

func terms(where []search.Criterion) []*term {
	out := make([]*term, len(where))
	for i, c := range where {
		x := &term{Criterion: c}
		for _, h := range c.Hops {
			x.hops = append(x.hops, &hop{Hop: h, where: terms(h.Where)})
		}
		for _, g := range c.Groups {
			x.groups = append(x.groups, terms(g))
		}
		x.merge()
		out[i] = x
	}
	return out
}

// merge makes one reference, by any of several parameters, of several
// references to the same resource: so a compartment is asked of the index at once.
func (c *term) merge() {
	if c.Op != search.Either {
		return
	}
	var links []string
	for _, g := range c.Groups {
		if len(g) != 1 || g[0].Op != search.Match || g[0].Type != search.Reference || g[0].Not || len(g[0].Any) != 1 || g[0].Any[0] != c.Groups[0][0].Any[0] {
			return
		}
		links = append(links, g[0].Param)
	}
	if links != nil {
		c.Op, c.Type, c.Any = search.Match, search.Reference, c.Groups[0][0].Any
		c.groups, c.links = nil, links
	}
}

// keys tell the references that c is about from others.
func (c *term) keys(t fhir.ResourceType) []int64 {
	if c.links == nil {
		return refKeys(t, c.Param)
	}
	var keys []int64
	for _, name := range c.links {
		keys = append(keys, refKeys(t, name)...)
	}
	return sorted(keys)
}

// references are what the column refs of a row of type t has if it refers to one of c's values.
func (k *compiler) references(t fhir.ResourceType, c *term) []int64 {
	keys := c.keys(t)
	hs := make([]int64, 0, len(c.Any)*len(keys))
	for _, v := range c.Any {
		for _, key := range keys {
			hs = append(hs, mix(k.tenant(), 0, v.Hash)^key)
		}
	}
	return hs
}

// value is an argument that a searched value gives.
func (k *compiler) value(v *search.Value, part string, of any) string {
	type name struct {
		v    *search.Value
		part string
	}
	return k.q.named(name{v, part}, func() any { return of })
}

// of is an argument that a criterion gives.
func (k *compiler) of(c *term, part string, v func() any) string {
	type name struct {
		c    *term
		part string
	}
	return k.q.named(name{c, part}, v)
}

// where is what the criteria ask of a row of alias in schema, each as a
// condition that begins with AND.
func (k *compiler) where(alias, schema string, t fhir.ResourceType, list []*term) string {
	return k.criteria(alias, schema, t, list) + k.bounds(alias, t, list)
}

func (k *compiler) criteria(alias, schema string, t fhir.ResourceType, list []*term) string {
	defer func(was bool) { k.rechecked = was }(k.rechecked)
	all := k.rechecked
	k.rechecked = all || narrow(list)
	var b strings.Builder
	var rare, tokens, refs []int64
	for _, c := range list {
		switch hash, one := c.hash(); {
		case one && (c.Type == search.Token || c.Type == search.URI || c.Type == search.Composite):
			h := mix(k.tenant(), t.Code(), hash)
			if all || !k.rechecked || !c.selective() {
				tokens = append(tokens, h)
			} else {
				rare = append(rare, h)
			}
		case one && c.Type == search.Reference && len(c.keys(t)) == 1:
			refs = append(refs, k.references(t, c)...)
		default:
			b.WriteString(" AND " + k.term(alias, schema, t, c))
		}
	}
	// One condition for all hashes is one scan of the index, which begins with the rarest of them.
	var found string
	if len(rare) > 0 {
		found += " AND " + alias + ".tokens @> " + k.hashes(rare)
	}
	if len(tokens) > 0 {
		found += " AND " + k.tokens(alias, "@>", k.hashes(tokens))
	}
	if len(refs) > 0 {
		found += " AND " + alias + ".refs @> " + k.hashes(refs)
	}
	return found + b.String()
}

// tokens compares the column with an array. Where rows are found by something
// narrower, the index on tokens is kept out of it: the planner does not know how
// long its lists are to read.
func (k *compiler) tokens(alias, op, array string) string {
	if !k.rechecked {
		return alias + ".tokens " + op + " " + array
	}
	return map[string]string{"@>": "arraycontains", "&&": "arrayoverlap"}[op] + "(" + alias + ".tokens, " + array + ")"
}

func narrow(list []*term) bool { return slices.ContainsFunc(list, (*term).narrow) }

// selective says that hardly two resources share a value of c's parameter.
func (c *term) selective() bool { return c.Param == "identifier" }

// narrow says that c leaves a few thousand rows at most, whatever the size of
// the practice: those of a patient, or of an encounter.
func (c *term) narrow() bool {
	few := func(t fhir.ResourceType) bool { return t == "Patient" || t == "Encounter" }
	switch {
	case c.Not:
		return false
	case c.Op == search.Match && c.Type == search.Reference:
		return len(c.Any) > 0 && len(c.Any) <= maxFew && !slices.ContainsFunc(c.Any, func(v search.Value) bool { return !few(v.Target.Type) })
	case c.Op == search.Chain:
		return len(c.hops) == 1 && c.hops[0].known && len(c.hops[0].found) <= maxFew && few(c.hops[0].Type)
	default:
		return false
	}
}

// maxFew is how many patients are still few.
const maxFew = 5

// hashes is an array argument, shared where the same array stands elsewhere in the statement.
func (k *compiler) hashes(list []int64) string {
	return k.q.named("hashes "+intArray(list), func() any { return list }) + "::bigint[]"
}

// hash is the only hash that c asks for, if it asks for nothing else.
func (c *term) hash() (int64, bool) {
	if c.Op != search.Match || c.Not || len(c.Any) != 1 || c.Param == "_id" || c.Any[0].Part != 0 {
		return 0, false
	}
	return c.Any[0].Hash, true
}

// term is the condition of one criterion.
func (k *compiler) term(alias, schema string, t fhir.ResourceType, c *term) string {
	if schema == "notes" && c.unread() {
		return "false"
	}
	s := k.holds(alias, schema, t, c)
	switch {
	case !c.Not:
		return s
	case strings.HasPrefix(s, "EXISTS "):
		return "NOT " + s
	default:
		return "(" + s + ") IS NOT TRUE"
	}
}

func (k *compiler) holds(alias, schema string, t fhir.ResourceType, c *term) string {
	switch c.Op {
	case search.Match:
		return k.match(alias, schema, t, c)
	case search.Present:
		return either(len(c.Paths), func(i int) string {
			return "jsonb_path_exists(" + alias + ".body, " + k.path(c.Paths[i]) + ", '{}', true)"
		})
	case search.Like:
		return either(len(c.Paths), func(i int) string {
			return "EXISTS (SELECT FROM jsonb_path_query(" + alias + ".body, " + k.path(c.Paths[i]) + ", '{}', true) AS j(v), LATERAL (SELECT j.v #>> '{}' AS s) AS t WHERE " +
				either(len(c.Any), func(j int) string { return k.like("t.s", &c.Any[j]) }) + ")"
		})
	case search.Words:
		return k.words(alias, c)
	case search.Chain:
		return either(len(c.hops), func(i int) string { return k.chain(alias, t, c, c.hops[i]) })
	case search.Has:
		return either(len(c.hops), func(i int) string { return k.has(alias, t, c.hops[i]) })
	case search.Either:
		return either(len(c.groups), func(i int) string { return "(true" + k.where(alias, schema, t, c.groups[i]) + ")" })
	default:
		return "false"
	}
}

// either joins n conditions; without any it is false.
func either(n int, each func(int) string) string {
	switch n {
	case 0:
		return "false"
	case 1:
		return each(0)
	}
	all := make([]string, n)
	for i := range all {
		all[i] = each(i)
	}
	return "(" + strings.Join(all, " OR ") + ")"
}

func (k *compiler) path(p string) string {
	return k.q.named("path "+p, func() any { return p }) + "::text::jsonpath"
}

func (k *compiler) match(alias, schema string, t fhir.ResourceType, c *term) string {
	switch {
	case len(c.Any) == 0:
		return "false"
	case c.Param == "_id":
		return alias + ".id = ANY (" + k.of(c, "ids", func() any {
			ids := make([]string, len(c.Any))
			for i, v := range c.Any {
				ids[i] = string(v.ID)
			}
			return ids
		}) + "::text[])"
	case c.Param == "_lastUpdated":
		return either(len(c.Any), func(i int) string { return k.date(&c.Any[i], alias+".updated", "") })
	case c.Type == search.Reference:
		return alias + ".refs && " + k.hashes(k.references(t, c))
	case c.clinical(t):
		return either(len(c.Any), func(i int) string { return k.date(&c.Any[i], alias+".at_lo", alias+".at_hi") })
	}
	kinds := map[string][]int{}
	var order []string
	for i, v := range c.Any {
		table := indexTable(c.Type, v.Part)
		if kinds[table] == nil {
			order = append(order, table)
		}
		kinds[table] = append(kinds[table], i)
	}
	return either(len(order), func(n int) string {
		table, some := order[n], kinds[order[n]]
		if table == "" {
			return k.tokens(alias, "&&", k.of(c, "tokens", func() any {
				hs := make([]int64, len(some))
				for i, at := range some {
					hs[i] = mix(k.tenant(), t.Code(), c.Any[at].Hash)
				}
				return hs
			})+"::bigint[]")
		}
		s := "EXISTS (SELECT " + k.indexed(schema, table, t, c.Param) + " AND i.pk = " + alias + ".pk AND " + k.values(table, c, some)
		if k.rowwise {
			s += " OFFSET 0"
		}
		return s + ")"
	})
}

// values is the condition that an index row has one of some of c's values.
func (k *compiler) values(table string, c *term, some []int) string {
	return either(len(some), func(i int) string {
		v := &c.Any[some[i]]
		return "(" + k.keyed(v) + k.compare(table, v) + ")"
	})
}

// indexTable is where the values of a parameter are; "" is the column tokens.
func indexTable(p, part search.ParamType) string {
	if p == search.Composite {
		p = part
	}
	switch p {
	case search.Date:
		return "resource_date"
	case search.String:
		return "resource_string"
	case search.Number, search.Quantity:
		return "resource_quantity"
	default:
		return ""
	}
}

// indexed is FROM and WHERE for the index rows i of one parameter. Whoever
// reads them joins them with their resource, whose Restriction is theirs.
func (k *compiler) indexed(schema, table string, t fhir.ResourceType, param string) string {
	x := restrict(k.q, k.reach.Of(t))
	s := "FROM " + schema + "." + table + " i WHERE i.tenant = " + x.tenant + " AND i.type = " + x.code(t)
	names := members(t, param)
	if len(names) == 1 {
		return s + " AND i.param = " + k.q.named("param "+names[0], func() any { return names[0] })
	}
	return s + " AND i.param = ANY (" + k.q.named("params "+strings.Join(names, " "), func() any { return names }) + "::text[])"
}

// members are the parameters under which the values of a parameter are indexed.
func members(t fhir.ResourceType, param string) []string {
	if p, ok := search.Lookup(t, param); ok && len(p.UnionOf) > 0 {
		return p.UnionOf
	}
	return []string{param}
}

// refKeys tell the references of a parameter from others, see [search.RefEntry].
func refKeys(t fhir.ResourceType, param string) []int64 {
	names := members(t, param)
	keys := make([]int64, len(names))
	for i, name := range names {
		keys[i] = search.ParamKey(name)
	}
	return keys
}

// keyed is the condition on the token part of a composite's element.
func (k *compiler) keyed(v *search.Value) string {
	var s string
	if v.Key != 0 {
		s += "i.key = " + k.value(v, "key", v.Key) + " AND "
	}
	if v.KeySystem != 0 {
		s += "i.key_system = " + k.value(v, "system", v.KeySystem) + " AND "
	}
	return s
}

func (k *compiler) compare(table string, v *search.Value) string {
	switch table {
	case "resource_date":
		return k.date(v, "i.lo", "i.hi")
	case "resource_string":
		return k.text(v)
	default:
		return k.number(v)
	}
}

// date compares the range [lo, hi) of a resource with the searched [Lo, Hi),
// see R4 search.html#prefix. Without hi it is the millisecond from lo on, and
// lo is compared instead, for its index.
func (k *compiler) date(v *search.Value, lo, hi string) string {
	compare := func(column, op, at string) string { return column + op + at }
	if k.rechecked { // the function behind the operator, which no index answers
		compare = func(column, op, at string) string { return timeFunctions[op] + "(" + column + ", " + at + ")" }
	}
	start := func(op, part string, at time.Time) string { return compare(lo, op, k.value(v, part, at)) }
	end := func(op, part string, at time.Time) string {
		if hi == "" {
			return compare(lo, op, k.value(v, part+"-", at.Add(-time.Millisecond)))
		}
		return compare(hi, op, k.value(v, part, at))
	}
	within := func() string { return "(" + start(" >= ", "lo", v.Lo) + " AND " + end(" <= ", "hi", v.Hi) + ")" }
	switch v.Prefix {
	case "", "eq":
		return within()
	case "ne":
		return "NOT " + within()
	case "gt":
		return end(" > ", "hi", v.Hi)
	case "lt":
		return start(" < ", "lo", v.Lo)
	case "ge":
		return "(" + end(" > ", "hi", v.Hi) + " OR " + within() + ")"
	case "le":
		return "(" + start(" < ", "lo", v.Lo) + " OR " + within() + ")"
	case "sa":
		return start(" >= ", "hi", v.Hi)
	case "eb":
		return end(" <= ", "lo", v.Lo)
	case "ap":
		return "(" + start(" < ", "hi", v.Hi) + " AND " + end(" > ", "lo", v.Lo) + ")"
	default:
		return "false"
	}
}

var timeFunctions = map[string]string{" < ": "timestamptz_lt", " <= ": "timestamptz_le", " > ": "timestamptz_gt", " >= ": "timestamptz_ge"}
