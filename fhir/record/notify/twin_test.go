package notify_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
)

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[48][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)

// act is one thing that happens in a practice.
type act struct {
	hidden  bool // from the subscriber
	deletes bool
	text    string
}

// acts are random writes, of which the subscriber may see some. What is hidden shares ids,
// patients and moments with nothing that is not.
func acts(r *rand.Rand, n int) (out []act) {
	type one struct {
		text   func(v int) string
		hidden bool
		there  bool
	}
	obs := func(id, patient, more string) func(int) string {
		return func(v int) string {
			return observation(id, patient, fmt.Sprintf(`%s,"valueInteger":%d`, more, v))
		}
	}
	states := []string{"planned", "in-progress", "onleave", "finished"}
	enc := func(id, patient, provider string) func(int) string {
		return func(v int) string { return encounter(id, patient, provider, states[v%len(states)]) }
	}
	var pool []*one
	for i := range 6 {
		id := fmt.Sprint(i)
		pool = append(pool,
			&one{text: obs("v"+id, []string{"anna", "bert", "cleo"}[i%3], "")}, &one{text: obs("c"+id, "anna", `,"encounter":{"reference":"Encounter/ea"}`)}, &one{text: enc("ve"+id, "cleo", "general")},
			&one{text: obs("h"+id, "bert", `,"encounter":{"reference":"Encounter/eb"},"note":[{"text":"`+canary+`"}]`), hidden: true}, &one{text: enc("he"+id, "bert", "sud"), hidden: true},
			&one{text: func(int) string { return note("hn"+id, "psychotherapy-note") }, hidden: true})
	}
	for v := range n {
		x := pool[r.IntN(len(pool))]
		a := act{hidden: x.hidden, text: x.text(v), deletes: x.there && r.IntN(5) == 0}
		x.there = !a.deletes
		out = append(out, a)
	}
	return out
}

// L29: what a subscriber is sent, and when, is byte for byte what it would be sent by a database
// where what it may not see never happened: events, numbers, batches, heartbeats, tries, status.
func TestL29_TwinsNotifyTheSame(t *testing.T) {
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 6))
		list := acts(r, 120)
		settles, outages := make([]bool, len(list)), make([]bool, len(list))
		for i := range list {
			settles[i], outages[i] = r.IntN(4) == 0, r.IntN(10) == 0
		}
		run := func(twin bool) (string, int) {
			h := newHouse(t)
			p := h.exchange()
			ids := []fhir.ID{
				h.active(p, subscription("resource-change", "full-resource", channel("max-count", "valuePositiveInt", 3), "Observation", "Encounter", "DocumentReference")),
				h.active(p, subscription("resource-change", "id-only", channel("heartbeat-period", "valueUnsignedInt", 30), "Observation?encounter:missing=true", "Encounter?status=finished")),
				h.active(p, subscription("encounter-start", "empty", channel("heartbeat-period", "valueUnsignedInt", 20))),
			}
			// How long it took to begin is not the same in both.
			h.Clock.Store(h.Now().Truncate(3600_000_000_000).UnixMilli() + 3600_000)
			h.Exec("UPDATE notify.subscription SET spoke = $1, due = $1, lease = $1, since = $1", h.Now())
			var sent strings.Builder
			h.box.then = nil
			names := map[string]string{}
			for i, id := range ids {
				names[string(id)] = fmt.Sprintf("subscription-%d", i)
			}
			n := 0
			say := func() {
				for _, m := range h.box.take() {
					body := string(m.Body)
					for id, name := range names {
						body = strings.ReplaceAll(body, id, name)
					}
					fmt.Fprintf(&sent, "%s %v %s\n", m.At, m.Noticed, uuids.ReplaceAllString(body, "<new>"))
					n++
				}
			}
			at := h.Now()
			for i, a := range list {
				at = at.Add(3_000_000_000)
				h.Clock.Store(at.UnixMilli() - 1000)
				if !twin || !a.hidden {
					if a.deletes {
						h.Remove(a.text)
					} else {
						h.Load(a.text)
					}
				}
				h.Clock.Store(at.UnixMilli())
				h.box.fail = nil
				if outages[i] {
					h.box.fail = fmt.Errorf("down")
				}
				if settles[i] {
					h.settle()
					say()
				}
			}
			h.box.fail = nil
			for range 10 {
				h.Clock.Add(10_000)
				h.settle()
				say()
			}
			if strings.Contains(sent.String(), canary) {
				t.Error("the canary is out")
			}
			return sent.String() + h.SQL("SELECT string_agg(concat_ws(' ', status, reason, events, sent, failures, spoke), ', ' ORDER BY types, beat) FROM notify.subscription"), n
		}
		full, n := run(false)
		twin, m := run(true)
		if n < 30 || !strings.Contains(full, "heartbeat") || !strings.Contains(full, "NORDSCLCD") || !strings.Contains(full, `"method":"DELETE"`) {
			t.Errorf("there is next to nothing to compare: %d messages", n)
		}
		if full != twin {
			a, b := strings.Split(full, "\n"), strings.Split(twin, "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Fatalf("seed %d, message %d of %d and %d\n--- full\n%s\n--- twin\n%s", seed, i, n, m, a[i], b[i])
				}
			}
			t.Fatalf("%d and %d messages", n, m)
		}
	}
}
