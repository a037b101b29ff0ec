package view

import (
	"fmt"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// form is what a member of the definition is in JSON.
type form uint8

const (
	text   form = iota + 1 // a string
	must                   // a string that has to be there
	flag                   // true or false
	object                 // an object that nobody here reads
	list                   // a list of objects
	many                   // one that has to be there
	texts                  // a list of strings
)

// head are the members of a ViewDefinition. What is about the definition and not about the table is not read.
var head = map[string]form{
	"resourceType": text, "id": text, "meta": object, "language": text, "text": object, "contained": list, "extension": list,
	"url": text, "identifier": list, "version": text, "versionAlgorithmString": text, "versionAlgorithmCoding": object, "name": text, "title": text,
	"status": text, "experimental": flag, "date": text, "publisher": text, "contact": list, "description": text, "useContext": list,
	"jurisdiction": list, "purpose": text, "copyright": text, "copyrightLabel": text,
	"resource": must, "fhirVersion": texts, "profile": texts, "constant": list, "select": many, "where": list,
}

var inSelect = map[string]form{"column": list, "select": list, "forEach": text, "forEachOrNull": text, "repeat": texts, "unionAll": list}

var inColumn = map[string]form{"path": must, "name": must, "description": text, "collection": flag, "type": text, "tag": list}

const (
	unknown = "there is no such member; what it means would be left out"
	needed  = "it is needed"
)

// members checks that an object has what it has to, and nothing that is not known.
func members(at string, n *element.Node, known map[string]form) error {
	if n.Kind != element.Object {
		return outcome.At(outcome.Structure, at, "it is no JSON object")
	}
	for _, f := range n.Fields {
		form, ok := known[f.Name]
		if !ok {
			return outcome.At(outcome.Structure, at+"."+f.Name, unknown)
		}
		if why := form.wrong(f.Value); why != "" {
			return outcome.At(outcome.Structure, at+"."+f.Name, why)
		}
	}
	for _, name := range []string{"resource", "select", "name", "path", "value"} {
		if form, ok := known[name]; ok && (form == must || form == many) && n.Get(name) == nil {
			return outcome.At(outcome.Required, at+"."+name, needed)
		}
	}
	return nil
}

func (f form) wrong(n *element.Node) string {
	items := func(k element.Kind, what string) string {
		if n.Kind != element.Array || len(n.Items) == 0 {
			return "it is no list of " + what
		}
		for i, x := range n.Items {
			if x.Kind != k {
				return fmt.Sprintf("item %d is not one of %s", i, what)
			}
		}
		return ""
	}
	switch f {
	case text, must:
		if n.Kind != element.String || n.Text == "" {
			return "it is no string, or an empty one"
		}
	case flag:
		if n.Kind != element.Bool {
			return "it is neither true nor false"
		}
	case object:
		if n.Kind != element.Object {
			return "it is no JSON object"
		}
	case list, many:
		return items(element.Object, "JSON objects")
	case texts:
		return items(element.String, "strings")
	}
	return ""
}
