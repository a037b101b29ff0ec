package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/fhir/codec"
)

// labelCmd is about the content rules.
type labelCmd struct {
	Explain labelExplainCmd `cmd:"" help:"Say which labels a resource gets, and why."`
}

// labelExplainCmd classifies a file.
type labelExplainCmd struct {
	config.Labels
	File string `arg:"" name:"file" help:"A FHIR resource or Bundle in JSON; - reads standard input."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// Help is shown below the summary.
func (labelExplainCmd) Help() string {
	return `For example: cloister label explain condition.json
It needs no database, so it says what a resource says of itself. What a record takes over from the
records that it refers to is not in it: a Part 2 program and the note of a session are.`
}

// Validate refuses a bad configuration before anything starts.
func (c *labelExplainCmd) Validate() error { return c.Check() }

// explained is one resource with its labels.
type explained struct {
	Resource        string   `json:"resource"`
	Confidentiality string   `json:"confidentiality"`
	Labels          []string `json:"labels"`
	Reasons         []reason `json:"reasons"`
}

// reason is why a resource has labels.
type reason struct {
	Path   string   `json:"path"`
	System string   `json:"system,omitempty"`
	Code   string   `json:"code"`
	Labels []string `json:"labels"`
	Rule   string   `json:"rule"`
	Basis  string   `json:"basis"`
}

// Run reads, classifies and prints.
func (c *labelExplainCmd) Run(out io.Writer) error {
	rules, err := c.Classifier()
	if err != nil {
		return fmt.Errorf("label explain: %w", err)
	}
	r, err := c.read()
	if err != nil {
		return fmt.Errorf("label explain: %s: %w", c.File, err)
	}
	all := []explained{}
	if r.Type == "Bundle" {
		for _, e := range r.Entries() {
			if e.Resource != nil {
				all = append(all, explain(rules, e.Resource))
			}
		}
	} else {
		all = append(all, explain(rules, r))
	}
	if c.JSON {
		w := json.NewEncoder(out)
		w.SetIndent("", "  ")
		return w.Encode(struct { //nolint:wrapcheck // writing to the terminal
			Rules     string      `json:"rules"`
			Resources []explained `json:"resources"`
		}{rules.Version(), all})
	}
	return table(out, rules, all)
}

func (c *labelExplainCmd) read() (*codec.Resource, error) {
	in := os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, errors.Unwrap(err) // the caller names the file
		}
		defer func() { _ = f.Close() }() // only read
		in = f
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller names the file
	}
	return codec.ParseLimited(body, codec.Limits{Bytes: len(body)}) //nolint:wrapcheck // likewise
}

func explain(rules *label.Classifier, r *codec.Resource) explained {
	all := rules.Classify(label.Content{Type: r.Type, Codings: r.Codings()}) | label.Stated(r.Security())
	x := explained{Resource: string(r.Type), Confidentiality: all.Confidentiality().String(), Labels: listed(all), Reasons: []reason{}}
	if r.ID() != "" {
		x.Resource = r.Ref().String()
	}
	for _, c := range r.Coded() {
		for _, why := range rules.Reasons(r.Type, c.System, c.Code) {
			x.Reasons = append(x.Reasons, reason{c.Path, c.System, c.Code, listed(why.Labels), why.Rule, why.Basis})
		}
	}
	for system, code := range r.Security() {
		one := func(yield func(string, string) bool) { yield(system, code) }
		if s := label.Stated(one); s != 0 {
			x.Reasons = append(x.Reasons, reason{string(r.Type) + ".meta.security", system, code, listed(s), "stated by the sender", "HL7 DS4P"})
		}
	}
	return x
}

// listed gives the codes of labels; JSON has a list where there are none.
func listed(s label.Set) []string { return append([]string{}, s.Codes()...) }

func table(out io.Writer, rules *label.Classifier, all []explained) error {
	for _, x := range all {
		labels := strings.Join(x.Labels, "+")
		if labels == "" {
			labels = "-"
		}
		if _, err := fmt.Fprintf(out, "%s: %s, confidentiality %s\n", x.Resource, labels, x.Confidentiality); err != nil {
			return err //nolint:wrapcheck // writing to the terminal
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, r := range x.Reasons {
			coding := r.Code
			if r.System != "" {
				coding = r.System + "|" + r.Code
			}
			_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\t%s (%s)\n", r.Path, coding, strings.Join(r.Labels, "+"), r.Rule, r.Basis) // Flush says what failed
		}
		if err := w.Flush(); err != nil {
			return err //nolint:wrapcheck // writing to the terminal
		}
	}
	_, err := fmt.Fprintf(out, "rules %s\n", rules.Version())
	return err //nolint:wrapcheck // writing to the terminal
}
