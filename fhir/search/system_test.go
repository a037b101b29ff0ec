package search

import (
	"context"
	"errors"
	neturl "net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

func legTypes(q Query) string {
	var s []string
	for _, l := range q.Legs {
		s = append(s, string(l.Type))
	}
	return strings.Join(s, " ")
}

func TestParseSystem(t *testing.T) {
	for query, want := range map[string]string{
		"_type=Patient": "Patient",
		"_type=Observation,Condition,Observation&code=x":       "Condition Observation",
		"_type=Observation,Condition&patient.name=x":           "Condition Observation",
		"_type=Observation,Condition&_sort=-_lastUpdated,code": "Condition Observation",
	} {
		q, _, err := ParseSystem(values(t, query), Options{})
		if err != nil || legTypes(q) != want {
			t.Errorf("%s: %s %v", query, legTypes(q), err)
			continue
		}
		for _, l := range q.Legs {
			if len(l.Where) != len(q.Legs[0].Where) {
				t.Errorf("%s: %s is asked another question", query, l.Type)
			}
		}
		again, _, err := ParseSystem(q.Self(), Options{})
		if err != nil || !reflect.DeepEqual(q, again) {
			t.Errorf("%s: self %s: %v", query, q.Self().Encode(), err)
		}
	}
	q, _, err := ParseSystem(values(t, "_id=a,b&_lastUpdated=ge2024&_list=1&_profile=urn:x"), Options{})
	if err != nil || len(q.Legs) != len(fhir.ResourceTypes()) || q.Asked != nil {
		t.Errorf("%d legs, %v", len(q.Legs), err)
	}
	for query, say := range map[string]string{
		"code=x":                           `"code" is not known for`,
		"_type=Observation,Patient&code=x": `"code" is not known for Patient`,
		"_type=Observation,Patient&subject.name=x":          `"subject.name" is not known for Patient`,
		"_type=Observation,Patient&_sort=date":              `"_sort"`,
		"_type=canary":                                      `"_type" has a value`,
		"_type=":                                            `"_type" has a value`,
		"_type=Patient,":                                    `"_type" has a value`,
		"_type=Patient&_type=Observation":                   `"_type" may stand once`,
		"_type:not=Patient":                                 `"_type:not"`,
		"_type=" + strings.Repeat("Patient,", 32) + "Group": `more than 32 types`,
	} {
		_, _, err := ParseSystem(values(t, query), Options{})
		if o := outcome.Of(err); err == nil || o.Status() != 400 || !strings.Contains(o.Error(), say) || strings.Contains(o.Error(), "canary") {
			t.Errorf("%s: %v", query, err)
		}
	}
	if _, _, err := Parse("Patient", values(t, "_type=Patient"), Options{}); err == nil {
		t.Error("_type was read where the path names the type")
	}
	q, issues, err := ParseSystem(values(t, "_type=Observation,Patient&code=x&_id=1"), Options{Lenient: true})
	if err != nil || len(issues) != 1 || len(q.Legs[0].Where) != 1 || len(q.Legs[1].Where) != 1 {
		t.Errorf("what one of the types does not know must be left out of all: %+v %v %v", q, issues, err)
	}
}

func TestParseCompartment(t *testing.T) {
	patient := fhir.Ref{Type: "Patient", ID: "p"}
	member := map[fhir.ResourceType][]string{"Observation": {"subject", "performer"}, "Condition": {"subject"}, "Patient": {"link"}, "Encounter": {"nonsense", "status"}}
	opt := Options{Membership: func(of, t fhir.ResourceType) []string {
		if of != "Patient" {
			return nil
		}
		return member[t]
	}}
	is := func(param string) Criterion {
		return Criterion{Param: param, Type: Reference, Any: ref("Patient", "p")}
	}
	q, _, err := ParseCompartment(patient, "Observation", values(t, "code=x&_count=3"), opt)
	if err != nil || legTypes(q) != "Observation" || q.Count != 3 || len(q.Legs[0].Where) != 2 {
		t.Fatalf("%+v %v", q, err)
	}
	if diff := cmp.Diff(Criterion{Op: Either, Groups: [][]Criterion{{is("subject")}, {is("performer")}}}, q.Legs[0].Where[0]); diff != "" {
		t.Error(diff)
	}
	if got := q.Self().Encode(); got != "_count=3&code=x" {
		t.Errorf("self link %s", got)
	}
	q, _, err = ParseCompartment(patient, "Condition", nil, opt)
	if diff := cmp.Diff([]Leg{{Type: "Condition", Where: []Criterion{is("subject")}}}, q.Legs); diff != "" || err != nil {
		t.Error(diff, err)
	}
	q, _, err = ParseCompartment(patient, "Patient", nil, opt)
	if diff := cmp.Diff([]Criterion{{Op: Either, Groups: [][]Criterion{{is("link")}, {{Param: "_id", Type: Token, Any: []Value{{ID: "p"}}}}}}}, q.Legs[0].Where); diff != "" || err != nil {
		t.Error(diff, err)
	}
	q, _, err = ParseCompartment(patient, Every, values(t, "_lastUpdated=ge2024"), opt)
	if err != nil || legTypes(q) != "Condition Observation Patient" || q.Asked != nil {
		t.Errorf("%s %v", legTypes(q), err)
	}
	q, _, err = ParseCompartment(patient, Every, values(t, "_type=Observation,Organization"), opt)
	if err != nil || legTypes(q) != "Observation" || !slices.Equal(q.Asked, []fhir.ResourceType{"Observation", "Organization"}) {
		t.Errorf("%s %v %v", legTypes(q), q.Asked, err)
	}
	for _, tt := range []struct {
		of    fhir.Ref
		t     fhir.ResourceType
		query string
	}{
		{patient, "Organization", ""},
		{patient, "Encounter", ""}, // by no parameter that can be asked for: never everything
		{patient, "Nonsense", ""},
		{patient, "", ""},
		{patient, "Observation", "_type=Observation"},
		{patient, Every, "_type=Organization"},
		{patient, Every, "code=x"},
		{fhir.Ref{Type: "Group", ID: "p"}, "Observation", ""},
		{fhir.Ref{Type: "Patient", ID: "p/q"}, "Observation", ""},
		{fhir.Ref{}, "Observation", ""},
	} {
		if q, _, err := ParseCompartment(tt.of, tt.t, values(t, tt.query), opt); err == nil || outcome.Of(err).Status() != 400 {
			t.Errorf("%v/%s?%s: %+v %v", tt.of, tt.t, tt.query, q, err)
		}
	}
	// Whatever is ignored, the compartment stays.
	opt.Lenient = true
	for _, query := range []string{"=", "=x", "nonsense=1", "_id=1&=1", ".=1", ":=1"} {
		q, _, err := ParseCompartment(patient, "Condition", values(t, query), opt)
		if err == nil && (len(q.Legs[0].Where) == 0 || !cmp.Equal(q.Legs[0].Where[0], is("subject"))) {
			t.Errorf("%s opens the compartment: %+v", query, q.Legs)
		}
	}
	if _, _, err := ParseCompartment(patient, "Observation", nil, Options{}); err == nil {
		t.Error("without a table there is no compartment")
	}
}

func TestTerminology(t *testing.T) {
	token := func(codes ...string) []Value {
		var out []Value
		for _, c := range codes {
			out = append(out, Value{Hash: hash(kindSystemCode, "code", "urn:s", c)})
		}
		return out
	}
	for query, want := range map[string]Criterion{
		"code:in=http://x.example/vs":                        {Param: "code", Type: Token, Any: token("a", "b")},
		"code:not-in=http://x.example/vs":                    {Param: "code", Type: Token, Not: true, Any: token("a", "b")},
		"code:in=http://x.example/empty":                     {Param: "code", Type: Token},
		"code:below=urn:s|a,urn:s|b":                         {Param: "code", Type: Token, Any: token("a", "a1", "a2", "b", "b1", "b2")},
		"code:above=urn:s|a":                                 {Param: "code", Type: Token, Any: token("a", "root")},
		"code:in=http://x.example/vs,http://x.example/empty": {Param: "code", Type: Token, Any: token("a", "b")},
	} {
		if diff := cmp.Diff([]Criterion{want}, where(t, "Observation", query)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	for _, query := range []string{"code:in=http://unknown.example", "code:in=http://x.example/vast", "code:below=urn:other|a", "code:below=a", "code:above=|a", "code:above=urn:s|", "code:in=", `code:in=a\b`} {
		_, _, err := Parse("Observation", values(t, query), Options{Terminology: fewCodes{}})
		if o := outcome.Of(err); err == nil || o.Status() != 400 || strings.Contains(o.Error(), "canary") || strings.Contains(o.Error(), "example") {
			t.Errorf("%s: %v", query, err)
		}
		if _, _, err := Parse("Observation", values(t, query), Options{}); err == nil {
			t.Errorf("%s was read without terminology", query)
		}
	}
	_, _, err := Parse("Observation", values(t, "code:in=http://x.example/broken"), Options{Terminology: fewCodes{}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a terminology that fails is not the client's fault: %v", err)
	}
}

// TestTheSameFromAllSides: values of the URL and of a form add up, in any order.
func TestTheSameFromAllSides(t *testing.T) {
	a, _, err := Parse("Observation", neturl.Values{"code": {"a", "b"}, "status": {"final"}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Legs[0].Where) != 3 {
		t.Errorf("%+v", a.Legs[0].Where)
	}
}
