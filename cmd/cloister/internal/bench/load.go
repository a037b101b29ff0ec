package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/importer"
	"github.com/cloister-health/cloister/cmd/cloister/internal/seed"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
)

// practice is the one that Synthea's people are put into.
const practice = "bench"

// loaded is what loading cost. It stays in the database, so that a later run
// over the same data can still tell.
type loaded struct {
	Set       string        `json:"set"`
	Data      string        `json:"data"`      // what the data set is
	Resources int64         `json:"resources"` // in the practice that is measured
	All       int64         `json:"all"`       // in all practices
	Refused   int64         `json:"refused"`
	Took      time.Duration `json:"took_ns"`
	Copied    int64         `json:"copied"`          // resources of the COPY
	Copy      time.Duration `json:"copy_ns"`         // COPY of as many bodies
	Bytes     int64         `json:"bytes"`           // of database, without the empty one
	Workers   int           `json:"workers"`         // of the import
	Own       time.Duration `json:"own_cpu_ns"`      // processor time of this process
	Database  time.Duration `json:"database_cpu_ns"` // of the private database
	fresh     bool          // measured by this very run
}

func (l *loaded) rate() float64 { return float64(l.All) / max(l.Took.Seconds(), 1e-3) }

func (l *loaded) copyRate() float64 { return float64(l.Copied) / max(l.Copy.Seconds(), 1e-3) }

func (l *loaded) perResource() float64 { return float64(l.Bytes) / float64(max(l.All, 1)) }

// load stores the data set unless it is there, and measures COPY of the same bodies.
func (b *bench) load(ctx context.Context) (*loaded, error) {
	if _, err := b.sql.Exec(ctx, "CREATE TABLE IF NOT EXISTS public.bench_load (doc jsonb NOT NULL)"); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	l := &loaded{}
	var text string
	switch err := b.sql.QueryRow(ctx, "SELECT doc::text FROM public.bench_load").Scan(&text); {
	case errors.Is(err, pgx.ErrNoRows):
		if err := b.loadNow(ctx, l); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("bench: %w", err)
	default:
		if err := json.Unmarshal([]byte(text), l); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		if l.Set != b.set.name || l.Data != b.set.String() {
			return nil, fmt.Errorf("bench: the database holds %s, and not %s: take another one", l.Data, b.set)
		}
		b.say("%d resources are there", l.All)
	}
	slug := practice
	if !b.set.synthea {
		slug = clinic.Practices()[0].Slug
	}
	b.tenant, _ = b.store.Tenant(slug)
	return l, b.analyze(ctx)
}

func (b *bench) loadNow(ctx context.Context, l *loaded) error {
	l.Set, l.Data, l.Workers, l.fresh = b.set.name, b.set.String(), b.Workers, true
	before, err := b.size(ctx)
	if err != nil {
		return err
	}
	fill := b.seed
	if b.set.synthea {
		scratch, err := os.MkdirTemp("", "cloister-bench-bundles-")
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		defer func() { _ = os.RemoveAll(scratch) }()
		files, err := unpacked(b.Synthea, scratch)
		if err != nil {
			return err
		}
		fill = func(ctx context.Context, l *loaded) error { return b.stream(ctx, files, l) }
	}
	b.say("loading %s", b.set)
	own, database := processor()
	start := time.Now()
	if err := b.profile("load", func() error { return fill(ctx, l) }); err != nil {
		return err
	}
	l.Took = time.Since(start)
	own2, database2 := processor()
	l.Own, l.Database = own2-own, database2-database
	after, err := b.size(ctx)
	if err != nil {
		return err
	}
	l.Bytes = after - before
	if err := b.sql.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE tenant = $1) FROM record.resource", b.tenant).Scan(&l.All, &l.Resources); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	b.say("%s", importer.Rate(l.All, l.Took))
	if l.Copied, l.Copy, err = b.copy(ctx); err != nil {
		return err
	}
	doc, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if _, err := b.sql.Exec(ctx, "INSERT INTO public.bench_load VALUES ($1)", string(doc)); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

func (b *bench) analyze(ctx context.Context) error {
	if _, err := b.sql.Exec(ctx, "VACUUM (ANALYZE)"); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

func (b *bench) size(ctx context.Context) (n int64, err error) {
	if err := b.sql.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&n); err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	return n, nil
}

func (b *bench) stream(ctx context.Context, files []string, l *loaded) (err error) {
	if b.tenant, err = b.store.EnsureTenant(ctx, practice, practice); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	m := &importer.Importer{
		Store: b.store, Engine: b.core.Engine, Gate: b.core.Gate, Principal: server.Operator(b.tenant, "bench"),
		Workers: b.Workers, Report: b.Progress,
	}
	m.Progress = &meter{out: b.Progress, start: time.Now(), stored: m.Stats().Resources.Load}
	var failed error
	if err := m.Stream(ctx, b.set.documents(files, &failed)); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	l.Refused = m.Stats().Refused.Load()
	return failed
}

func (b *bench) seed(ctx context.Context, _ *loaded) error {
	var stored int64
	w := &meter{out: b.Progress, start: time.Now(), stored: func() int64 { return stored }}
	err := seed.Run(ctx, b.core, b.clinic(), func(_ string, n int) {
		stored += int64(n)
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
	return clinic.Config{Seed: 1, Patients: b.set.patients, Now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)}
}

// body is what COPY writes of a resource.
type body struct {
	tenant int32
	typ    int16
	id     string
	body   string
}

// copyMost is how many bodies COPY writes at the most: they are held in memory.
const copyMost = 100_000

// copy writes the same bodies into a table with a primary key, with as many
// workers, in as large transactions: what storing JSON costs at the least.
func (b *bench) copy(ctx context.Context) (int64, time.Duration, error) {
	b.say("COPY of the same bodies")
	rows, err := b.sql.Query(ctx, "SELECT tenant, type, id, body::text FROM record.resource WHERE body IS NOT NULL AND view <= 1 ORDER BY pk LIMIT $1", copyMost)
	if err != nil {
		return 0, 0, fmt.Errorf("bench: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (x body, err error) {
		err = r.Scan(&x.tenant, &x.typ, &x.id, &x.body)
		return x, err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("bench: %w", err)
	}
	var times []time.Duration
	for range b.Rounds {
		d, err := b.copyOnce(ctx, all)
		if err != nil {
			return 0, 0, fmt.Errorf("bench: %w", err)
		}
		times = append(times, d)
	}
	d := median(times)
	b.say("COPY: %s", importer.Rate(int64(len(all)), d))
	return int64(len(all)), d, nil
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
