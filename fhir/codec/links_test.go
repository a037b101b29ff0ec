package codec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

func texts(links []Link) []string {
	var out []string
	for _, l := range links {
		out = append(out, l.Path+"="+l.Node.Text)
	}
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got\n  %s\nwant\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestIdentityAndMeta(t *testing.T) {
	r := mustParse(t, `{"resourceType":"Patient","active":true}`)
	r.SetID("p1")
	r.SetMeta(3, time.Date(2026, 3, 1, 12, 0, 0, 7_900_000, time.FixedZone("", -5*3600)))
	want := `{"resourceType":"Patient","id":"p1","meta":{"versionId":"3","lastUpdated":"2026-03-01T17:00:00.007Z"},"active":true}`
	if got := string(r.Root.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r.ID() != "p1" || r.Ref() != (fhir.Ref{Type: "Patient", ID: "p1"}) {
		t.Error(r.Ref())
	}
	r = mustParse(t, `{"active":true,"meta":{"lastUpdated":"2020-01-01T00:00:00Z","_lastUpdated":{"id":"x"},"source":"urn:a"},"id":"old","resourceType":"Patient"}`)
	r.SetID("new")
	r.SetMeta(1, time.Unix(0, 0))
	want = `{"active":true,"meta":{"lastUpdated":"1970-01-01T00:00:00.000Z","source":"urn:a","versionId":"1"},"id":"new","resourceType":"Patient"}`
	if got := string(r.Root.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestStripSecurity(t *testing.T) {
	r := mustParse(t, observation)
	r.StripSecurity()
	body := string(r.Root.AppendJSON(nil))
	if strings.Contains(body, "security") || !strings.Contains(body, `"tag"`) {
		t.Error(body)
	}
	if r.Root.Get("contained").Items[0].Get("meta") != nil {
		t.Error("an empty meta stays in a contained resource")
	}
	if _, err := Check(r.Root); err != nil {
		t.Error(err)
	}
	const label = `"meta":{"security":[{"code":"R"}]}`
	r = mustParse(t, `{"resourceType":"Bundle","type":"collection",`+label+`,"entry":[{"resource":{"resourceType":"Parameters",`+label+`,
	 "parameter":[{"name":"a","valueMeta":{"security":[{"code":"R"}],"tag":[{"code":"t"}]}},{"name":"b","resource":{"resourceType":"Patient",`+label+`}}]}}]}`)
	r.StripSecurity()
	if body := string(r.Root.AppendJSON(nil)); strings.Contains(body, "security") || strings.Contains(body, `"R"`) {
		t.Error(body)
	}
	if _, err := Check(r.Root); err != nil {
		t.Error(err)
	}
	// A label is what the type says, not what the name says.
	r = mustParse(t, `{"resourceType":"CapabilityStatement","status":"draft","date":"2020","kind":"requirements","fhirVersion":"4.0.1","format":["json"],
	 "rest":[{"mode":"server","security":{"cors":true}}]}`)
	r.StripSecurity()
	if r.Root.Get("rest").Items[0].Get("security") == nil {
		t.Error("CapabilityStatement.rest.security is gone")
	}
}

func TestReferencesAndURLs(t *testing.T) {
	r := mustParse(t, observation)
	same(t, "references", texts(r.References()), []string{"Observation.subject.reference=Patient/p1", "Observation.performer[0].reference=#org"})
	same(t, "urls", texts(r.URLs()), []string{"Observation.extension[0].value=DocumentReference/doc"})

	r = mustParse(t, `{"resourceType":"DocumentReference","status":"current",
	 "contained":[{"resourceType":"Encounter","id":"e","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p2"}}],
	 "_description":{"extension":[{"url":"Patient/not-a-link","valueReference":{"reference":"Patient/p3"}}]},
	 "content":[{"attachment":{"url":"Binary/b1/_history/2"}},{"attachment":{"url":"https://example.org/Binary/b1"}}],
	 "context":{"encounter":[{"reference":"#e"}]}}`)
	same(t, "references", texts(r.References()), []string{
		"DocumentReference.contained[0].subject.reference=Patient/p2",
		"DocumentReference.description.extension[0].value.reference=Patient/p3",
		"DocumentReference.context.encounter[0].reference=#e"})
	same(t, "urls", texts(r.URLs()), []string{"DocumentReference.content[0].attachment.url=Binary/b1/_history/2"})
	r.References()[0].Node.Text = "Patient/p9"
	if !strings.Contains(string(r.Root.AppendJSON(nil)), "Patient/p9") {
		t.Error("a Link does not lead into the tree")
	}

	r = mustParse(t, `{"resourceType":"QuestionnaireResponse","status":"completed","questionnaire":"Questionnaire/phq-9|1.0"}`)
	same(t, "canonical url", texts(r.URLs()), []string{"QuestionnaireResponse.questionnaire=Questionnaire/phq-9|1.0"})
	same(t, "canonicals", texts(r.Canonicals()), []string{"QuestionnaireResponse.questionnaire=Questionnaire/phq-9|1.0"})
	if ref, ok := LocalRef("Questionnaire/phq-9|1.0"); !ok || ref.String() != "Questionnaire/phq-9" {
		t.Error(ref, ok)
	}

	r = mustParse(t, `{"resourceType":"Basic","code":{"text":"x"},"identifier":[{"system":"urn:oid:1.2.3"}],"subject":{"reference":"urn:uuid:6c7f7c3e-9d2f-4d1c-8d3a-0123456789ab"},
	 "extension":[{"url":"urn:uuid:6c7f7c3e-9d2f-4d1c-8d3a-0123456789ab","valueUuid":"urn:uuid:6c7f7c3e-9d2f-4d1c-8d3a-0123456789ab"}]}`)
	same(t, "urns", texts(r.URNs()), []string{"Basic.identifier[0].system=urn:oid:1.2.3", "Basic.extension[0].value=urn:uuid:6c7f7c3e-9d2f-4d1c-8d3a-0123456789ab"})

	// The type decides, not the name: Communication.payload has a string in the content of a choice.
	r = mustParse(t, `{"resourceType":"Communication","status":"completed","payload":[{"contentString":"Patient/1"},{"contentReference":{"reference":"Patient/2"}}]}`)
	same(t, "references", texts(r.References()), []string{"Communication.payload[1].content.reference=Patient/2"})
	same(t, "urls", texts(r.URLs()), nil)
}

func TestLocalise(t *testing.T) {
	const base = "https://clinic.example:8443/fhir"
	for in, want := range map[string]string{
		base + "/Patient/1":                             "Patient/1",
		base + "/Patient/1/_history/2":                  "Patient/1/_history/2",
		"HTTPS://Clinic.EXAMPLE:8443/fhir/Patient/1":    "Patient/1",
		base + "/Patient?identifier=x":                  "Patient?identifier=x",
		"https://clinic.example:8443/FHIR/Patient/1":    "https://clinic.example:8443/FHIR/Patient/1",
		"https://clinic.example:8443/fhirx/Patient/1":   "https://clinic.example:8443/fhirx/Patient/1",
		"https://clinic.example:84430/fhir/Patient/1":   "https://clinic.example:84430/fhir/Patient/1",
		"https://elsewhere.example:8443/fhir/Patient/1": "https://elsewhere.example:8443/fhir/Patient/1",
		base + "/something":                             base + "/something",
		"Patient/1":                                     "Patient/1",
	} {
		r := &Resource{Type: "Basic", Root: element.NewObject(
			element.Field{Name: "resourceType", Value: element.NewString("Basic")},
			element.Field{Name: "subject", Value: element.NewObject(element.Field{Name: "reference", Value: element.NewString(in)})},
			element.Field{Name: "extension", Value: &element.Node{Kind: element.Array, Items: []*element.Node{element.NewObject(
				element.Field{Name: "url", Value: element.NewString(in)}, element.Field{Name: "valueUrl", Value: element.NewString(in)})}}},
		)}
		for _, b := range []string{base, base + "/"} {
			r.Localise(b)
		}
		if got := r.Root.Get("subject").Get("reference").Text; got != want {
			t.Errorf("reference %s: got %s, want %s", in, got, want)
		}
		ext := r.Root.Get("extension").Items[0]
		if got := ext.Get("valueUrl").Text; got != want {
			t.Errorf("url %s: got %s, want %s", in, got, want)
		}
		if ext.Get("url").Text != in {
			t.Error("Extension.url changed")
		}
	}
	r := mustParse(t, `{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"`+base+`/ValueSet/v","resource":{"resourceType":"ValueSet","id":"v","url":"`+base+`/ValueSet/v",
	 "status":"draft","compose":{"include":[{"system":"`+base+`/CodeSystem/c","valueSet":["`+base+`/ValueSet/w|2"]}]}}}]}`)
	r.Localise(base)
	body := string(r.Root.AppendJSON(nil))
	if strings.Count(body, base) != 3 || !strings.Contains(body, `["ValueSet/w|2"]`) {
		t.Error(body)
	}
}

func TestCodings(t *testing.T) {
	var got []string
	for system, code := range mustParse(t, observation).Codings() {
		got = append(got, system+"|"+code)
	}
	same(t, "codings", got, []string{"urn:t|x", "urn:s|c1", "|final", "urn:cat|survey", "http://loinc.org|44261-6", "http://unitsofmeasure.org|{score}"})
	for range mustParse(t, observation).Codings() {
		break // stopping early must not panic
	}
	got = nil
	for system, code := range mustParse(t, `{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"reference":"Patient/1"},
	 "contained":[{"resourceType":"Medication","id":"m","meta":{"security":[{"system":"urn:l","code":"hidden"}]},"code":{"coding":[{"system":"rx","code":"351266"}]}}],"medicationReference":{"reference":"#m"},
	 "dosageInstruction":[{"timing":{"repeat":{"dayOfWeek":["mon","tue"]}}}]}`).Codings() {
		got = append(got, system+"|"+code)
	}
	same(t, "codings", got, []string{"|active", "|order", "rx|351266", "|mon", "|tue"})
	got = nil
	for _, c := range mustParse(t, `{"resourceType":"QuestionnaireResponse","status":"completed","meta":{"profile":["http://example.org/p/audit"],"tag":[{"system":"urn:t","code":"x"}]},
	 "questionnaire":"http://example.org/Questionnaire/phq-9|1","item":[{"linkId":"/44249-1/44250-9","_text":{"extension":[{"url":"u","valueCode":"F32.1"}]}},{"linkId":"g","item":[{"linkId":"68518-0","answer":[{"valueCoding":{"system":"s","code":"c"}}]}]}]}`).Coded() {
		got = append(got, c.Path+" "+c.System+"|"+c.Code)
	}
	same(t, "coded", got, []string{"QuestionnaireResponse.status |completed", "QuestionnaireResponse.meta.tag[0] urn:t|x",
		"QuestionnaireResponse.questionnaire urn:ietf:rfc:3986|http://example.org/Questionnaire/phq-9|1",
		"QuestionnaireResponse.item[0].linkId |44249-1", "QuestionnaireResponse.item[0].linkId |44250-9", "QuestionnaireResponse.item[0].text.extension[0].value |F32.1",
		"QuestionnaireResponse.item[1].linkId |g", "QuestionnaireResponse.item[1].item[0].linkId |68518-0", "QuestionnaireResponse.item[1].item[0].answer[0].value s|c"})
	got = nil
	for _, c := range mustParse(t, `{"resourceType":"Questionnaire","status":"active","url":"http://loinc.org/q/69737-5","item":[{"linkId":"1","type":"choice","answerValueSet":"http://example.org/ValueSet/v"}]}`).Coded() {
		got = append(got, c.System+"|"+c.Code)
	}
	same(t, "coded", got, []string{"|active", "urn:ietf:rfc:3986|http://loinc.org/q/69737-5", "|1", "|choice", "urn:ietf:rfc:3986|http://example.org/ValueSet/v"})
}

func TestSecurity(t *testing.T) {
	r := mustParse(t, `{"resourceType":"Condition","subject":{"reference":"Patient/1"},"evidence":[{"detail":[{"reference":"#o"}]}],"meta":{"security":[{"system":"a","code":"1"},{"system":"a","code":"2"}],"tag":[{"system":"t","code":"no"}]},
	 "contained":[{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"meta":{"security":[{"system":"b","code":"3"}]}}]}`)
	var got []string
	for system, code := range r.Security() {
		got = append(got, system+code)
	}
	same(t, "security", got, []string{"a1", "a2", "b3"})
	for range r.Security() {
		break // stopping early must not panic
	}
	r.StripSecurity()
	for range r.Security() {
		t.Error("a label is left")
	}
}

func TestEntries(t *testing.T) {
	r := mustParse(t, `{"resourceType":"Bundle","type":"transaction","entry":[
	 {"fullUrl":"urn:uuid:6c7f7c3e-9d2f-4d1c-8d3a-0123456789ab","resource":{"resourceType":"Patient","id":"a"},"request":{"method":"PUT","url":"Patient/a","ifMatch":"W/\"1\""}},
	 {"resource":{"resourceType":"Patient"},"request":{"method":"POST","url":"Patient","ifNoneExist":"identifier=x"}},
	 {"request":{"method":"GET","url":"Patient/1","ifNoneMatch":"W/\"2\"","ifModifiedSince":"2020-01-01T00:00:00Z"}}]}`)
	var got []string
	for _, e := range r.Entries() {
		id := "-"
		if e.Resource != nil {
			id = string(e.Resource.Type) + "/" + string(e.Resource.ID())
		}
		got = append(got, fmt.Sprint(e.Path, e.FullURL != "", e.Method, e.URL, e.IfNoneExist, e.IfMatch, e.IfNoneMatch, e.IfModifiedSince, id))
	}
	same(t, "entries", got, []string{
		`Bundle.entry[0]truePUTPatient/aW/"1"Patient/a`, `Bundle.entry[1]falsePOSTPatientidentifier=xPatient/`, `Bundle.entry[2]falseGETPatient/1W/"2"2020-01-01T00:00:00Z-`})
	r.Entries()[1].Resource.SetID("new")
	if r.Root.Get("entry").Items[1].Get("resource").Get("id").String() != "new" {
		t.Error("an entry does not share the tree")
	}
	if mustParse(t, observation).Entries() != nil || mustParse(t, observation).BundleType() != "" {
		t.Error("an Observation has entries")
	}
}
