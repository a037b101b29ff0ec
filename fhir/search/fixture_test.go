package search

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// read makes the tree of a JSON text.
func read(t testing.TB, text string) *element.Node {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	n, err := readNode(d)
	if err != nil {
		t.Fatalf("fixture: %v in %.80s", err, text)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatal("fixture: more than one value")
	}
	return n
}

func readNode(d *json.Decoder) (*element.Node, error) {
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := tok.(type) {
	case json.Delim:
		n := &element.Node{Kind: element.Object}
		if v == '[' {
			n.Kind = element.Array
		}
		for d.More() {
			name := ""
			if v == '{' {
				key, err := d.Token()
				if err != nil {
					return nil, err
				}
				name, _ = key.(string) // what stands before a colon is nothing else
			}
			x, err := readNode(d)
			if err != nil {
				return nil, err
			}
			if v == '{' {
				n.Fields = append(n.Fields, element.Field{Name: name, Value: x})
			} else {
				n.Items = append(n.Items, x)
			}
		}
		_, err = d.Token()
		return n, err
	case string:
		return element.NewString(v), nil
	case json.Number:
		return &element.Node{Kind: element.Number, Text: v.String()}, nil
	case bool:
		if v {
			return &element.Node{Kind: element.Bool, Text: "true"}, nil
		}
		return &element.Node{Kind: element.Bool, Text: "false"}, nil
	default:
		return &element.Node{Kind: element.Null}, nil
	}
}

func typeOf(n *element.Node) fhir.ResourceType {
	return fhir.ResourceType(n.Get("resourceType").String())
}

const observation = `{
  "resourceType": "Observation", "id": "o1",
  "meta": {"profile": ["http://example.org/p|1.0"], "source": "urn:src", "tag": [{"system": "urn:tags", "code": "t1"}],
           "security": [{"system": "urn:labels", "code": "R"}]},
  "identifier": [{"system": "urn:ids", "value": "A|7"}],
  "status": "final",
  "category": [{"coding": [{"system": "urn:cat", "code": "survey"}]}],
  "code": {"coding": [{"system": "http://loinc.org", "code": "44261-6"}, {"code": "phq"}], "text": "PHQ-9"},
  "subject": {"reference": "Patient/p1"},
  "focus": [{"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"}],
  "encounter": {"reference": "Encounter/e1/_history/2"},
  "effectiveDateTime": "2024-03-05T10:30:00+02:00",
  "performer": [{"reference": "http://elsewhere.example/fhir/Practitioner/9"}, {"reference": "#c"}, {"display": "nobody"}],
  "valueCodeableConcept": {"coding": [{"system": "urn:v", "code": "yes"}], "text": "Ja, gewiß"},
  "derivedFrom": [{"reference": "QuestionnaireResponse/q1"}],
  "component": [{"code": {"coding": [{"system": "urn:comp", "code": "c1"}]}, "valueString": "Patient/free-text"}],
  "contained": [{"resourceType": "Practitioner", "id": "c", "identifier": [{"value": "hidden"}],
                 "qualification": [{"code": {"text": "x"}, "issuer": {"reference": "Organization/deep"}}]}],
  "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/observation-geneticsDnaVariant", "valueString": "c.1521"}]
}`
