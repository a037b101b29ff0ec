package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// A parent stands for a minor, an attorney for whoever gave the power, an
// executor for the dead; nobody else does (45 CFR 164.502(g)).
func TestH5_164_502_g_PersonalRepresentatives(t *testing.T) {
	h := clinic(t)
	child := fhir.Ref{Type: "Patient", ID: "child"}
	patient := func(more string) string {
		return "{'resourceType':'Patient','id':'child','name':[{'family':'Kind'}]" + more + "}"
	}
	related := func(code, period string) string {
		return "{'resourceType':'RelatedPerson','id':'rp','active':true,'patient':{'reference':'Patient/child'},'relationship':[{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-RoleCode','code':'" + code + "'}]}]" + period + "}"
	}
	proxy := h.as("proxy", "PATRQT", "RelatedPerson/rp")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what, patient, related string
		want                   bool
	}{
		{"a mother of a minor", ",'birthDate':'2010-05-05'", related("MTH", ""), true},
		{"a guardian of a minor", ",'birthDate':'2010-05-05'", related("GUARD", ""), true},
		{"a mother of one who came of age", ",'birthDate':'2008-02-28'", related("MTH", ""), false},
		{"on the last day before", ",'birthDate':'2008-03-02'", related("MTH", ""), true},
		{"a birth date without a day", ",'birthDate':'2008'", related("MTH", ""), false},
		{"a birth date that nobody knows", "", related("MTH", ""), false},
		{"a relation that has ended", ",'birthDate':'2010-05-05'", related("MTH", ",'period':{'end':'2026-02-01'}"), false},
		{"a power of attorney of an adult", ",'birthDate':'1960-01-01'", related("HPOWATT", ""), true},
		{"a spouse", ",'birthDate':'1960-01-01'", related("SPS", ""), false},
		{"a step-parent", ",'birthDate':'2010-05-05'", related("STPPRN", ""), false},
		{"a code of another system", ",'birthDate':'2010-05-05'", strings.Replace(related("MTH", ""), "v3-RoleCode", "other", 1), false},
		{"a relation in words", ",'birthDate':'2010-05-05'", "{'resourceType':'RelatedPerson','id':'rp','active':true,'patient':{'reference':'Patient/child'},'relationship':[{'text':'mother'}]}", false},
		{"an executor of the living", ",'birthDate':'1960-01-01'", related("EXCEST", ""), false},
		{"an executor of the dead", ",'birthDate':'1960-01-01','deceasedBoolean':true", related("EXCEST", ""), true},
		{"on the day after the death", ",'birthDate':'1960-01-01','deceasedDateTime':'2026-02-28'", related("EXCEST", ""), true},
		{"before the death is certain", ",'birthDate':'1960-01-01','deceasedDateTime':'2026-03'", related("EXCEST", ""), false},
		// Abuse, neglect, endangerment (164.502(g)(5)): the practice ends the relation.
		{"one whom the practice does not treat as such", ",'birthDate':'2010-05-05'", strings.Replace(related("MTH", ""), "true", "false", 1), false},
	} {
		h.clock.Store(now.UnixMilli())
		// Whichever comes last: the Patient, or the RelatedPerson.
		for _, order := range [][]string{{patient(c.patient), c.related}, {patient(""), c.related, patient(c.patient)}} {
			for _, r := range order {
				h.load(r)
			}
			h.clock.Store(now.UnixMilli())
			if got := h.sees(proxy, child); got != c.want {
				t.Errorf("%s: seen %v, want %v", c.what, got, c.want)
			}
		}
	}
	h.load(patient(",'birthDate':'2010-05-05'"))
	h.load(related("MTH", ""))
	for at, want := range map[string]bool{"2028-05-04T23:59:59Z": true, "2028-05-05T00:00:00Z": false} {
		v, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		h.clock.Store(v.UnixMilli())
		if got := h.sees(proxy, child); got != want {
			t.Errorf("at %s: the mother sees her child: %v", at, got)
		}
	}
	// A relation that has ended because of a birth date is not forgotten: the date may have been wrong.
	if _, err := h.store.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.clock.Add((48 * time.Hour).Milliseconds())
	if _, err := h.store.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.load(patient(",'birthDate':'2015-05-05'"))
	if !h.sees(proxy, child) {
		t.Error("a birth date that was corrected gives the mother no access")
	}
	// A state may set another age: the store is told.
	h.clock.Store(now.UnixMilli())
	elsewhere := h.over(postgres.Options{AgeOfMajority: 21})
	for age, x := range map[string]*house{"18": h, "21": elsewhere} {
		x.load(patient(",'birthDate':'2006-05-05'"))
		x.load(related("MTH", ""))
		if got := x.sees(proxy, child); got != (age == "21") {
			t.Errorf("of age at %s: the mother of one who is 19 sees her child: %v", age, got)
		}
	}
	h.load(patient(",'birthDate':'2010-05-05'"))
	h.load(related("MTH", ""))
	if err := h.delete(h.operator(), child); err != nil {
		t.Fatal(err)
	}
	h.clock.Store(now.UnixMilli())
	if n := h.count("SELECT count(*) FROM record.relation WHERE kind = 2 AND ends > now()"); n != 0 {
		t.Error("a relation goes on without a Patient")
	}
}
