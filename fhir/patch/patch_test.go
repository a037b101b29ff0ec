package patch_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/patch"
)

const canary = "CANARY-7731"

const patient = `{"resourceType":"Patient","id":"p1","meta":{"versionId":"3","lastUpdated":"2026-01-02T03:04:05.678Z","tag":[{"code":"t"}]},` +
	`"active":true,"name":[{"family":"` + canary + `","given":["Ann","Bea"],"_given":[null,{"extension":[{"url":"http://x/q","valueCode":"IN"}]}]},{"text":"second"}],` +
	`"birthDate":"1974-12-25","deceasedBoolean":false,"contact":[{"name":{"text":"c0"},"gender":"male"},{"name":{"text":"c1"}}],` +
	`"identifier":[{"system":"http://x/a","value":"a"},{"system":"http://x/b","value":"b"},{"system":"http://x/c","value":"c"}],` +
	`"maritalStatus":{"text":"m"}}`

const observation = `{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.50,"unit":"kg"}}`

func resource(t testing.TB, body string) *codec.Resource {
	t.Helper()
	r, err := codec.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// parameters writes a FHIRPath Patch: of each operation its parts as "name=value", where the value is JSON of a
// whole member ("valueString":"x") or, without quotes, the text of a valueString, and for index and the like valueInteger.
func parameters(operations ...[]string) string {
	var out []string
	for _, parts := range operations {
		var list []string
		for _, p := range parts {
			name, v, _ := strings.Cut(p, "=")
			switch {
			case strings.HasPrefix(v, `"`):
			case name == "type":
				v = `"valueCode":"` + v + `"`
			case name == "index" || name == "source" || name == "destination":
				v = `"valueInteger":` + v
			default:
				v = `"valueString":"` + v + `"`
			}
			list = append(list, `{"name":"`+name+`",`+v+`}`)
		}
		out = append(out, `{"name":"operation","part":[`+strings.Join(list, ",")+`]}`)
	}
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(out, ",") + `]}`
}

func op(parts ...string) string { return parameters(parts) }

func TestApply(t *testing.T) {
	const without = `"meta":{"versionId":"3","lastUpdated":"2026-01-02T03:04:05.678Z","tag":[{"code":"t"}]},`
	for _, c := range []struct {
		name, on, patch string
		has, hasNot     []string
	}{
		{"add single", patient, op("type=add", "path=Patient", "name=gender", `value="valueCode":"female"`), []string{`"gender":"female"`}, nil},
		{"add with a string for a code", patient, op("type=add", "path=Patient", "name=gender", `value=female`), []string{`"gender":"female"`}, nil},
		{"add to a list", patient, op("type=add", "path=Patient", "name=identifier", `value="valueIdentifier":{"value":"d"}`), []string{`"value":"c"},{"value":"d"}]`}, nil},
		{"add to nothing", patient, op("type=add", "path=Patient", "name=telecom", `value="valueContactPoint":{"value":"d"}`), []string{`"telecom":[{"value":"d"}]`}, nil},
		{"add below a filter", patient, op("type=add", "path=Patient.contact.where(gender = 'male')", "name=period", `value="valuePeriod":{"start":"2020"}`), []string{`"gender":"male","period":{"start":"2020"}}`}, nil},
		{"add to a list of primitives", patient, op("type=add", "path=Patient.name[0]", "name=given", `value=Cyd`), []string{`"given":["Ann","Bea","Cyd"]`, `[null,{"extension":[{"url":"http://x/q","valueCode":"IN"}]},null]`}, nil},
		{"add an extension to a primitive", patient, op("type=add", "path=Patient.birthDate", "name=extension", `value="part":[{"name":"url","valueUri":"http://x/e"},{"name":"value","valueCode":"z"}]`), []string{`"_birthDate":{"extension":[{"url":"http://x/e","valueCode":"z"}]}`}, nil},
		{"add parts", patient, op("type=add", "path=Patient", "name=contact", `value="part":[{"name":"name","valueHumanName":{"text":"c2"}},{"name":"gender","valueCode":"other"},{"name":"telecom","valueContactPoint":{"value":"1"}},{"name":"telecom","valueContactPoint":{"value":"2"}}]`),
			[]string{`{"name":{"text":"c2"},"gender":"other","telecom":[{"value":"1"},{"value":"2"}]}`}, nil},
		{"add a choice", patient, op("type=add", "path=Patient", "name=multipleBirth", `value="valueInteger":2`), []string{`"multipleBirthInteger":2`}, nil},
		{"insert first", patient, op("type=insert", "path=Patient.identifier", "index=0", `value="valueIdentifier":{"value":"z"}`), []string{`"identifier":[{"value":"z"},{"system":"http://x/a"`}, nil},
		{"insert last", patient, op("type=insert", "path=Patient.identifier", "index=3", `value="valueIdentifier":{"value":"z"}`), []string{`"value":"c"},{"value":"z"}]`}, nil},
		{"insert a primitive", patient, op("type=insert", "path=Patient.name[0].given", "index=1", `value=Mid`), []string{`["Ann","Mid","Bea"]`, `"_given":[null,null,{`}, nil},
		{"delete", patient, op("type=delete", "path=Patient.maritalStatus"), nil, []string{"maritalStatus"}},
		{"delete the only child", patient, op("type=delete", "path=Patient.maritalStatus.text"), nil, []string{"maritalStatus"}},
		{"delete nothing", patient, op("type=delete", "path=Patient.photo"), []string{"maritalStatus"}, nil},
		{"delete from a list", patient, op("type=delete", "path=Patient.identifier.where(value = 'b')"), []string{`"value":"a"},{"system":"http://x/c"`}, nil},
		{"delete a primitive from a list", patient, op("type=delete", "path=Patient.name[0].given[1]"), []string{`"given":["Ann"]`}, []string{"_given"}},
		{"replace", patient, op("type=replace", "path=Patient.birthDate", `value="valueDate":"1975-01-01"`), []string{`"birthDate":"1975-01-01"`}, nil},
		{"replace in a list", patient, op("type=replace", "path=Patient.identifier[1].value", `value=new`), []string{`"value":"new"`}, []string{`"value":"b"`}},
		{"replace a choice", patient, op("type=replace", "path=Patient.deceased", `value="valueDateTime":"2026-01-01"`), []string{`"deceasedDateTime":"2026-01-01"`}, []string{"deceasedBoolean"}},
		{"replace keeps digits", observation, op("type=replace", "path=Observation.value.unit", `value=g`), []string{`{"value":1.50,"unit":"g"}`}, nil},
		{"replace a quantity", observation, op("type=replace", "path=Observation.value", `value="valueQuantity":{"value":2.500}`), []string{`{"value":2.500}`}, nil},
		{"replace by a primitive with an extension", patient, op("type=replace", "path=Patient.name[0].given[1]", `value="valueString":"Eve","_valueString":{"extension":[{"url":"http://x/r","valueCode":"r"}]}`), []string{`["Ann","Eve"]`, `http://x/r`}, []string{"http://x/q"}},
		{"move up", patient, op("type=move", "path=Patient.identifier", "source=0", "destination=2"), []string{`"value":"c"},{"system":"http://x/a"`}, nil},
		{"move down", patient, op("type=move", "path=Patient.identifier", "source=2", "destination=0"), []string{`"identifier":[{"system":"http://x/c"`}, nil},
		{"move primitives with extensions", patient, op("type=move", "path=Patient.name[0].given", "source=1", "destination=0"), []string{`["Bea","Ann"]`, `"_given":[{`, `},null]`}, nil},
		{"several", patient, parameters([]string{"type=delete", "path=Patient.identifier[0]"}, []string{"type=replace", "path=Patient.identifier[0].value", "value=x"}), []string{`{"system":"http://x/b","value":"x"}`}, nil},

		{"json add", patient, `[{"op":"add","path":"/gender","value":"female"}]`, []string{`"gender":"female"`}, nil},
		{"json append", patient, `[{"op":"add","path":"/identifier/-","value":{"value":"d"}}]`, []string{`"value":"c"},{"value":"d"}]`}, nil},
		{"json add into an empty array", patient, `[{"op":"add","path":"/telecom","value":[]},{"op":"add","path":"/telecom/-","value":{"value":"1"}}]`, []string{`"telecom":[{"value":"1"}]`}, nil},
		{"json insert", patient, `[{"op":"add","path":"/identifier/1","value":{"value":"d"}}]`, []string{`"value":"a"},{"value":"d"}`}, nil},
		{"json remove", patient, `[{"op":"remove","path":"/identifier/1"}]`, nil, []string{`"value":"b"`}},
		{"json remove the last", patient, `[{"op":"remove","path":"/contact/0"},{"op":"remove","path":"/contact/0"}]`, nil, []string{`contact`}},
		{"json replace", patient, `[{"op":"replace","path":"/name/0/family","value":"New"}]`, []string{`"family":"New"`}, nil},
		{"json move", patient, `[{"op":"move","from":"/identifier/0","path":"/identifier/2"}]`, []string{`"value":"c"},{"system":"http://x/a"`}, nil},
		{"json copy", patient, `[{"op":"copy","from":"/identifier/0/value","path":"/identifier/1/value"}]`, []string{`{"system":"http://x/b","value":"a"}`}, nil},
		{"json test", patient, `[{"op":"test","path":"/active","value":true},{"op":"test","path":"/identifier/0","value":{"value":"a","system":"http://x/a"}},{"op":"remove","path":"/active"}]`, nil, []string{`"active"`}},
		{"json test of a number", observation, `[{"op":"test","path":"/valueQuantity/value","value":1.5},{"op":"replace","path":"/status","value":"amended"}]`, []string{`1.50`, `amended`}, nil},
		{"json keeps digits", observation, `[{"op":"add","path":"/valueQuantity/value","value":2.500}]`, []string{`2.500`}, nil},
		{"json escapes", observation, `[{"op":"add","path":"/code/~0x~1","value":"1"},{"op":"remove","path":"/code/~0x~1"}]`, []string{`"code":{"text":"x"}`}, nil},
		{"json replaces meta", patient, `[{"op":"replace","path":"/meta","value":{"tag":[{"code":"u"}]}}]`, []string{`"code":"u"`, `"versionId":"3"`}, []string{`"code":"t"`}},
		{"json removes meta", patient, `[{"op":"remove","path":"/meta"}]`, []string{`"versionId":"3"`}, []string{`"code":"t"`}},
		{"json same id", patient, `[{"op":"replace","path":"/id","value":"p1"}]`, []string{`"id":"p1"`, strings.TrimSuffix(without, ",")}, nil},
		{"nothing", patient, `[]`, []string{patient}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind := patch.FHIRPathPatch
			if strings.HasPrefix(c.patch, "[") {
				kind = patch.JSONPatch
			}
			p, err := patch.Parse(kind+"; charset=utf-8", []byte(c.patch))
			if err != nil {
				t.Fatal(err)
			}
			r := resource(t, c.on)
			out, err := p.Apply(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(r.Root.AppendJSON(nil)); got != c.on {
				t.Errorf("the resource itself changed: %s", got)
			}
			got := string(out.Root.AppendJSON(nil))
			for _, s := range c.has {
				if !strings.Contains(got, s) {
					t.Errorf("%s\nhas no %s", got, s)
				}
			}
			for _, s := range c.hasNot {
				if strings.Contains(got, s) {
					t.Errorf("%s\nhas %s", got, s)
				}
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, c := range []struct{ name, patch, text string }{
		{"add to several", op("type=add", "path=Patient.name", "name=text", "value=x"), "selects one element"},
		{"add to nothing", op("type=add", "path=Patient.photo", "name=url", "value=x"), "selects one element"},
		{"add what is there", op("type=add", "path=Patient", "name=birthDate", `value="valueDate":"2000"`), "there already"},
		{"add a choice that is there in another type", op("type=add", "path=Patient", "name=deceased", `value="valueDateTime":"2000"`), "there already"},
		{"add an unknown element", op("type=add", "path=Patient", "name=nothing", "value=x"), "no such element"},
		{"add a wrong type", op("type=add", "path=Patient", "name=photo", `value="valuePeriod":{"start":"2000"}`), "another type"},
		{"add an invalid value", op("type=add", "path=Patient", "name=gender", "value=none"), "not one of those"},
		{"add a choice of a type it cannot have", op("type=add", "path=Patient", "name=multipleBirth", "value=x"), "no such element"},
		{"insert beyond", op("type=insert", "path=Patient.identifier", "index=4", `value="valueIdentifier":{"value":"z"}`), "beyond the end"},
		{"insert into part of a list", op("type=insert", "path=Patient.identifier[1]", "index=0", `value="valueIdentifier":{"value":"z"}`), "whole list"},
		{"insert into what is no list", op("type=insert", "path=Patient.birthDate", "index=0", `value=x`), "list"},
		{"delete several", op("type=delete", "path=Patient.identifier"), "selects one element"},
		{"delete the resource", op("type=delete", "path=Patient"), "does not lead"},
		{"delete what is computed", op("type=delete", "path=Patient.name.count()"), "does not lead"},
		{"replace nothing", op("type=replace", "path=Patient.gender", "value=male"), "selects one element"},
		{"move beyond", op("type=move", "path=Patient.identifier", "source=0", "destination=3"), "beyond the end"},
		{"a path that fails", op("type=delete", "path=Patient.name.single()"), "cannot be evaluated"},
		{"a path that does not end", op("type=delete", "path=(1|2).repeat($this + 1)"), "cannot be evaluated"},
		{"id", op("type=replace", "path=Patient.id", "value=p2"), "type or id"},
		{"version", op("type=replace", "path=Patient.meta.versionId", "value=9"), "version"},
		{"lastUpdated", op("type=replace", "path=Patient.meta.lastUpdated", `value="valueInstant":"2020-01-01T00:00:00Z"`), "version"},
		{"labels", op("type=add", "path=Patient.meta", "name=security", `value="valueCoding":{"code":"N"}`), "labels"},
		{"a required element", `[{"op":"remove","path":"/resourceType"}]`, "type or id"},
		{"json another type", `[{"op":"replace","path":"/resourceType","value":"Person"}]`, "type or id"},
		{"json another id", `[{"op":"replace","path":"/id","value":"p2"}]`, "type or id"},
		{"json removes the id", `[{"op":"remove","path":"/id"}]`, "type or id"},
		{"json labels", `[{"op":"add","path":"/meta/security","value":[{"code":"N"}]}]`, "labels"},
		{"json another resource", `[{"op":"replace","path":"","value":{"resourceType":"Patient","id":"p2"}}]`, "type or id"},
		{"json no resource", `[{"op":"replace","path":"","value":3}]`, "no resource"},
		{"json test", `[{"op":"test","path":"/active","value":false}]`, "the test failed"},
		{"json test of nothing", `[{"op":"test","path":"/nothing","value":false}]`, "the test failed"},
		{"json test below a text", `[{"op":"test","path":"/name/0/family/0","value":"C"}]`, "the test failed"},
		{"json remove nothing", `[{"op":"remove","path":"/nothing"}]`, "does not lead"},
		{"json replace nothing", `[{"op":"replace","path":"/nothing","value":1}]`, "does not lead"},
		{"json index with a zero", `[{"op":"remove","path":"/identifier/01"}]`, "does not lead"},
		{"json beyond", `[{"op":"add","path":"/identifier/9","value":1}]`, "does not lead"},
		{"json into itself", `[{"op":"move","from":"/name","path":"/name/0"}]`, "into itself"},
		{"json invalid", `[{"op":"add","path":"/gender","value":"none"}]`, "not one of those"},
		{"json another case", `[{"op":"add","path":"/BirthDate","value":"2000"}]`, "upper and lower case"},
		{"json unknown", `[{"op":"add","path":"/x","value":"2000"}]`, "no element of this name"},
		{"json too large", "[" + strings.Repeat(`{"op":"copy","from":"/name","path":"/name/-"},`, 40) + `{"op":"remove","path":"/name"}]`, "too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind := patch.FHIRPathPatch
			if strings.HasPrefix(c.patch, "[") {
				kind = patch.JSONPatch
			}
			p, err := patch.Parse(kind, []byte(c.patch))
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Apply(resource(t, patient))
			refused(t, err, c.text)
		})
	}
}

// refused checks an error of a patch: what it says, and that it says nothing of the resource.
func refused(t *testing.T, err error, text string) {
	t.Helper()
	var e *outcome.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no outcome", err)
	}
	if s := e.Status(); s < 400 || s > 499 {
		t.Errorf("status %d", s)
	}
	if !strings.Contains(e.Error(), text) {
		t.Errorf("%q does not say %q", e.Error(), text)
	}
	if strings.Contains(e.Error(), canary) || strings.Contains(e.Error(), "1974") {
		t.Errorf("%q says what the resource holds", e.Error())
	}
}

// A test that fails is the same whatever the resource holds: other values, other types, nothing.
func TestFailedTestIsNoOracle(t *testing.T) {
	answers := map[string]bool{}
	for _, path := range []string{"/name/0/family", "/birthDate", "/name/7", "/nothing", "/active/x", "/identifier/-", "/name"} {
		p, err := patch.Parse(patch.JSONPatch, []byte(`[{"op":"test","path":"`+path+`","value":"guess"}]`))
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Apply(resource(t, patient))
		answers[err.Error()] = true
	}
	if len(answers) != 1 {
		t.Errorf("%d answers tell failed tests apart: %v", len(answers), answers)
	}
}

func TestParseRefuses(t *testing.T) {
	many := "[" + strings.Repeat(`{"op":"remove","path":"/x"},`, patch.MaxOperations) + `{"op":"remove","path":"/x"}]`
	for _, c := range []struct {
		kind, body string
		status     int
	}{
		{"application/xml", "<x/>", 415},
		{"", "[]", 415},
		{"application/merge-patch+json", "{}", 415},
		{patch.JSONPatch, `{}`, 400},
		{patch.JSONPatch, `[`, 400},
		{patch.JSONPatch, `[1]`, 400},
		{patch.JSONPatch, `[{"op":"add","path":"/x"}]`, 400},
		{patch.JSONPatch, `[{"op":"add","op":"test","path":"/x","value":1}]`, 400},
		{patch.JSONPatch, `[{"op":"spell","path":"/x"}]`, 400},
		{patch.JSONPatch, `[{"op":"remove","path":"x"}]`, 400},
		{patch.JSONPatch, `[{"op":"remove","path":"/~2"}]`, 400},
		{patch.JSONPatch, `[{"op":"remove"}]`, 400},
		{patch.JSONPatch, `[{"op":"move","path":"/x"}]`, 400},
		{patch.JSONPatch, many, 413},
		{patch.FHIRPathPatch, `{"resourceType":"Patient"}`, 400},
		{patch.FHIRPathPatch, `{"resourceType":"Parameters","parameter":[{"name":"op","valueString":"x"}]}`, 400},
		{patch.FHIRPathPatch, op("type=spell", "path=Patient"), 400},
		{patch.FHIRPathPatch, op("type=add", "name=x", "value=x"), 400},
		{patch.FHIRPathPatch, op("type=add", "path=Patient", "value=x"), 400},
		{patch.FHIRPathPatch, op("type=add", "path=Patient", "name=x"), 400},
		{patch.FHIRPathPatch, op("type=add", "path=Patient..x", "name=x", "value=x"), 400},
		{patch.FHIRPathPatch, op("type=insert", "path=Patient", "value=x"), 400},
		{patch.FHIRPathPatch, op("type=insert", "path=Patient", "value=x", "index=-1"), 400},
		{patch.FHIRPathPatch, op("type=move", "path=Patient", "source=1"), 400},
		{patch.FHIRPathPatch, op("type=delete", "path=Patient", "path=Patient.x"), 400},
		{patch.FHIRPathPatch, op("type=delete", "path=Patient", "extra=x"), 400},
	} {
		_, err := patch.Parse(c.kind, []byte(c.body))
		var e *outcome.Error
		if !errors.As(err, &e) || e.Status() != c.status {
			t.Errorf("%s %.60s: %v, want status %d", c.kind, c.body, err, c.status)
		}
	}
}

func FuzzPatch(f *testing.F) {
	f.Add(true, `[{"op":"copy","from":"/name","path":"/contact"},{"op":"move","from":"/name/0","path":"/name/-"}]`)
	f.Add(true, `[{"op":"test","path":"/name/0/given/1","value":"x"},{"op":"replace","path":"","value":{"resourceType":"Patient","id":"p1"}}]`)
	f.Add(false, op("type=insert", "path=Patient.name.given", "index=1", "value=x"))
	f.Add(false, op("type=add", "path=Patient.name[0]", "name=given", `value="_valueString":{"extension":[{"url":"u","valueCode":"c"}]}`))
	f.Add(false, parameters([]string{"type=move", "path=Patient.name[0].given", "source=1", "destination=0"}, []string{"type=delete", "path=Patient.name[0].given[0]"}))
	r := resource(f, patient)
	f.Fuzz(func(t *testing.T, json bool, body string) {
		kind := patch.FHIRPathPatch
		if json {
			kind = patch.JSONPatch
		}
		p, err := patch.Parse(kind, []byte(body))
		if err != nil {
			return
		}
		out, err := p.Apply(r)
		if got := string(r.Root.AppendJSON(nil)); got != patient {
			t.Fatalf("the resource itself changed: %s", got)
		}
		if err != nil {
			if e := outcome.Of(err); e.Status() >= 500 {
				t.Fatal(err)
			}
			return
		}
		if out.ID() != "p1" || out.Type != "Patient" || out.Root.Get("meta").Get("security") != nil || out.Root.Get("meta").Get("versionId").String() != "3" {
			t.Fatalf("identity changed: %s", out.Root.AppendJSON(nil))
		}
	})
}
