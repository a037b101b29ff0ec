package postgres

import (
	"context"
	"slices"
	"strconv"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/search"
)

// hop is one link of a chain on its way into SQL.
type hop struct {
	search.Hop
	where []*term
	// known says that found are all resources at the other end for which where
	// holds and which the caller can see (Chain), or all to which such resources
	// refer (Has): as they stand in refs, without a parameter. A hop that leads to
	// too many is not known, and asked of each row at a time.
	known bool
	found []int64
}

// probeLimit is how many resources at the other end of a hop are looked up
// beforehand. Up to there an index takes all of them at once; beyond, so many
// rows satisfy the hop that a page is full after a few.
var probeLimit = 2000 // tests go without

// probe looks up what the hops of the criteria lead to, the innermost first.
// Nothing here depends on what the caller cannot see.
func (f *finder) probe(ctx context.Context, t fhir.ResourceType, list []*term) error {
	for _, c := range list {
		for _, g := range c.groups {
			if err := f.probe(ctx, t, g); err != nil {
				return err
			}
		}
		for _, h := range c.hops {
			if err := f.probe(ctx, h.Type, h.where); err != nil {
				return err
			}
			if err := f.lookUp(ctx, t, c.Op, h); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *finder) lookUp(ctx context.Context, t fhir.ResourceType, op search.Op, h *hop) error {
	q := hopStatement(f, op, h)
	if q == nil {
		h.known = true // and nothing is found
		return nil
	}
	n := 0
	found := map[int64]bool{}
	keys := refKeys(h.Type, h.Via)
	local := op == search.Has && !byURL(t)
	var self int64
	var canonical *int64
	var refs []int64
	scan := []any{&self, &canonical}
	if op == search.Has {
		scan = []any{&refs}
	}
	err := forEach(ctx, f.tx, q.String(), q.args, scan, func() error {
		n++
		if op != search.Has {
			found[self] = true
			if canonical != nil {
				found[*canonical] = true
			}
			return nil
		}
		for _, e := range refs {
			for _, key := range keys {
				// A local target stands there without its parameter, too: what does not
				// belongs to another parameter.
				if h := e ^ key; !local || slices.Contains(refs, h) {
					found[h] = true
				}
			}
		}
		return nil
	})
	if err != nil || n > probeLimit {
		return err
	}
	h.known = true
	h.found = make([]int64, 0, len(found))
	for e := range found {
		h.found = append(h.found, e)
	}
	slices.Sort(h.found)
	return nil
}

// hopStatement finds the resources at the other end of a hop; nil where the
// caller reaches none.
func hopStatement(f *finder, op search.Op, h *hop) *statement {
	k := compile(f.reach)
	columns := "h.self, h.canonical"
	if op == search.Has {
		columns = "h.refs"
	}
	for _, schema := range schemas(f.reach.Of(h.Type)) {
		if f.reach.Of(h.Type).Empty() {
			return nil
		}
		if k.q.Len() > 0 {
			k.q.WriteString(" UNION ALL ")
		}
		k.q.WriteString("SELECT " + columns + " FROM " + k.source("h", schema, h.Type, h.where))
	}
	k.q.WriteString(" LIMIT " + strconv.Itoa(probeLimit+1))
	return k.q
}

// chain is the condition that the row of alias refers by c's parameter to a
// resource for which the hop holds.
func (k *compiler) chain(alias string, t fhir.ResourceType, c *term, h *hop) string {
	keys := c.keys(t)
	if h.known {
		if len(h.found) == 0 {
			return "false"
		}
		list := make([]int64, 0, len(h.found)*len(keys))
		for _, key := range keys {
			for _, e := range h.found {
				list = append(list, e^key)
			}
		}
		return alias + ".refs && " + k.hashes(list)
	}
	targets := "ARRAY(SELECT e.h # p.k FROM unnest(" + alias + ".refs) AS e(h), unnest(" + k.hashes(keys) + ") AS p(k))"
	return k.exists(h, func(far string) string {
		s := far + ".self = ANY (" + targets + ")"
		if byURL(h.Type) {
			s = "(" + s + " OR " + far + ".canonical = ANY (" + targets + "))"
		}
		return s
	})
}

// has is the condition that a resource for which the hop holds refers to the row of alias.
func (k *compiler) has(alias string, t fhir.ResourceType, h *hop) string {
	if h.known {
		if len(h.found) == 0 {
			return "false"
		}
		s := alias + ".self = ANY (" + k.hashes(h.found) + ")"
		if byURL(t) {
			s = "(" + s + " OR " + alias + ".canonical = ANY (" + k.hashes(h.found) + "))"
		}
		return s
	}
	var own []string
	for _, key := range refKeys(h.Type, h.Via) {
		p := k.q.named("key "+strconv.FormatInt(key, 10), func() any { return key }) + "::bigint"
		own = append(own, alias+".self # "+p)
		if byURL(t) {
			own = append(own, "COALESCE("+alias+".canonical, "+alias+".self) # "+p)
		}
	}
	defer func(was bool) { k.rechecked = was }(k.rechecked)
	k.rechecked = true
	return k.exists(h, func(far string) string {
		return either(len(own), func(i int) string { return far + ".refs @> ARRAY[" + own[i] + "]" })
	})
}

// exists asks for a visible resource at the other end of a hop. OFFSET 0 keeps
// it a question to each row: as a join, the planner may read all of the other type.
func (k *compiler) exists(h *hop, linked func(far string) string) string {
	if k.reach.Of(h.Type).Empty() {
		return "false"
	}
	in := schemas(k.reach.Of(h.Type))
	return either(len(in), func(i int) string {
		far := k.alias()
		return "EXISTS (SELECT FROM " + in[i] + ".resource " + far + " WHERE " + k.beside(far, h.Type) + " AND " + linked(far) + k.where(far, in[i], h.Type, h.where) + " OFFSET 0)"
	})
}
