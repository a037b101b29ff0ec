package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
)

// whole is an answer with all that follows it by its links, but for what is another at each request.
func (l *ledger) whole(who, path string) string {
	l.t.Helper()
	var b strings.Builder
	for next := path; next != ""; {
		w := ask(l.t, l.c, "GET", next, who, "")
		h := w.Header().Clone()
		for _, name := range []string{"X-Request-Id", "Date", "Last-Modified"} {
			h.Del(name)
		}
		fmt.Fprintf(&b, "%d\n", w.Code)
		for _, name := range slices.Sorted(maps.Keys(h)) {
			fmt.Fprintf(&b, "%s: %s\n", name, h[name])
		}
		b.Write(w.Body.Bytes())
		b.WriteString("\n")
		next = ""
		if at := strings.Index(w.Body.String(), `"relation":"next","url":"https://clinic.example`); at >= 0 {
			rest := w.Body.String()[at+len(`"relation":"next","url":"https://clinic.example`):]
			next = rest[:strings.IndexByte(rest, '"')]
		}
	}
	return b.String()
}

// L43, P21: what a privacy officer who is not of the program is told of the trail, in whatever way
// she asks, is what she would be told had there never been what she may not know of: every byte of
// every page, its links and headers.
func TestP21_L43_TwinOfTheTrail(t *testing.T) {
	l := newLedger(t, 43)
	l.load(`{"resourceType":"Patient","id":"cleo","managingOrganization":{"reference":"Organization/sud"},"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"VIP"}]}}`)
	l.load(`{"resourceType":"Encounter","id":"ecleo","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/cleo"},"serviceProvider":{"reference":"Organization/sud"}}`)
	hidden := []string{"Patient/cleo", "Encounter/ecleo", "Consent/c", "Organization/sud"}
	for _, p := range []string{"anna", "bert"} {
		hidden = append(hidden, "Encounter/esud"+p)
		for i := range 3 {
			hidden = append(hidden, fmt.Sprintf("Observation/osud%s%d", p, i))
		}
	}
	for range 25 {
		l.step()
	}
	for _, who := range []string{"desk", "dora", "counselor"} {
		for _, path := range []string{"/fhir/Patient/cleo", "/fhir/Patient", "/fhir/Encounter/ecleo", "/fhir/Observation/osudanna1", "/fhir/Observation/ogeneralanna1"} {
			l.send(who, "GET", path, "")
		}
	}
	// An emergency of each, whose review is due: that of the hidden patient is reviewed, in a Task that is hidden with her.
	for id, p := range map[string]string{"b6534ed9-19de-8459-9966-691305bee1a1": "anna", "b6534ed9-19de-8459-9966-691305bee1a2": "cleo"} {
		l.c.exec(t, `INSERT INTO record.emergency (tenant, id, member, subject, patient, purpose, reason, nature, recipient, facility, discloser, starts, ends)
VALUES ($1, $2, 'Practitioner/emil', 's', $3, 'ETREAT', 'ETREAT', 'n', 'r', 'f', 'd', '2026-02-26T01:00:00Z', '2026-02-26T02:00:00Z')`, l.c.tenant, id, p)
	}
	until := l.c.now().Format("2006-01-02T15:04:05Z")
	for _, ref := range hidden {
		if w := ask(t, l.c, "GET", "/fhir/"+ref, "outsider", ""); w.Code != 404 && w.Code != 403 {
			t.Fatalf("%s is not hidden: %d", ref, w.Code)
		}
	}
	asked := []string{"Patient/anna/$accounting?_count=2&end=" + until, "Patient/anna/$access-report?_count=3&end=" + until, "Patient/cleo/$access-report", "$access-anomalies?start=2026-03-01&end=2026-03-01&vip=Patient/cleo&vip=Patient/anna&opens=00:01&closes=00:02"}
	for _, q := range []string{
		"_count=7", "_count=200&_sort=date", "_count=2&patient=anna", "patient=cleo", "_count=3&entity=Observation/osudanna1", "entity=Observation/ogeneralanna1", "entity=Encounter/ecleo", "entity=Patient/cleo,Patient/anna&_count=4",
		"agent=Practitioner/dora&_count=4", "agent=Patient/cleo", "outcome=0&purpose=TREAT&_count=5", "entity=Consent/c", "agent-role=hie&_count=2",
	} {
		asked = append(asked, "AuditEvent?date=lt"+until+"&"+q)
	}
	answers := func() (out []string) {
		for _, x := range asked {
			out = append(out, l.whole("outsider", "/fhir/"+x))
		}
		return out
	}
	before := answers()

	twin := func(sql string, args ...any) {
		t.Helper()
		l.c.exec(t, sql, args...)
	}
	twin("ALTER TABLE audit.event DISABLE TRIGGER USER; ALTER TABLE audit.security DISABLE TRIGGER USER")
	twin("DELETE FROM audit.event WHERE type = 'AuditEvent' AND fhir_user = 'Practitioner/omar'")
	gone := 0
	for _, r := range append(hidden, l.made()...) {
		ref, _ := fhir.ParseRef(r)
		gone++
		twin("DELETE FROM record.resource WHERE type = $1 AND id = $2", ref.Type.Code(), string(ref.ID))
		// The columns are parallel, and entities are what the others are told by: they go last.
		for _, each := range []string{"labels", "patients", "facts", "consents", "sessions", "entities"} {
			twin("UPDATE audit.event SET "+each+" = (SELECT COALESCE(array_agg(x ORDER BY n), '{}') FROM unnest("+each+") WITH ORDINALITY AS u(x, n) WHERE n > cardinality(entities) OR split_part(entities[n], '/_history/', 1) <> $1) WHERE cardinality(entities) > 0 AND EXISTS (SELECT FROM unnest(entities) AS e(e) WHERE split_part(e.e, '/_history/', 1) <> $1)", r)
		}
		twin("DELETE FROM audit.event WHERE cardinality(entities) > 0 AND NOT EXISTS (SELECT FROM unnest(entities) AS e(e) WHERE split_part(e.e, '/_history/', 1) <> $1)", r)
	}
	twin("DELETE FROM record.emergency WHERE patient = 'cleo'")
	twin("UPDATE audit.event SET consents = '{}'")
	after := answers()
	told := 0
	for i, x := range asked {
		if want := "200\n"; !strings.HasPrefix(before[i], want) && !strings.HasPrefix(x, "Patient/cleo/") {
			t.Errorf("%s: %s", x, before[i])
		}
		if before[i] != after[i] {
			t.Errorf("%s: %s", x, apart(before[i], after[i]))
		}
		told += strings.Count(before[i], `"resourceType":"AuditEvent"`) + strings.Count(before[i], `"name":"finding"`)
		for _, r := range hidden {
			if strings.Contains(x, r) {
				continue // the self link repeats what was asked
			}
			if strings.Contains(before[i], r) {
				t.Errorf("%s tells of %s", x, r)
			}
		}
	}
	if report := before[3]; strings.Count(report, `"valueCode":"unreviewed"`) != 1 || !strings.Contains(report, `"valueCode":"after-hours"`) {
		t.Errorf("the report of anomalies shows nothing: %s", report)
	}
	if told < 50 || gone < 12 {
		t.Errorf("%d are told and %d gone: it shows nothing", told, gone)
	}
}

// made are the records of the program that the run made.
func (l *ledger) made() (out []string) {
	for _, ref := range slices.Sorted(maps.Keys(l.part2)) {
		if l.part2[ref] && ref != "Consent/c" && !strings.Contains(ref, "sud") {
			out = append(out, ref)
		}
	}
	return out
}

// apart is where two texts begin to differ.
func apart(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	from := max(0, n-300)
	return fmt.Sprintf("differs\n%s\n---\n%s", a[from:min(len(a), n+700)], b[from:min(len(b), n+700)])
}
