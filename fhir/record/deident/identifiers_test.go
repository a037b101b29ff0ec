package deident

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
)

// least is what R4 requires of the types of these tests.
var least = map[string]string{
	"Patient": "", "Practitioner": "", "Organization": "'active':true", "Location": "", "Device": "", "Specimen": "",
	"RelatedPerson": "'patient':{'reference':'Patient/p'}", "Condition": "'subject':{'reference':'Patient/p'}",
	"Observation":           "'status':'final','code':" + loincScore,
	"Encounter":             "'status':'finished','class':{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'AMB'}",
	"Coverage":              "'status':'active','beneficiary':{'reference':'Patient/p'},'payor':[{'reference':'Organization/o'}]",
	"Claim":                 "'status':'active','type':{'text':'x'},'use':'claim','patient':{'reference':'Patient/p'},'created':'2024-03-05','provider':{'reference':'Organization/o'},'priority':{'text':'x'},'insurance':[{'sequence':1,'focal':true,'coverage':{'reference':'Coverage/c'}}]",
	"ServiceRequest":        "'status':'active','intent':'order','subject':{'reference':'Patient/p'}",
	"ImagingStudy":          "'status':'available','subject':{'reference':'Patient/p'}",
	"QuestionnaireResponse": "'status':'completed'", "DiagnosticReport": "'status':'final','code':" + loincScore,
	"Procedure": "'status':'completed','subject':{'reference':'Patient/p'}", "FamilyMemberHistory": "'status':'completed','patient':{'reference':'Patient/p'},'relationship':{'text':'x'}",
	"MedicationRequest": "'status':'active','intent':'order','medicationCodeableConcept':{'text':'x'},'subject':{'reference':'Patient/p'}",
}

// place is where R4 can have an identifier: an element of a type, what in it identifies, and what becomes of that under the safe
// harbor, in a limited data set and by an expert's determination. "" is nothing.
type identified struct {
	rt, element, secret     string
	harbor, limited, expert string
}

// gone is a place of which nothing stays under any profile.
func gone(rt, element, secret string) identified {
	return identified{rt: rt, element: element, secret: secret}
}

const human = "'name':[{'use':'official','text':'Jane Q Roe','family':'Q Roe','given':['Jane'],'prefix':['Q Roe'],'suffix':['Q Roe']}]"

// identifiers are the eighteen of 45 CFR 164.514(b)(2)(i), by their letters.
var identifiers = []struct {
	letter, what string
	places       []identified
}{
	{"A", "names", []identified{
		gone("Patient", human, "Roe"), gone("Practitioner", human, "Roe"), gone("RelatedPerson", human, "Roe"), gone("Organization", "'name':'Roe','alias':['Roe']", "Roe"), gone("Location", "'name':'Roe','alias':['Roe'],'description':'Roe'", "Roe"),
		gone("Patient", "'contact':[{'name':{'text':'Roe'},'relationship':[{'text':'Roe'}]}]", "Roe"), gone("Patient", "'text':{'status':'generated','div':'<div xmlns=\\'http://www.w3.org/1999/xhtml\\'>Roe</div>'}", "Roe"),
		gone("Observation", "'performer':[{'display':'Roe'}]", "Roe"), gone("Observation", "'note':[{'authorString':'Roe','text':'Roe'}],'valueString':'Roe'", "Roe"), gone("Condition", "'code':{'text':'Roe','coding':[{'system':'http://loinc.org','code':'44261-6','display':'Roe'}]}", "Roe"),
		gone("FamilyMemberHistory", "'name':'Roe'", "Roe"), gone("Device", "'deviceName':[{'name':'Roe','type':'other'}],'manufacturer':'Roe'", "Roe"), gone("QuestionnaireResponse", "'item':[{'linkId':'/44249-1','text':'Roe','answer':[{'valueString':'Roe'}]}]", "Roe"),
		gone("Person", human, "Roe"), gone("DocumentReference", "'status':'current','content':[{'attachment':{'title':'Roe'}}]", "Roe"),
	}},
	{"B", "places smaller than a state", []identified{
		gone("Patient", "'address':[{'state':'NY','line':['1 Roe St'],'district':'Roe','text':'Roe'}]", "Roe"), {"Patient", "'address':[{'city':'Troy'}]", "Troy", "", "'Troy'", ""},
		{"Patient", "'address':[{'state':'NY','postalCode':'12180-1234'}]", "12180", "'postalCode':'121'", "'postalCode':'12180'", ""}, gone("Patient", "'address':[{'state':'NY','postalCode':'12180-1234'}]", "1234"),
		{"Patient", "'address':[{'state':'VT','postalCode':'05901'}]", "059", "'postalCode':'000'", "'postalCode':'05901'", ""}, {"Patient", "'address':[{'state':'Massachusetts'}]", "MA", "'MA'", "'MA'", ""}, gone("Patient", "'address':[{'country':'DE','state':'BE','postalCode':'10115','city':'Mitte'}]", "10115"),
		{"Organization", "'address':[{'line':['1 Roe St'],'city':'Troy','postalCode':'12180'}]", "12180", "'121'", "'12180'", ""}, gone("RelatedPerson", "'address':[{'line':['Roe'],'city':'Roe','postalCode':'12180'}]", "12180"), gone("Practitioner", "'address':[{'line':['Roe'],'postalCode':'12180'}]", "12180"),
		gone("Location", "'position':{'longitude':-73.6918,'latitude':42.7284}", "42.72"), gone("Location", "'address':{'line':['1 Roe St']}", "Roe"), gone("Patient", "'contact':[{'address':{'postalCode':'12180'}}]", "12180"),
		gone("Patient", "'extension':[{'url':'http://hl7.org/fhir/StructureDefinition/patient-birthPlace','valueAddress':{'city':'Troy'}}]", "Troy"), gone("Claim", "'accident':{'date':'2024-03-05','locationAddress':{'city':'Troy'}}", "Troy"),
	}},
	{"C", "dates and ages over 89", []identified{
		{"Patient", "'birthDate':'1980-06-15'", "06-15", "'birthDate':'1980'", "'1980-06-15'", ""}, {"Patient", "'deceasedDateTime':'2024-03-05T04:05:06Z'", "03-05", "'deceasedDateTime':'2024'", "'2024-03-05T04:05:06Z'", ""},
		{"Encounter", "'period':{'start':'2024-03-05T10:00:00Z','end':'2024-03-06'}", "03-05", "'start':'2024'", "'2024-03-05T10:00:00Z'", "'start':'2024-03-12'"}, {"Observation", "'issued':'2024-03-05T10:00:00Z'", "03-05", "", "'2024-03-05T10:00:00Z'", "'2024-03-12T00:00:00Z'"},
		{"Observation", "'effectiveTiming':{'event':['2024-03-05'],'repeat':{'timeOfDay':['10:11:12'],'dayOfWeek':['tue'],'frequency':1,'period':1,'periodUnit':'d'}}", "03-05", "'2024'", "'2024-03-05'", "'2024-03-12'"},
		{"Observation", "'valueTime':'10:11:12'", "10:11", "", "'10:11:12'", ""}, {"QuestionnaireResponse", "'item':[{'linkId':'/21112-8','answer':[{'valueDate':'1980-06-15'}]}]", "06-15", "'1980'", "'1980-06-15'", "'1980-06-22'"},
		gone("Patient", "'_birthDate':{'extension':[{'url':'http://hl7.org/fhir/StructureDefinition/patient-birthTime','valueDateTime':'1980-06-15T10:11:12Z'}]}", "10:11"), gone("Patient", "'name':[{'period':{'start':'2024-03-05'}}],'meta':{'lastUpdated':'2024-03-05T10:00:00Z'}", "03-05"),
		gone("FamilyMemberHistory", "'bornDate':'1950-03-05'", "03-05"), gone("FamilyMemberHistory", "'deceasedDate':'2024-03-05'", "03-05"), {"Condition", "'onsetAge':{'value':93,'system':'http://unitsofmeasure.org','code':'a'}", "93", "'value':90,'comparator':'>='", "'value':93", "'value':90,'comparator':'>='"},
	}},
	{"D", "telephone numbers", telecoms("phone", "+1 206 555 0123", gone("Observation", "'valueInteger':2065550", "2065550"),
		gone("Observation", "'valueQuantity':{'value':2065550123,'system':'http://unitsofmeasure.org','code':'mg'}", "206555"), gone("Observation", "'valueQuantity':{'value':0.2065550123,'system':'http://unitsofmeasure.org','code':'mg'}", "2065550123"))},
	{"E", "fax numbers", telecoms("fax", "+1 206 555 0199")},
	{"F", "electronic mail addresses", telecoms("email", "jane@roe.example", gone("Observation", "'valueString':'jane@roe.example'", "@"))},
	{"G", "social security numbers", []identified{
		gone("Patient", "'identifier':[{'system':'http://hl7.org/fhir/sid/us-ssn','value':'987-65-4321'}]", "4321"), gone("Observation", "'valueInteger':987654321", "987654"), gone("QuestionnaireResponse", "'item':[{'linkId':'/45396-3','answer':[{'valueString':'987-65-4321'},{'valueInteger':987654321}]}]", "98765"),
		gone("Observation", "'valueCodeableConcept':{'coding':[{'system':'http://hl7.org/fhir/sid/us-ssn','code':'987-65-4321'}]}", "4321"), gone("Observation", "'valueQuantity':{'value':987654321,'system':'http://unitsofmeasure.org','code':'mg'}", "98765"),
	}},
	{"H", "medical record numbers", []identified{
		gone("Patient", "'identifier':[{'type':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v2-0203','code':'MR'}]},'value':'MRN-4711','assigner':{'display':'MRN-4711'}}]", "4711"), gone("Observation", "'subject':{'reference':'Patient/MRN-4711','identifier':{'value':'MRN-4711'}}", "4711"),
		gone("Observation", "'subject':{'reference':'https://ehr.example/Patient/MRN-4711'}", "4711"), gone("Observation", "'subject':{'reference':'urn:uuid:00004711-0000-4000-8000-000000000000'}", "4711"), gone("Observation", "'subject':{'reference':'Patient/MRN-4711/_history/3'}", "4711"), gone("Patient", "'link':[{'type':'seealso','other':{'reference':'Patient/MRN-4711'}}]", "4711"),
	}},
	{"I", "health plan beneficiary numbers", []identified{
		gone("Coverage", "'subscriberId':'PLAN-4711','dependent':'4711','identifier':[{'value':'PLAN-4711'}],'network':'PLAN-4711','class':[{'type':{'text':'x'},'value':'4711','name':'4711'}]", "4711"),
		gone("Patient", "'identifier':[{'type':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v2-0203','code':'MB'}]},'value':'PLAN-4711'}]", "4711"), gone("Claim", "'identifier':[{'value':'4711'}]", "4711"), gone("Claim", "'related':[{'reference':{'value':'4711'}}]", "4711"),
	}},
	{"J", "account numbers", []identified{
		gone("Account", "'status':'active','identifier':[{'value':'4711'}],'name':'4711'", "4711"), gone("Encounter", "'account':[{'reference':'Account/4711'}],'identifier':[{'value':'4711'}]", "4711"), gone("Patient", "'identifier':[{'type':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v2-0203','code':'AN'}]},'value':'4711'}]", "4711"),
		gone("Observation", "'valueInteger':4711471", "4711"), gone("Observation", "'valueQuantity':{'value':4711471}", "4711"), // a shorter one is a result
	}},
	{"K", "certificate and licence numbers", []identified{
		gone("Practitioner", "'identifier':[{'system':'http://hl7.org/fhir/sid/us-npi','value':'4711'}],'qualification':[{'code':{'coding':[{'system':'http://loinc.org','code':'44261-6'}],'text':'4711'},'identifier':[{'value':'4711'}]}]", "4711"),
		gone("Patient", "'identifier':[{'type':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v2-0203','code':'DL'}]},'value':'4711'}]", "4711"), gone("Organization", "'identifier':[{'system':'urn:oid:2.16.840.1.113883.4.7','value':'4711'}]", "4711"),
	}},
	{"L", "vehicle identifiers", []identified{
		gone("Patient", "'identifier':[{'system':'urn:oid:2.16.840.1.113883.4.56','value':'1HGCM82633A004352'}]", "004352"), gone("Device", "'serialNumber':'1HGCM82633A004352','identifier':[{'value':'1HGCM82633A004352'}]", "004352"), gone("Claim", "'accident':{'date':'2024-03-05','locationReference':{'display':'004352'}}", "004352"),
	}},
	{"M", "device identifiers and serial numbers", []identified{
		gone("Device", "'udiCarrier':[{'deviceIdentifier':'4711','issuer':'http://udi.example/4711','jurisdiction':'http://udi.example/4711','carrierAIDC':'NDcxMQ==','carrierHRF':'(01)4711'}],'distinctIdentifier':'4711','serialNumber':'4711','lotNumber':'4711','modelNumber':'4711','partNumber':'4711','version':[{'value':'4711'}]", "4711"),
		gone("Device", "'udiCarrier':[{'carrierAIDC':'NDcxMQ=='}],'url':'http://4711.example'", "NDcx"), gone("Procedure", "'focalDevice':[{'manipulated':{'reference':'Device/4711','display':'4711'}}]", "4711"), gone("Observation", "'device':{'identifier':{'value':'4711'}}", "4711"),
	}},
	{"N", "URLs", append(telecoms("url", "https://roe.example/jane"), gone("Endpoint", "'status':'active','address':'https://roe.example'", "roe.example"), gone("Observation", "'code':{'coding':[{'system':'https://roe.example','code':'x'}]}", "roe.example"),
		gone("Patient", "'meta':{'source':'https://roe.example','profile':['https://roe.example'],'tag':[{'system':'https://roe.example','code':'x'}]}", "roe.example"), gone("Patient", "'extension':[{'url':'https://roe.example','valueUri':'https://roe.example'}]", "roe.example"),
		gone("QuestionnaireResponse", "'questionnaire':'https://roe.example/q'", "roe.example"), gone("Observation", "'valueCodeableConcept':{'extension':[{'url':'https://roe.example','valueBoolean':true}],'text':'x'}", "roe.example"))},
	{"O", "IP addresses", append(telecoms("other", "198.51.100.7"), gone("AuditEvent", "'agent':[{'network':{'address':'198.51.100.7'}}]", "198.51"), gone("Device", "'url':'http://198.51.100.7'", "198.51"), gone("Observation", "'valueString':'198.51.100.7'", "198.51"))},
	{"P", "biometric identifiers", []identified{
		gone("Observation", "'valueSampledData':{'origin':{'value':0},'period':10,'dimensions':1,'data':'4711 4712'}", "4711"), gone("DocumentReference", "'status':'current','content':[{'attachment':{'contentType':'audio/wav','data':'NDcxMQ=='}}]", "NDcx"), gone("Binary", "'contentType':'image/png','data':'NDcxMQ=='", "NDcx"),
		gone("QuestionnaireResponse", "'item':[{'linkId':'/44249-1','answer':[{'valueAttachment':{'data':'NDcxMQ==','url':'http://4711.example','title':'4711','hash':'NDcxMQ=='}}]}]", "NDcx"), gone("Patient", "'extension':[{'url':'https://x.example/fingerprint','valueBase64Binary':'NDcxMQ=='}]", "NDcx"),
	}},
	{"Q", "full-face photographs", []identified{
		gone("Patient", "'photo':[{'contentType':'image/jpeg','data':'NDcxMQ=='}]", "NDcx"), gone("Practitioner", "'photo':[{'data':'NDcxMQ=='}]", "NDcx"), gone("RelatedPerson", "'photo':[{'data':'NDcxMQ=='}]", "NDcx"), gone("Media", "'status':'completed','content':{'data':'NDcxMQ=='}", "NDcx"),
		gone("DiagnosticReport", "'media':[{'link':{'reference':'Media/NDcx'}}],'presentedForm':[{'data':'NDcxMQ=='}]", "NDcx"),
	}},
	{"R", "any other that is unique", []identified{
		gone("ServiceRequest", "'requisition':{'value':'4711'},'identifier':[{'value':'4711'}]", "4711"), gone("Specimen", "'accessionIdentifier':{'value':'4711'},'container':[{'identifier':[{'value':'4711'}],'description':'4711'}]", "4711"), gone("ImagingStudy", "'identifier':[{'value':'urn:oid:1.2.4711'}],'series':[{'uid':'1.2.4711','modality':{'code':'CT'}}]", "4711"),
		gone("Observation", "'code':{'coding':[{'system':'https://practice.example/own','code':'4711'}]}", "4711"), gone("Observation", "'valueCodeableConcept':{'id':'x4711','coding':[{'id':'y4711','system':'http://loinc.org','version':'4711','code':'44261-6'}]}", "4711"), gone("Patient", "'meta':{'versionId':'4711'}", "4711"),
		gone("Patient", "'extension':[{'url':'http://hl7.org/fhir/us/core/StructureDefinition/us-core-race','extension':[{'url':'text','valueString':'4711'}]}]", "4711"), gone("MedicationRequest", "'groupIdentifier':{'value':'4711'},'instantiatesUri':['urn:x:4711']", "4711"),
		gone("Observation", "'contained':[{'resourceType':'Specimen','id':'s4711','identifier':[{'value':'4711'}],'note':[{'text':'4711'}]}],'specimen':{'reference':'#s4711'}", "4711"), gone("Observation", "'valueQuantity':{'value':7,'unit':'4711','system':'https://x.example','code':'4711'}", "4711"),
		gone("QuestionnaireResponse", "'item':[{'linkId':'4711','answer':[{'valueInteger':4711}]}]", "4711"), gone("Basic", "'code':{'text':'4711'}", "4711"),
	}},
}

// telecoms are the places of a contact point.
func telecoms(system, value string, more ...identified) []identified {
	point := "[{'system':'" + system + "','value':'" + value + "'}]"
	out := []identified{gone("Patient", "'contact':[{'telecom':"+point+"}]", value), gone("Patient", "'extension':[{'url':'https://x.example','valueContactPoint':{'system':'"+system+"','value':'"+value+"'}}]", value)}
	for _, rt := range []string{"Patient", "Practitioner", "Organization", "Location", "RelatedPerson"} {
		out = append(out, gone(rt, "'telecom':"+point, value))
	}
	return append(out, more...)
}

// Each of the eighteen identifiers, in the places where R4 can have it: what becomes of it under each profile.
func TestD1_164_514_b_2_i_A_R_Identifiers(t *testing.T) {
	letters, listed := "", Types()
	for _, row := range identifiers {
		letters += row.letter
		if len(row.places) < 3 {
			t.Errorf("(%s) %s: %d places", row.letter, row.what, len(row.places))
		}
		for _, p := range row.places {
			body := "{'resourceType':'" + p.rt + "','id':'p'"
			for _, part := range []string{least[p.rt], p.element} {
				if part != "" {
					body += "," + part
				}
			}
			s := stored{patient: "p", body: strings.ReplaceAll(strings.ReplaceAll(body, `\'`, "\x00"), "\x00", `\u0027`) + "}"}
			s.body = once(s.body)
			for profile, want := range map[string]string{"safe-harbor": p.harbor, "limited-data-set": p.limited, "expert-determination": p.expert} {
				x := newTrial(t, profile, func(c *Config) {
					if c.Expert != nil {
						c.Expert.Shifts = week{}
					}
				})
				m, err := x.release.make(context.Background(), s.seal(t, x.grants), "S")
				if err != nil {
					t.Fatal(err)
				}
				on := slices.Contains(listed, fhir.ResourceType(p.rt)) && !(profile == "expert-determination" && allowed().harbor[p.rt].shared)
				if (m.left == "") != on {
					t.Errorf("(%s) %s in %s: %q %s", row.letter, row.what, profile, m.left, s.body)
				}
				text := shown(m.root)
				if strings.Contains(text, p.secret) != (want != "" && strings.Contains(want, p.secret)) || !strings.Contains(text, want) {
					t.Errorf("(%s) %s of %s in %s: want %q of %s, got %s", row.letter, row.what, p.rt, profile, want, p.element, text)
				}
			}
		}
	}
	if letters != "ABCDEFGHIJKLMNOPQR" {
		t.Error(letters)
	}
}

// once keeps of an element that is required and told the one that is told.
func once(body string) string {
	for _, twice := range []string{"'code':" + loincScore + ",", "'subject':{'reference':'Patient/p'},"} {
		name, _, _ := strings.Cut(twice, ":")
		if rest := strings.Replace(body, twice, "", 1); rest != body && strings.Contains(rest, ","+name+":") && strings.HasPrefix(rest, "{") && strings.Count(top(rest), name+":") == 1 {
			body = rest
		}
	}
	return body
}

// top is the text of an object without what is inside of others.
func top(body string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch r {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth > 1 {
			return -1
		}
		return r
	}, body)
}
