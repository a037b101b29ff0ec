// Package turntest lets tests kill workers: processes that take turns, ended by SIGKILL at any moment.
package turntest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// Faults is how often something is made to fail: CLOISTER_FAULTS, or few times.
func Faults(t testing.TB) int {
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

// Clock is the clock that all processes keep to which know the moment of its beginning. It
// begins on 1 March 2026 at 13:00.
func Clock(begin time.Time) func() time.Time {
	zero := time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)
	begin = begin.Round(0) // without the monotonic clock, which a process has for itself
	return func() time.Time { return zero.Add(time.Since(begin) * hurry).Truncate(time.Millisecond) }
}

// The environment of a worker.
const (
	envBegin = "CLOISTER_TEST_BEGIN"
	envDSN   = "CLOISTER_TEST_WORKER"
	envDir   = "CLOISTER_TEST_DIR"
)

// Place is where a worker works.
type Place struct {
	Begin time.Time // of the clock
	DSN   string
	Dir   string // "": none
}

// Child gives the place of a worker, in its process; a test that is none is skipped.
func Child(t *testing.T) Place {
	t.Helper()
	p := Place{DSN: os.Getenv(envDSN), Dir: os.Getenv(envDir)}
	if p.DSN == "" {
		t.Skip("it is a process that another test starts, and kills")
	}
	nanos, err := strconv.ParseInt(os.Getenv(envBegin), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	p.Begin = time.Unix(0, nanos)
	return p
}

// Work takes turns until whoever started the process is gone; now and then it sweeps. An
// error is another turn's.
func Work(step func(context.Context) (bool, error), sweep func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whoever started it is gone
		stop()
	}()
	fmt.Println("working")
	for ctx.Err() == nil {
		if busy, _ := step(ctx); !busy {
			time.Sleep(5 * time.Millisecond)
		}
		if rand.IntN(20) == 0 { //nolint:gosec // nobody has to be surprised
			_ = sweep(ctx)
		}
	}
}

// Workers are processes that work.
type Workers struct {
	t     testing.TB
	test  string
	place Place
	all   []worker
}

type worker struct {
	*exec.Cmd
	in io.Closer
}

// Start starts so many workers; test is the name of the test that is one, by [Child] and [Work].
func Start(t testing.TB, n int, test string, at Place) *Workers {
	t.Helper()
	w := &Workers{t: t, test: test, place: at}
	t.Cleanup(w.End)
	for range n {
		w.all = append(w.all, w.start())
	}
	return w
}

func (w *Workers) start() worker {
	w.t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run=^"+w.test+"$") //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), envDSN+"="+w.place.DSN, envDir+"="+w.place.Dir, envBegin+"="+strconv.FormatInt(w.place.Begin.UnixNano(), 10))
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "working\n" {
		w.t.Fatalf("a worker does not start: %q %v", line, err)
	}
	return worker{cmd, in}
}

// Kill kills one of them, whichever, with SIGKILL, and starts another one.
func (w *Workers) Kill() {
	w.t.Helper()
	i := rand.IntN(len(w.all)) //nolint:gosec // nobody has to be surprised
	w.all[i].kill()
	w.all[i] = w.start()
}

func (w worker) kill() {
	_ = w.Process.Kill() // it may have ended
	_ = w.Wait()
	_ = w.in.Close()
}

// End kills all of them.
func (w *Workers) End() {
	for _, x := range w.all {
		x.kill()
	}
	w.all = nil
}
