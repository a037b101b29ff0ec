package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// Nothing is disclosed and nothing changed whose access record cannot be written:
// 503, transient, and the database as it was. Once it can be, the same request is answered.
func TestNothingHappensWithoutAnAccessRecord(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	ctx, owner := context.Background(), h.owner()
	exec := func(sql string) {
		t.Helper()
		if _, err := owner.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	// All that a request could leave behind: rows as they are, their versions, and what they give.
	state := func() (s string) {
		t.Helper()
		if err := owner.QueryRow(ctx, `SELECT concat_ws(' ', (SELECT md5(string_agg(r::text, ',' ORDER BY pk)) FROM record.resource r), (SELECT count(*) FROM record.resource_history),
(SELECT count(*) FROM record.relation), (SELECT count(*) FROM record.consent_grant), (SELECT count(*) FROM record.idempotency), (SELECT count(*) FROM audit.event))`).Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	nora := found(t, "Nora", "Patient").ref
	condition := found(t, "Nora", "Condition")
	at := "/" + condition.ref.String()
	fresh := `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"` + nora.String() + `"}}`
	changed := with(t, condition.json, "language", "en")
	patch := map[string]string{"Content-Type": "application/json-patch+json"}
	for name, c := range map[string]struct {
		call
		then int // the status once it can be recorded
	}{
		"read":               {get(at), http.StatusOK},
		"HEAD":               {call{method: "HEAD", path: "/fhir" + at}, http.StatusOK},
		"vread":              {get(at + "/_history/1"), http.StatusOK},
		"history":            {get(at + "/_history"), http.StatusOK},
		"search":             {get("/Condition?patient=" + string(nora.ID)), http.StatusOK},
		"$everything":        {get("/" + nora.String() + "/$everything"), http.StatusOK},
		"$meta":              {get(at + "/$meta"), http.StatusOK},
		"refusal of a read":  {get("/Condition/" + string(sample.Absent())), http.StatusNotFound},
		"refusal of a type":  {get("/Claim?patient=" + string(nora.ID)), http.StatusForbidden},
		"create":             {call{method: "POST", path: "/fhir/Observation", body: fresh}, http.StatusCreated},
		"conditional create": {call{method: "POST", path: "/fhir/Observation", body: fresh, header: map[string]string{"If-None-Exist": "identifier=x|never"}}, http.StatusCreated},
		"create with a key":  {call{method: "POST", path: "/fhir/Observation", body: fresh, header: map[string]string{"Idempotency-Key": `"k1"`}}, http.StatusCreated},
		"update":             {call{method: "PUT", path: "/fhir" + at, body: changed}, http.StatusOK},
		"patch":              {call{method: "PATCH", path: "/fhir" + at, body: `[{"op":"add","path":"/language","value":"de"}]`, header: patch}, http.StatusOK},
		"transaction":        {call{method: "POST", path: "/fhir", body: `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":` + fresh + `,"request":{"method":"POST","url":"Observation"}}]}`}, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			before := state()
			exec("ALTER TABLE audit.event ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
			a := h.do("therapist", c.call)
			exec("ALTER TABLE audit.event DROP CONSTRAINT full_disk")
			if a.status != http.StatusServiceUnavailable || c.method != "HEAD" && (!strings.Contains(a.body, `"code":"transient"`) || !strings.Contains(a.body, "try again") || !strings.Contains(a.body, "OperationOutcome")) {
				t.Errorf("without an audit log: %d %s", a.status, a.body)
			}
			if strings.Contains(a.body, "full_disk") || strings.Contains(a.body, "SQLSTATE") || strings.Contains(a.body, string(condition.ref.ID)) {
				t.Errorf("the refusal says too much: %s", a.body)
			}
			if after := state(); after != before {
				t.Error("something was done without an access record")
			}
			if a := h.do("therapist", c.call); a.status != c.then {
				t.Errorf("with an audit log: %d %s", a.status, a.body)
			}
			if state() == before {
				t.Error("with an audit log nothing is recorded")
			}
		})
	}
}
