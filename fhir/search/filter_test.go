package search

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// TestFilterAsksTheSame: a test of a filter is the same question as a parameter.
func TestFilterAsksTheSame(t *testing.T) {
	for filter, query := range map[string]string{
		`code eq http://loinc.org|1-5`:              "code=http://loinc.org|1-5",
		`code eq "a,b"`:                             `code=` + quoted(`a\,b`),
		`code eq "a$\\b"`:                           `code=` + quoted(`a\$\\b`),
		`code in http://x.example/vs`:               "code:in=http://x.example/vs",
		`code ni http://x.example/vs`:               "code:not-in=http://x.example/vs",
		`code ss urn:s|a`:                           "code:below=urn:s|a",
		`code sb urn:s|a`:                           "code:above=urn:s|a",
		`date ge 2024-02`:                           "date=ge2024-02",
		`date ne 2024`:                              "date=ne2024",
		`date po 2024`:                              "date=ap2024",
		`_lastUpdated sa 2024-01-01T00:00:00+01:00`: "_lastUpdated=sa2024-01-01T00:00:00%2B01:00",
		`value-string co "Pet er"`:                  "value-string:contains=Pet er",
		`value-string sw pet`:                       "value-string=pet",
		`subject re Patient/1`:                      "subject=Patient/1",
		`subject eq Patient/1`:                      "subject=Patient/1",
		`_id eq a`:                                  "_id=a",
		`_id ne a`:                                  "_id:not=a",
		`_list eq a`:                                "_list=a",
		`_text co "a b"`:                            "_text=a b",
		`_profile eq http://x.example/p`:            "_profile=http://x.example/p",
		`patient.organization.name co x`:            "patient.organization.name:contains=x",
		`subject:Patient.gender eq male`:            "subject:Patient.gender=male",
		`_has:AuditEvent:entity:action eq R`:        "_has:AuditEvent:entity:action=R",
		`code eq a and status eq final`:             "code=a&status=final",
		`(code eq a) and (status eq final)`:         "code=a&status=final",
		`not(not(code eq a))`:                       "code=a",
		`not(code ni http://x.example/vs)`:          "code:in=http://x.example/vs",
		`not(code pr false)`:                        "code:missing=false",
		`not(date pr true)`:                         "date:missing=true",
		`code ne a`:                                 "code:missing=false&code:not=a",
		"\tcode  eq\na ":                            "code=a",
	} {
		got, want := where(t, "Observation", "_filter="+quoted(filter)), where(t, "Observation", query)
		if len(want) > 1 {
			want = []Criterion{{Op: Either, Groups: [][]Criterion{want}}}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", filter, diff)
		}
	}
}

func TestFilterLogic(t *testing.T) {
	test := func(code string) Criterion {
		return Criterion{Param: "code", Type: Token, Any: []Value{{Hash: hash(kindCode, "code", code)}}}
	}
	not := func(c Criterion) Criterion { c.Not = !c.Not; return c }
	either := func(groups ...[]Criterion) Criterion { return Criterion{Op: Either, Groups: groups} }
	a, b, c := test("a"), test("b"), test("c")
	type group = []Criterion
	for filter, want := range map[string]Criterion{
		`code eq a`:                                  a,
		`code eq a or code eq b`:                     either(group{a}, group{b}),
		`code eq a or code eq b or code eq c`:        either(group{a}, group{b}, group{c}),
		`code eq a and code eq b or code eq c`:       either(group{a, b}, group{c}),
		`code eq a or code eq b and code eq c`:       either(group{either(group{a}, group{b}), c}), // from left to right
		`code eq a or (code eq b and code eq c)`:     either(group{a}, group{b, c}),
		`not(code eq a)`:                             not(a),
		`not (code eq a or code eq b) and code eq c`: either(group{not(either(group{a}, group{b})), c}),
		`not(code eq a and code eq b)`:               not(either(group{a, b})),
		`code eq a and not(code eq b)`:               either(group{a, not(b)}),
		`not(code eq a or code eq b) or code eq c`:   either(group{not(either(group{a}, group{b}))}, group{c}),
		`value-string eq "Pé ter"`:                   {Param: "value-string", Type: String, Any: []Value{{Text: "pe ter", Match: Equal}}},
		`value-string ew "ter"`:                      {Param: "value-string", Type: String, Any: []Value{{Text: "ter", Match: Ends}}},
		`patient[code eq a].name eq x`:               {},
		`patient[gender eq a or gender eq b].name sw x`: {Op: Chain, Param: "patient", Type: Reference, Hops: []Hop{{Type: "Patient", Where: group{
			either(group{{Param: "gender", Type: Token, Any: []Value{{Hash: hash(kindCode, "gender", "a")}}}}, group{{Param: "gender", Type: Token, Any: []Value{{Hash: hash(kindCode, "gender", "b")}}}}),
			{Param: "name", Type: String, Any: []Value{{Text: "x"}}},
		}}}},
	} {
		if want.Param == "" && want.Op == Match {
			if _, _, err := Parse("Observation", values(t, "_filter="+quoted(filter)), Options{}); err == nil {
				t.Errorf("%s was read", filter)
			}
			continue
		}
		if diff := cmp.Diff([]Criterion{want}, where(t, "Observation", "_filter="+quoted(filter))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", filter, diff)
		}
	}
}

func TestFilterRefuses(t *testing.T) {
	for filter, say := range map[string]string{
		``:                              "character 1: expected the name",
		`code`:                          "character 5: expected an operation",
		`code eq`:                       "character 8: expected a value",
		`code eq ""`:                    "expected a value",
		`code is canary`:                "character 6: expected an operation",
		`code eq canary code`:           "character 16: expected and, or",
		`code eq canary and`:            "expected the name",
		`code eq canary)`:               "expected and, or",
		`(code eq canary`:               "expected a closing )",
		`(code eq canary]`:              "expected a closing )",
		`not code eq canary`:            "parenthesis after not",
		`not(`:                          "expected the name",
		`code eq "canary`:               "expected a JSON string",
		`code eq "canary\q"`:            "expected a JSON string",
		`code eq "canary\u0000"`:        "expected a JSON string",
		`code:not eq canary`:            "at character 1 has a modifier",
		`canary eq canary`:              "at character 1 is not known for Observation",
		`code eq a and canary eq b`:     "at character 15 is not known",
		`é eq canary`:                   "character 1: expected the name",
		`code re canary`:                "operation re",
		`code co canary`:                "operation co",
		`value-string gt canary`:        "operation gt",
		`_profile sw canary`:            "operation sw",
		`subject ap canary`:             "operation ap",
		`value-quantity po 5`:           "operation po",
		`date gt canary`:                "at character 1 has a value that is no date",
		`code pr canary`:                "true or false",
		`code in http://canary.example`: "does not know",
		`_security eq canary`:           "labels are not searchable",
		`_security pr true`:             "labels are not searchable",
		`subject.canary eq x`:           "not known for any type",
		`subject[code eq canary`:        "expected a closing ]",
		`subject[code eq canary]`:       "expected a dot",
		`subject[code eq canary] eq x`:  "expected a dot",
		`code[status eq canary].x eq y`: "only a reference",
		`subject:Canary.name eq x`:      "names a type",
		`_filter eq canary`:             "cannot be used",
		`_has:Observation eq canary`:    "no reverse chain",
		`_id gt canary`:                 "operation gt",
		`_text eq canary`:               "operation eq",
		`_list ne canary`:               "operation ne",
		`a.b.c.d.e.f eq canary`:         "links",
	} {
		for _, lenient := range []bool{false, true} {
			_, _, err := Parse("Observation", map[string][]string{"_filter": {filter}}, Options{Terminology: fewCodes{}, Lenient: lenient})
			o := outcome.Of(err)
			switch {
			case err == nil:
				t.Errorf("%s was read", filter)
			case o.Status() != 400 || !strings.Contains(o.Error(), say):
				t.Errorf("%s: %d %v", filter, o.Status(), o)
			case strings.Contains(strings.ToLower(o.Error()), "canary"):
				t.Errorf("%s: %v repeats what it says", filter, o)
			}
		}
	}
}

// FuzzFilter: no text makes the reader fail, and what it accepts is sound.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		`name co "pet"`, `given eq "peter" and birthdate ge 2014-10-10`, `code eq http://loinc.org|1234-5`, `subject.name co "pet"`,
		`related[type eq "has-component"].target pr true`, `not(a eq b or (c ne d)) and e in f`, `subject:Patient[gender eq x].name eq "\u00e9"`, `((((a`, `not not(`, `a[b[c[d`,
		`_has:AuditEvent:entity:agent.name eq x`,
	} {
		f.Add(s)
	}
	types := []string{"Observation", "Patient"}
	f.Fuzz(func(t *testing.T, filter string) {
		for _, rt := range types {
			q, _, err := Parse(fhir.ResourceType(rt), map[string][]string{"_filter": {filter}}, Options{Terminology: noneEmpty{}})
			if err != nil {
				continue
			}
			sound(t, q.Legs[0].Where, 0)
		}
	})
}
