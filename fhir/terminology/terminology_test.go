package terminology

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSystemOf(t *testing.T) {
	for uri, want := range map[string]System{
		"http://hl7.org/fhir/sid/icd-10-cm":                             ICD10CM,
		"https://hl7.org/fhir/sid/icd-10-cm":                            ICD10CM,
		"http://hl7.org/fhir/sid/icd-10-cm/":                            ICD10CM,
		"http://hl7.org/fhir/sid/ICD-10-CM":                             ICD10CM,
		"HTTP://HL7.ORG/fhir/sid/icd-10-cm":                             ICD10CM,
		"http://hl7.org/fhir/sid/icd-10-cm|2024":                        ICD10CM,
		" http://hl7.org/fhir/sid/icd-10-cm ":                           ICD10CM, //nolint:gocritic // the blanks are what this line tries
		"urn:oid:2.16.840.1.113883.6.90":                                ICD10CM,
		"2.16.840.1.113883.6.90":                                        ICD10CM,
		"http://hl7.org/fhir/sid/icd-10":                                ICD10CM,
		"urn:oid:2.16.840.1.113883.6.4":                                 ICD10PCS,
		"urn:oid:2.16.840.1.113883.6.103":                               ICD9CM,
		"http://snomed.info/sct":                                        SNOMED,
		"http://snomed.info/sct/731000124108/version/20240301":          SNOMED,
		"https://loinc.org/":                                            LOINC,
		"urn:oid:2.16.840.1.113883.6.88":                                RxNorm,
		"https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets":      HCPCS,
		"http://www.cms.gov/Medicare/Coding/MedHCPCSGenInfo/index.html": HCPCS,
		"http://www.ama-assn.org/go/cpt":                                CPT,
		"http://terminology.hl7.org/CodeSystem/v3-ActCode":              ActCode,
		"http://hl7.org/fhir/v3/ActCode":                                ActCode,
		"":                                                              0,
		"http://example.org/codes":                                      0,
		"http://evil.example/hl7.org/fhir/sid/icd-10-cm":                0,
		"http://hl7.org/fhir/sid/icd-10-cm-not":                         0,
		"urn:oid:2.16.840.1.113883.6.9":                                 0,
	} {
		if got := SystemOf(uri); got != want {
			t.Errorf("SystemOf(%q) = %d, want %d", uri, got, want)
		}
	}
	for s := System(1); s < systems; s++ {
		if Named(names[s].short) != s {
			t.Errorf("system %d has no short name", s)
		}
	}
}

func TestNormal(t *testing.T) {
	for _, c := range []struct {
		s          System
		code, want string
	}{
		{ICD10CM, "f11.20", "F1120"}, {ICD10CM, " F10 ", "F10"}, {ICD10PCS, "HZ30ZZZ", "HZ30ZZZ"},
		{ICD9CM, "304.00", "304.00"}, {ICD9CM, "30400", "304.00"}, {ICD9CM, "42", "042"}, {ICD9CM, "78.1", "078.1"},
		{ICD9CM, "V08", "V08"}, {ICD9CM, "V6542", "V65.42"}, {ICD9CM, "E9500", "E950.0"}, {ICD9CM, "291.", "291"}, {ICD9CM, "", ""},
		{LOINC, "44249-1", "44249-1"}, {LOINC, "lp32820-0", "LP32820-0"}, {HCPCS, "h0001", "H0001"},
	} {
		if got := c.s.Normal(c.code); got != c.want {
			t.Errorf("Normal(%d, %q) = %q, want %q", c.s, c.code, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := System(rapid.IntRange(0, Systems-1).Draw(t, "system"))
		n := s.Normal(rapid.StringMatching(`[A-Za-z]?[0-9]{1,4}(\.[0-9]{0,3})?`).Draw(t, "code"))
		if again := s.Normal(n); again != n {
			t.Fatalf("%q becomes %q", n, again)
		}
	})
}
