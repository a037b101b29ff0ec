// Package codec reads the bytes of a FHIR resource into one checked tree.
//
// The bytes are read once, strictly; the tree is checked against a table that
// is generated from the R4 StructureDefinitions; and every other part of the
// server (labels, index, storage) sees that tree and nothing else. Typed views
// of the few resources whose meaning decides access come out of the same tree.
package codec

import (
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Resource is one incoming resource that has passed every check of [Parse].
type Resource struct {
	Type fhir.ResourceType
	Root *element.Node
}

// Limits bound what one call reads.
type Limits struct {
	Bytes int // length of the body in bytes; 0: DefaultLimits.Bytes
	Depth int // nesting of JSON objects and arrays together; 0: DefaultLimits.Depth
}

// DefaultLimits are the limits of [Parse]: 16 MiB and 64 levels.
var DefaultLimits = Limits{Bytes: 16 << 20, Depth: 64}

// MaxIssues is the greatest number of faults that one error lists; one more
// issue then says that there are others.
const MaxIssues = 200

// Parse reads one resource within [DefaultLimits]. The error is an
// *outcome.Error with every fault in document order: 413 for a body that is
// too long, 400 for what is not the JSON of a resource, 422 for content that R4
// does not allow. Values of the body never appear in it, names of elements do.
func Parse(body []byte) (*Resource, error) { return ParseLimited(body, DefaultLimits) }

// ParseLimited is [Parse] with other limits.
func ParseLimited(body []byte, l Limits) (*Resource, error) {
	root, flaws, err := read(body, l)
	if err != nil {
		return nil, err
	}
	c := checker{flaws: flaws, entry: -1}
	r := c.root(root)
	if err := c.err(); err != nil {
		return nil, err
	}
	if len(flaws) > 0 {
		return nil, errUnplaced()
	}
	return r, nil
}

// errUnplaced is for flaws that the checker did not come across: there should be
// no such place, and if there is, what stands in it is not accepted.
func errUnplaced() error {
	return outcome.New(outcome.Structure, "the JSON repeats a name or has characters that are not allowed")
}

// ParseBatch is [ParseLimited] for a Bundle whose entries stand for themselves
// (http.html#batch). Faults inside the resource of an entry are returned by the index
// of the entry in Bundle.entry; such an entry must not be used. Faults of the
// Bundle around them are the error, as in Parse.
func ParseBatch(body []byte, l Limits) (*Resource, map[int]*outcome.Error, error) {
	root, flaws, err := read(body, l)
	if err != nil {
		return nil, nil, err
	}
	c := checker{flaws: flaws, entry: -1, perEntry: map[int]*outcome.Error{}}
	r := c.root(root)
	if err := c.err(); err != nil {
		return nil, nil, err
	}
	if len(flaws) > 0 && len(c.perEntry) == 0 {
		return nil, nil, errUnplaced()
	}
	return r, c.perEntry, nil
}

// Check checks a tree that was not read by this package, such as one that the
// server changed or made, as Parse checks what it has read.
func Check(root *element.Node) (*Resource, error) {
	c := checker{entry: -1}
	r := c.root(root)
	if err := c.err(); err != nil {
		return nil, err
	}
	return r, nil
}

// ReadJSON reads one JSON value, as strictly as [ParseLimited] but against no definition:
// a JSON Patch is no resource. The error is an *outcome.Error without values of the body.
func ReadJSON(body []byte, l Limits) (*element.Node, error) {
	root, flaws, err := read(body, l)
	if err != nil {
		return nil, err
	}
	if len(flaws) > 0 {
		return nil, errUnplaced()
	}
	return root, nil
}

func read(body []byte, l Limits) (*element.Node, map[*element.Node][]flaw, error) {
	if l.Bytes <= 0 {
		l.Bytes = DefaultLimits.Bytes
	}
	if l.Depth <= 0 {
		l.Depth = DefaultLimits.Depth
	}
	if len(body) > l.Bytes {
		return nil, nil, outcome.New(outcome.TooLong, "the body is longer than "+strconv.Itoa(l.Bytes)+" bytes")
	}
	s := string(body)
	if strings.HasPrefix(s, "\ufeff") {
		return nil, nil, outcome.New(outcome.Structure, "the body begins with a byte order mark; send UTF-8 without one")
	}
	r := reader{s: s, maxDepth: l.Depth}
	root := r.read()
	if root == nil {
		text := r.fault
		if !r.tooDeep {
			text += " (byte " + strconv.Itoa(r.at) + ")"
		}
		return nil, nil, outcome.At(outcome.Structure, r.where(), text)
	}
	return root, r.flaws, nil
}
