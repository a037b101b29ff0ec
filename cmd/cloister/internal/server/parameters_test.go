package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

const spoken = `{"resourceType":"SearchParameter","url":"urn:spoken","name":"Spoken","status":"active","description":"d","code":"spoken","base":["Patient"],"type":"token","expression":"Patient.communication.language.exists().not()"}`

// A practice defines a parameter, and from the end of its indexing on those who
// may read the definition search by it, as far as they see.
func TestSearchParameterOfAPractice(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	want := func(token string, c call, status int, text string) answer {
		t.Helper()
		a := h.do(token, c)
		if a.status != status || !strings.Contains(a.body, text) {
			t.Errorf("%s %s as %s: %d %.300s, want %d with %q", c.method, c.path, token, a.status, a.body, status, text)
		}
		return a
	}
	search := get("/Patient?spoken=true&_total=accurate")
	nobody := h.do("therapist", get("/Patient?unheard-of=true"))
	want("therapist", call{method: "POST", path: "/fhir/SearchParameter", body: spoken}, 403, "")
	made := want("practice-admin", call{method: "POST", path: "/fhir/SearchParameter", body: spoken}, 201, "")
	path, _, _ := strings.Cut(strings.TrimPrefix(made.header.Get("Location"), base), "/_history")
	reindex := path + "/$reindex"
	want("practice-admin", get(reindex), 200, `"requested"`)
	want("practice-admin", get(reindex+"?_format=json"), 200, `"percent","valueInteger":0`)
	if got := want("therapist", search, 400, ""); strings.ReplaceAll(got.body, "spoken", "unheard-of") != nobody.body {
		t.Errorf("what is not indexed yet differs from what is unknown: %s", got.body)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.core.Store.Reindex(ctx, time.Millisecond, func(err error) { t.Error(err) })
	}()
	for !strings.Contains(h.do("practice-admin", get(reindex)).body, "completed") {
		time.Sleep(time.Millisecond)
	}
	for _, token := range []string{"therapist", "practice-admin"} {
		all, some, none := h.total(token, ""), h.total(token, "&spoken=true"), h.total(token, "&spoken=false")
		if all == 0 || some+none != all {
			t.Errorf("%s sees %d, and finds %d and %d", token, all, some, none)
		}
	}
	want("hie", search, 400, "")
	want("lakeside-therapist", search, 400, "")
	want("practice-admin", call{method: "PUT", path: "/fhir/Patient?spoken=maybe", body: `{"resourceType":"Patient"}`}, 201, "")
	want("practice-admin", call{method: "POST", path: "/fhir" + reindex}, 200, "")
	want("practice-admin", call{method: "POST", path: "/fhir/$reindex"}, 200, `"percent"`)
	want("therapist", call{method: "POST", path: "/fhir/$reindex"}, 403, "")
	want("therapist", call{method: "POST", path: "/fhir" + reindex}, 403, "")
	want("practice-admin", get("/SearchParameter/absent/$reindex"), 404, "")
	for !strings.Contains(h.do("practice-admin", get("/$reindex")).body, "completed") {
		time.Sleep(time.Millisecond)
	}
	want("therapist", get("/metadata"), 200, "")
	if strings.Contains(h.do("", get("/metadata")).body, "spoken") {
		t.Error("the public capability statement tells of a practice's parameter")
	}
	want("practice-admin", call{method: "DELETE", path: "/fhir" + path}, 204, "")
	want("practice-admin", get(reindex), 410, "")
	want("therapist", search, 400, "")
	stop()
	<-done
	var events int
	if err := h.owner().QueryRow(context.Background(), "SELECT count(*) FROM audit.event WHERE interaction = 'operation' AND type = 'SearchParameter' AND outcome = $1", string(audit.Success)).Scan(&events); err != nil || events < 3 {
		t.Errorf("$reindex leaves %d audit events, %v", events, err)
	}
}

// total counts the patients that the caller finds.
func (h *house) total(token, query string) (n int) {
	h.t.Helper()
	a := h.do(token, get("/Patient?_summary=count"+query))
	_, rest, _ := strings.Cut(a.body, `"total":`)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		h.t.Fatalf("%s as %s: %d %.300s", query, token, a.status, a.body)
	}
	return n
}
