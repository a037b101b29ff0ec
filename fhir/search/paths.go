package search

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Paths are the SQL/JSON path expressions (lax mode, from the root of the
// resource) that together select what p selects, or the elements in which a
// composite has both parts: for [Present], and for the uris themselves that
// [Like] compares. None means that p cannot be asked for in that way. Of a
// reference to a contained resource they know no more than that some contained
// resource is of the type.
func (p *Param) Paths() []string {
	return p.each(func(x *path) []string {
		switch {
		case x.leaf == leafTruth:
			return []string{"$"} // true or false, but never absent
		case p.Type == Composite:
			return []string{x.sql("", p.parts())}
		default:
			return []string{x.sql("", "")}
		}
	})
}

// TextPaths are the SQL/JSON path expressions of the texts that go with what p
// selects (modifier :text): CodeableConcept.text, Coding.display,
// Identifier.type.text, Reference.display, and strings themselves.
func (p *Param) TextPaths() []string {
	return p.each(func(x *path) []string {
		switch x.leaf {
		case leafCodeableConcept:
			return x.below("text", "coding[*].display")
		case leafCoding, leafReference:
			return x.below("display")
		case leafIdentifier:
			return x.below("type.text")
		default:
			if p.Type == String {
				return x.texts()
			}
			return nil
		}
	})
}

// SortPaths are the SQL/JSON path expressions of the values by which resources
// are sorted by p where p is a Token, Reference, URI or String: codes, values of
// identifiers, references, uris, texts. Other types are sorted by their entries
// in the [Index].
func (p *Param) SortPaths() []string {
	return p.each(func(x *path) []string {
		switch x.leaf {
		case leafCodeableConcept:
			return x.below("coding[*].code")
		case leafCoding:
			return x.below("code")
		case leafIdentifier, leafContactPoint:
			return x.below("value")
		case leafReference:
			return x.below("reference")
		case leafResource:
			return x.below("id")
		case leafCode, leafBoolean, leafTruth, leafURI, leafCanonical, leafHumanName, leafAddress:
			return x.texts()
		default:
			return nil
		}
	})
}

func (p *Param) each(spell func(*path) []string) []string {
	var out []string
	for i := range p.paths {
		out = append(out, spell(&p.paths[i])...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// below is the members of what x selects.
func (x *path) below(members ...string) []string {
	out := make([]string, 0, len(members))
	for _, m := range members {
		out = append(out, x.sql("."+m+"[*]", ""))
	}
	return out
}

var (
	nameParts    = []string{"text", "family", "given", "prefix", "suffix"}
	addressParts = []string{"text", "line", "city", "district", "state", "postalCode", "country"}
)

func (x *path) texts() []string {
	switch x.leaf {
	case leafHumanName:
		return x.below(nameParts...)
	case leafAddress:
		return x.below(addressParts...)
	default:
		return []string{x.sql("", "")}
	}
}

// parts is the filter that an element of the composite p has both parts.
func (p *Param) parts() string {
	var both []string
	for _, c := range p.components {
		var one []string
		for i := range c.paths {
			one = append(one, "exists("+c.paths[i].from("@")+")")
		}
		both = append(both, "("+strings.Join(one, " || ")+")")
	}
	return strings.Join(both, " && ")
}

// sql spells x with what stands below it, or with a filter on what it selects.
func (x *path) sql(below, filter string) string {
	s := x.from("$")
	if below != "" {
		return s + below
	}
	if len(x.steps) > 0 && !x.steps[len(x.steps)-1].filtered() {
		s += "[*]"
	}
	if filter != "" {
		s += "?(" + filter + ")"
	}
	return s
}

func (x *path) from(root string) string {
	var b strings.Builder
	b.WriteString(root)
	for i := range x.steps {
		x.steps[i].write(&b)
	}
	return b.String()
}

func (s *step) filtered() bool { return s.first || s.key != "" || s.is != "" || s.extended != "" }

func (s *step) write(b *strings.Builder) {
	b.WriteByte('.')
	if s.name == anyValue {
		b.WriteString(`keyvalue()?(@.key starts with "value").value`)
		return
	}
	b.WriteString(s.name)
	switch {
	case s.first:
		b.WriteString("[0]")
	case s.key != "":
		b.WriteString("[*]?(@." + s.key + " == " + quote(s.value) + ")")
	case s.extended != "":
		b.WriteString("[*]?(@.extension[*].url == " + quote(s.extended) + ")")
	case s.is != "":
		b.WriteString("[*]?(" + pointsTo(s.is) + ")")
	}
}

// anyValue is the step to value[x] of whatever type.
const anyValue = "value[x]"

func quote(s string) string { return string(element.AppendQuoted(nil, s)) }

// pointsTo is targetType as a filter on a Reference.
func pointsTo(t fhir.ResourceType) string {
	const tail = `/[A-Za-z0-9.-]{1,64}(/_history/.*)?$"`
	name := string(t)
	return `@.reference like_regex "(^|/)` + name + tail +
		` || @.type == "` + name + `" && !(@.reference like_regex "(^|/)[A-Z][A-Za-z]+` + tail + `)` +
		` || @.reference starts with "#" && exists($.contained[*]?(@.resourceType == "` + name + `"))`
}

// ClinicalDate is the date parameter of t, if any, that has at most one value
// in a resource and says when what it tells of was so: the one that people sort
// by. A store keeps it beside the resource, see Index.AtLo.
func ClinicalDate(t fhir.ResourceType) (code string, ok bool) {
	p := registry().clinical[t]
	if p == nil {
		return "", false
	}
	return p.Code, true
}
