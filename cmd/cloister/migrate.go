package main

import (
	"errors"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
)

// migrateCmd changes the schema.
type migrateCmd struct {
	config.Database
	To     int64 `name:"to" default:"-1" placeholder:"VERSION" help:"Stop at this version of the schema, forwards or backwards; 0 removes everything. Default: the newest."`
	Status bool  `name:"status" help:"Only say which versions are applied."`
}

// Help is shown below the summary.
func (migrateCmd) Help() string {
	return `Run it before serve, once per new version of the program, as a role that owns the schema.
Going backwards drops what the newer version added, with its data.`
}

// Validate refuses a bad configuration before anything starts.
func (c *migrateCmd) Validate() error {
	errs := []error{c.Check(true)}
	if c.To < -1 {
		errs = append(errs, errors.New("--to is negative: name a version of the schema, or leave it out for the newest"))
	}
	if c.Status && c.To != -1 {
		errs = append(errs, errors.New("--status changes nothing, so it does not go with --to"))
	}
	return errors.Join(errs...)
}
