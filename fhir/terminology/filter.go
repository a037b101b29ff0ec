package terminology

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// filter is one ValueSet.compose.include.filter (filter-operator).
type filter struct {
	property, op, value string
	pattern             *regexp.Regexp  // regex
	set                 map[string]bool // in, not-in
	path                string
	cost                int // of one concept, in units of [run.spend]
}

// Bounds of a regular expression, which may come with a request.
const (
	longestPattern = 500 // bytes
	largestPattern = 500 // instructions
)

// compilePattern bounds what matching costs: it takes time in proportion to the instructions.
func compilePattern(text string) (*regexp.Regexp, int, bool) {
	text = `^(?:` + text + `)$` // the whole value has to match, as in XML Schema, whose syntax R4 uses
	if len(text) > longestPattern {
		return nil, 0, false
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, 0, false
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil || len(prog.Inst) > largestPattern {
		return nil, 0, false
	}
	pattern, err := regexp.Compile(text)
	return pattern, len(prog.Inst), err == nil
}

func newFilter(n *element.Node, path string) (filter, error) {
	f := filter{property: n.Get("property").String(), op: n.Get("op").String(), value: n.Get("value").String(), path: path, cost: 1}
	switch f.op {
	case "=", "is-a", "descendent-of", "is-not-a", "exists", "generalizes":
	case "in", "not-in":
		f.set = map[string]bool{}
		for _, v := range strings.Split(f.value, ",") {
			f.set[strings.TrimSpace(v)] = true
		}
	case "regex":
		var size int
		var ok bool
		if f.pattern, size, ok = compilePattern(f.value); !ok {
			return f, outcome.At(outcome.Unprocessable, path+".value", "the regular expression cannot be read, or is too large")
		}
		f.cost += size / 10
	default:
		return f, outcome.At(outcome.Unprocessable, path+".op", "this operator is not known: R4 has =, is-a, descendent-of, is-not-a, regex, in, not-in, generalizes and exists")
	}
	if f.property == "" || f.value == "" {
		return f, outcome.At(outcome.Required, path, "a filter needs a property and a value")
	}
	return f, nil
}

// matcher gives the test of the filter on one code system.
func (f filter) matcher(cs *codeSystem) (func(int32) bool, error) {
	switch f.op {
	case "is-a", "descendent-of", "is-not-a", "generalizes":
		return f.hierarchical(cs)
	}
	if !cs.has(f.property) {
		return nil, outcome.At(outcome.Unprocessable, f.path+".property", "the code system "+cs.canonical()+" has no such property")
	}
	some := func(test func(string) bool) func(int32) bool {
		return func(i int32) bool { return slices.ContainsFunc(cs.values(i, f.property), test) }
	}
	switch f.op {
	case "=":
		if f.property == "concept" || f.property == "code" {
			return some(func(v string) bool { return cs.fold(v) == cs.fold(f.value) }), nil
		}
		return some(func(v string) bool { return v == f.value }), nil
	case "regex":
		return some(f.pattern.MatchString), nil
	case "exists":
		want := f.value == "true"
		return func(i int32) bool { return (len(cs.values(i, f.property)) > 0) == want }, nil
	default: // in, not-in
		within := some(func(v string) bool { return f.set[v] })
		if f.op == "in" {
			return within, nil
		}
		return func(i int32) bool { return !within(i) }, nil
	}
}

func (f filter) hierarchical(cs *codeSystem) (func(int32) bool, error) {
	if f.property != "concept" && f.property != "code" {
		return nil, outcome.At(outcome.Unprocessable, f.path+".property", "the operator "+f.op+" goes with the property concept")
	}
	_, i := cs.find(f.value)
	if i < 0 {
		if !cs.complete() {
			return nil, unknown("the code system %s is installed in part, and %s is not in that part", cs.canonical(), f.value)
		}
		return nil, outcome.At(outcome.CodeInvalid, f.path+".value", "the code system "+cs.canonical()+" has no such code")
	}
	switch f.op {
	case "is-a":
		return func(j int32) bool { return cs.under(j, i) }, nil
	case "is-not-a":
		return func(j int32) bool { return !cs.under(j, i) }, nil
	case "descendent-of":
		return func(j int32) bool { return j != i && cs.under(j, i) }, nil
	default: // generalizes
		return func(j int32) bool { return cs.under(i, j) }, nil
	}
}

// matchers gives one test for all filters of a clause.
func matchers(cs *codeSystem, filters []filter) (func(int32) bool, error) {
	tests := make([]func(int32) bool, len(filters))
	for i, f := range filters {
		var err error
		if tests[i], err = f.matcher(cs); err != nil {
			return nil, err
		}
	}
	return func(i int32) bool {
		for _, test := range tests {
			if !test(i) {
				return false
			}
		}
		return true
	}, nil
}
