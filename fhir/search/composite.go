package search

import "github.com/cloister-health/cloister/fhir"

// compositeValue reads R4 search, composite: the values of the parts, joined by
// $. Both must be of one element of the resource.
func (p *parser) compositeValue(t fhir.ResourceType, def *Param, item string) ([]Value, string) {
	parts := splitEscaped(item, '$')
	components := def.Components()
	if len(parts) != len(components) || len(parts) != 2 || parts[0] == "" || parts[1] == "" {
		return nil, "takes two values joined by $, of " + names(components)
	}
	token, reason := tokenParts(parts[0])
	switch {
	case reason != "":
		return nil, reason
	case len(token) > 2:
		return nil, manyBars
	case token[len(token)-1] == "":
		return nil, "has a value without a code before the $"
	}
	code, system, named := token[0], "", len(token) == 2
	if named {
		system, code = token[0], token[1]
	}
	other, ok := p.lookup(t, components[1].Code)
	if !ok || !other.Searchable() {
		return nil, "has a part that cannot be searched"
	}
	if components[1].Type == Token || components[1].Type == Reference {
		return p.pairs(def, components[1].Type, other, code, system, named, parts[1])
	}
	values, reason := p.value(t, other, modifier{}, parts[1])
	if reason != "" {
		return nil, reason
	}
	key, keySystem := elementKeys(def.Code, system, code)
	for i := range values {
		values[i].Part = components[1].Type
		values[i].Key = key
		if named {
			values[i].KeySystem = keySystem
		}
	}
	return values, ""
}

func names(components []Component) string {
	s := ""
	for i, c := range components {
		if i > 0 {
			s += " and "
		}
		s += c.Code
	}
	return s
}

// pairs are the keys of both parts together, where the other is a token or a reference.
func (p *parser) pairs(def *Param, other ParamType, ref *Param, code, system string, named bool, item string) ([]Value, string) {
	part := func(system, code string, named bool) int64 {
		if named {
			return tokenPart(system, code)
		}
		return codePart(code)
	}
	first := part(system, code, named)
	if other == Token {
		token, reason := tokenParts(item)
		switch {
		case reason != "":
			return nil, reason
		case len(token) > 2:
			return nil, manyBars
		case token[len(token)-1] == "":
			return nil, "has a value without a code after the $"
		case len(token) == 2:
			return []Value{{Hash: pairHash(def.Code, first, part(token[0], token[1], true))}}, ""
		}
		return []Value{{Hash: pairHash(def.Code, first, part("", token[0], false))}}, ""
	}
	text, ok := unescape(item)
	if !ok {
		return nil, badEscape
	}
	values, reason := p.referenceValue(ref, "", text)
	for i := range values {
		values[i].Hash = pairHash(def.Code, first, values[i].Hash)
	}
	return values, reason
}
