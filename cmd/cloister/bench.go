package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/bench"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
)

// benchCmd measures.
type benchCmd struct {
	config.Database
	Data     string        `name:"data" env:"CLOISTER_BENCH_DATA" placeholder:"DIR" help:"Directory of the private database that is measured where no database is configured; a later run uses what is loaded there. Default: a temporary one."`
	Synthea  string        `name:"synthea" type:"existingdir" placeholder:"DIR" help:"Directory of Synthea transaction Bundles to load; without it the sample clinic is measured."`
	Patients int           `name:"patients" default:"400" help:"Size of the sample clinic."`
	Clients  []int         `name:"clients" default:"8,64" help:"How many clients ask at once; each number is measured."`
	Duration time.Duration `name:"duration" default:"10s" help:"How long each measurement takes."`
	Rounds   int           `name:"rounds" default:"3" help:"How often each measurement is made; medians count."`
	Workers  int           `name:"workers" default:"2" help:"Workers of the import."`
	Markdown bool          `name:"markdown" help:"Print the report as Markdown."`
	Profile  string        `name:"profile" type:"existingdir" placeholder:"DIR" help:"Directory for CPU profiles of the load, the reads and the searches."`
}

// Help is shown below the summary.
func (benchCmd) Help() string {
	return `Reports each rate as a ratio to the raw ceiling on the same machine (one SELECT per request
without any checks; COPY of the same rows), because ratios travel and absolute numbers do not.`
}

// Validate refuses a bad configuration before anything starts.
func (c *benchCmd) Validate() error {
	errs := []error{c.Check(false)}
	if c.Patients < 1 || c.Patients > maxPatients {
		errs = append(errs, fmt.Errorf("--patients is %d: set it between 1 and %d", c.Patients, maxPatients))
	}
	for _, n := range c.Clients {
		if n < 1 || n > 1000 {
			errs = append(errs, fmt.Errorf("--clients is %d: set it between 1 and 1000", n))
		}
	}
	if c.Duration <= 0 {
		errs = append(errs, fmt.Errorf("--duration is %s: set it to a positive duration, such as 10s", c.Duration))
	}
	if c.Rounds < 1 || c.Rounds > 100 {
		errs = append(errs, fmt.Errorf("--rounds is %d: set it between 1 and 100", c.Rounds))
	}
	if c.Workers < 1 || c.Workers > 256 {
		errs = append(errs, fmt.Errorf("--workers is %d: set it between 1 and 256", c.Workers))
	}
	return errors.Join(errs...)
}

// Run measures, and prints the report.
func (c *benchCmd) Run(ctx context.Context, out io.Writer, log *slog.Logger) error {
	return bench.Run(ctx, bench.Options{
		DSN: c.URL, Dir: c.Data, Synthea: c.Synthea, Patients: c.Patients, Clients: c.Clients, Duration: c.Duration, Rounds: c.Rounds,
		Workers: c.Workers, Markdown: c.Markdown, Progress: os.Stderr, Log: log, Profile: c.Profile,
	}, out)
}
