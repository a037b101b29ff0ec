package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

func pick[T any](l *ledger, list []T) T { return list[l.rand.IntN(len(list))] }

// step does one request of a random kind by a random person.
func (l *ledger) step() {
	readers := []string{"dora", "counselor", "emil", "desk", "anna", "bert", "rescue", "hie", "hie", "officer"}
	who, t := pick(l, readers), pick(l, []string{"Patient", "Observation", "Observation", "Encounter", "CareTeam", "Consent", "Appointment"})
	p := pick(l, []string{"anna", "bert"})
	switch l.rand.IntN(20) {
	case 0, 1, 2:
		l.send(who, "GET", "/fhir/"+t+"/"+pick(l, append([]string{"none"}, l.ids[t]...)), "")
	case 3:
		l.send(who, "GET", "/fhir/"+t+"?_count="+pick(l, []string{"1", "3", "50"}), "")
	case 4:
		l.send(who, "GET", "/fhir/Observation?patient="+p+"&_include=Observation:encounter&_include=Observation:patient", "")
	case 5:
		l.send(who, "GET", "/fhir/Encounter?patient="+p+"&_revinclude=Observation:encounter&_summary="+pick(l, []string{"false", "count"}), "")
	case 6:
		l.send(who, "GET", "/fhir/Patient/"+p+"/$everything", "")
	case 7:
		l.send(who, "GET", "/fhir/"+t+"/"+pick(l, l.ids[t])+"/_history", "")
	case 8:
		l.send("rescue", "POST", "/fhir/Patient/$break-glass", `{"resourceType":"Parameters","parameter":[{"name":"patient","valueReference":{"reference":"Patient/`+p+`"}},{"name":"reason","valueCode":"ETREAT"},{"name":"nature","valueString":"unconscious"},`+
			`{"name":"consentUnobtainable","valueBoolean":true},{"name":"recipient","valueString":"Dr. S"},{"name":"facility","valueString":"ER"},{"name":"discloser","valueString":"Harbor"},{"name":"minutes","valueInteger":1}]}`)
		l.send("rescue", "GET", "/fhir/Observation?patient="+p, "")
	case 9:
		who := pick(l, []string{"dora", "counselor", "emil", "desk", "hie", "anna"})
		more := ""
		if l.rand.IntN(2) == 0 {
			more = `,"encounter":{"reference":"Encounter/e` + pick(l, []string{"sud", "general"}) + p + `"}`
		}
		l.send(who, "POST", "/fhir/Observation", observation("Patient/"+p, more), "Prefer", "return="+pick(l, []string{"minimal", "representation"}))
	case 10:
		l.send(pick(l, []string{"dora", "emil"}), "POST", "/fhir", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Observation?patient=`+p+`"}},{"request":{"method":"GET","url":"Patient/`+p+`"}}]}`)
	case 11: // one version, or a look at whether there is another
		path := "/fhir/" + t + "/" + pick(l, l.ids[t])
		l.send(who, "GET", path+"/_history/"+pick(l, []string{"1", "1", "2", "9"}), "")
		l.send(who, "GET", path, "", "If-None-Match", `W/"1"`)
		l.send(who, "HEAD", path, "")
	case 12: // every way to be answered with a type, a compartment, or all
		path := pick(l, []string{"Observation/_history?_count=5", "_history?_count=9", "Patient/" + p + "/Observation", "Patient/" + p + "/*?_count=9", "Patient/" + p + "/_history", "?_type=Observation,Encounter&_count=5", "Observation?_has:Encounter:_id:x=1&_total=accurate", "Patient/" + p + "/$meta"})
		l.send(who, "GET", "/fhir/"+strings.TrimPrefix(path, "/"), "")
	case 13:
		l.send(who, "GET", "/fhir/DocumentReference/$docref?patient="+p, "")
		l.send("hie", "GET", "/fhir/DocumentReference/$docref?patient="+p, "")
		l.send("hie", "GET", "/fhir/Observation/$lastn?patient="+p, "")
		l.send(who, "GET", "/fhir/Patient/"+p+"/*?_count=9", "")
	case 14:
		l.send(pick(l, []string{who, "hie", "counselor"}), "GET", "/fhir/Composition/"+pick(l, l.ids["Composition"])+"/$document", "")
	case 15, 16: // the answer to a change is a disclosure, too, where the client asks for it
		if l.rand.IntN(3) == 0 {
			l.patch(pick(l, []string{"desk", "hie", "anna", "rescue"}), "Observation/"+pick(l, l.ids["Observation"]))
			return
		}
		at := pick(l, [][2]string{{"dora", "ogeneralanna"}, {"counselor", "osudanna"}, {"emil", "ogeneralbert"}})
		l.patch(at[0], fmt.Sprint("Observation/", at[1], l.rand.IntN(3)))
	case 17: // by criteria that find one record, or none
		at := pick(l, [][2]string{{"dora", "anna"}, {"counselor", "anna"}, {"emil", "bert"}, {"emil", "anna"}, {"hie", "anna"}})
		l.conditional(at[0], at[1])
	case 18: // what goes out without a name is no disclosure that anybody is told of
		l.send(pick(l, []string{"dora", "hie"}), "GET", "/fhir/Patient/"+p+"/$deidentify?_profile=safe-harbor", "")
	default:
		l.export()
	}
}

// patch changes a record by one of the two kinds of patches.
func (l *ledger) patch(who, ref string) {
	prefer := pick(l, []string{"return=minimal", "return=representation"})
	value := l.rand.IntN(100)
	if l.rand.IntN(2) == 0 {
		w := l.c.do(l.t, call{method: "PATCH", path: "/fhir/" + ref, token: who, body: fmt.Sprintf(`[{"op":"add","path":"/valueInteger","value":%d}]`, value), header: header("Content-Type", "application/json-patch+json", "Prefer", prefer)})
		l.answered(who, "PATCH", "/fhir/"+ref, "", w)
		return
	}
	l.send(who, "PATCH", "/fhir/"+ref, fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"add"},{"name":"path","valueString":"Observation"},{"name":"name","valueString":"value"},{"name":"value","valueInteger":%d}]}]}`, value), "Prefer", prefer)
}

// conditional makes or changes a record that is found by an identifier.
func (l *ledger) conditional(who, patient string) {
	id := pick(l, []string{"k1", "k2"}) + patient + who
	body := observation("Patient/"+patient, `,"identifier":[{"system":"urn:k","value":"`+id+`"}]`+map[bool]string{true: `,"encounter":{"reference":"Encounter/esud` + patient + `"}`}[who == "counselor"])
	prefer := pick(l, []string{"return=minimal", "return=representation"})
	if l.rand.IntN(2) == 0 {
		l.send(who, "POST", "/fhir/Observation", body, "If-None-Exist", "identifier=urn:k|"+id, "Prefer", prefer)
		return
	}
	l.send(who, "PUT", "/fhir/Observation?identifier=urn:k|"+id, body, "Prefer", prefer)
}

// export begins one, waits for it, and fetches some of its files, some of them twice.
func (l *ledger) export() {
	w := l.send("hie", "GET", "/fhir/$export?_type="+pick(l, []string{"Observation", "Observation,Patient,Encounter", "Consent,Observation"}), "", "Prefer", "respond-async")
	if w.Code != http.StatusAccepted {
		return
	}
	work(l.t, l.exports)
	w = ask(l.t, l.c, "GET", below(l.t, w.Header().Get("Content-Location")), "hie", "")
	var m manifest
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
		l.t.Fatalf("%v: %s", err, w.Body)
	}
	for _, f := range m.Output {
		for range l.rand.IntN(3) {
			l.send("hie", "GET", below(l.t, f.URL), "", "Accept", "application/fhir+ndjson")
		}
	}
}
