package postgres

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// hit is a row of a search, with what is needed to go on from it.
type hit struct {
	h         vault.Header
	t, class  int16
	facts     int32
	patient   *string
	body      []byte // pgx makes it anew for each row
	pk, self  int64
	canonical *int64
	refs      []int64
}

func (x *hit) scan() []any {
	return []any{&x.t, &x.h.Ref.ID, &x.h.Version, &x.h.Updated, &x.class, &x.patient, &x.facts, &x.body}
}

func (x *hit) scanLinks() []any { return []any{&x.pk, &x.self, &x.canonical, &x.refs} }

// columns are those of [hit.scan]; the facts are those that the Restrictions of rs ask for.
func columns(q *statement, alias string, rs ...authz.Restriction) string {
	var ask authz.Fact
	for _, r := range rs {
		ask |= needed(r)
	}
	return alias + ".type, " + alias + ".id, " + alias + ".version, " + alias + ".updated, " + alias + ".label_class, " +
		"CASE WHEN " + alias + ".co_patients IS NULL THEN " + alias + ".patient END AS patient, " +
		restrict(q, rs[0]).facts(alias, ask) + " AS facts, " + alias + ".body"
}

// linkColumns are those of [hit.scanLinks].
func linkColumns(alias string) string {
	return ", " + alias + ".pk, " + alias + ".self, " + alias + ".canonical, " + alias + ".refs"
}

// seal closes the box around a row that was found.
func (f *finder) seal(ctx context.Context, x *hit) (record.Sealed, error) {
	h := x.h
	var err error
	if h.Labels, err = f.s.labels(ctx, x.class); err != nil {
		return record.Sealed{}, err
	}
	h.Ref.Type = fhir.TypeOf(x.t)
	h.Updated = h.Updated.UTC()
	h.Created = h.Version == 1
	h.Facts = authz.Fact(x.facts)
	if x.patient != nil {
		h.Patient = fhir.ID(*x.patient)
	}
	return vault.Seal(h, f.reach.Grant(), x.body), nil
}

// segment is a run of matches in the order of the page: those that have the
// first key, or those without it, which come last.
type segment struct {
	null    bool // without it
	bounded bool // the page starts within it
}

// segments are the runs of which a page may consist, in the order in which they
// are read. Only where the first key is a column that can be null are there two:
// an index does not give the order across them.
func (f *finder) segments(p place) []segment {
	first := p.by.keys[0]
	if !nullable(first) {
		return nil
	}
	without := false
	for _, l := range f.legs {
		if column(l.t, first) == "" {
			return nil
		}
		without = without || !slices.ContainsFunc(l.where, func(c *term) bool { return c.clinical(l.t) && !c.Not })
	}
	with, null := segment{}, segment{null: true}
	var out []segment
	switch {
	case p.at == nil && p.reverse:
		out = []segment{null, with}
	case p.at == nil:
		out = []segment{with, null}
	case p.values[0] == nil && p.reverse:
		out = []segment{{null: true, bounded: true}, with}
	case p.values[0] == nil:
		out = []segment{{null: true, bounded: true}}
	case p.reverse:
		out = []segment{{bounded: true}}
	default:
		out = []segment{{bounded: true}, null}
	}
	if !without {
		out = slices.DeleteFunc(out, func(s segment) bool { return s.null })
	}
	return out
}

// pageStatement finds the first rows from a place on. With links it selects
// what includes start from.
func (f *finder) pageStatement(p place, limit int, links bool) *statement {
	k := compile(f.reach)
	n := k.q.named("limit", func() any { return limit })
	names := make([]string, len(p.by.keys))
	for i := range names {
		names[i] = "k" + strconv.Itoa(i)
	}
	all := p.clause(names, "type", "id", 0) + " LIMIT " + n
	runs := f.segments(p)
	if runs == nil {
		parts := f.parts(k, p, nil, "", n, links)
		if len(parts) == 1 {
			k.q.WriteString(parts[0])
			return k.q
		}
		k.q.WriteString("SELECT * FROM (" + strings.Join(parts, " UNION ALL ") + ") AS u" + all)
		return k.q
	}
	// The second run is read only if the first one does not fill the page.
	full, with, from := "", "WITH ", ""
	for i, run := range runs {
		name := "run" + strconv.Itoa(i)
		s := "SELECT * FROM (" + strings.Join(f.parts(k, p, &run, full, n, links), " UNION ALL ") + ") AS u" + all
		if len(runs) == 1 {
			k.q.WriteString(s)
			return k.q
		}
		k.q.WriteString(with + name + " AS MATERIALIZED (" + s + ")")
		with = ", "
		from += map[bool]string{true: "", false: " UNION ALL "}[i == 0] + "SELECT * FROM " + name
		full = " AND (SELECT count(*) FROM " + name + ") < " + n
	}
	if len(runs) == 0 {
		k.q.WriteString("SELECT WHERE false")
		return k.q
	}
	k.q.WriteString(" SELECT * FROM (" + from + ") AS u" + all)
	return k.q
}

// parts are one SELECT per type, schema and arm of a window of dates.
func (f *finder) parts(k *compiler, p place, run *segment, also, limit string, links bool) []string {
	var out []string
	for _, l := range f.legs {
		r := f.reach.Of(l.t)
		for _, schema := range schemas(r) {
			from := schema + ".resource r"
			keys := k.keys("r", schema, l.t, p.by)
			from, keys = besides(from, keys)
			selected := columns(k.q, "r", r)
			if links {
				selected += linkColumns("r")
			}
			for i, key := range keys {
				selected += ", " + key + " AS k" + strconv.Itoa(i)
			}
			where := " WHERE " + k.live("r", l.t) + also + k.criteria("r", schema, l.t, l.where) + f.latest(k, schema, l)
			w := windowOf(l.t, l.where)
			arms := []string{k.within("r", w)}
			first, present := 0, !nullable(p.by.keys[0])
			if run != nil {
				arms = k.arms("r", w)
				present = !run.null
				if run.null {
					where += " AND " + keys[0] + " IS NULL"
					first = 1
				} else {
					where += " AND " + keys[0] + " IS NOT NULL"
				}
			}
			if p.at != nil && (run == nil || run.bounded) {
				where += k.beyond(p, l.t, keys, "r.id", first, present)
			}
			order := p.within(keys, first, present)
			for _, arm := range arms {
				out = append(out, "(SELECT "+selected+" FROM "+from+where+arm+order+" LIMIT "+limit+")")
			}
		}
	}
	return out
}

// within is the order among rows of one type. Where no first key is null there
// is nothing to say of nulls, and an index is recognised.
func (p place) within(keys []string, from int, present bool) string {
	s := p.clause(keys, "", "r.id", from)
	if from == 0 && present {
		s = strings.Replace(strings.Replace(s, keys[0]+" DESC NULLS LAST", keys[0]+" DESC", 1), keys[0]+" NULLS FIRST", keys[0], 1)
	}
	return s
}

// besides moves keys that are not columns beside the row, so that each is computed once.
func besides(from string, keys []string) (string, []string) {
	var computed []string
	out := slices.Clone(keys)
	for i, key := range keys {
		if strings.HasPrefix(key, "(") || strings.HasPrefix(key, "NULL") {
			computed = append(computed, key+" AS k"+strconv.Itoa(i))
			out[i] = "s.k" + strconv.Itoa(i)
		}
	}
	if len(computed) == 0 {
		return from, out
	}
	return from + " CROSS JOIN LATERAL (SELECT " + strings.Join(computed, ", ") + " OFFSET 0) AS s", out
}

// read reads rows in the order of the page, and the place of each.
func (f *finder) read(ctx context.Context, p place, limit int, links bool) ([]hit, []search.Cursor, error) {
	q := f.pageStatement(p, limit, links)
	var row hit
	scan := row.scan()
	if links {
		scan = append(scan, row.scanLinks()...)
	}
	values := make([]any, len(p.by.keys))
	for i, s := range p.by.keys {
		switch keyType(s) {
		case "timestamptz":
			values[i] = new(*time.Time)
		case "double precision":
			values[i] = new(*float64)
		default:
			values[i] = new(*string)
		}
		scan = append(scan, values[i])
	}
	var hits []hit
	var places []search.Cursor
	err := forEach(ctx, f.tx, q.String(), q.args, scan, func() error {
		c := search.Cursor{Keys: make([]search.Key, len(values)), Type: fhir.TypeOf(row.t), ID: row.h.Ref.ID}
		for i, v := range values {
			switch v := v.(type) {
			case **time.Time:
				c.Keys[i] = writeKey(*v)
			case **float64:
				c.Keys[i] = writeKey(*v)
			case **string:
				c.Keys[i] = writeKey(*v)
			}
		}
		x := row
		x.refs = slices.Clone(row.refs)
		hits, places = append(hits, x), append(places, c)
		return nil
	})
	return hits, places, err
}
