package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

var (
	errOtherRequest = outcome.New(outcome.Unprocessable, "this Idempotency-Key belongs to another request: take a new key for each request")
	errInFlight     = outcome.New(outcome.Conflict, "the request with this Idempotency-Key is under way: repeat it later")
	errOvertaken    = outcome.New(outcome.Conflict, "the request took too long and was repeated in between")
)

// Begin takes a key for an attempt. It gives what became of the first attempt
// where that has ended: then nothing is to be done again. A key of another
// request is 422, one whose request is under way 409. An attempt that neither
// committed nor ended is over when its lease is.
func (s *Store) Begin(ctx context.Context, o record.Once) (*record.Done, error) {
	now := s.now().UTC()
	for range 3 {
		var taken bool
		err := s.side.QueryRow(ctx, `INSERT INTO record.idempotency AS i (tenant, caller, key, entry, request, attempt, lease, expires)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant, caller, key, entry) DO UPDATE SET request = excluded.request, attempt = excluded.attempt, lease = excluded.lease, expires = excluded.expires, receipts = NULL
WHERE i.expires <= $9 OR i.receipts IS NULL AND i.lease <= $9 AND i.request = excluded.request
RETURNING true`, o.Tenant, o.Caller[:], o.Key[:], o.Entry, o.Request[:], o.Attempt, o.Lease, o.Expires, now).Scan(&taken)
		if err == nil {
			return nil, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return nil, failed(err)
		}
		var request, stored []byte
		err = s.side.QueryRow(ctx, "SELECT request, receipts FROM record.idempotency WHERE tenant = $1 AND caller = $2 AND key = $3 AND entry = $4",
			o.Tenant, o.Caller[:], o.Key[:], o.Entry).Scan(&request, &stored)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			continue // it was given up in between
		case err != nil:
			return nil, failed(err)
		case !bytes.Equal(request, o.Request[:]):
			return nil, errOtherRequest
		case stored == nil:
			return nil, errInFlight
		}
		done, err := readDone(stored)
		return done, failed(err)
	}
	return nil, errInFlight
}

// Abandon frees a key whose attempt stored nothing.
func (s *Store) Abandon(ctx context.Context, o record.Once) error {
	_, err := s.side.Exec(ctx, "DELETE FROM record.idempotency WHERE tenant = $1 AND caller = $2 AND key = $3 AND entry = $4 AND attempt = $5 AND receipts IS NULL",
		o.Tenant, o.Caller[:], o.Key[:], o.Entry, o.Attempt)
	return failed(err)
}

// CommitOnce is [Store.Commit] for an attempt that holds a key: the receipts are
// kept in the same transaction, so that a repetition finds them or finds nothing done.
func (s *Store) CommitOnce(ctx context.Context, cleared []record.Cleared, o record.Once) ([]record.Receipt, error) {
	return s.commit(ctx, cleared, also{once: &o})
}

// Settle ends an attempt that stored nothing itself: a refusal, or a batch, whose
// entries hold keys of their own. One that has committed stays as it is.
func (s *Store) Settle(ctx context.Context, o record.Once, d record.Done) error {
	if err := settle(ctx, s.side, o, d); err != nil && !errors.Is(err, errOvertaken) {
		return failed(err)
	}
	return nil
}

func (w *write) settle(ctx context.Context) error {
	if w.once == nil {
		return nil
	}
	return settle(ctx, w.tx, *w.once, record.Done{Receipts: w.receipts()})
}

// execer is the part of a pool and of a transaction that settle needs.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func settle(ctx context.Context, x execer, o record.Once, d record.Done) error {
	tag, err := x.Exec(ctx, "UPDATE record.idempotency SET receipts = $6 WHERE tenant = $1 AND caller = $2 AND key = $3 AND entry = $4 AND attempt = $5 AND receipts IS NULL",
		o.Tenant, o.Caller[:], o.Key[:], o.Entry, o.Attempt, writeDone(d))
	if err == nil && tag.RowsAffected() != 1 {
		return errOvertaken
	}
	return err
}

// Forget removes keys, jobs and relations that have expired and reports how many keys.
func (s *Store) Forget(ctx context.Context) (int64, error) {
	if err := s.forgetRelations(ctx); err != nil {
		return 0, failed(err)
	}
	if _, err := s.side.Exec(ctx, "DELETE FROM record.job WHERE expires <= $1", s.now().UTC()); err != nil {
		return 0, failed(err)
	}
	tag, err := s.side.Exec(ctx, `DELETE FROM record.idempotency i USING (SELECT ctid FROM record.idempotency WHERE expires <= $1 LIMIT 10000 FOR UPDATE SKIP LOCKED) AS old WHERE i.ctid = old.ctid`, s.now().UTC())
	return tag.RowsAffected(), failed(err)
}

// keptDone is an ended attempt as it is kept: which resources, which versions,
// or the public half of a refusal; nothing of any content.
type keptDone struct {
	Receipts []keptReceipt `json:"r,omitempty"`
	Issues   []keptIssue   `json:"i,omitempty"`
}

type keptReceipt struct {
	Type    fhir.ResourceType `json:"t,omitempty"`
	ID      fhir.ID           `json:"i,omitempty"`
	Version fhir.VersionID    `json:"v,omitempty"`
	Updated time.Time         `json:"u,omitzero"`
	Created bool              `json:"c,omitempty"`
	Counted bool              `json:"m,omitempty"`
	Several int               `json:"n,omitempty"`
}

type keptIssue struct {
	Category outcome.Category `json:"c"`
	Text     string           `json:"t,omitempty"`
	Path     string           `json:"p,omitempty"`
	Warning  bool             `json:"w,omitempty"`
}

func writeDone(d record.Done) []byte {
	var kept keptDone
	for _, r := range d.Receipts {
		kept.Receipts = append(kept.Receipts, keptReceipt{r.Ref.Type, r.Ref.ID, r.Version, r.Updated, r.Created, r.Counted, r.Several})
	}
	if d.Refusal != nil {
		for _, i := range d.Refusal.Issues {
			kept.Issues = append(kept.Issues, keptIssue(i))
		}
	}
	text, err := json.Marshal(kept)
	if err != nil {
		panic("postgres: " + err.Error()) // numbers and texts always marshal
	}
	return text
}

func readDone(text []byte) (*record.Done, error) {
	var kept keptDone
	if err := json.Unmarshal(text, &kept); err != nil {
		return nil, errors.New("postgres: a kept answer does not read")
	}
	d := &record.Done{}
	for _, k := range kept.Receipts {
		d.Receipts = append(d.Receipts, record.Receipt{Ref: fhir.Ref{Type: k.Type, ID: k.ID}, Version: k.Version, Updated: k.Updated.UTC(), Created: k.Created, Counted: k.Counted, Several: k.Several})
	}
	if kept.Issues != nil {
		d.Refusal = &outcome.Error{}
		for _, i := range kept.Issues {
			d.Refusal.Issues = append(d.Refusal.Issues, outcome.Issue(i))
		}
	}
	return d, nil
}
