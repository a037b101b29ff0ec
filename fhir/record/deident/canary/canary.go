// Package canary builds resources with a token of its own in every place that can hold one, for tests of what lets nothing through.
package canary

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
)

// Planted is what was planted in one resource, from the definitions of R4.
type Planted struct {
	variant int             // which of several choices, codes and shapes is taken
	Tokens  []string        // each once
	dates   []string        // planted: tokens that some profiles let through
	trail   map[string]int  // how often a type is being built
	inside  map[string]bool // "#id" of contained resources
	full    map[string]bool // types of which an instance has something beside each of its primitives
}

const (
	deepest = 5
	absence = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
)

func listOf(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

// insideTypes are built as contained resources, too.
var insideTypes = []fhir.ResourceType{"Condition", "Medication", "Organization", "Patient", "Practitioner"}

// Plant builds an instance of a type; variant chooses among choices, codes and shapes.
func Plant(rt fhir.ResourceType, variant int) (*element.Node, *Planted) {
	p := &Planted{variant: variant, trail: map[string]int{}, inside: map[string]bool{}, full: map[string]bool{}}
	var contained []*element.Node
	var links []*element.Node
	d, _ := codec.DefinitionOf(string(rt))
	_, holds := d.Element("contained")
	if holds {
		for _, it := range insideTypes {
			id := p.token()
			p.inside["#"+id] = true
			x := element.NewObject(element.Field{Name: "resourceType", Value: element.NewString(string(it))}, element.Field{Name: "id", Value: element.NewString(id)})
			contained = append(contained, x)
			links = append(links, element.NewObject(element.Field{Name: "url", Value: element.NewString("http://canary.example/" + p.token())},
				element.Field{Name: "valueReference", Value: element.NewObject(element.Field{Name: "reference", Value: element.NewString("#" + id)})}))
		}
		for _, x := range contained {
			inner, _ := codec.DefinitionOf(x.Get("resourceType").String())
			x.Fields = append(x.Fields, p.fields(inner, 3)...)
		}
	}
	p.full = map[string]bool{} // what is inside has its own
	root := element.NewObject(element.Field{Name: "resourceType", Value: element.NewString(string(rt))},
		element.Field{Name: "id", Value: element.NewString(p.token())})
	root.Fields = append(root.Fields, p.fields(d, 0)...)
	if m, ok := d.Element("meta"); ok {
		root.Set("meta", p.value(m, 1))
	}
	if holds {
		root.Set("contained", listOf(contained...))
		root.Set("extension", listOf(append(links, root.Get("extension").List()...)...))
	}
	return root, p
}

func (p *Planted) token() string {
	s := fmt.Sprintf("Canary%05dx%d", len(p.Tokens), p.variant)
	p.Tokens = append(p.Tokens, s)
	return s
}

// fields are all elements of a type, one of each choice.
func (p *Planted) fields(d codec.Definition, depth int) []element.Field {
	p.trail[d.Name()]++
	defer func() { p.trail[d.Name()]-- }()
	choices := map[string][]codec.Element{}
	var names []string
	for _, e := range d.Elements() {
		if choices[e.Name] == nil {
			names = append(names, e.Name)
		}
		choices[e.Name] = append(choices[e.Name], e)
	}
	var out []element.Field
	for _, name := range names {
		list := choices[name]
		e := list[p.variant%len(list)]
		switch {
		case e.Forbidden, name == "modifierExtension", name == "implicitRules", name == "contained", d.Resource() && (name == "id" || name == "meta"):
			continue
		case name == "extension":
			if depth < deepest-1 {
				out = append(out, element.Field{Name: name, Value: listOf(p.extensions()...)})
			}
			continue
		case !e.Primitive && !e.Required && (depth >= deepest || p.trail[e.Type] > 1):
			continue
		}
		v := p.value(e, depth+1)
		if x := v.List()[0]; x.Kind == element.Object && len(x.Fields) == 1 && x.Get("id") != nil { // an element has more than an id (ele-1)
			x.Set("extension", listOf(p.extensions()...))
		}
		out = append(out, element.Field{Name: e.JSON, Value: v})
		if e.Primitive && !e.Attribute {
			v := element.NewObject(element.Field{Name: "id", Value: element.NewString(p.token())}, element.Field{Name: "extension", Value: listOf(p.extensions()...)})
			if e.List {
				v = listOf(v)
			}
			out = append(out, element.Field{Name: "_" + e.JSON, Value: v})
		}
	}
	return out
}

// extensions is one that nobody knows, or one that is on the list but says too much.
func (p *Planted) extensions() []*element.Node {
	str := func(name, v string) element.Field { return element.Field{Name: name, Value: element.NewString(v)} }
	switch len(p.Tokens) % 3 {
	case 0:
		return []*element.Node{element.NewObject(str("url", "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"), element.Field{Name: "extension", Value: listOf(
			element.NewObject(str("url", "text"), str("valueString", p.token())),
			element.NewObject(str("url", "ombCategory"), element.Field{Name: "valueCoding", Value: element.NewObject(str("system", "urn:oid:2.16.840.1.113883.6.238"), str("code", p.token()), str("display", p.token()))}),
		)})}
	case 1:
		return []*element.Node{element.NewObject(str("url", absence), str("valueCode", p.token()))}
	}
	x := element.NewObject(str("id", p.token()), str("url", "http://canary.example/"+p.token()))
	// Of an unknown one, any type of value.
	d, _ := codec.DefinitionOf("Extension")
	var choice []codec.Element
	for _, e := range d.Elements() {
		if e.Name == "value" {
			choice = append(choice, e)
		}
	}
	e := choice[(len(p.Tokens)/3+p.variant)%len(choice)]
	if e.Type == "string" || p.trail["Extension"] > 0 || len(p.Tokens)%4 > 0 {
		x.Set("valueString", element.NewString(p.token()))
		return []*element.Node{x}
	}
	p.trail["Extension"]++
	v := p.value(e, deepest)
	if v.Kind == element.Object && (len(v.Fields) == 0 || len(v.Fields) == 1 && v.Get("id") != nil) {
		v.Set("extension", listOf(p.extensions()...))
	}
	x.Set(e.JSON, v)
	p.trail["Extension"]--
	return []*element.Node{x}
}

// beside gives some instances of a type, the first of them at any rate, an extension, and an object beside each primitive.
func (p *Planted) beside(name string, v *element.Node) *element.Node {
	if p.full[name] && len(p.Tokens)%31 > 0 || p.trail["Extension"] > 0 {
		return v
	}
	p.full[name] = true
	d, _ := codec.DefinitionOf(name)
	for _, f := range v.Fields {
		if e, ok := d.Element(f.Name); ok && e.Primitive && !e.Attribute && f.Name != "id" {
			v.Set("_"+f.Name, element.NewObject(element.Field{Name: "id", Value: element.NewString(p.token())}, element.Field{Name: "extension", Value: listOf(p.extensions()...)}))
		}
	}
	v.Set("extension", listOf(p.extensions()...))
	return v
}

func (p *Planted) value(e codec.Element, depth int) *element.Node {
	var v *element.Node
	switch {
	case e.Primitive:
		v = p.primitive(e)
	case e.Type == "Resource":
		v = element.NewObject(element.Field{Name: "resourceType", Value: element.NewString("Basic")}, element.Field{Name: "id", Value: element.NewString(p.token())},
			element.Field{Name: "code", Value: element.NewObject(element.Field{Name: "text", Value: element.NewString(p.token())})})
	case e.Type == "Reference":
		v = p.reference(e, depth)
	case e.Type == "Coding":
		v = p.coding(e, depth)
	case e.Type == "CodeableConcept":
		v = p.beside("CodeableConcept", element.NewObject(element.Field{Name: "id", Value: element.NewString(p.token())},
			element.Field{Name: "coding", Value: p.codings(e, depth)}, element.Field{Name: "text", Value: element.NewString(p.token())}))
	default:
		d, _ := codec.DefinitionOf(e.Type)
		v = element.NewObject(p.fields(d, depth)...)
		if _, quantity := d.Element("comparator"); quantity && p.variant%2 == 1 {
			v.Set("system", element.NewString("http://unitsofmeasure.org"))
			if p.variant%4 == 3 {
				v.Set("code", element.NewString("mg"))
			}
		}
	}
	if e.List {
		return listOf(v)
	}
	return v
}

func (p *Planted) codings(e codec.Element, depth int) *element.Node {
	coding := codec.Element{Type: "Coding"}
	out := []*element.Node{p.coding(e, depth), p.coding(coding, depth)}
	for _, system := range []string{"http://loinc.org", "http://snomed.info/sct", "http://terminology.hl7.org/CodeSystem/v3-RoleCode"} {
		out = append(out, element.NewObject(element.Field{Name: "system", Value: element.NewString(system)}, element.Field{Name: "code", Value: element.NewString(p.token())}))
	}
	return listOf(out...)
}

func (p *Planted) coding(e codec.Element, _ int) *element.Node {
	str := func(name, v string) element.Field { return element.Field{Name: name, Value: element.NewString(v)} }
	system, code := "http://loinc.org", "44261-6"
	if codes := e.Codes(); len(codes) > 0 {
		c := codes[p.variant%len(codes)]
		system, code = c.System, c.Code
	} else if e.Type == "Coding" && p.variant%2 == 0 {
		system, code = "http://canary.example/"+p.token(), p.token()
	}
	return p.beside("Coding", element.NewObject(str("id", p.token()), str("system", system), str("version", p.token()), str("code", code), str("display", p.token()),
		element.Field{Name: "userSelected", Value: element.NewNode(element.Bool, "true")}))
}

func (p *Planted) reference(e codec.Element, depth int) *element.Node {
	targets := e.Targets()
	to := ""
	switch n := len(targets); {
	case p.variant%3 == 2:
		ids := p.insideIDs()
		for i, it := range insideTypes {
			if i < len(ids) && (n == 0 || slices.Contains(targets, it)) {
				to = ids[i]
			}
		}
	case p.variant%3 == 1 && n > 0:
		to = string(targets[p.variant%n]) + "/" + p.token()
	case p.variant%3 == 1:
		to = "Patient/" + p.token() + "/_history/1"
	}
	if to == "" {
		to = "http://canary.example/" + p.token()
	}
	v := element.NewObject(element.Field{Name: "id", Value: element.NewString(p.token())}, element.Field{Name: "reference", Value: element.NewString(to)},
		element.Field{Name: "type", Value: element.NewString("http://canary.example/" + p.token())}, element.Field{Name: "display", Value: element.NewString(p.token())})
	if depth < deepest {
		v.Set("identifier", element.NewObject(element.Field{Name: "system", Value: element.NewString("http://canary.example/" + p.token())},
			element.Field{Name: "value", Value: element.NewString(p.token())}))
	}
	return p.beside("Reference", v)
}

// insideIDs are the contained resources in the order of insideTypes.
func (p *Planted) insideIDs() []string {
	var out []string
	for id := range p.inside {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

func (p *Planted) date(s string) *element.Node {
	p.dates = append(p.dates, s)
	return element.NewString(s)
}

func (p *Planted) primitive(e codec.Element) *element.Node {
	n := len(p.Tokens)
	switch e.Type {
	case "boolean":
		return element.NewNode(element.Bool, "true")
	case "integer", "positiveInt", "unsignedInt":
		return element.NewNumber(7)
	case "decimal":
		return element.NewNode(element.Number, "7.50")
	case "date":
		return p.date("2011-07-23")
	case "dateTime":
		return p.date(fmt.Sprintf("2011-07-23T11:22:33.%03d-05:00", n%1000))
	case "instant":
		return p.date(fmt.Sprintf("2011-07-23T11:44:33.%03dZ", n%1000))
	case "time":
		return p.date(fmt.Sprintf("11:55:33.%03d", n%1000))
	case "code":
		if codes := e.Codes(); len(codes) > 0 {
			return element.NewString(codes[p.variant%len(codes)].Code)
		} else if e.Bound() {
			return element.NewString("USD")
		}
		return element.NewString(p.token())
	case "uri", "url", "canonical":
		return element.NewString("http://canary.example/" + p.token())
	case "oid":
		p.Tokens = append(p.Tokens, fmt.Sprintf("urn:oid:1.2.77.%d", n))
		return element.NewString(p.Tokens[n])
	case "uuid":
		p.Tokens = append(p.Tokens, fmt.Sprintf("urn:uuid:0c0ffee0-0000-4000-8000-%012d", n))
		return element.NewString(p.Tokens[n])
	case "base64Binary":
		p.Tokens = append(p.Tokens, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "Canary%05dx%d", n, p.variant)))
		return element.NewString(p.Tokens[len(p.Tokens)-1])
	case "xhtml":
		return element.NewString(`<div xmlns="http://www.w3.org/1999/xhtml">` + p.token() + `</div>`)
	case "string":
		if e.JSON == "linkId" && p.variant%2 == 1 {
			return element.NewString("/44249-1/44250-9")
		}
	}
	return element.NewString(p.token())
}

// Variants is how many instances of each type are built: every choice of types occurs.
func Variants(rt fhir.ResourceType) int {
	return max(4, choices(string(rt), string(rt), map[string]bool{}))
}

// choices is the most types of which one of an element is chosen, in a type and the parts of it.
func choices(name, rt string, met map[string]bool) (most int) {
	if met[name] {
		return 0
	}
	met[name] = true
	d, _ := codec.DefinitionOf(name)
	count := map[string]int{}
	for _, e := range d.Elements() {
		count[e.Name]++
		most = max(most, count[e.Name])
		if strings.HasPrefix(e.Type, rt+".") {
			most = max(most, choices(e.Type, rt, met))
		}
		if e.Type == "Timing" { // which has a choice of three itself
			most = max(most, 12)
		}
	}
	return most
}

var shapeToken = regexp.MustCompile(`Canary\d+x\d+|urn:oid:1\.2\.77\.\d+|urn:uuid:0c0ffee0[-0-9]+|Q2FuYXJ5[A-Za-z0-9+/=]+`)

// Survivors are the tokens that are in a text.
func Survivors(p *Planted, text string, dates bool) (out []string) {
	found := map[string]bool{}
	for _, s := range shapeToken.FindAllString(text, -1) {
		found[s] = true
	}
	for _, s := range p.Tokens {
		if found[s] {
			out = append(out, s)
		}
	}
	if dates {
		for _, s := range []string{"07-23", "T11:", "11:22", "11:44", "11:55", ":33"} {
			if strings.Contains(text, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
