package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// supervisorAlone is somebody who sees patients by supervision and by nothing else.
func supervisorAlone() clinic.Persona {
	p, _ := persona("supervisor")
	other, _ := persona("privacy-officer")
	p.Name, p.Claims.Subject, p.Claims.FHIRUser = "supervisor-alone", "supervisor-alone", other.Claims.FHIRUser
	p.Requests = nil
	return p
}

// situate brings about what a persona's access hangs on beside the sample clinic:
// a declared emergency, or a supervision.
func (h *house) situate(p clinic.Persona) {
	h.t.Helper()
	switch {
	case p.Claims.Purpose == "ETREAT":
		for _, given := range []string{"Sinead", "Nora"} {
			if a := h.do(p.Name, breakGlass("patient", patientNamed(h.t, given))); a.status != http.StatusOK {
				h.t.Fatalf("break-glass: %d %s", a.status, a.body)
			}
		}
	case p.Name == "supervisor-alone":
		trainee, _ := persona("trainee")
		seat := func(code, member string) string {
			return `{"role":[{"coding":[{"system":"` + fhir.CareTeamKind + `","code":"` + code + `"}]}],"member":{"reference":"` + member + `"}}`
		}
		res, err := codec.Parse([]byte(`{"resourceType":"CareTeam","id":"supervision","status":"active","category":[{"coding":[{"system":"` + fhir.CareTeamKind + `","code":"supervision"}]}],"participant":[` +
			seat("supervisor", p.Claims.FHIRUser) + "," + seat("supervisee", trainee.Claims.FHIRUser) + `]}`))
		if err == nil {
			err = h.load(p.Practice, res)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

func patientNamed(t *testing.T, given string) string {
	t.Helper()
	for _, s := range sampleRecords() {
		if s.given == given && s.ref.Type == "Patient" {
			return s.ref.String()
		}
	}
	t.Fatalf("no %s", given)
	return ""
}

func breakGlass(by, patient string) call {
	kind := `"valueReference":{"reference":"` + patient + `"}`
	if by == "identifier" {
		kind = `"valueString":"` + patient + `"`
	}
	return call{method: "POST", path: "/fhir/Patient/$break-glass", body: fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":%q,%s},{"name":"reason","valueCode":"ETREAT"},`+
		`{"name":"nature","valueString":"Unconscious"},{"name":"consentUnobtainable","valueBoolean":true},{"name":"recipient","valueString":"Samir Haddad, MD"},`+
		`{"name":"facility","valueString":"Emergency room"},{"name":"discloser","valueString":"Harbor"}]}`, by, kind)}
}

// The personas of the twin test see something by what was brought about for them.
func TestSituationsOpenSomething(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	emergency, _ := persona("emergency")
	for p, path := range map[string]string{"emergency": "/Condition?patient=" + strings.TrimPrefix(patientNamed(t, "Sinead"), "Patient/"), "supervisor-alone": "/Condition?patient=" + strings.TrimPrefix(patientNamed(t, "Petra"), "Patient/")} {
		q := emergency
		if p == "supervisor-alone" {
			q = supervisorAlone()
		}
		h.callers[p] = q
		if a := h.do(p, get(path)); a.status != http.StatusOK || strings.Contains(a.body, `"fullUrl"`) {
			t.Errorf("%s before: %d %.200s", p, a.status, a.body)
		}
		h.situate(q)
		if a := h.do(p, get(path)); a.status != http.StatusOK || !strings.Contains(a.body, `"fullUrl"`) {
			t.Errorf("%s after: %d %.200s", p, a.status, a.body)
		}
	}
}
