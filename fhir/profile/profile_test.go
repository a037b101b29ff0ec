package profile_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/profile"
)

const at = "https://example.org/"

// define adds a profile of a type to w: elements are "id | JSON members"; what is left out of a member is open.
func (w *world) define(t testing.TB, name, typ string, elements ...string) {
	t.Helper()
	var list []string
	if len(elements) == 0 || !strings.HasPrefix(elements[0], typ+" ") {
		elements = append([]string{typ + " |"}, elements...)
	}
	for _, e := range elements {
		id, members, _ := strings.Cut(e, "|")
		id, members = strings.TrimSpace(id), strings.TrimSpace(members)
		x := `{"id":"` + id + `","path":"` + id + `"`
		if !strings.Contains(members, `"min"`) {
			x += `,"min":0`
		}
		if !strings.Contains(members, `"max"`) {
			x += `,"max":"*"`
		}
		if members != "" {
			x += "," + members
		}
		list = append(list, x+"}")
	}
	w.add(t, []byte(`{"resourceType":"StructureDefinition","url":"`+at+name+`","fhirVersion":"4.0.1","type":"`+typ+`","snapshot":{"element":[`+strings.Join(list, ",")+`]}}`))
}

func (w *world) valueSet(t testing.TB, name, system string, codes ...string) {
	t.Helper()
	w.add(t, []byte(`{"resourceType":"ValueSet","url":"`+at+name+`","compose":{"include":[{"system":"`+system+`","concept":[{"code":"`+strings.Join(codes, `"},{"code":"`)+`"}]}]}}`))
}

// smallWorld has one profile for each thing that a profile can say.
func smallWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld()
	w.valueSet(t, "colours", "urn:c", "red", "green")
	w.define(t, "cardinality", "Patient", `Patient.name | "min":1`, `Patient.name.family | "min":1,"max":"1"`, `Patient.photo | "max":"0"`, `Patient.identifier | "max":"2"`)
	w.define(t, "fixed", "Observation", `Observation.status | "fixedCode":"final"`,
		`Observation.code | "patternCodeableConcept":{"coding":[{"system":"urn:s","code":"a"}]}`, `Observation.valueQuantity |`)
	w.define(t, "fixed-complex", "Observation", `Observation.code | "fixedCodeableConcept":{"coding":[{"system":"urn:s","code":"a"}]}`)
	w.define(t, "types", "Observation", `Observation.value[x] | "type":[{"code":"Quantity"},{"code":"string"}]`, `Observation.value[x].unit | "min":0`)
	w.define(t, "bindings", "Observation",
		`Observation.code | "binding":{"strength":"required","valueSet":"`+at+`colours"}`,
		`Observation.category | "binding":{"strength":"extensible","valueSet":"`+at+`colours"}`,
		`Observation.method | "binding":{"strength":"preferred","valueSet":"`+at+`colours"}`,
		`Observation.bodySite | "binding":{"strength":"required","valueSet":"`+at+`unheard-of"}`)
	w.define(t, "rules", "Observation",
		`Observation | "constraint":[{"key":"x-1","severity":"error","human":"a value is needed","expression":"value.exists()"},{"key":"x-2","severity":"warning","human":"a note is nice","expression":"note.exists()"}]`,
		`Observation.component | "constraint":[{"key":"x-3","severity":"error","human":"only of the same status","expression":"%resource.status = 'final'"}]`)
	w.define(t, "by-value", "Patient", `Patient.identifier | "slicing":{"discriminator":[{"type":"value","path":"system"}],"rules":"open"}`,
		`Patient.identifier:mrn | "min":1,"max":"1"`, `Patient.identifier:mrn.system | "min":1,"fixedUri":"urn:mrn"`, `Patient.identifier:mrn.value | "min":1`)
	w.define(t, "closed", "Patient", `Patient.identifier | "slicing":{"discriminator":[{"type":"value","path":"system"}],"rules":"closed"}`,
		`Patient.identifier:mrn |`, `Patient.identifier:mrn.system | "fixedUri":"urn:mrn"`)
	w.define(t, "ordered", "Patient", `Patient.identifier | "slicing":{"discriminator":[{"type":"value","path":"system"}],"rules":"openAtEnd","ordered":true}`,
		`Patient.identifier:a |`, `Patient.identifier:a.system | "fixedUri":"urn:a"`, `Patient.identifier:b |`, `Patient.identifier:b.system | "fixedUri":"urn:b"`)
	w.define(t, "by-pattern", "Observation", `Observation.component | "slicing":{"discriminator":[{"type":"pattern","path":"code"}],"rules":"open"}`,
		`Observation.component:one | "min":1,"max":"1"`, `Observation.component:one.code | "patternCodeableConcept":{"coding":[{"system":"urn:s","code":"one"}]}`,
		`Observation.component:one.value[x] | "min":1,"type":[{"code":"Quantity"}]`)
	w.define(t, "by-inner-pattern", "Observation", `Observation.category | "slicing":{"discriminator":[{"type":"value","path":"coding.code"},{"type":"value","path":"coding.system"}],"rules":"open"}`,
		`Observation.category:lab | "min":1,"patternCodeableConcept":{"coding":[{"system":"urn:cat","code":"lab"}]}`)
	w.define(t, "by-binding", "Observation", `Observation.category | "slicing":{"discriminator":[{"type":"value","path":"$this"}],"rules":"open"}`,
		`Observation.category:colour | "min":1,"binding":{"strength":"required","valueSet":"`+at+`colours"}`)
	w.define(t, "by-exists", "Patient", `Patient.name | "slicing":{"discriminator":[{"type":"exists","path":"period"}],"rules":"open"}`,
		`Patient.name:old | "max":"1"`, `Patient.name:old.period | "min":1`, `Patient.name:present | "min":1`, `Patient.name:present.period | "max":"0"`)
	w.define(t, "by-type", "Observation", `Observation.value[x] | "slicing":{"discriminator":[{"type":"type","path":"$this"}],"rules":"open"}`,
		`Observation.value[x]:valueQuantity | "type":[{"code":"Quantity"}]`, `Observation.value[x]:valueQuantity.unit | "min":1`)
	w.define(t, "by-target", "CareTeam", `CareTeam.participant | "slicing":{"discriminator":[{"type":"type","path":"member.resolve()"}],"rules":"open"}`,
		`CareTeam.participant:person | "max":"1"`, `CareTeam.participant:person.member | "type":[{"code":"Reference","targetProfile":["http://hl7.org/fhir/StructureDefinition/Practitioner"]}]`)
	w.define(t, "us-name", "HumanName", `HumanName.family | "min":1`)
	w.define(t, "by-profile", "Patient", `Patient.name | "slicing":{"discriminator":[{"type":"profile","path":"$this"}],"rules":"open"}`,
		`Patient.name:us | "min":1,"type":[{"code":"HumanName","profile":["`+at+`us-name"]}]`)
	w.define(t, "typed", "Patient", `Patient.name | "type":[{"code":"HumanName","profile":["`+at+`us-name"]}]`)
	w.define(t, "shade", "Extension", `Extension.extension | "max":"0"`, `Extension.url | "fixedUri":"`+at+`shade"`, `Extension.value[x] | "min":1,"type":[{"code":"code"}],"binding":{"strength":"required","valueSet":"`+at+`colours"}`)
	w.define(t, "extended", "Patient", `Patient.extension | "slicing":{"discriminator":[{"type":"value","path":"url"}],"rules":"open"}`,
		`Patient.extension:shade | "min":1,"max":"1","type":[{"code":"Extension","profile":["`+at+`shade"]}]`)
	w.define(t, "primitive-extended", "Patient", `Patient.birthDate |`, `Patient.birthDate.extension | "slicing":{"discriminator":[{"type":"value","path":"url"}],"rules":"open"}`,
		`Patient.birthDate.extension:shade | "min":1,"type":[{"code":"Extension","profile":["`+at+`shade"]}]`)
	w.define(t, "targets", "Observation", `Observation.subject | "type":[{"code":"Reference","targetProfile":["http://hl7.org/fhir/StructureDefinition/Patient","`+at+`cardinality"]}]`)
	w.define(t, "nested", "Questionnaire", `Questionnaire.item | "min":0`, `Questionnaire.item.text | "min":1`, `Questionnaire.item.item | "contentReference":"#Questionnaire.item"`)
	w.define(t, "bundle", "Bundle", `Bundle.entry |`, `Bundle.entry.resource | "type":[{"code":"Patient","profile":["`+at+`cardinality"]}]`)
	w.define(t, "itself", "Patient", `Patient | "type":[{"code":"Patient","profile":["`+at+`itself"]}]`, `Patient.name | "min":1`)
	w.define(t, "reslicing", "Patient", `Patient.identifier | "slicing":{"discriminator":[{"type":"value","path":"system"}],"rules":"open"}`,
		`Patient.identifier:a |`, `Patient.identifier:a.system | "fixedUri":"urn:a"`, `Patient.identifier:a/b |`, `Patient.identifier:a/b.system | "fixedUri":"urn:b"`)
	w.add(t, []byte(`{"resourceType":"StructureDefinition","url":"`+at+`differential","type":"Patient","differential":{"element":[{"id":"Patient","path":"Patient"}]}}`))
	w.add(t, []byte(`{"resourceType":"StructureDefinition","url":"`+at+`r5","fhirVersion":"5.0.0","type":"Patient","snapshot":{"element":[{"id":"Patient","path":"Patient"}]}}`))
	return w
}

func TestProfiles(t *testing.T) {
	v := profile.New(smallWorld(t), smallWorld(t), clock)
	observation := func(more string) string {
		if !strings.Contains(more, `"code":`) || strings.HasPrefix(more, `"component`) || strings.HasPrefix(more, `"value`) || strings.HasPrefix(more, `"category`) || strings.HasPrefix(more, `"subject`) {
			more += `,"code":{"text":"t"}`
		}
		return `{"resourceType":"Observation","status":"final",` + more + `}`
	}
	patient := func(more string) string { return `{"resourceType":"Patient","active":true,` + more + `}` }
	for _, c := range []struct {
		profile, resource string
		want              []string // "path: text" of each issue, warnings with a ? before them
	}{
		{"cardinality", patient(`"name":[{"family":"x"}]`), nil},
		{"cardinality", patient(`"gender":"male"`), []string{"Patient.name: required"}},
		{"cardinality", patient(`"name":[{"family":"x"},{"text":"y"}],"photo":[{"title":"t"}],"identifier":[{"value":"1"},{"value":"2"},{"value":"3"}]`),
			[]string{"Patient.name[1].family: required", "Patient.photo: not allowed", "Patient.identifier: more than 2 times"}},
		{"cardinality", observation(`"code":{"text":"t"}`), []string{"Observation: another type"}},
		{"fixed", observation(`"code":{"coding":[{"system":"urn:t","code":"b"},{"system":"urn:s","code":"a","display":"A"}]}`), nil},
		{"fixed", `{"resourceType":"Observation","status":"amended","code":{"coding":[{"system":"urn:s","code":"b"}]}}`, []string{"Observation.status: fixes", "Observation.code: pattern"}},
		{"fixed-complex", observation(`"code":{"coding":[{"system":"urn:s","code":"a"}]}`), nil},
		{"fixed-complex", observation(`"code":{"coding":[{"system":"urn:s","code":"a","display":"A"}]}`), []string{"Observation.code: fixes"}},
		{"types", observation(`"valueString":"x"`), nil},
		{"types", observation(`"valueInteger":1`), []string{"Observation.value: type is not allowed"}},
		{"bindings", observation(`"code":{"coding":[{"system":"urn:c","code":"blue"},{"system":"urn:c","code":"red"}]}`), nil},
		{"bindings", observation(`"code":{"coding":[{"system":"urn:c","code":"blue"}]}`), []string{"Observation.code: value set"}},
		{"bindings", observation(`"code":{"text":"red"}`), []string{"Observation.code: value set"}},
		{"bindings", observation(`"code":{"coding":[{"system":"urn:c","code":"red"}]},"category":[{"text":"any"},{"coding":[{"system":"urn:c","code":"blue"}]}],"method":{"coding":[{"code":"x"}]},"bodySite":{"coding":[{"code":"x"}]}`),
			[]string{"?Observation.category[1]: value set", "?Observation.bodySite: not known"}},
		{"rules", observation(`"valueString":"x","note":[{"text":"n"}]`), nil},
		{"rules", `{"resourceType":"Observation","status":"amended","code":{"text":"x"},"component":[{"code":{"text":"y"},"valueString":"z"}]}`,
			[]string{"Observation: x-1", "?Observation: x-2", "Observation.component[0]: x-3"}},
		{"by-value", patient(`"identifier":[{"value":"0"},{"system":"urn:mrn","value":"1"}]`), nil},
		{"by-value", patient(`"identifier":[{"system":"urn:other","value":"1"}]`), []string{"Patient.identifier: slice mrn is required"}},
		{"by-value", patient(`"identifier":[{"system":"urn:mrn","value":"1"},{"system":"urn:mrn"}]`), []string{"Patient.identifier[1].value: required", "Patient.identifier: slice mrn is there more than once"}},
		{"closed", patient(`"identifier":[{"system":"urn:mrn"},{"system":"urn:other"}]`), []string{"Patient.identifier[1]: none of the slices"}},
		{"ordered", patient(`"identifier":[{"system":"urn:a"},{"system":"urn:b"},{"system":"urn:c"}]`), nil},
		{"ordered", patient(`"identifier":[{"system":"urn:b"},{"system":"urn:a"}]`), []string{"Patient.identifier[1]: does not stand where"}},
		{"ordered", patient(`"identifier":[{"system":"urn:c"},{"system":"urn:b"}]`), []string{"Patient.identifier[1]: does not stand where"}},
		{"by-pattern", observation(`"component":[{"code":{"coding":[{"system":"urn:s","code":"one","display":"x"}]},"valueQuantity":{"value":1}},{"code":{"text":"two"},"valueString":"x"}]`), nil},
		{"by-pattern", observation(`"component":[{"code":{"coding":[{"system":"urn:s","code":"one"}]},"valueString":"x"}]`), []string{"Observation.component[0].value: type is not allowed"}},
		{"by-pattern", observation(`"component":[{"code":{"coding":[{"system":"urn:s","code":"one"}]},"dataAbsentReason":{"text":"x"}}]`), []string{"Observation.component[0].value: required"}},
		{"by-inner-pattern", observation(`"category":[{"coding":[{"system":"urn:x","code":"x"},{"system":"urn:cat","code":"lab"}]}]`), nil},
		{"by-inner-pattern", observation(`"category":[{"coding":[{"system":"urn:x","code":"lab"}]}]`), []string{"Observation.category: slice lab"}},
		{"by-binding", observation(`"category":[{"coding":[{"system":"urn:c","code":"red"}]}]`), nil},
		{"by-binding", observation(`"category":[{"coding":[{"system":"urn:c","code":"blue"}]}]`), []string{"Observation.category: slice colour"}},
		{"by-exists", patient(`"name":[{"text":"a"},{"text":"b","period":{"start":"2020"}}]`), nil},
		{"by-exists", patient(`"name":[{"text":"a","period":{"start":"2020"}},{"text":"b","period":{"start":"2020"}}]`), []string{"Patient.name: slice old is there more than once", "Patient.name: slice present is required"}},
		{"by-type", observation(`"valueString":"x"`), nil},
		{"by-type", observation(`"valueQuantity":{"value":1}`), []string{"Observation.value.unit: required"}},
		{"by-target", `{"resourceType":"CareTeam","participant":[{"member":{"reference":"Practitioner/1"}},{"member":{"reference":"Patient/1"}}]}`, nil},
		{"by-target", `{"resourceType":"CareTeam","participant":[{"member":{"reference":"Practitioner/1"}},{"member":{"reference":"Practitioner/2"}}]}`, []string{"CareTeam.participant: slice person is there more than once"}},
		{"by-profile", patient(`"name":[{"text":"a"},{"family":"b"}]`), nil},
		{"by-profile", patient(`"name":[{"text":"a"}]`), []string{"Patient.name: slice us is required"}},
		{"typed", patient(`"name":[{"family":"b"},{"text":"a"}]`), []string{"Patient.name[1].family: required"}},
		{"extended", patient(`"extension":[{"url":"https://example.org/other","valueCode":"x"},{"url":"https://example.org/shade","valueCode":"red"}]`), nil},
		{"extended", patient(`"extension":[{"url":"https://example.org/other","valueCode":"x"}]`), []string{"Patient.extension: slice shade is required"}},
		{"extended", patient(`"extension":[{"url":"https://example.org/shade","valueString":"red"}]`), []string{"Patient.extension[0].value: type is not allowed"}},
		{"typed", patient(`"extension":[{"url":"https://example.org/shade","valueCode":"blue"}]`), []string{"Patient.extension[0].value: value set"}},
		{"primitive-extended", patient(`"birthDate":"2000-01-01","_birthDate":{"extension":[{"url":"https://example.org/shade","valueCode":"red"}]}`), nil},
		{"primitive-extended", patient(`"birthDate":"2000-01-01"`), []string{"Patient.birthDate.extension: slice shade is required"}},
		{"targets", observation(`"subject":{"reference":"Patient/1"}`), nil},
		{"targets", observation(`"subject":{"reference":"urn:uuid:7e8c1b7e-7d7c-4ba4-9f6c-6fd6b4fd4c5f"}`), nil},
		{"targets", observation(`"subject":{"display":"somebody"}`), nil},
		{"targets", observation(`"subject":{"reference":"Group/1"}`), []string{"Observation.subject.reference: cannot be referred to"}},
		{"targets", observation(`"subject":{"reference":"#g"},"contained":[{"resourceType":"Group","id":"g","type":"person","actual":true}]`), []string{"Observation.subject.reference: cannot be referred to"}},
		{"nested", `{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","text":"t","type":"group","item":[{"linkId":"2","type":"group","item":[{"linkId":"3","type":"string"}]}]}]}`,
			[]string{"Questionnaire.item[0].item[0].text: required", "Questionnaire.item[0].item[0].item[0].text: required"}},
		{"bundle", `{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","active":true}}]}`, []string{"Bundle.entry[0].resource.name: required"}},
		{"bundle", `{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Person","active":true}}]}`, []string{"Bundle.entry[0].resource: type is not allowed"}},
		{"itself", patient(`"gender":"male"`), []string{"Patient.name: required"}},
		{"reslicing", patient(`"gender":"male"`), []string{"?Patient: slices of slices"}},
		{"differential", patient(`"gender":"male"`), []string{"?Patient: no snapshot"}},
		{"r5", patient(`"gender":"male"`), []string{"?Patient: another version"}},
		{"none", patient(`"gender":"male"`), []string{"?Patient: not installed"}},
	} {
		t.Run(c.profile, func(t *testing.T) {
			issues := validate(t, v, c.resource, profile.Options{Profiles: []string{at + c.profile}})
			compare(t, issues, c.want)
		})
	}
}

func validate(t testing.TB, v *profile.Validator, body string, o profile.Options) []outcome.Issue {
	t.Helper()
	r, err := codec.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	issues, err := v.Validate(context.Background(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	if after := string(r.Root.AppendJSON(nil)); after != body && !strings.Contains(body, "\n") {
		t.Errorf("the resource changed: %s", after)
	}
	return issues
}

func compare(t testing.TB, issues []outcome.Issue, want []string) {
	t.Helper()
	var got []string
	for _, i := range issues {
		s := i.Path + ": " + i.Text
		if i.Warning {
			s = "?" + s
		}
		got = append(got, s)
	}
	for _, w := range want {
		path, text, _ := strings.Cut(w, ": ")
		i := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, path+": ") && strings.Contains(s, text) })
		if i < 0 {
			t.Errorf("no %q", w)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	for _, s := range got {
		t.Errorf("too much: %q", s)
	}
}

// The invariants of R4 hold without any definition, wherever in a resource.
func TestInvariantsOfR4(t *testing.T) {
	v := profile.New(profile.Nothing{}, profile.Nothing{}, clock)
	for _, c := range []struct {
		body string
		want []string
	}{
		{`{"resourceType":"Patient","contact":[{"gender":"male"}]}`, []string{"Patient.contact[0]: pat-1"}},
		{`{"resourceType":"Patient","name":[{"period":{"start":"2020-02","end":"2019"}}]}`, []string{"Patient.name[0].period: per-1"}},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1,"code":"kg"}}`, []string{"Observation.value: qty-3"}},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueAge":{"value":1}}`, nil},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueString":"v","dataAbsentReason":{"text":"x"}}`, []string{"Observation: obs-6"}},
		{`{"resourceType":"Observation","status":"final","code":{"text":"x"},"contained":[{"resourceType":"Patient","id":"p","contact":[{"gender":"male"}]}],"subject":{"reference":"#p"}}`, []string{"Observation.contained[0].contact[0]: pat-1"}},
		{`{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","telecom":[{"value":"1"}]}},{"link":[{"relation":"self","url":"urn:x"}]}]}`,
			[]string{"Bundle.entry[0].resource.telecom[0]: cpt-2", "Bundle.entry[1]: bdl-5"}},
		{`{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group","item":[{"linkId":"1","type":"display","required":true,"code":[{"code":"x"}]}]}]}`,
			[]string{"Questionnaire: que-2", "Questionnaire.item[0].item[0]: que-3", "Questionnaire.item[0].item[0]: que-6"}},
		{`{"resourceType":"Patient","meta":{"profile":["http://hl7.org/fhir/StructureDefinition/Patient"]},"active":true}`, nil},
	} {
		r, err := codec.Parse([]byte(c.body))
		if err != nil {
			if strings.Contains(c.body, "valueAge") {
				continue // no such choice in R4
			}
			t.Fatal(err)
		}
		issues, err := v.Validate(context.Background(), r, profile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		compare(t, issues, c.want)
	}
}

func TestEnforce(t *testing.T) {
	w := smallWorld(t)
	v := profile.New(w, w, clock)
	const body = `{"resourceType":"Patient","meta":{"profile":["https://example.org/none","https://example.org/differential"]},"contained":[{"resourceType":"Patient","id":"c","meta":{"profile":["https://example.org/cardinality"]}}],"link":[{"other":{"reference":"#c"},"type":"refer"}]}`
	compare(t, validate(t, v, body, profile.Options{}), []string{"?Patient: not installed", "?Patient: no snapshot", "Patient.contained[0].name: required"})
	compare(t, validate(t, v, body, profile.Options{Enforce: true}), []string{"Patient: not installed", "Patient: no snapshot", "Patient.contained[0].name: required"})
}

// However many warnings there are, the error behind them is listed.
func TestWarningsDoNotHideErrors(t *testing.T) {
	w := smallWorld(t)
	v := profile.New(w, w, clock)
	body := `{"resourceType":"Observation","status":"final","category":[` + strings.Repeat(`{"coding":[{"code":"x"}]},`, 300) + `{"coding":[{"code":"x"}]}],"code":{"text":"x"},"valueQuantity":{"value":1,"code":"x"}}`
	issues := validate(t, v, body, profile.Options{Profiles: []string{at + "bindings"}})
	errs := 0
	var warnings []outcome.Issue
	for _, i := range issues {
		if i.Warning {
			warnings = append(warnings, i)
		} else {
			errs++
		}
	}
	if errs != 2 || len(issues) > 2*codec.MaxIssues+2 {
		t.Errorf("%d errors among %d issues", errs, len(issues))
	}
	if profile.Refusal(issues) == nil || profile.Refusal(warnings) != nil {
		t.Error("what refuses is the errors")
	}
}

// What is said names elements and rules, and never a value.
func TestIssuesHoldNoValues(t *testing.T) {
	w := smallWorld(t)
	v := profile.New(w, w, clock)
	const canary = "CANARY7731"
	body := `{"resourceType":"Patient","id":"` + canary + `","meta":{"profile":["` + canary + ` is no canonical <b>"]},"name":[{"text":"` + canary + `","period":{"start":"2021","end":"2020"}}],"identifier":[{"system":"urn:` + canary + `"}],"contact":[{"gender":"male"}]}`
	r, err := codec.Parse([]byte(strings.Replace(body, canary+" is no canonical <b>", "urn:x<"+canary, 1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"cardinality", "by-value", "closed", "typed", "extended"} {
		issues, err := v.Validate(context.Background(), r, profile.Options{Profiles: []string{at + p}})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range issues {
			if strings.Contains(i.Text+i.Path, canary) {
				t.Errorf("%s: %s", i.Path, i.Text)
			}
		}
	}
}

// broken is a source and a terminology that fail.
type broken struct{ *world }

var errBroken = errors.New("the source failed")

func (broken) Member(context.Context, string, string, string) (in, known bool, err error) {
	return false, false, errBroken
}

func TestFailuresAreNoVerdict(t *testing.T) {
	w := smallWorld(t)
	v := profile.New(w, broken{w}, clock)
	r, err := codec.Parse([]byte(`{"resourceType":"Observation","meta":{"profile":["https://example.org/bindings"]},"status":"final","code":{"coding":[{"code":"x"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Validate(context.Background(), r, profile.Options{}); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	if _, err := v.Door(profile.Enforce).Check(context.Background(), r, true); !errors.Is(err, errBroken) {
		t.Error("enforce lets in what could not be checked", err)
	}
	if advice, err := v.Door(profile.Warn).Check(context.Background(), r, true); err != nil || len(advice) != 1 {
		t.Error("warn refuses", advice, err)
	}
	if advice, err := v.Door(profile.Warn).Check(context.Background(), r, false); err != nil || advice != nil {
		t.Error("warn works for nobody", advice, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := profile.New(w, w, clock).Validate(ctx, r, profile.Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// revised is a world whose definitions change.
type revised struct {
	*world
	n int64
}

func (r *revised) Revision(context.Context) (int64, error) { return r.n, nil }

func TestANewRevisionIsSeen(t *testing.T) {
	r := &revised{world: newWorld(), n: 1}
	r.define(t, "p", "Patient")
	v := profile.New(r, r, clock)
	const body = `{"resourceType":"Patient","active":true}`
	o := profile.Options{Profiles: []string{at + "p"}}
	compare(t, validate(t, v, body, o), nil)
	r.define(t, "p", "Patient", `Patient.name | "min":1`)
	clear(r.trees)
	compare(t, validate(t, v, body, o), nil)
	r.n = 2
	compare(t, validate(t, v, body, o), []string{"Patient.name: required"})
}
