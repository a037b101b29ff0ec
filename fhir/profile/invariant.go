package profile

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/outcome"
)

//go:generate sh -c "go run ./internal/invariantgen \"$CLOISTER_R4_DEFINITIONS\" > invariants.txt"

//go:embed invariants.txt
var invariantText string

// invariant is one constraint of an element.
type invariant struct {
	key     string
	text    string // what it asks for
	warning bool
	expr    *fhirpath.Expression
}

// baseInvariants holds the invariants of R4 by where they hold: a type ("Period", "Patient.contact"), or an
// element with a type of its own ("Observation.code").
var baseInvariants = sync.OnceValue(func() map[string][]invariant {
	m, err := loadInvariants(invariantText)
	if err != nil {
		panic("profile: invariants.txt: " + err.Error())
	}
	return m
})

func loadInvariants(text string) (map[string][]invariant, error) {
	m := map[string][]invariant{}
	for line := range strings.Lines(text) {
		if line[0] == '#' {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			return nil, fmt.Errorf("line %q", line)
		}
		e, err := fhirpath.Compile(f[3])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f[1], err)
		}
		m[f[0]] = append(m[f[0]], invariant{f[1], f[3], f[2] == "warning", e})
	}
	return m, nil
}

// inBase says whether an invariant of a snapshot is one of R4 itself: those are checked in any case.
var inBase = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	// What fhir/codec checks, and what is passed over: see internal/invariantgen.
	for _, key := range []string{"ele-1", "ext-1", "dom-2", "dom-3", "dom-4", "dom-5", "dom-6", "txt-1", "txt-2", "ref-1"} {
		m[key] = true
	}
	for _, list := range baseInvariants() {
		for _, x := range list {
			m[x.key] = true
		}
	}
	return m
})

// base checks the invariants of R4 that hold on v: those of its type and the types from which that derives, and those
// of the element as which it stands.
func (c *check) base(v fhirpath.Value, f frame) {
	all := baseInvariants()
	for t := v.Type(); t != ""; t = fhirpath.Base(t) {
		c.hold(all[t], v, f)
	}
	if p := v.Place(); p.Owner != nil && !strings.Contains(v.Type(), ".") {
		c.hold(all[p.Type+"."+p.Element], v, f)
	}
}

// hold evaluates invariants on v.
func (c *check) hold(list []invariant, v fhirpath.Value, f frame) {
	for i := range list {
		x := &list[i]
		if c.stopped() {
			return
		}
		if c.budget <= 0 {
			c.warn(&trail{name: root(f.at).name, index: -1}, outcome.TooCostly, "not every rule was checked: that would cost too much for one validation")
			return
		}
		o := fhirpath.Options{Resource: f.resource, Root: f.root, Now: c.now(), MemberOf: c.terms.Member, Limits: fhirpath.Limits{Steps: min(c.budget, 1_000_000), Spent: &c.budget}}
		ok, err := x.expr.Holds(c.ctx, v, o)
		switch {
		case err != nil && isOurs(err):
			c.warn(f.at, outcome.Unprocessable, "the rule "+x.key+" could not be evaluated here")
		case err != nil:
			c.err = err
			return
		case !ok:
			c.say(f.at, outcome.BusinessRule, "the rule "+x.key+" is not met: "+x.text, x.warning)
		}
	}
}

func root(t *trail) *trail {
	for t.up != nil {
		t = t.up
	}
	return t
}

// isOurs says that an evaluation failed for what the expression is, not because something else gave out.
func isOurs(err error) bool {
	for _, e := range []error{fhirpath.ErrSteps, fhirpath.ErrItems, fhirpath.ErrText, fhirpath.ErrSingle, fhirpath.ErrType, fhirpath.ErrUnknown, fhirpath.ErrNow, fhirpath.ErrFailed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
