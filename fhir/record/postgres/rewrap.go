package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/intake"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// keyKind is a table of data keys: column wrapped holds them, and kek says which key wrapped each.
type keyKind struct {
	table string
	id    string // its type
	first string // before every id
	whose string // the column, as bytea, that says with id and tenant what a key is bound to
	owner func(tenant int32, id string, whose []byte) []byte
}

// zeroUUID is before every id that is made.
const zeroUUID = "00000000-0000-0000-0000-000000000000"

// keyKinds are all of them. A table that has keys and does not stand here would lose them with the key that wrapped them.
var keyKinds = []keyKind{
	{"notes.data_key", "bigint", "0", "convert_to(patient, 'UTF8')", func(tenant int32, _ string, patient []byte) []byte { return keyOwner(tenant, string(patient)) }},
	{"export.job", "uuid", zeroUUID, "owner", ofClient(export.KeyOwner)},
	{"intake.job", "uuid", zeroUUID, "owner", ofClient(intake.KeyOwner)},
	{"notify.subscription", "uuid", zeroUUID, "owner", ofClient(notify.KeyOwner)},
}

// ofClient is what a key is bound to that belongs to what a client keeps here.
func ofClient(bound func(int32, string, [32]byte) []byte) func(int32, string, []byte) []byte {
	return func(tenant int32, id string, owner []byte) []byte {
		var digest [32]byte
		copy(digest[:], owner)
		return bound(tenant, id, digest)
	}
}

// RewrapKeys wraps every data key under the key encryption key that wraps new ones, where another
// one did: of notes, exports, imports and subscriptions. Nothing is encrypted anew, servers go on, and a
// run that was stopped goes on when it is repeated. url is a login that owns the
// schema; progress, which may be nil, hears of each key.
func RewrapKeys(ctx context.Context, url string, keys *envelope.Keys, progress func()) (n int, err error) {
	c, err := owner(ctx, url)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	for _, k := range keyKinds {
		more, err := k.rewrap(ctx, c, keys, progress)
		if n += more; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (k keyKind) rewrap(ctx context.Context, c *pgx.Conn, keys *envelope.Keys, progress func()) (n int, err error) {
	next := fmt.Sprintf("SELECT id::text, tenant, %s, kek, wrapped FROM %s WHERE kek <> $1 AND id > $2::text::%s ORDER BY id LIMIT 1", k.whose, k.table, k.id)
	// A key that somebody has made anew meanwhile stays as it is; the next run meets it.
	replace := fmt.Sprintf("UPDATE %s SET kek = $2, wrapped = $3 WHERE id = $1::text::%s AND kek = $4 AND wrapped = $5", k.table, k.id)
	for id := k.first; ; {
		var tenant int32
		var whose, old []byte
		var kek string
		err := c.QueryRow(ctx, next, keys.URI(), id).Scan(&id, &tenant, &whose, &kek, &old)
		if errors.Is(err, pgx.ErrNoRows) {
			return n, nil
		}
		if err != nil {
			return n, private(err)
		}
		wrapped, err := keys.Rewrap(ctx, kek, old, k.owner(tenant, id, whose))
		if err != nil {
			return n, err
		}
		tag, err := c.Exec(ctx, replace, id, keys.URI(), wrapped, kek, old)
		if err != nil {
			return n, private(err)
		}
		n += int(tag.RowsAffected())
		if progress != nil {
			progress()
		}
	}
}
