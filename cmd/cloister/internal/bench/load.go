package bench

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/importer"
	"github.com/cloister-health/cloister/cmd/cloister/internal/seed"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// bench is one run.
type bench struct {
	Options
	store  *postgres.Store
	core   *server.Core
	sql    *pgxpool.Pool // the raw side
	tenant int32
}

// practice is the one that Synthea's people are put into.
const practice = "bench"

func (b *bench) open(ctx context.Context) error {
	cfg, err := pgxpool.ParseConfig(b.DSN)
	if err != nil {
		return fmt.Errorf("bench: the database URL cannot be read: %w", err)
	}
	cfg.MaxConns = int32(b.MaxConns) //nolint:gosec // a small number
	if b.sql, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// loaded is what loading cost.
type loaded struct {
	data      string        // what the data set is
	resources int64         // in the practice that is measured
	refused   int64         // that the importer reported
	fresh     bool          // false: an earlier run had loaded it
	stored    int64         // by this run
	took      time.Duration // for them
	copied    time.Duration // COPY of the same bodies
	bytes     int64         // of database for all practices, without the empty database
	all       int64         // resources in all practices
}

// load stores the data set unless it is there, and measures COPY of the same bodies.
func (b *bench) load(ctx context.Context) (*loaded, error) {
	l := &loaded{}
	before, err := b.size(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.sql.QueryRow(ctx, "SELECT count(*) = 0 FROM record.resource").Scan(&l.fresh); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	start := time.Now()
	if err := b.profile("load", func() error { return b.fill(ctx, l) }); err != nil {
		return nil, err
	}
	l.took = time.Since(start)
	if l.stored > 0 {
		b.say("%s", importer.Rate(l.stored, l.took))
	}
	after, err := b.size(ctx)
	if err != nil {
		return nil, err
	}
	l.bytes = after - before
	if err := b.sql.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE tenant = $1) FROM record.resource", b.tenant).Scan(&l.all, &l.resources); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if !l.fresh {
		b.say("%d resources are there", l.resources)
		return l, b.analyze(ctx)
	}
	if l.copied, err = b.copy(ctx); err != nil {
		return nil, err
	}
	return l, b.analyze(ctx)
}

func (b *bench) analyze(ctx context.Context) error {
	if _, err := b.sql.Exec(ctx, "VACUUM (ANALYZE) record.resource"); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	_, err := b.sql.Exec(ctx, "VACUUM (ANALYZE) record.resource_date, record.resource_string, record.relation, record.consent_grant")
	return err
}

func (b *bench) size(ctx context.Context) (n int64, err error) {
	if err := b.sql.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&n); err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	return n, nil
}

func (b *bench) fill(ctx context.Context, l *loaded) error {
	if b.Synthea == "" {
		return b.seed(ctx, l)
	}
	l.data = "Synthea transaction Bundles"
	var err error
	if b.tenant, err = b.store.EnsureTenant(ctx, practice, practice); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	b.say("loading the Bundles of %s", b.Synthea)
	m := &importer.Importer{
		Store: b.store, Engine: b.core.Engine, Gate: b.core.Gate, Principal: server.Operator(b.tenant, "bench"),
		Workers: b.Workers, Report: b.Progress,
	}
	m.Progress = &meter{out: b.Progress, start: time.Now(), stored: m.Stats().Resources.Load}
	if err := m.Run(ctx, b.Synthea); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	l.stored, l.refused = m.Stats().Resources.Load(), m.Stats().Refused.Load()
	return nil
}

func (b *bench) seed(ctx context.Context, l *loaded) error {
	l.data = fmt.Sprintf("the sample clinic, %d patients", b.Patients)
	b.say("loading %s", l.data)
	w := &meter{out: b.Progress, start: time.Now(), stored: func() int64 { return l.stored }}
	err := seed.Run(ctx, b.core, b.clinic(), func(_ string, n int) {
		l.stored += int64(n)
		_ = w.Add64(0)
	})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	b.tenant, _ = b.store.Tenant(clinic.Practices()[0].Slug)
	return nil
}

// clinic is always the same one, so that a second run finds it there.
func (b *bench) clinic() clinic.Config {
	return clinic.Config{Seed: 1, Patients: b.Patients, Now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)}
}

// body is what COPY writes of a resource.
type body struct {
	tenant int32
	typ    int16
	id     string
	body   string
}

// copy writes the same bodies into a table with a primary key, with as many
// workers, in as large transactions: what storing JSON costs at the least.
func (b *bench) copy(ctx context.Context) (time.Duration, error) {
	b.say("COPY of the same bodies")
	rows, err := b.sql.Query(ctx, "SELECT tenant, type, id, body::text FROM record.resource WHERE body IS NOT NULL ORDER BY pk")
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (x body, err error) {
		err = r.Scan(&x.tenant, &x.typ, &x.id, &x.body)
		return x, err
	})
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	var times []time.Duration
	for range b.Rounds {
		d, err := b.copyOnce(ctx, all)
		if err != nil {
			return 0, fmt.Errorf("bench: %w", err)
		}
		times = append(times, d)
	}
	d := median(times)
	b.say("COPY: %s", importer.Rate(int64(len(all)), d))
	return d, nil
}

// copyChunk is about the number of resources in a Bundle of Synthea.
const copyChunk = 750

func (b *bench) copyOnce(ctx context.Context, all []body) (time.Duration, error) {
	_, err := b.sql.Exec(ctx, `CREATE TABLE public.bench_copy (tenant integer, type smallint, id text COLLATE "C", body jsonb, PRIMARY KEY (tenant, type, id))`)
	if err != nil {
		return 0, err
	}
	defer func() { _, _ = b.sql.Exec(context.WithoutCancel(ctx), "DROP TABLE public.bench_copy") }()
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.Workers)
	for len(all) > 0 {
		chunk := all[:min(copyChunk, len(all))]
		all = all[len(chunk):]
		g.Go(func() error {
			_, err := b.sql.CopyFrom(ctx, pgx.Identifier{"public", "bench_copy"}, []string{"tenant", "type", "id", "body"},
				pgx.CopyFromSlice(len(chunk), func(i int) ([]any, error) {
					x := chunk[i]
					return []any{x.tenant, x.typ, x.id, x.body}, nil
				}))
			return err
		})
	}
	err = g.Wait()
	return time.Since(start), err
}

// meter shows how far a load is.
type meter struct {
	out    io.Writer
	start  time.Time
	stored func() int64
	mu     sync.Mutex
	said   time.Time
}

// Add64 implements [importer.Progress].
func (m *meter) Add64(int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.said) >= 2*time.Second {
		m.said = now
		_, _ = fmt.Fprintf(m.out, "bench: %s\n", importer.Rate(m.stored(), now.Sub(m.start)))
	}
	return nil
}
