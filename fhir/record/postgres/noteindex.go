package postgres

import (
	"slices"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search"
)

// noteElements are the elements of a note that its index tells of. They say
// which note it is, whose, of what kind and when it was written; 45 CFR 164.501
// keeps content of the session out of them. All others are in the body alone,
// which is encrypted.
var noteElements = []string{
	"resourceType", "id", "meta", "identifier", "masterIdentifier", "status", "type", "category",
	"subject", "author", "authenticator", "attester", "custodian", "date", "securityLabel", "confidentiality",
}

// noteParams are the parameters, beside references, that they answer.
var noteParams = []string{
	"_id", "_lastUpdated", "_profile", "_tag", "_source", "identifier", "status", "type", "category", "date", "security-label", "confidentiality",
}

// noteIndex is what searches find a note by: those elements, and whatever it
// refers to, by which protection flows.
func noteIndex(t fhir.ResourceType, root *element.Node) search.Index {
	some := &element.Node{Kind: element.Object}
	for _, f := range root.Fields {
		if slices.Contains(noteElements, f.Name) {
			some.Fields = append(some.Fields, f)
		}
	}
	x := search.Extract(t, some)
	x.Refs = search.Extract(t, root).Refs
	x.Strings, x.Quantities = nil, nil
	return x
}

// unread says that the index of a note does not answer c, so that neither c nor
// its opposite holds of any note.
func (c *term) unread() bool {
	switch c.Op {
	case search.Match:
		return c.Type != search.Reference && !slices.Contains(noteParams, c.Param)
	case search.Present, search.Like, search.Words:
		return true
	case search.Either:
		return slices.ContainsFunc(c.groups, func(g []*term) bool { return slices.ContainsFunc(g, (*term).unread) })
	default:
		return false
	}
}
