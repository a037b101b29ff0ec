// Package search reads a search URL into a Query and a resource into the index
// values that answer it.
package search

import (
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
)

// Query is a search on one resource type, ready to be compiled to SQL.
type Query struct {
	Type  fhir.ResourceType
	Where []Criterion // all must hold
	// Ascending sorts by _lastUpdated ascending; the default is the newest first.
	// The logical id is always the second key.
	Ascending bool
	Count     int  // page size, 1 to MaxCount; 0 only with Total (_summary=count)
	Total     bool // _total=accurate
	After     *Cursor
}

// MaxCount is the largest page.
const MaxCount = 1000

// DefaultCount is the page size when _count is absent.
const DefaultCount = 20

// Cursor is the place after which a page starts: the sort keys of the last
// resource that the caller has seen, and nothing about any other.
type Cursor struct {
	Updated time.Time
	ID      fhir.ID
}

// Criterion is one occurrence of a parameter: any of its values must match.
//
// Type says which part of the [Index] answers it: Token and URI the Tokens,
// Reference the Refs, Date the Dates, String the Strings. _id and _lastUpdated
// are answered by the resource's own columns.
type Criterion struct {
	Param string // code of the search parameter, "_id", "_lastUpdated" ...
	Type  ParamType
	Any   []Value
	// Name and Literal are what the client wrote on either side of "=", modifier
	// and escapes included: they serve the self link only.
	Name, Literal string
}

// Value is one of a criterion's comma-separated values.
type Value struct {
	// Hash is the index key of a token, reference or uri value, see [Index].
	Hash int64
	// Lo and Hi bound the searched instant range [Lo, Hi) of a date, by its precision.
	Prefix string // eq ne lt gt le ge sa eb ap
	Lo, Hi time.Time
	// Text is the normalised text of a string value (see [Normalise]); with Match
	// Exact it is the text as the client wrote it.
	Text  string
	Match StringMatch
	// ID is the value of _id.
	ID fhir.ID
}

// StringMatch says how a string is compared.
type StringMatch uint8

// The comparisons: the default is "starts with", without regard to case or accents.
const (
	StartsWith StringMatch = iota
	Contains
	Exact
)

// Index is what the store keeps of one resource so that searches find it.
type Index struct {
	Tokens  []int64 // sorted, distinct
	Refs    []int64 // sorted, distinct: one per (parameter, target) and one per target alone
	Dates   []DateEntry
	Strings []StringEntry
}

// DateEntry is one value of a date parameter as the range [Lo, Hi) that its precision spans.
type DateEntry struct {
	Param  string
	Lo, Hi time.Time // UTC, whole microseconds, within [Earliest] and [Latest]
}

// StringEntry is one value of a string parameter.
type StringEntry struct {
	Param string
	Text  string // normalised; at most [MaxText] bytes
	Exact string // as written; at most [MaxText] bytes
}
