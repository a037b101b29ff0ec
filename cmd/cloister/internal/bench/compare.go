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

// slowdown is how much slower a family may be on a larger data set; and how much more of time and
// of memory a bulk job may take for each resource, and at the most.
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
	missed, err := compareBulk(r[0].Bulk, r[1].Bulk, out)
	if err != nil {
		return err
	}
	failed = append(failed, missed...)
	if len(failed) > 0 {
		return fmt.Errorf("bench: more than %.1f times as much: %s", slowdown, strings.Join(failed, ", "))
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

// compareBulk writes how much more time a resource of each bulk job takes in the second report than in
// the first, and how much more memory the job, and gives those that take more than the bar allows.
func compareBulk(first, second []Bulk, out io.Writer) (failed []string, err error) {
	if len(first) == 0 || len(second) == 0 {
		return nil, nil
	}
	verdict := func(factor float64, what string) string {
		if factor > slowdown {
			failed = append(failed, what)
			return "FAIL"
		}
		return "pass"
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "\nwhat\tside\tresources\tof B\tµs each\tof B\ttimes\t\tCPU µs each\tof B\ttimes\tMB of memory\tof B\ttimes\t")
	for _, a := range first {
		for _, b := range second {
			if a.Name != b.Name || a.Side != b.Side {
				continue
			}
			slower, larger := float64(b.each())/float64(max(a.each(), 1)), float64(b.Peak)/float64(max(a.Peak, 1))
			time, memory := "", ""
			if a.Side == sideCloister { // what others need is theirs
				time, memory = verdict(slower, a.Name+" (time)"), verdict(larger, a.Name+" (memory)")
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%.2f\t%s\t%s\t%s\t%.2f\t%d\t%d\t%.2f\t%s\n", a.Name, a.Side, a.Resources, b.Resources, micros(a.each()), micros(b.each()), slower, time,
				micros(a.cpu()), micros(b.cpu()), float64(b.cpu())/float64(max(a.cpu(), 1)), a.Peak/1e6, b.Peak/1e6, larger, memory)
		}
	}
	if err := w.Flush(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return failed, nil
}
