package label

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ValueSet is a set of an operator's own rules, read by [ReadValueSet].
type ValueSet struct{ rows []row }

// Codes is how many codes the set has.
func (v ValueSet) Codes() (n int) {
	for _, r := range v.rows {
		n += len(r.codes)
	}
	return n
}

// ReadValueSet reads rules from a file of that name: lines as in the built-in
// tables (labels, code system, codes, between tabs), or a FHIR ValueSet in JSON
// that lists its codes, in compose.include.concept or in an expansion. labels
// says what a ValueSet is about, such as SUD+ETH; lines name their own, and labels is "".
//
// A set is refused as a whole, with each fault and its line or path: what was
// meant to protect and does not is worse than a server that does not start. So a
// ValueSet that says what to include other than by listing it is refused, too.
func ReadValueSet(name, labels string, data []byte) (ValueSet, error) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		if labels != "" {
			return ValueSet{}, fmt.Errorf("label: %s names labels on each line: leave out %q", name, labels)
		}
		rows, err := parse(name, name, text)
		if err == nil && len(rows) == 0 {
			err = fmt.Errorf("label: %s has no rules", name)
		}
		if err != nil {
			return ValueSet{}, err
		}
		return ValueSet{rows}, nil
	}
	s, err := sensitivity(labels)
	if labels == "" || err != nil {
		return ValueSet{}, errors.Join(err, fmt.Errorf("label: %s is a ValueSet: say what it is about, as in SUD+ETH=%s", name, name))
	}
	return readFHIR(name, s, text)
}

// valueSet is as much of a FHIR ValueSet as rules are made of.
type valueSet struct {
	ResourceType string
	URL          string
	Version      string
	Compose      *struct {
		Include []struct {
			System   string
			Concept  []struct{ Code string }
			Filter   []json.RawMessage
			ValueSet []string
		}
		Exclude []json.RawMessage
	}
	Expansion *struct {
		Total    int
		Contains []contained
	}
}

type contained struct {
	System, Code string
	Abstract     bool
	Contains     []contained
}

func readFHIR(name string, labels Set, text string) (ValueSet, error) {
	var v valueSet
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return ValueSet{}, fmt.Errorf("label: %s line %d: %w", name, lineOf(text, err), err)
	}
	if v.ResourceType != "ValueSet" {
		return ValueSet{}, fmt.Errorf("label: %s is a %q and no ValueSet", name, v.ResourceType)
	}
	title := v.URL
	if title == "" {
		title = name
	}
	if v.Version != "" {
		title += "|" + v.Version
	}
	f := &reading{name: name, title: title, labels: labels}
	switch {
	case v.Expansion != nil:
		f.expansion("ValueSet.expansion", v.Expansion.Contains)
		if n := (ValueSet{f.rows}).Codes(); v.Expansion.Total > n {
			f.fault("ValueSet.expansion", "has %d of %d codes", n, v.Expansion.Total)
		}
	case v.Compose != nil:
		for i, in := range v.Compose.Include {
			at := fmt.Sprintf("ValueSet.compose.include[%d]", i)
			if len(in.Filter) > 0 || len(in.ValueSet) > 0 || len(in.Concept) == 0 {
				f.fault(at, "does not list its codes: expand the ValueSet")
				continue
			}
			for j, c := range in.Concept {
				f.code(fmt.Sprintf("%s.concept[%d]", at, j), in.System, c.Code)
			}
		}
		if len(v.Compose.Exclude) > 0 {
			f.fault("ValueSet.compose.exclude", "is more than a list of codes: expand the ValueSet")
		}
	}
	if len(f.rows) == 0 && len(f.faults) == 0 {
		f.fault("ValueSet", "has no codes")
	}
	if len(f.faults) > 0 {
		return ValueSet{}, errors.Join(f.faults...)
	}
	return ValueSet{f.rows}, nil
}

// reading gathers rows and faults.
type reading struct {
	name, title string
	labels      Set
	rows        []row
	faults      []error
}

func (f *reading) fault(path, format string, args ...any) {
	f.faults = append(f.faults, fmt.Errorf("label: %s: %s %s", f.name, path, fmt.Sprintf(format, args...)))
}

func (f *reading) expansion(at string, in []contained) {
	for i, c := range in {
		path := fmt.Sprintf("%s.contains[%d]", at, i)
		if !c.Abstract && (c.Code != "" || len(c.Contains) == 0) {
			f.code(path, c.System, c.Code)
		}
		f.expansion(path, c.Contains)
	}
}

func (f *reading) code(path, system, code string) {
	r := row{list: f.title, labels: f.labels}
	if err := r.of(system); err != nil {
		f.fault(path, "has no code system: %v", err)
		return
	}
	if r.add(code); len(r.codes) == 0 {
		f.fault(path, "has no code")
		return
	}
	if n := len(f.rows); n > 0 && f.rows[n-1].system == r.system && f.rows[n-1].uri == r.uri {
		f.rows[n-1].codes = append(f.rows[n-1].codes, r.codes...)
		return
	}
	f.rows = append(f.rows, r)
}

// lineOf is the line at which JSON stopped making sense.
func lineOf(text string, err error) int {
	offset := int64(0)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	return 1 + strings.Count(text[:min(int(offset), len(text))], "\n")
}
