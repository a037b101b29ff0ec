package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz/pdp"
)

// house is how commands call the policy that the program brings along.
const house = "house"

// openPolicy reads a policy: that of the house, the directory of a practice, or a file in
// place of the house's policy.csv (with groups.csv beside it, if there is one).
func openPolicy(path string) (*pdp.Point, error) {
	if path == "" || path == house {
		p, err := pdp.New(pdp.Embedded())
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		return p, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if info.IsDir() {
		o, err := pdp.ReadOverlay(os.DirFS(path), ".")
		if err != nil {
			return nil, fmt.Errorf("policy: %s: %w", path, err)
		}
		o.File = filepath.ToSlash(filepath.Join(path, o.File))
		p, err := pdp.NewPractice(pdp.Embedded(), o)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		return p, nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	src := pdp.Source{Policy: string(text), Groups: pdp.Embedded().Groups}
	beside := filepath.Join(filepath.Dir(path), "groups.csv")
	switch groups, err := os.ReadFile(beside); { //nolint:gosec // as above
	case err == nil:
		src.Groups = string(groups)
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("policy: %w", err)
	}
	p, err := pdp.New(src)
	if err != nil {
		return nil, fmt.Errorf("policy: %s: %w", path, err)
	}
	return p, nil
}

// policyLintCmd says what is wrong with a policy, and what its author can hardly mean.
type policyLintCmd struct {
	Paths []string `arg:"" optional:"" name:"policy" help:"Directories of practices, or files in place of the house's policy.csv. Default: house."`
}

// Run reports all faults, then all warnings. A fault is an error; a warning is none.
func (c *policyLintCmd) Run(out io.Writer) error {
	paths := c.Paths
	if len(paths) == 0 {
		paths = []string{house}
	}
	faulty := 0
	for _, path := range paths {
		p, err := openPolicy(path)
		if err != nil {
			faulty++
			for _, l := range strings.Split(err.Error(), "\n") {
				_, _ = fmt.Fprintf(out, "fault: %s\n", strings.TrimPrefix(l, "policy: "))
			}
			continue
		}
		findings := p.Lint()
		for _, f := range findings {
			at := path
			if f.Line > 0 {
				at = fmt.Sprintf("%s: line %d, %s", path, f.Line, f.Name)
			}
			_, _ = fmt.Fprintf(out, "warning: %s: %s\n", at, f.Text)
		}
		_, _ = fmt.Fprintf(out, "%s: no faults, %d warnings (policy %s)\n", path, len(findings), p.Version())
	}
	if faulty > 0 {
		return fmt.Errorf("policy lint: %d of %d policies cannot be loaded", faulty, len(paths))
	}
	return nil
}

// policyDiffCmd says what another policy would change for whom.
type policyDiffCmd struct {
	Before string `arg:"" name:"old" help:"house, the directory of a practice, or a file in place of the house's policy.csv."`
	After  string `arg:"" name:"new" help:"Likewise."`
	JSON   bool   `name:"json" help:"Write a list in JSON, with every type and every class of labels spelled out."`
}

// Help is shown below the summary.
func (policyDiffCmd) Help() string {
	return `For example: cloister policy diff house policies/harbor
It asks for callers with one role, for all purposes, actions, types and classes of labels, and
folds what changes alike. For callers with several roles the same follows, unless deny lines
with a negated role (!a|b) are among what changes.`
}

// Run compares, and prints what changes.
func (c *policyDiffCmd) Run(out io.Writer) error {
	before, err := openPolicy(c.Before)
	if err != nil {
		return err
	}
	after, err := openPolicy(c.After)
	if err != nil {
		return err
	}
	changes := pdp.Diff(before, after)
	if c.JSON {
		if changes == nil {
			changes = []pdp.Change{}
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(changes) //nolint:wrapcheck // writing to the terminal
	}
	var b strings.Builder
	for _, x := range changes {
		b.WriteString(x.String())
	}
	opens := len(slices.DeleteFunc(slices.Clone(changes), func(x pdp.Change) bool { return x.Was != "deny" }))
	shuts := len(slices.DeleteFunc(slices.Clone(changes), func(x pdp.Change) bool { return x.Is != "deny" }))
	fmt.Fprintf(&b, "%d changes: %d open what was denied, %d deny what was open, %d ask for other facts\n", len(changes), opens, shuts, len(changes)-opens-shuts)
	_, err = io.WriteString(out, b.String())
	return err //nolint:wrapcheck // writing to the terminal
}
