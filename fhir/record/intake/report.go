package intake

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Name is the resource as the report names it, "-" where it has none.
func (c *Candidate) Name() string {
	switch {
	case c.Ref != (fhir.Ref{}):
		return c.Ref.String()
	case c.FullURL != "":
		return c.FullURL
	}
	return "-"
}

// Why is what its issues say, each with its path.
func (c *Candidate) Why() string { return (&outcome.Error{Issues: c.Issues}).Error() }

// What of a type is counted, beside the fates.
const (
	countLabel   = "label "       // and its code
	countUnknown = "unknown-code" // what the check of content says of codes
	countMissing = "missing"      // references of what is stored that lead to nothing
)

// unread is the type of what does not read.
const unread = "-"

// Key is what is counted.
type Key struct {
	Type string // of the resource, "-" where it is not known
	What string // a fate, or "label " and a code, or unknown-code, or missing
}

// Tally counts what became of an input.
type Tally map[Key]int64

// Add counts candidates that have met their fate; those that wait have not.
func (t Tally) Add(in ...*Candidate) {
	for _, c := range in {
		if c.Fate == Pending || c.Fate == Waits {
			continue
		}
		name := unread
		if c.Ref.Type != "" {
			name = string(c.Ref.Type)
		}
		t[Key{name, string(c.Fate)}]++
		for _, i := range c.Issues {
			if i.Category == outcome.CodeInvalid {
				t[Key{name, countUnknown}]++
			}
		}
		if !c.Fate.Stored() {
			continue
		}
		for _, l := range c.Labels {
			t[Key{name, countLabel + l}]++
		}
	}
}

// Of sums up what is counted of one fate.
func (t Tally) Of(fates ...Fate) (n int64) {
	for k, v := range t {
		if slices.Contains(fates, Fate(k.What)) {
			n += v
		}
	}
	return n
}

// types are those that are counted, in order, what does not read at the end.
func (t Tally) types() []string {
	names := map[string]bool{}
	for k := range t {
		names[k.Type] = true
	}
	return slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		if (a == unread) != (b == unread) {
			return cmp.Compare(b, a)
		}
		return cmp.Compare(a, b)
	})
}

// sentence says what became of one type, or of all of them.
func (t Tally) sentence(name string) string {
	sum := func(what string) (n int64) {
		for k, v := range t {
			if k.What == what && (name == "" || k.Type == name) {
				n += v
			}
		}
		return n
	}
	parts := make([]string, 0, 8)
	for _, f := range []Fate{New, Changed, Same, Refused, Unresolved} {
		parts = append(parts, fmt.Sprintf("%d %s", sum(string(f)), f))
	}
	if n := sum(countUnknown); n > 0 {
		parts = append(parts, fmt.Sprintf("%d unknown codes", n))
	}
	if n := sum(countMissing); n > 0 {
		parts = append(parts, fmt.Sprintf("%d references to what is not there", n))
	}
	labels := map[string]bool{}
	for k := range t {
		if code, ok := strings.CutPrefix(k.What, countLabel); ok && (name == "" || k.Type == name) {
			labels[code] = true
		}
	}
	s := strings.Join(parts, ", ")
	if len(labels) > 0 {
		var of []string
		for _, code := range slices.Sorted(maps.Keys(labels)) {
			of = append(of, fmt.Sprintf("%s %d", code, sum(countLabel+code)))
		}
		s += "; labels: " + strings.Join(of, ", ")
	}
	return s
}

// Text is the tally for people: a line for each type.
func (t Tally) Text() string {
	var b strings.Builder
	width := len("resource type")
	for _, n := range t.types() {
		width = max(width, len(n))
	}
	for _, n := range t.types() {
		name := n
		if n == unread {
			name = "not readable"
		}
		fmt.Fprintf(&b, "  %-*s  %s\n", width, name, t.sentence(n))
	}
	return b.String()
}

// Summary is an OperationOutcome with the counts: of everything, then of each type.
func (t Tally) Summary(title string) []byte {
	line := []byte(`{"resourceType":"OperationOutcome","issue":[`)
	add := func(text, about string) {
		if line[len(line)-1] == '}' {
			line = append(line, ',')
		}
		line = append(line, `{"severity":"information","code":"informational","details":{"text":`...)
		line = element.AppendQuoted(line, about)
		line = append(line, `},"diagnostics":`...)
		line = element.AppendQuoted(line, text)
		line = append(line, '}')
	}
	add(t.sentence(""), title)
	for _, n := range t.types() {
		about := n
		if n == unread {
			about = "what does not read"
		}
		add(t.sentence(n), about)
	}
	return append(line, "]}\n"...)
}

// AppendOutcome appends a line of NDJSON, an OperationOutcome, that says of one candidate what
// is wrong with it, where, and what to do. Its details.text is the place: input, line, resource.
func AppendOutcome(to []byte, input string, c *Candidate, issues []outcome.Issue) []byte {
	if len(issues) == 0 {
		return to
	}
	place := input + ", " + c.Place
	if name := c.Name(); name != "-" {
		place += ": " + name
	}
	root := outcome.Resource(issues)
	for _, n := range root.Get("issue").List() {
		n.Set("details", element.NewObject(element.Field{Name: "text", Value: element.NewString(place)}))
	}
	return append(root.AppendJSON(to), '\n')
}

// Rehearsal gathers what a dry run would do.
type Rehearsal struct {
	mu      sync.Mutex
	w       io.Writer // lines of NDJSON
	err     error
	tally   Tally
	brought map[[16]byte]bool // digests: an input can hold millions
	missing []missing
	cut     bool
}

type missing struct {
	input string
	c     Candidate
	path  string
	to    [16]byte
	must  bool // it would be refused
}

// maxMissing is how many references to nothing are kept until all inputs are read.
const maxMissing = 100_000

// NewRehearsal writes the lines of the report to w, the counts excepted.
func NewRehearsal(w io.Writer) *Rehearsal {
	return &Rehearsal{w: w, tally: Tally{}, brought: map[[16]byte]bool{}}
}

// Add takes note of what would become of candidates.
func (r *Rehearsal) Add(input string, in []*Candidate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.Add(in...)
	var text []byte
	for _, c := range in {
		if c.Fate.Stored() {
			for _, text := range c.Brings() {
				r.brought[digest(text)] = true
			}
		}
		text = AppendOutcome(text, input, c, c.Issues)
		for _, m := range c.Missing {
			if len(r.missing) == maxMissing {
				r.cut = true
				break
			}
			r.missing = append(r.missing, missing{input, Candidate{Place: c.Place, Ref: c.Ref, Fate: c.Fate}, m.Path, digest(sought(m.To)), conditional(m.To)})
		}
	}
	r.write(text)
}

func digest(text string) [16]byte {
	h := sha256.Sum256([]byte(text))
	return [16]byte(h[:16])
}

func (r *Rehearsal) write(text []byte) {
	if r.err == nil && len(text) > 0 {
		_, r.err = r.w.Write(text)
	}
}

// End says what refers to what neither an input nor the store has, and gives the counts.
func (r *Rehearsal) End() (Tally, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	refused := map[string]bool{}
	for _, m := range r.missing {
		if r.brought[m.to] {
			continue
		}
		issue := outcome.Issue{Category: outcome.Unprocessable, Path: m.path, Warning: true, Text: "the reference leads to nothing that is stored or in these inputs: send what it means, too"}
		name := string(m.c.Ref.Type)
		if at := m.input + "\n" + m.c.Place; m.must {
			issue.Warning, issue.Text = false, errConditional.Issues[0].Text
			if !refused[at] {
				refused[at] = true
				r.tally[Key{name, string(m.c.Fate)}]--
				r.tally[Key{name, string(Unresolved)}]++
			}
		} else {
			r.tally[Key{name, countMissing}]++
		}
		r.write(AppendOutcome(nil, m.input, &m.c, []outcome.Issue{issue}))
	}
	if r.cut {
		r.write(AppendOutcome(nil, "all inputs", &Candidate{Place: "the rest"}, []outcome.Issue{{Category: outcome.TooCostly, Text: fmt.Sprintf("more than %d references could not be followed: correct those above, and try again", maxMissing), Warning: true}}))
	}
	r.missing = nil
	return r.tally, r.err
}
