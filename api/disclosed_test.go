package api

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
)

// S24, H1: what a server sends of its own accord is disclosed as what it is asked for is. A notification of a program's
// record is in the patient's accounting when it has gone out, with recipient, date, purpose and what it was,
// and so is one that says no more than that there was such a change: by its criteria that tells of the record.
func TestS24_H1_NotificationsAreAccountedFor(t *testing.T) {
	l := newLedger(t, 5)
	s, r := l.c.notifying(t)
	subscribe := func(content string) (place string) {
		t.Helper()
		w := l.send("hie", "POST", "/fhir/Subscription", `{"resourceType":"Subscription","status":"requested","reason":"x","criteria":"https://cloister.health/fhir/SubscriptionTopic/resource-change",
"_criteria":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria","valueString":"Observation"}]},
"channel":{"type":"rest-hook","endpoint":"https://`+r.host()+`/in","payload":"application/fhir+json","_payload":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content","valueCode":"`+content+`"}]}}}`)
		if w.Code != 201 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		r.learn(t, w.Body.String())
		deliver(t, s, r) // the handshake
		return below(t, w.Header().Get("Location"))
	}
	changed := func() string {
		t.Helper()
		w := l.send("counselor", "POST", "/fhir/Observation", observation("Patient/anna", `,"encounter":{"reference":"Encounter/esudanna"}`))
		if w.Code != 201 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return strings.Join(deliver(t, s, r), "")
	}
	first := subscribe("empty")
	if got := changed(); strings.Contains(got, "Observation/") {
		t.Fatalf("it tells more than that something happened: %s", got)
	}
	one := []string{"hie: Observation (1)"}
	if got := l.accounted("anna"); !slices.Equal(got, one) {
		t.Errorf("after the first the accounting has %s", got)
	}
	if w := ask(t, l.c, "DELETE", first, "hie", ""); w.Code != 204 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	subscribe("full-resource")
	if got := changed(); !strings.Contains(got, `"resourceType":"Observation"`) && !strings.Contains(got, `"resourceType": "Observation"`) {
		t.Fatalf("it has no record: %s", got)
	}
	if got := l.accounted("anna"); !slices.Equal(got, append(one, one...)) {
		t.Errorf("the accounting has %s", got)
	}
	w := ask(t, l.c, "GET", "/fhir/Patient/anna/$accounting", "anna", "")
	if _, err := codec.Parse(w.Body.Bytes()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"recorded":"2026-03-01T12:`, `"reference":"Organization/hie","display":"Exchange"`, `"code":"TREAT"`, "with the patient's consent (42 CFR 2.33)", `"reference":"Consent/c"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in %s", want, w.Body)
		}
	}
	if got := l.accounted("bert"); len(got) != 0 {
		t.Errorf("another patient's: %s", got)
	}
}
