package export_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// faults is how often something is made to fail: CLOISTER_FAULTS, or few times.
func faults(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("CLOISTER_FAULTS"))
	if err != nil {
		return 6
	}
	return n
}

// hurry is how much faster than the clock on the wall the clock of the workers goes, so
// that the lease of whoever was killed ends soon.
const hurry = 40

// hurried is that clock, which begins at a moment that all processes know; the house keeps to it.
func (h *house) hurried(begin time.Time) func() time.Time {
	zero := time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)
	now := func() time.Time { return zero.Add(time.Since(begin).Round(0) * hurry) }
	h.moving = now
	return now
}

// TestWorkerProcess is no test: it is the worker that TestKilledProcesses starts and kills.
func TestWorkerProcess(t *testing.T) {
	dsn := os.Getenv("CLOISTER_TEST_WORKER")
	if dsn == "" {
		t.Skip("it is started by TestKilledProcesses")
	}
	nanos, err := strconv.ParseInt(os.Getenv("CLOISTER_TEST_BEGIN"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	h, err := open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := export.OpenDisk(os.Getenv("CLOISTER_TEST_DIR"))
	if err != nil {
		t.Fatal(err)
	}
	h.cfg = h.config(sink, h.hurried(time.Unix(0, nanos)), slog.New(slog.DiscardHandler))
	h.cfg.Page = len(os.Getenv("CLOISTER_TEST_PAGE"))
	releasing(&h.cfg)
	determined(h, deident.Gender)
	s, err := export.New(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whoever started it is gone
		stop()
	}()
	fmt.Println("working")
	for ctx.Err() == nil {
		if busy, _ := s.Step(ctx); !busy {
			time.Sleep(5 * time.Millisecond)
		}
		if rand.IntN(20) == 0 {
			_ = s.Sweep(ctx)
		}
	}
}

// worker is a process that works on exports.
type worker struct {
	*exec.Cmd
	in io.Closer
}

func startWorker(t *testing.T, h *house, begin time.Time) worker {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWorkerProcess$") //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), "CLOISTER_TEST_WORKER="+h.dsn, "CLOISTER_TEST_PAGE="+strings.Repeat("x", h.cfg.Page), "CLOISTER_TEST_DIR="+h.dir, "CLOISTER_TEST_BEGIN="+strconv.FormatInt(begin.UnixNano(), 10))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "working\n" {
		t.Fatalf("a worker does not start: %q %v", line, err)
	}
	return worker{cmd, in}
}

// Workers are killed, with SIGKILL and at any moment, again and again, while another one goes
// on: every export comes to its end, with each line once, and nothing is left that belongs to nothing.
func TestKilledProcesses(t *testing.T) {
	h := newHouse(t)
	const want = "ea ec/o00 o01 o02 o03 o04 o05 o06 o07 o08 o09 o10 o11 sa/anna bert cleo/1"
	check := func(id string) {
		t.Helper()
		got := h.fetched(h.exchange(), id)
		if all := ids(got["output Encounter"]) + "/" + ids(got["output Observation"]) + "/" + ids(got["output Patient"]) + "/" + strconv.Itoa(len(got["error OperationOutcome"])); all != want {
			t.Errorf("%s", all)
		}
		if s := h.status(h.exchange(), id); s.Lines != 18 {
			t.Errorf("%d lines", s.Lines)
		}
	}
	killed(t, h, export.Request{Types: []fhir.ResourceType{"Encounter", "Observation", "Patient"}}, check)
}

// Workers that make a release are killed in the same way: each has every line once under one id, references lead
// somewhere, the groups are as large as they have to be, and no keys are left of what was taken away.
func TestKilledReleases(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Page = 12 })
	for i := range 14 {
		h.load(fmt.Sprintf(`{"resourceType":"Patient","id":"q%02d","gender":"male"}`, i))
	}
	for i := range 8 {
		h.load(fmt.Sprintf(`{"resourceType":"Patient","id":"r%02d"}`, i))
	}
	killed(t, h, export.Request{Released: true, Profile: "expert-determination", Types: []fhir.ResourceType{"Encounter", "Observation", "Patient"}}, func(id string) {
		t.Helper()
		got := h.fetched(h.exchange(), id)
		integrity(t, got)
		male := 0
		for _, l := range got["output Patient"] {
			male += strings.Count(l, `"gender":"male"`)
		}
		if all := fmt.Sprint(len(got["output Encounter"]), len(got["output Observation"]), len(got["output Patient"]), male, len(got)); all != "2 13 25 14 3" {
			t.Errorf("%s", all)
		}
		if s := h.status(h.exchange(), id); s.Lines != 40 {
			t.Errorf("%d lines", s.Lines)
		}
		if err := h.Cancel(context.Background(), h.grant(h.exchange()), id); err != nil {
			t.Error(err)
		}
		if left := h.sql("SELECT count(*)::text FROM deident.member WHERE release = $1::text::uuid", id); left != "0" {
			t.Errorf("%s keys are left", left)
		}
	})
}

// killed asks for exports, two at a time, while the workers that make them are killed, and checks what comes of each.
func killed(t *testing.T, h *house, r export.Request, check func(id string)) {
	t.Helper()
	begin := time.Now()
	now := h.hurried(begin)
	page := h.cfg.Page
	h.cfg = h.config(h.sink, now, slog.New(slog.DiscardHandler))
	h.cfg.Page = page
	releasing(&h.cfg)
	determined(h, deident.Gender)
	var err error
	if h.Service, err = export.New(h.cfg); err != nil {
		t.Fatal(err)
	}
	p := h.exchange()
	ask := func() string { return h.accept(p, r) }
	workers := []worker{startWorker(t, h, begin), startWorker(t, h, begin)}
	defer func() {
		for _, w := range workers {
			_ = w.in.Close()
			_ = w.Process.Kill()
			_ = w.Wait()
		}
	}()
	under := []string{ask(), ask()}
	done, kills := 0, 0
	deadline := time.Now().Add(time.Minute + time.Duration(faults(t))*15*time.Second)
	for most := faults(t); kills < most || len(under) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("after %d kills %d exports are under way still", kills, len(under))
		}
		if kills < most {
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			i := rand.IntN(2)
			if err := workers[i].Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = workers[i].Wait()
			kills++
			workers[i] = startWorker(t, h, begin)
		} else {
			time.Sleep(20 * time.Millisecond)
		}
		under = slices.DeleteFunc(under, func(id string) bool {
			s := h.status(p, id)
			if s.State == export.Failed {
				t.Fatalf("an export failed: %+v", s)
			}
			if s.State != export.Done {
				return false
			}
			check(id)
			done++
			return true
		})
		for kills < most && len(under) < 2 {
			under = append(under, ask())
		}
	}
	t.Logf("%d kills, %d exports", kills, done)
	if done < 2 {
		t.Errorf("%d exports came to an end", done)
	}
	for _, w := range workers {
		_ = w.Process.Kill()
		_ = w.Wait()
	}
	h.moving = func() time.Time { return now().Add(10 * time.Minute) }
	h.cfg.Now = h.moving
	late, err := export.New(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if parts := len(strings.Fields(h.sql("SELECT name::text FROM export.part"))); h.objects() != parts {
		t.Errorf("%d objects for %d parts", h.objects(), parts)
	}
}
