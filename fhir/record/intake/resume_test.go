package intake_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/intake"
	"github.com/cloister-health/cloister/fhir/record/turn/turntest"
)

type (
	mortalJobs struct {
		intake.Jobs
		*turntest.Mortal
	}
	mortalGate struct {
		intake.Door
		*turntest.Mortal
	}
	mortalSink struct {
		intake.Sink
		*turntest.Mortal
	}
	mortalObject struct {
		io.WriteCloser
		*turntest.Mortal
	}
)

func (x mortalJobs) Take(ctx context.Context, d time.Duration) (j intake.Job, ok bool, err error) {
	j, err = turntest.Do(x.Mortal, "take", func() (j intake.Job, err error) { j, ok, err = x.Jobs.Take(ctx, d); return j, err })
	return j, ok, err
}

func (x mortalJobs) Reserve(ctx context.Context, name string, until time.Time) error {
	return turntest.Act(x.Mortal, "reserve", func() error { return x.Jobs.Reserve(ctx, name, until) })
}

func (x mortalJobs) Append(ctx context.Context, j intake.Job, c intake.Chunk, at intake.Fetch, until time.Time) error {
	return turntest.Act(x.Mortal, "append", func() error { return x.Jobs.Append(ctx, j, c, at, until) })
}

func (x mortalJobs) Fetched(ctx context.Context, j intake.Job, at intake.Fetch, finding string) error {
	return turntest.Act(x.Mortal, "fetched", func() error { return x.Jobs.Fetched(ctx, j, at, finding) })
}

func (x mortalJobs) Restart(ctx context.Context, j intake.Job) error {
	return turntest.Act(x.Mortal, "restart", func() error { return x.Jobs.Restart(ctx, j) })
}

func (x mortalJobs) Chunks(ctx context.Context, j intake.Job, after, most int) ([]intake.Chunk, error) {
	return turntest.Do(x.Mortal, "chunks", func() ([]intake.Chunk, error) { return x.Jobs.Chunks(ctx, j, after, most) })
}

func (x mortalJobs) Advance(ctx context.Context, j intake.Job, c []record.Cleared, dry bool, e map[fhir.Ref]bool, o intake.Outcome) ([]record.Receipt, error) {
	return turntest.Do(x.Mortal, "advance", func() ([]record.Receipt, error) { return x.Jobs.Advance(ctx, j, c, dry, e, o) })
}

func (x mortalJobs) NextRound(ctx context.Context, j intake.Job, p intake.Phase) error {
	return turntest.Act(x.Mortal, "round", func() error { return x.Jobs.NextRound(ctx, j, p) })
}

func (x mortalJobs) Finish(ctx context.Context, j intake.Job, s intake.State, why intake.Reason, at time.Time) error {
	return turntest.Act(x.Mortal, "finish", func() error { return x.Jobs.Finish(ctx, j, s, why, at) })
}

func (x mortalJobs) Yield(ctx context.Context, j intake.Job, at time.Time) error {
	return turntest.Act(x.Mortal, "yield", func() error { return x.Jobs.Yield(ctx, j, at) })
}

func (x mortalGate) Admit(ctx context.Context, g authz.Grant, c record.Change) (record.Cleared, error) {
	if c.Ref.ID != "n000" && c.Ref.ID != "a" { // two of them stand for all
		if x.Dead {
			return record.Cleared{}, turntest.ErrKilled
		}
		return x.Door.Admit(ctx, g, c)
	}
	return turntest.Do(x.Mortal, "admit", func() (record.Cleared, error) { return x.Door.Admit(ctx, g, c) })
}

func (x mortalSink) Create(ctx context.Context, name string) (io.WriteCloser, error) {
	w, err := turntest.Do(x.Mortal, "create", func() (io.WriteCloser, error) { return x.Sink.Create(ctx, name) })
	if err != nil {
		return nil, err
	}
	return mortalObject{w, x.Mortal}, nil
}

func (x mortalSink) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return turntest.Do(x.Mortal, "open", func() (io.ReadCloser, error) { return x.Sink.Open(ctx, name) })
}

func (x mortalObject) Close() error { return turntest.Act(x.Mortal, "close", x.WriteCloser.Close) }

// A worker may be killed at any point: another one goes on when its lease ends. No line is lost,
// none is taken in or counted twice, and nothing is left that belongs to nothing.
func TestResume(t *testing.T) {
	// Two files, each of which waits for the other one.
	url, reached := files(t, func(w http.ResponseWriter, r *http.Request) {
		text := observation("a", `,"derivedFrom":[{"reference":"Observation/b"}]`) + "\nnot json\n" + observation("n000", "")
		if r.URL.Path == "/2" {
			text = observation("b", `,"hasMember":[{"reference":"Observation/a"}]`) + "\n" + observation("c", `,"derivedFrom":[{"reference":"Observation/gone"}]`)
		}
		serve(text, `"one"`)(w, r)
	})
	h := newHouse(t, reached)
	ctx := context.Background()
	p := h.exchange()
	const want = "0 changed, 0 same, 1 refused, 1 unresolved"
	deaths := map[string]int{}
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			if testing.Short() {
				at += 2
			}
			id, err := h.Accept(ctx, h.Grant(p), intake.Request{Inputs: []intake.Input{{Type: "Observation", URL: url + "/1"}, {Type: "Observation", URL: url + "/2"}}})
			if err != nil {
				t.Fatal(err)
			}
			m := &turntest.Mortal{At: at, After: after}
			cfg := h.cfg
			cfg.Jobs, cfg.Gate, cfg.Sink = mortalJobs{cfg.Jobs, m}, mortalGate{cfg.Gate, m}, mortalSink{cfg.Sink, m}
			first, err := intake.NewService(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for busy := true; busy && !m.Dead; {
				busy, _ = first.Step(ctx)
			}
			if m.Dead {
				deaths[m.Died]++
				if _, err := first.Step(ctx); !errors.Is(err, turntest.ErrKilled) {
					t.Fatalf("the dead walk: %v", err)
				}
				h.Clock.Add(61_000) // its lease ends
			}
			h.finish()
			if got := h.counted(p, id); !strings.HasSuffix(got, want) || !strings.HasPrefix(got, "3 new") {
				t.Errorf("killed %s (call %d): %s", m.Died, at, got)
			}
			if got := h.SQL("SELECT count(*) || ' ' || max(version) FROM record.resource WHERE id IN ('a', 'b') OR id LIKE 'n___'"); got != "3 1" {
				t.Errorf("killed %s (call %d): %s are stored", m.Died, at, got)
			}
			if r := h.report(p, id); strings.Count(r, "line 2\"") != 1 || strings.Count(r, "line 2: Observation/c") != 1 || strings.Count(r, "\n") != 3 {
				t.Errorf("killed %s: %s", m.Died, r)
			}
			if s := h.status(p, id); !strings.HasPrefix(s.Progress, "5 of 5 lines") {
				t.Errorf("killed %s: %s", m.Died, s.Progress)
			}
			h.SQL("WITH a AS (DELETE FROM record.resource WHERE id IN ('a', 'b') OR id LIKE 'n___' RETURNING pk) SELECT ''") // for the next one
			if !m.Dead {
				break
			}
		}
	}
	h.Clock.Add(2 * 3600_000)
	if err := h.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if h.objects() != 0 || h.SQL("SELECT name::text FROM intake.object") != "" {
		t.Errorf("%d objects are left", h.objects())
	}
	var where []string
	for d, n := range deaths {
		where = append(where, fmt.Sprintf("%s %d", d, n))
	}
	sort.Strings(where)
	t.Log(where)
	for _, point := range []string{"take", "reserve", "create", "close", "append", "fetched", "chunks", "open", "admit", "advance", "round", "finish"} {
		if testing.Short() {
			break
		}
		if deaths["before "+point] == 0 || deaths["after "+point] == 0 {
			t.Errorf("nobody was killed at %s", point)
		}
	}
}

// late lets somebody else take a job in the middle of a turn.
type late struct {
	intake.Door
	between func()
}

func (l late) Admit(ctx context.Context, g authz.Grant, c record.Change) (record.Cleared, error) {
	x, err := l.Door.Admit(ctx, g, c)
	l.between()
	return x, err
}

// Whoever is late, because its lease ended while it worked, stores nothing and counts nothing.
func TestALateWorkerStoresNothing(t *testing.T) {
	for _, name := range []string{"overtaken", "cancelled"} {
		h := newHouse(t)
		ctx := context.Background()
		p := h.exchange()
		id := h.upload(p, false, observation("x", ""))
		cfg := h.cfg
		once := false
		cfg.Gate = late{cfg.Gate, func() {
			if once {
				return
			}
			once = true
			h.Clock.Add(61_000) // its lease ends
			if name == "overtaken" {
				h.finish()
			} else if err := h.Cancel(ctx, h.Grant(p), id); err != nil {
				t.Error(err)
			}
		}}
		slow, err := intake.NewService(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := slow.Step(ctx); err != nil {
			t.Fatal(err)
		}
		if !once {
			t.Fatal("nothing came between")
		}
		if name == "overtaken" {
			if got := h.counted(p, id); got != "1 new, 0 changed, 0 same, 0 refused, 0 unresolved" {
				t.Error(got)
			}
		} else if got := h.SQL("SELECT id FROM record.resource WHERE id = 'x'"); got != "" {
			t.Error("what was cancelled is stored")
		}
	}
}
