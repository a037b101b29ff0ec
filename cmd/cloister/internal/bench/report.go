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

// Machine is what numbers depend on. It names neither the machine nor its users.
type Machine struct {
	Cores    int    `json:"cores"`
	Memory   string `json:"memory"`
	System   string `json:"system"`
	Go       string `json:"go"`
	Postgres string `json:"postgres"`
	Settings string `json:"settings"` // those that durability and speed depend on
}

func (b *bench) machine(ctx context.Context) (Machine, error) {
	m := Machine{Cores: runtime.NumCPU(), Memory: "unknown", System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if _, err := fmt.Sscanf(string(info), "MemTotal: %d kB", &kb); err == nil {
			m.Memory = fmt.Sprintf("%.0f GB", float64(kb)/(1<<20))
		}
	}
	err := b.sql.QueryRow(ctx, "SELECT current_setting('server_version'), format('fsync %s, synchronous_commit %s, shared_buffers %s', current_setting('fsync'), current_setting('synchronous_commit'), current_setting('shared_buffers'))").Scan(&m.Postgres, &m.Settings)
	if err != nil {
		return m, fmt.Errorf("bench: %w", err)
	}
	return m, nil
}

// Report is all that a run found out.
type Report struct {
	Set          string         `json:"set"`
	Caller       string         `json:"caller"`
	Machine      Machine        `json:"machine"`
	Load         *loaded        `json:"load"`
	Measures     []Measured     `json:"measures"`
	Segmentation []Segmentation `json:"segmentation,omitempty"`
	Bulk         []Bulk         `json:"bulk,omitempty"`
	Memory       *Memory        `json:"memory,omitempty"`
	Bars         []Bar          `json:"bars"`
	Rounds       int            `json:"rounds"`
	Duration     time.Duration  `json:"duration_ns"` // of one measurement
	MaxConns     int            `json:"max_conns"`   // database connections of each side
}

// Measured is one family under one number of clients.
type Measured struct {
	Name    string  `json:"name"`
	Clients int     `json:"clients,omitempty"`
	Entries float64 `json:"entries,omitempty"` // mean of an answer
	Note    string  `json:"note,omitempty"`    // why there are no sides
	Sides   []Side  `json:"sides,omitempty"`
}

// Side is one server's medians over the rounds.
type Side struct {
	Name string `json:"name"`
	sample
	Ratio    float64 `json:"ratio,omitempty"`     // its rate in the raw side's, the median over the rounds
	CPURatio float64 `json:"cpu_ratio,omitempty"` // processor time of a raw answer in that of its own
}

// Segmentation is what the policy adds to the SQL of a page of 100.
type Segmentation struct {
	Caller     string        `json:"caller"`
	Pages      int           `json:"pages"`
	Restricted time.Duration `json:"restricted_ns"`
	Free       time.Duration `json:"free_ns"`
	Cost       float64       `json:"cost"` // 0.1 is 10 %
}

// Memory is what the process held while the mix ran.
type Memory struct {
	Clients  int           `json:"clients"`
	Every    time.Duration `json:"every_ns"`
	Resident []int64       `json:"resident"` // bytes
	Rate     float64       `json:"per_second"`
}

// span gives the largest value, and the medians of the second and the last tenth.
func (m *Memory) span() (most, early, late int64) {
	if len(m.Resident) == 0 {
		return 0, 0, 0
	}
	for _, x := range m.Resident {
		most = max(most, x)
	}
	tenth := max(len(m.Resident)/10, 1)
	mid := func(from int) int64 {
		part := m.Resident[min(from, len(m.Resident)-1):min(from+tenth, len(m.Resident))]
		all := make([]float64, len(part))
		for i, x := range part {
			all[i] = float64(x)
		}
		return int64(median(all))
	}
	return most, mid(tenth), mid(len(m.Resident) - tenth)
}

// Bar is a promise of speed, and whether this run keeps it.
type Bar struct {
	Name string  `json:"name"`
	Got  float64 `json:"got"`
	Want float64 `json:"want"`
	Unit string  `json:"unit,omitempty"`
	Most bool    `json:"most"` // want is an upper limit
	Pass bool    `json:"pass"`
}

func (b Bar) String() string {
	verdict, bound := "FAIL", "at least"
	if b.Pass {
		verdict = "pass"
	}
	if b.Most {
		bound = "at most"
	}
	return fmt.Sprintf("%s  %s: %.4g%s (%s %.4g%s)", verdict, b.Name, b.Got, b.Unit, bound, b.Want, b.Unit)
}

func atLeast(name string, got, want float64, unit string) Bar {
	return Bar{name, got, want, unit, false, got >= want}
}

func atMost(name string, got, want float64, unit string) Bar {
	return Bar{name, got, want, unit, true, got <= want}
}

// judge holds what was measured against the bars.
func (r *Report) judge() {
	r.Bars = nil
	for _, m := range r.Measures {
		for _, s := range m.Sides {
			switch {
			case s.Name != sideCloister || s.Ratio == 0:
			case m.Name == readFamily && m.Clients == 64:
				r.Bars = append(r.Bars, atLeast("read by id, 64 clients, Cloister : raw", s.Ratio, .8, ""))
			case m.Name == searchFamily && m.Clients == 64:
				r.Bars = append(r.Bars, atLeast("search page of 20, 64 clients, Cloister : the same SQL by hand", s.Ratio, .5, ""))
			}
		}
	}
	for _, s := range r.Segmentation {
		r.Bars = append(r.Bars, atMost("segmentation of a page of 100, "+s.Caller, 100*s.Cost, 15, " %"))
	}
	if r.Load != nil && strings.HasPrefix(r.Set, "synthea") {
		r.Bars = append(r.Bars, atLeast("ingest, resources per second", r.Load.rate(), 2500, ""), atMost("database per resource", r.Load.perResource()/1000, 5, " kB"))
	}
	r.Bars = append(r.Bars, bulkBars(r.Bulk)...)
	if r.Memory != nil {
		most, early, late := r.Memory.span()
		r.Bars = append(r.Bars, atMost("memory of server and clients under the mix", float64(most)/1e6, 400, " MB"),
			atMost("its growth from the second to the last tenth", float64(late-early)/1e6, max(10, float64(early)/10e6), " MB"))
	}
}

func (r *Report) write(out io.Writer, markdown bool) error {
	text := r.plain()
	if markdown {
		text = r.markdown()
	}
	if _, err := io.WriteString(out, text); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

func micros(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprint(d.Microseconds())
}

func ratio(f float64) string {
	if f == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", f)
}

var columns = []string{"what", "clients", "entries", "side", "per second", "p50 ms", "p95 ms", "p99 ms", "CPU µs", "of it database", ": raw", ": raw, by CPU"}

func (r *Report) rows() [][]string {
	var out [][]string
	for _, m := range r.Measures {
		if len(m.Sides) == 0 {
			out = append(out, []string{m.Name, "", "", m.Note, "", "", "", "", "", "", "", ""})
		}
		for _, s := range m.Sides {
			entries := ""
			if m.Entries > 0 {
				entries = fmt.Sprintf("%.0f", m.Entries)
			}
			out = append(out, []string{
				m.Name, fmt.Sprint(m.Clients), entries, s.Name, fmt.Sprintf("%.0f", s.Rate), millis(s.P50), millis(s.P95), millis(s.P99),
				micros(s.Own + s.Database), micros(s.Database), ratio(s.Ratio), ratio(s.CPURatio),
			})
		}
	}
	return out
}

// head says what loading came to.
func (r *Report) head() []string {
	l := r.Load
	when := "loaded by an earlier run"
	if l.fresh {
		when = "loaded by this run"
	}
	return []string{
		fmt.Sprintf("Data: %s; %d resources, %s.", l.Data, l.All, when),
		fmt.Sprintf("Loading: %s, %.0f resources per second with %d workers (%d refused), %.0f µs of processor time each, of it %.0f µs in the database. COPY of the same bodies into a table with a primary key: %.0f per second. Cloister : COPY = %.3f.",
			l.Took.Round(time.Second/10), l.rate(), l.Workers, l.Refused, float64((l.Own+l.Database).Microseconds())/float64(max(l.All, 1)), float64(l.Database.Microseconds())/float64(max(l.All, 1)), l.copyRate(), l.rate()/l.copyRate()),
		fmt.Sprintf("Database: %.1f kB per resource, indexes, history and audit included.", l.perResource()/1000),
		fmt.Sprintf("Caller: %s.", r.Caller),
	}
}

// tail says what is no row of the table.
func (r *Report) tail() []string {
	var out []string
	for _, s := range r.Segmentation {
		out = append(out, fmt.Sprintf("Segmentation, the SQL of a page of 100 by hand: %s ms as %s, %s ms unrestricted, %+.1f %% (%d pages in turns).", millis(s.Restricted), s.Caller, millis(s.Free), 100*s.Cost, s.Pages))
	}
	if r.Memory != nil {
		most, early, late := r.Memory.span()
		out = append(out, fmt.Sprintf("Memory of the process, server and %d clients, under the mix at %.0f per second: %d MB in the second tenth of %s, %d MB in the last, %d MB at the most.",
			r.Memory.Clients, r.Memory.Rate, early/1e6, (time.Duration(len(r.Memory.Resident))*r.Memory.Every).Round(time.Second), late/1e6, most/1e6))
	}
	m := r.Machine
	return append(out, fmt.Sprintf("Machine: %d cores, %s of memory, %s, %s, PostgreSQL %s (%s); client, server and database share it. %d rounds of %s each, all sides in turns, medians; %d database connections a side.",
		m.Cores, m.Memory, m.System, m.Go, m.Postgres, m.Settings, r.Rounds, r.Duration, r.MaxConns))
}

func (r *Report) plain() string {
	var b strings.Builder
	b.WriteString(strings.Join(r.head(), "\n") + "\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, strings.Join(columns, "\t"))
	for _, row := range r.rows() {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
	if len(r.Bulk) > 0 {
		b.WriteString("\n")
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, strings.Join(bulkColumns, "\t"))
		for _, x := range r.Bulk {
			_, _ = fmt.Fprintln(w, strings.Join(x.row(), "\t"))
		}
		_ = w.Flush()
	}
	b.WriteString("\n" + strings.Join(r.tail(), "\n") + "\n\n")
	for _, bar := range r.Bars {
		b.WriteString(bar.String() + "\n")
	}
	return b.String()
}

func (r *Report) markdown() string {
	var b strings.Builder
	b.WriteString(strings.Join(r.head(), " ") + "\n\n| " + strings.Join(columns, " | ") + " |\n|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, row := range r.rows() {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	if len(r.Bulk) > 0 {
		b.WriteString("\n| " + strings.Join(bulkColumns, " | ") + " |\n|---|---|" + strings.Repeat("--:|", len(bulkColumns)-2) + "\n")
		for _, x := range r.Bulk {
			b.WriteString("| " + strings.Join(x.row(), " | ") + " |\n")
		}
	}
	b.WriteString("\n" + strings.Join(r.tail(), "\n\n") + "\n")
	if len(r.Bars) > 0 {
		b.WriteString("\n| bar | measured | | |\n|---|--:|--:|---|\n")
	}
	for _, x := range r.Bars {
		verdict, bound := "**missed**", "≥"
		if x.Pass {
			verdict = "met"
		}
		if x.Most {
			bound = "≤"
		}
		fmt.Fprintf(&b, "| %s | %.4g%s | %s %.4g%s | %s |\n", x.Name, x.Got, x.Unit, bound, x.Want, x.Unit, verdict)
	}
	return b.String()
}
