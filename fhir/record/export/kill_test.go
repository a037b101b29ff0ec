package export_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/turn/turntest"
)

// pageOf tells the workers how long a page is.
const pageOf = "CLOISTER_TEST_PAGE"

// TestWorkerProcess is no test: it is the worker that the tests below start and kill.
func TestWorkerProcess(t *testing.T) {
	at := turntest.Child(t)
	h, err := open(at.DSN)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := export.OpenDisk(at.Dir)
	if err != nil {
		t.Fatal(err)
	}
	h.hurry(at, sink)
	if h.cfg.Page, err = strconv.Atoi(os.Getenv(pageOf)); err != nil {
		t.Fatal(err)
	}
	s, err := export.New(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	turntest.Work(s.Step, s.Sweep)
}

// hurry has the house keep to the clock of the workers, and lets it make releases.
func (h *house) hurry(at turntest.Place, sink export.Sink) {
	h.Moving = turntest.Clock(at.Begin)
	h.cfg = h.config(sink, h.Now, slog.New(slog.DiscardHandler))
	releasing(&h.cfg)
	determined(h, deident.Gender)
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
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"q%02d","gender":"male"}`, i))
	}
	for i := range 8 {
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"r%02d"}`, i))
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
		if err := h.Cancel(context.Background(), h.Grant(h.exchange()), id); err != nil {
			t.Error(err)
		}
		if left := h.SQL("SELECT count(*)::text FROM deident.member WHERE release = $1::text::uuid", id); left != "0" {
			t.Errorf("%s keys are left", left)
		}
	})
}

// And workers that make tables of one: each row is there once.
func TestKilledTables(t *testing.T) {
	h := newHouse(t)
	clinicOf(h)
	r := tabled("parquet", "Condition", "Encounter", "Observation", "Patient")
	killed(t, h, r, func(id string) {
		t.Helper()
		got := h.tables(id, "parquet")
		keyed(t, got)
		if all := fmt.Sprint(len(got["diagnosis"].rows), len(got["encounter"].rows), len(got["level_of_care"].rows), len(got["phq9_score"].rows), len(got["patient"].rows), len(got)); all != "28 2 2 27 17 5" {
			t.Errorf("%s", all)
		}
		if err := h.Cancel(context.Background(), h.Grant(h.exchange()), id); err != nil {
			t.Error(err)
		}
	})
}

// killed asks for exports, two at a time, while the workers that make them are killed, and checks what comes of each.
func killed(t *testing.T, h *house, r export.Request, check func(id string)) {
	t.Helper()
	at := turntest.Place{Begin: time.Now(), DSN: h.DSN, Dir: h.dir}
	page := h.cfg.Page
	h.hurry(at, h.sink)
	h.cfg.Page = page
	var err error
	if h.Service, err = export.New(h.cfg); err != nil {
		t.Fatal(err)
	}
	p := h.exchange()
	ask := func() string { return h.accept(p, r) }
	t.Setenv(pageOf, strconv.Itoa(page))
	workers := turntest.Start(t, 2, "TestWorkerProcess", at)
	under := []string{ask(), ask()}
	done, kills := 0, 0
	deadline := time.Now().Add(time.Minute + time.Duration(turntest.Faults(t))*15*time.Second)
	for most := turntest.Faults(t); kills < most || len(under) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("after %d kills %d exports are under way still", kills, len(under))
		}
		if kills < most {
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			workers.Kill()
			kills++
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
	workers.End()
	now := h.Moving
	h.Moving = func() time.Time { return now().Add(10 * time.Minute) }
	late, err := export.New(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if parts := len(strings.Fields(h.SQL("SELECT name::text FROM export.part"))); h.objects() != parts {
		t.Errorf("%d objects for %d parts", h.objects(), parts)
	}
}
