package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

func (r *Report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// slowdown is how much slower a family may be on a larger data set.
const slowdown = 1.5

// Compare reads two reports and writes how much slower each family of the second is
// than in the first, by the median latency. It is an error if one is slower
// than the bar allows. Families whose answers differ in size say so: more
// entries take longer by right.
func Compare(first, second string, out io.Writer) error {
	var r [2]Report
	for i, path := range []string{first, second} {
		text, err := os.ReadFile(path) //nolint:gosec // the operator names them
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		if err := json.Unmarshal(text, &r[i]); err != nil {
			return fmt.Errorf("bench: %s is no report: %w", path, err)
		}
	}
	resources := func(x Report) int64 {
		if x.Load == nil {
			return 0
		}
		return x.Load.All
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "what\tclients\tp50 ms (%s, %d resources)\tp50 ms (%s, %d resources)\tslower by\tentries\t\n", r[0].Set, resources(r[0]), r[1].Set, resources(r[1]))
	var failed []string
	for _, m := range r[0].Measures {
		for _, n := range r[1].Measures {
			if m.Name != n.Name || m.Clients != n.Clients {
				continue
			}
			a, okA := m.latency()
			b, okB := n.latency()
			if !okA || !okB {
				continue
			}
			factor, verdict := float64(b)/float64(a), "pass"
			switch {
			case math.Abs(n.Entries-m.Entries) > .2*max(m.Entries, 1):
				verdict = "other size"
			case m.Name == halfQuantity || m.Name == halfComposite:
				verdict = "more match"
			case factor > slowdown:
				verdict = "FAIL"
				failed = append(failed, m.Name)
			}
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.2f\t%.1f, %.1f\t%s\n", m.Name, m.Clients, millis(a), millis(b), factor, m.Entries, n.Entries, verdict)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if len(failed) > 0 {
		return fmt.Errorf("bench: slower by more than %.1f: %s", slowdown, strings.Join(failed, ", "))
	}
	return nil
}

// latency is the median of Cloister's answers.
func (m Measured) latency() (time.Duration, bool) {
	for _, s := range m.Sides {
		if s.Name == sideCloister && s.P50 > 0 {
			return s.P50, true
		}
	}
	return 0, false
}
