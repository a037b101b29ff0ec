package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

const (
	// sweepRows is how many resources a walk does in one transaction, which keeps
	// writes to them waiting.
	sweepRows = 200
	// sweepLease is after how long without a batch another server goes on.
	sweepLease = time.Minute
)

// walk is a kind of work over all that a practice stores. Each row of its table says
// how far one walk is, and which server holds it until when.
type walk struct {
	table string // in schema record
	key   string // the column that tells walks of one practice apart
	only  string // which rows are meant; arguments of it begin at $4
	order string // which comes first, of those that nobody holds
}

// persist does batches of a walk, looking for some every so often, until ctx ends.
func persist(ctx context.Context, every time.Duration, failure func(error), batch func() (busy bool, err error)) {
	t := time.NewTicker(every)
	defer t.Stop()
	for ctx.Err() == nil {
		busy, err := batch()
		if err != nil && ctx.Err() == nil {
			failure(err)
		}
		if busy && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}

// batch takes a walk that no other server holds, and does one batch of it; without
// any it is not busy. me is the UUID of who does it, and key is where the walk's goes.
func (w *write) batch(ctx context.Context, k walk, me string, key any, do func(context.Context) error, only ...any) (busy bool, err error) {
	s, now := w.s, w.s.now().UTC()
	// What it holds already comes first, so that one thing ends before the next begins.
	err = s.side.QueryRow(ctx, "UPDATE record."+k.table+" j SET holder = $1, lease = $2 FROM (SELECT tenant, "+k.key+" AS key FROM record."+k.table+
		" WHERE "+k.only+" AND (holder IS NULL OR holder = $1 OR lease <= $3) ORDER BY holder = $1 DESC NULLS LAST, "+k.order+
		" LIMIT 1 FOR UPDATE SKIP LOCKED) AS n WHERE j.tenant = n.tenant AND j."+k.key+" = n.key RETURNING j.tenant, j."+k.key,
		append([]any{me, now.Add(sweepLease), now}, only...)...).Scan(&w.practice, key)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, failed(err)
	}
	err = pgx.BeginFunc(ctx, s.notes, func(tx pgx.Tx) error {
		w.tx = tx
		return do(ctx)
	})
	switch sqlState(err) {
	case "40P01", "40001": // a change of the same resources came first
		return true, nil
	}
	return true, failed(err)
}

// advance goes on with a walk from where it is, some resources at a time, and says
// whether it has ended with that. One that this server no longer holds has not.
func (w *write) advance(ctx context.Context, k walk, me string, key any, some func(ctx context.Context, at *standing, limit int) (int, error)) (ended bool, err error) {
	var at standing
	where := " WHERE tenant = $1 AND " + k.key + " = $2"
	err = w.tx.QueryRow(ctx, "SELECT types, schema, id, shadow FROM record."+k.table+where+" AND holder = $3 FOR UPDATE", w.practice, key, me).
		Scan(&at.types, &at.schema, &at.id, &at.shadow)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // it has begun anew, or what it is for is gone
	}
	if err != nil {
		return false, err
	}
	for done := 0; done < sweepRows && len(at.types) > 0; {
		n, err := some(ctx, &at, sweepRows-done)
		if err != nil {
			return false, err
		}
		done += n
	}
	if len(at.types) > 0 {
		_, err = w.tx.Exec(ctx, "UPDATE record."+k.table+" SET types = $3, schema = $4, id = $5, shadow = $6"+where, w.practice, key, at.types, at.schema, at.id, at.shadow)
		return false, err
	}
	_, err = w.tx.Exec(ctx, "DELETE FROM record."+k.table+where, w.practice, key)
	return true, err
}

// standing is how far a walk over all that a practice stores is: the last
// resource that is done, of the first of the types, in one schema.
type standing struct {
	types  []int16
	schema string
	id     string
	shadow int16
}

// next reads the next resources of a walk, up to limit of them. columns and
// condition are of SQL, and into is where each row goes before its call.
func (w *write) next(ctx context.Context, at *standing, limit int, columns, condition string, into []any, each func() error) error {
	// The rows are locked in the order in which changes lock them, and read as
	// they are once that is done.
	return forEach(ctx, w.tx, "SELECT id, shadow, "+columns+" FROM "+at.schema+".resource WHERE tenant = $1 AND type = $2 AND (id, shadow) > ($3, $4) AND "+condition+" ORDER BY id, shadow LIMIT $5 FOR NO KEY UPDATE",
		[]any{w.practice, at.types[0], at.id, at.shadow, limit}, append([]any{&at.id, &at.shadow}, into...), each)
}

// passed moves on behind the rows that were read: unless there are more of them,
// to the same type in the other schema, and to the next type.
func (at *standing) passed(more bool) {
	switch {
	case more:
		return
	case at.schema == "record":
		at.schema = "notes"
	default:
		at.types, at.schema = at.types[1:], "record"
	}
	at.id, at.shadow = "", 0
}

// everyType are the codes of all resource types.
func everyType() []int16 {
	out := make([]int16, 0, len(fhir.ResourceTypes()))
	for _, t := range fhir.ResourceTypes() {
		out = append(out, t.Code())
	}
	return out
}

// content reads a stored body. Every walk goes through here: the body of a note
// is decrypted by a key that comes over another connection, so rows may be read meanwhile.
func (w *write) content(ctx context.Context, schema string, ref fhir.Ref, v fhir.VersionID, body []byte) (*codec.Resource, error) {
	if schema == "notes" {
		var err error
		if body, err = w.s.decrypt(ctx, w.s.notes, w.practice, "walk", ref, v, body); err != nil {
			return nil, err
		}
	}
	root, err := codec.ReadJSON(body, codec.DefaultLimits)
	if err != nil {
		return nil, err
	}
	return &codec.Resource{Type: ref.Type, Root: root}, nil
}
