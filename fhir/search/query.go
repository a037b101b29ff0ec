// Package search reads a search URL into a Query and a resource into the index
// values that answer it.
package search

import (
	"slices"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// ParamType is the type of a search parameter (http://hl7.org/fhir/search-param-type).
type ParamType uint8

// The parameter types that can be searched.
const (
	Token ParamType = iota + 1
	Reference
	Date
	String
	URI
	Number
	Quantity
	Composite
)

// Query is a search, ready to be compiled to SQL.
type Query struct {
	// Legs are the searched types, each with what is asked of it: one for a
	// search on a type, several for a search of the system or of a compartment,
	// at least one. Criteria at the same place of two legs come from the same parameter.
	Legs []Leg
	// Asked are the types that _type names, sorted and distinct; nil without it.
	// It serves the self link only: the Legs hold what follows from it.
	Asked []fhir.ResourceType
	// Sort are the sort keys; none means the newest _lastUpdated first. Type and
	// logical id are always the last keys.
	Sort  []Sort
	Count int // page size, 1 to MaxCount; 0 only with a Total (_summary=count)
	// Bytes ends a page early, when the contents of its matches are that long
	// together; it has one match at least. 0 is no bound.
	Bytes    int
	Total    Total
	Includes []Include
	After    *Cursor // where the page starts; nil is the first page
	Summary  Summary
	Elements []string // _elements, as the client named them
	// Last keeps, of the matches with the same code, the so many whose clinical
	// date is the latest (R4 Observation/$lastn); 0 keeps all.
	Last int
}

// Leg is a searched type and what is asked of it.
type Leg struct {
	Type  fhir.ResourceType
	Where []Criterion // all must hold
}

// Type is the searched type of a search on one type, else "".
func (q Query) Type() fhir.ResourceType {
	if len(q.Legs) != 1 {
		return ""
	}
	return q.Legs[0].Type
}

// MaxCount is the largest page.
const MaxCount = 1000

// DefaultCount is the page size when _count is absent.
const DefaultCount = 20

// Total says how matches are counted (_total).
type Total uint8

// The ways to count: not at all, at most EstimateLimit, and all.
const (
	NoTotal Total = iota
	Estimate
	Accurate
)

// EstimateLimit is up to where _total=estimate counts.
const EstimateLimit = 1001

// Summary is the subset of elements that a client asks for (_summary). The
// value count is Query.Count 0.
type Summary uint8

// The summaries of R4 search, 3.1.1.5.8.
const (
	Whole Summary = iota
	SummaryTrue
	SummaryText
	SummaryData
)

// Sort is one sort key: a parameter that all legs know, _lastUpdated or _id.
type Sort struct {
	Param      string
	Type       ParamType
	Descending bool
	// Own is the parameter where the practice has defined it; then there is one leg.
	Own *Param
}

// Include asks for the resources that matches refer to (_include), or that
// refer to matches (_revinclude).
type Include struct {
	Reverse bool
	Iterate bool              // also from what was included
	Source  fhir.ResourceType // the type that refers; "" is any (*)
	Param   string            // its reference parameter as [Criterion] names it; "*" is any
	Target  fhir.ResourceType // the type that is referred to; "" is any
	// Name and Literal are what the client wrote on either side of "=".
	Name, Literal string
}

// Cursor is a place between two pages: the sort keys of a resource that the
// caller has seen, and nothing about any other.
type Cursor struct {
	Keys     []Key // one per sort key, or one for the default order
	Type     fhir.ResourceType
	ID       fhir.ID
	Row      int64 // of the resource, where others of the same id are on the other side of the place; else 0
	Backward bool  // the page that ends before this place
}

// Key is the value of one sort key, in the spelling of the store that made it.
type Key struct {
	Null bool // the resource has no value; such resources come last
	Text string
}

// Op says how a criterion is decided.
type Op uint8

// The operators.
const (
	// Match: one of Any matches an index value of Param, which is _id,
	// _lastUpdated, or a parameter of Type. Without any in Any (an empty value
	// set) nothing matches.
	Match Op = iota
	// Present: one of the Paths selects something.
	Present
	// Like: one of the texts that the Paths select compares with one of Any by
	// its Text and Match. There is no index for it.
	Like
	// Words: the narrative (Param _text) or all text (Param _content) of the
	// resource holds the words of one of Any. There is no index for it.
	Words
	// Chain: the reference parameter Param points to a resource for which one of
	// the Hops holds.
	Chain
	// Has: a resource for which one of the Hops holds points to this one by the
	// hop's parameter Via.
	Has
	// Either: all criteria of one of the Groups hold.
	Either
)

// Criterion is one condition on a resource.
//
// Type says which part of the [Index] answers a Match: Token and URI the
// Tokens, Reference the Refs, Date the Dates, String the Strings, Number and
// Quantity the Quantities. A Composite is answered by the part that Values say.
type Criterion struct {
	Op     Op
	Not    bool   // the condition must not hold: no value matches, not even an absent one
	Param  string // code of the search parameter (its Key if it has one), "_id", "_lastUpdated" ...
	Type   ParamType
	Any    []Value
	Paths  []string // SQL/JSON path expressions, lax, from the resource's root
	Hops   []Hop
	Groups [][]Criterion
	// Name and Literal are what the client wrote on either side of "=", modifier
	// and escapes included: they serve the self link only, and only on the top level.
	Name, Literal string
}

// Hop is one link of a chain.
type Hop struct {
	Type  fhir.ResourceType // of the resource at the other end
	Via   string            // Has: its reference parameter that points here
	Where []Criterion       // all must hold there
}

// Value is one of a criterion's comma-separated values.
type Value struct {
	// Hash is the index key of a token or uri, see [Index]; of a reference the
	// hash of its target ([TargetHash], [URLHash]), to be joined with [ParamKey].
	Hash int64
	// Target is where a searched reference leads; the zero Ref for a url.
	Target fhir.Ref
	// Lo and Hi bound the searched instant range [Lo, Hi) of a date, by its precision.
	Prefix string // eq ne lt gt le ge sa eb ap: of dates, numbers and quantities
	Lo, Hi time.Time
	// At is a searched number as written, and [Low, High) the range of its
	// precision (R4 search, number): 5.40 is [5.395, 5.405). With the prefix ap it
	// is a tenth of At to either side, at least the precision. The prefixes lt, gt,
	// le, ge, sa and eb compare with At alone.
	At, Low, High float64
	// Unit is the unit of a searched quantity, see [QuantityEntry]; 0 is any, and
	// then the numbers compare with the quantity as written. Otherwise At, Low and
	// High are in that unit.
	Unit int64
	// Text is the normalised text of a string value (see [Normalise]); with Match
	// Exact it is the text as the client wrote it.
	Text  string
	Match StringMatch
	// ID is the value of _id.
	ID fhir.ID
	// Key and KeySystem are the token part of a composite, see [QuantityEntry];
	// the other part is in the fields above. KeySystem is 0 where any system will
	// do. Both are 0 in other values.
	Key, KeySystem int64
	// Part is the type of the other part of a composite: Date, String, Number or
	// Quantity; 0 where Hash is the index key of both parts together.
	Part ParamType
}

// StringMatch says how texts are compared.
type StringMatch uint8

// The comparisons: the default is "starts with", without regard to case or
// accents. Below and Above are those of uris: as written, the one a path prefix of the other.
const (
	StartsWith StringMatch = iota
	Contains
	Exact
	Below // the resource's uri starts with Text
	Above // Text starts with the resource's uri
	Equal // without regard to case or accents, as a whole (_filter, eq)
	Ends  // without regard to case or accents, the end (_filter, ew)
)

// Index is what the store keeps of one resource so that searches find it.
type Index struct {
	Tokens     []int64    // sorted, distinct
	Refs       []RefEntry // sorted, distinct: one per (parameter, target) and one per target alone
	Dates      []DateEntry
	Strings    []StringEntry
	Quantities []QuantityEntry
	// AtLo and AtHi are the value of the type's clinical date (see
	// [ClinicalDate]), which is not in Dates; AtHi is the zero time if there is
	// none, and only then.
	AtLo, AtHi time.Time
}

// RefEntry is one value of a reference parameter. The store keeps
// mix(Target) XOR Param, so that SQL can go from a resource's own hash to its
// referrers and back.
type RefEntry struct {
	Param  int64 // ParamKey of the parameter; 0 for "whatever the element"
	Target int64 // TargetHash or URLHash
}

// DateEntry is one value of a date parameter as the range [Lo, Hi) that its precision spans.
type DateEntry struct {
	Param          string
	Key, KeySystem int64     // see [QuantityEntry]
	Lo, Hi         time.Time // UTC, whole microseconds, within [Earliest] and [Latest]
}

// StringEntry is one value of a string parameter.
type StringEntry struct {
	Param          string
	Key, KeySystem int64  // see [QuantityEntry]
	Text           string // normalised; at most [MaxText] bytes
	Exact          string // as written; at most [MaxText] bytes
}

// QuantityEntry is one value of a number or quantity parameter, or the
// quantity part of one element of a composite.
type QuantityEntry struct {
	Param string
	// Key and KeySystem are the token part of the composite's element: the code in
	// any system, and the code in its own. Both are 0 without a composite.
	Key, KeySystem int64
	Lo, Hi         float64 // as written; equal but for a Range or a comparator, which are open-ended with ±Inf
	// Unit is the canonical UCUM unit where the unit is UCUM's, else the system and
	// code, else the unit as written; 0 for a number. UnitLo and UnitHi are in it.
	Unit           int64
	UnitLo, UnitHi float64
}

// Types lists, sorted and distinct, every resource type that a store looks at
// to answer q: for each of them it needs the caller's Restriction.
func (q Query) Types() []fhir.ResourceType {
	var out []fhir.ResourceType
	every := false
	for _, l := range q.Legs {
		out = append(out, l.Type)
		out = hopTypes(out, l.Where)
	}
	for _, i := range q.Includes {
		if i.Reverse {
			out, every = append(out, i.Source), every || i.Source == ""
			continue
		}
		if i.Target != "" {
			out = append(out, i.Target)
			continue
		}
		p, ok := Lookup(i.Source, i.Param)
		if !ok || p.Targets == nil {
			every = true
			continue
		}
		out = append(out, p.Targets...)
	}
	if every {
		return fhir.ResourceTypes()
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func hopTypes(out []fhir.ResourceType, where []Criterion) []fhir.ResourceType {
	for _, c := range where {
		for _, h := range c.Hops {
			out = hopTypes(append(out, h.Type), h.Where)
		}
		for _, g := range c.Groups {
			out = hopTypes(out, g)
		}
	}
	return out
}
