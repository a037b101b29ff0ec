package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// machine is what numbers depend on. It names neither the machine nor its users.
type machine struct {
	cores    int
	memory   string
	system   string
	golang   string
	postgres string
	settings string // those that durability and speed depend on
}

func (b *bench) machine(ctx context.Context) (machine, error) {
	m := machine{cores: runtime.NumCPU(), memory: "unknown", system: runtime.GOOS + "/" + runtime.GOARCH, golang: runtime.Version()}
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if _, err := fmt.Sscanf(string(info), "MemTotal: %d kB", &kb); err == nil {
			m.memory = fmt.Sprintf("%.0f GB", float64(kb)/(1<<20))
		}
	}
	err := b.sql.QueryRow(ctx, "SELECT current_setting('server_version'), format('fsync %s, synchronous_commit %s, shared_buffers %s', current_setting('fsync'), current_setting('synchronous_commit'), current_setting('shared_buffers'))").Scan(&m.postgres, &m.settings)
	if err != nil {
		return m, fmt.Errorf("bench: %w", err)
	}
	return m, nil
}

// report is all that a run found out.
type report struct {
	caller   string
	machine  machine
	load     *loaded
	measures []measured
	rounds   int
	duration time.Duration
	maxConns int
	workers  int
}

func (r *report) write(out io.Writer, markdown bool) error {
	text := r.table()
	if markdown {
		text = r.markdown()
	}
	if _, err := io.WriteString(out, text); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

func (s sample) cells() []string {
	return []string{fmt.Sprintf("%.0f", s.rate), millis(s.p50), millis(s.p95), millis(s.p99)}
}

var columns = []string{"what", "clients", "side", "per second", "p50 ms", "p95 ms", "p99 ms", "Cloister : raw"}

func (r *report) rows() [][]string {
	var out [][]string
	for _, m := range r.measures {
		out = append(out,
			append(append([]string{m.name, fmt.Sprint(m.clients), "raw"}, m.raw.cells()...), ""),
			append(append([]string{m.name, fmt.Sprint(m.clients), "Cloister"}, m.cloister.cells()...), fmt.Sprintf("%.2f", m.ratio)))
	}
	return out
}

// ingest says what loading came to.
func (r *report) ingest() []string {
	l := r.load
	lines := []string{fmt.Sprintf("Data: %s; %d resources in the practice that is measured.", l.data, l.resources)}
	switch {
	case !l.fresh || l.took <= 0 || l.copied <= 0 || l.all == 0:
		lines = append(lines, "Loading was not measured: an earlier run had loaded the data.")
	default:
		rate, ceiling := float64(l.stored)/l.took.Seconds(), float64(l.all)/l.copied.Seconds()
		lines = append(lines,
			fmt.Sprintf("Loading: %d resources in %s, %.0f per second (%d refused). COPY of the same bodies into a table with a primary key: %.0f per second. Cloister : COPY = %.3f.",
				l.stored, l.took.Round(time.Second/10), rate, l.refused, ceiling, rate/ceiling),
			fmt.Sprintf("Database: %.1f kB per resource, indexes and audit included.", float64(l.bytes)/float64(l.all)/1000))
	}
	return lines
}

func (r *report) table() string {
	var b strings.Builder
	for _, l := range r.ingest() {
		b.WriteString(l + "\n")
	}
	b.WriteString("Caller: " + r.caller + ".\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, strings.Join(columns, "\t"))
	for _, row := range r.rows() {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
	return b.String()
}

func (r *report) markdown() string {
	var b strings.Builder
	for _, l := range r.ingest() {
		b.WriteString(l + "\n")
	}
	fmt.Fprintf(&b, "Caller: %s.\n\n", r.caller)
	b.WriteString("| " + strings.Join(columns, " | ") + " |\n|---|--:|---|--:|--:|--:|--:|--:|\n")
	for _, row := range r.rows() {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	m := r.machine
	fmt.Fprintf(&b, "\nMachine: %d cores, %s of memory, %s, %s, PostgreSQL %s (%s); client, server and database share it. "+
		"%d rounds of %s each, raw and Cloister in turns, medians; %d database connections a side; %d import workers.\n",
		m.cores, m.memory, m.system, m.golang, m.postgres, m.settings, r.rounds, r.duration, r.maxConns, r.workers)
	return b.String()
}
