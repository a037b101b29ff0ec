package main

import "github.com/cloister-health/cloister/cmd/cloister/internal/config"

// serveCmd is the server in production. It has no switch that makes tokens:
// they come from the configured issuers alone.
type serveCmd struct {
	config.Serve
}

// Help is shown below the summary.
func (serveCmd) Help() string {
	return `Everything can be set by environment variable; a flag overrides its variable. The
server refuses to start with a configuration that is wrong or incomplete, and says what
to change. The schema must be up to date: run cloister migrate first.

It ends in order on SIGTERM and Ctrl-C: requests under way may finish.`
}

// Validate refuses a bad configuration before anything starts.
func (c *serveCmd) Validate() error { return c.Check() }
