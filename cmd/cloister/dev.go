package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// devCmd is everything on one machine, with a sample clinic and an issuer that
// gives tokens to anybody who can reach this machine's loopback interface.
type devCmd struct {
	Data         string `name:"data" env:"CLOISTER_DATA" placeholder:"DIR" help:"Directory for all that dev keeps: database, keys. Default: .cloister, or /var/lib/cloister where root's database user could not get into the current directory."`
	Reset        bool   `name:"reset" help:"Throw the database of earlier runs away and start clean."`
	Patients     int    `name:"patients" default:"12" help:"Size of the sample clinic, 1 to 100000 patients."`
	Seed         uint64 `name:"seed" default:"1" help:"Seed of the sample clinic: the same seed makes the same people."`
	Listen       string `name:"listen" env:"CLOISTER_LISTEN" default:"127.0.0.1:8080" help:"Address of the FHIR API, on this machine only."`
	DemoListen   string `name:"demo-listen" env:"CLOISTER_DEMO_LISTEN" default:"127.0.0.1:8082" help:"Address of the demo app, on this machine only."`
	IssuerListen string `name:"issuer-listen" env:"CLOISTER_ISSUER_LISTEN" default:"127.0.0.1:8081" help:"Address of the local OpenID issuer, on this machine only."`

	Packages []string `name:"package" type:"existingpath" placeholder:"FILE" help:"FHIR package (.tgz, or a directory) to install at the start; may be given several times. The code systems of Cloister itself are always installed."`

	config.Database
	config.API
	config.Labels
	config.Keys
	config.Sealing
	config.Providers
}

// Help is shown below the summary.
func (devCmd) Help() string {
	return `Runs a private PostgreSQL (installed programs, else a download), migrates it, fills it
with a sample clinic, starts a local OpenID issuer, and prints requests to paste.
With CLOISTER_DATABASE_URL set it uses that database instead of its own.

The next start reuses the data; --reset starts clean. Ctrl-C stops everything.
This is for development: all people in it are made up, and anybody on this machine
can be any of them.`
}

const maxPatients = 100_000

// Validate refuses a bad configuration before anything starts.
func (c *devCmd) Validate() error {
	errs := []error{
		c.Database.Check(false), c.API.Check(), c.Labels.Check(), c.Keys.Check(false), c.Sealing.Check(false), c.Providers.Check(true),
		config.CheckLoopback("CLOISTER_LISTEN (--listen)", c.Listen),
		config.CheckLoopback("CLOISTER_ISSUER_LISTEN (--issuer-listen)", c.IssuerListen),
		config.CheckLoopback("CLOISTER_DEMO_LISTEN (--demo-listen)", c.DemoListen),
	}
	if c.Patients < 1 || c.Patients > maxPatients {
		errs = append(errs, fmt.Errorf("--patients is %d: set it between 1 and %d", c.Patients, maxPatients))
	}
	if c.Reset && c.URL != "" {
		errs = append(errs, errors.New("--reset throws data away, which dev only does to its own database: unset CLOISTER_DATABASE_URL, or empty that database yourself"))
	}
	return errors.Join(errs...)
}

// defaultData is .cloister here, if a cluster can live there. For root it
// often cannot: its cluster runs as another user, who may not pass through /root.
const (
	defaultData = ".cloister"
	systemData  = "/var/lib/cloister"
)

// dataDir is the absolute path of --data.
func (c *devCmd) dataDir() (string, error) {
	dir := c.Data
	if dir == "" {
		dir = defaultData
		if c.URL == "" && cluster.Reachable(filepath.Join(dir, "postgres")) != nil && cluster.Reachable(filepath.Join(systemData, "postgres")) == nil {
			dir = systemData
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("--data: %w", err)
	}
	// The user of the cluster passes through; what lies in it has modes of its own.
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // as said
		return "", fmt.Errorf("--data: %w", err)
	}
	return dir, nil
}

// database is where a command keeps its records: a database of the operator's, or a private cluster.
type database struct {
	DSN  string
	stop func() error
	done <-chan struct{} // closed when the cluster ended; nil for the operator's own
}

// openDatabase gives the configured database, or starts the private cluster of dir. The cluster outlives ctx until
// Close, so that the server can finish its requests first; ctx bounds the start alone.
func openDatabase(ctx context.Context, dsn, dir string, reset bool, log *slog.Logger) (*database, error) {
	if dsn != "" {
		return &database{DSN: dsn, stop: func() error { return nil }}, nil
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	interrupted := context.AfterFunc(ctx, end)
	c, err := cluster.Start(life, cluster.Config{Dir: filepath.Join(dir, "postgres"), Reset: reset, Log: log})
	if err != nil {
		end()
		return nil, fmt.Errorf("the private database did not start: %w", err)
	}
	interrupted()
	log.Info("the private database is up", "postgres", c.Version(), "dir", dir)
	return &database{c.DSN(cluster.Database), func() error { defer end(); return c.Stop() }, c.Done()}, nil
}

// Done is closed when the database ended by itself.
func (d *database) Done() <-chan struct{} { return d.done }

// Close stops a private cluster.
func (d *database) Close() error { return d.stop() }
