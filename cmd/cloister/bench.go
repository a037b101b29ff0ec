package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
)

// benchCmd measures.
type benchCmd struct {
	config.Database
	Data     string        `name:"data" env:"CLOISTER_BENCH_DATA" default:".cloister/bench" help:"Directory of the private database that is measured where no database is configured."`
	Synthea  string        `name:"synthea" type:"existingdir" placeholder:"DIR" help:"Directory of Synthea transaction Bundles to load; without it the sample clinic is measured."`
	Patients int           `name:"patients" default:"1000" help:"Size of the sample clinic."`
	Clients  int           `name:"clients" default:"16" help:"How many clients ask at once."`
	Duration time.Duration `name:"duration" default:"10s" help:"How long each measurement takes."`
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
	if c.Clients < 1 || c.Clients > 1000 {
		errs = append(errs, fmt.Errorf("--clients is %d: set it between 1 and 1000", c.Clients))
	}
	if c.Duration <= 0 {
		errs = append(errs, fmt.Errorf("--duration is %s: set it to a positive duration, such as 10s", c.Duration))
	}
	return errors.Join(errs...)
}
