package export_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// risk measures the lines of a release with what everybody has: how many patients are in the smallest group of those of whom the
// same is told, whatever it is, and how many have the rarest code.
func risk(t *testing.T, files map[string][]string) (patients, k, rarest, of int) {
	t.Helper()
	groups, codes := map[string]int{}, map[string]map[string]bool{}
	for _, l := range files["output Patient"] {
		var p map[string]any
		if err := json.Unmarshal([]byte(l), &p); err != nil {
			t.Fatal(err)
		}
		delete(p, "id")
		all, err := json.Marshal(p) // with sorted names
		if err != nil {
			t.Fatal(err)
		}
		groups[string(all)]++
		patients++
	}
	for _, l := range files["output Condition"] {
		var c struct {
			Subject struct{ Reference string }
			Code    struct {
				Coding []struct{ System, Code string }
			}
		}
		if err := json.Unmarshal([]byte(l), &c); err != nil {
			t.Fatal(err)
		}
		for _, x := range c.Code.Coding {
			of := x.System + "|" + x.Code
			if codes[of] == nil {
				codes[of] = map[string]bool{}
			}
			codes[of][c.Subject.Reference] = true
		}
	}
	k, rarest = patients, patients
	for _, n := range groups {
		k = min(k, n)
	}
	for _, who := range codes {
		rarest = min(rarest, len(who))
	}
	return patients, k, rarest, len(groups)
}

// Of patients who are unlike enough for many to stand alone, an expert's determination releases none who does, by whatever is told
// of patients, and no diagnosis of fewer than eleven; the safe harbor, which promises no such thing, shows that there were some.
func TestD5_164_514_b_1_TheRiskIsMeasured(t *testing.T) {
	h := newHouse(t, releasing, func(c *export.Config) { c.Page = 50 })
	dice := rand.New(rand.NewPCG(11, 164))
	pick := func(of ...string) string { return of[min(len(of)-1, int(dice.ExpFloat64()*float64(len(of))/3))] }
	for i := range 120 {
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"mrn-%d","gender":%q,"birthDate":"%d-0%d-15","address":[{"city":"Troy","state":%q,"postalCode":"12180"}],"deceasedBoolean":%t,
"extension":[{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-race","extension":[{"url":"ombCategory","valueCoding":{"system":"urn:oid:2.16.840.1.113883.6.238","code":%q}},{"url":"text","valueString":"x"}]}]}`,
			i, pick("female", "male", "other"), 1940+dice.IntN(65), 1+dice.IntN(9), pick("NY", "MA", "VT", "NH"), dice.IntN(8) == 0, pick("2106-3", "2054-5", "2028-9")))
		for n := range 1 + dice.IntN(2) {
			h.Load(fmt.Sprintf(`{"resourceType":"Condition","id":"dx-%d-%d","subject":{"reference":"Patient/mrn-%d"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":%q}]}}`, i, n, i, pick("F32.9", "F41.1", "F10.20", "F20.0", "F50.00", "F84.0")))
		}
	}
	h.Clock.Add(1000)
	in := terms.Validity{Reference: "DocumentReference/expert", Recipients: []string{"exchange"}, From: "2026-01-01", Until: "2027-01-01"}
	for name, x := range map[string]struct {
		k             int
		quasi         []deident.Quasi
		least, groups int // patients who are not left out, and groups of them
	}{
		"three quasi-identifiers": {11, []deident.Quasi{deident.Gender, deident.BirthYear, deident.State}, 100, 3},
		"two and a larger k":      {20, []deident.Quasi{deident.Gender, deident.Deceased}, 90, 2},
		"none":                    {11, nil, 120, 1},
	} {
		h.cfg.Terms.Set(h.Tenant, terms.Terms{Determinations: []terms.Determination{{Validity: in, K: x.k, Days: 30, Quasi: x.quasi, YearBand: 50}}})
		files := h.export(h.exchange(), export.Request{Released: true, Profile: "expert-determination", Types: []fhir.ResourceType{"Condition", "Patient"}})
		patients, k, rarest, groups := risk(t, files)
		t.Logf("%s: %d patients in %d groups, k = %d, the rarest diagnosis is that of %d", name, patients, groups, k, rarest)
		if groups < x.groups || patients < x.least || k < x.k || rarest < deident.MinK {
			t.Errorf("%s: %d patients, k = %d, the rarest diagnosis is that of %d", name, patients, k, rarest)
		}
	}
	patients, k, rarest, _ := risk(t, h.export(h.exchange(), export.Request{Released: true, Profile: "safe-harbor", Types: []fhir.ResourceType{"Condition", "Patient"}}))
	if patients != 123 || k != 1 || rarest >= deident.MinK {
		t.Errorf("under the safe harbor: %d patients, k = %d, the rarest diagnosis is that of %d: there was nothing to hide", patients, k, rarest)
	}
}
