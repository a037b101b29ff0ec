package server_test

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search"
	"github.com/cloister-health/cloister/fhir/search/searchtest"
)

// material is what requests are made of: everything that exists in the
// practice, hidden or not.
type material struct {
	searchtest.Material
	ids      map[fhir.ResourceType][]string
	types    []fhir.ResourceType
	patients []string
}

func gather(practice string) *material {
	m := &material{ids: map[fhir.ResourceType][]string{}}
	m.IDs = map[fhir.ResourceType][]fhir.ID{}
	m.Words = []string{"a", "Be", "no", "Mar", "zz"}
	m.Dates = []string{"2025", "2025-06", "2025-10-14", "2026", "2026-03", "2026-03-02", "2026-02-01T10:00:00Z", "2026-03-02T12:00:00Z", "1990", "2030-01"}
	m.URLs = []string{"http://example.org/x", base}
	seen := map[string]bool{}
	add := func(kind, key string, do func()) {
		if key != "" && !seen[kind+key] {
			seen[kind+key] = true
			do()
		}
	}
	for b := range clinic.Generate(sample) {
		for _, r := range b.Resources {
			rt := fhir.ResourceType(r.Get("resourceType").String())
			if b.Practice != practice && rt != "Patient" {
				continue
			}
			id := r.Get("id").String()
			m.ids[rt] = append(m.ids[rt], id)
			m.IDs[rt] = append(m.IDs[rt], fhir.ID(id))
			if rt == "Patient" {
				m.patients = append(m.patients, id)
			}
			r.Walk(func(name string, n *element.Node) bool {
				switch {
				case n.Kind == element.Object && n.Get("code").String() != "" && n.Get("value") != nil:
					q := search.Coding{System: n.Get("system").String(), Code: n.Get("code").String()}
					add("unit", q.Code, func() { m.Units = append(m.Units, q) })
					add("number", n.Get("value").String(), func() { m.Numbers = append(m.Numbers, n.Get("value").String()) })
				case n.Kind == element.Object && n.Get("code").String() != "":
					c := search.Coding{System: n.Get("system").String(), Code: n.Get("code").String()}
					add("code", c.System+"|"+c.Code, func() { m.Codings = append(m.Codings, c) })
				case n.Kind == element.String && slices.Contains([]string{"family", "given", "city", "display"}, name):
					add("word", n.Text, func() { m.Words = append(m.Words, n.Text) })
				case n.Kind == element.String && name == "status":
					add("code", "|"+n.Text, func() { m.Codings = append(m.Codings, search.Coding{Code: n.Text}) })
				case n.Kind == element.String && (strings.HasSuffix(name, "DateTime") || name == "birthDate" || name == "start"):
					if len(m.Dates) < 60 {
						add("date", n.Text, func() { m.Dates = append(m.Dates, n.Text) })
					}
				}
				return true
			})
			for _, p := range r.Get("meta").Get("profile").List() {
				add("url", p.Text, func() { m.URLs = append(m.URLs, p.Text) })
			}
		}
	}
	for rt := range m.ids {
		m.types = append(m.types, rt)
	}
	sort.Slice(m.types, func(i, j int) bool { return m.types[i] < m.types[j] })
	m.Types = m.types
	return m
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func sampled(r *rand.Rand, from []string, n int) []string {
	out := append([]string(nil), from...)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

func (m *material) known(r *rand.Rand, rt fhir.ResourceType) string { return pick(r, m.ids[rt]) }

// request makes up one request that changes nothing, over the whole grammar.
func (m *material) request(r *rand.Rand) call {
	rt := pick(r, m.types)
	searched := func(at string, q url.Values) call {
		q.Set("_count", strconv.Itoa(pick(r, []int{1, 2, 3, 5, 20, 1000})))
		if r.IntN(8) == 0 {
			return call{method: "POST", path: "/fhir" + at + "/_search", body: q.Encode(), header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}
		}
		return get(at + "?" + q.Encode())
	}
	switch n := r.IntN(100); {
	case n < 30:
		return searched("/"+string(rt), m.narrow(r, rt))
	case n < 62:
		return searched("/"+string(rt), searchtest.Random(r, rt, m.Material))
	case n < 70:
		c := searched("", searchtest.Random(r, "", m.Material))
		return c
	case n < 76:
		return searched("/Patient/"+pick(r, m.patients)+"/"+pick(r, append([]string{"*"}, string(rt))), m.results(r))
	case n < 80:
		return get("/Patient/" + pick(r, m.patients) + "/$everything?" + m.everything(r))
	case n < 82:
		return get("/Observation/$lastn?patient=" + pick(r, m.patients) + "&max=" + strconv.Itoa(1+r.IntN(3)))
	case n < 84:
		return get("/DocumentReference/$docref?patient=" + pick(r, m.patients))
	case n < 86:
		return m.question(r, pick(r, m.patients))
	case n < 88:
		return get("/" + string(rt) + "/" + m.known(r, rt) + "/$meta")
	case n < 91:
		return get(pick(r, []string{"", "/" + string(rt), "/" + string(rt) + "/" + m.known(r, rt)}) + "/_history?" + m.window(r))
	case n < 95:
		return get("/" + string(rt) + "/" + m.known(r, rt) + pick(r, []string{"", "/_history/1", "?_summary=true", "?_elements=id,code", "?_summary=text", "?_summary=data", "?_pretty=true"}))
	default:
		q := url.Values{"_type": {string(rt) + "," + string(pick(r, m.types))}}
		return searched("", q)
	}
}

// question asks about the consents of a patient: whether somebody could see something, in both ways
// of asking, or what became of a signature. None of them changes anything.
func (m *material) question(r *rand.Rand, of string) call {
	patient, rt := "Patient/"+of, pick(r, m.types)
	to := pick(r, []string{"Organization/" + m.known(r, "Organization"), "Practitioner/" + m.known(r, "Practitioner")})
	purpose := pick(r, []string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT", "HRESCH"})
	switch r.IntN(4) {
	case 0:
		if len(m.ids["Consent"]) > 0 {
			return get("/Consent/" + m.known(r, "Consent") + "/$verify-signature")
		}
	case 1:
		return call{method: "POST", path: "/cds-services/patient-consent-consult", header: map[string]string{"Content-Type": "application/json"},
			body: `{"hook":"patient-consent-consult","hookInstance":"1","context":{"actor":[{"value":"` + to + `"}],"patientId":[{"value":"` + patient + `"}],"purposeOfUse":["` + purpose + `"]}}`}
	case 2:
		return call{method: "POST", path: "/fhir/Consent/$evaluate", body: paramsOf("patient", "valueReference", patient, "recipient", "valueReference", to, "purpose", "valueCode", purpose,
			"type", "valueCode", string(rt), "label", "valueCode", pick(r, []string{"42CFRPart2", "SUD", "MH", "MINORCONSENT"}), "program", "valueReference", "Organization/"+m.known(r, "Organization"))}
	}
	return call{method: "POST", path: "/fhir/Consent/$evaluate", body: paramsOf("patient", "valueReference", patient, "recipient", "valueReference", to, "purpose", "valueCode", purpose,
		"resource", "valueReference", string(rt)+"/"+m.known(r, rt))}
}

// narrow is a search that is likely to find something: one criterion or two
// that many records meet, and all that governs the result.
func (m *material) narrow(r *rand.Rand, rt fhir.ResourceType) url.Values {
	q := m.results(r)
	switch r.IntN(8) {
	case 0:
		q.Add("_id", strings.Join(sampled(r, m.ids[rt], r.IntN(5)+1), ","))
	case 1:
		q.Add("_lastUpdated", pick(r, []string{"", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})+pick(r, []string{"2026", "2026-03", "2026-03-02", "2025-12-31", "2026-03-02T12:00:00Z"}))
	case 2:
		q.Add(pick(r, []string{"patient", "subject"}), pick(r, []string{"", "Patient/", base + "/Patient/"})+pick(r, m.patients))
	case 3:
		other := pick(r, m.types)
		q.Add("_has:"+string(other)+":"+pick(r, []string{"patient", "subject", "encounter", "author", "focus"})+":_id", strings.Join(sampled(r, m.ids[other], 40), ","))
	case 4:
		q.Add("_has:"+string(pick(r, m.types))+":"+pick(r, []string{"patient", "subject", "encounter"})+":"+pick(r, []string{"status:missing", "date:missing", "code:missing"}), pick(r, []string{"true", "false"}))
	case 5:
		q.Add(pick(r, []string{"patient", "subject:Patient"})+"."+pick(r, []string{"gender:not", "gender", "birthdate", "active:missing"}), pick(r, []string{"male", "ge1980", "true", "female"}))
	case 6:
		q.Add(pick(r, []string{"status", "code", "category", "date", "subject", "encounter"})+":missing", pick(r, []string{"true", "false"}))
	default:
		q.Add(pick(r, []string{"status", "code", "category", "type"})+":not", pick(r, m.Codings).Code)
	}
	return q
}

// results governs the result of a search.
func (m *material) results(r *rand.Rand) url.Values {
	q := url.Values{}
	if r.IntN(2) == 0 {
		q.Set("_total", pick(r, []string{"accurate", "estimate"}))
	}
	if r.IntN(2) == 0 {
		q.Set("_sort", pick(r, []string{"_lastUpdated", "-_lastUpdated", "_id", "-_id", "_id,-_lastUpdated"}))
	}
	if r.IntN(10) == 0 {
		q.Set("_summary", pick(r, []string{"count", "true", "text", "data"}))
	}
	return q
}

func (m *material) everything(r *rand.Rand) string {
	q := url.Values{"_count": {strconv.Itoa(pick(r, []int{3, 20, 1000}))}}
	switch r.IntN(4) {
	case 0:
		q.Set("_since", "2026-03-02T12:00:00Z")
	case 1:
		q.Set("_type", string(pick(r, m.types))+","+string(pick(r, m.types)))
	case 2:
		q.Set("start", pick(r, m.Dates))
		q.Set("end", "2026-12-31")
	}
	return q.Encode()
}

func (m *material) window(r *rand.Rand) string {
	q := url.Values{"_count": {strconv.Itoa(pick(r, []int{1, 3, 20}))}}
	switch r.IntN(4) {
	case 0:
		q.Set("_since", pick(r, []string{"2026-03-02T12:00:00Z", "2026-03-02T11:00:00Z", "2025-01-01T00:00:00Z"}))
	case 1:
		q.Set("_at", pick(r, []string{"2026", "2026-03-02T12:00:00Z"}))
	}
	return q.Encode()
}
