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
	"runtime/pprof"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// Options say what is measured, and how long.
type Options struct {
	// DSN is a migrated or empty database to measure on. Empty: a private
	// cluster with the settings of "cloister dev" (durable: fsync is on).
	DSN string
	// Dir is where the private cluster lives; what an earlier run loaded there
	// is used again. Empty: a temporary directory that goes at the end.
	Dir string
	// Synthea is a directory of transaction Bundles. Empty: the sample clinic.
	Synthea  string
	Patients int           // of the sample clinic; 0 means 400
	Clients  []int         // numbers of concurrent connections; none means 8 and 64
	Duration time.Duration // of one measurement; 0 means 10 s
	Rounds   int           // each measures raw and Cloister once, medians count; 0 means 3
	Workers  int           // of the import; 0 means 2
	MaxConns int           // database connections of each side; 0 means the server's default
	Markdown bool          // print the report as Markdown
	Progress io.Writer     // told what is going on; nil is silent
	Log      *slog.Logger  // of the private cluster; nil is silent
	// Profile is a directory for CPU profiles (load.pprof, read.pprof,
	// search.pprof), for those who make this faster. Empty: none.
	Profile string
}

func (o *Options) defaults() error {
	if o.Patients == 0 {
		o.Patients = 400
	}
	if len(o.Clients) == 0 {
		o.Clients = []int{8, 64}
	}
	if o.Duration == 0 {
		o.Duration = 10 * time.Second
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
	if o.Patients < 0 || o.Duration < 0 || o.Rounds < 0 || o.Workers < 0 || o.MaxConns < 0 {
		return errors.New("bench: sizes and times cannot be negative")
	}
	return nil
}

// Run loads the data set unless it is there, measures, and writes the report to out.
func Run(ctx context.Context, o Options, out io.Writer) (err error) {
	if err := o.defaults(); err != nil {
		return err
	}
	if o.DSN == "" {
		c, stop, err := private(ctx, o)
		if err != nil {
			return err
		}
		defer stop()
		o.DSN = c.DSN(cluster.Database)
	}
	b := &bench{Options: o}
	b.say("bringing the schema up to date")
	if _, err := postgres.Migrate(ctx, o.DSN); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if b.store, err = postgres.Open(ctx, postgres.Options{URL: o.DSN, MaxConns: o.MaxConns}); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer b.store.Close()
	if b.core, err = server.NewCore(b.store, time.Now); err != nil {
		return err
	}
	if err := b.open(ctx); err != nil {
		return err
	}
	defer b.sql.Close()
	r, err := b.run(ctx)
	if err != nil {
		return err
	}
	return r.write(out, o.Markdown)
}

// private starts the cluster of o.Dir, or one that goes at the end.
func private(ctx context.Context, o Options) (*cluster.Cluster, func(), error) {
	dir, remove := o.Dir, func() {}
	if dir == "" {
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
