package search

import (
	"fmt"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// leaf is the datatype of what a path selects.
type leaf uint8

const (
	leafCode leaf = iota + 1 // code, boolean, string, id ... searched as a token
	leafBoolean
	leafCoding
	leafCodeableConcept
	leafIdentifier
	leafContactPoint
	leafTruth // there and not false
	leafReference
	leafResource
	leafURI
	leafCanonical
	leafDate // date, dateTime, instant
	leafPeriod
	leafTiming
	leafHumanName
	leafAddress
	leafNumber
	leafQuantity // and the types that specialise it
	leafMoney
	leafRange
	leafSampledData
	leafElement // of a composite
)

var leaves = map[string]leaf{
	"code": leafCode, "string": leafCode, "markdown": leafCode, "id": leafCode,
	"boolean": leafBoolean, "Coding": leafCoding, "CodeableConcept": leafCodeableConcept,
	"Identifier": leafIdentifier, "ContactPoint": leafContactPoint, "truth": leafTruth,
	"Reference": leafReference, "Resource": leafResource,
	"uri": leafURI, "url": leafURI, "oid": leafURI, "uuid": leafURI, "canonical": leafCanonical,
	"date": leafDate, "dateTime": leafDate, "instant": leafDate, "Period": leafPeriod, "Timing": leafTiming,
	"HumanName": leafHumanName, "Address": leafAddress,
	"decimal": leafNumber, "integer": leafNumber, "positiveInt": leafNumber, "unsignedInt": leafNumber,
	"Quantity": leafQuantity, "Age": leafQuantity, "Duration": leafQuantity, "Count": leafQuantity, "Distance": leafQuantity,
	"Money": leafMoney, "Range": leafRange, "SampledData": leafSampledData, "Element": leafElement,
}

// path is one alternative of a compiled expression.
type path struct {
	steps  []step
	leaf   leaf
	system string // code system that a required binding implies for a code
	keyed  bool   // its values are indexed with the keys of a composite that has them as a part
}

// step goes to one member of an object, through its array if it is one.
type step struct {
	name       string
	first      bool              // [0]
	key, value string            // [key=value]: only objects whose member key has that value
	is         fhir.ResourceType // [->T]: only references to that type
	extended   string            // [+url]: only elements with an extension of that url
}

// readPaths reads "a.b[k=v].c:CodeableConcept|d:code(system)".
func readPaths(text string) ([]path, error) {
	var out []path
	for _, alternative := range splitOutside(text, '|') {
		halves := splitOutside(alternative, ':')
		if len(halves) != 2 {
			return nil, fmt.Errorf("path %q names no datatype", alternative)
		}
		name, system, _ := strings.Cut(strings.TrimSuffix(halves[1], ")"), "(")
		p := path{leaf: leaves[name], system: system}
		if p.leaf == 0 {
			return nil, fmt.Errorf("path %q: datatype %q", alternative, name)
		}
		for _, s := range splitOutside(halves[0], '.') {
			if halves[0] == "" {
				break // the resource itself
			}
			st, err := readStep(s)
			if err != nil {
				return nil, err
			}
			p.steps = append(p.steps, st)
		}
		out = append(out, p)
	}
	return out, nil
}

func readStep(s string) (step, error) {
	name, filter, filtered := strings.Cut(s, "[")
	st := step{name: name}
	if !filtered {
		return st, nil
	}
	filter = strings.TrimSuffix(filter, "]")
	if filter == "0" {
		st.first = true
		return st, nil
	}
	if rt, ok := strings.CutPrefix(filter, "->"); ok {
		st.is = fhir.ResourceType(rt)
		if !st.is.Valid() {
			return st, fmt.Errorf("step %q: no resource type", s)
		}
		return st, nil
	}
	if url, ok := strings.CutPrefix(filter, "+"); ok {
		st.extended = url
		return st, nil
	}
	var ok bool
	if st.key, st.value, ok = strings.Cut(filter, "="); !ok {
		return st, fmt.Errorf("step %q: unknown filter", s)
	}
	return st, nil
}

// splitOutside cuts at sep outside of brackets and parentheses.
func splitOutside(s string, sep byte) []string {
	var out []string
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '[', '(':
			depth++
		case ']', ')':
			depth--
		case sep:
			if depth == 0 {
				out = append(out, s[start:i])
				start = i + 1
			}
		}
	}
	return append(out, s[start:])
}

// each visits what steps select below n. root holds the contained resources
// that a reference may name.
func each(root, n *element.Node, steps []step, visit func(*element.Node)) {
	if len(steps) == 0 {
		visit(n)
		return
	}
	st := &steps[0]
	v := n.Get(st.name)
	if v == nil {
		return
	}
	if v.Kind != element.Array {
		if st.admits(root, v) {
			each(root, v, steps[1:], visit)
		}
		return
	}
	for i, x := range v.Items {
		if st.first && i > 0 {
			return
		}
		if st.admits(root, x) {
			each(root, x, steps[1:], visit)
		}
	}
}

func (s *step) admits(root, n *element.Node) bool {
	switch {
	case n == nil || n.Kind == element.Null:
		return false
	case s.key != "":
		return n.Get(s.key).String() == s.value
	case s.is != "":
		return targetType(root, n) == s.is
	case s.extended != "":
		return hasExtension(n, s.extended)
	default:
		return true
	}
}

// targetType is the type of what a Reference points to, without looking it up:
// by its literal, by the contained resource, else by Reference.type.
func targetType(root, ref *element.Node) fhir.ResourceType {
	literal := ref.Get("reference").String()
	if fragment, ok := strings.CutPrefix(literal, "#"); ok {
		for _, c := range root.Get("contained").List() {
			if c.Get("id").String() == fragment {
				return fhir.ResourceType(c.Get("resourceType").String())
			}
		}
	}
	if r, ok := tailRef(literal); ok {
		return r.Type
	}
	return fhir.ResourceType(ref.Get("type").String())
}

// tailRef reads the Type/id at the end of a relative or absolute literal.
func tailRef(literal string) (fhir.Ref, bool) {
	if before, _, ok := strings.Cut(literal, "/_history/"); ok {
		literal = before
	}
	i := strings.LastIndexByte(literal, '/')
	if i < 0 {
		return fhir.Ref{}, false
	}
	j := strings.LastIndexByte(literal[:i], '/')
	return fhir.ParseRef(literal[j+1:])
}

func hasExtension(n *element.Node, url string) bool {
	for _, e := range n.Get("extension").List() {
		if e.Get("url").String() == url {
			return true
		}
	}
	return false
}
