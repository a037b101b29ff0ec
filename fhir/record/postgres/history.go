package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// History lists versions of one resource, of all of some types, or of
// everything (R4 http.html, history). A version counts only if it and the
// current one are visible: what was open once is not open once the resource has
// been protected. One resource that is hidden or absent is not found.
func (s *Store) History(ctx context.Context, reach authz.Reach, h record.History) (record.Page, error) {
	found, err := s.versions(ctx, reach, h)
	if err != nil {
		return record.Page{}, err
	}
	if h.ID != "" && len(found) == 0 {
		seen, err := s.versions(ctx, reach, record.History{Types: h.Types, ID: h.ID})
		if err != nil {
			return record.Page{}, err
		}
		if len(seen) == 0 {
			return record.Page{}, errNotFound
		}
	}
	p := page(found, h.Count)
	if n := len(p.Entries); n > 0 {
		last := vault.Head(p.Entries[n-1])
		p.Last = search.Cursor{Keys: []search.Key{{Text: last.Updated.Format(time.RFC3339Nano)}, {Text: last.Version.String()}}, Type: last.Ref.Type, ID: last.Ref.ID}
	}
	return p, nil
}

// alike are types whose Restrictions differ in nothing but the type, so that
// one statement serves them all, in the same way whatever is stored.
type alike struct {
	r     authz.Restriction
	codes []int16
}

func groups(reach authz.Reach, types []fhir.ResourceType) (out []*alike) {
	byShape := map[string]*alike{}
	for _, t := range types {
		r := reach.Of(t)
		if r.Empty() {
			continue
		}
		shape := fmt.Sprint(r.Arms(), r.Notes(), narrowing(r))
		g := byShape[shape]
		if g == nil {
			g = &alike{r: r}
			byShape[shape] = g
			out = append(out, g)
		}
		g.codes = append(g.codes, t.Code())
	}
	return out
}

// versions reads one version more than asked for.
func (s *Store) versions(ctx context.Context, reach authz.Reach, h record.History) ([]record.Sealed, error) {
	in := groups(reach, h.Types)
	if len(in) == 0 {
		return nil, nil
	}
	pool := s.app
	q := &statement{}
	v := versionQuery{q: q, h: h, limit: q.arg(h.Count + 1)}
	q.WriteString("SELECT * FROM (")
	for i, g := range in {
		if i > 0 {
			q.WriteString(" UNION ALL ")
		}
		if g.r.Notes() != 0 {
			pool = s.notes
		}
		v.group(g)
	}
	q.WriteString(") AS v" + v.order("v") + " LIMIT " + v.limit)

	var out []record.Sealed
	var x vault.Header
	var t, class int16
	var facts int32
	var patient *string
	var body []byte // pgx makes it anew for each row
	err := forEach(ctx, pool, q.String(), q.args, []any{&x.Ref.ID, &x.Version, &x.Updated, &x.Deleted, &class, &patient, &x.Patients, &facts, &x.Consents, &body, &x.Row, &t, &x.Posted}, func() (err error) {
		row := x
		row.Ref.Type = fhir.TypeOf(t)
		if row.Labels, err = s.labels(ctx, class); err != nil {
			return err
		}
		row.Updated, row.Created, row.Facts = x.Updated.UTC(), x.Version == 1, authz.Fact(facts)
		if patient != nil {
			row.Patient = fhir.ID(*patient)
		}
		out = append(out, s.box(row, reach.Of(row.Ref.Type).Grant(), body))
		return nil
	})
	if err != nil {
		return nil, failed(err)
	}
	return out, nil
}

type versionQuery struct {
	q     *statement
	h     record.History
	limit string
}

// group writes the legs of one group: current versions, tombstones and
// superseded versions, each by an index of its own, for each type the newest (or
// oldest) few.
func (v *versionQuery) group(g *alike) {
	q := v.q
	for i, schema := range schemas(g.r) {
		x := restrict(q, g.r)
		x.typed = "t.code"
		codes := x.arg("types "+intArray(g.codes), func() any { return g.codes })
		for j, leg := range []string{"NOT r.deleted", "r.deleted", ""} {
			if i+j > 0 {
				q.WriteString(" UNION ALL ")
			}
			q.WriteString("SELECT l.* FROM unnest(" + codes + "::smallint[]) AS t(code), LATERAL (")
			if leg != "" {
				q.WriteString("SELECT " + x.columns("r") + ", r.type, r.posted FROM " + schema + ".resource r WHERE " + leg + " AND " + x.where("r"))
				v.filter("r", "")
				q.WriteString(v.order("r"))
			} else {
				q.WriteString("SELECT " + x.columns("h") + ", h.type, h.posted FROM " + schema + ".resource_history h JOIN " + schema + ".resource r ON r.pk = h.pk AND " + x.where("r") + " WHERE " + x.was("h"))
				// A version ended where the next one that the caller may see began.
				v.filter("h", "LEAST(r.updated, (SELECT min(n.updated) FROM "+schema+".resource_history n WHERE n.tenant = h.tenant AND n.pk = h.pk AND n.version > h.version AND "+x.was("n")+"))")
				q.WriteString(v.order("h"))
			}
			q.WriteString(" LIMIT " + v.limit + ") AS l")
		}
	}
}

// filter appends what the client asks of a version; end is when the version ended, "" for a current one.
func (v *versionQuery) filter(alias, end string) {
	q, h := v.q, v.h
	if h.ID != "" {
		q.WriteString(" AND " + alias + ".id = " + q.arg(string(h.ID)))
	}
	if !h.Since.IsZero() {
		q.WriteString(" AND " + alias + ".updated >= " + q.arg(h.Since))
	}
	if !h.To.IsZero() {
		q.WriteString(" AND " + alias + ".updated < " + q.arg(h.To))
		if end != "" {
			q.WriteString(" AND " + end + " > " + q.arg(h.From))
		}
	}
	if h.After == nil || len(h.After.Keys) != 2 {
		return
	}
	op := "<"
	if h.Oldest {
		op = ">"
	}
	version, _ := strconv.ParseInt(h.After.Keys[1].Text, 10, 32)
	at := q.arg(h.After.Keys[0].Text) + "::text::timestamptz"
	// The first condition says nothing new: it is the one that the index answers.
	q.WriteString(" AND " + alias + ".updated " + op + "= " + at + " AND (" + alias + ".updated, " + alias + ".type, " + alias + ".id, " + alias + ".version) " + op +
		" (" + at + ", " + q.arg(h.After.Type.Code()) + "::smallint, " + q.arg(string(h.After.ID)) + "::text, " + q.arg(int32(version)) + "::integer)")
}

func (v *versionQuery) order(alias string) string {
	dir := " DESC"
	if v.h.Oldest {
		dir = ""
	}
	if alias != "v" { // within one type
		return " ORDER BY " + alias + ".updated" + dir + ", " + alias + ".id" + dir + ", " + alias + ".version" + dir
	}
	return " ORDER BY v.updated" + dir + ", v.type" + dir + ", v.id" + dir + ", v.version" + dir
}
