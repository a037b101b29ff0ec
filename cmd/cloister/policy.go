package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/pdp/policytest"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
)

// policyCmd is the administration point of the access policy.
type policyCmd struct {
	Explain policyExplainCmd `cmd:"" help:"Say which lines of the policy decide for a caller and a class of resources."`
	Test    policyTestCmd    `cmd:"" help:"Run authorization cases (YAML)."`
	Lint    policyLintCmd    `cmd:"" help:"Say what is wrong with a policy, and what can hardly be meant."`
	Diff    policyDiffCmd    `cmd:"" help:"Say what another policy would change for whom."`
}

// policyExplainCmd asks the policy one question.
type policyExplainCmd struct {
	Persona string   `name:"persona" xor:"caller" required:"" placeholder:"NAME" help:"Somebody of the sample clinic, such as colleague or hie, with the roles and the purpose of their token."`
	Roles   []string `name:"role" xor:"caller" required:"" placeholder:"ROLE,..." help:"Roles of the caller, such as therapist."`
	Purpose string   `name:"purpose" placeholder:"CODE" help:"Purpose of use (v3-ActReason), such as TREAT, HPAYMT or HOPERAT. Default: the persona's, else TREAT."`
	Action  string   `name:"action" default:"read" help:"read, create, update, delete, or mask: be told that something is left out. Reading includes searching and history."`
	Type    string   `name:"type" required:"" placeholder:"TYPE" help:"Resource type, such as Observation."`
	Facts   []string `name:"fact" placeholder:"FACT,..." help:"What holds between caller and resource: self, proxy, treating, program, originator, consent, supervising, emergency, exception, agreement; restricted: a restriction binds the caller."`
	Policy  string   `name:"policy" default:"house" placeholder:"PATH" help:"The policy to ask: house, the directory of a practice, or a file in place of the house's policy.csv."`
	Labels  string   `name:"labels" default:"-" help:"Security labels of the resource, such as 42CFRPart2+SUD; - for none."`
}

// Help is shown below the summary.
func (policyExplainCmd) Help() string {
	return `For example: cloister policy explain --persona=colleague --type=DocumentReference --labels=PSYTHPN
Without --fact it says what would be permitted, and with which facts.`
}

// Validate refuses a question that the policy could not be asked.
func (c *policyExplainCmd) Validate() error {
	var errs []error
	if !fhir.ResourceType(c.Type).Valid() {
		errs = append(errs, fmt.Errorf("--type is %q: name a FHIR R4 resource type, such as Observation", c.Type))
	}
	switch authz.Action(c.Action) {
	case authz.ActionRead, authz.ActionCreate, authz.ActionUpdate, authz.ActionDelete, authz.ActionMask:
	default:
		errs = append(errs, fmt.Errorf("--action is %q: set it to read, create, update, delete or mask", c.Action))
	}
	if _, err := label.ParseSet(c.Labels); err != nil {
		errs = append(errs, fmt.Errorf("--labels is %q: join codes with +, such as 42CFRPart2+SUD (known: %s)", c.Labels, label.All))
	}
	if _, err := c.facts(); err != nil {
		errs = append(errs, err)
	}
	if err := c.caller(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// caller fills in what the persona's token says.
func (c *policyExplainCmd) caller() error {
	if c.Persona == "" {
		if c.Purpose == "" {
			c.Purpose = "TREAT"
		}
		return nil
	}
	var names []string
	for _, p := range clinic.Personas(clinic.Config{}) {
		names = append(names, p.Name)
		if p.Name == c.Persona {
			c.Roles = p.Claims.Roles
			if c.Purpose == "" {
				c.Purpose = p.Claims.Purpose
			}
			return nil
		}
	}
	return fmt.Errorf("--persona is %q: name one of %s", c.Persona, strings.Join(names, ", "))
}

func (c *policyExplainCmd) facts() (held authz.Fact, err error) {
	held = authz.Unrestricted // as nearly every record is
	for _, name := range c.Facts {
		f, ok := authz.FactNamed(name)
		switch {
		case name == restricted:
			held &^= authz.Unrestricted
			continue
		case !ok:
			return 0, fmt.Errorf("--fact is %q: set it to self, proxy, treating, program, originator, consent, supervising, emergency, exception, agreement or restricted", name)
		}
		held |= f
	}
	return held, nil
}

// restricted is the opposite of the fact unrestricted, which holds where nothing else is said.
const restricted = "restricted"

// named spells facts without the one that holds where nothing else is said.
func named(f authz.Fact) string { return pdp.FactNames(f &^ authz.Unrestricted) }

// Run asks, and prints the lines that decided.
func (c *policyExplainCmd) Run(out io.Writer) error {
	p, err := openPolicy(c.Policy)
	if err != nil {
		return err
	}
	facts, err := c.facts()
	if err != nil {
		return err
	}
	e, err := p.Explain(c.question(), facts)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	states := p.Practice().States
	e.Needs = authz.LawfulSets(c.question(), e.Needs, states)
	if rule, lawful := authz.Lawful(c.question(), facts, states); e.Permit && !lawful {
		e.Permit, e.By = false, []string{"law " + rule}
	}
	var b strings.Builder
	decision := "deny"
	if e.Permit {
		decision = "permit"
	}
	by := "no line permits it"
	if len(e.By) > 0 {
		by = "by " + strings.Join(e.By, ", ")
	}
	fmt.Fprintf(&b, "%s: %s (facts: %s)\n", decision, by, named(facts))
	if !e.Permit {
		switch {
		case len(e.Needs) == 0:
			b.WriteString("no facts would permit it\n")
		default:
			b.WriteString("permitted with the facts:")
			for i, f := range e.Needs {
				if i > 0 {
					b.WriteString(", or")
				}
				b.WriteString(" " + named(f))
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\nlines about this question:\n")
	for _, l := range e.Lines {
		mark := " "
		if l.Applies {
			mark = "*"
		}
		condition := "needs"
		if l.Effect == "deny" {
			condition = "unless"
		}
		fmt.Fprintf(&b, "%s %4d  %-5s  %-42s %s %s\n", mark, l.Number, l.Effect, l.Name, condition, l.Facts)
	}
	fmt.Fprintf(&b, "* takes effect with these facts; policy %s\n", e.Version)
	_, err = io.WriteString(out, b.String())
	return err //nolint:wrapcheck // writing to the terminal
}

// question is what the flags ask; they were checked by Validate.
func (c *policyExplainCmd) question() authz.Question {
	labels, _ := label.ParseSet(c.Labels) // checked by Validate
	return authz.Question{Roles: c.Roles, Purpose: c.Purpose, Action: authz.Action(c.Action), Type: fhir.ResourceType(c.Type), Labels: labels}
}

// policyTestCmd runs cases against the policy, without a database.
type policyTestCmd struct {
	Policy string   `name:"policy" default:"house" placeholder:"PATH" help:"The policy to run them against: house, the directory of a practice, or a file in place of the house's policy.csv."`
	Paths  []string `arg:"" optional:"" name:"path" type:"existingpath" help:"Case files, or directories of them. Default: testdata/authz."`
}

// Run runs the cases and lists those that came out otherwise.
func (c *policyTestCmd) Run(out io.Writer) error {
	paths := c.Paths
	if len(paths) == 0 {
		paths = []string{filepath.Join("testdata", "authz")}
		if _, err := os.Stat(paths[0]); err != nil {
			return errors.New("policy test: there is no testdata/authz here: name the case files, or run it in the checkout")
		}
	}
	p, err := openPolicy(c.Policy)
	if err != nil {
		return err
	}
	run, failed := 0, 0
	for _, path := range paths {
		cases, err := loadCases(path)
		if err != nil {
			return fmt.Errorf("policy test: %w", err)
		}
		for _, r := range policytest.Run(p, cases) {
			run++
			if r.Fault != "" {
				failed++
				_, _ = fmt.Fprintf(out, "FAIL %s: %s: %s\n", r.Case.File, r.Case.Name, r.Fault)
			}
		}
	}
	_, _ = fmt.Fprintf(out, "%d cases, %d failed (policy %s)\n", run, failed, p.Version())
	if failed > 0 {
		return fmt.Errorf("policy test: %d of %d cases failed", failed, run)
	}
	if run == 0 {
		return errors.New("policy test: no cases were found")
	}
	return nil
}

// loadCases reads the case files of a directory, or one file.
func loadCases(path string) ([]policytest.Case, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the path
	}
	if info.IsDir() {
		return policytest.Load(os.DirFS(path))
	}
	all, err := policytest.Load(os.DirFS(filepath.Dir(path)))
	if err != nil {
		return nil, err
	}
	var out []policytest.Case
	for _, c := range all {
		if c.File == filepath.Base(path) {
			out = append(out, c)
		}
	}
	return out, nil
}
