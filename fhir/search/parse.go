package search

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// The bounds on one search. What is beyond them is refused, never cut short.
const (
	MaxOccurrences = 64       // parameters in one search
	MaxValues      = 256      // comma-separated values of one parameter
	MaxTotalValues = 2048     // values in one search of one type, a bare id counted once per type that it may mean
	MaxLiteral     = 16 << 10 // bytes of one parameter
	MaxValue       = 1024     // bytes of one value
	MaxFilter      = 4 << 10  // bytes of one _filter
	MaxDepth       = 4        // links of one chain
	MaxHops        = 64       // links of all chains of one search of one type, once per type that a link may mean
	MaxCriteria    = 256      // conditions in one search of one type, those inside filters and chains included
	MaxAllHops     = 512      // as MaxHops, on all types of one search together
	MaxAllCriteria = 4096     // as MaxCriteria, on all types of one search together
	MaxTypes       = 32       // types that one _type names
	MaxSorts       = 4        // sort keys
	MaxIncludes    = 16       // _include and _revinclude together
	MaxElements    = 64       // names in _elements
	MaxCodes       = 4096     // codes that one :in, :not-in, :above or :below stands for
)

// PageParam is the URL parameter that carries the token of [EncodeCursor]. Parse
// lets it pass: only the caller can bind and decode it.
const PageParam = "_page"

// Options say how a search is read.
type Options struct {
	// Base is the server's own base URL: references under it are local.
	Base string
	// Registry is the search parameters of the practice; nil is those of R4.
	Registry *Registry
	// Lenient ignores unknown parameters with a warning (Prefer:
	// handling=lenient). What is known but not supported is an error even so,
	// because leaving it out would change the meaning of the search.
	Lenient bool
	// Now is the time from which the prefix "ap" measures its tenth; the zero
	// time makes "ap" mean overlap alone.
	Now time.Time
	// Terminology answers the modifiers :in, :not-in, :above and :below of
	// tokens; without it they are refused.
	Terminology Terminology
	// Context is that of the questions to Terminology; nil is the background.
	Context context.Context
	// Membership gives the parameters by which resources of type t are in the
	// compartments of a type: those of its CompartmentDefinition. Only
	// [ParseCompartment] asks for it.
	Membership func(compartment, t fhir.ResourceType) []string
}

// Parse reads the parameters of a search on t (R4 search). The error is an
// *outcome.Error of category Invalid (400) with one issue per faulty
// parameter, by name and never by value; the issues are the warnings of a
// search that can run. Only a Terminology that fails gives another error.
func Parse(t fhir.ResourceType, q url.Values, opt Options) (Query, []outcome.Issue, error) {
	if !t.Valid() {
		return Query{}, nil, outcome.New(outcome.Invalid, "the searched type is no R4 resource type")
	}
	if q.Has("_type") {
		return Query{}, nil, outcome.New(outcome.Invalid, `the parameter "_type" cannot be used here: the path names the type`)
	}
	return parse([]Leg{{Type: t}}, q, opt)
}

// ParseSystem reads the parameters of a search on several types (R4 http,
// search, GET [base]?_type=...). Every parameter must be one that all of the types
// have. Without _type all types are searched, and then only for what all have.
// Errors and issues are as with [Parse].
func ParseSystem(q url.Values, opt Options) (Query, []outcome.Issue, error) {
	types, err := askedTypes(q)
	if err != nil {
		return Query{}, nil, err
	}
	searched := types
	if searched == nil {
		searched = fhir.ResourceTypes()
	}
	legs := make([]Leg, len(searched))
	for i, t := range searched {
		legs[i].Type = t
	}
	out, warnings, err := parse(legs, q, opt)
	if err != nil {
		return Query{}, nil, err
	}
	out.Asked = types
	return out, warnings, nil
}

// Every is the type in a search of a compartment for resources of any type (GET [base]/Patient/x/*).
const Every fhir.ResourceType = "*"

// ParseCompartment reads the parameters of a search on the resources of type
// t, or of [Every] type, that are in the compartment of a resource (R4
// compartmentdefinition). What is in it follows from opt.Membership; the
// resource itself always is. With Every, _type may name some types. Errors and
// issues are as with [Parse].
func ParseCompartment(of fhir.Ref, t fhir.ResourceType, q url.Values, opt Options) (Query, []outcome.Issue, error) {
	types, err := askedTypes(q)
	switch {
	case err != nil:
		return Query{}, nil, err
	case t != Every && types != nil:
		return Query{}, nil, outcome.New(outcome.Invalid, `the parameter "_type" cannot be used here: the path names the type`)
	}
	searched := []fhir.ResourceType{t}
	if t == Every {
		searched = fhir.ResourceTypes()
		if types != nil {
			searched = types
		}
	}
	var legs []Leg
	for _, t := range searched {
		if c, ok := membership(of, t, opt); ok {
			legs = append(legs, Leg{Type: t, Where: []Criterion{c}})
		}
	}
	if len(legs) == 0 {
		return Query{}, nil, outcome.New(outcome.Invalid, "resources of that type are never in such a compartment")
	}
	out, warnings, err := parse(legs, q, opt)
	if err != nil {
		return Query{}, nil, err
	}
	out.Asked = types
	return out, warnings, nil
}

// membership is the condition that a resource of type t is in the compartment.
func membership(of fhir.Ref, t fhir.ResourceType, opt Options) (Criterion, bool) {
	if opt.Membership == nil || !t.Valid() || !of.Type.Valid() || !of.ID.Valid() {
		return Criterion{}, false
	}
	var ways []Criterion
	for _, code := range opt.Membership(of.Type, t) {
		def, ok := Lookup(t, code)
		if !ok || def.Type != Reference || !def.Searchable() {
			// A membership that cannot be asked for must not widen the compartment.
			continue
		}
		ways = append(ways, Criterion{Param: code, Type: Reference, Any: []Value{{Hash: TargetHash(of), Target: of}}})
	}
	if t == of.Type {
		ways = append(ways, Criterion{Param: "_id", Type: Token, Any: []Value{{ID: of.ID}}})
	}
	return oneOf(ways), len(ways) > 0
}

// oneOf is the condition that one of the others holds; none of none.
func oneOf(ways []Criterion) Criterion {
	if len(ways) == 1 {
		return ways[0]
	}
	c := Criterion{Op: Either}
	for _, w := range ways {
		c.Groups = append(c.Groups, []Criterion{w})
	}
	return c
}

// allOf is the condition that all of the others hold; always with none.
func allOf(where []Criterion) Criterion {
	if len(where) == 1 {
		return where[0]
	}
	return Criterion{Op: Either, Groups: [][]Criterion{where}}
}

// askedTypes reads _type; nil without it.
func askedTypes(q url.Values) ([]fhir.ResourceType, error) {
	values, ok := q["_type"]
	if !ok {
		return nil, nil
	}
	refuse := func(reason string) ([]fhir.ResourceType, error) {
		return nil, outcome.New(outcome.Invalid, `the parameter "_type" `+reason)
	}
	if len(values) != 1 {
		return refuse("may stand once")
	}
	names := strings.SplitN(values[0], ",", MaxTypes+1)
	if len(names) > MaxTypes {
		return refuse(fmt.Sprintf("names more than %d types", MaxTypes))
	}
	var types []fhir.ResourceType
	for _, name := range names {
		t := fhir.ResourceType(name)
		if !t.Valid() {
			return refuse("has a value that is not supported here: it takes R4 resource types, separated by commas")
		}
		types = append(types, t)
	}
	slices.Sort(types)
	return slices.Compact(types), nil
}

func parse(legs []Leg, q url.Values, opt Options) (Query, []outcome.Issue, error) {
	p := parser{query: Query{Legs: legs, Count: DefaultCount}, opt: opt, shared: map[sharing]Criterion{}}
	names := make([]string, 0, len(q))
	occurrences := 0
	for name, values := range q {
		names = append(names, name)
		occurrences += len(values)
	}
	if occurrences > MaxOccurrences {
		return Query{}, nil, outcome.New(outcome.Invalid, fmt.Sprintf("a search has at most %d parameters", MaxOccurrences))
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "_type" {
			continue
		}
		if !p.control(name, q[name]) {
			p.criteria(name, q[name])
		}
	}
	p.settle()
	switch {
	case p.failed != nil:
		return Query{}, nil, p.failed
	case len(p.faults) > 0:
		return Query{}, nil, &outcome.Error{Issues: p.faults}
	}
	return p.query, p.warnings, nil
}

type parser struct {
	query     Query
	opt       Options
	countOnly bool
	faults    []outcome.Issue
	warnings  []outcome.Issue
	failed    error  // of the Terminology
	over      *fault // that a bound is passed: nothing more is read then
	// What was counted for each leg and for all; leg is the one at hand.
	spent []spending
	all   spending
	leg   int
	// shared are the criteria on parameters of every resource, which are the same on all legs.
	shared map[sharing]Criterion
}

// spending is what one leg has used up of its bounds.
type spending struct{ values, hops, criteria int }

type sharing struct {
	def     *Param
	literal string
	name    string
}

// fault says what is wrong with a parameter, as the end of a sentence that
// starts with its name.
type fault struct {
	unknown bool // no more than that nobody knows the parameter
	reason  string
}

func faultf(format string, args ...any) *fault { return &fault{reason: fmt.Sprintf(format, args...)} }

func (p *parser) fail(format string, args ...any) {
	p.faults = append(p.faults, outcome.Issue{Category: outcome.Invalid, Text: fmt.Sprintf(format, args...)})
}

// criteria reads every occurrence of a parameter as a condition on each leg:
// on all of them, or on none.
func (p *parser) criteria(name string, values []string) {
	if p.spent == nil {
		p.spent = make([]spending, len(p.query.Legs))
	}
	read := make([][]Criterion, len(p.query.Legs))
	for i, literal := range values {
		if slices.Contains(values[:i], literal) {
			continue
		}
		for j := range p.query.Legs {
			p.leg = j
			c, f := p.criterion(p.query.Legs[j].Type, name, literal)
			switch {
			case p.failed != nil:
				return
			case f != nil && f.unknown && p.opt.Lenient:
				p.warnings = append(p.warnings, outcome.Issue{
					Category: outcome.Invalid, Warning: true,
					Text: fmt.Sprintf("the parameter %s %s and was ignored", Shown(name), f.reason),
				})
				return
			case f != nil:
				p.fail("the parameter %s %s", Shown(name), f.reason)
				return
			}
			c.Name, c.Literal = name, literal
			read[j] = append(read[j], c)
		}
	}
	for j := range p.query.Legs {
		l := &p.query.Legs[j]
		l.Where = append(l.Where, read[j]...)
	}
}

// criterion reads one occurrence of a parameter as a condition on resources of type t.
func (p *parser) criterion(t fhir.ResourceType, name, literal string) (Criterion, *fault) {
	switch {
	case len(literal) > MaxLiteral:
		return Criterion{}, faultf("is longer than %d bytes", MaxLiteral)
	case !printable(literal):
		return Criterion{}, faultf("has characters that no value may have")
	case name == "_filter":
		return p.filter(t, literal)
	}
	links, end, f := trail(name)
	if f != nil {
		return Criterion{}, f
	}
	end.literal = literal
	def, ok := p.lookup(t, end.code)
	share := len(links) == 0 && ok && len(p.query.Legs) > 1 && (slices.Contains(common, def) || slices.Contains(registry().list["Resource"], def))
	if share {
		if c, ok := p.shared[sharing{def, literal, name}]; ok {
			return c, nil
		}
	}
	c, f := p.follow(t, links, end)
	if share && f == nil {
		p.shared[sharing{def, literal, name}] = c
	}
	return c, f
}

func (p *parser) lookup(t fhir.ResourceType, code string) (*Param, bool) {
	return p.opt.Registry.Lookup(t, code)
}

// spend counts against the bounds of the leg at hand.
func (p *parser) spend(values, hops, criteria int) *fault {
	s := &p.spent[p.leg]
	s.values += values
	s.hops += hops
	s.criteria += criteria
	p.all.hops += hops
	p.all.criteria += criteria
	switch {
	case s.values > MaxTotalValues:
		p.over = faultf("is too much: a search has at most %d values in all", MaxTotalValues)
	case s.hops > MaxHops:
		p.over = faultf("is too much: a search has at most %d links of chains in all, one for each type that a link may mean", MaxHops)
	case s.criteria > MaxCriteria:
		p.over = faultf("is too much: a search has at most %d conditions in all", MaxCriteria)
	case p.all.hops > MaxAllHops || p.all.criteria > MaxAllCriteria:
		p.over = faultf("is too much on so many types: name fewer in _type")
	}
	return p.over
}
