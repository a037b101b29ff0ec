package deident

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
)

// A list that names what R4 does not have, or that would let free text or an identifier
// through by its type, is refused.
func TestAListIsCheckedAgainstR4(t *testing.T) {
	for name, text := range map[string]string{
		"no type": ":Nonsense\n", "no element": ":Patient\nnickname\n", "a choice without its type": ":Patient\ndeceased[x]\n",
		"a string": ":Patient\nlanguage\n", "a name": ":Patient\nname\n", "an identifier": ":Patient\nidentifier\n", "telecom": ":Patient\ntelecom\n",
		"a photo": ":Patient\nphoto\n", "a narrative": ":Patient\ntext\n", "meta": ":Patient\nmeta\n", "an id": ":Patient\nid\n",
		"extensions": ":Patient\nextension\n", "contained": ":Patient\ncontained\n", "a note": ":Condition\nnote\n", "a URI": ":CarePlan\ninstantiatesUri\n",
		"a canonical": ":CarePlan\ninstantiatesCanonical\n", "an unbound code": ":Attachment\ncontentType\n", "data": ":Attachment\ndata\n",
		"an object that is not on the list": ":Patient\naddress\n", "a wrong treatment": ":Patient\nbirthDate=zip\n", "no such treatment": ":Patient\nlanguage=keep\n",
		"a treatment for another type": ":Address\nline=zip\n:Condition\ncode=state\n", "twice": ":Patient\nactive gender\nactive\n", "a type twice": ":Patient\n:Patient\n", "no type at all": "active\n", "a flag": ":Patient public\n",
	} {
		if _, err := readList(text, false); err == nil {
			t.Errorf("%s: %q is read", name, text)
		}
	}
	plans, err := readList("# why\n:Patient shared\nactive deceased{Boolean,DateTime}\n:Address\nstate=state\n+city=city\n", false)
	if err != nil || len(plans) != 2 || len(plans["Patient"].rules) != 3 || !plans["Patient"].shared || len(plans["Address"].rules) != 1 {
		t.Error(plans, err)
	}
	if plans, err = readList(":Address\n+city=city\n", true); err != nil || len(plans["Address"].rules) != 1 {
		t.Error("what is for the limited data set alone", err)
	}
}

// Everything that is on the list can be reached, and every treatment by name is used.
func TestTheListHasNothingInVain(t *testing.T) {
	plans := allowed().limited
	reached := map[string]bool{}
	var reach func(name string)
	used := map[treatment]bool{}
	reach = func(name string) {
		if reached[name] {
			return
		}
		reached[name] = true
		for _, r := range plans[name].rules {
			used[r.treat] = true
			if r.sub != nil {
				reach(r.element.Type)
			}
		}
	}
	for _, rt := range Types() {
		reach(string(rt))
	}
	for name := range plans {
		if !reached[name] {
			t.Errorf("nothing that is released has a %s", name)
		}
	}
	for name, tr := range named {
		if !used[tr] {
			t.Errorf("nothing is treated as %s", name)
		}
	}
	if len(Types()) < 30 {
		t.Errorf("%d types", len(Types()))
	}
	for _, none := range []string{"DocumentReference", "Composition", "Communication", "Media", "Binary", "Consent", "Provenance", "AuditEvent", "Bundle", "Parameters", "Basic", "Person", "Group"} {
		if plans[none] != nil {
			t.Errorf("%s is on the list", none)
		}
	}
}

func TestOnlyCodesOfKnownSystems(t *testing.T) {
	own := sets(map[string][]string{"http://example.org/own": {"intake"}})
	for _, c := range []struct {
		system, code string
		want         bool
	}{
		{"http://loinc.org", "44261-6", true}, {"http://loinc.org", "44261-5", false}, {"http://loinc.org", "LA6568-5", true}, {"http://loinc.org", "206-555-0123", false}, {"http://loinc.org", "MRN12345-6", false},
		{"http://snomed.info/sct", "35489007", true}, {"http://snomed.info/sct", "35489008", false}, {"http://snomed.info/sct", "123456789", false}, {"http://snomed.info/sct", "2065550123", false}, {"http://snomed.info/sct", "1121000119107", true},
		{"http://hl7.org/fhir/sid/icd-10-cm", "F32.9", true}, {"http://hl7.org/fhir/sid/icd-10-cm", "F11.20", true}, {"http://hl7.org/fhir/sid/icd-10-cm", "Jane", false},
		{"http://www.nlm.nih.gov/research/umls/rxnorm", "1049504", true}, {"http://www.nlm.nih.gov/research/umls/rxnorm", "5550123", false}, {"http://www.nlm.nih.gov/research/umls/rxnorm", "2065550123", false},
		{"http://hl7.org/fhir/sid/cvx", "208", true}, {"http://hl7.org/fhir/sid/cvx", "2085", false}, {"http://hl7.org/fhir/sid/ndc", "0777-3105-02", true}, {"http://hl7.org/fhir/sid/ndc", "12065550123", false},
		{"http://www.ama-assn.org/go/cpt", "90837", true}, {"http://nucc.org/provider-taxonomy", "103TC0700X", true}, {"urn:ietf:bcp:47", "en-US", true}, {"urn:ietf:bcp:47", "Jane", false},
		{"http://terminology.hl7.org/CodeSystem/v3-ActCode", "AMB", true}, {"http://terminology.hl7.org/CodeSystem/v3-ActCode", "Jane", false}, {"http://terminology.hl7.org/CodeSystem/v2-0203", "MR", false},
		{"http://example.org/own", "intake", true}, {"http://example.org/own", "Jane", false}, {"http://example.org/other", "intake", false}, {"", "intake", false}, {"http://loinc.org", "", false},
		{"urn:ietf:rfc:3986", "urn:oid:1.2", false},
	} {
		if got := permits(own, c.system, c.code); got != c.want {
			t.Errorf("%s#%s: %v", c.system, c.code, got)
		}
	}
}

func TestOnlyKnownUnits(t *testing.T) {
	for _, ok := range strings.Fields("% /min 10*3/uL 10*6/uL 10*9/L Cel U/L [diop] [foz_us] [in_i] [lb_av] [pH] a d deg fL g/dL kPa kU/L kg kg/m2 meq mL/min/{1.73_m2} mg/dL mm[Hg] mmol/L ng/mL ug/mL {#} {score} {T-score} g.m m/s2 1 mo [iU]/L 10*-3 cm-2 {beats}/min") {
		if !isUCUM(ok) {
			t.Errorf("%s is no unit", ok)
		}
	}
	for _, no := range []string{"", "Jane", "{Jane}", "mg{Jane}", "mg/Jane", "206", "206.555", "2065550123", "mg/", "/", "mg//mL", "{}", "mg{}", "mg mL", "[Jane]", "mg.", "10*123", "m123", "{score", "score}", "mg/{Jane}", strings.Repeat("m.", 40) + "m", "mg\n", "mg\nkg", "mEq"} {
		if isUCUM(no) {
			t.Errorf("%q is a unit", no)
		}
	}
}

// The code systems are those of R4, and no code of one looks like a name, a date or a number of something.
func TestTheCodeSystemsAreTheSame(t *testing.T) {
	if !bytes.HasPrefix([]byte(systemsText), []byte("# Written by fhir/record/deident/internal/tablegen")) || len(listedCodes()) < 100 {
		t.Errorf("%d systems", len(listedCodes()))
	}
	d, _ := codec.DefinitionOf("Condition")
	e, _ := d.Element("clinicalStatus")
	for _, c := range e.Codes() {
		if !permits(nil, c.System, c.Code) {
			t.Errorf("%s#%s is bound, and not listed", c.System, c.Code)
		}
	}
	// Whatever R4 requires of an element on the list may be released.
	for name, p := range allowed().harbor {
		for json, r := range p.rules {
			if r.treat != concept && r.treat != coding {
				continue
			}
			for _, c := range r.element.Codes() {
				if !permits(nil, c.System, c.Code) {
					t.Errorf("%s.%s requires %s#%s", name, json, c.System, c.Code)
				}
			}
		}
	}
}
