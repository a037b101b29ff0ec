package postgres_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// What a record takes over from the records that it is about, type by type:
// each is loaded twice, with the reference to what is protected and without it.
func TestProtectionPropagates(t *testing.T) {
	h := clinic(t)
	h.load(encounter("there", "sud"))
	h.load("{'resourceType':'QuestionnaireResponse','id':'answers','status':'completed','questionnaire':'http://example.org/Questionnaire/audit-c','subject':{'reference':'Patient/anna'}}")
	h.load("{'resourceType':'ServiceRequest','id':'order','status':'active','intent':'order','subject':{'reference':'Patient/anna'},'encounter':{'reference':'Encounter/there'}}")
	h.load("{'resourceType':'Observation','id':'o','status':'final','code':{'text':'o'},'subject':{'reference':'Patient/anna'},'encounter':{'reference':'Encounter/there'}}")
	const subject = "'subject':{'reference':'Patient/anna'}"
	const document = "'date':'2026-01-01','author':[{'reference':'Practitioner/dora'}]"
	insurance := "'patient':{'reference':'Patient/anna'},'created':'2026-01-01','use':'claim','type':{'text':'t'},"
	for i, c := range []struct {
		body string // % stands for the reference
		ref  string
		want label.Set
	}{
		{"{'resourceType':'DiagnosticReport','status':'final','code':{'text':'r'}," + subject + "%}", ",'encounter':{'reference':'Encounter/there'}", label.Part2},
		{"{'resourceType':'DiagnosticReport','status':'final','code':{'text':'r'}," + subject + "%}", ",'result':[{'reference':'Observation/o'}]", label.Part2},
		{"{'resourceType':'Observation','status':'final','code':{'text':'score'}," + subject + "%}", ",'derivedFrom':[{'reference':'QuestionnaireResponse/answers'}]", label.ETH | label.SUD | label.ETHUD},
		{"{'resourceType':'Claim','status':'active','priority':{'text':'p'},'insurance':[{'sequence':1,'focal':true,'coverage':{'display':'c'}}]," + insurance + "'provider':{%}}", "'reference':'Organization/sud'", label.Part2},
		{"{'resourceType':'ExplanationOfBenefit','status':'active','outcome':'complete','insurer':{'display':'i'},'insurance':[{'focal':true,'coverage':{'display':'c'}}]," + insurance + "'provider':{%}}", "'reference':'Organization/sud'", label.Part2},
		{"{'resourceType':'Task','status':'requested','intent':'order','for':{'reference':'Patient/anna'}%}", ",'focus':{'reference':'ServiceRequest/order'}", label.Part2},
		{"{'resourceType':'Task','status':'requested','intent':'order','for':{'reference':'Patient/anna'}%}", ",'input':[{'type':{'text':'t'},'valueReference':{'reference':'Observation/o'}}]", label.Part2},
		{"{'resourceType':'Communication','status':'completed'," + subject + "%}", ",'about':[{'reference':'Observation/o'}]", label.Part2},
		{"{'resourceType':'Communication','status':'completed'," + subject + "%}", ",'encounter':{'reference':'Encounter/there'}", label.Part2},
		{"{'resourceType':'Appointment','status':'booked','start':'2026-03-01T10:00:00Z','end':'2026-03-01T11:00:00Z','participant':[{'actor':{'reference':'Patient/anna'},'status':'accepted'}]%}", ",'basedOn':[{'reference':'ServiceRequest/order'}]", label.Part2},
		{"{'resourceType':'Flag','status':'active','code':{'text':'f'}," + subject + "%}", ",'encounter':{'reference':'Encounter/there'}", label.Part2},
		{"{'resourceType':'List','status':'current','mode':'working'," + subject + "%}", ",'encounter':{'reference':'Encounter/there'}", label.Part2},
		{"{'resourceType':'Composition','status':'final','title':'t','type':{'text':'t'}," + document + "," + subject + "%}", ",'encounter':{'reference':'Encounter/there'}", label.Part2},
		{"{'resourceType':'DocumentReference','status':'current','content':[{'attachment':{'contentType':'text/plain','data':'eA=='}}]," + subject + "%}", ",'context':{'related':[{'reference':'Observation/o'}]}", label.Part2},
		{"{'resourceType':'Provenance','recorded':'2026-01-01T00:00:00Z','agent':[{'who':{'reference':'Practitioner/dora'}}],'target':[{'reference':'Patient/anna'}%]}", ",{'reference':'Observation/o'}", label.Part2},
		{"{'resourceType':'MedicationRequest','status':'active','intent':'order','medicationCodeableConcept':{'text':'m'}," + subject + "%}", ",'basedOn':[{'reference':'ServiceRequest/order'}]", label.Part2},
	} {
		typ := strings.Split(c.body, "'")[3]
		id := func(s, name string) string { return strings.Replace(s, "{", "{'id':'"+name+strconv.Itoa(i)+"',", 1) }
		with := h.load(id(strings.Replace(c.body, "%", c.ref, 1), "with"))
		if got := h.labels(with); got != c.want {
			t.Errorf("%s with %s is %s, want %s", typ, c.ref, got, c.want)
		}
		plain := strings.Replace(c.body, "%", "", 1)
		plain = strings.Replace(plain, "'provider':{}", "'provider':{'display':'p'}", 1)
		without := h.load(id(plain, "without"))
		if got := h.labels(without); got != 0 {
			t.Errorf("%s without it is %s", typ, got)
		}
		// Whoever treats the patient outside the program sees the one and not the
		// other. A Task is in no patient's compartment (R4), and nothing of a biller's is a clinician's.
		clinical := typ != "Task" && typ != "Claim" && typ != "ExplanationOfBenefit"
		if out := h.as("therapist", "TREAT", "Practitioner/dora"); clinical && c.want.Has(label.Part2) && (h.sees(out, with) || !h.sees(out, without)) {
			t.Errorf("%s with %s: outside the program %v, without it %v", typ, c.ref, h.sees(out, with), h.sees(out, without))
		}
		if in := h.as("biller", "HPAYMT", "Practitioner/dora", fhir.ID("sud")); strings.Contains(c.body, "insurance") && !h.sees(in, with) {
			t.Errorf("%s: the program's own biller does not see it", typ)
		}
	}
}
