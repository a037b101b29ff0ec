package label

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir/terminology"
)

// tobaccoLabels is what the lists call tobacco codes: substance use, or a mental disorder.
const tobaccoLabels = ETH | PSY

// longest is the length of the longest hierarchical code that is looked at.
const longest = 10

// row is one line of a rule table: some codes of a system, and what they say.
type row struct {
	list    string // the title of the list that it is from
	labels  Set
	tobacco bool               // the codes are about tobacco alone
	system  terminology.System // 0: a system that is known by its URI only
	uri     string
	codes   []string
}

// parse reads a rule table: lines of labels, code system and codes, separated by tabs. Labels are
// joined by +, or TOBACCO; the code system is a short name (icd-10-cm) or a URI;
// codes are separated by spaces. A line "LIST, key, title" names the list of the lines below
// it; # begins a comment. All faults are reported, each with its line.
func parse(file, list, text string) (rows []row, err error) {
	var faults []error
	for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := parseRow(line, &list)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("label: %s line %d: %w", file, i+1, err))
		case r != nil:
			rows = append(rows, *r)
		}
	}
	return rows, errors.Join(faults...)
}

func parseRow(line string, list *string) (*row, error) {
	f := strings.Split(line, "\t")
	if len(f) != 3 {
		return nil, fmt.Errorf("%d fields, not 3: labels, code system, codes", len(f))
	}
	if f[0] == "LIST" {
		*list = f[2]
		return nil, nil //nolint:nilnil // a heading is no row
	}
	r := &row{list: *list, labels: tobaccoLabels, tobacco: f[0] == "TOBACCO"}
	if !r.tobacco {
		var err error
		if r.labels, err = sensitivity(f[0]); err != nil {
			return nil, err
		}
	}
	if err := r.of(f[1]); err != nil {
		return nil, err
	}
	for _, code := range strings.Fields(f[2]) {
		r.add(code)
	}
	if len(r.codes) == 0 {
		return nil, errors.New("it has no codes")
	}
	return r, nil
}

// sensitivity reads labels that codes can give.
func sensitivity(text string) (Set, error) {
	s, err := ParseSet(text)
	switch {
	case err != nil:
		return 0, err
	case s == 0:
		return 0, errors.New("it has no label")
	case s.Any(Source):
		return 0, fmt.Errorf("a code alone gives no %s", s&Source)
	}
	return s, nil
}

// of sets the code system, from its short name or URI.
func (r *row) of(system string) error {
	if r.system = terminology.Named(system); r.system == 0 {
		r.system = terminology.SystemOf(system)
	}
	if r.system == 0 {
		r.uri = normalURI(system)
		if !strings.Contains(r.uri, ":") {
			return fmt.Errorf("%q is neither the short name of a code system nor a URI", system)
		}
	}
	return nil
}

func (r *row) add(code string) {
	if r.system != 0 {
		code = r.system.Normal(code)
	}
	if code = strings.TrimSpace(code); code != "" {
		r.codes = append(r.codes, code)
	}
}

// normalURI is a URI of a system that only an operator's set knows: without version and final slash.
func normalURI(system string) string {
	system, _, _ = strings.Cut(strings.TrimSpace(system), "|")
	return strings.TrimRight(system, "/")
}

// table maps the codes of each system to labels.
type table struct {
	codes   [terminology.Systems]map[string]Set
	tobacco [terminology.Systems]map[string]bool
	local   map[string]map[string]Set // by URI
}

func tableOf(rows []row) *table {
	t := &table{local: map[string]map[string]Set{}}
	for i := range rows {
		r := &rows[i]
		if r.system == 0 {
			if t.local[r.uri] == nil {
				t.local[r.uri] = map[string]Set{}
			}
			for _, code := range r.codes {
				t.local[r.uri][code] |= r.labels
			}
			continue
		}
		if t.codes[r.system] == nil {
			t.codes[r.system], t.tobacco[r.system] = map[string]Set{}, map[string]bool{}
		}
		for _, code := range r.codes {
			if r.tobacco {
				t.tobacco[r.system][code] = true
			}
			t.codes[r.system][code] |= r.labels
		}
	}
	return t
}

// each calls found for every entry that covers a code in its normal form.
func (t *table) each(sys terminology.System, code string, found func(entry string, s Set)) {
	m := t.codes[sys]
	if len(m) == 0 {
		return
	}
	at := func(entry string) {
		if s := m[entry]; s != 0 {
			found(entry, s)
		}
	}
	switch {
	case sys == terminology.Instrument:
		for _, name := range instrumentNames(code) {
			at(name)
		}
	case sys.Hierarchical():
		for n := 1; n <= len(code) && n <= longest; n++ {
			at(code[:n])
		}
	default:
		at(code)
	}
}

// ofCode looks up one code in its normal form.
func (t *table) ofCode(sys terminology.System, code string) (s Set) {
	if !sys.Hierarchical() && sys != terminology.Instrument {
		return t.codes[sys][code] // the usual case, without a closure
	}
	t.each(sys, code, func(_ string, more Set) { s |= more })
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

// instrumentNames are the names that a canonical URL may stand for: one to
// three neighbouring words of its last segment, joined. PHQ-9 and phq9 are the
// same name, and us-bhp-audit-c holds "audit" and "auditc", but auditory is no name of AUDIT.
func instrumentNames(url string) []string {
	url, _, _ = strings.Cut(url, "|")
	url = strings.ToLower(strings.TrimRight(url, "/"))
	words := strings.FieldsFunc(url[strings.LastIndexByte(url, '/')+1:], func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	var out []string
	const most, wordsOfName = 32, 3
	for i := range words[:min(len(words), most)] {
		for n := i + 1; n <= len(words) && n <= i+wordsOfName; n++ {
			if name := strings.Join(words[i:n], ""); !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
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
