package search

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/fhir"
)

func param(t *testing.T, rt fhir.ResourceType, code string) *Param {
	t.Helper()
	p, ok := Lookup(rt, code)
	if !ok {
		t.Fatalf("%s has no %s", rt, code)
	}
	return p
}

func TestTokenForms(t *testing.T) {
	key := func(kind byte, parts ...string) Value { return Value{Hash: hash(kind, parts...)} }
	for _, tt := range []struct {
		rt, query string
		want      Criterion
	}{
		{"Patient", "active=true", Criterion{Param: "active", Type: Token, Any: []Value{key(kindCode, "active", "true")}}},
		{"Patient", "active=http://hl7.org/fhir/special-values|true", Criterion{Param: "active", Type: Token, Any: []Value{key(kindCode, "active", "true")}}},
		{"Patient", "phone=555-0100", Criterion{Param: "phone", Type: Token, Any: []Value{key(kindCode, "phone", "555-0100"), key(kindCode, "phone", "5550100")}}},
		{"Patient", "phone=5550100", Criterion{Param: "phone", Type: Token, Any: []Value{key(kindCode, "phone", "5550100")}}},
		{"Patient", "telecom=A@B.example", Criterion{Param: "telecom", Type: Token, Any: []Value{key(kindCode, "telecom", "A@B.example"), key(kindCode, "telecom", "a@b.example")}}},
		{"Patient", "telecom=phone|(555) 0100", Criterion{Param: "telecom", Type: Token, Any: []Value{key(kindSystemCode, "telecom", "phone", "(555) 0100"), key(kindSystemCode, "telecom", "phone", "5550100")}}},
		{"Patient", "telecom=phone|", Criterion{Param: "telecom", Type: Token, Any: []Value{key(kindSystem, "telecom", "phone")}}},
		{"Patient", "identifier:of-type=http://t|MR|1\\|2", Criterion{Param: "identifier", Type: Token, Any: []Value{{Hash: ofTypeHash("identifier", "http://t", "MR", "1|2")}}}},
		{"Patient", "gender:not=male,female", Criterion{Param: "gender", Type: Token, Not: true, Any: []Value{key(kindCode, "gender", "male"), key(kindCode, "gender", "female")}}},
		{"Observation", "subject:identifier=s|v", Criterion{Param: "subject:identifier", Type: Token, Any: []Value{key(kindSystemCode, "subject:identifier", "s", "v")}}},
		{"Observation", "combo-code:not=a", Criterion{Op: Either, Not: true, Groups: [][]Criterion{
			{{Param: "code", Type: Token, Any: []Value{key(kindCode, "code", "a")}}},
			{{Param: "component-code", Type: Token, Any: []Value{key(kindCode, "component-code", "a")}}},
		}}},
		{"Observation", "code-value-concept=a$s|b", Criterion{Param: "code-value-concept", Type: Composite, Any: []Value{{Hash: pairHash("code-value-concept", codePart("a"), tokenPart("s", "b"))}}}},
		{"Observation", "code:missing=true", Criterion{Op: Present, Not: true, Param: "code", Type: Token, Paths: param(t, "Observation", "code").Paths()}},
		{"Observation", "code:text=PHQ", Criterion{Op: Like, Param: "code", Type: Token, Any: []Value{{Text: "phq"}}, Paths: param(t, "Observation", "code").TextPaths()}},
		{"Observation", "_profile:below=http://x.example/A", Criterion{Op: Like, Param: "_profile", Type: URI, Any: []Value{{Text: "http://x.example/A", Match: Below}}, Paths: param(t, "Observation", "_profile").Paths()}},
	} {
		got := where(t, fhir.ResourceType(tt.rt), tt.query)
		if diff := cmp.Diff([]Criterion{tt.want}, got); diff != "" {
			t.Errorf("%s?%s (-want +got):\n%s", tt.rt, tt.query, diff)
		}
	}
	missing := where(t, "Observation", "combo-code:missing=false")
	if len(missing) != 1 || missing[0].Op != Present || missing[0].Not || len(missing[0].Paths) != 2 {
		t.Errorf("%+v", missing)
	}
}

func TestComposites(t *testing.T) {
	key, keySystem := elementKeys("code-value-quantity", "s", "a")
	got := where(t, "Observation", "code-value-quantity=a$gt5,s|a$5.0||tablet")
	want := []Criterion{{Param: "value-quantity", Type: Composite, Any: []Value{
		{Prefix: "gt", At: 5, Low: 4.5, High: 5.5, Key: key, Part: Quantity},
		{Prefix: "eq", At: 5, Low: 4.95, High: 5.05, Unit: hash(kindUnit, "tablet"), Key: key, KeySystem: keySystem, Part: Quantity},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = where(t, "Observation", "code-value-string=a$Zo\u00eb")
	if len(got) != 1 || len(got[0].Any) != 1 || got[0].Any[0].Part != String || got[0].Any[0].Text != "zoe" || got[0].Any[0].Key == 0 {
		t.Errorf("%+v", got)
	}
	got = where(t, "Observation", "combo-code-value-quantity=a$5")
	if len(got) != 1 || got[0].Op != Either || len(got[0].Groups) != 2 || got[0].Groups[0][0].Any[0].Key == got[0].Groups[1][0].Any[0].Key {
		t.Errorf("a union asks each of its composites by its own key: %+v", got)
	}
	for _, query := range []string{"code-value-quantity=a", "code-value-quantity=a$", "code-value-quantity=$5", "code-value-quantity=a$5$6", "code-value-quantity=s|$5", "code-value-quantity=a|b|c$5",
		"code-value-quantity=a$x", `code-value-quantity=a\$5`, "code-value-concept=a$s|", "code-value-concept=a$a|b|c", "code-value-date=a$24", `code-value-concept=a\b$c`} {
		if _, _, err := Parse("Observation", values(t, query), Options{}); err == nil {
			t.Errorf("%s was read", query)
		}
	}
}
