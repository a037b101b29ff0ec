package codec

import (
	"testing"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

const (
	icd    = "http://hl7.org/fhir/sid/icd-10-cm"
	rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
)

func classified(t *testing.T, text string) label.Set {
	t.Helper()
	root, err := ReadJSON([]byte(text), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	r := &Resource{Type: fhir.ResourceType(root.Get("resourceType").String()), Root: root}
	return label.Classify(label.Content{Type: r.Type, Codings: r.Codings()})
}

// Whatever decides over labels is found, wherever in a resource it stands.
func TestCodingsAreFoundAnywhere(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"code":                 {`{"resourceType":"Condition","code":{"coding":[{"system":"http://loinc.org","code":"1-1"},{"system":"` + icd + `","code":"F32.1"}]}}`, "PSY+MH"},
		"reason":               {`{"resourceType":"Appointment","reasonCode":[{"coding":[{"system":"` + icd + `","code":"F11.2"}]}]}`, "ETH+SUD+OPIOIDUD"},
		"contained":            {`{"resourceType":"MedicationRequest","contained":[{"resourceType":"Medication","code":{"coding":[{"system":"` + rxnorm + `","code":"1819"}]}}]}`, "ETH+SUD+OPIOIDUD"},
		"extension":            {`{"resourceType":"Patient","extension":[{"url":"u","valueCoding":{"system":"` + icd + `","code":"B20"}}]}`, "HIV"},
		"primitive extension":  {`{"resourceType":"Patient","_birthDate":{"extension":[{"url":"u","valueCodeableConcept":{"coding":[{"system":"` + icd + `","code":"B20"}]}}]}}`, "HIV"},
		"without a system":     {`{"resourceType":"Condition","code":{"coding":[{"code":"F32.1"}]}}`, "PSY+MH"},
		"tag":                  {`{"resourceType":"Condition","meta":{"tag":[{"system":"` + icd + `","code":"B20"}]}}`, "HIV"},
		"not meta.security":    {`{"resourceType":"Condition","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]}}`, "-"},
		"securityLabel":        {`{"resourceType":"DocumentReference","securityLabel":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]}]}`, "HIV"},
		"linkId":               {`{"resourceType":"QuestionnaireResponse","item":[{"linkId":"/44249-1/44250-9"}]}`, "PSY+MH"},
		"linkId without slash": {`{"resourceType":"QuestionnaireResponse","item":[{"linkId":"g","item":[{"linkId":"68518-0"}]}]}`, "ETH+SUD"},
		"LOINC questionnaire":  {`{"resourceType":"QuestionnaireResponse","questionnaire":"http://loinc.org/q/69737-5|2.7"}`, "PSY+MH"},
		"other questionnaire":  {`{"resourceType":"QuestionnaireResponse","questionnaire":"http://example.org/q/69737-5"}`, "-"},
		"quantity":             {`{"resourceType":"Observation","valueQuantity":{"value":1,"system":"http://unitsofmeasure.org","code":"mg"}}`, "-"},
		"text is no code":      {`{"resourceType":"Condition","code":{"text":"F32.1"}}`, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := classified(t, c.text).String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
