package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// selection is one concrete path into the JSON of a resource, in the form that
// package search reads: steps, then the datatype of what they select.
type selection struct {
	steps   []string
	at      string // path of the element definition
	typ     elementType
	system  string
	targets []string // what where(resolve() is T) leaves
	truth   bool     // exists() and != false
	many    bool     // a resource can have several of it
	element string   // path of the element definition that it ends in, its other types included
}

func (s selection) String() string {
	leaf := s.typ.code
	switch {
	case s.truth:
		leaf = "truth"
	case leaf == "code" && s.system != "":
		leaf += "(" + s.system + ")"
	}
	return strings.Join(s.steps, ".") + ":" + leaf
}

var (
	castForm  = regexp.MustCompile(`^\(([^()]+) as (\w+)\)(.*)$`)
	truthForm = regexp.MustCompile(`^(\w+(?:\.\w+)+)\.exists\(\) and (\w+(?:\.\w+)+) != false$`)
	isForm    = regexp.MustCompile(`^where\(resolve\(\) is (\w+)\)$`)
	equalForm = regexp.MustCompile(`^where\((\w+)='([^']*)'\)$`)
	asForm    = regexp.MustCompile(`^(?:as|ofType)\((\w+)\)$`)
	hasForm   = regexp.MustCompile(`^where\(hasExtension\('([^']*)'\)\)$`)
	extForm   = regexp.MustCompile(`^extension\('([^']*)'\)$`)
	nameForm  = regexp.MustCompile(`^([a-z]\w*)(\[0\])?$`)
)

var errShape = errors.New("expression of a shape that is not compiled")

// compile reduces an official expression to base and resolves it to the
// concrete paths that it selects there.
func (d *definitions) compile(base, expression string) ([]selection, error) {
	var out []selection
	for _, alternative := range split(expression, '|') {
		sel, err := d.alternative(base, strings.TrimSpace(alternative))
		if err != nil {
			return nil, err
		}
		out = append(out, sel...)
	}
	if len(out) == 0 {
		return nil, errors.New("expression selects nothing of this base")
	}
	return out, nil
}

func (d *definitions) alternative(base, x string) ([]selection, error) {
	if m := truthForm.FindStringSubmatch(x); m != nil {
		if m[1] != m[2] {
			return nil, errShape
		}
		sel, err := d.alternative(base, m[1])
		for i := range sel {
			sel[i].truth = true
		}
		return sel, err
	}
	if m := castForm.FindStringSubmatch(x); m != nil {
		x = m[1] + ".as(" + m[2] + ")" + m[3]
	}
	parts := split(x, '.')
	switch first := parts[0]; {
	case first == base, first == "Resource", first == "DomainResource":
		parts = parts[1:]
	case first[0] >= 'A' && first[0] <= 'Z':
		return nil, nil // another base's alternative
	}
	if len(parts) == 0 {
		return nil, errors.New("expression is the resource itself")
	}
	return d.walk([]selection{{at: base}}, parts)
}

// walk applies the parts of an expression to every path so far.
func (d *definitions) walk(cur []selection, parts []string) ([]selection, error) {
	for i := 0; i < len(parts); i++ {
		cast := ""
		if i+1 < len(parts) {
			if m := asForm.FindStringSubmatch(parts[i+1]); m != nil {
				cast = m[1]
			}
		}
		next, err := d.advance(cur, parts[i], cast)
		if err != nil {
			return nil, err
		}
		cur = next
		if cast != "" {
			i++
		}
	}
	return cur, nil
}

// advance applies one part of an expression to every path so far.
func (d *definitions) advance(cur []selection, part, cast string) ([]selection, error) {
	if m := isForm.FindStringSubmatch(part); m != nil {
		for i := range cur {
			cur[i].amend("[->" + m[1] + "]")
			cur[i].targets = []string{m[1]}
		}
		return cur, nil
	}
	if m := equalForm.FindStringSubmatch(part); m != nil {
		for i := range cur {
			cur[i].amend("[" + m[1] + "=" + m[2] + "]")
		}
		return cur, nil
	}
	if m := hasForm.FindStringSubmatch(part); m != nil {
		for i := range cur {
			cur[i].amend("[+" + m[1] + "]")
		}
		return cur, nil
	}
	var next []selection
	if m := extForm.FindStringSubmatch(part); m != nil {
		types := d.extensions[m[1]]
		if types == nil {
			types = d.elements["Extension.value[x]"].types
		}
		for _, c := range cur {
			for _, t := range types {
				next = append(next, selection{
					steps: append(slices.Clone(c.steps), "extension[url="+m[1]+"]", "value"+upper(t.code)), typ: t, many: true,
				})
			}
		}
		return next, nil
	}
	m := nameForm.FindStringSubmatch(part)
	if m == nil {
		return nil, errShape
	}
	for _, c := range cur {
		found, err := d.child(c, m[1], m[2], cast)
		if err != nil {
			return nil, err
		}
		next = append(next, found...)
	}
	return next, nil
}

func (s *selection) amend(filter string) {
	s.steps = slices.Clone(s.steps)
	s.steps[len(s.steps)-1] += filter
}

func (d *definitions) child(c selection, name, index, cast string) ([]selection, error) {
	path := c.at + "." + name
	def, ok := d.elements[path]
	choice := false
	if !ok {
		path += "[x]"
		if def, ok = d.elements[path]; !ok {
			return nil, fmt.Errorf("no element %s.%s", c.at, name)
		}
		choice = true
	}
	if def.content != "" {
		return []selection{{
			steps: append(slices.Clone(c.steps), name+index), at: def.content, typ: elementType{code: "BackboneElement"}, many: true,
		}}, nil
	}
	var out []selection
	for _, t := range def.types {
		// R4 also spells dateTime as DateTime.
		if cast != "" && t.code != cast && upper(t.code) != cast {
			continue
		}
		s := selection{
			steps: append(slices.Clone(c.steps), name+index), at: t.code, typ: t, system: def.system,
			many: c.many || def.many && index == "", element: path,
		}
		if choice {
			s.steps[len(s.steps)-1] = name + upper(t.code) + index
		}
		if t.code == "BackboneElement" || t.code == "Element" {
			s.at = path
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s is never a %s", path, cast)
	}
	return out, nil
}

// split cuts at sep outside of parentheses.
func split(s string, sep byte) []string {
	var out []string
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
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
