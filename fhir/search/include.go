package search

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// includes reads _include and _revinclude (R4 search, 3.1.1.5.6).
func (p *parser) includes(name string, values []string) {
	for i, literal := range values {
		if slices.Contains(values[:i], literal) {
			continue
		}
		in, f := p.include(name, literal)
		if f == nil && len(p.query.Includes) == MaxIncludes {
			f = faultf("is too much: a search includes in at most %d ways", MaxIncludes)
		}
		if f != nil {
			p.fail("the parameter %s %s", Shown(name), f.reason)
			return
		}
		p.query.Includes = append(p.query.Includes, in)
	}
}

const badInclude = "has a value that is not supported here: it takes Type:parameter, Type:parameter:Target, Type:* or *, one in each"

func (p *parser) include(name, literal string) (Include, *fault) {
	code, modifier, modified := strings.Cut(name, ":")
	in := Include{Reverse: code == "_revinclude", Name: name, Literal: literal}
	if modified {
		// recurse is what iterate was called before R4.
		if modifier != "iterate" && modifier != "recurse" {
			return in, faultf("has a modifier that is not supported here: it takes :iterate")
		}
		in.Iterate = true
	}
	if literal == "*" {
		in.Param = "*"
		return in, nil
	}
	part := strings.Split(literal, ":")
	if len(part) < 2 || len(part) > 3 {
		return in, faultf(badInclude)
	}
	in.Source, in.Param = fhir.ResourceType(part[0]), part[1]
	if !in.Source.Valid() {
		return in, faultf("names a type that R4 does not have")
	}
	if len(part) == 3 {
		in.Target = fhir.ResourceType(part[2])
		if !in.Target.Valid() {
			return in, faultf("names a type that R4 does not have")
		}
	}
	if in.Param == "*" {
		return in, nil
	}
	def, ok := p.lookup(in.Source, in.Param)
	switch {
	case !ok || def.Type != Reference:
		return in, faultf("names no reference parameter of %s", in.Source)
	case !def.Searchable():
		return in, faultf("names a parameter that cannot be used here: %s", def.Refused)
	case in.Target != "" && !def.canTarget(in.Target):
		return in, faultf("names a reference of %s that never refers to %s", in.Source, in.Target)
	}
	in.Param = def.name()
	return in, nil
}
