package search

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
)

// TestFindsNumbers asks searches of numbers, quantities and composites: each must match or not.
func TestFindsNumbers(t *testing.T) {
	value := func(quantity string) string {
		return `{"resourceType":"Observation","code":{"coding":[{"system":"http://loinc.org","code":"a"},{"system":"urn:x","code":"b"}]},"valueQuantity":` + quantity + `}`
	}
	mg := value(`{"value":5.4,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}`)
	beats := value(`{"value":60,"unit":"beats/minute","system":"http://unitsofmeasure.org","code":"/min"}`)
	tablets := value(`{"value":2,"unit":"Tablets","system":"http://terminology.example/forms","code":"TAB"}`)
	plain := value(`{"value":2,"unit":"spoons"}`)
	below := value(`{"value":5,"comparator":"<","unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}`)
	fever := value(`{"value":98.6,"unit":"F","system":"http://unitsofmeasure.org","code":"[degF]"}`)
	pressure := `{"resourceType":"Observation","code":{"coding":[{"code":"panel"}]},"valueString":"ok","component":[
	  {"code":{"coding":[{"system":"http://loinc.org","code":"8462-4"}]},"valueQuantity":{"value":81,"unit":"mm[Hg]","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},
	  {"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":117,"unit":"mm[Hg]","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},
	  {"code":{"coding":[{"code":"c"}]},"valueCodeableConcept":{"coding":[{"system":"urn:y","code":"yes"}]}},
	  {"code":{"coding":[{"code":"d"}]},"valueCodeableConcept":{"coding":[{"system":"urn:y","code":"no"}]}}]}`
	sampled := `{"resourceType":"Observation","code":{"coding":[{"code":"ecg"}]},"valueSampledData":{"origin":{"value":10,"unit":"mV","system":"http://unitsofmeasure.org","code":"mV"},
	  "period":1,"factor":0.5,"dimensions":1,"lowerLimit":-3,"data":"4 E 6 L 8"}}`
	onset := `{"resourceType":"Condition","onsetAge":{"value":3,"unit":"wk","system":"http://unitsofmeasure.org","code":"wk"}}`
	onsetRange := `{"resourceType":"Condition","onsetRange":{"low":{"value":10,"system":"http://unitsofmeasure.org","code":"a"},"high":{"value":12,"system":"http://unitsofmeasure.org","code":"a"}}}`
	invoice := `{"resourceType":"Invoice","totalNet":{"value":100.50,"currency":"USD"}}`
	risk := `{"resourceType":"RiskAssessment","prediction":[{"probabilityDecimal":0.25},{"probabilityRange":{"low":{"value":0.5},"high":{"value":0.75}}}]}`
	dated := `{"resourceType":"Observation","code":{"coding":[{"code":"lmp"}]},"valueDateTime":"2024-03-05"}`
	context := `{"resourceType":"Measure","useContext":[{"code":{"system":"urn:u","code":"age"},"valueRange":{"low":{"value":18,"code":"a","system":"http://unitsofmeasure.org"}}},
	  {"code":{"code":"focus"},"valueCodeableConcept":{"coding":[{"code":"F32"}]}}]}`
	group := `{"resourceType":"Group","characteristic":[{"code":{"coding":[{"code":"smoker"}]},"valueBoolean":true},{"code":{"coding":[{"code":"gender"}]},"valueCodeableConcept":{"coding":[{"code":"f"}]}}]}`
	relates := `{"resourceType":"DocumentReference","relatesTo":[{"code":"replaces","target":{"reference":"DocumentReference/old"}},{"code":"appends","target":{"reference":"DocumentReference/other"}}]}`
	tests := []struct {
		name, resource, query string
		want                  bool
	}{
		{"as written", mg, "value-quantity=5.4", true},
		{"precision", mg, "value-quantity=5", true},
		{"finer precision", mg, "value-quantity=5.40", true},
		{"other", mg, "value-quantity=5.5", false},
		{"its unit", mg, "value-quantity=5.4|http://unitsofmeasure.org|mg", true},
		{"another unit of the dimension", mg, "value-quantity=5400|http://unitsofmeasure.org|ug", true},
		{"another unit, another number", mg, "value-quantity=5.4|http://unitsofmeasure.org|ug", false},
		{"another dimension", mg, "value-quantity=5.4|http://unitsofmeasure.org|mL", false},
		{"no system", mg, "value-quantity=5.4||mg", true},
		{"no system, another unit", mg, "value-quantity=0.0054||g", true},
		{"another system", mg, "value-quantity=5.4|urn:x|mg", false},
		{"greater", mg, "value-quantity=gt5|http://unitsofmeasure.org|mg", true},
		{"not less", mg, "value-quantity=lt5|http://unitsofmeasure.org|mg", false},
		{"not equal", mg, "value-quantity=ne5.4", false},
		{"about", mg, "value-quantity=ap5||mg", true},
		{"offset", fever, "value-quantity=37.0||Cel", true},
		{"offset, other", fever, "value-quantity=38.0||Cel", false},
		{"unit as people write it", beats, "value-quantity=60||beats/minute", true},
		{"unit by its code", beats, "value-quantity=60||/min", true},
		{"hertz", beats, "value-quantity=1.0||Hz", true},
		{"written unit with a system", beats, "value-quantity=60|http://unitsofmeasure.org|beats/minute", false},
		{"no ucum", tablets, "value-quantity=2|http://terminology.example/forms|TAB", true},
		{"no ucum, no system", tablets, "value-quantity=2||TAB", true},
		{"no ucum, as written", tablets, "value-quantity=2||Tablets", true},
		{"no ucum, another", tablets, "value-quantity=2||CAP", false},
		{"written only", plain, "value-quantity=2||spoons", true},
		{"written only, other", plain, "value-quantity=2||cups", false},
		{"below", below, "value-quantity=lt3", true},
		{"below, upwards", below, "value-quantity=gt5", false},
		{"below is no value", below, "value-quantity=5", false},
		{"at most", strings.Replace(below, `"<"`, `"<="`, 1), "value-quantity=lt3", true},
		{"above", strings.Replace(below, `"<"`, `">"`, 1), "value-quantity=gt1000||mg", true},
		{"at least", strings.Replace(below, `"<"`, `">="`, 1), "value-quantity=lt5", false},
		{"sampled", sampled, "value-quantity=gt13||mV", true},
		{"sampled limits", sampled, "value-quantity=lt0||mV", true},
		{"sampled beyond", sampled, "value-quantity=gt14||mV", false},
		{"sampled is no quantity of the composite", sampled, "code-value-quantity=ecg$gt1", false},
		{"age", onset, "onset-age=21||d", true},
		{"age range", onsetRange, "onset-age=gt11||a", true},
		{"age range, eq is within", onsetRange, "onset-age=11||a", false},
		{"money", invoice, "totalnet=100.5|urn:iso:std:iso:4217|USD", true},
		{"money, no system", invoice, "totalnet=100.5||USD", true},
		{"money, other", invoice, "totalnet=100.5||EUR", false},
		{"number", risk, "probability=0.25", true},
		{"number range", risk, "probability=gt0.7", true},
		{"number beyond", risk, "probability=gt0.8", false},
		{"composite", mg, "code-value-quantity=a$5.4||mg", true},
		{"composite, second coding", mg, "code-value-quantity=b$5.4||mg", true},
		{"composite, system", mg, "code-value-quantity=http://loinc.org|a$5.4||mg", true},
		{"composite, another's system", mg, "code-value-quantity=urn:x|a$5.4||mg", false},
		{"composite, no system", mg, "code-value-quantity=|a$5.4||mg", false},
		{"composite, other value", mg, "code-value-quantity=a$6||mg", false},
		{"composite, other code", mg, "code-value-quantity=c$5.4||mg", false},
		{"component", pressure, "component-code-value-quantity=8480-6$gt110", true},
		{"never across elements", pressure, "component-code-value-quantity=8462-4$gt110", false},
		{"of its own element only", pressure, "code-value-quantity=8480-6$117", false},
		{"combo", pressure, "combo-code-value-quantity=http://loinc.org|8480-6$117||mm[Hg]", true},
		{"combo, across", pressure, "combo-code-value-quantity=8462-4$117", false},
		{"combo value", pressure, "combo-value-quantity=81||mm[Hg]", true},
		{"combo code", pressure, "combo-code=8462-4,zzz", true},
		{"combo code, root", pressure, "combo-code=panel", true},
		{"combo code, other", pressure, "combo-code=8867-4", false},
		{"combo code, not", pressure, "combo-code:not=panel", false},
		{"concept", pressure, "component-code-value-concept=c$yes", true},
		{"concept, system", pressure, "component-code-value-concept=c$urn:y|yes", true},
		{"concept, no system of the code", pressure, "component-code-value-concept=|c$urn:y|yes", true},
		{"concept, across", pressure, "component-code-value-concept=c$no", false},
		{"concept, another's system", pressure, "component-code-value-concept=c$urn:z|yes", false},
		{"concept combo", pressure, "combo-code-value-concept=d$no", true},
		{"string", pressure, "code-value-string=panel$ok", true},
		{"string, other", pressure, "code-value-string=panel$no", false},
		{"string alone", pressure, "value-string=OK", true},
		{"date", dated, "code-value-date=lmp$gt2024-03", false},
		{"date, ge", dated, "code-value-date=lmp$ge2024-03-05", true},
		{"date alone", dated, "value-date=2024-03", true},
		{"date, other code", dated, "code-value-date=x$2024", false},
		{"context", context, "context-type-quantity=age$gt20", true},
		{"context, across", context, "context-type-quantity=focus$gt20", false},
		{"context value", context, "context-type-value=focus$F32", true},
		{"context value, across", context, "context-type-value=age$F32", false},
		{"boolean part", group, "characteristic-value=smoker$true", true},
		{"boolean part, across", group, "characteristic-value=gender$true", false},
		{"reference part", relates, "relationship=replaces$DocumentReference/old", true},
		{"reference part, system", relates, "relationship=http://hl7.org/fhir/document-relationship-type|replaces$DocumentReference/old", true},
		{"reference part, across", relates, "relationship=replaces$DocumentReference/other", false},
		{"identifier of a reference", `{"resourceType":"Observation","subject":{"identifier":{"system":"urn:mrn","value":"7"}}}`, "subject:identifier=urn:mrn|7", true},
		{"identifier of a reference, no system", `{"resourceType":"Observation","subject":{"identifier":{"system":"urn:mrn","value":"7"}}}`, "subject:identifier=7", true},
		{"identifier of a reference, other", `{"resourceType":"Observation","subject":{"identifier":{"system":"urn:mrn","value":"7"}}}`, "subject:identifier=urn:ssn|7", false},
		{"identifier of another reference", `{"resourceType":"Observation","subject":{"identifier":{"value":"7"}}}`, "encounter:identifier=7", false},
		{"of type", `{"resourceType":"Patient","identifier":[{"type":{"coding":[{"system":"urn:t","code":"MR"}]},"value":"7"},{"type":{"coding":[{"system":"urn:t","code":"SS"}]},"value":"8"}]}`, "identifier:of-type=urn:t|MR|7", true},
		{"of another type", `{"resourceType":"Patient","identifier":[{"type":{"coding":[{"system":"urn:t","code":"MR"}]},"value":"7"},{"type":{"coding":[{"system":"urn:t","code":"SS"}]},"value":"8"}]}`, "identifier:of-type=urn:t|MR|8", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := read(t, tt.resource)
			name, value, _ := strings.Cut(tt.query, "=")
			q, issues, err := Parse(typeOf(n), map[string][]string{name: {value}}, Options{})
			if err != nil || len(issues) > 0 {
				t.Fatalf("Parse: %v, %v", err, issues)
			}
			x := Extract(typeOf(n), n)
			checkShape(t, x)
			if got := matches(q, x); got != tt.want {
				t.Errorf("%s: found = %v, want %v in %+v", tt.query, got, tt.want, x.Quantities)
			}
		})
	}
}

// TestRows keeps the index small: a value is one row, whatever composites it is part of.
func TestRows(t *testing.T) {
	key, system := elementKeys("code-value-quantity", "http://loinc.org", "2339-0")
	x := Extract("Observation", read(t, lab))
	unit := hash(kindUnit, "http://unitsofmeasure.org", "g.m-3")
	want := []QuantityEntry{{Param: "value-quantity", Key: key, KeySystem: system, Lo: 81.12, Hi: 81.12, Unit: unit, UnitLo: 811.2, UnitHi: 811.2}}
	if diff := cmp.Diff(want, x.Quantities); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(x.Dates)+len(x.Strings) > 0 {
		t.Errorf("%v %v: no rows are needed", x.Dates, x.Strings)
	}
	if y := Extract("Observation", read(t, vital)); len(y.Quantities) != 2 {
		t.Errorf("two values make %d rows", len(y.Quantities))
	}
	// status 4, category, code, _profile and value 3 each
	if len(x.Tokens) > 16 {
		t.Errorf("%d tokens", len(x.Tokens))
	}
	mixed := Extract("Observation", read(t, `{"resourceType":"Observation","code":{"coding":[{"code":"a"}]},"valueQuantity":{"value":1},
	  "extension":[{"url":"http://hl7.org/fhir/StructureDefinition/observation-geneticsDnaVariant","valueString":"c.1521"}]}`))
	if len(mixed.Strings) != 2 || mixed.Strings[0].Key != 0 || mixed.Strings[0].KeySystem != 0 || mixed.Quantities[0].Key == 0 {
		t.Errorf("the keys of an element are on what is no part of it: %v", mixed.Strings)
	}
	bare := Extract("Observation", read(t, `{"resourceType":"Observation","valueQuantity":{"value":1}}`))
	if diff := cmp.Diff([]QuantityEntry{{Param: "value-quantity", Lo: 1, Hi: 1, UnitLo: 1, UnitHi: 1}}, bare.Quantities); diff != "" {
		t.Errorf("a value without a code (-want +got):\n%s", diff)
	}
}

func TestNumbersOutOfShape(t *testing.T) {
	for _, quantity := range []string{
		`{}`, `{"value":"5"}`, `{"value":1e999}`, `{"value":null}`, `{"unit":"mg"}`, `[]`, `"5"`,
		`{"value":1e300,"system":"http://unitsofmeasure.org","code":"Ym9"}`, `{"value":1,"system":"http://unitsofmeasure.org","code":"` + strings.Repeat("(", 200) + `"}`,
	} {
		for _, name := range []string{"valueQuantity", "valueSampledData"} {
			checkShape(t, Extract("Observation", read(t, `{"resourceType":"Observation","`+name+`":`+quantity+`}`)))
		}
	}
	for _, r := range []string{
		`{}`, `{"low":{},"high":{}}`, `{"low":{"value":5},"high":{"value":4}}`, `{"low":{"value":5,"code":"a"},"high":{"value":6,"code":"d"}}`,
		`{"low":{"value":"x"},"high":{"value":6}}`,
	} {
		if x := Extract("Condition", read(t, `{"resourceType":"Condition","onsetRange":`+r+`}`)); len(x.Quantities) > 0 {
			t.Errorf("%s has a place among numbers: %v", r, x.Quantities)
		}
	}
	for _, d := range []string{`"E E"`, `""`, `"x"`, `"U"`} {
		if x := Extract("Observation", read(t, `{"resourceType":"Observation","valueSampledData":{"origin":{"value":1},"data":`+d+`}}`)); len(x.Quantities) > 0 {
			t.Errorf("%s has a place among numbers: %v", d, x.Quantities)
		}
	}
	open := Extract("Condition", read(t, `{"resourceType":"Condition","onsetRange":{"low":{"value":5,"system":"http://unitsofmeasure.org","code":"a"}}}`))
	if len(open.Quantities) != 1 || open.Quantities[0].Lo != 5 || !math.IsInf(open.Quantities[0].UnitHi, 1) || open.Quantities[0].UnitLo != 5*31557600 {
		t.Errorf("an open range is %v", open.Quantities)
	}
}

// TestQuantityIsFoundInEveryUnit: whatever unit of a dimension a quantity is
// stored in, a search in any other finds it by the same amount.
func TestQuantityIsFoundInEveryUnit(t *testing.T) {
	families := [][]string{{"mg", "g", "kg", "ug", "[lb_av]", "[oz_av]"}, {"mg/dL", "g/L", "kg/m3", "ug/mL"}, {"s", "min", "h", "d", "wk", "mo", "a"}, {"Cel", "K", "[degF]"}, {"/min", "Hz", "/h"}}
	rapid.Check(t, func(rt *rapid.T) {
		family := rapid.SampledFrom(families).Draw(rt, "family")
		a, b := rapid.SampledFrom(family).Draw(rt, "a"), rapid.SampledFrom(family).Draw(rt, "b")
		number := rapid.StringMatching(`[1-9][0-9]{0,5}(\.[0-9]{1,3})?`).Draw(rt, "number")
		x := Extract("Observation", element.NewObject(element.Field{Name: "valueQuantity", Value: element.NewObject(
			element.Field{Name: "value", Value: &element.Node{Kind: element.Number, Text: number}},
			element.Field{Name: "system", Value: element.NewString("http://unitsofmeasure.org")}, element.Field{Name: "code", Value: element.NewString(a)},
		)}))
		found := func(number, unit string) bool {
			q, _, err := Parse("Observation", map[string][]string{"value-quantity": {number + "|http://unitsofmeasure.org|" + unit}}, Options{})
			if err != nil {
				rt.Fatal(err)
			}
			return matches(q, x)
		}
		if !found(number, a) || !found("ge"+number, a) || !found("le"+number, a) || found("gt"+number, a) || found("lt"+number, a) {
			rt.Fatalf("%s %s is not found as it is", number, a)
		}
		if a != b && a != "K" && b != "K" && a != "Cel" && b != "Cel" && found("ne"+number, b) == found(number, b) {
			rt.Fatalf("%s %s is equal and not equal to %s %s", number, a, number, b)
		}
	})
}

// TestClinicalDatesAreSingle proves by the cardinalities of R4 that a resource
// has at most one value of its type's clinical date.
func TestClinicalDatesAreSingle(t *testing.T) {
	count := 0
	for _, rt := range fhir.ResourceTypes() {
		code, ok := ClinicalDate(rt)
		if !ok {
			continue
		}
		count++
		p, known := Lookup(rt, code)
		if !known || p.Type != Date || !p.Searchable() {
			t.Fatalf("%s.%s is no date parameter", rt, code)
		}
		stem := ""
		for _, x := range p.paths {
			at := string(rt)
			var names []string
			for i, s := range x.steps {
				// A choice is asked for by the name that its types share.
				name, typ := s.name, ""
				types, list, ok := fhirpath.ElementType(at, name)
				if !ok {
					name, typ = choice(at, s.name)
					types, list, ok = fhirpath.ElementType(at, name)
				}
				if !ok || list || s.filtered() || len(types) == 0 {
					t.Errorf("%s.%s: %s can stand there several times", rt, code, s.name)
				}
				names = append(names, name)
				if typ == "" && len(types) > 0 {
					typ = types[0]
				}
				at = typ
				if i == len(x.steps)-1 && leaves[typ] != x.leaf {
					t.Errorf("%s.%s: %s is a %s", rt, code, s.name, typ)
				}
			}
			// All paths are types of one element, of which one can be there.
			if whole := strings.Join(names, "."); stem == "" {
				stem = whole
			} else if stem != whole {
				t.Errorf("%s.%s is %s and %s", rt, code, stem, whole)
			}
		}
	}
	for rt, want := range map[fhir.ResourceType]string{
		"Observation": "date", "Condition": "onset-date", "MedicationRequest": "authoredon", "Encounter": "date", "Procedure": "date", "Immunization": "date",
		"DiagnosticReport": "date", "DocumentReference": "date", "ServiceRequest": "authored", "Patient": "birthdate", "QuestionnaireResponse": "authored",
		"CarePlan": "date", "AllergyIntolerance": "date", "Claim": "created", "ExplanationOfBenefit": "created", "Goal": "start-date", "Provenance": "recorded",
		"AuditEvent": "date", "Consent": "date", "Task": "authored-on", "Appointment": "date", "Communication": "sent", "MedicationAdministration": "effective-time",
	} {
		if code, _ := ClinicalDate(rt); code != want {
			t.Errorf("%s: %q, want %s", rt, code, want)
		}
	}
	for _, rt := range []fhir.ResourceType{"Organization", "Practitioner", "Location", "Binary", "Nonsense"} {
		if code, ok := ClinicalDate(rt); ok {
			t.Errorf("%s has the clinical date %s", rt, code)
		}
	}
	if count < 80 {
		t.Errorf("only %d types have a clinical date", count)
	}
}

// choice splits the JSON name of a choice into its element and type.
func choice(owner, json string) (name, typ string) {
	for i := len(json) - 1; i > 0; i-- {
		types, _, _ := fhirpath.ElementType(owner, json[:i])
		for _, t := range types {
			if slot, ok := fhirpath.SlotFor(owner, json[:i], t); ok && slot.JSON == json {
				return json[:i], t
			}
		}
	}
	return json, ""
}

// TestUnionsAreWhatTheySay: a union selects exactly what its members do.
func TestUnionsAreWhatTheySay(t *testing.T) {
	count := 0
	for _, rt := range fhir.ResourceTypes() {
		for _, p := range Params(rt) {
			if len(p.UnionOf) == 0 {
				continue
			}
			count++
			var all []string
			for _, code := range p.UnionOf {
				m, ok := Lookup(rt, code)
				if !ok || !m.Searchable() || m.Type != p.Type || len(m.UnionOf) > 0 {
					t.Fatalf("%s.%s: %s is no member", rt, p.Code, code)
				}
				all = append(all, m.Paths()...)
			}
			slices.Sort(all)
			if !slices.Equal(all, p.Paths()) {
				t.Errorf("%s.%s: %v is not %v", rt, p.Code, all, p.Paths())
			}
		}
	}
	if count != 6 {
		t.Errorf("%d unions, R4 has 6", count)
	}
}

// TestPaths spells one of each shape.
func TestPaths(t *testing.T) {
	for _, tt := range []struct {
		t                        fhir.ResourceType
		code, paths, texts, sort string
	}{
		{"Observation", "code", "$.code[*]", "$.code.coding[*].display[*] $.code.text[*]", "$.code.coding[*].code[*]"},
		{"Observation", "status", "$.status[*]", "", "$.status[*]"},
		{"Observation", "component-code", "$.component.code[*]", "$.component.code.coding[*].display[*] $.component.code.text[*]", "$.component.code.coding[*].code[*]"},
		{"Observation", "date", "$.effectiveDateTime[*] $.effectiveInstant[*] $.effectivePeriod[*] $.effectiveTiming[*]", "", ""},
		{"Observation", "value-string", "$.valueCodeableConcept.text[*] $.valueString[*]", "$.valueCodeableConcept.text[*] $.valueString[*]", "$.valueCodeableConcept.text[*] $.valueString[*]"},
		{"Observation", "code-value-quantity", "$?((exists(@.code)) && (exists(@.valueQuantity)))", "", ""},
		{"Observation", "combo-code-value-concept", "$.component[*]?((exists(@.code)) && (exists(@.valueCodeableConcept))) $?((exists(@.code)) && (exists(@.valueCodeableConcept)))", "", ""},
		{"Patient", "given", "$.name.given[*]", "$.name.given[*]", "$.name.given[*]"},
		{"Patient", "identifier", "$.identifier[*]", "$.identifier.type.text[*]", "$.identifier.value[*]"},
		{"Patient", "email", `$.telecom[*]?(@.system == "email")`, "", `$.telecom[*]?(@.system == "email").value[*]`},
		{"Patient", "deceased", "$", "", "$.deceasedBoolean[*] $.deceasedDateTime[*]"},
		{"Patient", "organization", "$.managingOrganization[*]", "$.managingOrganization.display[*]", "$.managingOrganization.reference[*]"},
		{"Bundle", "message", "$.entry[0].resource[*]", "", "$.entry[0].resource.id[*]"},
		{"Questionnaire", "url", "$.url[*]", "", "$.url[*]"},
		{"Patient", "_id", "", "", ""},
		{"Patient", "_text", "", "", ""},
	} {
		p, ok := Lookup(tt.t, tt.code)
		if !ok {
			t.Fatalf("%s.%s is not known", tt.t, tt.code)
		}
		got := [3]string{strings.Join(p.Paths(), " "), strings.Join(p.TextPaths(), " "), strings.Join(p.SortPaths(), " ")}
		if want := [3]string{tt.paths, tt.texts, tt.sort}; got != want {
			t.Errorf("%s.%s:\n%q, want\n%q", tt.t, tt.code, got, want)
		}
	}
	p, _ := Lookup("Appointment", "patient")
	pattern := regexp.MustCompile(`^\$\.participant\.actor\[\*\]\?\(@\.reference like_regex "(.*?)" \|\| @\.type == "Patient" && .*\)$`)
	m := pattern.FindStringSubmatch(p.Paths()[0])
	if m == nil {
		t.Fatalf("%v", p.Paths())
	}
	for literal, want := range map[string]bool{
		"Patient/1": true, "http://x/fhir/Patient/1/_history/2": true, "Practitioner/1": false, "XPatient/1": false, "Patient/a_b": false, "urn:uuid:Patient": false,
	} {
		if got := regexp.MustCompile(m[1]).MatchString(literal); got != want {
			t.Errorf("%s: %v", literal, got)
		}
	}
}

// TestEveryParameterHasPaths: what can be searched can be asked for by :missing.
func TestEveryParameterHasPaths(t *testing.T) {
	for _, rt := range fhir.ResourceTypes() {
		for _, p := range Params(rt) {
			if p.Searchable() && len(p.Paths()) == 0 && !slices.Contains(common, p) {
				t.Errorf("%s.%s has no paths", rt, p.Code)
			}
		}
	}
}
