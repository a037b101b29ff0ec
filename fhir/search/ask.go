package search

import (
	"fmt"
	"slices"

	"github.com/cloister-health/cloister/fhir"
)

// ask reads what is asked of a resource of type t by one of its own parameters.
func (p *parser) ask(t fhir.ResourceType, q question) (Criterion, *fault) {
	if f := p.spend(0, 0, 1); f != nil {
		return Criterion{}, f
	}
	switch q.code {
	case "_list":
		return p.list(q)
	case "_text", "_content":
		return p.words(q)
	case "_has":
		return Criterion{}, faultf("is no reverse chain: write _has:Type:reference:parameter")
	case "_filter":
		return Criterion{}, faultf("cannot be used at the end of a chain")
	case "_in":
		return Criterion{}, faultf("cannot be used here: searching by membership is not of R4")
	}
	def, f := p.searchable(t, q.code)
	if f != nil {
		return Criterion{}, f
	}
	if q.op != "" {
		return p.operation(t, def, q)
	}
	if !q.modified {
		return p.posed(t, def, modifier{}, q.literal)
	}
	if q.modifier == "missing" {
		return p.missing(t, def, q.literal)
	}
	m, ok := def.modifier(q.modifier)
	if !ok {
		return Criterion{}, faultf("has a modifier that is not supported here")
	}
	return p.posed(t, def, m, q.literal)
}

// posed reads a parameter with its modifier. A union is asked as its members
// are, one or the other, so that "not" is said of all of them.
func (p *parser) posed(t fhir.ResourceType, def *Param, m modifier, literal string) (Criterion, *fault) {
	not := m.not
	m.not = false
	var ways []Criterion
	members, f := p.united(t, def)
	if f != nil {
		return Criterion{}, f
	}
	for _, member := range members {
		c, f := p.match(t, member, m, literal)
		if f != nil {
			return Criterion{}, f
		}
		ways = append(ways, c)
	}
	c := oneOf(ways)
	c.Not = not
	return c, nil
}

// united are the parameters whose values def stands for: itself, if it is no union.
func (p *parser) united(t fhir.ResourceType, def *Param) ([]*Param, *fault) {
	if len(def.UnionOf) == 0 {
		return []*Param{def}, nil
	}
	members := make([]*Param, len(def.UnionOf))
	for i, code := range def.UnionOf {
		var f *fault
		if members[i], f = p.searchable(t, code); f != nil {
			return nil, f
		}
	}
	return members, nil
}

// match reads the comma-separated values of one parameter.
func (p *parser) match(t fhir.ResourceType, def *Param, m modifier, literal string) (Criterion, *fault) {
	c := Criterion{Param: def.name(), Type: def.Type}
	switch {
	case def.Code == "_text" || def.Code == "_content":
		c.Op = Words
	case m.text:
		c.Op, c.Paths = Like, def.TextPaths()
	case def.Type == URI && (m.match == Below || m.match == Above):
		c.Op, c.Paths = Like, def.Paths()
	case m.identifier:
		c.Param, c.Type = identifierParam(def.name()), Token
	case def.Under != "":
		c.Param = def.Under
	}
	if c.Op == Like && len(c.Paths) == 0 {
		return Criterion{}, faultf("has a modifier that is not supported here")
	}
	items := splitEscaped(literal, ',')
	if len(items) > MaxValues {
		return Criterion{}, faultf("has more than %d values", MaxValues)
	}
	seen := map[Value]bool{}
	for _, item := range items {
		if reason := measured(item); reason != "" {
			return Criterion{}, faultf("%s", reason)
		}
		values, reason := p.value(t, def, m, item)
		if reason != "" {
			return Criterion{}, faultf("%s", reason)
		}
		if m.set == 0 {
			if f := p.spend(len(values), 0, 0); f != nil {
				return Criterion{}, f
			}
		}
		for _, v := range values {
			if !seen[v] {
				seen[v] = true
				c.Any = append(c.Any, v)
			}
		}
		if len(c.Any) > MaxCodes {
			return Criterion{}, faultf("stands for more than %d codes", MaxCodes)
		}
	}
	return c, nil
}

// words are _text and _content (R4 search, 3.1.1.4.2): all words of one of the values.
func (p *parser) words(q question) (Criterion, *fault) {
	switch {
	case q.modified:
		return Criterion{}, faultf("has a modifier that is not supported here")
	case q.op != "" && q.op != "co":
		return Criterion{}, faultf("has the operation %s: %s takes co", q.op, q.code)
	case q.op != "":
		q.literal = Escape(q.literal)
	}
	return p.match("", &Param{Code: q.code, Type: String}, modifier{}, q.literal)
}

func measured(item string) string {
	switch {
	case item == "":
		return "has an empty value"
	case len(item) > MaxValue:
		return fmt.Sprintf("has a value longer than %d bytes", MaxValue)
	}
	return ""
}

// missing is the modifier :missing, which every parameter of an element has (R4 search, modifiers).
func (p *parser) missing(t fhir.ResourceType, def *Param, literal string) (Criterion, *fault) {
	if literal != "true" && literal != "false" {
		return Criterion{}, faultf("takes true or false")
	}
	c, f := p.present(t, def)
	c.Not = literal == "true"
	return c, f
}

// present is the condition that the resource has a value of the parameter.
func (p *parser) present(t fhir.ResourceType, def *Param) (Criterion, *fault) {
	members, f := p.united(t, def)
	if f != nil {
		return Criterion{}, f
	}
	var paths []string
	for _, member := range members {
		own := member.Paths()
		if len(own) == 0 {
			return Criterion{}, faultf("has a modifier that is not supported here")
		}
		paths = append(paths, own...)
	}
	slices.Sort(paths)
	return Criterion{Op: Present, Param: def.name(), Type: def.Type, Paths: slices.Compact(paths)}, nil
}
