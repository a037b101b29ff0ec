package search

import (
	"fmt"
	neturl "net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// where reads a query on t and gives its criteria without what serves the self link.
func where(t *testing.T, rt fhir.ResourceType, query string) []Criterion {
	t.Helper()
	q, issues, err := Parse(rt, values(t, query), Options{Terminology: fewCodes{}})
	if err != nil || len(issues) > 0 {
		t.Fatalf("%s?%s: %v %v", rt, query, err, issues)
	}
	for i := range q.Legs[0].Where {
		c := &q.Legs[0].Where[i]
		if c.Name == "" || c.Literal == "" {
			t.Errorf("%s?%s: a criterion does not say where it is from", rt, query)
		}
		c.Name, c.Literal = "", ""
	}
	return q.Legs[0].Where
}

func ref(rt fhir.ResourceType, id fhir.ID) []Value {
	r := fhir.Ref{Type: rt, ID: id}
	return []Value{{Hash: TargetHash(r), Target: r}}
}

func TestChains(t *testing.T) {
	text := func(param, s string) []Criterion {
		return []Criterion{{Param: param, Type: String, Any: []Value{{Text: s}}}}
	}
	chain := func(param string, hops ...Hop) []Criterion {
		return []Criterion{{Op: Chain, Param: param, Type: Reference, Hops: hops}}
	}
	has := func(rt fhir.ResourceType, via string, where []Criterion) []Criterion {
		return []Criterion{{Op: Has, Param: "_has", Hops: []Hop{{Type: rt, Via: via, Where: where}}}}
	}
	token := func(param, code string) []Criterion {
		return []Criterion{{Param: param, Type: Token, Any: []Value{{Hash: hash(kindCode, param, code)}}}}
	}
	not := func(c []Criterion) []Criterion { c[0].Not = true; return c }
	for _, tt := range []struct {
		rt    fhir.ResourceType
		query string
		want  []Criterion
	}{
		{"Observation", "subject:Patient.name=A", chain("subject", Hop{Type: "Patient", Where: text("name", "a")})},
		// Of Device, Group, Location and Patient, three have the parameter.
		{"Observation", "subject.name=A", nil},
		{"Observation", "patient.organization.name:contains=A", chain("patient", Hop{Type: "Patient", Where: chain("organization",
			Hop{Type: "Organization", Where: []Criterion{{Param: "name", Type: String, Any: []Value{{Text: "a", Match: Contains}}}}})})},
		{"Observation", "patient.gender:not=male", chain("patient", Hop{Type: "Patient", Where: not(token("gender", "male"))})},
		{"Observation", "patient._id=a", chain("patient", Hop{Type: "Patient", Where: []Criterion{{Param: "_id", Type: Token, Any: []Value{{ID: "a"}}}}})},
		{"Observation", "patient._list=L", chain("patient", Hop{Type: "Patient", Where: []Criterion{{Op: Has, Param: "_list", Hops: []Hop{{Type: "List", Via: "item",
			Where: []Criterion{{Param: "_id", Type: Token, Any: []Value{{ID: "L"}}}}}}}}})},
		{"Observation", "encounter.service-provider=Organization/1", chain("encounter", Hop{Type: "Encounter", Where: []Criterion{{Param: "service-provider", Type: Reference, Any: ref("Organization", "1")}}})},
		{"Patient", "_has:Observation:patient:code=1", has("Observation", "patient", token("code", "1"))},
		{"Patient", "_has:Observation:patient:code:not=1", has("Observation", "patient", not(token("code", "1")))},
		{"Patient", "_has:Observation:patient:_has:AuditEvent:entity:action=R", has("Observation", "patient", has("AuditEvent", "entity", token("action", "R")))},
		{"Patient", "_has:Observation:patient:encounter.status=finished", has("Observation", "patient", chain("encounter", Hop{Type: "Encounter", Where: token("status", "finished")}))},
		{"Observation", "subject:Patient._has:Group:member:code=x", chain("subject", Hop{Type: "Patient", Where: has("Group", "member", token("code", "x"))})},
		{"Patient", "_list=a,List/b", []Criterion{{Op: Has, Param: "_list", Hops: []Hop{{Type: "List", Via: "item", Where: []Criterion{{Param: "_id", Type: Token, Any: []Value{{ID: "a"}, {ID: "b"}}}}}}}}},
		{"Patient", "_text=Bone%20Liver,x", []Criterion{{Op: Words, Param: "_text", Type: String, Any: []Value{{Text: "bone liver"}, {Text: "x"}}}}},
	} {
		got := where(t, tt.rt, tt.query)
		if tt.want == nil {
			var types []string
			for _, h := range got[0].Hops {
				types = append(types, string(h.Type))
			}
			if !slices.Equal(types, []string{"Location", "Patient"}) && !slices.Equal(types, []string{"Device", "Location", "Patient"}) {
				t.Errorf("%s goes to %v", tt.query, types)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.query, diff)
		}
	}
}

// TestTypesOfWhatIsLookedAt: a store gets a Restriction for every type that a query reaches, and needs it.
func TestTypesOfWhatIsLookedAt(t *testing.T) {
	for query, want := range map[string]string{
		"patient.organization.name=a":                      "Observation Organization Patient",
		"_has:AuditEvent:entity:agent:Practitioner.name=a": "AuditEvent Observation Practitioner",
		"_has:AuditEvent:entity:agent:Practitioner=1":      "AuditEvent Observation",
		"_list=1": "List Observation",
		"_filter=not(patient.gender eq male or encounter[status ne x].type eq y)":    "Encounter Observation Patient",
		"_include=Observation:encounter":                                             "Encounter Observation",
		"_include=Observation:subject:Group":                                         "Group Observation",
		"_revinclude=Provenance:target":                                              "Observation Provenance",
		"_include:iterate=Encounter:service-provider&_include=Observation:encounter": "Encounter Observation Organization",
	} {
		q, _, err := Parse("Observation", values(t, strings.ReplaceAll(query, " ", "%20")), Options{})
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		var got []string
		for _, rt := range q.Types() {
			got = append(got, string(rt))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s looks at %v", query, got)
		}
	}
	for _, query := range []string{"_include=*", "_revinclude=*", "_include=Observation:*", "_include=Observation:focus"} {
		q, _, err := Parse("Observation", values(t, query), Options{})
		if err != nil || len(q.Types()) != len(fhir.ResourceTypes()) {
			t.Errorf("%s looks at %d types, %v", query, len(q.Types()), err)
		}
	}
}

func TestIncludes(t *testing.T) {
	q, _, err := Parse("Observation", values(t, "_include=Observation:subject:Patient&_include=Observation:subject:Patient&_include:recurse=Patient:link&_revinclude:iterate=Provenance:*&_revinclude=*"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Include{
		{Source: "Observation", Param: "subject", Target: "Patient", Name: "_include", Literal: "Observation:subject:Patient"},
		{Iterate: true, Source: "Patient", Param: "link", Name: "_include:recurse", Literal: "Patient:link"},
		{Reverse: true, Param: "*", Name: "_revinclude", Literal: "*"},
		{Reverse: true, Iterate: true, Source: "Provenance", Param: "*", Name: "_revinclude:iterate", Literal: "Provenance:*"},
	}
	if diff := cmp.Diff(want, q.Includes); diff != "" {
		t.Error(diff)
	}
	many := neturl.Values{}
	for i := range MaxIncludes + 1 {
		many.Add("_revinclude", []string{"Observation", "Condition", "Encounter", "Procedure"}[i%4]+":"+[]string{"subject", "patient", "encounter", "based-on", "part-of"}[i/4])
	}
	if _, _, err := Parse("Patient", many, Options{}); err == nil {
		t.Error("includes have no bound")
	}
}

func TestBoundsOfChains(t *testing.T) {
	refused := func(name string, v neturl.Values, say string) {
		t.Helper()
		_, _, err := Parse("Observation", v, Options{})
		if err == nil || !strings.Contains(outcome.Of(err).Error(), say) {
			t.Errorf("%s: %v", name, err)
		}
	}
	hops := neturl.Values{}
	for i := range MaxOccurrences {
		hops.Add("subject.identifier", fmt.Sprint(i))
	}
	refused("many hops", hops, "links")
	conditions := neturl.Values{}
	for i := range 10 {
		conditions.Add("_filter", strings.Repeat(fmt.Sprintf("code eq %d or ", i), 30)+"code eq a")
	}
	refused("many conditions", conditions, "conditions")
	refused("a link to any type", neturl.Values{"focus._id": {"a"}}, "can go to many types")
	refused("a long filter", neturl.Values{"_filter": {"code eq " + strings.Repeat("a", MaxFilter)}}, "longer")
	refused("a deep filter", neturl.Values{"_filter": {strings.Repeat("(", 17) + "code eq a" + strings.Repeat(")", 17)}}, "nested")
	refused("a long chain", neturl.Values{"_has:Observation:derived-from:_has:Observation:derived-from:_has:Observation:derived-from:_has:Observation:derived-from:_has:Observation:derived-from:code": {"a"}}, "links")
	for _, query := range []string{"_has:Provenance:target:agent=Patient/1&_list=a&_list=b&_list=c", "_list=a&_list=b&_list=c&_list=d"} {
		if _, _, err := ParseSystem(values(t, query), Options{}); err == nil || !strings.Contains(err.Error(), "name fewer") {
			t.Errorf("%s on all types: %v", query, err)
		}
		if _, _, err := ParseSystem(values(t, query+"&_type=Observation,Patient"), Options{}); err != nil {
			t.Errorf("%s on two types: %v", query, err)
		}
	}
}
