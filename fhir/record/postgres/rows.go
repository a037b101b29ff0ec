package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search"
)

// The array columns travel as array literals, because unnest flattens arrays of arrays.
const insertRowsSQL = `.resource (tenant, type, id, shadow, pk, version, updated, label_class, patient, co_patients, programs, originator, tokens, refs, body, self, canonical, at_lo, at_hi, posted, codes)
SELECT $1, type, id, shadow, pk, version, updated, label_class, patient, co_patients::text[], programs::text[], originator, tokens::bigint[], refs::bigint[], body::jsonb, self, canonical, at_lo, at_hi, posted, codes::bigint[]
FROM unnest($2::smallint[], $3::text[], $4::smallint[], $5::bigint[], $6::integer[], $7::timestamptz[], $8::smallint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::bigint[], $17::bigint[], $18::timestamptz[], $19::timestamptz[], $20::boolean[], $21::text[])
AS n(type, id, shadow, pk, version, updated, label_class, patient, co_patients, programs, originator, tokens, refs, body, self, canonical, at_lo, at_hi, posted, codes)`

// A tombstone keeps the patients and the tokens of what was deleted: whoever could
// see that may know that it is gone.
const updateRowsSQL = `.resource r SET version = n.version, updated = n.updated, deleted = n.body IS NULL, label_class = n.label_class,
 patient = CASE WHEN n.body IS NULL THEN r.patient ELSE n.patient END,
 co_patients = CASE WHEN n.body IS NULL THEN r.co_patients ELSE n.co_patients::text[] END,
 programs = n.programs::text[], tokens = CASE WHEN n.body IS NULL THEN r.tokens ELSE n.tokens::bigint[] END, refs = n.refs::bigint[], body = n.body::jsonb,
 canonical = n.canonical, at_lo = n.at_lo, at_hi = n.at_hi, posted = n.posted, codes = n.codes::bigint[]
FROM unnest($2::smallint[], $3::text[], $4::smallint[], $5::bigint[], $6::integer[], $7::timestamptz[], $8::smallint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::bigint[], $17::bigint[], $18::timestamptz[], $19::timestamptz[], $20::boolean[], $21::text[])
AS n(type, id, shadow, pk, version, updated, label_class, patient, co_patients, programs, originator, tokens, refs, body, self, canonical, at_lo, at_hi, posted, codes)
WHERE r.pk = n.pk AND r.tenant = $1`

const copyHistorySQL = `.resource_history (tenant, type, id, pk, version, updated, deleted, label_class, patient, co_patients, programs, originator, body, posted, self, at_lo, at_hi, refs, codes, tokens)
SELECT tenant, type, id, pk, version, updated, deleted, label_class, patient, co_patients, programs, originator, body, posted, self, at_lo, at_hi, refs, codes, tokens FROM `

// indexTables hold the index values that are ranges or texts, several to a resource.
var indexTables = []string{"resource_date", "resource_string", "resource_quantity"}

// store writes history, current rows and index rows, each kind in one statement per schema.
func (w *write) store(ctx context.Context) error {
	for _, schema := range []string{"record", "notes"} {
		var fresh, changed []*row
		var old []int64
		for _, r := range w.all() {
			switch {
			case r.unchanged || r.schema != schema:
			case r.old == nil:
				fresh = append(fresh, r)
			default:
				changed = append(changed, r)
				old = append(old, r.pk)
			}
		}
		if err := w.shade(ctx, schema, fresh); err != nil {
			return err
		}
		if schema == "record" {
			if err := w.shadeViews(ctx); err != nil {
				return err
			}
		}
		if len(changed) > 0 {
			if _, err := w.tx.Exec(ctx, "INSERT INTO "+schema+copyHistorySQL+schema+".resource WHERE pk = ANY ($1::bigint[])", old); err != nil {
				return err
			}
			for _, table := range indexTables {
				if _, err := w.tx.Exec(ctx, "DELETE FROM "+schema+"."+table+" WHERE tenant = $1 AND pk = ANY ($2::bigint[])", w.tenant(), old); err != nil {
					return err
				}
			}
			if err := w.exec(ctx, "UPDATE "+schema+updateRowsSQL, changed); err != nil {
				return err
			}
		}
		if len(fresh) > 0 {
			if err := w.exec(ctx, "INSERT INTO "+schema+insertRowsSQL, fresh); err != nil {
				if sqlState(err) == "23505" {
					return errCollision
				}
				return err
			}
		}
		if err := w.indexRows(ctx, schema, append(fresh, changed...)); err != nil {
			return err
		}
	}
	if err := w.past(ctx); err != nil {
		return err
	}
	return w.kinship(ctx)
}

// shade gives client-chosen ids rows of their own where rows that the caller
// cannot see bear the ids already: she may not learn that they are in use.
func (w *write) shade(ctx context.Context, schema string, fresh []*row) error {
	byRef := map[fhir.Ref]*row{}
	var types []int16
	var ids []string
	for _, r := range fresh {
		if r.c.Interaction == fhir.Update && !r.further {
			byRef[r.c.Ref] = r
			types, ids = append(types, r.c.Ref.Type.Code()), append(ids, string(r.c.Ref.ID))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	// The inner join goes by the primary key, one id at a time: a hash over the
	// whole practice would read all of it.
	var t int16
	var id string
	var highest *int16
	return forEach(ctx, w.tx, "SELECT n.type, n.id, (SELECT max(r.shadow) FROM "+schema+".resource r WHERE r.tenant = $1 AND r.type = n.type AND r.id = n.id) FROM unnest($2::smallint[], $3::text[]) AS n(type, id)",
		[]any{w.tenant(), types, ids}, []any{&t, &id, &highest}, func() error {
			if highest != nil {
				byRef[fhir.Ref{Type: fhir.TypeOf(t), ID: fhir.ID(id)}].shadow = *highest + 1
			}
			return nil
		})
}

func (w *write) exec(ctx context.Context, sql string, rows []*row) error {
	n := len(rows)
	var (
		types, shadows, classes                                                = make([]int16, n), make([]int16, n), make([]int16, n)
		ids                                                                    = make([]string, n)
		pks                                                                    = make([]int64, n)
		versions                                                               = make([]int32, n)
		updated                                                                = make([]time.Time, n)
		posted                                                                 = make([]bool, n)
		selves                                                                 = make([]int64, n)
		canonicals                                                             = make([]*int64, n)
		from, to                                                               = make([]*time.Time, n), make([]*time.Time, n)
		patients, coPatients, programs, originators, tokens, refs, body, codes = make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n)
	)
	for i, r := range rows {
		types[i], shadows[i], classes[i], posted[i] = r.c.Ref.Type.Code(), r.shadow, r.class, r.posted && r.old == nil
		ids[i], pks[i], versions[i], updated[i] = string(r.c.Ref.ID), r.pk, int32(r.version), r.updated
		selves[i] = mix(w.tenant(), 0, search.TargetHash(r.c.Ref))
		if len(r.patients) > 0 {
			patients[i] = text(string(r.patients[0]))
		}
		if len(r.patients) > 1 {
			co := make([]string, 0, len(r.patients)-1)
			for _, p := range r.patients[1:] {
				co = append(co, string(p))
			}
			coPatients[i] = text(textArray(co))
		}
		if len(r.programs) > 0 {
			programs[i] = text(textArray(r.programs))
		}
		if r.originator != "" {
			originators[i] = text(r.originator)
		}
		if r.body != nil {
			tokens[i], refs[i] = text(intArray(w.mixed(r.c.Ref.Type.Code(), r.index.Tokens))), text(intArray(w.linked(r.index.Refs)))
			codes[i] = w.codes(r)
			body[i] = text(string(r.body))
			if at := r.index; !at.AtHi.IsZero() {
				from[i], to[i] = &at.AtLo, &at.AtHi
			}
			canonicals[i] = w.canonical(r.c.Ref.Type, r.c.Content.Root)
		}
	}
	_, err := w.tx.Exec(ctx, sql, w.tenant(), types, ids, shadows, pks, versions, updated, classes, patients, coPatients, programs, originators, tokens, refs, body, selves, canonicals, from, to, posted, codes)
	return err
}

func text(s string) *string { return &s }

func (w *write) mixed(t int16, hashes []int64) []int64 {
	out := make([]int64, len(hashes))
	for i, h := range hashes {
		out[i] = mix(w.tenant(), t, h)
	}
	return out
}

func (w *write) linked(refs []search.RefEntry) []int64 {
	out := make([]int64, len(refs))
	for i, r := range refs {
		out[i] = mix(w.tenant(), 0, r.Target) ^ r.Param
	}
	return out
}

// byURL are the types that others refer to by canonical url (R4 references,
// 2.3.0.4): those with an element url that is the resource's own.
func byURL(t fhir.ResourceType) bool {
	if t == "Device" || t == "Subscription" { // there it is the address of something else
		return false
	}
	p, ok := search.Lookup(t, "url")
	return ok && p.Type == search.URI
}

// canonical is what refers to a resource by url, or nil.
func (w *write) canonical(t fhir.ResourceType, root *element.Node) *int64 {
	url := root.Get("url").String()
	if url == "" || !byURL(t) {
		return nil
	}
	h := mix(w.tenant(), 0, search.URLHash(url))
	return &h
}

func (w *write) indexRows(ctx context.Context, schema string, rows []*row) error {
	var dates, strs, quantities [][]any
	for _, r := range rows {
		t := r.c.Ref.Type.Code()
		for _, d := range r.index.Dates {
			dates = append(dates, []any{w.tenant(), t, d.Param, r.pk, d.Lo, d.Hi, d.Key, d.KeySystem})
		}
		for _, v := range r.index.Strings {
			strs = append(strs, []any{w.tenant(), t, v.Param, r.pk, v.Text, v.Exact, v.Key, v.KeySystem})
		}
		for _, v := range r.index.Quantities {
			var hi, unitHi *float64
			if v.Hi != v.Lo || v.UnitHi != v.UnitLo {
				hi, unitHi = &v.Hi, &v.UnitHi
			}
			quantities = append(quantities, []any{w.tenant(), t, v.Param, r.pk, v.Key, v.KeySystem, v.Lo, v.Unit, v.UnitLo, hi, unitHi})
		}
	}
	if err := w.copy(ctx, schema, "resource_date", []string{"tenant", "type", "param", "pk", "lo", "hi", "key", "key_system"}, dates); err != nil {
		return err
	}
	if err := w.copy(ctx, schema, "resource_string", []string{"tenant", "type", "param", "pk", "text", "exact", "key", "key_system"}, strs); err != nil {
		return err
	}
	return w.copy(ctx, schema, "resource_quantity", []string{"tenant", "type", "param", "pk", "key", "key_system", "lo", "unit", "unit_lo", "hi", "unit_hi"}, quantities)
}

func (w *write) copy(ctx context.Context, schema, table string, columns []string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	_, err := w.tx.CopyFrom(ctx, pgx.Identifier{schema, table}, columns, pgx.CopyFromRows(rows))
	return err
}
