package search

import "github.com/cloister-health/cloister/fhir"

// Paths are the SQL/JSON path expressions (lax mode, from the root of the
// resource) that together select what p selects: for [Present], and for the
// uris themselves that [Like] compares. None means that p cannot be asked for
// in that way.
func (p *Param) Paths() []string { return nil }

// TextPaths are the SQL/JSON path expressions of the texts that go with what p
// selects (modifier :text): CodeableConcept.text, Coding.display,
// Identifier.type.text, Reference.display, and strings themselves.
func (p *Param) TextPaths() []string { return nil }

// SortPaths are the SQL/JSON path expressions of the texts by which a resource
// can be sorted by p: codes, values of identifiers, references, uris.
func (p *Param) SortPaths() []string { return nil }

// ClinicalDate is the date parameter of t, if any, that has at most one value
// in a resource and says when what it tells of was so: the one that people sort
// by. A store keeps it beside the resource, see Index.AtLo.
func ClinicalDate(t fhir.ResourceType) (code string, ok bool) { return "", false }
