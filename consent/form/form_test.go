package form_test

import (
	"strings"
	"testing"

	"github.com/cloister-health/cloister/consent/form"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
)

const template = `{"resourceType":"Questionnaire","url":"http://practice.example/consent","version":"2","title":"Consent","status":"active",
"code":[{"system":"https://cloister.health/fhir/CodeSystem/consent-kind","code":"part2-specific"}],
"item":[
{"linkId":"who","type":"group","text":"The disclosure","item":[
 {"linkId":"from","definition":"http://hl7.org/fhir/StructureDefinition/Consent#Consent.organization","type":"reference","text":"From","required":true,"repeats":true},
 {"linkId":"to","definition":"http://hl7.org/fhir/StructureDefinition/Consent#Consent.provision.actor","type":"reference","text":"To","required":true,"repeats":true}]},
{"linkId":"why","definition":"http://hl7.org/fhir/StructureDefinition/Consent#Consent.provision.purpose","type":"choice","text":"Why","repeats":true,"readOnly":true,
 "initial":[{"valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}}]},
{"linkId":"end","definition":"http://hl7.org/fhir/StructureDefinition/Consent#Consent.provision.period.end","type":"date","text":"Until","required":true},
{"linkId":"rights","code":[{"system":"https://cloister.health/fhir/CodeSystem/consent-statement","code":"revocation"}],"type":"boolean","text":"I may revoke this.","required":true,"readOnly":true,"initial":[{"valueBoolean":true}]}]}`

const response = `{"resourceType":"QuestionnaireResponse","questionnaire":"http://practice.example/consent|2","status":"completed","item":[
{"linkId":"who","item":[{"linkId":"from","answer":[{"valueReference":{"reference":"Organization/sud"}}]},{"linkId":"to","answer":[{"valueReference":{"reference":"Organization/a"}},{"valueReference":{"reference":"Practitioner/b"}}]}]},
{"linkId":"end","answer":[{"valueDate":"2027-01-01"}]}]}`

func tree(t *testing.T, body string) *element.Node {
	t.Helper()
	r, err := codec.Parse([]byte(body))
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return r.Root
}

// fill gives the Consent of a form and its answers, or the issues as text.
func fill(t *testing.T, template, response string) (*element.Node, string) {
	t.Helper()
	f := form.Filled{Template: tree(t, template), Patient: fhir.Ref{Type: "Patient", ID: "p"}, Authored: "2026-03-02T12:00:00Z"}
	if response != "" {
		f.Answers = tree(t, response)
	}
	n, issues := form.Consent(f)
	var text []string
	for _, i := range issues {
		text = append(text, i.Path+": "+i.Text)
	}
	return n, strings.Join(text, "\n")
}

func TestFormBecomesAConsent(t *testing.T) {
	n, issues := fill(t, template, response)
	if issues != "" {
		t.Fatal(issues)
	}
	r, err := codec.Check(n)
	if err != nil {
		t.Fatalf("the Consent is not valid R4: %v", err)
	}
	d, err := codec.ConsentDirective(r)
	if err != nil || len(d.Malformed) > 0 {
		t.Fatalf("%v %v", err, d.Malformed)
	}
	if d.Status != "proposed" || d.Patient.String() != "Patient/p" || !d.Source || len(d.Organizations) != 1 || d.Organizations[0].String() != "Organization/sud" ||
		len(d.Root.Actors) != 2 || d.Root.Actors[1].Reference.String() != "Practitioner/b" || len(d.Root.Purposes) != 1 || d.Root.Purposes[0].Code != "TREAT" ||
		d.Root.Type != "permit" || d.Root.Period.End.Format("2006-01-02") != "2027-01-02" || len(d.Category) != 1 || d.Category[0].Code != "part2-specific" {
		t.Errorf("%+v", d)
	}
	text := string(n.AppendJSON(nil))
	for _, want := range []string{"I may revoke this.", "consent-statement#revocation", "http://practice.example/consent|2", `"authored":"2026-03-02T12:00:00Z"`, `"valueBoolean":true`, `"sourceReference":{"reference":"#form"}`} {
		if !strings.Contains(text, want) {
			t.Errorf("the Consent lacks %s: %s", want, text)
		}
	}
}

func TestFormIsHeldToItself(t *testing.T) {
	change := func(in, from, to string) string {
		t.Helper()
		out := strings.Replace(in, from, to, 1)
		if out == in {
			t.Fatalf("there is no %s", from)
		}
		return out
	}
	for name, c := range map[string]struct{ template, response, want string }{
		"it is a draft":             {change(template, `"status":"active"`, `"status":"draft"`), response, "Questionnaire: a form that can be signed is active"},
		"it has no version":         {change(template, `"version":"2",`, ``), change(response, "|2", ""), "Questionnaire: a form that can be signed is active"},
		"it is about no kind":       {change(template, `"code":"part2-specific"`, `"code":"else"`), response, "Questionnaire.code: there is no such kind"},
		"a statement is missing":    {change(template, `"code":"revocation"`, `"code":"redisclosure"`), response, "the statement revocation (42 CFR 2.31(a)(6))"},
		"a statement says no":       {change(template, `"valueBoolean":true`, `"valueBoolean":false`), response, "answered with yes"},
		"a statement has no text":   {change(template, `"text":"I may revoke this.",`, ``), response, "a statement has a text"},
		"it fills what it may not":  {change(template, "Consent.organization", "Consent.performer"), response, "Questionnaire.item[0].item[0].definition: a form fills these elements"},
		"it hides an item":          {change(template, `"linkId":"end",`, `"linkId":"end","enableWhen":[{"question":"rights","operator":"exists","answerBoolean":true}],`), response, "always shown"},
		"answers to another":        {template, change(response, "consent|2", "consent|1"), "the answers are to another form"},
		"about another patient":     {template, change(response, `"status"`, `"subject":{"reference":"Patient/q"},"status"`), "about another patient"},
		"a required one is missing": {template, change(response, `{"linkId":"from","answer":[{"valueReference":{"reference":"Organization/sud"}}]},`, ``), "Questionnaire.item[0].item[0]: the form needs an answer"},
		"an item of nowhere":        {template, change(response, `"linkId":"end"`, `"linkId":"to"`), "QuestionnaireResponse.item[1]: the form has no item"},
		"no answer at all":          {template, "", "the form needs an answer"},
		"one too many":              {template, change(response, `{"valueDate":"2027-01-01"}`, `{"valueDate":"2027-01-01"},{"valueDate":"2028-01-01"}`), "takes one answer"},
		"a fixed one is changed":    {template, change(response, `{"linkId":"end"`, `{"linkId":"why","answer":[{"valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"HMARKT"}}]},{"linkId":"end"`), "the form answers this item itself"},
		"a value of another type":   {template, change(response, `{"valueDate":"2027-01-01"}`, `{"valueString":"for ever"}`), "what fills this element is Date or DateTime"},
		"a reference to elsewhere":  {template, change(response, "Organization/sud", "http://elsewhere.example/fhir/Organization/sud"), "a resource of this server"},
	} {
		n, issues := fill(t, c.template, c.response)
		if n != nil || !strings.Contains(issues, c.want) {
			t.Errorf("%s: %s, want %s", name, issues, c.want)
		}
		if strings.Contains(issues, "for ever") || strings.Contains(issues, "elsewhere") {
			t.Errorf("%s: the answer is quoted: %s", name, issues)
		}
	}
}
