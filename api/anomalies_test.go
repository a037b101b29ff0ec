package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// findings are what $access-anomalies says, one line each.
func findings(t *testing.T, c *clinic, query string) (out []string) {
	t.Helper()
	return findingsOf(t, c, "privacy-officer", query)
}

func findingsOf(t *testing.T, c *clinic, who, query string) (out []string) {
	t.Helper()
	w := ask(t, c, "GET", "/fhir/$access-anomalies"+query, who, "")
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var p struct {
		Parameter []struct {
			Part []struct {
				Name, ValueCode, ValueString, ValueDate, ValueUUID string
				ValueReference                                     struct{ Reference string }
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	for _, x := range p.Parameter {
		kind, user, patient, events := "", "", "", 0
		for _, part := range x.Part {
			switch part.Name {
			case "kind":
				kind = part.ValueCode
			case "user":
				user = part.ValueReference.Reference
			case "patient":
				patient = part.ValueReference.Reference
			case "event":
				events++
				c.want(t, 200, call{method: "GET", path: "/fhir/" + part.ValueReference.Reference, token: who})
			}
		}
		out = append(out, fmt.Sprintf("%s %s %s %d", kind, user, patient, events))
	}
	return out
}

func TestAccessAnomalies(t *testing.T) {
	c := newClinic(t)
	l := &ledger{t: t, c: c, ids: map[string][]string{}}
	l.load(`{"resourceType":"Practitioner","id":"dora","name":[{"family":"Dora","given":["D"]}],"birthDate":"1980-01-01"}`)
	l.load(`{"resourceType":"Practitioner","id":"omar","name":[{"family":"Omar"}]}`)
	l.load(`{"resourceType":"Patient","id":"dd","name":[{"family":"Dora","given":["D"]}],"birthDate":"1980-01-01"}`)
	l.load(`{"resourceType":"Patient","id":"kin","name":[{"family":"Dora","given":["K"]}]}`)
	quiet := "?start=2026-03-01&end=2026-03-01&closed=never&opens=00:00&closes=23:59"
	if got := findings(t, c, quiet); len(got) != 0 {
		t.Errorf("nothing happened: %s", got)
	}
	// What people did, as the trail has it; 2 March 2026 is a Monday.
	monday := time.Date(2026, 3, 2, 15, 0, 0, 0, time.UTC)
	did := func(at time.Time, user, patient string, facts int) {
		c.exec(t, "INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients, facts) "+
			"VALUES ($1, $2, gen_random_uuid(), '0', 'read', 'Patient', 's', '', $3, '{therapist}', 'TREAT', 'p', 'r', ARRAY['Patient/' || $4::text || '/_history/1'], '{0}', ARRAY[$4::text], ARRAY[$5::integer])", c.tenant, at, user, patient, facts)
	}
	did(monday, "Practitioner/dora", "anna", 4)
	week := "?start=2026-03-02&end=2026-03-08&zone=America/New_York"
	if got := findings(t, c, week); len(got) != 0 {
		t.Errorf("a day as others: %s", got)
	}
	did(monday, "Practitioner/dora", "dd", 4)
	did(monday, "Practitioner/emil", "dd", 0)
	did(monday, "Practitioner/dora", "kin", 0)
	did(monday.Add(12*time.Hour), "Practitioner/dora", "anna", 4) // 22:00 in New York
	did(monday, "Practitioner/emil", "bert", 0)
	want := "after-hours Practitioner/dora  1; colleague Practitioner/emil Patient/dd 1; own-record Practitioner/dora Patient/dd 1; same-name Practitioner/dora Patient/kin 1; vip Practitioner/emil Patient/bert 1"
	if got := strings.Join(findings(t, c, week+"&vip=Patient/bert"), "; "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	// An emergency that nobody has reviewed, and one that somebody has.
	c.exec(t, `INSERT INTO record.emergency (tenant, id, member, subject, patient, purpose, reason, nature, recipient, facility, discloser, starts, ends)
VALUES ($1, 'b6534ed9-19de-8459-9966-691305bee1a0', 'Practitioner/emil', 's', 'anna', 'ETREAT', 'ETREAT', 'n', 'r', 'f', 'd', $2, $3)`, c.tenant, monday.Add(-72*time.Hour), monday.Add(-71*time.Hour))
	if got := strings.Join(findings(t, c, week), "; "); !strings.Contains(got, "unreviewed Practitioner/emil  0") {
		t.Errorf("%s", got)
	}
	for query, status := range map[string]int{"?start=lately": 400, "?zone=Mars": 400, "?opens=20:00&closes=07:00": 400, "?closed=someday": 400, "?vip=$": 400, "?start=2026-01-01&end=2026-12-31": 400, "?start=2026-03-02&end=2026-03-01": 400} {
		c.want(t, status, call{method: "GET", path: "/fhir/$access-anomalies" + query, token: "privacy-officer"})
	}
	for _, who := range []string{"therapist", "patient", "practice-admin", "exchange"} {
		c.want(t, 403, call{method: "GET", path: "/fhir/$access-anomalies", token: who})
	}
}

// Who is a VIP is in meta.tag, with either code; names are compared as a search by string does; and a burst
// among records that the reader may not know of is none to her (P21, L43).
func TestAnomaliesOfMarkedPatientsAndOfAProgram(t *testing.T) {
	l := newLedger(t, 7)
	const act = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":`
	for _, x := range []string{
		`{"resourceType":"Patient","id":"vip","meta":{"tag":[` + act + `"VIP"}]}}`,
		`{"resourceType":"Patient","id":"cel","meta":{"tag":[{"system":"urn:clinic","code":"x"},` + act + `"CEL"}]}}`,
		`{"resourceType":"Patient","id":"plain","meta":{"tag":[{"system":"urn:clinic","code":"VIP"}]}}`,
		`{"resourceType":"Practitioner","id":"emil","name":[{"family":"Émile Ünal"}]}`,
		`{"resourceType":"Patient","id":"kin","name":[{"family":"ÉMILE  ÜNAL","given":["K"]}]}`,
	} {
		l.load(x)
	}
	did := func(at time.Time, patient string, labels int) {
		l.c.exec(t, "INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients, facts) "+
			"VALUES ($1, $2, gen_random_uuid(), '0', 'read', 'Patient', 's', '', 'Practitioner/emil', '{therapist}', 'TREAT', 'p', 'r', ARRAY['Patient/' || $3::text || '/_history/1'], ARRAY[$4::integer], ARRAY[$3::text], '{0}')", l.c.tenant, at, patient, labels)
	}
	monday := time.Date(2026, 3, 2, 15, 0, 0, 0, time.UTC)
	for _, p := range []string{"vip", "cel", "plain", "kin"} {
		did(monday, p, 0)
	}
	for i := range 20 {
		id := fmt.Sprint("sud", i)
		l.load(`{"resourceType":"Patient","id":"` + id + `","managingOrganization":{"reference":"Organization/sud"}}`)
		did(monday.AddDate(0, 0, 3).Add(time.Duration(i)*time.Minute), id, 0)
	}
	for day := range 7 {
		did(monday.AddDate(0, 0, -day-1), "plain", 0)
	}
	const week, kept = "?start=2026-03-02&end=2026-03-08&zone=America/New_York&closed=never", "same-name Practitioner/emil Patient/kin 1; vip Practitioner/emil Patient/cel 1; vip Practitioner/emil Patient/vip 1"
	if got := strings.Join(findingsOf(t, l.c, "outsider", week), "; "); got != kept {
		t.Errorf("who does not oversee the program: %s", got)
	}
	if got := strings.Join(findingsOf(t, l.c, "officer", week), "; "); got != "burst Practitioner/emil  20; "+kept {
		t.Errorf("who does: %s", got)
	}
}
