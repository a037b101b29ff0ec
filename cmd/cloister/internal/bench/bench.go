// Package bench measures Cloister against the raw ceiling of the same machine:
// the same work without any check, on the same database, in the same process.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// Options say what is measured, and how long.
type Options struct {
	// DSN is a migrated or empty database to measure on. Empty: a private
	// cluster with the settings of "cloister dev" (durable: fsync is on).
	DSN string
	// Dir is where private clusters live, one for each set; what an earlier run
	// loaded there is used again. Empty: a temporary directory that goes at the end.
	Dir string
	// Keys wrap the data keys of notes. Nil: a key of its own, in Dir.
	Keys *envelope.Keys
	// Set is one of Sets. Empty: "synthea" where Synthea is given, else "clinic".
	Set string
	// Synthea is the directory of the transaction Bundles that the sets of that
	// name are loaded from.
	Synthea  string
	Patients int            // of the set "clinic"; 0 means 400
	Clients  []int          // numbers of concurrent connections; none means 8 and 64
	Only     *regexp.Regexp // families to measure, by name; nil means all
	Duration time.Duration  // of one measurement; 0 means 5 s
	Rounds   int            // each measures every side once, medians count; 0 means 3
	Mix      time.Duration  // how long the mix runs while memory is watched; 0 means not at all
	Workers  int            // of the import; 0 means 2
	MaxConns int            // database connections of each side; 0 means the server's default
	Markdown bool           // print the report as Markdown
	JSON     io.Writer      // gets the report as JSON; nil: nobody
	Progress io.Writer      // told what is going on; nil is silent
	Log      *slog.Logger   // of the private cluster; nil is silent
	// Profile is a directory for CPU profiles (load.pprof, and one for each
	// family), for those who make this faster. Empty: none.
	Profile string
	// Plans is a directory for the plans of the statements that each family's
	// first requests run, with their times (EXPLAIN ANALYZE); "" for none.
	Plans string
}

func (o *Options) defaults() error {
	if o.Patients == 0 {
		o.Patients = 400
	}
	if len(o.Clients) == 0 {
		o.Clients = []int{8, 64}
	}
	if o.Duration == 0 {
		o.Duration = 5 * time.Second
	}
	if o.Rounds == 0 {
		o.Rounds = 3
	}
	if o.Workers == 0 {
		o.Workers = 2
	}
	if o.MaxConns == 0 {
		o.MaxConns = postgres.DefaultMaxConns
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	for _, n := range o.Clients {
		if n < 1 {
			return fmt.Errorf("bench: %d clients cannot ask anything", n)
		}
	}
	if o.Patients < 0 || o.Duration < 0 || o.Rounds < 0 || o.Workers < 0 || o.MaxConns < 0 || o.Mix < 0 {
		return errors.New("bench: sizes and times cannot be negative")
	}
	return nil
}

// bench is one run.
type bench struct {
	Options
	set    set
	store  *postgres.Store
	core   *server.Core
	sql    *pgxpool.Pool // the raw side
	tenant int32
}

// Run loads the data set unless it is there, measures, and writes the report to out.
func Run(ctx context.Context, o Options, out io.Writer) (err error) {
	if err := o.defaults(); err != nil {
		return err
	}
	b := &bench{Options: o}
	if b.set, err = o.set(); err != nil {
		return err
	}
	server.Tune()
	if o.DSN == "" {
		c, stop, err := private(ctx, o, b.set.name)
		if err != nil {
			return err
		}
		defer stop()
		b.DSN = c.DSN(cluster.Database)
	}
	if b.Keys, err = o.keys(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	b.say("bringing the schema up to date")
	if _, err := postgres.Migrate(ctx, b.DSN); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if _, err := postgres.EncryptNotes(ctx, b.DSN, b.Keys, nil); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if b.store, err = postgres.Open(ctx, postgres.Options{URL: b.DSN, MaxConns: o.MaxConns, Keys: b.Keys}); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer b.store.Close()
	if b.core, err = server.NewCore(b.store, time.Now); err != nil {
		return err
	}
	if b.sql, err = b.pool(ctx, keptPlans); err != nil {
		return err
	}
	defer b.sql.Close()
	r, err := b.run(ctx)
	if err != nil {
		return err
	}
	if o.JSON != nil {
		if err := r.json(o.JSON); err != nil {
			return err
		}
	}
	return r.write(out, o.Markdown)
}

// The setting of how long plans last, and its values.
const (
	planMode   = "plan_cache_mode"
	keptPlans  = "force_generic_plan"
	freshPlans = "force_custom_plan"
)

// pool connects the raw side, with the plans that suit its statements best:
// kept ones where a key leads to the row, fresh ones for searches.
func (b *bench) pool(ctx context.Context, plans string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(b.DSN)
	if err != nil {
		return nil, errors.New("bench: the database URL cannot be read")
	}
	cfg.MaxConns = int32(b.MaxConns) //nolint:gosec // a small number
	cfg.ConnConfig.RuntimeParams[planMode] = plans
	cfg.ConnConfig.RuntimeParams["jit"] = "off"
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	p, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return p, nil
}

// private starts the cluster of that set below o.Dir, or one that goes at the end.
func private(ctx context.Context, o Options, set string) (*cluster.Cluster, func(), error) {
	dir, remove := filepath.Join(o.Dir, set), func() {}
	if o.Dir == "" {
		tmp, err := os.MkdirTemp("", "cloister-bench-")
		if err != nil {
			return nil, nil, fmt.Errorf("bench: %w", err)
		}
		// The cluster of root runs as another user, who must get through.
		if err := os.Chmod(tmp, 0o711); err != nil { //nolint:gosec // what lies inside is 0700 and 0600
			return nil, nil, fmt.Errorf("bench: %w", err)
		}
		dir, remove = filepath.Join(tmp, "postgres"), func() { _ = os.RemoveAll(tmp) }
	}
	c, err := cluster.Start(ctx, cluster.Config{Dir: dir, Log: o.Log})
	if err != nil {
		remove()
		return nil, nil, fmt.Errorf("bench: the private database did not start: %w", err)
	}
	return c, func() { _ = c.Stop(); remove() }, nil
}

// keys gives the configured key, or one that lies beside the private databases.
func (o Options) keys() (*envelope.Keys, error) {
	if o.Keys != nil {
		return o.Keys, nil
	}
	dir := o.Dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "cloister-bench-key-"); err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
	}
	path := filepath.Join(dir, "notes-key.json")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := envelope.Create(path); err != nil {
			return nil, err
		}
	}
	return envelope.Open("file:" + path)
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.Progress, "bench: "+format+"\n", args...)
}

// profile records the CPU while f runs.
func (b *bench) profile(name string, f func() error) error {
	if b.Profile == "" {
		return f()
	}
	w, err := os.Create(filepath.Join(b.Profile, name+".pprof")) //nolint:gosec // the operator names it
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = w.Close() }()
	if err := pprof.StartCPUProfile(w); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer pprof.StopCPUProfile()
	return f()
}
