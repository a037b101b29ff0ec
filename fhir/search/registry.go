package search

import (
	_ "embed" // the table
	"fmt"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/fhirpath"
)

//go:generate go run ./internal/registrygen $CLOISTER_R4_DEFINITIONS

// r4 is the table that internal/registrygen writes: "@Type" opens a resource
// type, then one line per parameter: code, type, definition, targets, paths.
//
//go:embed r4.txt
var r4 string

// Param is one search parameter of one resource type (R4 SearchParameter).
type Param struct {
	Code string
	Type ParamType // 0 for a type that cannot be searched
	// FHIRType is the code of the type (http://hl7.org/fhir/search-param-type),
	// also where Type is 0.
	FHIRType string
	// Definition is the canonical URL of the official SearchParameter.
	Definition string
	// Targets are the types that a bare logical id may mean; nil is any type.
	Targets []fhir.ResourceType
	// Refused says why the parameter cannot be searched; "" if it can.
	Refused string
	// UnionOf are the parameters of the same type that together select exactly
	// what this one does (combo-code is code and component-code). Its values are
	// not in the index: it is searched as those, one or the other.
	UnionOf []string
	// Under is the Criterion.Param of a composite of a token and a date, string,
	// number or quantity: its elements stand in the index under the parameter of
	// that other part, with their Key; "" in all others.
	Under string
	// OnRoot says that the element of a composite is the resource itself.
	OnRoot bool

	// Bases are the types that a SearchParameter of [Compile] is for; nil for those of R4.
	Bases []fhir.ResourceType
	// Key is what the values of a SearchParameter of [Compile] stand under in the
	// index; "" is the Code. Two definitions of one code, of which a caller may
	// know one, have two keys.
	Key string

	paths      []path
	components []Component
	clinical   bool
	expression *fhirpath.Expression // of a Param of Compile: evaluated, not walked
}

// Component is one part of a composite.
type Component struct {
	Code string // of the parameter that gives the part its name
	Type ParamType

	paths []path // from the element of the composite
}

// name is what the values of p stand under in the index.
func (p *Param) name() string {
	if p.Key != "" {
		return p.Key
	}
	return p.Code
}

// Components are the parts of a composite, in the order of the searched value:
// two, of which the first is a Token. The other is a Token or Reference (then
// the index keeps one pairHash of both) or a Date, String, Number or Quantity
// (then it keeps an entry of that kind, see [QuantityEntry] and Under).
func (p *Param) Components() []Component { return p.components }

// Searchable reports whether [Parse] accepts the parameter.
func (p *Param) Searchable() bool { return p.Refused == "" }

var paramTypes = map[string]ParamType{
	"token": Token, "reference": Reference, "date": Date, "string": String, "uri": URI,
	"number": Number, "quantity": Quantity, "composite": Composite,
}

// String is the R4 code of the parameter type (http://hl7.org/fhir/search-param-type).
func (t ParamType) String() string {
	for code, x := range paramTypes {
		if x == t {
			return code
		}
	}
	return ""
}

// Params lists the search parameters that R4 defines for t, by code, refused
// ones included; parameters of every resource (_id, _tag ...) come first. The
// caller must not change them.
func Params(t fhir.ResourceType) []*Param { return (*Registry)(nil).Params(t) }

// Lookup finds the parameter code of t, refused or not.
func Lookup(t fhir.ResourceType, code string) (*Param, bool) {
	return (*Registry)(nil).Lookup(t, code)
}

// common are the parameters that columns of the store answer, or the text of
// the resource: they have no paths.
var common = []*Param{
	{Code: "_content", Type: String, FHIRType: "string", Definition: definitionBase + "Resource-content"},
	{Code: "_id", Type: Token, FHIRType: "token", Definition: definitionBase + "Resource-id"},
	{Code: "_lastUpdated", Type: Date, FHIRType: "date", Definition: definitionBase + "Resource-lastUpdated"},
	{Code: "_text", Type: String, FHIRType: "string", Definition: definitionBase + "DomainResource-text"},
}

const definitionBase = "http://hl7.org/fhir/SearchParameter/"

type key struct {
	t    fhir.ResourceType
	code string
}

type table struct {
	list     map[fhir.ResourceType][]*Param
	index    map[key]*Param
	walkers  map[fhir.ResourceType]*walker
	bare     *walker // of types without parameters of their own
	clinical map[fhir.ResourceType]*Param
	uriNames map[string]bool // names of elements that can hold a url
}

// registry is read once; a table that does not read is a fault of the build.
var registry = sync.OnceValue(func() *table {
	t, err := readTable(r4)
	if err != nil {
		panic("search: " + err.Error())
	}
	return t
})

func readTable(text string) (*table, error) {
	t := &table{
		list: map[fhir.ResourceType][]*Param{}, index: map[key]*Param{}, walkers: map[fhir.ResourceType]*walker{},
		clinical: map[fhir.ResourceType]*Param{}, uriNames: map[string]bool{},
	}
	var current fhir.ResourceType
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '@':
			current = fhir.ResourceType(line[1:])
			if !current.Valid() && current != "Resource" {
				return nil, fmt.Errorf("table: %q is no resource type", current)
			}
		case strings.HasPrefix(line, "%uri\t"):
			for name := range strings.FieldsSeq(line[len("%uri\t"):]) {
				t.uriNames[name] = true
			}
		default:
			p, err := readParam(line)
			if err != nil {
				return nil, err
			}
			if _, twice := t.index[key{current, p.Code}]; twice {
				return nil, fmt.Errorf("table: %s.%s stands there twice", current, p.Code)
			}
			t.index[key{current, p.Code}] = p
			t.list[current] = append(t.list[current], p)
			if p.clinical {
				t.clinical[current] = p
			}
		}
	}
	t.bare = newWalker(t.list["Resource"])
	for rt, list := range t.list {
		settleComposites(list)
		if rt != "Resource" {
			t.walkers[rt] = newWalker(list, t.list["Resource"])
		}
	}
	return t, nil
}

func readParam(line string) (*Param, error) {
	col := strings.Split(line, "\t")
	if len(col) == 5 {
		col = append(col, "")
	}
	if len(col) != 6 {
		return nil, fmt.Errorf("table: %d columns in %q", len(col), line)
	}
	p := &Param{Code: col[0], Type: paramTypes[col[1]], FHIRType: col[1], Definition: definitionBase + col[2]}
	if reason, refused := strings.CutPrefix(col[4], "!"); refused {
		p.Refused = reason
		return p, nil
	}
	if p.Type == 0 {
		return nil, fmt.Errorf("table: %s has paths but its type %s is not searched", p.Code, p.FHIRType)
	}
	if col[3] != "*" {
		for name := range strings.FieldsSeq(col[3]) {
			rt := fhir.ResourceType(name)
			if !rt.Valid() {
				return nil, fmt.Errorf("table: %s: target %q is no resource type", p.Code, name)
			}
			p.Targets = append(p.Targets, rt)
		}
	}
	var err error
	if p.paths, err = readPaths(col[4]); err != nil {
		return nil, fmt.Errorf("table: %s: %w", p.Code, err)
	}
	if err := p.readMore(col[5]); err != nil {
		return nil, fmt.Errorf("table: %s: %w", p.Code, err)
	}
	return p, nil
}

// readMore reads the last column: "clinical", "union a b", or for each component
// of a composite "code type paths"; joined by semicolons.
func (p *Param) readMore(text string) error {
	for item := range strings.SplitSeq(text, ";") {
		word := strings.Fields(item)
		switch {
		case len(word) == 0:
		case word[0] == "clinical" && len(word) == 1 && p.Type == Date:
			p.clinical = true
		case word[0] == "union" && len(word) == 3:
			p.UnionOf = word[1:]
		case len(word) == 3 && p.Type == Composite:
			c := Component{Code: word[0], Type: paramTypes[word[1]]}
			var err error
			if c.paths, err = readPaths(word[2]); err != nil {
				return err
			}
			p.components = append(p.components, c)
		default:
			return fmt.Errorf("%q says nothing", item)
		}
	}
	if (p.Type == Composite) != (len(p.components) == 2) || p.Type == Composite && p.components[0].Type != Token {
		return fmt.Errorf("a composite has two components, of which the first is a token")
	}
	return nil
}
