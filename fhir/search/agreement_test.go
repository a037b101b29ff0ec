package search

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

// official is what the agreement needs of an official SearchParameter.
type official struct {
	ID, URL, Code, Type, Expression string
	Base                            []string
	Component                       []struct{ Definition, Expression string }
}

// disagreement says how the walker of p and the expression of its definition
// differ on a resource; "" if they select the same elements.
func disagreement(t *testing.T, p *Param, def official, root *element.Node) string {
	t.Helper()
	v, ok := fhirpath.Resource(root)
	if !ok {
		return "no resource"
	}
	if p.Type == Composite {
		return compositeDisagreement(t, p, def, v)
	}
	if p.paths[0].leaf == leafTruth {
		x := extraction{root: root}
		x.truth(p)
		want := eval(t, v, v, def.Expression)
		if len(want) != 1 || !slices.Contains(x.tokens, hash(kindCode, p.Code, want[0].Text())) {
			return fmt.Sprintf("the expression says %d values, the walker another", len(want))
		}
		return ""
	}
	return compare(selected(root, root, p.paths), indexedNodes(p.Type, eval(t, v, v, def.Expression)))
}

func compositeDisagreement(t *testing.T, p *Param, def official, v fhirpath.Value) string {
	t.Helper()
	elements := eval(t, v, v, def.Expression)
	var nodes []*element.Node
	for _, e := range elements {
		nodes = append(nodes, e.Node())
	}
	if d := compare(selected(v.Node(), v.Node(), p.paths), nodes); d != "" {
		return "elements: " + d
	}
	for _, e := range elements {
		for i, c := range p.components {
			want := indexedNodes(c.Type, eval(t, v, e, def.Component[i].Expression))
			if d := compare(selected(v.Node(), e.Node(), c.paths), want); d != "" {
				return c.Code + ": " + d
			}
		}
	}
	return ""
}

func eval(t *testing.T, resource, focus fhirpath.Value, expression string) []fhirpath.Value {
	t.Helper()
	// R4 spells the type so in one place.
	e, err := fhirpath.Compile(strings.ReplaceAll(expression, "as(DateTime)", "as(dateTime)"))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	out, err := e.Eval(context.Background(), focus, fhirpath.Options{Resource: resource.Node()})
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// indexedNodes are the nodes of those values that a parameter of that type can index.
func indexedNodes(typ ParamType, values []fhirpath.Value) []*element.Node {
	var out []*element.Node
	for _, v := range values {
		l := leaves[v.Type()]
		if typ == Reference && fhir.ResourceType(v.Type()).Valid() {
			l = leafReference // a resource that is its own target
		}
		if v.Node() != nil && slices.Contains(accepts[typ], l) {
			out = append(out, v.Node())
		}
	}
	return out
}

func selected(root, from *element.Node, paths []path) []*element.Node {
	var out []*element.Node
	for i := range paths {
		each(root, from, paths[i].steps, func(n *element.Node) { out = append(out, n) })
	}
	return out
}

// compare takes equal elements for the same one, because "|" in FHIRPath leaves one of them.
func compare(walker, expression []*element.Node) string {
	lacks := func(list []*element.Node, n *element.Node) bool {
		return !slices.Contains(list, n) && !slices.ContainsFunc(list, func(x *element.Node) bool {
			return bytes.Equal(x.AppendJSON(nil), n.AppendJSON(nil))
		})
	}
	for _, n := range walker {
		if lacks(expression, n) {
			return "the walker selects more"
		}
	}
	for _, n := range expression {
		if lacks(walker, n) {
			return "the expression selects more"
		}
	}
	return ""
}

// TestWalkersAgreeWithFHIRPath is over resources of our own, with the
// expressions of R4 that have the most unlike shapes.
func TestWalkersAgreeWithFHIRPath(t *testing.T) {
	component := func(definition, expression string) struct{ Definition, Expression string } {
		return struct{ Definition, Expression string }{definition, expression}
	}
	defs := []official{
		{Code: "code", Base: []string{"Observation"}, Expression: "AllergyIntolerance.code | AllergyIntolerance.reaction.substance | Observation.code"},
		{Code: "combo-code", Base: []string{"Observation"}, Expression: "Observation.code | Observation.component.code"},
		{Code: "patient", Base: []string{"Observation"}, Expression: "Observation.subject.where(resolve() is Patient)"},
		{Code: "date", Base: []string{"Observation"}, Expression: "Observation.effective"},
		{Code: "value-string", Base: []string{"Observation"}, Expression: "(Observation.value as string) | (Observation.value as CodeableConcept).text"},
		{Code: "value-quantity", Base: []string{"Observation"}, Expression: "(Observation.value as Quantity) | (Observation.value as SampledData)"},
		{Code: "value-concept", Base: []string{"Observation"}, Expression: "(Observation.value as CodeableConcept)"},
		{
			Code: "combo-code-value-quantity", Base: []string{"Observation"}, Expression: "Observation | Observation.component",
			Component: []struct{ Definition, Expression string }{component("", "code"), component("", "value.as(Quantity)")},
		},
		{Code: "deceased", Base: []string{"Patient"}, Expression: "Patient.deceased.exists() and Patient.deceased != false"},
		{Code: "email", Base: []string{"Patient"}, Expression: "Patient.telecom.where(system='email') | Person.telecom.where(system='email')"},
		{Code: "death-date", Base: []string{"Patient"}, Expression: "(Patient.deceased as dateTime)"},
		{Code: "message", Base: []string{"Bundle"}, Expression: "Bundle.entry[0].resource"},
		{Code: "_tag", Base: []string{"Patient"}, Expression: "Resource.meta.tag"},
		{
			Code: "item-subject", Base: []string{"QuestionnaireResponse"},
			Expression: "QuestionnaireResponse.item.where(extension('http://hl7.org/fhir/StructureDefinition/questionnaireresponse-isSubject').exists()).answer.value.ofType(Reference)",
		},
		{
			Code: "relationship", Base: []string{"DocumentReference"}, Expression: "DocumentReference.relatesTo",
			Component: []struct{ Definition, Expression string }{component("", "code"), component("", "target")},
		},
	}
	for _, text := range []string{
		observation,
		`{"resourceType":"Observation","subject":{"reference":"Group/1"},"code":{"coding":[{"code":"a"}]},"valueQuantity":{"value":1},
		  "component":[{"code":{"text":"b"},"valueQuantity":{"value":2}},{"code":{"text":"c"},"valueString":"d"}],"effectivePeriod":{"start":"2020"}}`,
		`{"resourceType":"Observation","subject":{"reference":"#p"},"contained":[{"resourceType":"Patient","id":"p"}],"valueSampledData":{"origin":{"value":1}},"effectiveTiming":{"event":["2020"]}}`,
		`{"resourceType":"Patient","meta":{"tag":[{"code":"t"}]},"telecom":[{"system":"email","value":"a"},{"system":"phone","value":"b"},{"value":"c"}],"deceasedDateTime":"2020"}`,
		`{"resourceType":"Patient","deceasedBoolean":false}`, `{"resourceType":"Patient","deceasedBoolean":true}`, `{"resourceType":"Patient"}`,
		`{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"MessageHeader","id":"a"}},{"resource":{"resourceType":"Patient","id":"b"}}]}`,
		`{"resourceType":"QuestionnaireResponse","item":[{"linkId":"1","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/questionnaireresponse-isSubject","valueBoolean":true}],
		  "answer":[{"valueReference":{"reference":"Patient/1"}},{"valueString":"x"}]},{"linkId":"2","answer":[{"valueReference":{"reference":"Patient/2"}}]}]}`,
		`{"resourceType":"DocumentReference","relatesTo":[{"code":"replaces","target":{"reference":"DocumentReference/a"}},{"code":"appends","target":{"reference":"DocumentReference/b"}}]}`,
	} {
		root := read(t, text)
		for _, def := range defs {
			if def.Base[0] != string(typeOf(root)) {
				continue
			}
			p, ok := Lookup(typeOf(root), def.Code)
			if !ok {
				t.Fatalf("%s is not known", def.Code)
			}
			if d := disagreement(t, p, def, root); d != "" {
				t.Errorf("%s: %s\n%s", def.Code, d, text)
			}
		}
	}
}

// TestWalkersAgreeWithOfficialExpressions is over all official parameters and
// examples. What differs stands in the golden list, with the reason.
func TestWalkersAgreeWithOfficialExpressions(t *testing.T) {
	defs := officialParameters(t)
	var got []string
	compared, resources := 0, 0
	for _, set := range []string{shareddata.Examples, shareddata.BehavioralHealth} {
		dir := shareddata.Open(t, set)
		for _, name := range shareddata.Files(t, dir) {
			root := read(t, string(shareddata.Read(t, dir, name)))
			if !typeOf(root).Valid() {
				continue
			}
			resources++
			for _, p := range Params(typeOf(root)) {
				def, ok := defs[p.Definition]
				if !ok || !p.Searchable() || len(p.paths) == 0 {
					continue
				}
				compared++
				if d := disagreement(t, p, def, root); d != "" {
					got = append(got, fmt.Sprintf("%s.%s\t%s", typeOf(root), p.Code, d))
				}
			}
		}
	}
	t.Logf("%d resources, %d comparisons", resources, compared)
	if compared < 5000 {
		t.Error("too little is compared")
	}
	golden, err := os.ReadFile("testdata/golden/disagreements.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(golden)) {
		if col := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(col) == 3 && col[2] != "" {
			want = append(want, col[0]+"\t"+col[1])
		} else {
			t.Errorf("golden list: no reason in %q", line)
		}
	}
	sort.Strings(got)
	got = slices.Compact(got)
	if !slices.Equal(got, want) {
		t.Errorf("walkers and expressions differ in\n%s\nthe golden list says\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func officialParameters(t *testing.T) map[string]official {
	t.Helper()
	dir := shareddata.Open(t, shareddata.Definitions)
	out := map[string]official{}
	for _, name := range shareddata.Files(t, dir) {
		if !strings.HasPrefix(name, "SearchParameter-") {
			continue
		}
		var def official
		if err := json.Unmarshal(shareddata.Read(t, dir, name), &def); err != nil {
			t.Fatal(err)
		}
		// FHIRPath has no hasExtension.
		def.Expression = strings.ReplaceAll(def.Expression, "hasExtension(", "extension(")
		def.Expression = strings.ReplaceAll(def.Expression, "isSubject'))", "isSubject').exists())")
		out[definitionBase+def.ID] = def
	}
	return out
}
