package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// noteBatch is how many notes are changed in one transaction.
const noteBatch = 100

// noteTables hold bodies of notes.
var noteTables = []string{"resource", "resource_history"}

const encryptedSQL = `SELECT count(*) = 2, COALESCE(bool_and(c.convalidated), false) FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = 'notes' AND c.conname = 'note_encrypted'`

var (
	errNotEncrypted = errors.New("postgres: the notes of an earlier version are not encrypted yet: run cloister keys encrypt, as the login that migrates")
	errOlderSchema  = errors.New("postgres: the schema is older than this program: run cloister migrate first")
)

// encrypted fails where notes may stand in the clear, so that nothing reads them as they are.
func (s *Store) encrypted(ctx context.Context) error {
	if s.noteKeys.keys == nil {
		return nil
	}
	var there, valid bool
	if err := s.side.QueryRow(ctx, encryptedSQL).Scan(&there, &valid); err != nil {
		return failed(err)
	}
	switch {
	case !there:
		return errOlderSchema
	case !valid:
		return errNotEncrypted
	}
	return nil
}

// EncryptNotes encrypts what an earlier version stored of notes in the clear,
// and rewrites their tables, so that nothing of it stays in their files. Until
// it is done no store opens. It can be stopped, and goes on when it is called
// again. url is a login that owns the schema, as for [Migrate]; progress, which
// may be nil, hears of each version.
func EncryptNotes(ctx context.Context, url string, keys *envelope.Keys, progress func()) (n int, err error) {
	c, err := owner(ctx, url)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	var there, valid bool
	if err := c.QueryRow(ctx, encryptedSQL).Scan(&there, &valid); err != nil {
		return 0, private(err)
	}
	switch {
	case !there:
		return 0, errOlderSchema
	case valid:
		return 0, nil
	}
	s := &Store{noteKeys: newNoteKeys(keys, time.Now)}
	for _, table := range noteTables {
		for done := noteBatch; done == noteBatch; n += done {
			if err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) (err error) {
				done, err = (&write{s: s, tx: tx}).encryptStored(ctx, table, progress)
				return err
			}); err != nil {
				return n, fmt.Errorf("postgres: the notes are not all encrypted yet, and the next run goes on from here: %w", private(err))
			}
		}
	}
	for _, sql := range []string{
		"DELETE FROM notes.resource_string", "DELETE FROM notes.resource_quantity",
		"VACUUM (FULL) notes.resource, notes.resource_history, notes.resource_string, notes.resource_quantity, notes.resource_date",
		// They come last: they say that all of it is done.
		"ALTER TABLE notes.resource VALIDATE CONSTRAINT note_encrypted", "ALTER TABLE notes.resource_history VALIDATE CONSTRAINT note_encrypted",
	} {
		if _, err := c.Exec(ctx, sql); err != nil {
			return n, private(err)
		}
	}
	return n, nil
}

// encryptStored encrypts the next bodies of a table that stand in the clear.
func (w *write) encryptStored(ctx context.Context, table string, progress func()) (int, error) {
	var rows []*row
	var tenants []int32
	var tenant int32
	var t int16
	var x row
	if err := forEach(ctx, w.tx, "SELECT tenant, type, id, pk, version, body FROM notes."+table+" WHERE jsonb_typeof(body) <> 'string' ORDER BY tenant, pk, version LIMIT $1 FOR UPDATE", []any{noteBatch},
		[]any{&tenant, &t, &x.c.Ref.ID, &x.pk, &x.version, &x.body}, func() error {
			r := x
			r.c.Ref.Type = fhir.TypeOf(t)
			rows, tenants = append(rows, &r), append(tenants, tenant)
			return nil
		}); err != nil {
		return 0, err
	}
	for i, r := range rows {
		w.practice = tenants[i]
		root, err := codec.ReadJSON(r.body, codec.DefaultLimits)
		if err != nil {
			return 0, err
		}
		r.c = vault.Clearance{Ref: r.c.Ref, Content: &codec.Resource{Type: r.c.Ref.Type, Root: root}}
		r.schema, r.patients = "notes", compartment.Patients(r.c.Ref.Type, root)
		w.rows = []*row{r}
		if err := w.encrypt(ctx); err != nil {
			return 0, err
		}
		if _, err := w.tx.Exec(ctx, "UPDATE notes."+table+" SET body = $4::text::jsonb WHERE tenant = $1 AND pk = $2 AND version = $3", w.practice, r.pk, int32(r.version), string(r.body)); err != nil {
			return 0, err
		}
		if table == "resource" {
			if err := w.indexAnew(ctx, "notes", w.rows); err != nil {
				return 0, err
			}
		}
		if progress != nil {
			progress()
		}
	}
	return len(rows), nil
}
