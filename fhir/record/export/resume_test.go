package export_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/turn/turntest"
	"github.com/cloister-health/cloister/fhir/search"
)

type (
	mortalJobs struct {
		export.Jobs
		*turntest.Mortal
	}
	mortalRecords struct {
		export.Records
		*turntest.Mortal
	}
	mortalGate struct {
		export.Gate
		*turntest.Mortal
	}
	mortalSink struct {
		export.Sink
		*turntest.Mortal
	}
	mortalObject struct {
		io.WriteCloser
		*turntest.Mortal
	}
)

func (x mortalJobs) Take(ctx context.Context, d time.Duration) (j export.Job, ok bool, err error) {
	j, err = turntest.Do(x.Mortal, "take", func() (j export.Job, err error) { j, ok, err = x.Jobs.Take(ctx, d); return j, err })
	return j, ok, err
}

func (x mortalJobs) Reserve(ctx context.Context, j export.Job, name string, until time.Time) error {
	return turntest.Act(x.Mortal, "reserve", func() error { return x.Jobs.Reserve(ctx, j, name, until) })
}

func (x mortalJobs) Publish(ctx context.Context, j export.Job, next export.Position, parts []export.Part, explained []fhir.ID, longest int) error {
	return turntest.Act(x.Mortal, "publish", func() error { return x.Jobs.Publish(ctx, j, next, parts, explained, longest) })
}

func (x mortalJobs) Finish(ctx context.Context, j export.Job, s export.State, why export.Reason, at time.Time) error {
	return turntest.Act(x.Mortal, "finish", func() error { return x.Jobs.Finish(ctx, j, s, why, at) })
}

func (x mortalJobs) Yield(ctx context.Context, j export.Job, at time.Time) error {
	return turntest.Act(x.Mortal, "yield", func() error { return x.Jobs.Yield(ctx, j, at) })
}

func (x mortalRecords) Search(ctx context.Context, r authz.Reach, q search.Query) (record.Page, error) {
	return turntest.Do(x.Mortal, "search", func() (record.Page, error) { return x.Records.Search(ctx, r, q) })
}

func (x mortalGate) Collect(ctx context.Context, g authz.Grant, t fhir.ResourceType, in ...record.Sealed) ([]record.Released, error) {
	return turntest.Do(x.Mortal, "release", func() ([]record.Released, error) { return x.Gate.Collect(ctx, g, t, in...) })
}

func (x mortalSink) Create(ctx context.Context, name string) (io.WriteCloser, error) {
	w, err := turntest.Do(x.Mortal, "create", func() (io.WriteCloser, error) { return x.Sink.Create(ctx, name) })
	if err != nil {
		return nil, err
	}
	return mortalObject{w, x.Mortal}, nil
}

func (x mortalObject) Write(p []byte) (int, error) {
	return turntest.Do(x.Mortal, "write", func() (int, error) { return x.WriteCloser.Write(p) })
}

func (x mortalObject) Close() error { return turntest.Act(x.Mortal, "close", x.WriteCloser.Close) }

// A worker may be killed at any point, in any number of turns: another one goes on when its
// lease ends, no line is lost, none is there twice, and nothing is left that belongs to nothing.
func TestResume(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Page = 6 })
	ctx := context.Background()
	p := h.exchange()
	const want = "o00 o01 o02 o03 o04 o05 o06 o07 o08 o09 o10 o11 sa"
	deaths := map[string]int{}
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Encounter", "Observation"}})
			m := &turntest.Mortal{At: at, After: after}
			cfg := h.cfg
			cfg.Jobs, cfg.Records, cfg.Gate, cfg.Sink = mortalJobs{cfg.Jobs, m}, mortalRecords{cfg.Records, m}, mortalGate{cfg.Gate, m}, mortalSink{cfg.Sink, m}
			first, err := export.New(cfg)
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
			got := h.fetched(p, id)
			if ids(got["output Observation"]) != want || ids(got["output Encounter"]) != "ea ec" || len(got["error OperationOutcome"]) != 1 {
				t.Errorf("killed %s (call %d): %q %q %d", m.Died, at, ids(got["output Observation"]), ids(got["output Encounter"]), len(got["error OperationOutcome"]))
			}
			if s := h.status(p, id); s.Lines != 15 {
				t.Errorf("killed %s: %d lines, want 15", m.Died, s.Lines)
			}
			if !m.Dead {
				break
			}
		}
	}
	h.Clock.Add(5 * 60_000)
	if err := h.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if parts := strings.Count(h.SQL("SELECT name::text FROM export.part"), "-") / 4; h.objects() != parts || h.SQL("SELECT name::text FROM export.object") != "" {
		t.Errorf("%d objects for %d parts, and of no part: %s", h.objects(), parts, h.SQL("SELECT name::text FROM export.object"))
	}
	var where []string
	for d, n := range deaths {
		where = append(where, fmt.Sprintf("%s %d", d, n))
	}
	sort.Strings(where)
	t.Log(where)
	for _, point := range []string{"take", "search", "release", "reserve", "create", "write", "close", "publish", "finish"} {
		if deaths["before "+point] == 0 || deaths["after "+point] == 0 {
			t.Errorf("nobody was killed at %s", point)
		}
	}
}

// late lets somebody else take a job in the middle of a turn.
type late struct {
	export.Sink
	between func()
}

func (l late) Create(ctx context.Context, name string) (io.WriteCloser, error) {
	w, err := l.Sink.Create(ctx, name)
	l.between()
	return w, err
}

// Whoever is late, because its lease ended while it wrote, publishes nothing, and takes nothing away.
func TestALateWorkerPublishesNothing(t *testing.T) {
	for _, name := range []string{"overtaken", "overtaken by one page", "overtaken and swept", "about to be swept", "cancelled"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(c *export.Config) { c.Page = 2 })
			ctx := context.Background()
			p := h.exchange()
			id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}})
			cfg := h.cfg
			once := false
			var doomed []string // whoever sweeps is about to remove them
			cfg.Sink = late{cfg.Sink, func() {
				if once {
					return
				}
				once = true
				var err error
				h.Clock.Add(61_000) // its lease ends
				switch name {
				case "overtaken":
					h.finish()
				case "overtaken by one page":
					_, err = h.Step(ctx)
				case "overtaken and swept":
					h.finish()
					h.Clock.Add(3 * 60_000)
					err = h.Sweep(ctx)
				case "about to be swept":
					h.Clock.Add(3 * 60_000)
					doomed, err = h.cfg.Jobs.Orphans(ctx, 100)
				case "cancelled":
					err = h.Cancel(ctx, h.Grant(p), id)
				}
				if err != nil {
					t.Error(err)
				}
			}}
			slow, err := export.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := slow.Step(ctx); err != nil {
				t.Fatal(err)
			}
			if !once {
				t.Fatal("nothing came between")
			}
			for _, x := range doomed {
				if err := errors.Join(h.sink.Remove(ctx, x), h.cfg.Jobs.Forget(ctx, x)); err != nil {
					t.Fatal(err)
				}
			}
			h.finish()
			if name != "cancelled" {
				if got := h.fetched(p, id); ids(got["output Patient"]) != "anna bert cleo" {
					t.Errorf("%v", got)
				}
			}
			h.Clock.Add(5 * 60_000)
			if err := h.Sweep(ctx); err != nil {
				t.Fatal(err)
			}
			want := 2
			if name == "cancelled" {
				want = 0
			}
			if h.objects() != want {
				t.Errorf("%d objects, want %d", h.objects(), want)
			}
		})
	}
}

// Clients take turns, however many exports one of them has.
func TestClientsTakeTurns(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Page = 1 })
	ctx := context.Background()
	var of []string
	greedy, modest := h.exchange(), h.exchange()
	modest.Client, modest.Subject = "modest", "iss|modest"
	for range 3 {
		h.accept(greedy, export.Request{Types: []fhir.ResourceType{"Observation"}})
	}
	id := h.accept(modest, export.Request{Types: []fhir.ResourceType{"Patient"}})
	for turn := 1; h.status(modest, id).State != export.Done; turn++ {
		if turn > 8 { // three pages of the modest one, and as many of the other
			t.Fatal("the modest client waits for the greedy one")
		}
		if _, err := h.Step(ctx); err != nil {
			t.Fatal(err)
		}
		of = append(of, h.SQL("SELECT client FROM (SELECT encode(owner, 'hex') AS client FROM export.job ORDER BY turn DESC NULLS LAST LIMIT 1) AS x"))
	}
	for i := 1; i < len(of); i++ {
		if of[i] == of[i-1] {
			t.Errorf("turns %d and %d are of the same client", i, i+1)
		}
	}
	h.finish()
}

// A job that comes to nothing again and again ends, and so does one whose client may not go on.
func TestFailures(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}})
	cfg := h.cfg
	cfg.Sink = wrapped{cfg.Sink, func(string) error { return errors.New("the disk is full") }}
	broken, err := export.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	turns := 0
	for ; h.status(p, id).State != export.Failed && turns < 20; turns++ {
		if _, err := broken.Step(ctx); err == nil {
			t.Fatal("nobody is told")
		}
		h.Clock.Add(10_000)
	}
	if s := h.status(p, id); turns != 8 || s.Reason != export.Internal || s.Files != nil {
		t.Errorf("after %d turns: %+v", turns, s)
	}
	if _, err := h.fetch(p, id, "1.ndjson"); status(err) != 404 {
		t.Errorf("a file of what failed: %v", err)
	}

	// The app is retired in the middle of it.
	retired := false
	cfg = h.cfg
	cfg.Clients = registry(func(client string) error {
		if retired && client == p.Client {
			return authz.ErrDenied
		}
		return nil
	})
	strict, err := export.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}})
	h.finish()
	id = h.accept(p, export.Request{Types: []fhir.ResourceType{"Observation"}})
	if _, err := strict.Step(ctx); err != nil {
		t.Fatal(err)
	}
	retired = true
	if _, err := strict.Step(ctx); err != nil {
		t.Fatal(err)
	}
	if s := h.status(p, id); s.State != export.Failed || s.Reason != export.Denied {
		t.Errorf("the app is retired: %+v", s)
	}
	if _, err := strict.Fetch(ctx, h.Grant(p), done, "1.ndjson"); status(err) != 403 {
		t.Errorf("what was done lets itself out: %v", err)
	}
	if _, err := strict.Accept(ctx, h.Grant(p), export.Request{Level: export.System}); status(err) != 403 {
		t.Errorf("a retired app begins: %v", err)
	}
}

type registry func(client string) error

func (r registry) Standing(_ context.Context, who authz.Frozen) error { return r(who.Client) }

// A page ends where it is long enough, so that what lies in memory does not follow from how
// long single resources are.
func TestPagesAreBoundedByTheirBytes(t *testing.T) {
	h := newHouse(t, func(c *export.Config) { c.Page, c.Bytes = 500, 700 })
	p := h.exchange()
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Observation"}})
	h.finish()
	if got := h.fetched(p, id); ids(got["output Observation"]) != "o00 o01 o02 o03 o04 o05 o06 o07 o08 o09 o10 o11 sa" {
		t.Errorf("%v", ids(got["output Observation"]))
	}
	if n := strings.Count(h.SQL("SELECT 'x' FROM export.part WHERE kind = 'output'"), "x"); n < 5 {
		t.Errorf("%d pages", n)
	}
	if s := h.status(p, id); len(s.Files) != 2 {
		t.Errorf("the pages of one type are not one file: %+v", s.Files)
	}
	h.cfg.Longest = 5
	h.cfg.Bytes = 1 // each page has one all the same
	short, err := export.New(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Service = short
	id = h.accept(p, export.Request{Types: []fhir.ResourceType{"Observation"}})
	h.finish()
	var lines []int
	for _, f := range h.status(p, id).Files {
		if f.Kind == export.Output {
			lines = append(lines, f.Lines)
		}
	}
	if fmt.Sprint(lines) != "[5 5 3]" {
		t.Errorf("files of %v lines", lines)
	}
}

// What lies in the sink tells nothing to whoever has it.
func TestTheSinkIsEncrypted(t *testing.T) {
	h := newHouse(t)
	p := h.exchange()
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}})
	h.finish()
	name := h.SQL("SELECT name::text FROM export.part")
	// The part of another job does not open in the place of this one.
	other := h.accept(p, export.Request{Types: []fhir.ResourceType{"Patient"}})
	h.finish()
	h.Exec("UPDATE export.part SET name = '0b7f4e9c-0000-4000-8000-000000000000' WHERE name = $1", name)
	h.Exec("UPDATE export.part SET name = $1 WHERE job::text = $2", name, other)
	if got, err := h.fetch(p, other, "1.ndjson"); err == nil || got != "" || outcome.Of(err).Status() != 500 {
		t.Errorf("it opens: %q %v", got, err)
	}
	if _, err := h.fetch(p, id, "1.ndjson"); err == nil {
		t.Error("an object that is not there is nothing")
	}
	if strings.Contains(h.SQL("SELECT encode(sealed, 'escape') FROM export.job"), "exchange") {
		t.Error("what the job is about lies open")
	}
}
