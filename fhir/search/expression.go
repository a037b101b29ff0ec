package search

import (
	"regexp"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/fhirpath"
)

// The shapes of expressions that have an equal in SQL/JSON paths.
var (
	castShape      = regexp.MustCompile(`^\(\s*([^()]+?)\s+as\s+(\w+)\s*\)(.*)$`)
	typeShape      = regexp.MustCompile(`^(?:as|ofType)\(\s*(\w+)\s*\)$`)
	equalShape     = regexp.MustCompile(`^where\(\s*(\w+)\s*=\s*'([^'\\]*)'\s*\)$`)
	resolveShape   = regexp.MustCompile(`^where\(\s*resolve\(\)\s+is\s+(\w+)\s*\)$`)
	extensionShape = regexp.MustCompile(`^extension\(\s*'([^'\\]*)'\s*\)$`)
	nameShape      = regexp.MustCompile(`^([a-z]\w*)(\[0\])?$`)
)

// on is p as a parameter of t: with the paths that say in SQL what its
// expression says of a t, where they can.
func (p *Param) on(t fhir.ResourceType) *Param {
	q := *p
	for _, alternative := range splitOutside(p.expression.String(), '|') {
		found, ok := pathsOf(t, strings.TrimSpace(alternative))
		if !ok {
			q.paths = nil
			return &q
		}
		q.paths = append(q.paths, found...)
	}
	q.paths = slices.DeleteFunc(q.paths, func(x path) bool { return x.leaf != 0 && !slices.Contains(accepts[p.Type], x.leaf) })
	return &q
}

// typed is a path on the way, with the FHIR type of what it selects; "" is any.
type typed struct {
	steps []step
	typ   string
}

func pathsOf(t fhir.ResourceType, x string) ([]path, bool) {
	if m := castShape.FindStringSubmatch(x); m != nil {
		x = m[1] + ".as(" + m[2] + ")" + m[3]
	}
	parts := splitOutside(x, '.')
	if first := parts[0]; first != "" && first[0] >= 'A' && first[0] <= 'Z' {
		if !fhirpath.IsA(string(t), first) {
			return nil, true // another type's alternative
		}
		parts = parts[1:]
	}
	cur := []typed{{typ: string(t)}}
	for i := range parts {
		next := ""
		if i+1 < len(parts) {
			next = parts[i+1]
		}
		var ok bool
		if cur, ok = advance(cur, parts[i], next); !ok {
			return nil, false
		}
	}
	var out []path
	for _, c := range cur {
		if len(c.steps) > 0 {
			out = append(out, path{steps: c.steps, leaf: leaves[c.typ]})
		}
	}
	return out, true
}

// advance applies one part of an expression to every path so far; next is the
// part after it, which may choose among the types of a choice.
func advance(cur []typed, part, next string) ([]typed, bool) {
	if typeShape.MatchString(part) {
		return cur, true // has chosen already
	}
	if m := extensionShape.FindStringSubmatch(part); m != nil {
		return deeper(cur, step{name: "extension", key: "url", value: m[1]}, "Extension"), true
	}
	filter := step{}
	if m := equalShape.FindStringSubmatch(part); m != nil {
		filter.key, filter.value = m[1], m[2]
	} else if m := resolveShape.FindStringSubmatch(part); len(m) == 2 && fhir.ResourceType(m[1]).Valid() {
		filter.is = fhir.ResourceType(m[1])
	}
	if filter != (step{}) {
		for i := range cur {
			last := len(cur[i].steps) - 1
			if last < 0 || cur[i].steps[last].filtered() {
				return nil, false
			}
			filter.name = cur[i].steps[last].name
			cur[i].steps = append(slices.Clone(cur[i].steps[:last]), filter)
		}
		return cur, true
	}
	m := nameShape.FindStringSubmatch(part)
	if m == nil {
		return nil, false
	}
	cast := ""
	if m := typeShape.FindStringSubmatch(next); m != nil {
		cast = m[1]
	}
	var out []typed
	for _, c := range cur {
		found, ok := c.child(m[1], m[2] != "", cast)
		if !ok {
			return nil, false
		}
		out = append(out, found...)
	}
	return out, true
}

func deeper(cur []typed, s step, typ string) []typed {
	out := make([]typed, len(cur))
	for i, c := range cur {
		out[i] = typed{append(slices.Clone(c.steps), s), typ}
	}
	return out
}

// manyTypes is how many types make a choice one of any type.
const manyTypes = 16

func (c typed) child(name string, first bool, cast string) ([]typed, bool) {
	if c.typ == "" {
		return deeper([]typed{c}, step{name: name, first: first}, ""), true
	}
	types, _, ok := fhirpath.ElementType(c.typ, name)
	if !ok {
		return nil, false
	}
	if len(types) > manyTypes && cast == "" {
		return deeper([]typed{c}, step{name: anyValue}, ""), name == "value"
	}
	var out []typed
	for _, t := range types {
		if cast != "" && t != cast {
			continue
		}
		slot, ok := fhirpath.SlotFor(c.typ, name, t)
		if !ok {
			return nil, false
		}
		out = append(out, deeper([]typed{c}, step{name: slot.JSON, first: first}, t)...)
	}
	return out, true
}
