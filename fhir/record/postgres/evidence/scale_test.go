package evidence_test

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

// record adds rows of one day until there are n, by as many writers as share commits.
func (h *house) record(done *atomic.Int64, n int64) {
	h.t.Helper()
	day := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	var wg sync.WaitGroup
	for range 128 {
		wg.Go(func() {
			for {
				i := done.Add(1)
				if i > n {
					done.Add(-1)
					return
				}
				if err := h.store.Record(context.Background(), event(day.Add(time.Duration(i)*time.Millisecond), int(i))); err != nil {
					h.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// live is what the heap holds after a collection, in bytes.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Verifying takes the memory of a batch, however many rows a month has: a quarter of the rows is verified, then all. The rows
// are 24,000, or CLOISTER_TRAIL_ROWS.
func TestVerifyingTakesTheMemoryOfABatch(t *testing.T) {
	n := int64(24_000)
	if v := os.Getenv("CLOISTER_TRAIL_ROWS"); v != "" {
		var err error
		if n, err = strconv.ParseInt(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	h := newHouse(t)
	h.exec("SELECT audit.add_month('2026-03-01')")
	s := h.sealer()
	var done atomic.Int64
	var most [2]uint64
	for i, rows := range []int64{n / 4, n} {
		begun := time.Now()
		before := done.Load()
		h.record(&done, rows)
		recorded := time.Since(begun)
		begun = time.Now()
		for range 1 + rows/5000 {
			seal(t, s)
		}
		sealed := time.Since(begun)
		base := live()
		told := int64(0)
		begun = time.Now()
		report := h.sound(func(v *evidence.Verification) {
			v.Progress = func(rows int64) {
				if told = rows; rows%10_000 == 0 || n < 100_000 {
					now := live()
					most[i] = max(most[i], now-min(base, now))
				}
			}
		})
		t.Logf("%d rows recorded in %v and sealed in %v; %d verified in %v with %d KiB", rows-before, recorded, sealed, report.Rows, time.Since(begun), most[i]>>10)
		if report.Rows != rows || told < rows-1000 {
			t.Errorf("%d rows of %d were verified, progress was told up to %d", report.Rows, rows, told)
		}
	}
	if most[0] == 0 || most[1] > most[0]+1<<20 {
		t.Errorf("%d bytes for a quarter of the rows, %d for all", most[0], most[1])
	}
}
