package server_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

const (
	observationCategory = "http://terminology.hl7.org/CodeSystem/observation-category|"
	conditionCategory   = "http://terminology.hl7.org/CodeSystem/condition-category|"
	documentCategory    = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category|"
)

// unscoped is what a granular persona reaches besides: types of which her scopes leave everything open.
const unscoped = " user/Patient.rs user/Practitioner.rs user/Organization.rs user/CareTeam.rs"

// granularTherapist is a therapist with an app that has parts of what she sees: of
// some types of everybody, of others of the patient with whom it was launched.
func granularTherapist() clinic.Persona {
	p, _ := persona("therapist")
	p.Name, p.Requests = "granular-therapist", nil
	p.Claims.Patient = strings.TrimPrefix(patientWith("Nora"), "Patient/")
	p.Claims.Scope = "user/Observation.cruds?category=" + observationCategory + "survey user/Observation.rs?category=" + observationCategory + "laboratory&status=final" +
		" patient/Observation.rs?category=" + observationCategory + "vital-signs user/Encounter.rs?status=finished user/Condition.rs?category=" + conditionCategory + "problem-list-item" +
		" user/DocumentReference.rs?category=" + documentCategory + "clinical-note patient/MedicationRequest.rs user/MedicationRequest.rs?status=stopped" + unscoped
	return p
}

// granularPatient is a patient with an app that has her vital signs and past visits alone.
func granularPatient() clinic.Persona {
	p, _ := persona("patient")
	p.Name, p.Requests = "granular-patient", nil
	p.Claims.Scope = "patient/Observation.rs?category=" + observationCategory + "vital-signs,laboratory patient/Encounter.rs?status=finished patient/Patient.rs"
	return p
}

func patientWith(given string) string {
	for _, s := range sampleRecords() {
		if s.given == given && s.ref.Type == "Patient" {
			return s.ref.String()
		}
	}
	return ""
}

// narrowed are the types of which granular scopes open a part, and meets says, by
// reading the resource, whether it is in it.
func narrowed(p clinic.Persona, k known) bool {
	var r struct {
		Status   string
		Category []struct {
			Coding []struct{ System, Code string }
		}
	}
	if err := json.Unmarshal([]byte(k.json), &r); err != nil {
		return false
	}
	in := func(category string) bool {
		for _, c := range r.Category {
			for _, x := range c.Coding {
				if x.System+"|"+x.Code == category {
					return true
				}
			}
		}
		return false
	}
	launch := k.patient == p.Claims.Patient
	if p.Name == "granular-patient" {
		switch k.ref.Type {
		case "Observation":
			return launch && (in(observationCategory+"vital-signs") || in(observationCategory+"laboratory"))
		case "Encounter":
			return launch && r.Status == "finished"
		}
		return false
	}
	switch k.ref.Type {
	case "Observation":
		return in(observationCategory+"survey") || in(observationCategory+"laboratory") && r.Status == "final" || launch && in(observationCategory+"vital-signs")
	case "Encounter":
		return r.Status == "finished"
	case "Condition":
		return in(conditionCategory + "problem-list-item")
	case "DocumentReference":
		return in(documentCategory + "clinical-note")
	case "MedicationRequest":
		return launch || r.Status == "stopped"
	}
	return false
}

// TestGranularScopesAgree: what a scope with search parameters opens is what the
// persona sees without it and the parameters say, on every path of access.
// CLOISTER_SCOPE_PAIRS sets the number of records of each kind.
// Channels of leaks: L56.
func TestGranularScopesAgree(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	for n, p := range []clinic.Persona{granularTherapist(), granularPatient()} {
		types := []fhir.ResourceType{"Observation", "Encounter", "Condition", "DocumentReference", "MedicationRequest"}
		wide := p
		wide.Name, wide.Claims.Scope = p.Name+"-wide", "user/*.rs"
		if p.Name == granularPatient().Name {
			types, wide.Claims.Scope = types[:2], "patient/*.rs"
		}
		h.callers[p.Name], h.callers[wide.Name] = p, wide
		// Records of each kind: hers and in the scope, hers and not in it, and not hers.
		each := rounds(t, "CLOISTER_SCOPE_PAIRS", 8)
		count := map[[2]bool]int{}
		reached := map[string]bool{} // whether the persona reaches a patient
		records := slices.Clone(sampleRecords())
		rand.New(rand.NewPCG(5, uint64(n))).Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		for _, s := range records {
			k, in := s.known, narrowed(p, s.known)
			if !slices.Contains(types, k.ref.Type) || k.patient == "" || count[[2]bool{true, in}] >= each && count[[2]bool{false, false}] >= each {
				continue
			}
			if _, known := reached[k.patient]; !known {
				reached[k.patient] = h.do(wide.Name, get("/Patient/"+k.patient)).status == http.StatusOK
			}
			hers := reached[k.patient] && h.do(wide.Name, get("/"+k.ref.String())).status == http.StatusOK
			kind := [2]bool{hers, hers && in}
			if count[kind] >= each {
				continue
			}
			count[kind]++
			seen := h.views(t, p.Name, k)
			h.furtherViews(t, p.Name, k, seen)
			if d := disagreement(seen); d != "" {
				t.Errorf("%s, %s: %s", p.Name, k.ref, d)
			}
			if seen["read"] != kind[1] {
				t.Errorf("%s, %s: seen %v, want %v (hers %v)", p.Name, k.ref, seen["read"], kind[1], hers)
			}
		}
		t.Logf("%s: %v", p.Name, count)
		for _, kind := range [][2]bool{{true, true}, {true, false}, {false, false}} {
			if count[kind] < min(each, 6) {
				t.Errorf("%s: the records show too little: %v", p.Name, count)
			}
		}
	}
}

// furtherViews reads a record of a patient by ways that begin at the patient, or go over all of its type.
func (h *house) furtherViews(t *testing.T, token string, k known, seen map[string]bool) {
	t.Helper()
	patient := "/Patient/" + k.patient
	if h.do(token, get(patient)).status != http.StatusOK {
		return
	}
	holds := func(path string) bool {
		a := h.do(token, get(path))
		if a.status != http.StatusOK {
			t.Errorf("GET %s: %d", path, a.status)
		}
		return strings.Contains(a.body, `"id": "`+string(k.ref.ID)+`"`)
	}
	typ, id := string(k.ref.Type), string(k.ref.ID)
	seen["everything"] = holds(patient + "/$everything?_count=1000")
	seen["everything of the type"] = holds(patient + "/$everything?_count=1000&_type=" + typ)
	seen["compartment"] = holds(patient + "/" + typ + "?_id=" + id)
	seen["compartment of any type"] = holds(patient + "/*?_count=1000&_id=" + id)
	seen["revinclude"] = holds("/Patient?_id=" + k.patient + "&_revinclude=" + typ + ":patient")
	seen["include"] = holds("/Patient?_id=" + k.patient + "&_revinclude=*")
	seen["history of the type"] = holds("/" + typ + "/_history?_count=1000")
	seen["system"] = holds("/?_type=" + typ + ",Patient&_id=" + id)
	a := h.do(token, get("/Patient?_id="+k.patient+"&_has:"+typ+":patient:_id="+id))
	seen["_has"] = strings.Contains(a.body, `"fullUrl"`)
	a = h.do(token, get("/"+typ+"?patient=Patient/"+k.patient+"&_id="+id+"&_total=accurate&_count=1"))
	seen["total"] = total(a) > 0
}

// asksBeyond are searches whose answers what is beyond the scopes of a granular
// persona would change, if it took part.
func asksBeyond(r *rand.Rand, m *material, n int) (out []call) {
	category := func() string {
		return pick(r, []string{"survey", "vital-signs", "laboratory", observationCategory + "vital-signs"})
	}
	for range n {
		patient := pick(r, m.patients)
		for _, path := range []string{
			"/Patient?_has:Observation:patient:category=" + category() + "&_total=accurate&_count=3",
			"/Patient?_has:Encounter:patient:status=planned&_total=accurate",
			"/Patient?_id=" + patient + "&_revinclude=Observation:subject&_revinclude=Encounter:subject&_revinclude:iterate=Observation:encounter",
			"/Patient?_id=" + patient + "&_revinclude=*",
			"/Observation?category:not=" + category() + "&_sort=-date&_count=4&_total=accurate",
			"/Observation?encounter.status=planned&_total=accurate",
			"/Observation?encounter.status=finished&category=" + category() + "&_include=Observation:encounter&_count=3",
			"/Observation?patient=" + patient + "&_sort=date&_count=5&_include=*",
			"/Observation?code:missing=false&_summary=count",
			"/Encounter?_has:Observation:encounter:category=" + category() + "&_total=accurate&_count=2",
			"/Encounter?diagnosis.category=encounter-diagnosis&_total=accurate",
			"/Encounter?status:not=finished&_count=3&_total=accurate",
			"/MedicationRequest?patient=" + patient + "&_include=MedicationRequest:encounter&_total=accurate",
			"/MedicationRequest?encounter.status=planned,cancelled&_total=accurate",
			"/Condition?category=encounter-diagnosis&_total=accurate",
			"/Patient/" + patient + "/$everything?_count=50",
			"/Patient/" + patient + "/Observation?category=" + category() + "&_total=accurate",
			"/Observation/$lastn?patient=Patient/" + patient + "&category=" + category(),
			"/Observation/_history?_count=7",
			"/?_type=Observation,Encounter,MedicationRequest&_count=9&_sort=_lastUpdated",
			"/DocumentReference?encounter.status=planned&_total=accurate",
		} {
			out = append(out, get(strings.ReplaceAll(path, "|", "%7C")))
		}
	}
	return out
}

// writesWithin are changes within and beyond the scopes of a granular persona.
func writesWithin(r *rand.Rand, m *material) (out []call) {
	body := func(id, category string) string {
		return fmt.Sprintf(`{"resourceType":"Observation"%s,"status":"final","category":[{"coding":[{"system":%q,"code":%q}]}],"code":{"text":"x"},"subject":{"reference":"Patient/%s"}}`,
			id, strings.TrimSuffix(observationCategory, "|"), category, pick(r, m.patients))
	}
	for _, category := range []string{"survey", "vital-signs", "laboratory"} {
		out = append(out, call{method: "POST", path: "/fhir/Observation", body: body("", category)},
			call{method: "POST", path: "/fhir/Observation", body: body("", category), header: map[string]string{"If-None-Exist": "category=" + category}})
		for _, id := range append([]string{"fresh-" + category}, sampled(r, m.ids["Observation"], 4)...) {
			at := "/fhir/Observation/" + id
			out = append(out,
				call{method: "PUT", path: at, body: body(`,"id":"`+id+`"`, category)},
				call{method: "PUT", path: at, body: body(`,"id":"`+id+`"`, category), header: map[string]string{"If-Match": `W/"1"`}},
				call{method: "PATCH", path: at, body: `[{"op":"replace","path":"/category/0/coding/0/code","value":"` + category + `"}]`, header: map[string]string{"Content-Type": "application/json-patch+json"}},
				get("/Observation/"+id+"/_history"), get("/Observation/"+id))
		}
	}
	return append(out, get("/Observation?_total=accurate&_count=1000"), get("/Observation/_history?_count=1000"))
}
