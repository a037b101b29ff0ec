package codec

import (
	"encoding/json"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
	"github.com/cloister-health/cloister/fhir/terminology"
)

// spoken are how displays speak of what a label stands for.
var spoken = map[label.Set]*regexp.Regexp{
	label.SUD:      regexp.MustCompile(`(?i)alcohol|drink|drugs? |drug$|opi(oid|ate)|heroin|cocaine|cannab|amphet|substance|misus|methadone|bupren|naltrex|naloxone|audit`),
	label.ETH:      regexp.MustCompile(`(?i)alcohol|drink|drug|opi(oid|ate)|substance|misus|tobacco|smok|cigar|nicotine|bupren`),
	label.PSY:      regexp.MustCompile(`(?i)depress|anxi|psych|mental|suicid|behavior|panic|phq|tired|sleep|attention|interest|appetite|failure|concentrat|restless|hurting|problems|stress|fluoxetine|sertraline|trazodone|citalopram|bupropion|duloxetine|grief`),
	label.HIV:      regexp.MustCompile(`(?i)hiv|immunodeficiency`),
	label.STD:      regexp.MustCompile(`(?i)sexually|gonorr|syphilis|chlamyd`),
	label.SEX:      regexp.MustCompile(`(?i)sexual|contracep|pregnan`),
	label.SDV:      regexp.MustCompile(`(?i)abuse|partner|violen`),
	label.PREGNANT: regexp.MustCompile(`(?i)pregnan|deliver`),
	label.BH:       regexp.MustCompile(`(?i)behavior|develop|autis|dement|alzheim|counsel`),
	label.GDIS:     regexp.MustCompile(`(?i)cystic`),
	label.SICKLE:   regexp.MustCompile(`(?i)sickle`),
}

// telling are displays that no record without a label should carry.
var telling = regexp.MustCompile(`(?i)alcohol(ism| use| abuse)|drug (abuse|addiction|misuse)|opioid (abuse|use|dep)|heroin|cocaine dep|substance (use|abuse)|psychiatr|mental health|suicid|schizo|bipolar|\bhiv\b|immunodeficiency virus|gonorr|syphilis|sexual orientation|contracepti|sickle|pregnan`)

// harmless are codes with telling displays that say nothing of a patient, or
// that the rules leave out with a reason.
var harmless = []string{
	"loinc 34086-9", "loinc 42227-9", "loinc 42228-7", // parts of a package insert
	"loinc LA30128-5",                           // an answer about costs of care, mental health among others
	"snomed 310190000",                          // an occupation
	"snomed 60001007", "snomed 454381000124105", // not pregnant, not sure to wish it
}

// The codes of our own table that published files show with their names mean what
// the table says; and what these files show that is telling is labelled.
func TestOwnCodesAgainstPublishedNames(t *testing.T) {
	seen := map[string]map[string]bool{} // "loinc 1-1" -> displays
	add := func(system, code, display string) {
		if sys := terminology.SystemOf(system); sys != 0 && sys != terminology.ActCode && code != "" && display != "" {
			key := sys.Short() + " " + sys.Normal(code)
			if seen[key] == nil {
				seen[key] = map[string]bool{}
			}
			seen[key][display] = true
		}
	}
	for _, set := range []string{shareddata.Examples, shareddata.BehavioralHealth, shareddata.Definitions, shareddata.Synthea} {
		named(t, shareddata.Open(t, set), set, add)
	}
	confirmed := 0
	for key, displays := range seen {
		short, code, _ := strings.Cut(key, " ")
		sys := terminology.Named(short)
		own := label.OwnCode(sys, code)
		if sys.Hierarchical() {
			continue // whole chapters: their names are not those of the codes below
		}
		for display := range displays {
			if own != 0 && !label.Tobacco(sys, code) {
				confirmed++
				if !speaks(own, display) {
					t.Errorf("%s is %s in our table, and %q is its name", key, own, display)
				}
			}
			if telling.MatchString(display) && label.OfCode(systemOf[sys], code) == 0 && !slices.Contains(harmless, key) {
				t.Errorf("%s (%q) gets no label", key, display)
			}
		}
	}
	t.Logf("%d names of codes of our own table", confirmed)
	if confirmed < 100 {
		t.Errorf("only %d names of codes of our own table were seen", confirmed)
	}
}

var systemOf = map[terminology.System]string{
	terminology.SNOMED: "http://snomed.info/sct", terminology.LOINC: "http://loinc.org", terminology.RxNorm: rxnorm, terminology.CVX: "http://hl7.org/fhir/sid/cvx",
	terminology.HCPCS: "https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets", terminology.CPT: "http://www.ama-assn.org/go/cpt",
}

// speaks reports whether a name speaks of one of the labels.
func speaks(s label.Set, display string) bool {
	for one, re := range spoken {
		if s.Has(one) && re.MatchString(display) {
			return true
		}
	}
	return false
}

// named finds the codes with names in the files of a set; of Synthea in a few.
func named(t *testing.T, dir fs.FS, set string, add func(system, code, display string)) {
	t.Helper()
	files := shareddata.Files(t, dir)
	if set == shareddata.Synthea {
		const few = 40
		files = files[:min(few, len(files))]
	}
	for _, name := range files {
		body := shareddata.Read(t, dir, name)
		root, err := ReadJSON(body, Limits{Bytes: 1 << 28})
		if err != nil {
			if json.Valid(body) {
				t.Logf("%s: %v", name, err)
			}
			continue
		}
		root.Walk(func(_ string, n *element.Node) bool {
			system := n.Get("system").String()
			add(system, n.Get("code").String(), n.Get("display").String())
			for _, c := range n.Get("concept").List() {
				add(system, c.Get("code").String(), c.Get("display").String())
			}
			return true
		})
	}
}
