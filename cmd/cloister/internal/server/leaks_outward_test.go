package server_test

import (
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// counting are the ways of a researcher's to ask how many there are.
func counting(rt fhir.ResourceType) (out []call) {
	at := "/" + string(rt)
	for _, q := range []string{"?_summary=count", "?_total=accurate&_count=1", "?_total=estimate&_count=1", "?_lastUpdated=ge2026-03-02&_summary=count", "?_lastUpdated=lt2026-03-02&_summary=count",
		"?_has:Encounter:practitioner:status=finished&_summary=count", "?_has:Encounter:service-provider:status:missing=false&_summary=count", "?_has:Observation:patient:code=44261-6&_summary=count",
		"?_id:missing=false&_sort=-_lastUpdated&_count=1"} {
		out = append(out, get(at+q))
	}
	return out
}

// A researcher counts nothing that she does not read: without a documented basis (45 CFR 164.512(i),
// 42 CFR 2.52) the records of all patients together are none, before and after one is added,
// whatever filters overlap. With one, each count is the number of records that are before her one by
// one: no difference of two tells of another. What aggregates otherwise is not here.
func TestL46_CountsAndDifferencesTellAResearcherNothing(t *testing.T) {
	t.Parallel()
	w := clonesOf(t, "research-analyst")
	opioid, sud := found(t, "Colin", "Condition"), found(t, "", "Organization", "part2-program").ref
	basis := paramsOf("kind", "valueCode", "research", "purpose", "valueCode", "HRESCH", "recipient", "valueReference", w.persona.Claims.FHIRUser, "program", "valueReference", sud.String(), "end", "valueDateTime", "2026-06-30")
	basis = strings.TrimSuffix(basis, "]}") + `,{"name":"documentation","part":[{"name":"protocol","valueString":"P1"},{"name":"basis","valueString":"waiver"},{"name":"board","valueString":"IRB"},{"name":"no-identified-reports","valueBoolean":true}]}]}`
	types := []fhir.ResourceType{"Patient", "Condition", "Observation", "Encounter", "MedicationRequest", "Practitioner", "Organization", "Claim", "DocumentReference", "Group", "Measure", "MeasureReport", "AuditEvent"}
	ask := func() (counts map[string]int, answers []string) {
		counts = map[string]int{}
		for _, rt := range types {
			for _, c := range counting(rt) {
				a := w.check(t, c)
				answers = append(answers, c.path+"\n"+normal(a))
				if a.status == http.StatusOK {
					counts[c.path] = total(a)
				} else if a.status != http.StatusForbidden && a.status != http.StatusBadRequest {
					t.Errorf("%s: %d", c.path, a.status)
				}
			}
		}
		return counts, answers
	}

	// Without a basis: the twin is excised of every record, and counts the same.
	before, first := ask()
	some := 0
	for path, n := range before {
		directory := strings.HasPrefix(path, "/fhir/Practitioner") || strings.HasPrefix(path, "/fhir/Organization")
		if !directory && n > 0 {
			t.Errorf("%s counts %d records of patients", path, n)
		}
		if directory && n > 0 {
			some++
			if strings.Contains(path, "_has") {
				t.Errorf("%s tells of Encounters that she does not see: %d", path, n)
			}
		}
	}
	if some == 0 {
		t.Error("she counts nothing at all: this is no test")
	}
	w.excise(t)
	_, second := ask()
	for _, h := range []*house{w.full, w.twin} { // the clocks stay together
		h.clock.Add(1)
	}
	if a := w.full.do("sud-counselor", call{method: "POST", path: "/fhir/Observation", body: `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"44261-6"}]},"subject":{"reference":"Patient/` + opioid.patient + `"}}`}); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.twin.clock.Add(1)
	_, third := ask()
	for i := range first {
		if first[i] != second[i] || second[i] != third[i] {
			t.Errorf("a count differs once a record is gone, or another one there:\n%s\n---\n%s\n---\n%s", first[i], second[i], third[i])
		}
	}
	for _, op := range []string{"/Measure/$evaluate-measure", "/Measure/x/$evaluate-measure", "/Observation/$stats?statistic=count", "/Group/x/$everything", "/MeasureReport?_summary=count", "/Group?member=" + opioid.ref.String(), "/$de-identify"} {
		if a := w.check(t, get(op)); a.status != http.StatusNotFound && a.status != http.StatusForbidden {
			t.Errorf("%s: %d %.200s", op, a.status, a.body)
		}
	}

	// With a basis for the program's records.
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	if a := h.post("privacy-officer", "/$document-exception", basis); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	count := func(path string) int { t.Helper(); return total(h.do("research-analyst", get(path+"&_summary=count"))) }
	for _, rt := range []string{"Condition", "Observation", "Encounter"} {
		all := "/" + rt + "?_total=accurate"
		a := h.do("research-analyst", get(all+"&_count=1000"))
		shown := strings.Count(a.body, `"mode":"match"`) + strings.Count(a.body, `"mode": "match"`)
		if n := count(all); n != shown || n != total(a) || n == 0 {
			t.Errorf("%s: %d counted, %d in all, %d shown", rt, n, total(a), shown)
		}
		for _, parts := range [][2]string{{"&_lastUpdated=lt2026-03-02T12:00:00Z", "&_lastUpdated=ge2026-03-02T12:00:00Z"}, {"&code=3879-4,F11.20", "&code:not=3879-4,F11.20"}, {"&patient=" + opioid.patient, "&patient:not=" + opioid.patient}} {
			x, y := count(all+parts[0]), count(all+parts[1])
			if x < 0 || y < 0 {
				continue // not a parameter of the type
			}
			if x+y != shown {
				t.Errorf("%s: %v count %d and %d of %d that she reads", rt, parts, x, y, shown)
			}
		}
	}
}

// Nothing that a client sends makes this server open a connection: no attachment, profile, value set,
// endpoint, signature or absolute reference is fetched.
func TestL50_NoAddressIsCalled(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	listener := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	listener.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			calls.Add(1)
		}
	}
	listener.Start()
	defer listener.Close()
	w := clonesOf(t, "therapist")
	w.excise(t)
	nora := found(t, "Nora", "Patient").ref.String()
	u := listener.URL + "/x"
	q := url.QueryEscape(u)
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","jku":"` + u + `","x5u":"` + u + `"}`))
	signed := `{"resourceType":"Consent","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},"category":[{"coding":[{"system":"http://loinc.org","code":"59284-0"}]}],"patient":{"reference":"` + nora + `"},"policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"OPTIN"}]},"policy":[{"uri":"` + u + `"}],"sourceAttachment":{"contentType":"application/pdf","url":"` + u + `"}}`
	observation := `{"resourceType":"Observation","meta":{"profile":["` + u + `"]},"implicitRules":"` + u + `","status":"final","code":{"coding":[{"system":"` + u + `","code":"x"}]},"subject":{"reference":"` + nora + `"},"focus":[{"reference":"` + listener.URL + `/Condition/1"}],"extension":[{"url":"` + u + `","valueUrl":"` + u + `"}]}`
	answered := 0
	for _, c := range []call{
		{method: "POST", path: "/fhir/Observation", body: observation},
		{method: "POST", path: "/fhir/Observation", body: strings.Replace(observation, `"implicitRules":"`+u+`",`, "", 1)},
		{method: "POST", path: "/fhir/Observation/$validate?profile=" + q, body: observation},
		{method: "POST", path: "/fhir/DocumentReference", body: `{"resourceType":"DocumentReference","status":"current","subject":{"reference":"` + nora + `"},"content":[{"attachment":{"url":"` + u + `"}}],"relatesTo":[{"code":"replaces","target":{"reference":"` + listener.URL + `/DocumentReference/1"}}]}`},
		{method: "POST", path: "/fhir/Consent", body: signed},
		{method: "POST", path: "/fhir/Provenance", body: `{"resourceType":"Provenance","target":[{"reference":"` + nora + `"}],"recorded":"2026-03-02T12:00:00Z","agent":[{"who":{"reference":"` + nora + `"}}],"signature":[{"type":[{"code":"1.2.840.10065.1.12.1.1"}],"when":"2026-03-02T12:00:00Z","who":{"reference":"` + nora + `"},"sigFormat":"application/jose","data":"` + base64.StdEncoding.EncodeToString([]byte(header+"..x")) + `"}]}`},
		{method: "POST", path: "/fhir/Subscription", body: `{"resourceType":"Subscription","status":"requested","reason":"x","criteria":"Observation?","channel":{"type":"rest-hook","endpoint":"` + u + `"}}`},
		{method: "POST", path: "/fhir/Endpoint", body: `{"resourceType":"Endpoint","status":"active","connectionType":{"code":"hl7-fhir-rest"},"payloadType":[{"text":"x"}],"address":"` + u + `"}`},
		{method: "POST", path: "/fhir", body: `{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"` + listener.URL + `/Observation/1","resource":` + observation + `,"request":{"method":"POST","url":"Observation","ifNoneExist":"subject=` + q + `"}}]}`},
		{method: "POST", path: "/fhir", body: `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"` + u + `"}}]}`},
		{method: "POST", path: "/cds-services/patient-consent-consult", header: map[string]string{"Content-Type": "application/json"}, body: `{"hook":"patient-consent-consult","hookInstance":"1","fhirServer":"` + u + `","fhirAuthorization":{"access_token":"x","token_type":"Bearer","expires_in":300,"scope":"user/*.rs","subject":"x"},"context":{"actor":[{"value":"Organization/x"}],"patientId":[{"value":"` + nora + `"}],"purposeOfUse":["TREAT"]}}`},
		{method: "POST", path: "/fhir/$process-message", body: `{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"MessageHeader","eventUri":"` + u + `","source":{"endpoint":"` + u + `"}}}]}`},
		{method: "POST", path: "/fhir/$import", body: `{"resourceType":"Parameters","parameter":[{"name":"input","part":[{"name":"url","valueUri":"` + u + `"}]}]}`},
		get("/ValueSet/$expand?url=" + q), get("/CodeSystem/$lookup?system=" + q + "&code=x"), get("/ConceptMap/$translate?url=" + q + "&code=x&system=" + q),
		get("/Observation?code:in=" + q), get("/Observation?subject=" + q), get("/Observation?_profile=" + q), get("/Observation?subject:Patient.organization=" + q), get("/Observation?_include=" + q), get("/ValueSet?url=" + q),
		{method: "GET", path: "/fhir/" + nora, header: map[string]string{"Origin": listener.URL, "Forwarded": "host=" + listener.URL, "X-Forwarded-Host": strings.TrimPrefix(u, "http://"), "Referer": u, "Authorization": "Bearer " + header + ".e30.x"}},
	} {
		a := w.check(t, c)
		if a.status < 300 {
			answered++
		}
	}
	if answered < 3 {
		t.Errorf("only %d of the requests were carried out: this is no test", answered)
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("the server opened %d connections to an address that a client named", n)
	}
	if res, err := http.Get(u); err != nil || calls.Load() == 0 {
		t.Errorf("the listener does not notice who calls: %v", err)
	} else {
		_ = res.Body.Close()
	}
}
