package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
)

// Excise destroys in a database everything that one caller may not see, so that
// what is left is her twin database: the one with which the answers of the full
// database are compared, byte for byte. It takes a read Restriction per
// resource type; a type without one is emptied. What decides about access
// (relations, consents, programs) stays.
//
// The server's own roles cannot delete records: the connection must belong to
// the owner of a database that is meant to be destroyed.
func Excise(ctx context.Context, owner *pgx.Conn, restrictions map[fhir.ResourceType]authz.Restriction) error {
	return pgx.BeginFunc(ctx, owner, func(tx pgx.Tx) error {
		for _, schema := range []string{"record", "notes"} {
			for _, t := range fhir.ResourceTypes() {
				var q statement
				code := q.arg(t.Code())
				keep := "false"
				if r, ok := restrictions[t]; ok && !r.Empty() {
					keep = restrict(&q, r).where("r")
				}
				q.WriteString("DELETE FROM " + schema + ".resource r WHERE r.type = " + code + " AND NOT COALESCE(" + keep + ", false)")
				if _, err := tx.Exec(ctx, q.String(), q.args...); err != nil {
					return fmt.Errorf("excise %s: %w", t, err)
				}
				var h statement
				code = h.arg(t.Code())
				keep = "false"
				if r, ok := restrictions[t]; ok && !r.Empty() {
					keep = restrict(&h, r).was("h")
				}
				h.WriteString("DELETE FROM " + schema + ".resource_history h WHERE h.type = " + code +
					" AND NOT (COALESCE(" + keep + ", false) AND EXISTS (SELECT FROM " + schema + ".resource r WHERE r.pk = h.pk))")
				if _, err := tx.Exec(ctx, h.String(), h.args...); err != nil {
					return fmt.Errorf("excise history of %s: %w", t, err)
				}
			}
			for _, table := range indexTables {
				if _, err := tx.Exec(ctx, "DELETE FROM "+schema+"."+table+" i WHERE NOT EXISTS (SELECT FROM "+schema+".resource r WHERE r.pk = i.pk)"); err != nil {
					return err
				}
			}
		}
		if _, err := tx.Exec(ctx, "DELETE FROM notes.data_key WHERE id NOT IN (SELECT split_part(b.body #>> '{}', '.', 2)::bigint FROM (SELECT body FROM notes.resource UNION ALL SELECT body FROM notes.resource_history) AS b WHERE b.body IS NOT NULL)"); err != nil {
			return err
		}
		for _, table := range []string{"search_parameter", "reindex"} {
			if _, err := tx.Exec(ctx, "DELETE FROM record."+table+" d WHERE d.pk <> 0 AND NOT EXISTS (SELECT FROM record.resource r WHERE r.pk = d.pk)"); err != nil {
				return err
			}
		}
		return nil
	})
}
