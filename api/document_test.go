package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

const sender = "https://sender.example/fhir"

func documentEntry(fullURL, resource string) string {
	return `{"fullUrl":"` + fullURL + `","resource":` + resource + `}`
}

// incoming is a document about the patient with that identifier, whose author has the id of a practitioner of the clinic.
func incoming(mrn, more string, entries ...string) string {
	at := func(rest string) string { return sender + "/" + rest }
	all := append([]string{
		documentEntry(at("Composition/1"), `{"resourceType":"Composition","status":"final","type":{"coding":[{"system":"http://loinc.org","code":"34133-9"}]},"subject":{"reference":"Patient/anna-there"},
			"date":"2026-01-05","title":"Summary","author":[{"reference":"Practitioner/dora"}],"custodian":{"reference":"`+at("Organization/1")+`"},"encounter":{"reference":"Encounter/77"},
			"section":[{"title":"Problems","text":{"status":"additional","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">She drinks.</div>"},"entry":[{"reference":"Condition/low"},{"reference":"urn:uuid:8a3ddf7d-4f2e-4e6b-9ea2-1d4a3f0f2a11"}]}]}`),
		documentEntry(at("Patient/anna-there"), `{"resourceType":"Patient","name":[{"family":"Anna"}],"identifier":[{"system":"urn:sender","value":"a,urn:mrn|B1"},{"system":"urn:mrn","value":"`+mrn+`"}]}`),
		documentEntry(at("Practitioner/dora"), `{"resourceType":"Practitioner","id":"dora","identifier":[{"use":"official","system":"http://hl7.org/fhir/sid/us-npi","value":"1234567893","assigner":{"display":"x"}}],"name":[{"given":["Ann"],"family":"Other"}]}`),
		documentEntry(at("Organization/1"), `{"resourceType":"Organization","name":"Sender"}`),
		documentEntry(at("Condition/low"), `{"resourceType":"Condition","id":"low","subject":{"reference":"Patient/anna-there"},"asserter":{"reference":"Practitioner/dora"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F32.9"}]}}`),
		documentEntry("urn:uuid:8a3ddf7d-4f2e-4e6b-9ea2-1d4a3f0f2a11", `{"resourceType":"Condition","subject":{"reference":"`+at("Patient/anna-there")+`"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F10.20"}]}}`),
	}, entries...)
	return `{"resourceType":"Bundle","type":"document"` + more + `,"identifier":{"system":"urn:sender:documents","value":"d1"},"timestamp":"2026-01-05T10:00:00Z","entry":[` + strings.Join(all, ",") + `]}`
}

// A document that comes in becomes records of its patient here, each kept apart by what it says.
func TestDocumentsAreFiled(t *testing.T) {
	c := newClinic(t)
	post := call{method: "POST", path: "/fhir", token: "sender", body: incoming("A1", "")}
	_, r, body := c.want(t, 200, post)
	var made []string
	for _, e := range r.Entries() {
		where := e.Node.Get("response").Get("location").String()
		if e.Node.Get("response").Get("status").String() != "201 Created" || where == "" {
			t.Errorf("%s", body)
		}
		made = append(made, strings.TrimSuffix(where, "/_history/1"))
	}
	if r.BundleType() != "transaction-response" || len(made) != 3 {
		t.Fatalf("%d records are filed: %s", len(made), body)
	}
	path := func(i int) string { return "/fhir/" + strings.TrimPrefix(made[i], "https://clinic.example/fhir/") }
	local := func(i int) string { return strings.TrimPrefix(path(i), "/fhir/") }
	read := func(token string, i int) *codec.Resource {
		_, r, _ := c.want(t, 200, call{path: path(i), token: token})
		return r
	}
	composition := read("therapist", 0).Root
	reference := func(names ...string) string {
		n := composition
		for _, name := range names {
			if n = n.Get(name); n.List() != nil {
				n = n.List()[0]
			}
		}
		return n.Get("reference").String()
	}
	if got := reference("subject"); got != "Patient/anna" {
		t.Errorf("it is about %q", got)
	}
	if got := reference("encounter"); got != sender+"/Encounter/77" {
		t.Errorf("an encounter of the sender is %q here", got)
	}
	var listed []string
	for _, x := range composition.Get("section").List()[0].Get("entry").List() {
		listed = append(listed, x.Get("reference").String())
	}
	if len(listed) != 2 || listed[0] != local(1) || listed[1] != local(2) {
		t.Errorf("its section lists %v, filed as %v", listed, made)
	}
	author := composition.Get("author").List()[0]
	if author.Get("reference") != nil || author.Get("type").String() != "Practitioner" || author.Get("display").String() != "Ann Other" ||
		author.Get("identifier").Get("value").String() != "1234567893" || author.Get("identifier").Get("assigner") != nil {
		t.Errorf("its author is %s", author.AppendJSON(nil))
	}
	if got := composition.Get("custodian"); got.Get("display").String() != "Sender" || got.Get("reference") != nil {
		t.Errorf("its custodian is %s", got.AppendJSON(nil))
	}
	if got := composition.Get("identifier").Get("value").String(); got != "d1" {
		t.Errorf("its identifier is %q", got)
	}
	if r := read("therapist", 1); r.Root.Get("subject").Get("reference").String() != "Patient/anna" || r.Root.Get("asserter").Get("reference") != nil || r.ID() == "low" {
		t.Errorf("the first condition is %s", r.Root.AppendJSON(nil))
	}

	// What speaks of substance use is not for exchanges without authorization, nor is what refers to it; the rest is.
	read("exchange", 1)
	c.want(t, 404, call{path: path(2), token: "exchange"})
	if _, _, shown := c.want(t, 200, call{path: path(0), token: "exchange"}); strings.Contains(shown, local(2)) || strings.Contains(shown, "drinks") || !strings.Contains(shown, local(1)) {
		t.Errorf("an exchange gets %s", shown)
	}
	c.want(t, 404, call{path: path(1), token: "colleague"})

	// The document can be put together again.
	_, r, _ = c.want(t, 200, call{path: path(0) + "/$document", token: "therapist"})
	var types []string
	for _, e := range r.Entries() {
		types = append(types, string(e.Resource.Type))
	}
	if got := strings.Join(types, " "); !strings.HasPrefix(got, "Composition ") || strings.Count(got, "Condition") != 2 || strings.Count(got, "Patient") != 1 {
		t.Errorf("$document holds %s", got)
	}
	if got := c.total(t, "operator", "Practitioner?name:missing=false") + c.total(t, "operator", "Organization?name:missing=false") + c.total(t, "operator", "Patient?name:missing=false"); got != "202" {
		t.Errorf("practitioners, organizations and patients of the clinic: %s", got)
	}
}

// What a document says of itself is said of everything in it.
func TestDocumentsStateLabels(t *testing.T) {
	for name, body := range map[string]string{
		"bundle":      incoming("A1", `,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]}`),
		"composition": strings.Replace(incoming("A1", ""), `{"resourceType":"Composition",`, `{"resourceType":"Composition","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]},`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			c := newClinic(t)
			c.want(t, 200, call{method: "POST", path: "/fhir", token: "sender", body: body})
			if got := c.total(t, "therapist", "Condition?patient=anna"); got != "2" {
				t.Errorf("the therapist finds %s conditions", got)
			}
			if got := c.total(t, "exchange", "Condition?patient=anna"); got != "0" {
				t.Errorf("an exchange finds %s conditions of a document that is stated to be about HIV", got)
			}
		})
	}
}

// Sent again under the same key, it is filed once.
func TestDocumentsAreFiledOnce(t *testing.T) {
	c := newClinic(t)
	post := call{method: "POST", path: "/fhir", token: "sender", body: incoming("A1", ""), header: http.Header{"Idempotency-Key": {`"d1"`}}}
	_, _, first := c.want(t, 200, post)
	if _, _, second := c.want(t, 200, post); second != first {
		t.Errorf("%s\n%s", first, second)
	}
	if got := c.total(t, "therapist", "Condition?patient=anna"); got != "2" {
		t.Errorf("%s conditions", got)
	}
}

// A document about a patient whom the sender may not see is answered as one about nobody, and leaves nothing behind.
func TestDocumentsAboutTheHidden(t *testing.T) {
	c := newClinic(t)
	_, _, hidden := c.want(t, 412, call{method: "POST", path: "/fhir", token: "colleague", body: incoming("A1", "")})
	if _, _, absent := c.want(t, 412, call{method: "POST", path: "/fhir", token: "colleague", body: incoming("A2", "")}); absent != hidden || strings.Contains(hidden, "A1") {
		t.Errorf("hidden: %s\nabsent: %s", hidden, absent)
	}
	ours := func(id string) string {
		here := "https://clinic.example/fhir/Patient/" + id
		return strings.NewReplacer(sender+"/Patient/anna-there", here, `"Patient/anna-there"`, `"`+here+`"`).Replace(incoming("A1", ""))
	}
	_, _, hidden = c.want(t, 422, call{method: "POST", path: "/fhir", token: "colleague", body: ours("anna")})
	if _, _, absent := c.want(t, 422, call{method: "POST", path: "/fhir", token: "colleague", body: ours("nobody")}); absent != hidden || !strings.Contains(hidden, "subject.reference") {
		t.Errorf("hidden: %s\nabsent: %s", hidden, absent)
	}
	if got := c.total(t, "operator", "Condition?code:missing=false"); got != "0" {
		t.Errorf("%s conditions are left behind", got)
	}
	c.want(t, 200, call{method: "POST", path: "/fhir", token: "therapist", body: ours("anna")})
	if got := c.total(t, "therapist", "Condition?patient=anna"); got != "2" {
		t.Errorf("%s conditions of a patient who is named by her id here", got)
	}
}

func TestDocumentsThatAreRefused(t *testing.T) {
	c := newClinic(t)
	good := incoming("A1", "")
	swap := func(old, by string) string {
		if !strings.Contains(good, old) {
			t.Fatal(old)
		}
		return strings.Replace(good, old, by, 1)
	}
	for name, x := range map[string]struct {
		status int
		path   string
		body   string
	}{
		"no identifier":            {422, "Bundle.identifier", swap(`"identifier":{"system":"urn:sender:documents","value":"d1"},`, "")},
		"no time":                  {422, "Bundle.timestamp", swap(`"timestamp":"2026-01-05T10:00:00Z",`, "")},
		"signed":                   {422, "Bundle.signature", incoming("A1", `,"signature":{"type":[{"system":"urn:iso-astm:E1762-95:2013","code":"1.2.840.10065.1.12.1.1"}],"when":"2026-01-05T10:00:00Z","who":{"display":"x"}}`)},
		"no composition":           {422, "Bundle.entry", swap(`"entry":[`, `"entry":[`+documentEntry("urn:uuid:8a3ddf7d-4f2e-4e6b-9ea2-1d4a3f0f2a12", observation("Patient/anna", ""))+`,`)},
		"a request":                {400, "Bundle.entry[6].request", incoming("A1", "", `{"fullUrl":"urn:uuid:8a3ddf7d-4f2e-4e6b-9ea2-1d4a3f0f2a12","resource":`+observation("Patient/anna", "")+`,"request":{"method":"POST","url":"Observation"}}`)},
		"no fullUrl":               {422, "Bundle.entry[6].fullUrl", incoming("A1", "", `{"resource":`+observation("Patient/anna", "")+`}`)},
		"a fullUrl twice":          {400, "Bundle.entry[6].fullUrl", incoming("A1", "", documentEntry(sender+"/Organization/1", `{"resourceType":"Organization","name":"Two"}`))},
		"no resource":              {422, "Bundle.entry[6].resource", incoming("A1", "", `{"fullUrl":"urn:uuid:8a3ddf7d-4f2e-4e6b-9ea2-1d4a3f0f2a12"}`)},
		"a faulty record":          {422, "Bundle.entry[6].resource.status", incoming("A1", "", documentEntry("urn:uuid:8a3ddf7d-4f2e-4e6b-9ea2-1d4a3f0f2a12", strings.Replace(observation("Patient/anna", ""), "final", "over", 1)))},
		"a faulty practitioner":    {422, "Bundle.entry[6].resource", incoming("A1", "", documentEntry("urn:uuid:8a3ddf7d-4f2e-4e6b-9ea2-1d4a3f0f2a12", `{"resourceType":"Practitioner","nonsense":1}`))},
		"about nobody":             {422, "Bundle.entry[0].resource.subject", swap(`"subject":{"reference":"Patient/anna-there"},`, "")},
		"about a practitioner":     {422, "Bundle.entry[0].resource.subject", swap(`"subject":{"reference":"Patient/anna-there"},`, `"subject":{"reference":"Practitioner/dora"},`)},
		"nothing to find her by":   {422, "Bundle.entry[1].resource.identifier", swap(`"identifier":[{"system":"urn:sender","value":"a,urn:mrn|B1"},{"system":"urn:mrn","value":"A1"}]`, `"identifier":[{"value":"A1"}]`)},
		"two patients here":        {412, "Bundle.entry[0].resource.subject.reference", swap(`{"system":"urn:sender","value":"a,urn:mrn|B1"}`, `{"system":"urn:mrn","value":"B1"}`)},
		"a reference to no entry":  {422, "Bundle.entry[0].resource.section[0].entry[0].reference", swap(`{"reference":"Condition/low"}`, `{"reference":"urn:uuid:8a3ddf7d-4f2e-4e6b-9ea2-1d4a3f0f2a12"}`)},
		"a type that is not known": {400, "Bundle.entry[6].resource", incoming("A1", "", documentEntry("urn:uuid:8a3ddf7d-4f2e-4e6b-9ea2-1d4a3f0f2a12", `{"resourceType":"Nothing"}`))},
	} {
		t.Run(name, func(t *testing.T) {
			_, r, body := c.want(t, x.status, call{method: "POST", path: "/fhir", token: "sender", body: x.body})
			if paths := r.Root.Get("issue").List()[0].Get("expression").List(); len(paths) == 0 || !strings.HasPrefix(paths[0].String(), x.path) {
				t.Errorf("%s", body)
			}
		})
	}
	c.want(t, 403, call{method: "POST", path: "/fhir", token: "front-desk", body: good})
	c.want(t, 403, call{method: "POST", path: "/fhir", token: "exchange", body: good})
	if got := c.total(t, "operator", "Condition?code:missing=false"); got != "0" {
		t.Errorf("%s conditions are left behind", got)
	}
}

// A document is filed as on a database from which everything is physically absent that its sender may not see, such as a
// patient who has the same identifier.
func TestL28_DocumentTwins(t *testing.T) {
	var answers [2]string
	for n := range answers {
		c := newClinic(t)
		c.change(t, fhir.Update, `{"resourceType":"Patient","id":"zoe","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]},"name":[{"family":"Zoe"}],"identifier":[{"system":"urn:mrn","value":"A1"},{"system":"urn:mrn","value":"Z1"}]}`)
		c.want(t, 200, call{path: "/fhir/Patient/zoe", token: "operator"})
		if n == 1 {
			c.excise(t)
		}
		c.tick.Store(1000) // it was asked for the time more often
		var b strings.Builder
		for _, x := range []call{
			{method: "POST", path: "/fhir", token: "sender", body: incoming("A1", "")},
			{method: "POST", path: "/fhir", token: "sender", body: incoming("Z1", "")},
			{method: "POST", path: "/fhir", token: "sender", body: incoming("none", "")},
			{method: "POST", path: "/fhir", token: "sender", body: strings.ReplaceAll(incoming("Z1", ""), sender+"/Patient/anna-there", "https://clinic.example/fhir/Patient/zoe")},
			{path: "/fhir/Condition?_sort=-_id&code=F32.9", token: "exchange"},
			{path: "/fhir/Composition", token: "exchange"},
		} {
			if x.body != "" {
				x.header = http.Header{"Content-Type": {"application/fhir+json"}}
			}
			w := c.do(t, x)
			w.Header().Del("X-Request-Id")
			fmt.Fprintf(&b, "%s %s %d %v %s\n", x.method, x.path, w.Code, w.Header(), w.Body)
		}
		answers[n] = moments.ReplaceAllString(anyTag.ReplaceAllString(anyUUID.ReplaceAllString(b.String(), "<id>"), "<tag>"), "<then>")
		if got := strings.Count(answers[n], "/fhir 412 "); n == 0 && (got < 2 || !strings.Contains(answers[n], "/fhir 200 ") || !strings.Contains(answers[n], "Patient/anna")) {
			t.Fatalf("this shows nothing: %s", answers[n])
		}
	}
	if answers[0] != answers[1] {
		t.Errorf("with what is hidden:\n%s\nwithout:\n%s", answers[0], answers[1])
	}
}
