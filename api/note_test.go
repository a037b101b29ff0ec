package api

import (
	"net/http"
	"strings"
	"testing"
)

// A note that cannot be opened is an answer without anything of it, and only for
// who may see it.
func TestNotesThatDoNotOpen(t *testing.T) {
	c := newClinic(t)
	note := `{"resourceType":"DocumentReference","status":"current","type":{"coding":[{"system":"https://cloister.health/fhir/CodeSystem/note-kind","code":"psychotherapy-note"}]},"subject":{"reference":"Patient/anna"},"author":[{"reference":"Practitioner/dora"}],"description":"CANARYquagga","content":[{"attachment":{"contentType":"text/plain","data":"c2VjcmV0"}}]}`
	at := c.create(t, "therapist", note)
	id := strings.TrimPrefix(at, "/fhir/DocumentReference/")
	read := func(token string) call { return call{method: "GET", path: at, token: token} }
	c.want(t, http.StatusOK, call{method: "PATCH", path: at, token: "therapist", body: `[{"op":"add","path":"/docStatus","value":"final"}]`, header: header("Content-Type", "application/json-patch+json")})
	if _, _, body := c.want(t, http.StatusOK, read("therapist")); !strings.Contains(body, "CANARYquagga") || !strings.Contains(body, `"docStatus":"final"`) {
		t.Errorf("the note reads %s", body)
	}
	_, _, absent := c.want(t, http.StatusNotFound, call{method: "GET", path: "/fhir/DocumentReference/never-existed", token: "colleague"})
	refused := func(status int, x call) {
		t.Helper()
		_, r, body := c.want(t, status, x)
		if r == nil || r.Type != "OperationOutcome" || strings.Contains(body, "1.") || strings.Contains(body, id) || strings.Contains(body, "CANARY") || strings.Contains(body, "test:") {
			t.Errorf("%s %s says %s", x.method, x.path, body)
		}
		if _, _, hidden := c.want(t, http.StatusNotFound, read("colleague")); hidden != absent {
			t.Errorf("hidden %s, absent %s", hidden, absent)
		}
		c.want(t, http.StatusOK, call{method: "GET", path: "/fhir/DocumentReference?patient=anna", token: "colleague"})
	}
	patch := call{method: "PATCH", path: at, token: "therapist", body: `[{"op":"test","path":"/description","value":"x"}]`, header: header("Content-Type", "application/json-patch+json")}
	page := call{method: "GET", path: "/fhir/DocumentReference?patient=anna", token: "therapist"}
	versions := call{method: "GET", path: at + "/_history", token: "therapist"}
	c.exec(t, `UPDATE notes.resource SET body = to_jsonb(overlay(body #>> '{}' placing 'AAAA' from 40))`)
	for _, x := range []call{read("therapist"), page, versions, patch} {
		refused(http.StatusInternalServerError, x)
	}
	// Its key is out of reach, once it is no longer in memory.
	c.exec(t, `UPDATE notes.data_key SET wrapped = '\x00'`)
	c.tick.Add(600)
	refused(http.StatusServiceUnavailable, call{method: "GET", path: at + "/_history/1", token: "therapist"})
	refused(http.StatusServiceUnavailable, call{method: "POST", path: "/fhir/DocumentReference", token: "therapist", body: note})
}
