package server_test

import "slices"

// usCoreFixture is the resource that the searches of a type must find. Each
// parameter says how to ask for it, and how to make resources that must not be
// found: the body with at replaced by each of others.
type usCoreFixture struct {
	resource, body string
	parameters     []usCoreParameter
}

type usCoreParameter struct {
	name, value, at string
	others          []string
}

func by(name, value, at string, others ...string) usCoreParameter {
	return usCoreParameter{name, value, at, others}
}

// on is a parameter of dates, with a day before and a day after.
func on(name, day string) usCoreParameter {
	return by(name, day, day, "2019-01-01", "2031-01-01")
}

func usCoreFixtureOf(resource string) *usCoreFixture {
	i := slices.IndexFunc(usCoreFixtures, func(f usCoreFixture) bool { return f.resource == resource })
	if i < 0 {
		return nil
	}
	return &usCoreFixtures[i]
}

// usCoreIncluded are the types of what comes along, where an include does not name one.
var usCoreIncluded = map[string]string{
	"CareTeam:participant:PractitionerRole": "PractitionerRole", "CareTeam:participant:Practitioner": "Practitioner",
	"CareTeam:participant:Patient": "Patient", "CareTeam:participant:RelatedPerson": "RelatedPerson",
	"MedicationDispense:medication": "Medication", "MedicationRequest:medication": "Medication",
	"PractitionerRole:endpoint": "Endpoint", "PractitionerRole:practitioner": "Practitioner",
}

const usCoreDay = "2024-03-05"

var usCorePatient = by("patient", "usc-patient", "Patient/usc-patient", "Patient/usc-patient-name-0")

// usCoreFixtures are in an order in which each refers to those before it.
var usCoreFixtures = []usCoreFixture{
	{"Patient", `{"name":[{"text":"Uscorename","family":"Uscorefamily","given":["Uscoregiven"]}],"gender":"female","birthDate":"1980-02-03",
		"deceasedDateTime":"2024-03-05","identifier":[{"system":"https://example.org/mrn","value":"usc-1"}]}`, []usCoreParameter{
		by("name", "uscoren", "Uscorename", "Other"), by("family", "uscoref", "Uscorefamily", "Other"), by("given", "Uscoregiven", "Uscoregiven", "Another"),
		by("gender", "female", `"female"`, `"male"`), by("birthdate", "1980-02-03", "1980-02-03", "1980-02-04"), on("death-date", usCoreDay),
		by("identifier", "https://example.org/mrn|usc-1", "usc-1", "usc-2"),
	}},
	{"Practitioner", `{"name":[{"family":"Uscorepractitioner"}],"identifier":[{"system":"https://example.org/npi","value":"usc-1"}]}`, []usCoreParameter{
		by("name", "uscorep", "Uscorepractitioner", "Other"), by("identifier", "https://example.org/npi|usc-1", "usc-1", "usc-2"),
	}},
	{"Organization", `{"active":true,"name":"Uscore clinic","address":[{"line":["1 Uscore Road"],"city":"Uscoreville"}]}`, []usCoreParameter{
		by("name", "uscore cl", "Uscore clinic", "Other"), by("address", "uscoreville", "Uscoreville", "Elsewhere"),
	}},
	{"Location", `{"name":"Uscore rooms","address":{"line":["1 Uscore Road"],"city":"Uscoreville","state":"XW","postalCode":"98765"}}`, []usCoreParameter{
		by("name", "Uscore", "Uscore rooms", "Other"), by("address", "1 uscore road", "1 Uscore Road", "2 Other Road"),
		by("address-city", "uscoreville", "Uscoreville", "Elsewhere"), by("address-state", "XW", "XW", "YV"), by("address-postalcode", "98765", "98765", "12345"),
	}},
	{"Endpoint", `{"status":"active","connectionType":{"system":"http://terminology.hl7.org/CodeSystem/endpoint-connection-type","code":"hl7-fhir-rest"},
		"payloadType":[{"text":"any"}],"address":"https://example.org/fhir"}`, nil},
	{"Medication", `{"code":{"coding":[{"system":"https://example.org/codes","code":"usc-medication"}]}}`, nil},
	{"PractitionerRole", `{"practitioner":{"reference":"Practitioner/usc-practitioner"},"endpoint":[{"reference":"Endpoint/usc-endpoint"}],
		"specialty":[{"coding":[{"system":"https://example.org/codes","code":"usc-specialty"}]}]}`, []usCoreParameter{
		by("practitioner", "usc-practitioner", "Practitioner/usc-practitioner", "Practitioner/usc-practitioner-name-0"),
		by("specialty", "https://example.org/codes|usc-specialty", "usc-specialty", "usc-other"),
	}},
	{"RelatedPerson", `{"active":true,"patient":{"reference":"Patient/usc-patient"},"name":[{"family":"Uscorerelated"}]}`, []usCoreParameter{
		usCorePatient, by("name", "uscorer", "Uscorerelated", "Other"),
	}},
	{"Encounter", `{"status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB"},
		"type":[{"coding":[{"system":"https://example.org/codes","code":"usc-type"}]}],"subject":{"reference":"Patient/usc-patient"},
		"period":{"start":"2024-03-05T10:00:00Z","end":"2024-03-05T11:00:00Z"},"location":[{"location":{"reference":"Location/usc-location"}}],
		"identifier":[{"system":"https://example.org/visit","value":"usc-1"}],
		"hospitalization":{"dischargeDisposition":{"coding":[{"system":"https://example.org/codes","code":"usc-home"}]}}}`, []usCoreParameter{
		usCorePatient, by("class", "http://terminology.hl7.org/CodeSystem/v3-ActCode|AMB", "AMB", "IMP"), by("status", "finished", "finished", "planned"),
		by("type", "https://example.org/codes|usc-type", "usc-type", "usc-other"), on("date", usCoreDay),
		by("location", "usc-location", "Location/usc-location", "Location/usc-location-name-0"),
		by("identifier", "https://example.org/visit|usc-1", "usc-1", "usc-2"), by("discharge-disposition", "https://example.org/codes|usc-home", "usc-home", "usc-other"),
	}},
	{"AllergyIntolerance", `{"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]},
		"code":{"text":"made up"},"patient":{"reference":"Patient/usc-patient"}}`, []usCoreParameter{
		usCorePatient, by("clinical-status", "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical|active", `"active"`, `"resolved"`),
	}},
	{"CarePlan", `{"status":"active","intent":"plan","category":[{"coding":[{"system":"https://example.org/codes","code":"usc-category"}]}],
		"subject":{"reference":"Patient/usc-patient"},"period":{"start":"2024-03-05","end":"2024-03-05"}}`, []usCoreParameter{
		usCorePatient, by("category", "https://example.org/codes|usc-category", "usc-category", "usc-other"), by("status", "active", `"active"`, `"revoked"`), on("date", usCoreDay),
	}},
	{"CareTeam", `{"status":"active","subject":{"reference":"Patient/usc-patient"},"participant":[
		{"role":[{"coding":[{"system":"https://example.org/codes","code":"usc-role"}]}],"member":{"reference":"Practitioner/usc-practitioner"}},
		{"member":{"reference":"PractitionerRole/usc-practitionerrole"}},{"member":{"reference":"Patient/usc-patient"}},
		{"member":{"reference":"RelatedPerson/usc-relatedperson"}}]}`, []usCoreParameter{
		usCorePatient, by("status", "active", `"active"`, `"inactive"`), by("role", "https://example.org/codes|usc-role", "usc-role", "usc-other"),
	}},
	{"Condition", `{"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"resolved"}]},
		"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-ver-status","code":"confirmed"}]},
		"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category","code":"encounter-diagnosis"}]}],
		"code":{"coding":[{"system":"https://example.org/codes","code":"usc-code"}]},"subject":{"reference":"Patient/usc-patient"},
		"encounter":{"reference":"Encounter/usc-encounter"},"onsetDateTime":"2024-03-05T08:00:00Z","abatementDateTime":"2024-03-05T09:00:00Z","recordedDate":"2024-03-05T10:00:00Z",
		"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/condition-assertedDate","valueDateTime":"2024-03-05T07:00:00Z"}]}`, []usCoreParameter{
		usCorePatient, by("category", "http://terminology.hl7.org/CodeSystem/condition-category|encounter-diagnosis", "encounter-diagnosis", "problem-list-item"),
		by("clinical-status", "http://terminology.hl7.org/CodeSystem/condition-clinical|resolved", `"resolved"`, `"inactive"`),
		by("code", "https://example.org/codes|usc-code", "usc-code", "usc-other"), by("encounter", "usc-encounter", "Encounter/usc-encounter", "Encounter/usc-encounter-status-0"),
		by("onset-date", usCoreDay, "2024-03-05T08", "2019-01-01T08", "2031-01-01T08"), by("abatement-date", usCoreDay, "2024-03-05T09", "2019-01-01T09", "2031-01-01T09"),
		by("recorded-date", usCoreDay, "2024-03-05T10", "2019-01-01T10", "2031-01-01T10"), by("asserted-date", usCoreDay, "2024-03-05T07", "2019-01-01T07", "2031-01-01T07"),
	}},
	{"Coverage", `{"status":"active","beneficiary":{"reference":"Patient/usc-patient"},"payor":[{"reference":"Organization/usc-organization"}]}`, []usCoreParameter{usCorePatient}},
	{"Device", `{"status":"active","type":{"coding":[{"system":"https://example.org/codes","code":"usc-type"}]},"patient":{"reference":"Patient/usc-patient"}}`, []usCoreParameter{
		usCorePatient, by("status", "active", `"active"`, `"inactive"`), by("type", "https://example.org/codes|usc-type", "usc-type", "usc-other"),
	}},
	{"DiagnosticReport", `{"status":"final","category":[{"coding":[{"system":"https://example.org/codes","code":"usc-category"}]}],
		"code":{"coding":[{"system":"https://example.org/codes","code":"usc-code"}]},"subject":{"reference":"Patient/usc-patient"},"effectiveDateTime":"2024-03-05T10:00:00Z"}`, []usCoreParameter{
		usCorePatient, by("category", "https://example.org/codes|usc-category", "usc-category", "usc-other"), by("code", "https://example.org/codes|usc-code", "usc-code", "usc-third"),
		by("status", "final", `"final"`, `"amended"`), on("date", usCoreDay),
	}},
	{"DocumentReference", `{"status":"current","type":{"coding":[{"system":"https://example.org/codes","code":"usc-type"}]},
		"category":[{"coding":[{"system":"https://example.org/codes","code":"usc-category"}]}],"subject":{"reference":"Patient/usc-patient"},"date":"2024-03-05T10:00:00Z",
		"content":[{"attachment":{"contentType":"text/plain","data":"eA=="}}],"context":{"period":{"start":"2024-03-05T08:00:00Z","end":"2024-03-05T08:30:00Z"}}}`, []usCoreParameter{
		usCorePatient, by("status", "current", `"current"`, `"superseded"`), by("type", "https://example.org/codes|usc-type", "usc-type", "usc-other"),
		by("category", "https://example.org/codes|usc-category", "usc-category", "usc-third"), by("date", usCoreDay, "2024-03-05T10", "2019-01-01T10", "2031-01-01T10"),
		by("period", usCoreDay, "2024-03-05T08", "2019-01-01T08", "2031-01-01T08"),
	}},
	{"Goal", `{"lifecycleStatus":"active","description":{"coding":[{"system":"https://example.org/codes","code":"usc-goal"}]},"subject":{"reference":"Patient/usc-patient"},
		"target":[{"dueDate":"2024-03-05"}]}`, []usCoreParameter{
		usCorePatient, by("lifecycle-status", "active", `"active"`, `"completed"`), by("description", "https://example.org/codes|usc-goal", "usc-goal", "usc-other"), on("target-date", usCoreDay),
	}},
	{"Immunization", `{"status":"completed","vaccineCode":{"text":"made up"},"patient":{"reference":"Patient/usc-patient"},"occurrenceDateTime":"2024-03-05"}`, []usCoreParameter{
		usCorePatient, by("status", "completed", `"completed"`, `"not-done"`), on("date", usCoreDay),
	}},
	{"MedicationDispense", `{"status":"completed","type":{"coding":[{"system":"https://example.org/codes","code":"usc-type"}]},
		"medicationReference":{"reference":"Medication/usc-medication"},"subject":{"reference":"Patient/usc-patient"}}`, []usCoreParameter{
		usCorePatient, by("status", "completed", `"completed"`, `"stopped"`), by("type", "https://example.org/codes|usc-type", "usc-type", "usc-other"),
	}},
	{"MedicationRequest", `{"status":"active","intent":"order","medicationReference":{"reference":"Medication/usc-medication"},"subject":{"reference":"Patient/usc-patient"},
		"encounter":{"reference":"Encounter/usc-encounter"},"authoredOn":"2024-03-05T10:00:00Z"}`, []usCoreParameter{
		usCorePatient, by("status", "active", `"active"`, `"stopped"`), by("intent", "order", `"order"`, `"plan"`),
		by("encounter", "usc-encounter", "Encounter/usc-encounter", "Encounter/usc-encounter-status-0"), on("authoredon", usCoreDay),
	}},
	{"Observation", `{"status":"final","category":[{"coding":[{"system":"https://example.org/codes","code":"usc-category"}]}],
		"code":{"coding":[{"system":"https://example.org/codes","code":"usc-code"}]},"subject":{"reference":"Patient/usc-patient"},"effectiveDateTime":"2024-03-05T10:00:00Z"}`, []usCoreParameter{
		usCorePatient, by("category", "https://example.org/codes|usc-category", "usc-category", "usc-other"), by("code", "https://example.org/codes|usc-code", "usc-code", "usc-third"),
		by("status", "final", `"final"`, `"amended"`), on("date", usCoreDay),
	}},
	{"Procedure", `{"status":"completed","code":{"coding":[{"system":"https://example.org/codes","code":"usc-code"}]},"subject":{"reference":"Patient/usc-patient"},"performedDateTime":"2024-03-05"}`, []usCoreParameter{
		usCorePatient, by("status", "completed", `"completed"`, `"stopped"`), by("code", "https://example.org/codes|usc-code", "usc-code", "usc-other"), on("date", usCoreDay),
	}},
	{"QuestionnaireResponse", `{"status":"completed","questionnaire":"https://example.org/Questionnaire/usc","subject":{"reference":"Patient/usc-patient"},"authored":"2024-03-05T10:00:00Z"}`, []usCoreParameter{
		usCorePatient, by("status", "completed", `"completed"`, `"stopped"`), on("authored", usCoreDay),
		by("questionnaire", "https://example.org/Questionnaire/usc", "Questionnaire/usc", "Questionnaire/other"),
	}},
	{"ServiceRequest", `{"status":"active","intent":"order","category":[{"coding":[{"system":"https://example.org/codes","code":"usc-category"}]}],
		"code":{"coding":[{"system":"https://example.org/codes","code":"usc-code"}]},"subject":{"reference":"Patient/usc-patient"},"authoredOn":"2024-03-05T10:00:00Z"}`, []usCoreParameter{
		usCorePatient, by("status", "active", `"active"`, `"revoked"`), by("category", "https://example.org/codes|usc-category", "usc-category", "usc-other"),
		by("code", "https://example.org/codes|usc-code", "usc-code", "usc-third"), on("authored", usCoreDay),
	}},
	{"Specimen", `{"subject":{"reference":"Patient/usc-patient"}}`, []usCoreParameter{usCorePatient}},
	{"Provenance", `{"recorded":"2024-03-05T10:00:00Z","agent":[{"who":{"reference":"Practitioner/usc-practitioner"}}],"target":[
		{"reference":"AllergyIntolerance/usc-allergyintolerance"},{"reference":"CarePlan/usc-careplan"},{"reference":"CareTeam/usc-careteam"},{"reference":"Condition/usc-condition"},
		{"reference":"Coverage/usc-coverage"},{"reference":"Device/usc-device"},{"reference":"DiagnosticReport/usc-diagnosticreport"},{"reference":"DocumentReference/usc-documentreference"},
		{"reference":"Encounter/usc-encounter"},{"reference":"Goal/usc-goal"},{"reference":"Immunization/usc-immunization"},{"reference":"MedicationDispense/usc-medicationdispense"},
		{"reference":"MedicationRequest/usc-medicationrequest"},{"reference":"Observation/usc-observation"},{"reference":"Patient/usc-patient"},{"reference":"Procedure/usc-procedure"},
		{"reference":"QuestionnaireResponse/usc-questionnaireresponse"},{"reference":"RelatedPerson/usc-relatedperson"},{"reference":"ServiceRequest/usc-servicerequest"}]}`, nil},
}
