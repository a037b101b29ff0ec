package intake_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/egress"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/intake"
	"github.com/cloister-health/cloister/fhir/record/turn/turntest"
)

// TestWorkerProcess is no test: it is the worker that TestKilledProcesses starts and kills.
func TestWorkerProcess(t *testing.T) {
	at := turntest.Child(t)
	h, err := open(at.DSN)
	if err != nil {
		t.Fatal(err)
	}
	h.Moving = turntest.Clock(at.Begin)
	sink, err := export.OpenDisk(at.Dir)
	if err != nil {
		t.Fatal(err)
	}
	out, err := egress.New(egress.Config{Local: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := intake.NewService(h.config(sink, out, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	turntest.Work(s.Step, s.Sweep)
}

// Workers are killed, with SIGKILL and at any moment, again and again, while another one goes
// on: every import comes to its end, each line is taken in and counted once, no resource has a
// version more than was sent, and nothing is left that belongs to nothing.
func TestKilledProcesses(t *testing.T) {
	// The first two files of an import wait for each other, in a circle; the third changes what is there.
	url, reached := files(t, func(w http.ResponseWriter, r *http.Request) {
		n, file, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		text := map[string]string{
			"1": observation("a"+n, `,"derivedFrom":[{"reference":"Observation/b`+n+`"}]`) + "\nnot json\n" + observation("n"+n, ""),
			"2": observation("b"+n, `,"hasMember":[{"reference":"Observation/a`+n+`"}]`) + "\n" + observation("c"+n, `,"derivedFrom":[{"reference":"Observation/gone"}]`),
			"3": `{"resourceType":"Patient","id":"anna","name":[{"family":"Anna` + n + `"}]}`,
		}[file]
		serve(text, `"one"`)(w, r)
	})
	h := newHouse(t, reached, func(c *intake.Config) { c.Log = slog.New(slog.DiscardHandler) })
	at := turntest.Place{Begin: time.Now(), DSN: h.DSN, Dir: h.dir}
	now := turntest.Clock(at.Begin)
	h.Moving = now
	p := h.exchange()
	asked := 0
	ask := func() string {
		asked++
		var r intake.Request
		for i, kind := range []string{"Observation", "Observation", "Patient"} {
			r.Inputs = append(r.Inputs, input(kind, fmt.Sprintf("%s/%03d/%d", url, asked, i+1)))
		}
		id, err := h.Accept(context.Background(), h.Grant(p), r)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	check := func(id string) {
		t.Helper()
		if got := h.counted(p, id); got != "3 new, 1 changed, 0 same, 1 refused, 1 unresolved" {
			t.Error(got)
		}
		if r := h.report(p, id); strings.Count(r, "line 2\"") != 1 || strings.Count(r, "line 2: Observation/c") != 1 || strings.Count(r, "\n") != 3 {
			t.Error(r)
		}
		if s := h.status(p, id); !strings.HasPrefix(s.Progress, "6 of 6 lines") {
			t.Error(s.Progress)
		}
	}
	workers := turntest.Start(t, 2, "TestWorkerProcess", at)
	under := []string{ask(), ask()}
	kills, most := 0, turntest.Faults(t)
	deadline := time.Now().Add(2*time.Minute + time.Duration(most)*15*time.Second)
	for kills < most || len(under) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("after %d kills %d imports are under way still", kills, len(under))
		}
		if kills < most {
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
			workers.Kill()
			kills++
		} else {
			time.Sleep(20 * time.Millisecond)
		}
		under = slices.DeleteFunc(under, func(id string) bool {
			s := h.status(p, id)
			if s.State == intake.Failed {
				t.Fatalf("an import failed: %+v", s)
			}
			if s.State == intake.Done {
				check(id)
			}
			return s.State == intake.Done
		})
		for kills < most && len(under) < 2 {
			under = append(under, ask())
		}
	}
	workers.End()
	t.Logf("%d kills, %d imports", kills, asked)
	if got, want := h.SQL("SELECT count(*) || ' ' || max(version) FROM record.resource WHERE id ~ '^[abcn][0-9]+$'"), fmt.Sprintf("%d 1", 3*asked); got != want {
		t.Errorf("%s resources and versions are stored, want %s", got, want)
	}
	if got, want := h.SQL("SELECT version::text FROM record.resource WHERE id = 'anna'"), fmt.Sprint(asked+1); got != want {
		t.Errorf("version %s of what %d imports changed", got, asked)
	}
	h.Moving = func() time.Time { return now().Add(2 * time.Hour) }
	if err := h.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if h.objects() != 0 || h.SQL("SELECT name::text FROM intake.object") != "" {
		t.Errorf("%d objects are left", h.objects())
	}
}

func input(kind, url string) intake.Input {
	return intake.Input{Type: fhir.ResourceType(kind), URL: url}
}
