// Package policytest runs the authorization cases, which are data, against a policy.
//
// A case is one YAML mapping; testdata/authz holds them, and README.md there
// explains each key. The end-to-end cases in testdata/authz/e2e need a database
// and are run by the tests of the assembled server.
package policytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/consent/state"
	"github.com/cloister-health/cloister/fhir"
)

// Persona is a caller as its token describes it.
type Persona struct {
	Roles         []string `yaml:"roles"`
	Purpose       string   `yaml:"purpose"` // v3-ActReason code
	Practice      string   `yaml:"practice"`
	User          string   `yaml:"user"` // fhirUser
	Organizations []string `yaml:"organizations"`
	Patient       string   `yaml:"patient"` // launch context
	Scope         string   `yaml:"scope"`
	Client        string   `yaml:"client"`
}

// Caller is a persona by name, or one written out in the case.
type Caller struct {
	Name string // "" if written out
	Persona
}

// UnmarshalYAML reads a name or a mapping.
func (c *Caller) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&c.Name)
	}
	return n.Decode(&c.Persona)
}

// Resource is the class of the resource that is asked for.
type Resource struct {
	Type   fhir.ResourceType `yaml:"type"`
	Labels []string          `yaml:"labels"` // codes, as label.Set.Codes gives them
}

// Expect is what must come of a case.
type Expect struct {
	Decision string `yaml:"decision"` // permit or deny
	// By is the name of a line that decides, "-" where it is denied because no line permits it, or "law " and the
	// rule where a line permits it and the law bars it.
	By string `yaml:"by"`
}

// Case is one question with its answer.
type Case struct {
	Name     string       `yaml:"name"`
	Rules    []string     `yaml:"rules"` // numbers in the specification and citations
	Caller   Caller       `yaml:"caller"`
	Resource Resource     `yaml:"resource"`
	Facts    []string     `yaml:"facts"`
	Action   authz.Action `yaml:"action"`
	// Jurisdiction is whose law holds besides federal law, as in the policy of a practice.
	Jurisdiction []string `yaml:"jurisdiction"`
	Expect       Expect   `yaml:"expect"`

	File string `yaml:"-"`
}

// Restricted says of a record that a restriction binds the caller. Where it is
// not named, the fact unrestricted holds.
const Restricted = "restricted"

// Question is the case as the decision point is asked.
func (c Case) Question() (authz.Question, authz.Fact, error) {
	q := authz.Question{Roles: c.Caller.Roles, Purpose: c.Caller.Purpose, Action: c.Action, Type: c.Resource.Type}
	if len(c.Resource.Labels) > 0 {
		var err error
		if q.Labels, err = label.ParseSet(strings.Join(c.Resource.Labels, "+")); err != nil {
			return q, 0, err
		}
	}
	facts := authz.Unrestricted // as nearly every record is
	for _, name := range c.Facts {
		if name == Restricted {
			facts &^= authz.Unrestricted
			continue
		}
		f, ok := authz.FactNamed(name)
		if !ok {
			return q, 0, fmt.Errorf("unknown fact %q", name)
		}
		facts |= f
	}
	return q, facts, nil
}

type file struct {
	Personas map[string]Persona `yaml:"personas"`
	Cases    []Case             `yaml:"cases"`
}

// Load reads every *.yaml at the top of fsys. Unknown keys, unknown personas
// and repeated names are errors; all of them are reported.
func Load(fsys fs.FS) ([]Case, error) {
	names, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("policytest: no *.yaml files")
	}
	var errs []error
	var cases []Case
	personas := map[string]Persona{}
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		var f file
		d := yaml.NewDecoder(bytes.NewReader(data))
		d.KnownFields(true)
		if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		for k, p := range f.Personas {
			if _, taken := personas[k]; taken {
				errs = append(errs, fmt.Errorf("%s: the persona %q is defined twice", name, k))
			}
			personas[k] = p
		}
		for _, c := range f.Cases {
			c.File = name
			cases = append(cases, c)
		}
	}
	seen := map[string]bool{}
	for i := range cases {
		c := &cases[i]
		fault := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s: %s: %s", c.File, c.Name, fmt.Sprintf(format, args...)))
		}
		if c.Name == "" || seen[c.Name] {
			fault("a case has a name of its own")
		}
		seen[c.Name] = true
		if n := c.Caller.Name; n != "" {
			p, ok := personas[n]
			if !ok {
				fault("unknown persona %q", n)
			}
			c.Caller.Persona = p
		}
		if len(c.Rules) == 0 {
			fault("a case names the rules that it stands for")
		}
		if c.Expect.Decision != "permit" && c.Expect.Decision != "deny" {
			fault("the decision is permit or deny, not %q", c.Expect.Decision)
		}
		if c.Expect.By == "" {
			fault("expect.by names the line that decides, or is -")
		}
		if !slices.Contains(pdp.Actions(), c.Action) {
			fault("unknown action %q", c.Action)
		}
		if !c.Resource.Type.Valid() {
			fault("unknown resource type %q", c.Resource.Type)
		}
		if _, _, err := c.Question(); err != nil {
			fault("%v", err)
		}
		if _, err := state.Select(c.Jurisdiction...); err != nil {
			fault("%v", err)
		}
	}
	return cases, errors.Join(errs...)
}

// Result is what came of one case. Fault is "" where it came out as expected.
type Result struct {
	Case        Case
	Explanation pdp.Explanation
	Fault       string
}

// Run decides every case under the policy of p, and the law below it.
func Run(p *pdp.Point, cases []Case) []Result {
	out := make([]Result, 0, len(cases))
	for _, c := range cases {
		r := Result{Case: c}
		r.Explanation, r.Fault = run(p, c)
		out = append(out, r)
	}
	return out
}

func run(p *pdp.Point, c Case) (pdp.Explanation, string) {
	q, facts, err := c.Question()
	if err != nil {
		return pdp.Explanation{}, err.Error()
	}
	e, err := p.Explain(q, facts)
	if err != nil {
		return e, err.Error()
	}
	states, err := state.Select(c.Jurisdiction...)
	if err != nil {
		return e, err.Error()
	}
	by, decision := e.By, "deny"
	if e.Permit {
		decision = "permit"
		if rule, ok := authz.Lawful(q, facts, states); !ok {
			decision, by = "deny", []string{"law " + rule}
		}
	}
	if len(by) == 0 {
		by = []string{"-"}
	}
	switch {
	case decision != c.Expect.Decision:
		return e, fmt.Sprintf("expected %s by %s, got %s by %s", c.Expect.Decision, c.Expect.By, decision, strings.Join(by, ", "))
	case !slices.Contains(by, c.Expect.By):
		return e, fmt.Sprintf("expected %s by %s, got it by %s", decision, c.Expect.By, strings.Join(by, ", "))
	}
	return e, ""
}
