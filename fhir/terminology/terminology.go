// Package terminology knows codes: which code systems decide over labels under whatever name they go, and what the
// installed code systems, value sets and concept maps say.
//
// The first half ([SystemOf], [System]) is built in. The second half
// ([Service]) answers the terminology operations over a definition.Source.
package terminology

import "strings"

// System is a code system. The zero System is one that decides nothing.
type System uint8

// The code systems.
const (
	ICD10CM  System = iota + 1 // ICD-10-CM, and WHO's ICD-10 from which it derives
	ICD10PCS                   // ICD-10-PCS
	ICD9CM                     // ICD-9-CM
	SNOMED                     // SNOMED CT
	LOINC
	RxNorm
	HCPCS   // HCPCS level II
	CPT     // HCPCS level I
	ActCode // HL7 v3-ActCode
	CVX     // vaccines
	// Instrument is what canonical URLs name: questionnaires, and the scales that
	// they ask. Its codes are words, such as phq9.
	Instrument
	systems
)

// Systems is how many there are, zero included.
const Systems = int(systems)

// names holds the short name of each system, its canonical URI, and the other
// forms that are met: OIDs, older and national URIs. All are in lower case,
// without scheme and trailing slash.
var names = [Systems]struct {
	short string
	forms []string
}{
	ICD10CM: {"icd-10-cm", []string{"hl7.org/fhir/sid/icd-10-cm", "hl7.org/fhir/sid/icd-10", "hl7.org/fhir/sid/icd-10-us",
		"hl7.org/fhir/sid/icd10-cm", "fhir.de/codesystem/bfarm/icd-10-gm", "2.16.840.1.113883.6.90", "2.16.840.1.113883.6.3"}},
	ICD10PCS: {"icd-10-pcs", []string{"www.cms.gov/medicare/coding/icd10", "hl7.org/fhir/sid/icd-10-pcs", "2.16.840.1.113883.6.4"}},
	ICD9CM: {"icd-9-cm", []string{"hl7.org/fhir/sid/icd-9-cm", "hl7.org/fhir/sid/icd-9-cm/diagnosis", "hl7.org/fhir/sid/icd-9-cm/procedure",
		"hl7.org/fhir/sid/icd-9", "2.16.840.1.113883.6.103", "2.16.840.1.113883.6.2", "2.16.840.1.113883.6.104"}},
	SNOMED: {"snomed", []string{"snomed.info/sct", "snomed.info/id", "2.16.840.1.113883.6.96"}},
	LOINC:  {"loinc", []string{"loinc.org", "www.loinc.org", "2.16.840.1.113883.6.1"}},
	RxNorm: {"rxnorm", []string{"www.nlm.nih.gov/research/umls/rxnorm", "nlm.nih.gov/research/umls/rxnorm", "2.16.840.1.113883.6.88"}},
	HCPCS: {"hcpcs", []string{"www.cms.gov/medicare/coding/hcpcsreleasecodesets", "terminology.hl7.org/codesystem/hcpcs-all-codes",
		"www.cms.gov/medicare/coding/medhcpcsgeninfo", "2.16.840.1.113883.6.285", "2.16.840.1.113883.6.14"}},
	CPT:        {"cpt", []string{"www.ama-assn.org/go/cpt", "ama-assn.org/go/cpt", "2.16.840.1.113883.6.12"}},
	CVX:        {"cvx", []string{"hl7.org/fhir/sid/cvx", "2.16.840.1.113883.12.292", "2.16.840.1.113883.6.59"}},
	Instrument: {"instrument", []string{"urn:ietf:rfc:3986"}},
	ActCode:    {"actcode", []string{"terminology.hl7.org/codesystem/v3-actcode", "hl7.org/fhir/v3/actcode", "2.16.840.1.113883.5.4"}},
}

var (
	byForm  = map[string]System{}
	byShort = map[string]System{}
)

func init() {
	for s := System(1); s < systems; s++ {
		byShort[names[s].short] = s
		for _, f := range names[s].forms {
			byForm[f] = s
			if f[0] != '2' {
				// What is written as a rule is found without rewriting it.
				byForm["http://"+f] = s
			}
		}
	}
	byForm["http://terminology.hl7.org/CodeSystem/v3-ActCode"] = ActCode
	byForm["https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"] = HCPCS
}

// SystemOf gives the system that a Coding.system means, in any of its forms:
// http or https, with a trailing slash, a version, in another case, as
// urn:oid: or as a bare OID. It is 0 for a system that decides nothing.
func SystemOf(uri string) System {
	if s := byForm[uri]; s != 0 {
		return s
	}
	u := strings.ToLower(strings.TrimSpace(uri))
	u, _, _ = strings.Cut(u, "|")
	for _, scheme := range []string{"https://", "http://", "urn:oid:", "oid:"} {
		if rest, ok := strings.CutPrefix(u, scheme); ok {
			u = rest
			break
		}
	}
	u = strings.TrimRight(u, "/")
	if s := byForm[u]; s != 0 {
		return s
	}
	u = strings.TrimSuffix(u, "/index.html")
	// SNOMED CT names editions and versions below its URI.
	if strings.HasPrefix(u, "snomed.info/sct/") {
		return SNOMED
	}
	return byForm[u]
}

// Named gives the system of a short name as our tables use it, or 0.
func Named(short string) System { return byShort[short] }

// Hierarchical reports whether a longer code of s is a kind of each shorter
// code that it starts with.
func (s System) Hierarchical() bool { return s == ICD10CM || s == ICD10PCS || s == ICD9CM }

// Normal brings a code of s into the one form in which it is compared: upper
// case, ICD-10 without dots, ICD-9 with three digits before the dot.
func (s System) Normal(code string) string {
	code = strings.ToUpper(strings.TrimSpace(code))
	switch s {
	case ICD10CM, ICD10PCS:
		return strings.ReplaceAll(code, ".", "")
	case ICD9CM:
		return normalICD9(code)
	case Instrument:
		return strings.ToLower(code)
	}
	return code
}

func normalICD9(code string) string {
	whole, part, dotted := strings.Cut(strings.TrimRight(code, "."), ".")
	if !dotted {
		n := 3
		if strings.HasPrefix(whole, "E") {
			n = 4
		}
		if len(whole) > n {
			whole, part = whole[:n], whole[n:]
		}
	}
	if whole != "" && whole[0] >= '0' && whole[0] <= '9' {
		for len(whole) < 3 {
			whole = "0" + whole
		}
	}
	if part == "" {
		return whole
	}
	return whole + "." + part
}

// Short is the short name of s as our tables use it, or "".
func (s System) Short() string {
	if s >= systems {
		return ""
	}
	return names[s].short
}
