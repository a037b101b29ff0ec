package search

import (
	"errors"
	neturl "net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

func quoted(s string) string { return neturl.QueryEscape(s) }

func values(t testing.TB, query string) neturl.Values {
	t.Helper()
	v, err := neturl.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestParseFrontEndParameters holds the parameters that the sample front end
// needs, per type, each in a form that must be accepted.
func TestParseFrontEndParameters(t *testing.T) {
	for rt, queries := range map[fhir.ResourceType][]string{
		"Patient":               {"name=a", "family=a", "given=a", "identifier=urn:x|1", "birthdate=1990", "gender=female", "general-practitioner=Practitioner/1", "organization=1", "active=true"},
		"Practitioner":          {"name=a", "identifier=1", "active=true"},
		"Organization":          {"name=a", "identifier=1", "type=x", "partof=1"},
		"Observation":           {"patient=1", "subject=Patient/1", "subject:Patient=1", "code=http://loinc.org|44261-6", "status=final", "date=ge2024-01-01&date=lt2025", "category=survey", "encounter=1", "identifier=1", "performer=Practitioner/1"},
		"Condition":             {"patient=1", "code=F32.1", "category=x", "clinical-status=active", "onset-date=2024", "recorded-date=2024", "encounter=1", "identifier=1"},
		"MedicationRequest":     {"patient=1", "code=1", "status=active", "authoredon=2024", "encounter=1", "identifier=1", "intent=order"},
		"QuestionnaireResponse": {"patient=1", "questionnaire=http://x.example/q", "status=completed", "authored=2024", "encounter=1", "identifier=1", "author=Practitioner/1"},
		"Encounter":             {"patient=1", "status=finished", "date=2024", "class=AMB", "type=x", "identifier=1", "service-provider=1", "participant=Practitioner/1"},
		"Appointment":           {"patient=1", "actor=Practitioner/1", "status=booked", "date=2024", "identifier=1"},
		"CarePlan":              {"patient=1", "status=active", "category=x", "date=2024", "encounter=1"},
		"CareTeam":              {"patient=1", "status=active", "participant=Practitioner/1"},
		"DocumentReference":     {"patient=1", "status=current", "type=x", "category=x", "date=2024", "encounter=1", "identifier=1", "author=Practitioner/1"},
		"Consent":               {"patient=1", "status=active", "category=x", "date=2024", "identifier=1"},
		"RelatedPerson":         {"patient=1", "name=a", "active=true"},
		"AuditEvent":            {"patient=1", "date=2024", "agent=Practitioner/1"},
	} {
		for _, query := range append(queries, "_id=a,b", "_lastUpdated=ge2024", "_count=5", "_sort=-_lastUpdated", "_total=accurate", "_summary=count", "_tag=x", "_profile=urn:x", "_source=urn:x") {
			q, issues, err := Parse(rt, values(t, query), Options{})
			if err != nil || len(issues) > 0 {
				t.Errorf("%s?%s: %v %v", rt, query, err, issues)
				continue
			}
			for _, c := range q.Legs[0].Where {
				if len(c.Any) == 0 || c.Type == 0 {
					t.Errorf("%s?%s: criterion %+v can match nothing", rt, query, c)
				}
			}
		}
	}
}

func TestParseResult(t *testing.T) {
	day := func(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }
	patient := func(types ...string) []Value {
		var out []Value
		for _, rt := range types {
			r := fhir.Ref{Type: fhir.ResourceType(rt), ID: "7"}
			out = append(out, Value{Hash: TargetHash(r), Target: r})
		}
		return out
	}
	date := func(prefix string, lo, hi time.Time) []Value { return []Value{{Prefix: prefix, Lo: lo, Hi: hi}} }
	one := func(param string, pt ParamType, values ...Value) []Criterion {
		return []Criterion{{Param: param, Type: pt, Any: values}}
	}
	leg := func(where []Criterion) []Leg { return []Leg{{Type: "Observation", Where: where}} }
	tests := []struct {
		query string
		want  Query
	}{
		{"", Query{Count: 20}},
		{"_count=3", Query{Count: 3}},
		{"_count=1001", Query{Count: MaxCount}},
		{"_count=99999999999999999999", Query{Count: MaxCount}},
		{"_count=0", Query{Count: 0, Total: Accurate}},
		{"_summary=count&_count=7", Query{Count: 0, Total: Accurate}},
		{"_summary=false", Query{Count: 20}},
		{"_total=none", Query{Count: 20}},
		{"_total=estimate", Query{Count: 20, Total: Estimate}},
		{"_total=estimate&_count=0&_sort=date&_include=*&_summary=text&_elements=id", Query{Count: 0, Total: Estimate}},
		{"_total=accurate&_contained=false", Query{Count: 20, Total: Accurate}},
		{"_summary=data&_elements=id,code,id", Query{Count: 20, Summary: SummaryData, Elements: []string{"id", "code"}}},
		{"_sort=-date,code,_id,-_lastUpdated", Query{Count: 20, Sort: []Sort{{Param: "date", Type: Date, Descending: true}, {Param: "code", Type: Token}, {Param: "_id", Type: Token}, {Param: "_lastUpdated", Type: Date, Descending: true}}}},
		{"_sort=subject,value-string", Query{Count: 20, Sort: []Sort{{Param: "subject", Type: Reference}, {Param: "value-string", Type: String}}}},
		{"_sort=_lastUpdated", Query{Count: 20, Sort: []Sort{{Param: "_lastUpdated", Type: Date}}}},
		{"_sort=-_lastUpdated&_format=json&_pretty=true&_page=xyz", Query{Count: 20}},
		{"_id=a,b,a", Query{Count: 20, Legs: leg(one("_id", Token, Value{ID: "a"}, Value{ID: "b"}))}},
		{"_lastUpdated=2024", Query{Count: 20, Legs: leg(one("_lastUpdated", Date, date("eq", day(2024, 1, 1), day(2025, 1, 1))...))}},
		{"date=lt2024-02", Query{Count: 20, Legs: leg(one("date", Date, date("lt", day(2024, 2, 1), day(2024, 3, 1))...))}},
		{"date=ap2024-06-11", Query{Count: 20, Legs: leg(one("date", Date, date("ap", day(2024, 6, 10), day(2024, 6, 13))...))}},
		{"date=2024-02-03T04:05", Query{Count: 20, Legs: leg(one("date", Date, date("eq", at("2024-02-03T04:05:00Z"), at("2024-02-03T04:06:00Z"))...))}},
		{"date=sa2024-02-03T04:05:06.5%2B01:00", Query{Count: 20, Legs: leg(one("date", Date, date("sa", at("2024-02-03T03:05:06.5Z"), at("2024-02-03T03:05:06.6Z"))...))}},
		{"date=sa2024-02-03T04:05:06+01:00", Query{Count: 20, Legs: leg(one("date", Date, date("sa", at("2024-02-03T03:05:06Z"), at("2024-02-03T03:05:07Z"))...))}},
		{"subject=7", Query{Count: 20, Legs: leg(one("subject", Reference, patient("Device", "Group", "Location", "Patient")...))}},
		{"subject:Patient=7", Query{Count: 20, Legs: leg(one("subject", Reference, patient("Patient")...))}},
		{"subject:Patient=Patient/7", Query{Count: 20, Legs: leg(one("subject", Reference, patient("Patient")...))}},
		{"patient=7", Query{Count: 20, Legs: leg(one("patient", Reference, patient("Patient")...))}},
		{"patient=" + quoted("https://here.example/fhir/Patient/7"), Query{Count: 20, Legs: leg(one("patient", Reference, patient("Patient")...))}},
		{"code=a,|b,s|c,s|", Query{Count: 20, Legs: leg(one("code", Token,
			Value{Hash: hash(kindCode, "code", "a")}, Value{Hash: hash(kindSystemCode, "code", "", "b")},
			Value{Hash: hash(kindSystemCode, "code", "s", "c")}, Value{Hash: hash(kindSystem, "code", "s")}))}},
		{`value-string=` + quoted(`a\,B`), Query{Count: 20, Legs: leg(one("value-string", String, Value{Text: "a,b"}))}},
		{`value-string:exact=` + quoted(`a\,B `), Query{Count: 20, Legs: leg(one("value-string", String, Value{Text: "a,B ", Match: Exact}))}},
		{`value-string:contains=B`, Query{Count: 20, Legs: leg(one("value-string", String, Value{Text: "b", Match: Contains}))}},
		{"status=final&status=final", Query{Count: 20, Legs: leg(one("status", Token, Value{Hash: hash(kindCode, "status", "final")}))}},
		{"status=final&category=x&status=draft", Query{Count: 20, Legs: leg([]Criterion{
			{Param: "category", Type: Token, Any: []Value{{Hash: hash(kindCode, "category", "x")}}},
			{Param: "status", Type: Token, Any: []Value{{Hash: hash(kindCode, "status", "final")}}},
			{Param: "status", Type: Token, Any: []Value{{Hash: hash(kindCode, "status", "draft")}}},
		})}},
	}
	opt := Options{Base: "https://here.example/fhir/", Now: day(2024, 6, 22)}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			q, issues, err := Parse("Observation", values(t, tt.query), opt)
			if err != nil || len(issues) > 0 {
				t.Fatal(err, issues)
			}
			again, _, err := Parse("Observation", q.Self(), opt)
			if err != nil || !reflect.DeepEqual(again, q) {
				t.Errorf("the self link %v gives another search: %v\n%s", q.Self(), err, cmp.Diff(q, again))
			}
			for i := range q.Legs[0].Where {
				q.Legs[0].Where[i].Name, q.Legs[0].Where[i].Literal = "", ""
			}
			if tt.want.Legs == nil {
				tt.want.Legs = leg(nil)
			}
			if diff := cmp.Diff(tt.want, q); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const secret = "canary"
	tests := []struct{ query, names string }{
		{"nonsense=" + secret, `"nonsense"`},
		{"_security=" + secret, `"_security"`},
		{"_security:not=" + secret, `"_security:not"`},
		{"_filter=" + secret, `"_filter"`},
		{"_query=" + secret, `"_query"`},
		{"_security:missing=true", `"_security:missing"`},
		{"_security:text=" + secret, `"_security:text"`},
		{"subject:Patient._security=" + secret, `"subject:Patient._security"`},
		{"_has:Condition:encounter:code=" + secret, `"_has:Condition:encounter:code"`},
		{"_has:Nonsense:patient:code=" + secret, `"_has:Nonsense:patient:code"`},
		{"_has:Condition=" + secret, `"_has:Condition"`},
		{"_has:Condition:patient=" + secret, `"_has:Condition:patient"`},
		{"_has:Condition:patient:=" + secret, `"_has:Condition:patient:"`},
		{"_has:Provenance:agent:target=1", `"_has:Provenance:agent:target"`},
		{"_has=" + secret, `"_has"`},
		{"code.x=" + secret, `"code.x"`},
		{"subject.nonsense=" + secret, `"subject.nonsense"`},
		{"subject:Nonsense.name=" + secret, `"subject:Nonsense.name"`},
		{"subject:Encounter.name=" + secret, `"subject:Encounter.name"`},
		{"focus._id=1", `"focus._id"`},
		{"subject:Patient.organization.partof.partof.partof.name=a", `"subject:Patient.organization.partof.partof.partof.name"`},
		{"subject:Patient._filter=name%20eq%20a", `"subject:Patient._filter"`},
		{"_text:exact=" + secret, `"_text:exact"`},
		{"_in=" + secret, `"_in"`},
		{"_list=$current-allergies", `"_list"`},
		{"_list:not=1", `"_list:not"`},
		{"_list=can_ary", `"_list"`},
		{"code:missing=" + secret, `"code:missing"`},
		{"code:missing=", `"code:missing"`},
		{"code:below=http://x|" + secret, `"code:below"`},
		{"identifier:of-type=a|" + secret, `"identifier:of-type"`},
		{"code:of-type=a|b|c", `"code:of-type"`},
		{"_profile:below=urn:x", `"_profile:below"`},
		{"_include=" + secret, `"_include"`},
		{"_include=Observation", `"_include"`},
		{"_include=Observation:nonsense", `"_include"`},
		{"_include=Observation:code", `"_include"`},
		{"_include=Observation:subject:Encounter", `"_include"`},
		{"_include=Observation:subject:Nonsense", `"_include"`},
		{"_include=Nonsense:subject", `"_include"`},
		{"_include=Observation:subject:Patient:x", `"_include"`},
		{"_include:all=*", `"_include:all"`},
		{"_revinclude=Provenance:agent:Encounter", `"_revinclude"`},
		{"_summary=text&_include=*", `"_summary"`},
		{"_summary=canary", `"_summary"`},
		{"_elements=a b", `"_elements"`},
		{"_elements=", `"_elements"`},
		{"_containedType=container", `"_containedType"`},
		{"_sort=canary", `"_sort"`},
		{"_sort=_security", `"_sort"`},
		{"_sort=_text", `"_sort"`},
		{"_sort=code-value-concept", `"_sort"`},
		{"_sort=date,-date", `"_sort"`},
		{"_sort=", `"_sort"`},
		{"_sort=date,code,subject,status,category", `"_sort"`},
		{"_contained=both", `"_contained"`},
		{"_type=Patient", `"_type"`},
		{"code:=a", `"code:"`},
		{"code:exact=a", `"code:exact"`},
		{"code:in=a", `"code:in"`},
		{"subject:Encounter=1", `"subject:Encounter"`},
		{"subject:Patient=Group/1", `"subject:Patient"`},
		{"_id=can_ary", `"_id"`},
		{"_id=", `"_id"`},
		{"_id=a,,b", `"_id"`},
		{"_lastUpdated=canary", `"_lastUpdated"`},
		{"_lastUpdated:missing=true", `"_lastUpdated:missing"`},
		{"_count=-1", `"_count"`},
		{"_count=canary", `"_count"`},
		{"_count=", `"_count"`},
		{"_count=" + strings.Repeat("9", 21), `"_count"`},
		{"_count=1&_count=2", `"_count"`},
		{"_count:x=1", `"_count:x"`},
		{"_total=canary", `"_total"`},
		{"date=2024-02-30", `"date"`},
		{"date=xx2024", `"date"`},
		{"date=gt", `"date"`},
		{"date=24", `"date"`},
		{"date=0000", `"date"`},
		{"date=2024-13", `"date"`},
		{"date=2024-01-01T25:00:00Z", `"date"`},
		{"date=2024-01-01T10", `"date"`},
		{"date=2024-01-01T10:00:00Zcanary", `"date"`},
		{"date=2024-01-01T10:00:00.Z", `"date"`},
		{"date=2024-01-01T10:00:00%2B15:00", `"date"`},
		{"code=a||b", `"code"`},
		{"code=|", `"code"`},
		{"code=a|b|c", `"code"`},
		{`code=canary\x`, `"code"`},
		{`code=canary\`, `"code"`},
		{`value-string=canary\x`, `"value-string"`},
		{"value-string=" + quoted(" \u0301 "), `"value-string"`},
		{"value-string=" + strings.Repeat("a", maxSearchText+1), `"value-string"`},
		{"code=%00", `"code"`},
		{"code=%ff", `"code"`},
		{"code=" + strings.Repeat("a", MaxValue+1), `"code"`},
		{"code=" + strings.Repeat("a,", MaxValues) + "a", `"code"`},
		{"code=" + strings.Repeat(strings.Repeat("a", 1000)+",", 17) + "a", `"code"`},
		{"subject=can_ary", `"subject"`},
		{"subject=%23canary", `"subject"`},
		{"subject=Nonsense/1", `"subject"`},
		{"subject=Patient%3Fidentifier=1", `"subject"`},
		{"focus=1", `"focus"`},
		{"_profile=a%20b", `"_profile"`},
		{"<script>canary=1", "with that name"},
		{"John%20canary=1", "with that name"},
		{strings.Repeat("n", 81) + "=canary", "with that name"},
		{"=canary", "with that name"},
	}
	for _, tt := range tests {
		t.Run(tt.query[:min(len(tt.query), 60)], func(t *testing.T) {
			_, _, err := Parse("Observation", values(t, tt.query), Options{})
			var o *outcome.Error
			if !errors.As(err, &o) {
				t.Fatalf("accepted, or no outcome: %v", err)
			}
			if o.Status() != 400 {
				t.Errorf("status %d", o.Status())
			}
			if !strings.Contains(o.Error(), tt.names) {
				t.Errorf("%q does not name the parameter %s", o.Error(), tt.names)
			}
			if strings.Contains(o.Error(), secret) {
				t.Errorf("%q repeats the value", o.Error())
			}
		})
	}
}

func TestParseBoundsTheWhole(t *testing.T) {
	many := neturl.Values{}
	for i := range MaxOccurrences + 1 {
		many.Add("code", strings.Repeat("x", i+1))
	}
	if _, _, err := Parse("Observation", many, Options{}); err == nil {
		t.Error("too many parameters were accepted")
	}
	many["code"] = many["code"][:MaxOccurrences]
	if _, _, err := Parse("Observation", many, Options{}); err != nil {
		t.Error(err)
	}
	wide := neturl.Values{}
	for i := range MaxTotalValues/MaxValues/4 + 1 {
		var ids []string
		for j := range MaxValues {
			ids = append(ids, strings.Repeat("i", i+1)+"-"+strings.Repeat("j", j%16)+strings.Repeat("k", j/16))
		}
		wide.Add("subject", strings.Join(ids, ","))
	}
	if _, _, err := Parse("Observation", wide, Options{}); err == nil {
		t.Error("too many values in all were accepted")
	}
	if _, _, err := Parse("Nonsense", nil, Options{}); err == nil {
		t.Error("a search on no resource type was accepted")
	}
}

func TestParseReportsEveryFault(t *testing.T) {
	_, _, err := Parse("Patient", values(t, "birthdate=x&gender:exact=a&zzz=1&family=ok"), Options{})
	if o := outcome.Of(err); len(o.Issues) != 3 {
		t.Errorf("issues: %v", o.Issues)
	}
}

func TestParseLenient(t *testing.T) {
	q, issues, err := Parse("Patient", values(t, "zzz=canary&family=a"), Options{Lenient: true})
	if err != nil || len(q.Legs[0].Where) != 1 || len(issues) != 1 || !issues[0].Warning || strings.Contains(issues[0].Text, "canary") {
		t.Fatalf("%+v %v %v", q, issues, err)
	}
	if got := q.Self().Encode(); got != "family=a" {
		t.Errorf("self link names what was ignored: %s", got)
	}
	q, issues, err = Parse("Patient", values(t, "general-practitioner.zzz=canary&_has:Observation:patient:zzz=1&family=a"), Options{Lenient: true})
	if err != nil || len(q.Legs[0].Where) != 1 || len(issues) != 2 {
		t.Fatalf("chains to what nobody knows: %+v %v %v", q, issues, err)
	}
	for _, query := range []string{"_has:Condition:encounter:code=a", "family:missing=x", "_security=R", "age=5", "gender.name=a", "birthdate=x", "_filter=zzz%20eq%201"} {
		if _, _, err := Parse("Patient", values(t, query), Options{Lenient: true}); err == nil {
			t.Errorf("lenient let %s pass", query)
		}
	}
}
