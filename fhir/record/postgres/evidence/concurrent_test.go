package evidence_test

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

// TestMain lets a test run a sealer as a process of its own, which it can kill.
func TestMain(m *testing.M) {
	if dsn := os.Getenv("EVIDENCE_TEST_SEALER"); dsn != "" {
		keys, err := trail.ReadFile(os.Getenv("EVIDENCE_TEST_KEY"))
		if err != nil {
			panic(err)
		}
		s, err := evidence.New(context.Background(), evidence.Options{URL: dsn, Keys: keys, Outside: os.Getenv("EVIDENCE_TEST_OUTSIDE"), Every: time.Millisecond, SignEvery: 5 * time.Millisecond})
		if err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString("ready\n")
		s.Run(context.Background())
	}
	if os.Getenv(retainURL) != "" {
		os.Exit(retainProcess())
	}
	os.Exit(m.Run())
}

// Several servers write at once, transactions come to nothing, sealers compete and are killed: the trail verifies at any moment, and every row
// that was recorded is sealed once.
func TestHonestHistoriesVerify(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	quick := func(o *evidence.Options) {
		o.Every, o.SignEvery, o.SignRows = time.Millisecond, 20*time.Millisecond, 50
	}
	var sealing, writing sync.WaitGroup
	for range 2 {
		s := h.sealer(quick)
		sealing.Go(func() { s.Run(ctx) })
	}
	var mu sync.Mutex
	recorded := 0
	var enough atomic.Bool
	now := time.Now()
	for server := range 3 {
		store := h.store
		if server > 0 {
			store = h.server()
		}
		for writer := range 3 {
			r := rand.New(rand.NewPCG(uint64(server), uint64(writer)))
			writing.Go(func() {
				for i := 0; i < 40 || !enough.Load(); i++ {
					at := now.Add(-time.Duration(r.Int64N(int64(40 * 24 * time.Hour)))).Truncate(time.Microsecond)
					var err error
					if i%3 == 0 {
						err = store.RecordSecurity(context.Background(), security(at))
					} else {
						err = store.Record(context.Background(), event(at, i))
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					recorded++
					mu.Unlock()
				}
			})
		}
	}
	// Transactions that take numbers and come to nothing, or hold them for long.
	writing.Go(func() {
		c, err := pgx.Connect(ctx, h.dsn)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close(context.Background()) }()
		for i := range 20 {
			tx, err := c.Begin(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := tx.Exec(ctx, "INSERT INTO audit.security (tenant, at, id, kind, outcome, reason, account, fhir_user, actor, client, session, methods, address) SELECT 0, now(), gen_random_uuid(), 'sign-in', '0', '', '', '', '', '', '', '{}', '' FROM generate_series(1, 3)"); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Duration(i) * time.Millisecond)
			if err := tx.Rollback(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	killed := 0
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
			h.killSealer()
			killed++
			enough.Store(killed >= 5)
			h.sound()
		}
	}
	cancel()
	sealing.Wait()
	last := h.sealer()
	seal(t, last)
	report := h.sound(h.outsideToo)
	// PostgreSQL may not have noticed yet that the sealer which was killed last is gone: it is its turn still.
	for until := time.Now().Add(time.Minute); report.Unsealed+report.Unsigned > 0 && time.Now().Before(until); report = h.sound(h.outsideToo) {
		seal(t, last)
	}
	if report.Rows != int64(recorded) || report.Unsealed != 0 || report.Unsigned != 0 || recorded < 360 || killed < 5 {
		t.Errorf("%d were recorded, %d sealers killed: %+v", recorded, killed, report)
	}
	t.Logf("%d rows, %d links, %d checkpoints, %d sealers killed", report.Rows, report.Links, report.Checkpoints, killed)
}

// killSealer lets a sealer work in a process of its own, and kills it in the middle.
func (h *house) killSealer() {
	h.t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this test itself
	cmd.Env = append(os.Environ(), "EVIDENCE_TEST_SEALER="+h.dsn, "EVIDENCE_TEST_KEY="+h.keyFile, "EVIDENCE_TEST_OUTSIDE="+h.outside+".other")
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := io.ReadFull(out, line); err != nil || !strings.HasPrefix(string(line), "ready") {
		h.t.Errorf("the sealer did not start: %q %v", line, err)
	}
	time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
