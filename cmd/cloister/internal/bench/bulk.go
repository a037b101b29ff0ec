package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// Bulk is what one bulk job cost: the medians of the rounds.
type Bulk struct {
	Name      string        `json:"name"`
	Side      string        `json:"side"`
	Resources int64         `json:"resources"` // lines or rows that were written
	Bytes     int64         `json:"bytes"`     // of them, before compression
	Took      time.Duration `json:"took_ns"`
	Own       time.Duration `json:"own_cpu_ns"`      // processor time of this process
	Database  time.Duration `json:"database_cpu_ns"` // of the private database
	Peak      int64         `json:"peak"`            // bytes of memory that this process held at the most
	Ratio     float64       `json:"ratio,omitempty"` // its rate in the raw side's, the median over the rounds
	CPURatio  float64       `json:"cpu_ratio,omitempty"`
}

func (b *Bulk) rate() float64 { return float64(b.Resources) / max(b.Took.Seconds(), 1e-3) }

// each is the time that one resource took.
func (b *Bulk) each() time.Duration { return b.Took / time.Duration(max(b.Resources, 1)) }

// cpu is the processor time that one resource took.
func (b *Bulk) cpu() time.Duration { return (b.Own + b.Database) / time.Duration(max(b.Resources, 1)) }

var bulkColumns = []string{"what", "side", "resources", "per second", "MB per second", "µs each", "CPU µs each", "of it database", "MB of memory", ": raw", ": raw, by CPU"}

func (b *Bulk) row() []string {
	return []string{
		b.Name, b.Side, fmt.Sprint(b.Resources), fmt.Sprintf("%.0f", b.rate()), fmt.Sprintf("%.1f", float64(b.Bytes)/1e6/max(b.Took.Seconds(), 1e-3)), micros(b.each()),
		micros(b.cpu()), micros(b.Database / time.Duration(max(b.Resources, 1))), fmt.Sprint(b.Peak / 1e6), ratio(b.Ratio), ratio(b.CPURatio),
	}
}

// bulkMemory is what a bulk job may take, in MB: this process holds clients, servers and the raw side, too.
const bulkMemory = 400

// bulkBars holds bulk jobs against the bar.
func bulkBars(list []Bulk) (out []Bar) {
	for _, b := range list {
		if b.Side == sideCloister {
			out = append(out, atMost("memory of the process, "+b.Name, float64(b.Peak)/1e6, bulkMemory, " MB"))
		}
	}
	return out
}

// The bulk jobs that are measured.
const (
	rawBulk    = "rows as compressed lines"
	exportName = "export"
	safeName   = "release, safe harbor"
	expertName = "release, expert determination"
	tablesName = "release as Parquet, safe harbor"
)

// bulkWorkers is how many workers there are, as in a server. One job has one page under way at a time.
const bulkWorkers = 2

// jobs are the bulk jobs by their names, with the profile of each, "" for one that is not de-identified, and the format of tables.
var jobs = []struct{ name, profile, format string }{{exportName, "", ""}, {safeName, "safe-harbor", ""}, {expertName, "expert-determination", ""}, {tablesName, "safe-harbor", "parquet"}}

// bulk measures bulk jobs: what an exchange may see of the whole practice, by the workers of a server into a sink on disk.
// The raw side reads all rows of the practice with one cursor and writes their bodies as compressed lines.
func (st *stage) bulk(ctx context.Context, r *Report) error {
	var wanted []func(context.Context) (Bulk, error)
	x := &desk{stage: st}
	for _, j := range jobs {
		if st.wanted(j.name) {
			wanted = append(wanted, func(ctx context.Context) (Bulk, error) { return x.job(ctx, j.name, j.profile, j.format) })
		}
	}
	if wanted == nil {
		return nil
	}
	if err := x.open(ctx); err != nil {
		return err
	}
	defer x.close()
	wanted = append([]func(context.Context) (Bulk, error){x.raw}, wanted...)
	all := make([][]Bulk, len(wanted))
	for round := range st.Rounds {
		for i, do := range wanted {
			b, err := x.metered(ctx, do)
			if err != nil {
				return fmt.Errorf("bench: bulk: %w", err)
			}
			if b.Resources == 0 {
				return fmt.Errorf("bench: %s has written nothing", b.Name)
			}
			all[i] = append(all[i], b)
			st.say("%s, %s, round %d of %d: %d resources, %.0f/s, %v each, %d MB", b.Name, b.Side, round+1, st.Rounds, b.Resources, b.rate(), b.each(), b.Peak/1e6)
		}
	}
	for i := range all {
		r.Bulk = append(r.Bulk, middleBulk(all[i], all[0]))
	}
	return nil
}

// middleBulk is the median of rounds, and their ratios to those of the raw side.
func middleBulk(in, raw []Bulk) Bulk {
	of := func(f func(*Bulk) float64) float64 {
		list := make([]float64, len(in))
		for i := range in {
			list[i] = f(&in[i])
		}
		return median(list)
	}
	out := in[0]
	out.Took = time.Duration(of(func(b *Bulk) float64 { return float64(b.Took) }))
	out.Own = time.Duration(of(func(b *Bulk) float64 { return float64(b.Own) }))
	out.Database = time.Duration(of(func(b *Bulk) float64 { return float64(b.Database) }))
	out.Peak = int64(of(func(b *Bulk) float64 { return float64(b.Peak) }))
	if out.Side == sideRaw {
		return out
	}
	rates, costs := make([]float64, len(in)), make([]float64, len(in))
	for i := range in {
		rates[i], costs[i] = in[i].rate()/raw[i].rate(), float64(raw[i].cpu())/float64(max(in[i].cpu(), 1))
	}
	out.Ratio, out.CPURatio = median(rates), median(costs)
	return out
}

// metered runs one bulk job and looks at the memory of this process meanwhile.
func (x *desk) metered(ctx context.Context, do func(context.Context) (Bulk, error)) (b Bulk, err error) {
	debug.FreeOSMemory() // what the one before it took
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		t := time.NewTicker(50 * time.Millisecond)
		defer t.Stop()
		most := resident()
		for {
			select {
			case <-stop:
				peak <- max(most, resident())
				return
			case <-t.C:
				most = max(most, resident())
			}
		}
	}()
	own, database := processor()
	start := time.Now()
	b, err = do(ctx)
	took := time.Since(start)
	own2, database2 := processor()
	close(stop)
	b.Took, b.Own, b.Database, b.Peak = took, own2-own, database2-database, <-peak
	return b, errors.Join(err, x.clear(ctx))
}

// desk is where bulk jobs are made.
type desk struct {
	*stage
	dir     string
	sink    *export.Disk
	service *export.Service
	who     authz.Principal
	left    []string // jobs that are done
}

// open wires the exports as a server does. Only Settle differs: nobody writes beside a measurement.
func (x *desk) open(ctx context.Context) (err error) {
	if x.dir, err = os.MkdirTemp(x.Dir, "bulk-"); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if x.sink, err = export.OpenDisk(x.dir); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	x.who = exchange(x.tenant)
	laid := &terms.Practices{}
	laid.Set(x.tenant, terms.Terms{Determinations: []terms.Determination{{
		Validity: terms.Validity{Reference: "DocumentReference/expert", Recipients: []string{x.who.Client}, From: "2000-01-01", Until: "2100-01-01"},
		K:        deident.MinK, Days: 50, YearBand: 10, Quasi: []deident.Quasi{deident.Gender, deident.BirthYear},
	}}})
	x.service, err = x.core.Exports(export.Config{
		Base: "http://" + x.house.address + "/fhir", Sink: x.sink, Keys: x.Keys, Terms: laid, Log: slog.New(slog.DiscardHandler), Now: time.Now, Settle: -1,
	}, record.LabelsExchange)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return x.clear(ctx)
}

func (x *desk) close() {
	_ = x.sink.Close()
	_ = os.RemoveAll(x.dir)
}

// exchange is a backend service of a health information exchange.
func exchange(tenant int32) authz.Principal {
	return authz.Principal{Tenant: tenant, Subject: "bench|exchange", Client: "bench", Roles: []string{"hie"}, Purpose: "TREAT", Scopes: smart.Parse("system/*.cruds")}
}

// clear forgets what was written, and brings the tables of the jobs back to what they were.
func (x *desk) clear(ctx context.Context) error {
	for _, id := range x.left {
		g, err := x.core.Engine.Authorize(ctx, x.who, fhir.Operation, "")
		if err != nil {
			return err
		}
		if err := x.service.Cancel(ctx, g, id); err != nil {
			return err
		}
	}
	x.left = nil
	_, err := x.sql.Exec(ctx, "VACUUM (ANALYZE) export.job, export.part, export.object, deident.release, deident.member, deident.patient, deident.cell, deident.piece, deident.rare")
	return err
}

// job makes one job and works on it to its end.
func (x *desk) job(ctx context.Context, name, profile, format string) (Bulk, error) {
	b := Bulk{Name: name, Side: sideCloister}
	g, err := x.core.Engine.Authorize(ctx, x.who, fhir.Operation, "")
	if err != nil {
		return b, err
	}
	id, err := x.service.Accept(ctx, g, export.Request{URL: "http://" + x.house.address + "/fhir/$export", Level: export.System, Released: profile != "", Profile: profile, Format: format})
	if err != nil {
		return b, err
	}
	x.left = append(x.left, id)
	err = x.profile(strings.Map(plainName, name), func() error {
		ctx, stop := context.WithCancel(ctx)
		over := make(chan struct{})
		go func() { defer close(over); x.service.Run(ctx, bulkWorkers) }()
		defer func() { stop(); <-over }()
		return x.await(ctx, id)
	})
	if err != nil {
		return b, err
	}
	err = x.sql.QueryRow(ctx, "SELECT COALESCE(sum(lines), 0), COALESCE(sum(bytes), 0) FROM export.part WHERE job = $1 AND kind = 'output'", id).Scan(&b.Resources, &b.Bytes)
	return b, err
}

// await waits until a job is over.
func (x *desk) await(ctx context.Context, id string) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		var state, reason string
		if err := x.sql.QueryRow(ctx, "SELECT state, reason FROM export.job WHERE id = $1", id).Scan(&state, &reason); err != nil {
			return err
		}
		switch export.State(state) {
		case export.Done:
			return nil
		case export.Failed:
			return errors.New("the job has failed: " + reason)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}
