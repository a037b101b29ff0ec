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

// patientColumns are the one patient of a row, or the several.
func patientColumns(alias string) string {
	return "CASE WHEN " + alias + ".co_patients IS NULL THEN " + alias + ".patient END AS patient, " +
		"CASE WHEN " + alias + ".co_patients IS NOT NULL THEN array_prepend(" + alias + ".patient, " + alias + ".co_patients) END AS patients"
}

// columns are those that [Store.sealed] scans, in its order.
func (x *restriction) columns(alias string) string {
	return alias + ".id, " + alias + ".version, " + alias + ".updated, " + alias + ".deleted, " + alias + ".label_class, " +
		patientColumns(alias) + ", " +
		x.facts(alias, needed(x.r)) + " AS facts, " + x.consents(alias, needed(x.r)) + ", " + alias + ".body, " + alias + ".pk"
}

// point runs reads by id, under the role that r needs.
func (s *Store) point(r authz.Restriction) *reader {
	if r.Notes() != 0 {
		return s.noteReads
	}
	return s.appReads
}

// scanned is one row of [restriction.columns], as it comes from the database.
type scanned struct {
	h       vault.Header
	class   int16
	facts   int32
	patient *string
	body    []byte // pgx makes it anew for each row
}

func (x *scanned) scan() []any {
	return []any{&x.h.Ref.ID, &x.h.Version, &x.h.Updated, &x.h.Deleted, &x.class, &x.patient, &x.h.Patients, &x.facts, &x.h.Consents, &x.body, &x.h.Row}
}

// seal closes the box around a row that was read under r.
func (s *Store) seal(ctx context.Context, r authz.Restriction, x *scanned) (record.Sealed, error) {
	h := x.h
	h.Ref.Type = r.Type()
	var err error
	if h.Labels, err = s.labels(ctx, x.class); err != nil {
		return record.Sealed{}, err
	}
	h.Updated = h.Updated.UTC()
	h.Created = h.Version == 1
	h.Facts = authz.Fact(x.facts)
	if x.patient != nil {
		h.Patient = fhir.ID(*x.patient)
	}
	return s.box(h, r.Grant(), x.body), nil
}

// sealed reads the rows of a statement and seals each at once.
func (s *Store) sealed(ctx context.Context, p *pgxpool.Pool, r authz.Restriction, q *statement) ([]record.Sealed, error) {
	var out []record.Sealed
	row := &scanned{}
	err := forEach(ctx, p, q.String(), q.args, row.scan(), func() error {
		x, err := s.seal(ctx, r, row)
		out = append(out, x)
		return err
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
	return s.point(r).read(ctx, r, readStatement(&statement{columns: true}, r, id))
}

func readStatement(q *statement, r authz.Restriction, id fhir.ID) *statement {
	x := restrict(q, r)
	key := q.arg(string(id))
	legs(q, r, func(schema string) {
		q.WriteString("SELECT " + x.columns("r") + " FROM " + schema + ".resource r WHERE r.id = " + key + " AND " + x.where("r") + " ORDER BY r.shadow LIMIT 1")
	})
	return q
}

// versions writes the version query: the current row, and the superseded ones
// under it. Both must be visible: a version that was open once is not open
// once the resource has been protected.
func versions(q *statement, r authz.Restriction, id fhir.ID, filter func(alias string) string) {
	x := restrict(q, r)
	x.keyed = true
	key := q.arg(string(id))
	legs(q, r, func(schema string) {
		current := schema + ".resource r WHERE r.id = " + key + " AND " + x.where("r")
		q.WriteString("SELECT " + x.columns("r") + " FROM " + current + filter("r") +
			" UNION ALL SELECT " + x.columns("h") + " FROM " + schema + ".resource_history h" +
			" WHERE h.pk IN (SELECT r.pk FROM " + current + ") AND " + x.was("h") + filter("h"))
	})
}

// VRead finds one version of a resource.
func (s *Store) VRead(ctx context.Context, r authz.Restriction, id fhir.ID, v fhir.VersionID) (record.Sealed, error) {
	if r.Empty() {
		return record.Sealed{}, errNotFound
	}
	return s.point(r).read(ctx, r, versionStatement(&statement{columns: true}, r, id, v))
}

func versionStatement(q *statement, r authz.Restriction, id fhir.ID, v fhir.VersionID) *statement {
	version := q.arg(int32(v))
	versions(q, r, id, func(alias string) string { return " AND " + alias + ".version = " + version })
	return q
}

func page(found []record.Sealed, count int) record.Page {
	p := record.Page{Entries: found, Total: -1}
	if len(found) > count {
		p.Entries, p.More = found[:count], true
	}
	return p
}
