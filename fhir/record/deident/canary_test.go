package deident

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
)

// planter builds an instance of a resource type with a token of its own in every place
// that can hold one, from the definitions of R4.
type planter struct {
	variant int             // which of several choices, codes and shapes is taken
	tokens  []string        // planted, each once
	dates   []string        // planted: tokens that some profiles let through
	trail   map[string]int  // how often a type is being built
	inside  map[string]bool // "#id" of contained resources
}

const deepest = 5

// insideTypes are built as contained resources, too.
var insideTypes = []fhir.ResourceType{"Condition", "Medication", "Organization", "Patient", "Practitioner"}

func plant(t testing.TB, rt fhir.ResourceType, variant int) (*element.Node, *planter) {
	t.Helper()
	p := &planter{variant: variant, trail: map[string]int{}, inside: map[string]bool{}}
	var contained []*element.Node
	var links []*element.Node
	d, ok := codec.DefinitionOf(string(rt))
	if !ok {
		t.Fatal(rt)
	}
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

func (p *planter) token() string {
	s := fmt.Sprintf("Canary%05dx%d", len(p.tokens), p.variant)
	p.tokens = append(p.tokens, s)
	return s
}

// fields are all elements of a type, one of each choice.
func (p *planter) fields(d codec.Definition, depth int) []element.Field {
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
func (p *planter) extensions() []*element.Node {
	str := func(name, v string) element.Field { return element.Field{Name: name, Value: element.NewString(v)} }
	switch len(p.tokens) % 3 {
	case 0:
		return []*element.Node{element.NewObject(str("url", "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"), element.Field{Name: "extension", Value: listOf(
			element.NewObject(str("url", "text"), str("valueString", p.token())),
			element.NewObject(str("url", "ombCategory"), element.Field{Name: "valueCoding", Value: element.NewObject(str("system", "urn:oid:2.16.840.1.113883.6.238"), str("code", p.token()), str("display", p.token()))}),
		)})}
	case 1:
		return []*element.Node{element.NewObject(str("url", absence), str("valueCode", p.token()))}
	}
	return []*element.Node{element.NewObject(str("id", p.token()), str("url", "http://canary.example/"+p.token()), str("valueString", p.token()))}
}

func (p *planter) value(e codec.Element, depth int) *element.Node {
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
		v = element.NewObject(element.Field{Name: "id", Value: element.NewString(p.token())},
			element.Field{Name: "coding", Value: p.codings(e, depth)}, element.Field{Name: "text", Value: element.NewString(p.token())})
	default:
		d, _ := codec.DefinitionOf(e.Type)
		v = element.NewObject(p.fields(d, depth)...)
		if _, quantity := d.Element("comparator"); quantity && p.variant%2 == 1 {
			v.Set("system", element.NewString(ucum))
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

func (p *planter) codings(e codec.Element, depth int) *element.Node {
	coding := codec.Element{Type: "Coding"}
	out := []*element.Node{p.coding(e, depth), p.coding(coding, depth)}
	for _, system := range []string{"http://loinc.org", "http://snomed.info/sct", "http://terminology.hl7.org/CodeSystem/v3-RoleCode"} {
		out = append(out, element.NewObject(element.Field{Name: "system", Value: element.NewString(system)}, element.Field{Name: "code", Value: element.NewString(p.token())}))
	}
	return listOf(out...)
}

func (p *planter) coding(e codec.Element, _ int) *element.Node {
	str := func(name, v string) element.Field { return element.Field{Name: name, Value: element.NewString(v)} }
	system, code := "http://loinc.org", "44261-6"
	if codes := e.Codes(); len(codes) > 0 {
		c := codes[p.variant%len(codes)]
		system, code = c.System, c.Code
	} else if e.Type == "Coding" && p.variant%2 == 0 {
		system, code = "http://canary.example/"+p.token(), p.token()
	}
	return element.NewObject(str("id", p.token()), str("system", system), str("version", p.token()), str("code", code), str("display", p.token()),
		element.Field{Name: "userSelected", Value: element.NewNode(element.Bool, "true")})
}

func (p *planter) reference(e codec.Element, depth int) *element.Node {
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
	return v
}

// insideIDs are the contained resources in the order of insideTypes.
func (p *planter) insideIDs() []string {
	var out []string
	for id := range p.inside {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

func (p *planter) date(s string) *element.Node {
	p.dates = append(p.dates, s)
	return element.NewString(s)
}

func (p *planter) primitive(e codec.Element) *element.Node {
	n := len(p.tokens)
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
		p.tokens = append(p.tokens, fmt.Sprintf("urn:oid:1.2.77.%d", n))
		return element.NewString(p.tokens[n])
	case "uuid":
		p.tokens = append(p.tokens, fmt.Sprintf("urn:uuid:0c0ffee0-0000-4000-8000-%012d", n))
		return element.NewString(p.tokens[n])
	case "base64Binary":
		p.tokens = append(p.tokens, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "Canary%05dx%d", n, p.variant)))
		return element.NewString(p.tokens[len(p.tokens)-1])
	case "xhtml":
		return element.NewString(`<div xmlns="http://www.w3.org/1999/xhtml">` + p.token() + `</div>`)
	case "string":
		if e.JSON == "linkId" && p.variant%2 == 1 {
			return element.NewString("/44249-1/44250-9")
		}
	}
	return element.NewString(p.token())
}

// variants is how many instances of each type are built: every choice of types occurs.
func variants(t testing.TB, rt fhir.ResourceType) int {
	t.Helper()
	most := 4
	d, _ := codec.DefinitionOf(string(rt))
	count := map[string]int{}
	for _, e := range d.Elements() {
		count[e.Name]++
		most = max(most, count[e.Name])
	}
	return most
}

var shapeToken = regexp.MustCompile(`Canary\d+x\d+|urn:oid:1\.2\.77\.\d+|urn:uuid:0c0ffee0[-0-9]+|Q2FuYXJ5[A-Za-z0-9+/=]+`)

// survivors are the tokens that are in a text.
func survivors(p *planter, text string, dates bool) (out []string) {
	found := map[string]bool{}
	for _, s := range shapeToken.FindAllString(text, -1) {
		found[s] = true
	}
	for _, s := range p.tokens {
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

// TestD1_164_514_b_2_CanariesOfTheSafeHarbor plants a token in every place of every resource type;
// none is in what is released.
func TestD1_164_514_b_2_CanariesOfTheSafeHarbor(t *testing.T) {
	sweep(t, "safe-harbor", true)
}

// A limited data set has dates, and no other token.
func TestD4_164_514_e_CanariesOfTheLimitedDataSet(t *testing.T) {
	sweep(t, "limited-data-set", false)
}

func TestD5_164_514_b_1_CanariesOfAnExpertDetermination(t *testing.T) {
	sweep(t, "expert-determination", true)
}

func sweep(t *testing.T, name string, dates bool) {
	t.Helper()
	listed := Types()
	released, planted := 0, 0
	for _, rt := range fhir.ResourceTypes() {
		on := slices.Contains(listed, rt)
		many := 1
		if on {
			if many = variants(t, rt); name != "safe-harbor" { // the list is the same
				many = 3
			}
		}
		for v := range many {
			root, p := plant(t, rt, v)
			body := string(root.AppendJSON(nil))
			all := len(p.tokens) // units that are set afterwards take the place of some
			if p.tokens = survivors(p, body, false); len(p.tokens) < all-all/20 || all < 10 {
				t.Fatalf("%s: %d of %d tokens are planted", rt, len(p.tokens), all)
			}
			planted += len(p.tokens)
			if _, err := codec.Parse([]byte(body)); err != nil && on {
				t.Fatalf("what is planted is not valid, and tests nothing: %v", err)
			}
			x := newTrial(t, name, func(c *Config) {
				if c.Expert != nil {
					c.Expert.Shifts = week{}
				}
			})
			out := x.run(stored{patient: "someone", body: body})[0]
			if !on {
				if out != nil {
					t.Errorf("%s is released, and not listed", rt)
				}
				continue
			}
			if said := fmt.Sprintf("%+v %+v", x.report, x.report.Determined); strings.Contains(strings.ToLower(said), "canary") {
				t.Errorf("%s, variant %d: the report has a token: %s", rt, v, said)
			}
			shared := allowed().harbor[string(rt)].shared
			if name == "expert-determination" {
				// One patient is no group: she is left out. What the walk would release is looked at all the same.
				if out != nil {
					t.Errorf("one patient alone is released: %s", shown(out))
				}
				if shared {
					continue
				}
				out = alone(t, x, stored{patient: "someone", body: body})
			}
			if out == nil {
				t.Fatalf("%s, variant %d, is left out: %v", rt, v, x.report.LeftOut)
			}
			released++
			text := shown(out)
			for _, s := range survivors(p, text, dates) {
				t.Errorf("%s, variant %d: %s is released: %s", rt, v, s, text)
			}
			if strings.Contains(strings.ToLower(text), "canary") {
				t.Errorf("%s, variant %d: part of a token is released: %s", rt, v, text)
			}
			listedOnly(t, name, out)
		}
	}
	for _, rt := range listed { // and what takes a resource out does not say why in its own words
		root, p := plant(t, rt, 1)
		root.Set("modifierExtension", listOf(element.NewObject(element.Field{Name: "url", Value: element.NewString("http://canary.example/" + p.token())},
			element.Field{Name: "valueString", Value: element.NewString(p.token())})))
		x := newTrial(t, name)
		out := x.run(stored{patient: "someone", body: string(root.AppendJSON(nil))})[0]
		why := x.report.LeftOut[rt]
		if out != nil || len(why) != 1 || why[Modified]+why[Type] != 1 || strings.Contains(strings.ToLower(fmt.Sprintf("%+v", x.report)), "canary") {
			t.Errorf("%s with a modifier extension: %s, %+v", rt, shown(out), x.report)
		}
	}
	if released < 90 || planted < 50_000 {
		t.Errorf("%d released, %d planted: this sweep is not what it says", released, planted)
	}
}

// alone is what becomes of a resource but for the groups.
func alone(t *testing.T, x *trial, s stored) *element.Node {
	t.Helper()
	x.release.settled = false
	m, err := x.release.make(context.Background(), s.seal(t, x.grants), "alone")
	if err != nil || m.left != "" {
		t.Fatal(m.left, err)
	}
	return m.root
}

// week moves every date by seven days.
type week struct{}

func (week) Shift(context.Context, fhir.ID, int) (int, error) { return 7, nil }
