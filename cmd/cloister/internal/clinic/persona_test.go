package clinic

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
)

func TestPersonasReferToWhatExists(t *testing.T) {
	for _, c := range []Config{sample(), {Seed: 9, Patients: 50, Now: today}} {
		harbor, lakeside := archives(t, c)
		exists := func(practice string, r fhir.Ref) bool {
			if practice == "harbor" {
				return harbor.by[r] != nil
			}
			return lakeside.by[r] != nil
		}
		names, roles := map[string]bool{}, map[string]bool{}
		absent := 0
		for _, p := range Personas(c) {
			if names[p.Name] || p.Description == "" || p.Claims.Practice != p.Practice || len(p.Claims.Roles) != 1 {
				t.Errorf("%s: repeated, or incomplete", p.Name)
			}
			names[p.Name], roles[p.Claims.Roles[0]] = true, true
			if !slices.Contains([]string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT", "HRESCH", "ETREAT"}, p.Claims.Purpose) || p.Claims.Scope == "" || p.Claims.Subject == "" || p.Claims.Client == "" {
				t.Errorf("%s: claims %+v", p.Name, p.Claims)
			}
			for _, o := range p.Claims.Organizations {
				if !exists(p.Practice, fhir.Ref{Type: "Organization", ID: fhir.ID(o)}) {
					t.Errorf("%s: no Organization %s", p.Name, o)
				}
			}
			if u := p.Claims.FHIRUser; u != "" {
				if r, ok := fhir.ParseRef(u); !ok || !exists(p.Practice, r) {
					t.Errorf("%s: no %s", p.Name, u)
				}
			} else if p.Claims.Roles[0] != roleHIE {
				t.Errorf("%s has no fhirUser", p.Name)
			}
			if id := p.Claims.Patient; id != "" && !exists(p.Practice, fhir.Ref{Type: "Patient", ID: fhir.ID(id)}) {
				t.Errorf("%s: no Patient %s", p.Name, id)
			}
			if own := strings.HasPrefix(p.Claims.Scope, "openid fhirUser launch/patient"); own != (p.Claims.Patient != "") {
				t.Errorf("%s: scope %s, patient %s", p.Name, p.Claims.Scope, p.Claims.Patient)
			}
			if len(p.Requests) < 2 {
				t.Errorf("%s has %d requests", p.Name, len(p.Requests))
			}
			made := false
			for _, r := range p.Requests {
				if r.Method == http.MethodPost || strings.HasPrefix(r.Path, Made) {
					if strings.HasPrefix(r.Path, Made) != made || r.Expect == "" || r.Status == 0 || strings.ContainsAny(r.Path+r.Body, "|'") || r.Body != "" && !json.Valid([]byte(r.Body)) {
						t.Errorf("%s: request %+v", p.Name, r)
					}
					for _, m := range regexp.MustCompile(`"reference":"([^"]+)"`).FindAllStringSubmatch(r.Body, -1) {
						if ref, ok := fhir.ParseRef(m[1]); !ok || !exists(p.Practice, ref) {
							t.Errorf("%s: no %s", p.Name, m[1])
						}
					}
					made = made || r.Makes
					continue
				}
				u, err := url.Parse(r.Path)
				if err != nil || r.Method != http.MethodGet || r.Expect == "" || r.Status == 0 || strings.ContainsAny(r.Path, "| '\"") {
					t.Errorf("%s: request %+v", p.Name, r)
					continue
				}
				if patient := u.Query().Get("patient"); patient != "" && !exists(p.Practice, fhir.Ref{Type: "Patient", ID: fhir.ID(patient)}) {
					t.Errorf("%s: %s names no Patient", p.Name, r.Path)
				}
				path := strings.TrimPrefix(u.Path, "/")
				if fhir.ResourceType(path).Valid() {
					continue
				}
				ref, ok := fhir.ParseRef(path)
				switch {
				case !ok:
					t.Errorf("%s: path %s", p.Name, r.Path)
				case ref.ID == c.Absent():
					absent++
					if exists("harbor", ref) || exists("lakeside", ref) || r.Status != 404 {
						t.Errorf("%s: %s should never have existed", p.Name, ref)
					}
				case !exists("harbor", ref) && !exists("lakeside", ref):
					t.Errorf("%s: no %s", p.Name, ref)
				case !exists(p.Practice, ref) && r.Status != 404:
					t.Errorf("%s: %s is another tenant's", p.Name, ref)
				}
			}
		}
		for _, r := range []string{"therapist", "psychiatrist", "trainee", "supervisor", "sud-counselor", "front-desk", "biller", "privacy-officer",
			"practice-admin", "hie", "research-analyst", "patient", "proxy"} {
			if !roles[r] {
				t.Errorf("nobody is %s", r)
			}
		}
		if absent == 0 {
			t.Error("no request asks for an id that never existed")
		}
	}
}

// TestOnlyTheProgramIsTheProgram checks whose workforce the callers are.
func TestOnlyTheProgramIsTheProgram(t *testing.T) {
	sud := string(newSite(sample().normal(), Practices()[0]).sud.org.ID)
	want := []string{"sud-counselor", "sud-psychiatrist", "sud-front-desk", "privacy-officer"}
	for _, p := range Personas(sample()) {
		if got := slices.Contains(p.Claims.Organizations, sud); got != slices.Contains(want, p.Name) {
			t.Errorf("%s: in the workforce of the SUD program: %v", p.Name, got)
		}
	}
}

func TestClaimsAreThoseOfATokenBody(t *testing.T) {
	b, err := json.Marshal(Personas(sample())[0].Claims)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for _, claim := range []string{"sub", "client_id", "practice", "roles", "organizations", "purpose_of_use", "fhirUser", "scope"} {
		if got[claim] == nil {
			t.Errorf("no %s in %s", claim, b)
		}
	}
}

// TestPersonasTellNoCanary keeps texts of records out of what the command line prints.
func TestPersonasTellNoCanary(t *testing.T) {
	b, err := json.Marshal(Personas(sample()))
	if err != nil || len(FindCanaries(b)) != 0 {
		t.Errorf("%v, %v", err, FindCanaries(b))
	}
}

// TestScoresImprove checks each filling against its total, and that patients
// get better over the course.
func TestScoresImprove(t *testing.T) {
	harbor, _ := archives(t, sample())
	worth := map[string]int{"LA6568-5": 0, "LA6569-3": 1, "LA6570-1": 2, "LA6571-9": 3}
	var first, last []int
	for i := range harbor.patients {
		var totals []int
		for _, r := range harbor.chartOf(i, "QuestionnaireResponse", nil) {
			sum, total := 0, -1
			for _, item := range r.Get("item").List() {
				a := item.Get("answer").Items[0]
				if v := a.Get("valueInteger"); v != nil {
					total, _ = strconv.Atoi(v.Text)
					continue
				}
				w, ok := worth[a.Get("valueCoding").Get("code").String()]
				if !ok {
					t.Errorf("%v: an answer of no worth", refOf(r))
				}
				sum += w
			}
			score := harbor.by[fhir.Ref{Type: "Observation", ID: twin(harbor, refOf(r))}]
			if sum != total || score.Get("valueQuantity").Get("value").Text != strconv.Itoa(total) {
				t.Errorf("%v: items %d, total %d, observed %v", refOf(r), sum, total, score)
			}
			if r.Get("questionnaire").String() == phq9.canonical() {
				totals = append(totals, total)
			}
		}
		first, last = append(first, totals[0]), append(last, totals[len(totals)-1])
		if totals[0] < 5 {
			t.Errorf("patient %d begins with %d", i, totals[0])
		}
	}
	sum := func(x []int) (n int) {
		for _, v := range x {
			n += v
		}
		return n
	}
	if sum(last)*2 > sum(first) {
		t.Errorf("first totals %v, last totals %v", first, last)
	}
}

// twin is the Observation that was derived from that QuestionnaireResponse.
func twin(a *archive, r fhir.Ref) fhir.ID {
	for _, ref := range a.order {
		if ref.Type == "Observation" && a.by[ref].Get("derivedFrom") != nil && slices.Contains(local(a.t, a.by[ref]), r) {
			return ref.ID
		}
	}
	return ""
}
