package postgres

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// Search finds one page of resources.
func (s *Store) Search(ctx context.Context, reach authz.Reach, query search.Query) (record.Page, error) {
	empty := record.Page{Total: -1}
	if query.Total != search.NoTotal {
		empty.Total = 0
	}
	if query.Type() == "" {
		return empty, outcome.New(outcome.Internal, "the server failed; its log says why")
	}
	r := reach.Of(query.Type())
	if r.Empty() {
		return empty, nil
	}
	p := empty
	if query.Count > 0 {
		found, err := s.sealed(ctx, s.pool(r), r, pageStatement(r, query))
		if err != nil {
			return empty, err
		}
		p = page(found, query.Count)
		p.Total = empty.Total
		if n := len(p.Entries); n > 0 {
			h := vault.Head(p.Entries[n-1])
			p.Last = search.Cursor{Keys: []search.Key{{Text: h.Updated.Format(time.RFC3339Nano)}}, Type: h.Ref.Type, ID: h.Ref.ID}
		}
	}
	if query.Total != search.NoTotal {
		var q statement
		x := restrict(&q, r)
		q.WriteString("SELECT count(*) FROM (")
		legs(&q, r, func(schema string) {
			q.WriteString("SELECT FROM " + schema + ".resource r WHERE NOT r.deleted AND " + x.where("r"))
			x.criteria("r", schema, query.Legs[0].Where)
		})
		q.WriteString(") AS found")
		if err := s.pool(r).QueryRow(ctx, q.String(), q.args...).Scan(&p.Total); err != nil {
			return empty, failed(err)
		}
	}
	return p, nil
}

// pageStatement finds one page, and one row more to know whether it is the last.
func pageStatement(r authz.Restriction, query search.Query) *statement {
	q := &statement{}
	x := restrict(q, r)
	order := " ORDER BY updated DESC, id DESC"
	if len(query.Sort) > 0 {
		order = " ORDER BY updated, id"
	}
	limit := q.arg(query.Count + 1)
	q.WriteString("SELECT * FROM (")
	legs(q, r, func(schema string) {
		q.WriteString("SELECT " + x.columns("r") + " FROM " + schema + ".resource r WHERE NOT r.deleted AND " + x.where("r"))
		x.criteria("r", schema, query.Legs[0].Where)
		x.after("r", query)
		q.WriteString(order + " LIMIT " + limit)
	})
	q.WriteString(") AS found" + order + " LIMIT " + limit)
	return q
}

// Match finds at most two ids, which is enough to tell none, one and several
// apart: conditional references and conditional creates.
func (s *Store) Match(ctx context.Context, reach authz.Reach, query search.Query) ([]fhir.ID, error) {
	r := reach.Of(query.Type())
	if r.Empty() {
		return nil, nil
	}
	var q statement
	x := restrict(&q, r)
	q.WriteString("SELECT id FROM (")
	legs(&q, r, func(schema string) {
		q.WriteString("SELECT r.id FROM " + schema + ".resource r WHERE NOT r.deleted AND " + x.where("r"))
		x.criteria("r", schema, query.Legs[0].Where)
		q.WriteString(" LIMIT 2")
	})
	q.WriteString(") AS found LIMIT 2")
	var ids []fhir.ID
	var id fhir.ID
	err := forEach(ctx, s.pool(r), q.String(), q.args, []any{&id}, func() error { ids = append(ids, id); return nil })
	return ids, failed(err)
}

// mix keeps the index values of practices and types apart, so that one
// practice's posting lists say nothing about another's.
func mix(tenant int32, t int16, h int64) int64 {
	x := uint64(h) ^ (uint64(uint32(tenant))<<16|uint64(uint16(t)))*0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return int64(x)
}

// TokenIndex is what the column tokens holds for an index value (see
// [search.Index]), for measurements that write SQL of their own.
func TokenIndex(tenant int32, t fhir.ResourceType, hash int64) int64 {
	return mix(tenant, t.Code(), hash)
}

func (x *restriction) after(alias string, query search.Query) {
	if query.After == nil {
		return
	}
	op := " < "
	if len(query.Sort) > 0 {
		op = " > "
	}
	at := query.After
	x.q.WriteString(" AND (" + alias + ".updated, " + alias + ".id)" + op + "(" +
		x.arg("afterUpdated", func() any { return at.Keys[0].Text }) + "::text::timestamptz" + ", " + x.arg("afterID", func() any { return string(at.ID) }) + ")")
}

// criteria appends what the query asks, each as a condition on the row itself
// or on index rows of that same row.
func (x *restriction) criteria(alias, schema string, where []search.Criterion) {
	for i, c := range where {
		x.q.WriteString(" AND ")
		name := "c" + strconv.Itoa(i)
		switch {
		case c.Param == "_id":
			x.q.WriteString(alias + ".id = ANY (" + x.arg(name, func() any {
				ids := make([]string, len(c.Any))
				for j, v := range c.Any {
					ids[j] = string(v.ID)
				}
				return ids
			}) + "::text[])")
		case c.Param == "_lastUpdated":
			x.dates(name, c, alias+".updated", "("+alias+".updated + interval '1 millisecond')")
		case c.Type == search.Date:
			x.q.WriteString("EXISTS (SELECT FROM " + schema + ".resource_date d WHERE d.tenant = " + x.tenant + " AND d.pk = " + alias + ".pk AND d.type = " + alias + ".type AND d.param = " +
				x.arg(name+"p", func() any { return c.Param }) + " AND ")
			x.dates(name, c, "d.lo", "d.hi")
			x.q.WriteString(")")
		case c.Type == search.String:
			x.q.WriteString("EXISTS (SELECT FROM " + schema + ".resource_string t WHERE t.tenant = " + x.tenant + " AND t.pk = " + alias + ".pk AND t.type = " + alias + ".type AND t.param = " +
				x.arg(name+"p", func() any { return c.Param }) + " AND ")
			x.strings(name, c)
			x.q.WriteString(")")
		case c.Type == search.Reference:
			x.targets(alias+".refs", name, c)
		default:
			x.hashes(alias+".tokens", name, c, x.r.Type().Code())
		}
	}
}

func (x *restriction) hashes(column, name string, c search.Criterion, t int16) {
	op := " && "
	if len(c.Any) == 1 {
		op = " @> "
	}
	x.q.WriteString(column + op + x.arg(name, func() any {
		hs := make([]int64, len(c.Any))
		for j, v := range c.Any {
			hs[j] = mix(x.c.Tenant, t, v.Hash)
		}
		return hs
	}) + "::bigint[]")
}

func (x *restriction) targets(column, name string, c search.Criterion) {
	op := " && "
	if len(c.Any) == 1 {
		op = " @> "
	}
	x.q.WriteString(column + op + x.arg(name, func() any {
		hs := make([]int64, len(c.Any))
		for j, v := range c.Any {
			hs[j] = mix(x.c.Tenant, 0, v.Hash) ^ search.ParamKey(c.Param)
		}
		return hs
	}) + "::bigint[]")
}

// dates compares the resource's range [lo, hi) with the searched [Lo, Hi), see
// R4 search.html#prefix.
func (x *restriction) dates(name string, c search.Criterion, lo, hi string) {
	x.any(c, func(j int, v search.Value) {
		at := func(part string, t time.Time) string {
			return x.arg(name+part+strconv.Itoa(j), func() any { return t })
		}
		from := func() string { return at("lo", v.Lo) }
		to := func() string { return at("hi", v.Hi) }
		within := func() string { return "(" + lo + " >= " + from() + " AND " + hi + " <= " + to() + ")" }
		switch v.Prefix {
		case "ne":
			x.q.WriteString("NOT " + within())
		case "gt":
			x.q.WriteString(hi + " > " + to())
		case "lt":
			x.q.WriteString(lo + " < " + from())
		case "ge":
			x.q.WriteString("(" + hi + " > " + to() + " OR " + within() + ")")
		case "le":
			x.q.WriteString("(" + lo + " < " + from() + " OR " + within() + ")")
		case "sa":
			x.q.WriteString(lo + " >= " + to())
		case "eb":
			x.q.WriteString(hi + " <= " + from())
		case "ap":
			x.q.WriteString("(" + lo + " < " + to() + " AND " + hi + " > " + from() + ")")
		case "", "eq":
			x.q.WriteString(within())
		default:
			x.q.WriteString("false")
		}
	})
}

func (x *restriction) strings(name string, c search.Criterion) {
	x.any(c, func(j int, v search.Value) {
		p := func(text string) string { return x.arg(name+"t"+strconv.Itoa(j), func() any { return text }) }
		switch v.Match {
		case search.Exact:
			x.q.WriteString("t.exact = " + p(v.Text))
		case search.Contains:
			x.q.WriteString("position(" + p(v.Text) + " in t.text) > 0")
		default:
			x.q.WriteString("t.text LIKE " + p(escapeLike(v.Text)+"%"))
		}
	})
}

func (x *restriction) any(c search.Criterion, each func(int, search.Value)) {
	x.q.WriteString("(")
	for j, v := range c.Any {
		if j > 0 {
			x.q.WriteString(" OR ")
		}
		each(j, v)
	}
	if len(c.Any) == 0 {
		x.q.WriteString("false")
	}
	x.q.WriteString(")")
}

func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}
