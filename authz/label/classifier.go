package label

import (
	"crypto/sha256"
	_ "embed" // the tables travel in the binary
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/terminology"
)

//go:generate sh -c "go run ./internal/tabulate $CLOISTER_SHARED_DATA/sensitive-codes > codes.new && mv codes.new codes.tsv"

//go:embed codes.tsv
var generated string

//go:embed own.tsv
var own string

// rulesRevision stands for what is a rule in code and not in a table. It is
// raised with each change of that, so that what is stored is classified anew.
const rulesRevision = 1

// Options are what an operator decides over content rules.
type Options struct {
	// Tobacco counts tobacco use as substance use. It is recorded of nearly every
	// patient, so it hides nearly every record.
	Tobacco bool
	// Unknown labels what is coded in a system that no rule knows as [Unclassified],
	// which makes it confidentiality R; otherwise it is N.
	Unknown bool
	// Sets are the operator's own. They add to the built-in rules and take nothing away.
	Sets []ValueSet
}

// Classifier is a set of content rules with what an operator decided about
// them. It never changes, and is safe for concurrent use.
type Classifier struct {
	options Options
	version string
	table   *table
	lists   func() []listed // for explanations
}

// listed is the table of one list.
type listed struct {
	title string
	*table
}

// New makes a Classifier.
func New(o Options) *Classifier {
	rows := builtIn()
	h := sha256.New()
	part := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		_, _ = fmt.Fprintf(h, "%d:%s", len(text), text) // never fails (hash.Hash)
	}
	part("%d %v %v %s", rulesRevision, o.Tobacco, o.Unknown, All)
	part("%s", own)
	part("%s", generated)
	for _, v := range o.Sets {
		rows = append(rows, v.rows...)
		for _, r := range v.rows {
			part("%s %v %s %s %s", r.labels, r.tobacco, r.system.Short(), r.uri, strings.Join(r.codes, " "))
		}
	}
	return &Classifier{
		options: o, version: hex.EncodeToString(h.Sum(nil)[:8]), table: tableOf(rows),
		lists: sync.OnceValue(func() []listed { return byList(rows) }),
	}
}

func builtIn() []row {
	rows, err := parse("own.tsv", "own", own)
	if err != nil {
		panic(err)
	}
	more, err := parse("codes.tsv", "", generated)
	if err != nil {
		panic(err)
	}
	return append(rows, more...)
}

func byList(rows []row) []listed {
	var titles []string
	of := map[string][]row{}
	for _, r := range rows {
		if of[r.list] == nil {
			titles = append(titles, r.list)
		}
		of[r.list] = append(of[r.list], r)
	}
	out := make([]listed, len(titles))
	for i, title := range titles {
		out[i] = listed{title, tableOf(of[title])}
	}
	return out
}

var house = sync.OnceValue(func() *Classifier { return New(Options{}) })

// Default is the Classifier with the built-in rules alone.
func Default() *Classifier { return house() }

// Version names the rules: two Classifiers of one version label everything alike.
func (x *Classifier) Version() string { return x.version }

// OfCode is what one code says about sensitivity by the built-in rules: see [Classifier.OfCode].
func OfCode(system, code string) Set { return Default().OfCode(system, code) }

// OfCode is what one code says about sensitivity, whatever the spelling of its
// system and of itself. A coding without a system is read as ICD-10-CM, LOINC or
// HCPCS where it has the form of one. What a code of an unknown system says, if
// no set of the operator has it, [Options].Unknown decides.
func (x *Classifier) OfCode(system, code string) Set {
	sys, code, known := identify(system, code)
	if code == "" {
		return 0
	}
	if known {
		return x.sensitivity(sys, code)
	}
	s := x.table.local[normalURI(system)][code]
	if x.options.Unknown && foreign(system) {
		s |= Unclassified
	}
	return s
}

// sensitivity is what a code in its normal form says, but for tobacco.
func (x *Classifier) sensitivity(sys terminology.System, code string) Set {
	s := x.table.ofCode(sys, code)
	if s != 0 && !x.options.Tobacco && x.table.isTobacco(sys, code) {
		s &^= tobaccoLabels
	}
	return s
}

// identify gives the code system that a coding is read in, with the code in its
// normal form; known is false where that is none that has rules.
func identify(system, code string) (sys terminology.System, normal string, known bool) {
	if sys = terminology.SystemOf(system); sys == 0 {
		if system != "" {
			return 0, strings.TrimSpace(code), false
		}
		for _, s := range []terminology.System{terminology.ICD10CM, terminology.LOINC, terminology.HCPCS} {
			if looksLike(s, code) {
				sys = s
				break
			}
		}
		if sys == 0 {
			return 0, "", false
		}
	}
	if sys == terminology.Instrument {
		if loinc, ok := loincURL(code); ok {
			return terminology.LOINC, loinc, true
		}
	}
	return sys, sys.Normal(code), true
}

// loincURL gives the code that a URL of LOINC is about.
func loincURL(url string) (code string, ok bool) {
	url, _, _ = strings.Cut(url, "|")
	if !strings.Contains(url, "loinc.org/") {
		return "", false
	}
	code = url[strings.LastIndexByte(url, '/')+1:]
	return code, looksLike(terminology.LOINC, code)
}

// formal are the code systems of forms and not of content: units, languages,
// states of a record, kinds of providers.
var formal = []string{
	"http://terminology.hl7.org/", "http://hl7.org/fhir/", "urn:ietf:", "urn:iso:", "http://unitsofmeasure.org", "http://dicom.nema.org/",
	"http://nucc.org/", "https://www.nubc.org/", "https://www.usps.com/", fhir.Canonical + "/",
}

// foreign reports whether a system may code content that no rule knows.
func foreign(system string) bool {
	if strings.HasPrefix(system, "http://hl7.org/fhir/sid/") {
		return true // drugs, vaccines and diagnoses of other countries
	}
	for _, p := range formal {
		if strings.HasPrefix(system, p) {
			return false
		}
	}
	return system != ""
}

// OwnCode is what our own table says of a code in its normal form; the
// generator leaves it out of the generated one.
func OwnCode(sys terminology.System, code string) Set { return ownTable().ofCode(sys, code) }

// Tobacco reports whether a code in its normal form is about tobacco alone.
func Tobacco(sys terminology.System, code string) bool { return ownTable().isTobacco(sys, code) }

var ownTable = sync.OnceValue(func() *table {
	rows, err := parse("own.tsv", "own", own)
	if err != nil {
		panic(err)
	}
	return tableOf(rows)
})
