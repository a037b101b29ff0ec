package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/logging"
)

const about = `Cloister is a FHIR R4 server for behavioral health. What a caller may not see
is absent from every answer: psychotherapy notes and 42 CFR Part 2 records leave
it only when policy, law and the patient's consent allow it.

To try it: cloister dev`

// cli is every command with its flags.
type cli struct {
	config.Logging

	Serve   serveCmd      `cmd:"" help:"Serve the FHIR API from a PostgreSQL database."`
	Dev     devCmd        `cmd:"" help:"Try Cloister on this machine: database, sample clinic and tokens included."`
	Migrate migrateCmd    `cmd:"" help:"Bring the database schema to the version of this program."`
	Deident deidentifyCmd `cmd:"" name:"deidentify" help:"Make a de-identified release of a practice: a directory of NDJSON with a manifest."`
	Import  importCmd     `cmd:"" help:"Load Bundles and NDJSON files into a practice."`
	Package packageCmd    `cmd:"" help:"Install and list FHIR packages: profiles, value sets, code systems."`
	App     appCmd        `cmd:"" help:"Register, approve and withdraw the apps of the embedded authorization server."`
	Keys    keysCmd       `cmd:"" help:"Make, put in use and change the keys that encrypt notes of sessions."`
	Account accountCmd    `cmd:"" help:"Make, invite, list and disable accounts; end sessions; read security events."`
	Label   labelCmd      `cmd:"" help:"Say which labels a resource gets, and why; needs no database."`
	Policy  policyCmd     `cmd:"" help:"Explain, test, check and compare access policies; needs no database."`
	Relabel relabelCmd    `cmd:"" help:"Bring the labels of what is stored up to the content rules."`
	Bench   benchCmd      `cmd:"" help:"Measure this server against the raw ceiling of this machine."`
	Version versionCmd    `cmd:"" help:"Say which version this is."`
	Audit   auditCmd      `cmd:"" help:"Verify the audit trail, say what is out of the ordinary, end what need not be kept, make its keys."`
}

// Validate checks the flags that all commands share.
func (c *cli) Validate() error { return c.Check() }

// parser reads flags and the environment. A variable that is set to nothing counts as not
// set, as container platforms cannot leave one out.
func (c *cli) parser() *kong.Kong {
	for _, v := range os.Environ() {
		if name, ok := strings.CutSuffix(v, "="); ok && strings.HasPrefix(name, "CLOISTER_") {
			_ = os.Unsetenv(name) // fails for malformed names only
		}
	}
	return kong.Must(c,
		kong.Name("cloister"),
		kong.Description(about),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100, NoExpandSubcommands: true}),
	)
}

// defaultFormat: machines read what a server logs, people read the rest.
func defaultFormat(command string) logging.Format {
	if strings.HasPrefix(command, "serve") {
		return logging.JSON
	}
	return logging.Text
}

func (c *cli) log(command string) *slog.Logger {
	format := logging.Format(c.Format)
	if format == "" {
		format = defaultFormat(command)
	}
	level, _ := c.SlogLevel() // checked when the flags were parsed
	return logging.New(os.Stderr, format, level)
}

func complain(w io.Writer, err error) {
	for _, line := range strings.Split(logging.Error(err), "\n") {
		_, _ = fmt.Fprintln(w, "cloister:", line)
	}
}
