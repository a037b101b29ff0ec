package server_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
)

// readings are the ways to read that are no search: histories of every level
// and parts of resources, hidden ones among them.
func (m *material) readings(r *rand.Rand) []call {
	out := []call{
		get("/_history?_count=200"), get("/_history?_since=2026-03-02&_sort=_lastUpdated&_count=50"), get("/_history?_at=2026-03-02T12&_elements=id"),
		{method: "HEAD", path: "/fhir/_history?_count=3"},
	}
	for _, rt := range some(r, m.types, 4) {
		t := "/" + string(rt)
		out = append(out, get(t+"/_history?_count=50"), get(t+"/_history?_sort=_lastUpdated&_summary=true"), get(t+"/_history?_since=2026-03-02T12:00:00Z&_at=2026-03-02"))
		for _, id := range append([]string{string(sample.Absent())}, sampled(r, m.ids[rt], 1)...) {
			at := t + "/" + id
			out = append(out, get(at+"?_elements=status,code"), get(at+"?_summary=text"), get(at+"?_summary=true&_pretty=true"), get(at+"/_history/1?_summary=data"),
				get(at+"/_history?_since=2026-01-01"), get(at+"/_history?_since=2100"), get(at+"/_history?_at=2026-03-02&_sort=_lastUpdated"))
		}
	}
	return out
}

// changes are patches and conditional changes that touch what is hidden, alone,
// in batches and in transactions, some of them twice under one key.
func (m *material) changes(r *rand.Rand) []call {
	var out []call
	patches := []string{
		`[{"op":"test","path":"/status","value":"final"}]`, `[{"op":"test","path":"/id","value":"x"}]`, `[{"op":"remove","path":"/nothing"}]`,
		`[{"op":"add","path":"/language","value":"en"}]`, `[{"op":"replace","path":"/subject/reference","value":"Patient/` + pick(r, m.patients) + `"}]`,
	}
	pathPatch := `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"delete"},{"name":"path","valueString":"Resource.language"}]}]}`
	send := func(method, path, body string, header ...string) {
		h := map[string]string{}
		for i := 0; i+1 < len(header); i += 2 {
			h[header[i]] = header[i+1]
		}
		out = append(out, call{method: method, path: "/fhir" + path, body: body, header: h})
		if h["Idempotency-Key"] != "" {
			out = append(out, out[len(out)-1])
		}
	}
	key := 0
	for _, rt := range some(r, []fhir.ResourceType{"DocumentReference", "Encounter", "Condition", "Appointment", "Consent", "Observation", "Patient", "CareTeam"}, 3) {
		for _, id := range append(sampled(r, m.ids[rt], 1), string(sample.Absent())) {
			patient := pick(r, m.patients)
			at, query := "/"+string(rt)+"/"+id, string(rt)+"?_id="+id
			condition := pick(r, []string{"_id=" + id, "_id=" + id + "&_lastUpdated=ge2026-01-01", "patient=" + patient, "identifier=x|" + id})
			observation := fmt.Sprintf(`{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"},"focus":[{"reference":%q}]}`, patient, pick(r, []string{query, at[1:]}))
			plain := fmt.Sprintf(`{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"}}`, patient)
			patch := pick(r, patches)
			key++
			send("PATCH", at, patch, "Content-Type", "application/json-patch+json")
			send("PATCH", at, patch, "Content-Type", "application/json-patch+json", "If-Match", pick(r, []string{`W/"1"`, `W/"7"`}))
			send("PATCH", at, pathPatch)
			send("PATCH", "/"+string(rt)+"?"+condition, patch, "Content-Type", "application/json-patch+json", "Idempotency-Key", fmt.Sprint("p", key))
			send("DELETE", "/"+string(rt)+"?"+condition, "", "Idempotency-Key", fmt.Sprint("d", key))
			send("DELETE", at, "", "Idempotency-Key", fmt.Sprint("i", key))
			send("PUT", "/Observation?_id="+id, plain)
			send("PUT", "/Observation?_id="+id, strings.Replace(plain, "{", `{"id":"`+id+`",`, 1))
			send("PUT", "/Observation/"+id, strings.Replace(plain, "{", `{"id":"`+id+`",`, 1), "If-None-Match", "*")
			send("POST", "/Observation", plain, "If-None-Exist", "_id="+id, "Idempotency-Key", fmt.Sprint("c", key))
			binary := `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"` + base64.StdEncoding.EncodeToString([]byte(patch)) + `"}`
			entries := []string{
				`{"resource":` + observation + `,"request":{"method":"POST","url":"Observation"}}`,
				`{"resource":` + binary + `,"request":{"method":"PATCH","url":"` + at[1:] + `"}}`,
				`{"resource":` + binary + `,"request":{"method":"PATCH","url":"` + string(rt) + `?` + condition + `"}}`,
				`{"resource":` + plain + `,"request":{"method":"PUT","url":"Observation?` + condition + `"}}`,
				`{"request":{"method":"DELETE","url":"` + query + `"}}`,
				`{"request":{"method":"HEAD","url":"` + at[1:] + `"}}`,
				`{"request":{"method":"GET","url":"Patient/_history?_count=2"}}`,
				`{"request":{"method":"GET","url":"_history?_count=2&_since=2100"}}`,
			}
			r.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			send("POST", "", `{"resourceType":"Bundle","type":"batch","entry":[`+strings.Join(entries, ",")+`]}`, "Idempotency-Key", fmt.Sprint("b", key))
			send("POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[`+strings.Join(entries[:1+r.IntN(3)], ",")+`]}`, "Idempotency-Key", fmt.Sprint("t", key))
		}
	}
	// What is made at the same instant stands in the order of its random ids.
	return append(out, get("/DocumentReference/_history?_count=100"), get("/Observation?_summary=count"))
}

// some are n of them.
func some(r *rand.Rand, from []fhir.ResourceType, n int) []fhir.ResourceType {
	out := append([]fhir.ResourceType(nil), from...)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

// The promise of the whole server, for interactions other than search.
func TestTwinInteractions(t *testing.T) {
	rounds := rounds(t, "CLOISTER_TWIN_ROUNDS", 1)
	for _, p := range clinic.Personas(sample) {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			w := newTwins(t, p, nil)
			m := gather(p.Practice)
			r := rand.New(rand.NewPCG(3, uint64(len(p.Name))))
			n, done := 0, map[int]int{}
			for range rounds {
				for _, c := range m.readings(r) {
					if n >= 20 && late(t) {
						break
					}
					w.follow(t, w.check(t, c))
					n++
				}
				for _, c := range m.changes(r) {
					if n >= 60 && late(t) {
						break
					}
					done[w.check(t, c).status]++
					n++
					if t.Failed() {
						return
					}
				}
			}
			t.Logf("%d requests without a difference; statuses of the changes: %v", n, done)
		})
	}
}
