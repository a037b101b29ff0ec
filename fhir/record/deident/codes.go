package deident

import (
	_ "embed"
	"regexp"
	"strings"
	"sync"
)

//go:generate sh -c "go run ./internal/tablegen \"$CLOISTER_R4_DEFINITIONS\" < allow.table > systems.new && mv systems.new systems.table"

//go:embed systems.table
var systemsText string

// ucum is the code system of units.
const ucum = "http://unitsofmeasure.org"

// published are the code systems that are too large to list, and what a code of
// each looks like: with its check digit where it has one. A code of another system may be
// anything, an identifier too.
var published = map[string]func(code string) bool{
	"http://loinc.org":       isLOINC,
	"http://snomed.info/sct": isSNOMED,
	ucum:                     isUCUM,
	"http://www.nlm.nih.gov/research/umls/rxnorm":                           looks(`[1-9]\d{0,5}|[12]\d{6}`),
	"http://hl7.org/fhir/sid/icd-10-cm":                                     looks(`[A-TV-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?`),
	"http://hl7.org/fhir/sid/icd-10":                                        looks(`[A-Z]\d\d(\.\d{1,2})?`),
	"http://hl7.org/fhir/sid/icd-9-cm":                                      looks(`(\d{3}|V\d\d|E\d{3})(\.\d{1,2})?`),
	"http://www.cms.gov/Medicare/Coding/ICD10":                              looks(`[0-9BCDFGHX][0-9A-HJ-NP-Z]{6}`),
	"http://hl7.org/fhir/sid/cvx":                                           looks(`\d{2,3}`),
	"http://hl7.org/fhir/sid/ndc":                                           looks(`\d{4}-\d{4}-\d{2}|\d{5}-\d{3}-\d{2}|\d{5}-\d{4}-\d{1,2}`),
	"http://www.ama-assn.org/go/cpt":                                        looks(`\d{4}[0-9AFMTU]`),
	"https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets":              looks(`[A-V]\d{4}`),
	"http://nucc.org/provider-taxonomy":                                     looks(`[12][0-9A-Z]{8}X`),
	"urn:ietf:bcp:47":                                                       looks(`[a-z]{2}(-[A-Z]{2})?`),
	"urn:oid:2.16.840.1.113883.6.238":                                       looks(`[12]\d{3}-\d|UNK|ASKU|OTH`), // race and ethnicity, CDC
	"http://dicom.nema.org/resources/ontology/DCM":                          looks(`[A-Z]{2}`),
	"http://hl7.org/fhir/us/core/CodeSystem/careplan-category":              looks(`assess-plan`),
	"http://hl7.org/fhir/us/core/CodeSystem/condition-category":             looks(`sdoh|health-concern`),
	"https://www.cms.gov/Medicare/Coding/place-of-service-codes":            looks(`\d{2}`),
	"http://terminology.hl7.org/CodeSystem/v3-AdministrativeGender":         looks(`F|M|UN`),
	"http://terminology.hl7.org/CodeSystem/v3-Confidentiality":              looks(`[ULMNRV]`),
	"http://hl7.org/fhir/sid/ex-icd-10-procedures":                          nil, // examples
	"http://terminology.hl7.org/CodeSystem/ex-USCLS":                        nil,
	"http://terminology.hl7.org/CodeSystem/ex-diagnosisrelatedgroup":        nil,
	"http://terminology.hl7.org/CodeSystem/ex-procedure-type":               nil,
	"http://terminology.hl7.org/CodeSystem/ex-relatedclaimrelationship":     nil,
	"http://terminology.hl7.org/CodeSystem/ex-coverage-financial-exception": nil,
}

func looks(pattern string) func(string) bool {
	return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString
}

// listedCodes are the code systems of HL7 with all their codes.
var listedCodes = sync.OnceValue(func() map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for line := range strings.Lines(systemsText) {
		if line[0] == '#' {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		codes := make(map[string]bool, len(f)-1)
		for _, c := range f[1:] {
			codes[c] = true
		}
		out[f[0]] = codes
	}
	return out
})

// permits reports whether a code may be in a release.
func permits(own map[string]map[string]bool, system, code string) bool {
	if code == "" || system == "" {
		return false
	}
	if test, ok := published[system]; ok {
		return test != nil && test(code)
	}
	return listedCodes()[system][code] || own[system][code]
}

var shapeLOINC, shapeAnswer = looks(`\d{1,7}-\d`), looks(`L[ALP]\d{1,6}-\d`)

// isLOINC checks the check digit of a LOINC number (mod 10; LOINC Users' Guide, appendix C);
// answers, answer lists and parts are known by their letters.
func isLOINC(code string) bool {
	if shapeAnswer(code) {
		return true
	}
	if !shapeLOINC(code) {
		return false
	}
	digits, check := code[:len(code)-2], int(code[len(code)-1]-'0')
	sum := 0
	for i := range len(digits) {
		v := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return (10-sum%10)%10 == check
}

var shapeSNOMED = looks(`[1-9]\d{5,17}`)

// isSNOMED checks an identifier of a concept: its partition and its check digit
// (SNOMED CT Release File Specifications, 5.5 and 5.8; Verhoeff's scheme).
func isSNOMED(code string) bool {
	if !shapeSNOMED(code) {
		return false
	}
	if part := code[len(code)-3 : len(code)-1]; part != "00" && part != "10" {
		return false
	}
	c := byte(0)
	for i := range len(code) {
		c = dihedral[c][permuted[i%8][code[len(code)-1-i]-'0']]
	}
	return c == 0
}

// dihedral is the multiplication of the dihedral group of ten elements.
var dihedral = [10][10]byte{
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 3, 4, 0, 6, 7, 8, 9, 5}, {2, 3, 4, 0, 1, 7, 8, 9, 5, 6}, {3, 4, 0, 1, 2, 8, 9, 5, 6, 7},
	{4, 0, 1, 2, 3, 9, 5, 6, 7, 8}, {5, 9, 8, 7, 6, 0, 4, 3, 2, 1}, {6, 5, 9, 8, 7, 1, 0, 4, 3, 2}, {7, 6, 5, 9, 8, 2, 1, 0, 4, 3},
	{8, 7, 6, 5, 9, 3, 2, 1, 0, 4}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0},
}

// permuted is how Verhoeff's scheme permutes the digits by their place.
var permuted = [8][10]byte{
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 5, 7, 6, 2, 8, 3, 0, 9, 4}, {5, 8, 0, 3, 7, 9, 6, 1, 4, 2}, {8, 9, 1, 6, 0, 4, 3, 5, 2, 7},
	{9, 4, 5, 3, 1, 2, 6, 8, 7, 0}, {4, 2, 8, 6, 5, 7, 3, 9, 0, 1}, {2, 7, 9, 3, 8, 0, 6, 4, 1, 5}, {7, 0, 4, 6, 9, 1, 3, 2, 5, 8},
}
