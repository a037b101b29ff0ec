package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// decoded is the meaning of JSON as the standard library sees it, with number
// literals kept.
func decoded(t interface{ Fatal(...any) }, body []byte) any {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// roundTrip fails where writing what was read changes anything.
func roundTrip(t interface{ Fatal(...any) }, r *Resource, body []byte) {
	out := r.Root.AppendJSON(nil)
	if !reflect.DeepEqual(decoded(t, body), decoded(t, out)) {
		t.Fatal("the meaning changed:\n", string(body), "\n", string(out))
	}
	again, err := Parse(out)
	if err != nil {
		t.Fatal("what was written is refused: ", err)
	}
	if !reflect.DeepEqual(again.Root, r.Root) {
		t.Fatal("the tree changed: ", string(out))
	}
}

func TestRoundTrip(t *testing.T) {
	for _, body := range []string{
		observation,
		`{"resourceType":"Observation","status":"final","code":{"text":"\"\\\/\b\f\n\r\t\u00e9\u2028\ud83d\ude00<>&"},"valueQuantity":{"value":-1.00E+2}}`,
		`{"resourceType":"Patient","birthDate":"1970-05","_birthDate":{"extension":[{"url":"u","valueDecimal":0.1000000000000000000000000001}]},"name":[{"given":["A",null],"_given":[null,{"id":"x","extension":[{"url":"u","valueString":"s"}]}]}]}`,
	} {
		body = strings.ReplaceAll(body, `\b\f`, "") // R4 strings have no such characters
		r := mustParse(t, body)
		roundTrip(t, r, []byte(body))
	}
}

// generated draws a resource that is valid by the table: every field, type and
// code of it can occur.
type generator struct {
	t     *rapid.T
	depth int
}

var generatedTypes = []string{"Patient", "Observation", "Questionnaire", "QuestionnaireResponse", "MedicationRequest", "Consent", "CarePlan",
	"Appointment", "DocumentReference", "Encounter", "Condition", "ValueSet", "StructureDefinition", "Parameters"}

func (g *generator) resource(name string) *element.Node {
	n := g.object(types()[name])
	if n == nil {
		n = &element.Node{Kind: element.Object}
	}
	n.Fields = append([]element.Field{{Name: "resourceType", Value: element.NewString(name)}}, n.Fields...)
	return n
}

func (g *generator) object(d *typeDef) *element.Node {
	g.depth++
	defer func() { g.depth-- }()
	n := &element.Node{Kind: element.Object}
	taken := map[int]bool{}
	names := sortedFields(d)
	picked := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, min(4, len(names)), rapid.ID[string]).Draw(g.t, "fields")
	for i, s := range d.slots { // what is required, first
		if s.required {
			for _, name := range names {
				if d.fields[name].slot == i && !taken[i] {
					g.add(n, d.fields[name])
					taken[i] = true
				}
			}
		}
	}
	for _, name := range picked {
		e := d.fields[name]
		if e.slot >= 0 && taken[e.slot] || g.depth > 4 || n.Get(name) != nil {
			continue
		}
		if e.slot >= 0 {
			taken[e.slot] = true
		}
		g.add(n, e)
	}
	if d.meaning == isExtension && n.Get("extension") == nil && !taken[d.fields["valueCode"].slot] {
		g.add(n, d.fields["valueCode"])
	}
	if d.meaning == isExtension && n.Get("extension") != nil {
		for name := range d.fields {
			if strings.HasPrefix(name, "value") {
				n.Delete(name)
				n.Delete("_" + name)
			}
		}
	}
	if len(n.Fields) == 0 || len(n.Fields) == 1 && n.Fields[0].Name == "id" {
		if d.resource {
			return n
		}
		if e := d.fields["extension"]; e != nil {
			g.add(n, e)
		}
	}
	return n
}

func sortedFields(d *typeDef) []string {
	var names []string
	for name, e := range d.fields {
		if e.any || e.forbidden || name == "contained" || e.typ != nil && e.typ.meaning == isMeta {
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		names = []string{"id"}
	}
	// The order of a map would make a failure irreproducible.
	for i := range names {
		for j := i; j > 0 && names[j] < names[j-1]; j-- {
			names[j], names[j-1] = names[j-1], names[j]
		}
	}
	return names
}

func (g *generator) add(n *element.Node, e *fieldDef) {
	count := 1
	if e.list {
		count = rapid.IntRange(1, 2).Draw(g.t, "count")
	}
	values, exts := make([]*element.Node, count), make([]*element.Node, count)
	extended := false
	for i := range values {
		switch e.prim {
		case noPrimitive:
			values[i] = g.complex(e)
		default:
			values[i] = g.primitive(e)
			exts[i] = &element.Node{}
			if !e.attribute && g.depth < 3 && rapid.IntRange(0, 5).Draw(g.t, "extended") == 0 {
				extended = true
				exts[i] = element.NewObject(element.Field{Name: "extension", Value: &element.Node{Kind: element.Array, Items: []*element.Node{g.object(types()["Extension"])}}})
				if e.list && rapid.Bool().Draw(g.t, "only") {
					values[i] = &element.Node{}
				}
			}
		}
	}
	if e.list {
		n.Set(e.json, &element.Node{Kind: element.Array, Items: values})
		if extended {
			n.Set("_"+e.json, &element.Node{Kind: element.Array, Items: exts})
		}
		return
	}
	n.Set(e.json, values[0])
	if extended {
		n.Set("_"+e.json, exts[0])
	}
}

func (g *generator) complex(e *fieldDef) *element.Node {
	if e.typ.meaning == isReference {
		for _, name := range fhir.ResourceTypes() {
			if e.targets == nil || e.targets[name] {
				return element.NewObject(element.Field{Name: "reference", Value: element.NewString(string(name) + "/1")})
			}
		}
	}
	if e.codes != nil && e.typ.meaning != plain {
		system := smallest(e.codes.systems)
		coding := element.NewObject(element.Field{Name: "system", Value: element.NewString(system)},
			element.Field{Name: "code", Value: element.NewString(smallest(e.codes.systems[system]))})
		if e.typ.meaning == isCoding {
			return coding
		}
		return element.NewObject(element.Field{Name: "coding", Value: &element.Node{Kind: element.Array, Items: []*element.Node{coding}}})
	}
	return g.object(e.typ)
}

func smallest[V any](m map[string]V) string {
	best := ""
	for k := range m {
		if best == "" || k < best {
			best = k
		}
	}
	return best
}

func (g *generator) primitive(e *fieldDef) *element.Node {
	from := func(pattern string) *element.Node {
		return element.NewString(rapid.StringMatching(pattern).Draw(g.t, "text"))
	}
	num := func(pattern string) *element.Node {
		return &element.Node{Kind: element.Number, Text: rapid.StringMatching(pattern).Draw(g.t, "number")}
	}
	zone := `(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])`
	switch e.prim {
	case boolean:
		return &element.Node{Kind: element.Bool, Text: fmt.Sprint(rapid.Bool().Draw(g.t, "bool"))}
	case decimal:
		return num(`-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?`)
	case integer:
		return num(`0|-?[1-9][0-9]{0,8}`)
	case unsignedInt, positiveInt:
		return num(`[1-9][0-9]{0,8}`)
	case code:
		if e.codes != nil && e.codes.pattern == nil {
			return element.NewString(smallest(e.codes.codes))
		}
		if e.codes != nil {
			return from(`[A-Z]{3}`)
		}
		return from(`[a-z<&"\\]{1,5}( [a-zé]{1,3})?`)
	case id:
		return from(`[A-Za-z0-9.\-]{1,20}`)
	case date:
		return from(`[12][0-9]{3}(-(0[1-9]|1[0-2])(-(0[1-9]|1[0-9]|2[0-8]))?)?`)
	case dateTime:
		return from(`[12][0-9]{3}(-(0[1-9]|1[0-2])(-(0[1-9]|2[0-8])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?` + zone + `)?)?)?`)
	case instant:
		return from(`[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?` + zone)
	case timeOfDay:
		return from(`([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?`)
	case oid:
		return from(`urn:oid:[0-2](\.(0|[1-9][0-9]{0,3})){1,5}`)
	case uuid:
		return from(`urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	case uri, url, canonical:
		return from(`(http|urn):[a-z/:|ß]{1,12}`)
	case xhtml:
		return element.NewString(`<div xmlns="http://www.w3.org/1999/xhtml">x</div>`)
	case base64Binary:
		return from(`([A-Za-z0-9+/]{4}){1,4}`)
	default:
		return from(`[ a-zA-Zäß"\\/<>&{}\x{1F600}\t\n\x{2028}]{0,12}[a-z]`)
	}
}

// Every resource that the table allows is accepted, and comes back as it was.
func TestGeneratedResources(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generator{t: t}
		name := rapid.SampledFrom(generatedTypes).Draw(t, "type")
		n := g.resource(name)
		body := n.AppendJSON(nil)
		r, err := Parse(body)
		if err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		roundTrip(t, r, body)
		r.References()
		r.StripSecurity()
		for range r.Codings() {
			continue
		}
	})
}

// What an attacker sends may be refused, but it never panics, and what is
// accepted means the same to the standard library and comes back the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{observation, `{"resourceType":"Patient","name":[{"given":["A",null],"_given":[null,{"id":"x"}]}]}`,
		`{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Parameters","parameter":[{"name":"x","valueDecimal":1e3}]}}]}`,
		`{"resourceType":"Patient","id":"\ud83d\ude00\u0000"`, "\ufeff{}", `[[[[`, `{"a":1,"A":2,"a":3}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseLimited(body, Limits{Bytes: 1 << 16})
		if err != nil {
			if len(listed(err)) == 0 || len(listed(err)) > MaxIssues+1 {
				t.Fatal(err)
			}
			return
		}
		roundTrip(t, r, body)
		r.Localise("http://example.org/fhir")
		r.References()
		r.URLs()
		r.Entries()
		r.StripSecurity()
	})
}

func BenchmarkParseObservation(b *testing.B) {
	body := []byte(observation)
	var padded strings.Builder
	for padded.Len() < 800 {
		padded.WriteString(`,{"system":"http://snomed.info/sct","code":"` + fmt.Sprint(100000+padded.Len()) + `","display":"A finding"}`)
	}
	body = bytes.Replace(body, []byte(`"code":"44261-6"}`), []byte(`"code":"44261-6"}`+padded.String()), 1)
	if _, err := Parse(body); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCodings(b *testing.B) {
	r := mustParse(b, observation)
	b.ReportAllocs()
	for b.Loop() {
		for range r.Codings() {
			continue
		}
	}
}

func BenchmarkLoadTable(b *testing.B) {
	for b.Loop() {
		if _, err := loadTable(tableText); err != nil {
			b.Fatal(err)
		}
	}
}
