package server_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// timings are the durations of two kinds of requests that were sent in a random
// order, so that whatever else the machine does falls on both alike.
type timings struct{ hidden, absent []float64 } // seconds

// advantage is how often, beyond one half, somebody who tells hidden from
// absent by the slower answer is right (the area under the curve of that
// classifier, less one half): 0 is chance, 0.5 is certainty. It compares ranks
// alone, so it says the same on a slow machine and on a fast one.
func (x timings) advantage() float64 {
	type sample struct {
		at     float64
		hidden bool
	}
	var all []sample
	for _, v := range x.hidden {
		all = append(all, sample{v, true})
	}
	for _, v := range x.absent {
		all = append(all, sample{v, false})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].at < all[j].at })
	ranks := 0.0
	for i, s := range all {
		if s.hidden {
			ranks += float64(i + 1)
		}
	}
	n, m := float64(len(x.hidden)), float64(len(x.absent))
	return (ranks-n*(n+1)/2)/(n*m) - 0.5
}

// chance is the standard deviation of the advantage of somebody who guesses.
func (x timings) chance() float64 {
	n, m := float64(len(x.hidden)), float64(len(x.absent))
	return math.Sqrt((n + m + 1) / (12 * n * m))
}

func median(v []float64) time.Duration {
	v = slices.Clone(v)
	slices.Sort(v)
	return time.Duration(v[len(v)/2] * float64(time.Second))
}

// race sends n requests of each kind as a persona.
func (h *house) race(r *rand.Rand, who string, n int, hidden, absent func(i int) call) (x timings) {
	for i := range 2 * n {
		ask, to := hidden, &x.hidden
		if r.IntN(2) == 0 {
			ask, to = absent, &x.absent
		}
		c := ask(i)
		from := time.Now()
		h.do(who, c)
		*to = append(*to, time.Since(from).Seconds())
	}
	return x
}

// hiddenFrom lists records of the practice that a persona cannot read.
func (h *house) hiddenFrom(t *testing.T, who string, rt fhir.ResourceType) (out []string) {
	t.Helper()
	p, _ := persona(who)
	for _, id := range gather(p.Claims.Practice).ids[rt] {
		if h.do(who, get("/"+string(rt)+"/"+id)).status == 404 {
			out = append(out, id)
		}
	}
	if len(out) < 5 {
		t.Fatalf("%s: only %d records of type %s are hidden", who, len(out), rt)
	}
	return out
}

// refers is a create of what refers to a record: it is refused where there is none that the caller may see.
func refers(element, to string) call {
	reference := `{"reference":"` + to + `"}`
	if element == "derivedFrom" {
		reference = "[" + reference + "]"
	}
	return call{method: "POST", path: "/fhir/Observation", body: `{"resourceType":"Observation","status":"final","code":{"text":"weight"},"` + element + `":` + reference + `}`}
}

// most is the advantage that the test lets pass: eight of fifteen guesses right
// where chance gives seven and a half.
const most = 0.05

// TestTiming: how long an answer takes says next to nothing of whether a record
// is hidden or absent. CLOISTER_TIMING_SAMPLES sets the requests of each kind.
// Channels of leaks: L39.
func TestTiming(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of requests")
	}
	n := rounds(t, "CLOISTER_TIMING_SAMPLES", 300)
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	r := rand.New(rand.NewPCG(39, 39))
	for _, c := range []struct {
		name, who string
		rt        fhir.ResourceType
		ask       func(id string) call
	}{
		{"read", "therapist", "DocumentReference", func(id string) call { return get("/DocumentReference/" + id) }},
		{"read by facts", "therapist", "Observation", func(id string) call { return get("/Observation/" + id) }},
		{"vread", "therapist", "Observation", func(id string) call { return get("/Observation/" + id + "/_history/1") }},
		{"history", "therapist", "Observation", func(id string) call { return get("/Observation/" + id + "/_history") }},
		{"search by id", "therapist", "Observation", func(id string) call { return get("/Observation?_id=" + id) }},
		{"search by patient", "therapist", "Patient", func(id string) call { return get("/Observation?patient=" + id + "&_total=accurate") }},
		{"search by encounter", "therapist", "Encounter", func(id string) call { return get("/Observation?encounter=" + id) }},
		{"compartment", "therapist", "Patient", func(id string) call { return get("/Patient/" + id + "/*") }},
		{"everything", "therapist", "Patient", func(id string) call { return get("/Patient/" + id + "/$everything") }},
		{"delete", "therapist", "Observation", func(id string) call { return call{method: "DELETE", path: "/fhir/Observation/" + id} }},
		{"reference to a patient", "therapist", "Patient", func(id string) call { return refers("subject", "Patient/"+id) }},
		{"reference by facts", "therapist", "Observation", func(id string) call { return refers("derivedFrom", "Observation/"+id) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := h.hiddenFrom(t, c.who, c.rt)
			x := h.race(r, c.who, n,
				func(i int) call { return c.ask(ids[i%len(ids)]) },
				func(int) call { return c.ask(record.NewID()) })
			t.Logf("hidden %v, absent %v, advantage %+.3f (chance %.3f)", median(x.hidden), median(x.absent), x.advantage(), x.chance())
			if a := x.advantage(); math.Abs(a) > most+4*x.chance() {
				t.Errorf("hidden and absent are told apart by time: advantage %+.3f", a)
			}
		})
	}
}

// slow is a store that takes a moment longer where there is something to hide.
type slow struct {
	api.Store
	core *server.Core
}

func (s slow) Read(ctx context.Context, r authz.Restriction, id fhir.ID) (record.Sealed, error) {
	x, err := s.Store.Read(ctx, r, id)
	if err != nil {
		_, _ = s.Store.Read(ctx, leaky{s.Store, s.core, ""}.everything(ctx, r, fhir.Read), id)
		if _, found := s.Store.Read(ctx, leaky{s.Store, s.core, ""}.everything(ctx, r, fhir.Read), id); found == nil {
			_, _ = s.Store.Read(ctx, r, id)
		}
	}
	return x, err
}

func TestTimingFindsASlowStore(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of requests")
	}
	h := newHouse(t, cluster.NewDatabase(t, seeded), func(c *server.Core) api.Store { return slow{c.Store, c} })
	ids := h.hiddenFrom(t, "therapist", "Observation")
	x := h.race(rand.New(rand.NewPCG(40, 40)), "therapist", 1000,
		func(i int) call { return get("/Observation/" + ids[i%len(ids)]) },
		func(int) call { return get("/Observation/" + record.NewID()) })
	t.Logf("hidden %v, absent %v, advantage %+.3f (chance %.3f)", median(x.hidden), median(x.absent), x.advantage(), x.chance())
	if x.advantage() < most+4*x.chance() {
		t.Errorf("a store that reads once more where something is hidden has an advantage of %+.3f only", x.advantage())
	}
}
