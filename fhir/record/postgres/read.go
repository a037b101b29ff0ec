package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// errNotFound is the one answer for hidden and absent.
var errNotFound = outcome.New(outcome.NotFound, "there is no such resource")

// schemas lists the schemas that a caller's Restriction reaches.
func schemas(r authz.Restriction) []string {
	if r.Notes() != 0 {
		return []string{"record", "notes"}
	}
	return []string{"record"}
}

func (s *Store) pool(r authz.Restriction) *pgxpool.Pool {
	if r.Notes() != 0 {
		return s.notes
	}
	return s.app
}

// columns are those that [Store.sealed] scans, in its order.
func (x *restriction) columns(alias string) string {
	return alias + ".id, " + alias + ".version, " + alias + ".updated, " + alias + ".deleted, " + alias + ".label_class, " +
		"CASE WHEN " + alias + ".co_patients IS NULL THEN " + alias + ".patient END AS patient, " +
		x.facts(alias, needed(x.r)) + " AS facts, " + alias + ".body"
}

// keyed is the pool for reads by id.
func (s *Store) keyed(r authz.Restriction) *pgxpool.Pool {
	if r.Notes() != 0 {
		return s.noteReads
	}
	return s.appReads
}

// sealed reads the rows of a statement and seals each at once.
func (s *Store) sealed(ctx context.Context, p *pgxpool.Pool, r authz.Restriction, q *statement) ([]record.Sealed, error) {
	var out []record.Sealed
	var h vault.Header
	var class int16
	var facts int32
	var patient *string
	var body []byte // pgx makes it anew for each row
	err := forEach(ctx, p, q.String(), q.args, []any{&h.Ref.ID, &h.Version, &h.Updated, &h.Deleted, &class, &patient, &facts, &body}, func() (err error) {
		row := h
		row.Ref.Type = r.Type()
		if row.Labels, err = s.labels(ctx, class); err != nil {
			return err
		}
		row.Updated = h.Updated.UTC()
		row.Created = h.Version == 1
		row.Facts = authz.Fact(facts)
		if patient != nil {
			row.Patient = fhir.ID(*patient)
		}
		out = append(out, vault.Seal(row, r.Grant(), body))
		return nil
	})
	if err != nil {
		return nil, failed(err)
	}
	return out, nil
}

// legs writes one SELECT per schema that the caller reaches.
func legs(q *statement, r authz.Restriction, leg func(schema string)) {
	for i, schema := range schemas(r) {
		if i > 0 {
			q.WriteString(" UNION ALL ")
		}
		q.WriteString("(")
		leg(schema)
		q.WriteString(")")
	}
}

// Read finds the current version of a resource; a deleted one comes as a tombstone.
func (s *Store) Read(ctx context.Context, r authz.Restriction, id fhir.ID) (record.Sealed, error) {
	if r.Empty() {
		return record.Sealed{}, errNotFound
	}
	return s.first(ctx, r, readStatement(r, id))
}

func readStatement(r authz.Restriction, id fhir.ID) *statement {
	q := &statement{}
	x := restrict(q, r)
	key := q.arg(string(id))
	legs(q, r, func(schema string) {
		q.WriteString("SELECT " + x.columns("r") + " FROM " + schema + ".resource r WHERE r.id = " + key + " AND " + x.where("r") + " ORDER BY r.shadow LIMIT 1")
	})
	return q
}

func (s *Store) first(ctx context.Context, r authz.Restriction, q *statement) (record.Sealed, error) {
	found, err := s.sealed(ctx, s.keyed(r), r, q)
	if err != nil {
		return record.Sealed{}, err
	}
	if len(found) == 0 {
		return record.Sealed{}, errNotFound
	}
	return found[0], nil
}

// versions writes the version query: the current row, and the superseded ones
// under it. Both must be visible: a version that was open once is not open
// once the resource has been protected.
func versions(q *statement, r authz.Restriction, id fhir.ID, filter func(alias string) string) {
	x := restrict(q, r)
	key := q.arg(string(id))
	legs(q, r, func(schema string) {
		current := schema + ".resource r WHERE r.id = " + key + " AND " + x.where("r")
		q.WriteString("SELECT " + x.columns("r") + " FROM " + current + filter("r") +
			" UNION ALL SELECT " + x.columns("h") + " FROM " + schema + ".resource_history h" +
			" WHERE h.pk IN (SELECT r.pk FROM " + current + ") AND " + x.where("h") + filter("h"))
	})
}

// VRead finds one version of a resource.
func (s *Store) VRead(ctx context.Context, r authz.Restriction, id fhir.ID, v fhir.VersionID) (record.Sealed, error) {
	if r.Empty() {
		return record.Sealed{}, errNotFound
	}
	var q statement
	version := q.arg(int32(v))
	versions(&q, r, id, func(alias string) string { return " AND " + alias + ".version = " + version })
	return s.first(ctx, r, &q)
}

func page(found []record.Sealed, count int) record.Page {
	p := record.Page{Entries: found, Total: -1}
	if len(found) > count {
		p.Entries, p.More = found[:count], true
	}
	return p
}
