package server_test

import (
	"context"
	"regexp"
	"slices"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

var (
	exceptionID = regexp.MustCompile(`"name":"id","valueString":"([^"]+)"`)
	sessionID   = regexp.MustCompile(`"name":"session","valueString":"([^"]+)"`)
)

// What is documented or ended is stored with the access record that names it, or not at all.
func TestActsAreRecordedOrUndone(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	ctx, owner := context.Background(), h.owner()
	exec := func(sql string) {
		t.Helper()
		if _, err := owner.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	count := func(sql string) (n int) {
		t.Helper()
		if err := owner.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// try makes a request without an audit log, which must come to nothing, and
	// then with it. It gives the answer, and what the one event of it names.
	try := func(token string, c call, state string) (string, []string) {
		t.Helper()
		before := count(state)
		exec("ALTER TABLE audit.event ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
		if a := h.do(token, c); a.status != 503 {
			t.Errorf("%s without an audit log: %d %s", c.path, a.status, a.body)
		}
		exec("ALTER TABLE audit.event DROP CONSTRAINT full_disk")
		if after := count(state); after != before {
			t.Errorf("%s was done without an access record", c.path)
		}
		a := h.do(token, c)
		if a.status != 200 || count(state) == before {
			t.Fatalf("%s: %d %s", c.path, a.status, a.body)
		}
		var events, entities int
		var named []string
		if err := owner.QueryRow(ctx, "SELECT count(*), COALESCE(sum(cardinality(entities)), 0), COALESCE(array_agg(s) FILTER (WHERE s <> ''), '{}') FROM audit.event LEFT JOIN LATERAL unnest(sessions) AS s ON true WHERE request = $1 AND interaction = 'operation' AND outcome = '0'",
			a.header.Get("X-Request-Id")).Scan(&events, &entities, &named); err != nil {
			t.Fatal(err)
		}
		if events != 1 || entities != 0 {
			t.Errorf("%s: %d events with %d records", c.path, events, entities)
		}
		return a.body, named
	}
	of := func(name, value string) string {
		return `{"resourceType":"Parameters","parameter":[{"name":"` + name + `","valueString":"` + value + `"}]}`
	}
	wants := func(what string, named []string, id []string) {
		t.Helper()
		if len(id) != 2 || !slices.Equal(named, id[1:]) {
			t.Errorf("%s: the access record names %q, not %q", what, named, id)
		}
	}

	const exceptions = "SELECT count(*) FROM record.exception"
	body, named := try("privacy-officer", call{method: "POST", path: "/fhir/$document-exception", body: `{"resourceType":"Parameters","parameter":[{"name":"kind","valueCode":"legal-defense"},{"name":"purpose","valueCode":"HLEGAL"},` +
		`{"name":"recipient","valueReference":{"reference":"Practitioner/counsel"}},{"name":"patient","valueReference":{"reference":"` + patientNamed(t, "Nora") + `"}},{"name":"end","valueDateTime":"2026-06-30"},` +
		`{"name":"documentation","part":[{"name":"case","valueString":"26-CV-118"},{"name":"brought-by-patient","valueBoolean":true}]}]}`}, exceptions)
	exception := exceptionID.FindStringSubmatch(body)
	wants("$document-exception", named, exception)
	if len(exception) != 2 {
		t.Fatal(body)
	}
	_, named = try("privacy-officer", call{method: "POST", path: "/fhir/$end-exception", body: of("exception", exception[1])}, exceptions+" WHERE ends < '2026-06-30'")
	wants("$end-exception", named, exception)

	a := h.do("emergency", breakGlass("patient", patientNamed(t, "Nora")))
	session := sessionID.FindStringSubmatch(a.body)
	if len(session) != 2 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	_, named = try("emergency", call{method: "POST", path: "/fhir/Patient/$end-emergency", body: of("session", session[1])}, "SELECT count(*) FROM record.emergency WHERE ends < starts + interval '1 hour'")
	wants("$end-emergency", named, session)
}
