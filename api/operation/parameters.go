package operation

import "github.com/cloister-health/cloister/fhir/element"

// parametersOf is a Parameters resource: what an operation answers.
func parametersOf(params ...*element.Node) *element.Node {
	return element.NewObject(
		element.Field{Name: "resourceType", Value: element.NewString("Parameters")},
		element.Field{Name: "parameter", Value: &element.Node{Kind: element.Array, Items: params}},
	)
}

func addParam(p *element.Node, param *element.Node) {
	l := p.Get("parameter")
	l.Items = append(l.Items, param)
}

// param is a parameter whose value is a text of that type, such as valueCode.
func param(name, typ, value string) *element.Node {
	return element.NewObject(element.Field{Name: "name", Value: element.NewString(name)}, element.Field{Name: typ, Value: element.NewString(value)})
}

func paramReference(name, reference string) *element.Node {
	return element.NewObject(element.Field{Name: "name", Value: element.NewString(name)},
		element.Field{Name: "valueReference", Value: element.NewObject(element.Field{Name: "reference", Value: element.NewString(reference)})})
}

func paramParts(name string, parts ...*element.Node) *element.Node {
	return element.NewObject(element.Field{Name: "name", Value: element.NewString(name)},
		element.Field{Name: "part", Value: &element.Node{Kind: element.Array, Items: parts}})
}

func paramCoding(name, system, code string) *element.Node {
	return element.NewObject(element.Field{Name: "name", Value: element.NewString(name)},
		element.Field{Name: "valueCoding", Value: element.NewObject(
			element.Field{Name: "system", Value: element.NewString(system)}, element.Field{Name: "code", Value: element.NewString(code)})})
}

func paramFlag(name string) *element.Node {
	return element.NewObject(element.Field{Name: "name", Value: element.NewString(name)},
		element.Field{Name: "valueBoolean", Value: &element.Node{Kind: element.Bool, Text: "true"}})
}
