package api

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
)

// events are the AuditEvents of a Bundle.
func auditEvents(r *codec.Resource) (out []*element.Node) {
	for _, e := range r.Root.Get("entry").List() {
		out = append(out, e.Get("resource"))
	}
	return out
}

func TestTheTrailOverFHIR(t *testing.T) {
	c := newClinic(t)
	observed := strings.TrimPrefix(c.create(t, "therapist", observation("Patient/anna", "")), "/fhir/")
	c.want(t, 200, call{method: "GET", path: "/fhir/" + observed, token: "therapist"})
	c.want(t, 404, call{method: "GET", path: "/fhir/" + observed, token: "colleague"})
	c.want(t, 200, call{method: "GET", path: "/fhir/Observation", token: "therapist"})
	c.want(t, 200, call{method: "GET", path: "/fhir/Patient", token: "front-desk"}) // of two patients

	find := func(query string) []*element.Node {
		t.Helper()
		_, r, _ := c.want(t, 200, call{method: "GET", path: "/fhir/AuditEvent?" + query, token: "privacy-officer"})
		return auditEvents(r)
	}
	for query, want := range map[string]int{
		"entity=" + observed:                                                       4, // what is created is answered with, too
		"entity=" + observed + "/_history/1&action=R":                              2,
		"patient=anna&type=rest&subtype=read":                                      2,
		"patient=Patient/anna&subtype=search-type&agent-role=therapist,front-desk": 2,
		"patient=bert&subtype=search-type&agent-role=front-desk":                   1,
		"patient=anna,bert&agent-role=front-desk":                                  2,
		"outcome=4&agent=Practitioner/emil":                                        1,
		"outcome=4&agent=Practitioner/dora":                                        0,
		"agent=https://clinic.example/fhir/Practitioner/dora":                      4,
		"agent:identifier=test|therapist":                                          4,
		"purpose=TREAT&outcome=4":                                                  1,
		"purpose=HRESCH":                                                           0,
		"date=lt2026":                                                              0,
		"action=C&patient=anna&agent=Practitioner/dora":                            1,
		"patient=nobody":                                                           0,
		"type=http://dicom.nema.org/resources/ontology/DCM|":                       0,
		"policy=urn:cloister:policy:none":                                          0,
		"patient=anna&entity=Patient/anna&agent-role=front-desk":                   1,
	} {
		if got := find(query); len(got) != want {
			t.Errorf("%s: %d, want %d: %s", query, len(got), want, texts(got))
		}
	}
	// One is read by its id, by POST it is searched for, and in the compartments.
	one := find("entity=" + observed + "&action=R")[0]
	id := one.Get("id").String()
	h, r, _ := c.want(t, 200, call{method: "GET", path: "/fhir/AuditEvent/" + id, token: "privacy-officer"})
	if !bytes.Equal(r.Root.AppendJSON(nil), one.AppendJSON(nil)) || h.Get("ETag") != `W/"1"` {
		t.Errorf("read: %s %v", r.Root.AppendJSON(nil), h)
	}
	if got := find("_id=" + id); len(got) != 1 {
		t.Errorf("by id: %s", texts(got))
	}
	_, r, _ = c.want(t, 200, call{method: "POST", path: "/fhir/AuditEvent/_search", token: "privacy-officer", body: "_id=" + id, header: header("Content-Type", "application/x-www-form-urlencoded")})
	if len(auditEvents(r)) != 1 {
		t.Error("by POST")
	}
	for path, want := range map[string]int{"Patient/anna/AuditEvent?entity=" + observed: 4, "Patient/bert/AuditEvent?entity=" + observed: 0, "Practitioner/dora/AuditEvent?action=R": 2} {
		if _, r, _ := c.want(t, 200, call{method: "GET", path: "/fhir/" + path, token: "privacy-officer"}); len(auditEvents(r)) != want {
			t.Errorf("%s: %s", path, texts(auditEvents(r)))
		}
	}
	// Page by page it is the same list, in either order.
	whole := find("date=le2026-03-01T12:00:30Z")
	for _, sort := range []string{"-date", "date"} {
		var paged []*element.Node
		for next := "/fhir/AuditEvent?_count=1&_sort=" + sort + "&date=le2026-03-01T12:00:30Z"; next != ""; {
			_, r, _ := c.want(t, 200, call{method: "GET", path: next, token: "privacy-officer"})
			paged = append(paged, auditEvents(r)...)
			next = link(r, "next")
		}
		if sort == "date" {
			slices.SortStableFunc(paged, func(a, b *element.Node) int {
				return strings.Compare(b.Get("recorded").String(), a.Get("recorded").String())
			})
		}
		if texts(paged) != texts(whole) || len(whole) < 5 {
			t.Errorf("%s: %d and %d\n%s\n%s", sort, len(paged), len(whole), texts(paged), texts(whole))
		}
	}
	// A page is its reader's alone.
	_, r, _ = c.want(t, 200, call{method: "GET", path: "/fhir/AuditEvent?_count=1", token: "privacy-officer"})
	c.want(t, 400, call{method: "GET", path: link(r, "next") + "&action=R", token: "privacy-officer"})

	for path, status := range map[string]int{
		"AuditEvent?site=here": 400, "AuditEvent?_include=AuditEvent:patient": 400, "AuditEvent?date=lately": 400, "AuditEvent?date=ap2026": 400, "AuditEvent?patient=Group/1": 400,
		"AuditEvent?_sort=agent": 400, "AuditEvent?_count=0": 400, "AuditEvent?action:not=R": 400, "AuditEvent?action=": 400, "Group/1/AuditEvent": 404, "Device/1/AuditEvent": 400,
		"AuditEvent/" + id[:36]: 404, "AuditEvent/none": 404, "AuditEvent/" + id + "0": 404, "AuditEvent/_history": 403, "AuditEvent/" + id + "/_history": 403, "AuditEvent/" + id + "/_history/1": 403,
	} {
		c.want(t, status, call{method: "GET", path: "/fhir/" + path, token: "privacy-officer"})
	}
	for _, who := range []string{"therapist", "practice-admin", "patient", "front-desk", "exchange", "operator"} {
		c.want(t, 403, call{method: "GET", path: "/fhir/AuditEvent", token: who})
		c.want(t, 403, call{method: "GET", path: "/fhir/AuditEvent/" + id, token: who})
	}
	body := string(one.AppendJSON(nil))
	c.want(t, 403, call{method: "POST", path: "/fhir/AuditEvent", token: "privacy-officer", body: body})
	c.want(t, 403, call{method: "PUT", path: "/fhir/AuditEvent/" + id, token: "privacy-officer", body: body})
	c.want(t, 403, call{method: "DELETE", path: "/fhir/AuditEvent/" + id, token: "privacy-officer"})
	c.want(t, 403, call{method: "POST", path: "/fhir/AuditEvent", token: "operator", body: body})

	// An unknown parameter is passed over where the client says so, and told.
	_, _, answer := c.want(t, 200, call{method: "GET", path: "/fhir/AuditEvent?site=here&_count=1", token: "privacy-officer", header: header("Prefer", "handling=lenient")})
	if !strings.Contains(answer, `"mode":"outcome"`) || strings.Contains(answer, "site=") {
		t.Error(answer)
	}
	// In a batch it is one entry of several.
	_, r, _ = c.want(t, 200, call{method: "POST", path: "/fhir", token: "privacy-officer", body: `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"AuditEvent?_id=` + url.QueryEscape(id) + `"}}]}`})
	if got := r.Root.Get("entry").List()[0].Get("resource").Get("entry").List(); len(got) != 1 {
		t.Errorf("in a batch: %s", r.Root.AppendJSON(nil))
	}
	// What is not served is not declared.
	_, r, _ = c.want(t, 200, call{method: "GET", path: "/fhir/metadata"})
	for _, x := range r.Root.Get("rest").List()[0].Get("resource").List() {
		if x.Get("type").String() != "AuditEvent" {
			if strings.Contains(string(x.AppendJSON(nil)), "AuditEvent") {
				t.Errorf("%s: %s", x.Get("type"), x.AppendJSON(nil))
			}
			continue
		}
		var codes, params []string
		for _, i := range x.Get("interaction").List() {
			codes = append(codes, i.Get("code").String())
		}
		for _, p := range x.Get("searchParam").List() {
			params = append(params, p.Get("name").String())
		}
		if strings.Join(codes, " ") != "search-type read" || strings.Join(params, " ") != "_id action agent agent-role date entity outcome patient policy purpose subtype type" || x.Get("searchInclude") != nil || x.Get("searchRevInclude") != nil {
			t.Errorf("%s", x.AppendJSON(nil))
		}
	}
}

// texts are what AuditEvents are of, in few words.
func texts(in []*element.Node) string {
	var out []string
	for _, n := range in {
		out = append(out, n.Get("id").String()+" "+n.Get("subtype").List()[0].Get("code").String()+" "+n.Get("agent").List()[0].Get("who").Get("identifier").Get("value").String())
	}
	return strings.Join(out, "\n")
}
