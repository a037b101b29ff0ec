package search

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// The bounds on one search. What is beyond them is refused, never cut short.
const (
	MaxOccurrences = 64       // parameters in one search
	MaxValues      = 256      // comma-separated values of one parameter
	MaxTotalValues = 2048     // values in one search, a bare id counted once per type that it may mean
	MaxLiteral     = 16 << 10 // bytes of one parameter
	MaxValue       = 1024     // bytes of one value
)

// PageParam is the URL parameter that carries the token of [EncodeCursor]. Parse
// lets it pass: only the caller can bind and decode it.
const PageParam = "_page"

// Options say how a search is read.
type Options struct {
	// Base is the server's own base URL: references under it are local.
	Base string
	// Lenient ignores unknown parameters with a warning (Prefer:
	// handling=lenient). What is known but not supported is an error even so,
	// because leaving it out would change the meaning of the search.
	Lenient bool
	// Now is the time from which the prefix "ap" measures its tenth; the zero
	// time makes "ap" mean overlap alone.
	Now time.Time
}

// Parse reads the parameters of a search on t (R4 search). The error is an
// *outcome.Error of category Invalid (400) with one issue per faulty
// parameter, by name and never by value; the issues are the warnings of a
// search that can run.
func Parse(t fhir.ResourceType, q url.Values, opt Options) (Query, []outcome.Issue, error) {
	if !t.Valid() {
		return Query{}, nil, outcome.New(outcome.Invalid, "the searched type is no R4 resource type")
	}
	p := parser{query: Query{Legs: []Leg{{Type: t}}, Count: DefaultCount}, opt: opt}
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
		p.named(name, q[name])
	}
	if p.values > MaxTotalValues {
		p.fail("a search has at most %d values in all", MaxTotalValues)
	}
	if len(p.faults) > 0 {
		return Query{}, nil, &outcome.Error{Issues: p.faults}
	}
	if p.countOnly {
		p.query.Count, p.query.Total = 0, Accurate
	}
	return p.query, p.warnings, nil
}

type parser struct {
	query     Query
	opt       Options
	countOnly bool
	values    int
	faults    []outcome.Issue
	warnings  []outcome.Issue
}

func (p *parser) fail(format string, args ...any) {
	p.faults = append(p.faults, outcome.Issue{Category: outcome.Invalid, Text: fmt.Sprintf(format, args...)})
}

// elsewhere are parameters of R4 that this server does not answer in a search.
var elsewhere = map[string]string{
	"_has":           "reverse chaining is not supported",
	"_include":       "including other resources is not supported",
	"_revinclude":    "including other resources is not supported",
	"_filter":        "filter expressions are not supported",
	"_elements":      "subsets of elements are not supported",
	"_contained":     "searching contained resources is not supported",
	"_containedType": "searching contained resources is not supported",
	"_list":          "searching by list is not supported",
	"_type":          "searching several types at once is not supported",
	"_in":            "searching by membership is not supported",
}

func (p *parser) named(name string, values []string) {
	code, modifier, modified := strings.Cut(name, ":")
	shown := Shown(name)
	if reason, ok := elsewhere[code]; ok {
		p.fail("the parameter %s cannot be used here: %s", shown, reason)
		return
	}
	if p.control(code, name, values) {
		return
	}
	if strings.Contains(name, ".") {
		p.fail("the parameter %s cannot be used here: chained parameters are not supported", shown)
		return
	}
	def, ok := Lookup(p.query.Type(), code)
	switch {
	case !ok && p.opt.Lenient:
		p.warnings = append(p.warnings, outcome.Issue{
			Category: outcome.Invalid, Warning: true,
			Text: fmt.Sprintf("the parameter %s is not known for %s and was ignored", shown, p.query.Type()),
		})
		return
	case !ok:
		p.fail("the parameter %s is not known for %s", shown, p.query.Type())
		return
	case !def.Searchable():
		p.fail("the parameter %s cannot be used here: %s", shown, def.Refused)
		return
	}
	m, ok := def.modifier(modifier)
	if modified && !ok {
		p.fail("the parameter %s has a modifier that is not supported here", shown)
		return
	}
	p.criteria(def, m, name, values)
}

func (p *parser) criteria(def *Param, m modifier, name string, values []string) {
	for i, literal := range values {
		if slices.Contains(values[:i], literal) {
			continue
		}
		c := Criterion{Param: def.Code, Type: def.Type, Name: name, Literal: literal}
		if reason := p.read(def, m, &c); reason != "" {
			p.fail("the parameter %s %s", Shown(name), reason)
			return
		}
		p.values += len(c.Any)
		p.query.Legs[0].Where = append(p.query.Legs[0].Where, c)
	}
}

// read fills c.Any from c.Literal; it returns what is wrong, "" if nothing is.
func (p *parser) read(def *Param, m modifier, c *Criterion) string {
	if len(c.Literal) > MaxLiteral {
		return fmt.Sprintf("is longer than %d bytes", MaxLiteral)
	}
	if !printable(c.Literal) {
		return "has characters that no value may have"
	}
	items := splitEscaped(c.Literal, ',')
	if len(items) > MaxValues {
		return fmt.Sprintf("has more than %d values", MaxValues)
	}
	for _, item := range items {
		switch {
		case item == "":
			return "has an empty value"
		case len(item) > MaxValue:
			return fmt.Sprintf("has a value longer than %d bytes", MaxValue)
		}
		values, reason := p.value(def, m, item)
		if reason != "" {
			return reason
		}
		for _, v := range values {
			if !slices.Contains(c.Any, v) {
				c.Any = append(c.Any, v)
			}
		}
	}
	return ""
}

// control reads the parameters that govern the result; it reports whether code is one.
func (p *parser) control(code, name string, values []string) bool {
	var read func(value string) bool
	switch code {
	case "_format", "_pretty", PageParam:
		read = func(string) bool { return true }
	case "_count":
		read = p.count
	case "_sort":
		read = func(v string) bool {
			p.query.Sort = nil
			if v == "_lastUpdated" {
				p.query.Sort = []Sort{{Param: v, Type: Date}}
			}
			return v == "_lastUpdated" || v == "-_lastUpdated"
		}
	case "_total":
		read = func(v string) bool {
			if v == "accurate" || v == "estimate" {
				p.query.Total = Accurate
			}
			return p.query.Total == Accurate || v == "none"
		}
	case "_summary":
		read = func(v string) bool {
			p.countOnly = p.countOnly || v == "count"
			return v == "count" || v == "false"
		}
	default:
		return false
	}
	switch {
	case name != code:
		p.fail("the parameter %s takes no modifier", Shown(name))
	case len(values) != 1:
		p.fail("the parameter %s may stand once", Shown(name))
	case !read(values[0]):
		p.fail("the parameter %s has a value that is not supported here: it takes %s", Shown(name), takes[code])
	}
	return true
}

var takes = map[string]string{
	"_count":   "a whole number",
	"_sort":    "_lastUpdated or -_lastUpdated",
	"_total":   "none, estimate or accurate",
	"_summary": "count or false",
}

func (p *parser) count(v string) bool {
	for i := 0; i < len(v); i++ {
		if v[i] < '0' || v[i] > '9' {
			return false
		}
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		// Only digits, so more than any page can hold; but not without end.
		if len(v) == 0 || len(v) > 20 {
			return false
		}
		n = MaxCount
	}
	p.query.Count = min(n, MaxCount)
	// R4 search, 3.1.1.5.4: zero is the same as _summary=count.
	p.countOnly = p.countOnly || n == 0
	return true
}

// Shown is the name of a parameter as an error may repeat it: quoted if it
// looks like one, else a phrase, because what stands there may be anything.
func Shown(name string) string {
	if len(name) == 0 || len(name) > 80 {
		return "with that name"
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case i > 0 && (c >= '0' && c <= '9' || c == '-' || c == ':' || c == '.'):
		default:
			return "with that name"
		}
	}
	return strconv.Quote(name)
}

// Self gives the parameters of q in one canonical form: those that the search
// has followed, for the self link of its Bundle (R4 search, 3.1.1.5.1). Parse
// of it gives q again.
func (q Query) Self() url.Values {
	v := url.Values{}
	for _, c := range q.Legs[0].Where {
		v.Add(c.Name, c.Literal)
	}
	if len(q.Sort) > 0 {
		v.Set("_sort", "_lastUpdated")
	}
	switch {
	case q.Count == 0:
		v.Set("_summary", "count")
	case q.Count != DefaultCount:
		v.Set("_count", strconv.Itoa(q.Count))
	}
	if q.Total == Accurate && q.Count > 0 {
		v.Set("_total", "accurate")
	}
	return v
}
