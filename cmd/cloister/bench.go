package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/bench"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
)

// benchCmd measures.
type benchCmd struct {
	config.Database
	config.Keys
	Data     string        `name:"data" env:"CLOISTER_BENCH_DATA" placeholder:"DIR" help:"Directory of the private databases that are measured where no database is configured, one for each data set; a later run uses what is loaded there. Default: a temporary one."`
	Set      string        `name:"set" enum:",clinic,clinic-10k,clinic-100k,synthea,synthea-x10" default:"" placeholder:"SET" help:"Data set: clinic, clinic-10k, clinic-100k, synthea or synthea-x10. Default: synthea where --synthea is given, else clinic."`
	Synthea  string        `name:"synthea" type:"existingdir" placeholder:"DIR" help:"Directory of Synthea transaction Bundles, from which the sets of that name are loaded."`
	Patients int           `name:"patients" default:"400" help:"Size of the set clinic."`
	Clients  []int         `name:"clients" default:"8,64" help:"How many clients ask at once. Reads and one search are measured with each number, everything else with the first."`
	Only     string        `name:"only" placeholder:"REGEXP" help:"Measure only what has a matching name, such as 'read|sort'."`
	Duration time.Duration `name:"duration" default:"5s" help:"How long each measurement takes."`
	Rounds   int           `name:"rounds" default:"3" help:"How often each measurement is made, all sides in turns; medians count."`
	Mix      int           `name:"mix" default:"0" placeholder:"MINUTES" help:"Let the mix of reads, searches and writes run that long, and report the memory of the process over time."`
	Workers  int           `name:"workers" default:"2" help:"Workers of the import."`
	Markdown bool          `name:"markdown" help:"Print the report as Markdown."`
	JSON     string        `name:"json" type:"path" placeholder:"FILE" help:"Write the report as JSON to this file."`
	Compare  []string      `name:"compare" type:"existingfile" placeholder:"A.json,B.json" help:"Measure nothing: compare two reports, family by family, and fail where the second is slower than the bar allows."`
	Profile  string        `name:"profile" type:"existingdir" placeholder:"DIR" help:"Directory for CPU profiles of the load and of each family."`
	Plans    string        `name:"plans" type:"existingdir" placeholder:"DIR" help:"Directory for the database's plans of some requests of each family, and of the segmentation."`
}

// Help is shown below the summary.
func (benchCmd) Help() string {
	return `Reports each rate as a ratio to the raw ceiling in the same run (one SELECT per request without
any checks; the same search SQL by hand; COPY of the same rows), because ratios travel and absolute
numbers do not. Where processors are shared, the ratio of processor time is the steadier one.`
}

// Validate refuses a bad configuration before anything starts.
func (c *benchCmd) Validate() error {
	errs := []error{c.Database.Check(false), c.Keys.Check(c.URL != "")}
	if c.Patients < 1 || c.Patients > maxPatients {
		errs = append(errs, fmt.Errorf("--patients is %d: set it between 1 and %d", c.Patients, maxPatients))
	}
	for _, n := range c.Clients {
		if n < 1 || n > 1000 {
			errs = append(errs, fmt.Errorf("--clients is %d: set it between 1 and 1000", n))
		}
	}
	if c.Duration <= 0 {
		errs = append(errs, fmt.Errorf("--duration is %s: set it to a positive duration, such as 5s", c.Duration))
	}
	if c.Rounds < 1 || c.Rounds > 100 {
		errs = append(errs, fmt.Errorf("--rounds is %d: set it between 1 and 100", c.Rounds))
	}
	if c.Mix < 0 || c.Mix > 24*60 {
		errs = append(errs, fmt.Errorf("--mix is %d: set it to a number of minutes, a day at the most", c.Mix))
	}
	if c.Workers < 1 || c.Workers > 256 {
		errs = append(errs, fmt.Errorf("--workers is %d: set it between 1 and 256", c.Workers))
	}
	if c.Set != "" && c.Set[0] == 's' && c.Synthea == "" && c.Data == "" && c.URL == "" {
		errs = append(errs, fmt.Errorf("--set is %s: say with --synthea where its Bundles are", c.Set))
	}
	if n := len(c.Compare); n != 0 && n != 2 {
		errs = append(errs, fmt.Errorf("--compare has %d reports: give it two, with a comma between them", n))
	}
	if _, err := regexp.Compile(c.Only); err != nil {
		errs = append(errs, fmt.Errorf("--only is no regular expression: %w", err))
	}
	return errors.Join(errs...)
}

// Run measures, and prints the report.
func (c *benchCmd) Run(ctx context.Context, out io.Writer, log *slog.Logger) (err error) {
	if len(c.Compare) == 2 {
		return bench.Compare(c.Compare[0], c.Compare[1], out)
	}
	o := bench.Options{
		DSN: c.URL, Dir: c.Data, Set: c.Set, Synthea: c.Synthea, Patients: c.Patients, Clients: c.Clients, Duration: c.Duration, Rounds: c.Rounds,
		Mix: time.Duration(c.Mix) * time.Minute, Workers: c.Workers, Markdown: c.Markdown, Progress: os.Stderr, Log: log, Profile: c.Profile, Plans: c.Plans,
	}
	if o.Keys, err = c.Keys.Open(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if c.Only != "" {
		o.Only = regexp.MustCompile(c.Only)
	}
	if c.JSON != "" {
		f, err := os.Create(c.JSON)
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		o.JSON = f
	}
	return bench.Run(ctx, o, out)
}
