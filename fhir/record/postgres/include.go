package postgres

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// includeLimit is how many resources a page includes at most.
var includeLimit = 1000 // tests make do with fewer

// includeRounds is how often :iterate goes on from what was included.
const includeRounds = 8

// include adds what the query's includes ask for to a page of matches: each
// resource once, by type and id, and no match again.
func (f *finder) include(ctx context.Context, p *record.Page, matches []hit) error {
	seen := make([]int64, 0, len(matches))
	for _, m := range matches {
		seen = append(seen, m.h.Row)
	}
	var all []hit
	from := matches
	for round := 0; len(from) > 0 && !p.Cut; round++ {
		if round == includeRounds {
			p.Cut = true
			break
		}
		var next []hit
		for _, i := range f.query.Includes {
			if round > 0 && !i.Iterate {
				continue
			}
			found, err := f.follow(ctx, i, from, seen, includeLimit-len(all)+1)
			if err != nil {
				return err
			}
			next = append(next, found...)
		}
		sortHits(next)
		next = slices.CompactFunc(next, func(a, b hit) bool { return a.h.Row == b.h.Row })
		if room := includeLimit - len(all); len(next) > room {
			next, p.Cut = next[:room], true
		}
		for _, x := range next {
			seen = append(seen, x.h.Row)
		}
		all, from = append(all, next...), next
	}
	sortHits(all)
	for i := range all {
		x, err := f.seal(ctx, &all[i])
		if err != nil {
			return err
		}
		p.Included = append(p.Included, x)
	}
	return nil
}

func sortHits(list []hit) {
	slices.SortFunc(list, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.h.Ref.ID, b.h.Ref.ID), cmp.Compare(a.h.Row, b.h.Row))
	})
}

// follow finds what one include adds to the resources in from.
func (f *finder) follow(ctx context.Context, i search.Include, from []hit, seen []int64, limit int) ([]hit, error) {
	q := f.includeStatement(i, from, seen, limit)
	if q == nil {
		return nil, nil
	}
	var out []hit
	var row hit
	err := forEach(ctx, f.tx, q.String(), q.args, append(row.scan(), row.scanLinks()...), func() error {
		x := row
		x.refs = slices.Clone(row.refs)
		out = append(out, x)
		return nil
	})
	return out, err
}

func (f *finder) includeStatement(i search.Include, from []hit, seen []int64, limit int) *statement {
	types, local, urls := f.ahead(i, from)
	if i.Reverse {
		types, local = f.behind(i, from)
	}
	var reached []authz.Restriction
	notes := false
	for _, t := range types {
		if r := f.reach.Of(t); !r.Empty() {
			reached = append(reached, r)
			notes = notes || r.Notes() != 0
		}
	}
	if len(reached) == 0 || len(local)+len(urls) == 0 {
		return nil
	}
	k := compile(f.reach)
	linked := "r.refs && " + k.hashes(local)
	if !i.Reverse {
		linked = "r.self = ANY (" + k.hashes(local) + ")"
		if len(urls) > 0 {
			linked = "(" + linked + " OR r.canonical = ANY (" + k.hashes(urls) + "))"
		}
	}
	old := k.q.arg(seen) + "::bigint[]"
	order := " ORDER BY type, id, pk LIMIT " + strconv.Itoa(limit)
	leg := func(schema string, rs []authz.Restriction) string {
		x, ask := restrict(k.q, rs[0]), needed(reached...)
		x.besides = rs
		table := schema + ".resource r" + x.once("r", ask)
		return "(SELECT " + x.hitColumns("r", ask) + linkColumns("r") + " FROM " + table + " WHERE NOT r.deleted AND " +
			x.visible("r", rs) + " AND " + linked + " AND r.pk <> ALL (" + old + ")" + order + ")"
	}
	k.q.WriteString(leg("record", reached))
	if notes {
		k.q.WriteString(" UNION ALL " + leg("notes", slices.DeleteFunc(slices.Clone(reached), func(r authz.Restriction) bool { return r.Notes() == 0 })) + order)
	}
	return k.q
}

// ahead lists the types to which an _include leads, and what rows that are
// referred to have in self, or in canonical.
func (f *finder) ahead(i search.Include, from []hit) (types []fhir.ResourceType, local, urls []int64) {
	if i.Reverse {
		return nil, nil, nil
	}
	types = []fhir.ResourceType{i.Target}
	if i.Target == "" {
		types = fhir.ResourceTypes()
		if p, ok := search.Lookup(i.Source, i.Param); ok && p.Targets != nil {
			types = p.Targets
		}
	}
	canonical := slices.ContainsFunc(types, byURL)
	for _, m := range from {
		t := fhir.TypeOf(m.t)
		if i.Source != "" && i.Source != t {
			continue
		}
		there := make(map[int64]bool, len(m.refs))
		for _, e := range m.refs {
			there[e] = true
		}
		for _, key := range referenceKeys(t, i.Param) {
			for _, e := range m.refs {
				h := e ^ key
				// A local target stands there without its parameter, too: what does not
				// belongs to another parameter, or is a url.
				if there[h] {
					local = append(local, h)
				} else if canonical {
					urls = append(urls, h)
				}
			}
		}
	}
	return types, sorted(local), sorted(urls)
}

// behind lists the types from which a _revinclude comes, and what their rows
// may have in refs.
func (f *finder) behind(i search.Include, from []hit) (types []fhir.ResourceType, refs []int64) {
	types, keys := []fhir.ResourceType{i.Source}, []int64{0}
	if i.Source == "" {
		types = fhir.ResourceTypes()
	}
	if i.Source != "" || i.Param != "*" {
		keys = referenceKeys(i.Source, i.Param)
	}
	for _, m := range from {
		t := fhir.TypeOf(m.t)
		if i.Target != "" && i.Target != t {
			continue
		}
		for _, key := range keys {
			refs = append(refs, m.self^key)
			if m.canonical != nil {
				refs = append(refs, *m.canonical^key)
			}
		}
	}
	return types, sorted(refs)
}

// referenceKeys are the keys of a reference parameter of t, or of all of them (*).
func referenceKeys(t fhir.ResourceType, param string) []int64 {
	if param != "*" {
		return refKeys(t, param)
	}
	var keys []int64
	for _, p := range search.Params(t) {
		if p.Type == search.Reference && p.Searchable() && len(p.UnionOf) == 0 {
			keys = append(keys, search.ParamKey(p.Code))
		}
	}
	return keys
}

func sorted(list []int64) []int64 {
	slices.Sort(list)
	return slices.Compact(list)
}
