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
	self      int64
	canonical *int64
	refs      []int64
	over      bool // it does not fit into the page any more
}

func (x *hit) scan() []any {
	return []any{&x.t, &x.h.Ref.ID, &x.h.Version, &x.h.Updated, &x.class, &x.patient, &x.h.Patients, &x.facts, &x.h.Consents, &x.body, &x.h.Row}
}

func (x *hit) scanLinks() []any { return []any{&x.self, &x.canonical, &x.refs} }

// hitColumns are those of [hit.scan].
func (x *restriction) hitColumns(alias string, ask authz.Fact) string {
	return alias + ".type, " + alias + ".id, " + alias + ".version, " + alias + ".updated, " + alias + ".label_class, " +
		patientColumns(alias) + ", " +
		x.facts(alias, ask) + " AS facts, " + x.consents(alias, ask) + ", " + alias + ".body, " + alias + ".pk"
}

// linkColumns are those of [hit.scanLinks].
func linkColumns(alias string) string {
	return ", " + alias + ".self, " + alias + ".canonical, " + alias + ".refs"
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
	return f.s.box(h, f.reach.Grant(), x.body), nil
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
		if keyColumn(l.t, first) == "" {
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
	w := &pageWriter{f: f, k: k, p: p, links: links, limit: k.q.named("limit", func() any { return limit })}
	w.groups, w.legs = p.joint(f.legs)
	names := make([]string, len(p.by.keys))
	for i := range names {
		names[i] = "k" + strconv.Itoa(i)
	}
	all := p.clause(names, "type", "id", 0) + " LIMIT " + w.limit
	runs := f.segments(p)
	w.guards(runs)
	var selects []string
	if runs == nil {
		selects = append(selects, w.union(w.parts(nil, ""), all))
	}
	// The second run is read only if the first one does not fill the page.
	full := ""
	for i, run := range runs {
		s := w.union(w.parts(&run, full), all)
		if len(runs) > 1 {
			name := "run" + strconv.Itoa(i)
			k.q.with(name, s)
			full = " AND (SELECT count(*) FROM " + name + ") < " + w.limit
			s = "SELECT * FROM " + name
		}
		selects = append(selects, s)
	}
	if len(selects) == 1 {
		k.q.WriteString(selects[0])
	} else {
		k.q.WriteString("SELECT * FROM (" + strings.Join(selects, " UNION ALL ") + ") AS u" + all)
	}
	return k.q
}

// pageWriter writes the statement of a page.
type pageWriter struct {
	f      *finder
	k      *compiler
	p      place
	links  bool
	groups [][]leg // legs that are one SELECT
	legs   []leg   // the others
	limit  string
	guard  map[int]string // leg and schema -> the name of its guard
}

// union is all parts in one order.
func (w *pageWriter) union(parts []string, order string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	return "SELECT * FROM (" + strings.Join(parts, " UNION ALL ") + ") AS u" + order
}

// maxGuards is how many legs are guarded: a statement about many types is long enough.
const maxGuards = 4

func (w *pageWriter) guards(runs []segment) {
	if w.p.computed(w.legs) || len(w.legs) > maxGuards {
		return
	}
	w.guard = map[int]string{}
	for n, l := range w.legs {
		if !l.guarded(runs == nil) {
			continue
		}
		for i, schema := range schemas(w.f.reach.Of(l.t)) {
			at := n*2 + i
			w.guard[at] = "guard" + strconv.Itoa(at)
			w.k.q.with(w.guard[at], w.k.guard(schema, l))
		}
	}
}

// computed says that no column gives the order of some leg.
func (p place) computed(legs []leg) bool {
	return slices.ContainsFunc(legs, func(l leg) bool { return keyColumn(l.t, p.by.keys[0]) == "" })
}

// parts are the SELECTs of a run: one per type or group of types, schema, arm of
// a window of dates, and way of a guard.
func (w *pageWriter) parts(run *segment, also string) []string {
	var out []string
	for _, g := range w.groups {
		for _, schema := range []string{"record", "notes"} {
			if s := w.together(g, schema); s != "" {
				out = append(out, s)
			}
		}
	}
	for n, l := range w.legs {
		for i, schema := range schemas(w.f.reach.Of(l.t)) {
			name, guarded := w.guard[n*2+i]
			if !guarded {
				out = append(out, w.part(run, also, l, schema)...)
				continue
			}
			w.k.rechecked, w.k.rowwise = true, true
			out = append(out, w.part(run, also+few(name), l, schema)...)
			w.k.rechecked = false
			out = append(out, w.part(run, also+many(name), l, schema)...)
			w.k.rowwise = false
		}
	}
	return out
}

func (w *pageWriter) part(run *segment, also string, l leg, schema string) []string {
	k, p, x := w.k, w.p, restrict(w.k.q, w.f.reach.Of(l.t))
	ask, few := needed(x.r), narrow(l.where)
	x.beside, x.patient = few, l.patient()
	keys := k.keys("r", schema, l.t, p.by)
	from := schema + ".resource r"
	if !few {
		from += x.once("r", ask)
	}
	where := " WHERE NOT r.deleted AND " + x.where("r") + also + k.criteria("r", schema, l.t, l.where)
	// The few rows of a patient are found, sorted and cut off, and only then is
	// said of each what it is to the caller.
	columns := few && !slices.ContainsFunc(keys, expression)
	if few && !columns {
		from, where = found(from, where, ""), " WHERE true"
	}
	from, keys = besides(from, keys)
	arms := []string{k.bounds("r", l.t, l.where)}
	first, present := 0, !nullable(p.by.keys[0])
	switch {
	case run == nil:
	case run.null:
		first = 1
		where += " AND " + keys[0] + " IS NULL"
	default:
		present = true
		if !narrow(l.where) {
			arms = k.arms("r", windowOf(l.t, l.where))
		}
		where += " AND " + keys[0] + " IS NOT NULL"
	}
	if p.at != nil && (run == nil || run.bounded) {
		where += k.beyond(p, l.t, keys, "r.id", first, present)
	}
	order := p.within(keys, first, present)
	if columns {
		from, where = found(from, where, order+" LIMIT "+w.limit), " WHERE true"
	}
	selected := x.hitColumns("r", ask)
	if w.links {
		selected += linkColumns("r")
	}
	for i, key := range keys {
		selected += ", " + key + " AS k" + strconv.Itoa(i)
	}
	out := make([]string, len(arms))
	for i, arm := range arms {
		out[i] = "(SELECT " + selected + " FROM " + from + where + arm + order + " LIMIT " + w.limit + ")"
	}
	return out
}

// found is a table of the few rows of r that are found first, and in order if
// one is given: OFFSET 0 keeps the planner from reading all rows of a type in
// order and waiting for them to turn up.
func found(table, where, order string) string {
	return "(SELECT r.* FROM " + table + where + order + " OFFSET 0) AS r"
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

// expression says that a key is no column.
func expression(key string) bool {
	return strings.HasPrefix(key, "(") || strings.HasPrefix(key, "NULL")
}

// besides moves keys that are not columns beside the row, so that each is computed once.
func besides(from string, keys []string) (string, []string) {
	var computed []string
	out := slices.Clone(keys)
	for i, key := range keys {
		if expression(key) {
			computed = append(computed, key+" AS k"+strconv.Itoa(i))
			out[i] = "s.k" + strconv.Itoa(i)
		}
	}
	if len(computed) == 0 {
		return from, out
	}
	return from + " CROSS JOIN LATERAL (SELECT " + strings.Join(computed, ", ") + " OFFSET 0) AS s", out
}

// read reads rows in the order of the page, and the place of each. Where the query
// bounds the bytes of a page, those that are beyond have no content.
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
	size := 0
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
		if x.over = f.query.Bytes > 0 && len(hits) > 0 && size+len(x.body) > f.query.Bytes; x.over {
			x.body = nil
		}
		size += len(x.body)
		hits, places = append(hits, x), append(places, c)
		return nil
	})
	return hits, places, err
}
