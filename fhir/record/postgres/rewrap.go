package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// RewrapKeys wraps every data key, of notes and of exports, under the key encryption key that wraps new
// ones, where another one did. Nothing is encrypted anew, servers go on, and a
// run that was stopped goes on when it is repeated. url is a login that owns the
// schema; progress, which may be nil, hears of each key.
func RewrapKeys(ctx context.Context, url string, keys *envelope.Keys, progress func()) (n int, err error) {
	c, err := owner(ctx, url)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	if n, err = rewrapNotes(ctx, c, keys, progress); err != nil {
		return n, err
	}
	more, err := rewrapExports(ctx, c, keys, progress)
	return n + more, err
}

func rewrapNotes(ctx context.Context, c *pgx.Conn, keys *envelope.Keys, progress func()) (n int, err error) {
	for last := int64(0); ; {
		var batch []wrappedKey
		var x wrappedKey
		if err := forEach(ctx, c, "SELECT id, tenant, patient, kek, wrapped FROM notes.data_key WHERE kek <> $1 AND id > $2 ORDER BY id LIMIT $3", []any{keys.URI(), last, noteBatch}, x.scan(), func() error {
			batch = append(batch, x)
			return nil
		}); err != nil {
			return n, private(err)
		}
		if len(batch) == 0 {
			return n, nil
		}
		for _, x := range batch {
			last = x.id
			wrapped, err := keys.Rewrap(ctx, x.kek, x.wrapped, keyOwner(x.tenant, x.patient))
			if err != nil {
				return n, err
			}
			tag, err := c.Exec(ctx, "UPDATE notes.data_key SET kek = $2, wrapped = $3 WHERE id = $1 AND kek = $4", x.id, keys.URI(), wrapped, x.kek)
			if err != nil {
				return n, private(err)
			}
			n += int(tag.RowsAffected())
			if progress != nil {
				progress()
			}
		}
	}
}

func rewrapExports(ctx context.Context, c *pgx.Conn, keys *envelope.Keys, progress func()) (n int, err error) {
	last := "00000000-0000-0000-0000-000000000000"
	for {
		var j export.Job
		var owner []byte
		err := c.QueryRow(ctx, "SELECT id, tenant, owner, kek, wrapped FROM export.job WHERE kek <> $1 AND id > $2::uuid ORDER BY id LIMIT 1", keys.URI(), last).Scan(&j.ID, &j.Tenant, &owner, &j.KEK, &j.Wrapped)
		if errors.Is(err, pgx.ErrNoRows) {
			return n, nil
		}
		if err != nil {
			return n, private(err)
		}
		last = j.ID
		copy(j.Owner[:], owner)
		wrapped, err := keys.Rewrap(ctx, j.KEK, j.Wrapped, export.KeyOwner(j.Tenant, j.ID, j.Owner))
		if err != nil {
			return n, err
		}
		tag, err := c.Exec(ctx, "UPDATE export.job SET kek = $2, wrapped = $3 WHERE id = $1 AND kek = $4", j.ID, keys.URI(), wrapped, j.KEK)
		if err != nil {
			return n, private(err)
		}
		n += int(tag.RowsAffected())
		if progress != nil {
			progress()
		}
	}
}
