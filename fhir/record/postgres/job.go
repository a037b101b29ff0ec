package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// Enqueue keeps a request that is put off; a caller who has most of them already is throttled.
func (s *Store) Enqueue(ctx context.Context, j record.Job, most int) error {
	return failed(pgx.BeginFunc(ctx, s.side, func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM (SELECT FROM record.job WHERE tenant = $1 AND caller = $2 AND expires > $3 FOR UPDATE) AS mine", j.Tenant, j.Caller[:], s.now().UTC()).Scan(&n); err != nil {
			return err
		}
		if n >= most {
			return outcome.New(outcome.Throttled, "too many of your requests are put off: fetch or delete some of them first")
		}
		_, err := tx.Exec(ctx, "INSERT INTO record.job (tenant, caller, id, request, ready, failed, lease, created, expires) VALUES ($1, $2, $3, $4, $5, false, $6, $7, $8)",
			j.Tenant, j.Caller[:], j.ID, j.Request, j.Ready, j.Lease, j.Created, j.Expires)
		return err
	}))
}

// Job finds a job of one caller's; another's is not found, like one that never was.
func (s *Store) Job(ctx context.Context, tenant int32, caller [32]byte, id string) (record.Job, error) {
	j := record.Job{ID: id, Tenant: tenant, Caller: caller}
	err := s.side.QueryRow(ctx, "SELECT request, ready, failed, lease, created, expires FROM record.job WHERE tenant = $1 AND caller = $2 AND id = $3 AND expires > $4",
		tenant, caller[:], id, s.now().UTC()).Scan(&j.Request, &j.Ready, &j.Failed, &j.Lease, &j.Created, &j.Expires)
	if errors.Is(err, pgx.ErrNoRows) {
		return j, errNotFound
	}
	return j, failed(err)
}

// LeaseJob lets one worker work on a job, or go on with it, until the lease
// ends; mine is false while another one does, or where there is nothing to do.
func (s *Store) LeaseJob(ctx context.Context, j record.Job, lease time.Duration) (mine bool, err error) {
	now := s.now().UTC()
	tag, err := s.side.Exec(ctx, "UPDATE record.job SET lease = $5, worker = $6 WHERE tenant = $1 AND caller = $2 AND id = $3 AND NOT ready AND (lease <= $4 OR worker = $6)",
		j.Tenant, j.Caller[:], j.ID, now, now.Add(lease), j.Worker)
	return err == nil && tag.RowsAffected() == 1, failed(err)
}

// EndJob says that a job has come to its end.
func (s *Store) EndJob(ctx context.Context, j record.Job, failure bool) error {
	_, err := s.side.Exec(ctx, "UPDATE record.job SET ready = true, failed = $4 WHERE tenant = $1 AND caller = $2 AND id = $3", j.Tenant, j.Caller[:], j.ID, failure)
	return failed(err)
}

// DropJob forgets a job.
func (s *Store) DropJob(ctx context.Context, j record.Job) error {
	_, err := s.side.Exec(ctx, "DELETE FROM record.job WHERE tenant = $1 AND caller = $2 AND id = $3", j.Tenant, j.Caller[:], j.ID)
	return failed(err)
}
