package label

import (
	_ "embed" // the tables travel in the binary
	"fmt"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir/terminology"
)

//go:generate sh -c "go run ./internal/tabulate $CLOISTER_SHARED_DATA/sensitive-codes > codes.new && mv codes.new codes.tsv"

//go:embed codes.tsv
var generated string

//go:embed own.tsv
var own string

// labelTobacco says whether tobacco use counts as substance use. It is off: it
// is recorded of nearly every patient, so it would hide nearly every record.
const labelTobacco = false

// tobaccoLabels is what the lists call tobacco codes: substance use, or a mental disorder.
const tobaccoLabels = ETH | PSY

// longest is the length of the longest hierarchical code that is looked at.
const longest = 10

// table maps the codes of each system to labels.
type table struct {
	codes   [terminology.Systems]map[string]Set
	tobacco [terminology.Systems]map[string]bool
}

func (t *table) add(text string) error {
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 3 {
			return fmt.Errorf("label: line %d of a table has %d fields, not 3", i+1, len(f))
		}
		sys := terminology.Named(f[1])
		if sys == 0 {
			return fmt.Errorf("label: line %d of a table: unknown code system %q", i+1, f[1])
		}
		tobacco := f[0] == "TOBACCO"
		labels := tobaccoLabels
		if !tobacco {
			var err error
			if labels, err = ParseSet(f[0]); err != nil {
				return fmt.Errorf("label: line %d of a table: %w", i+1, err)
			}
			if labels.Any(Source) {
				return fmt.Errorf("label: line %d of a table: a code alone gives no %s", i+1, labels&Source)
			}
		}
		if t.codes[sys] == nil {
			t.codes[sys], t.tobacco[sys] = map[string]Set{}, map[string]bool{}
		}
		for _, code := range strings.Split(f[2], " ") {
			if code != sys.Normal(code) || code == "" {
				return fmt.Errorf("label: line %d of a table: %q is not in its normal form", i+1, code)
			}
			if tobacco {
				t.tobacco[sys][code] = true
			}
			t.codes[sys][code] |= labels
		}
	}
	return nil
}

// ofCode looks up one code in its normal form.
func (t *table) ofCode(sys terminology.System, code string) (s Set) {
	m := t.codes[sys]
	if m == nil {
		return 0
	}
	if !sys.Hierarchical() {
		return m[code]
	}
	for n := 1; n <= len(code) && n <= longest; n++ {
		s |= m[code[:n]]
	}
	return s
}

func (t *table) isTobacco(sys terminology.System, code string) bool {
	m := t.tobacco[sys]
	if !sys.Hierarchical() {
		return m[code]
	}
	for n := 1; n <= len(code) && n <= longest; n++ {
		if m[code[:n]] {
			return true
		}
	}
	return false
}

func mustTable(texts ...string) *table {
	t := &table{}
	for _, x := range texts {
		if err := t.add(x); err != nil {
			panic(err)
		}
	}
	return t
}

var (
	ownTable = sync.OnceValue(func() *table { return mustTable(own) })
	sensible = sync.OnceValue(func() *table { return mustTable(own, generated) })
)

// OfCode is what one code says about sensitivity, whatever the spelling of its
// system and of itself. A coding without a system is read as ICD-10-CM, LOINC or
// HCPCS where it has the form of one; a code of an unknown system says nothing.
func OfCode(system, code string) Set {
	if code == "" {
		return 0
	}
	t := sensible()
	if sys := terminology.SystemOf(system); sys != 0 {
		return t.sensitivity(sys, code)
	}
	if system != "" {
		return 0
	}
	for _, sys := range []terminology.System{terminology.ICD10CM, terminology.LOINC, terminology.HCPCS} {
		if looksLike(sys, code) {
			return t.sensitivity(sys, code)
		}
	}
	return 0
}

// sensitivity is what a code says, but for tobacco.
func (t *table) sensitivity(sys terminology.System, code string) Set {
	code = sys.Normal(code)
	s := t.ofCode(sys, code)
	if s != 0 && !labelTobacco && t.isTobacco(sys, code) {
		s &^= tobaccoLabels
	}
	return s
}

// looksLike reports whether a code has the form of a system's codes: F32 or
// F32.1, 44249-1, H0001.
func looksLike(sys terminology.System, code string) bool {
	digits := func(s string) bool {
		for i := 0; i < len(s); i++ {
			if s[i] < '0' || s[i] > '9' {
				return false
			}
		}
		return s != ""
	}
	letter := len(code) > 0 && (code[0]|0x20) >= 'a' && (code[0]|0x20) <= 'z'
	switch sys {
	case terminology.ICD10CM:
		return len(code) >= 3 && letter && digits(code[1:2]) && (len(code) == 3 || code[3] == '.')
	case terminology.LOINC:
		a, b, ok := strings.Cut(code, "-")
		return ok && digits(a) && len(b) == 1 && digits(b)
	case terminology.HCPCS:
		return len(code) == 5 && letter && digits(code[1:])
	}
	return false
}

// OwnCode is what our own table says of a code in its normal form; the
// generator leaves it out of the generated one.
func OwnCode(sys terminology.System, code string) Set { return ownTable().ofCode(sys, code) }

// Tobacco reports whether a code in its normal form is about tobacco alone.
func Tobacco(sys terminology.System, code string) bool { return ownTable().isTobacco(sys, code) }
