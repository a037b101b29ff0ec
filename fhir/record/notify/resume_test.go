package notify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

var errKilled = errors.New("killed")

// mortal is all that a worker touches. At the call of that number the worker is killed:
// before the call, or after it and before anybody hears of it. From then on nothing that it
// does reaches anything, as after kill -9.
type mortal struct {
	at    int
	after bool
	calls int
	dead  bool
	died  string
}

func do[T any](m *mortal, what string, f func() (T, error)) (T, error) {
	var zero T
	m.calls++
	last := m.calls == m.at
	if last && !m.after {
		m.dead, m.died = true, "before "+what
	}
	if m.dead {
		return zero, errKilled
	}
	out, err := f()
	if last {
		m.dead, m.died = true, "after "+what
		return zero, errKilled
	}
	return out, err
}

func act1(m *mortal, what string, f func() error) error {
	_, err := do(m, what, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

type (
	mortalSubscriptions struct {
		notify.Subscriptions
		*mortal
	}
	mortalRecords struct {
		notify.Records
		*mortal
	}
	mortalGate struct {
		notify.Gate
		*mortal
	}
	mortalHooks struct {
		notify.Sender
		*mortal
	}
)

func (x mortalSubscriptions) Sequence(ctx context.Context) error {
	return act1(x.mortal, "sequence", func() error { return x.Subscriptions.Sequence(ctx) })
}

func (x mortalSubscriptions) Take(ctx context.Context, c notify.Channel, d time.Duration) (s notify.Subscription, ok bool, err error) {
	s, err = do(x.mortal, "take", func() (s notify.Subscription, err error) { s, ok, err = x.Subscriptions.Take(ctx, c, d); return s, err })
	return s, ok, err
}

func (x mortalSubscriptions) Begin(ctx context.Context, s notify.Subscription) (at int64, ready bool, err error) {
	at, err = do(x.mortal, "begin", func() (at int64, err error) { at, ready, err = x.Subscriptions.Begin(ctx, s); return at, err })
	return at, ready, err
}

func (x mortalSubscriptions) Number(ctx context.Context, s notify.Subscription, at int64, events []notify.Event, d time.Duration) error {
	return act1(x.mortal, "number", func() error { return x.Subscriptions.Number(ctx, s, at, events, d) })
}

func (x mortalSubscriptions) Delivered(ctx context.Context, s notify.Subscription, n int64, st notify.Status) error {
	return act1(x.mortal, "delivered", func() error { return x.Subscriptions.Delivered(ctx, s, n, st) })
}

func (x mortalSubscriptions) Yield(ctx context.Context, s notify.Subscription, at time.Time) error {
	return act1(x.mortal, "yield", func() error { return x.Subscriptions.Yield(ctx, s, at) })
}

func (x mortalRecords) VRead(ctx context.Context, r authz.Restriction, id fhir.ID, v fhir.VersionID) (record.Sealed, error) {
	return do(x.mortal, "read", func() (record.Sealed, error) { return x.Records.VRead(ctx, r, id, v) })
}

func (x mortalGate) Release(ctx context.Context, g authz.Grant, t fhir.ResourceType, in ...record.Sealed) ([]record.Released, error) {
	return do(x.mortal, "release", func() ([]record.Released, error) { return x.Gate.Release(ctx, g, t, in...) })
}

func (x mortalHooks) Send(ctx context.Context, m notify.Message) error {
	return act1(x.mortal, "send", func() error { return x.Sender.Send(ctx, m) })
}

// A worker may be killed at any point: another one goes on when its lease ends. Every event
// arrives, in order, under one number; what arrives again is the same message.
func TestResume(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	deaths := map[string]int{}
	run := 0
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			run++
			id := h.subscribe(h.exchange(), subscription("resource-change", "id-only", channel("max-count", "valuePositiveInt", 2), "Observation"))
			m := &mortal{at: at, after: after}
			cfg := h.cfg
			cfg.Subscriptions, cfg.Records, cfg.Gate, cfg.Hooks = mortalSubscriptions{cfg.Subscriptions, m}, mortalRecords{cfg.Records, m}, mortalGate{cfg.Gate, m}, mortalHooks{cfg.Hooks, m}
			first, err := notify.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			work := func() {
				for turns := 0; !m.dead && turns < 400; turns++ {
					if err := cfg.Subscriptions.Sequence(ctx); err != nil {
						return
					}
					if busy, _ := first.Step(ctx); !busy {
						if st := h.state(id); st == "active " {
							return
						}
						h.clock.Add(1500)
						time.Sleep(5 * time.Millisecond)
					}
				}
			}
			work()
			if m.dead {
				h.clock.Add(181_000)
			}
			for range 400 {
				if h.settle(); h.state(id) == "active " {
					break
				}
				h.clock.Add(1500)
				time.Sleep(5 * time.Millisecond)
			}
			h.load(observation("a", "anna", fmt.Sprintf(`,"valueInteger":%d`, run)))
			h.load(note("n", "psychotherapy-note"))
			h.load(observation("b", "bert", fmt.Sprintf(`,"valueInteger":%d`, run)))
			h.load(observation("c", "cleo", fmt.Sprintf(`,"valueInteger":%d`, run)))
			work()
			if m.dead {
				if _, err := first.Step(ctx); !errors.Is(err, errKilled) {
					t.Fatalf("the dead walk: %v", err)
				}
				deaths[m.died]++
				h.clock.Add(181_000) // its lease ends
				h.settle()
			}
			var got []string
			seen := map[string]string{}
			for _, msg := range h.box.take() {
				b := readBundle(t, msg.Body)
				if b.kind != "event-notification" {
					continue
				}
				said := fmt.Sprint(b.events)
				if before, again := seen[msg.ID]; again {
					if before != said {
						t.Errorf("killed %s: one message says %s and %s", m.died, before, said)
					}
					continue
				}
				seen[msg.ID] = said
				got = append(got, b.events...)
			}
			if !slices.Equal(got, []string{"1 Observation/a", "2 Observation/b", "3 Observation/c"}) {
				t.Errorf("killed %s (call %d): %q", m.died, at, got)
			}
			if err := h.Delete(ctx, h.grant(h.exchange()), id); err != nil {
				t.Fatal(err)
			}
			if !m.dead {
				break
			}
		}
	}
	var where []string
	for d, n := range deaths {
		where = append(where, fmt.Sprintf("%s %d", d, n))
	}
	sort.Strings(where)
	t.Log(where)
	for _, point := range []string{"sequence", "take", "begin", "read", "number", "release", "send", "delivered"} {
		if deaths["before "+point] == 0 || deaths["after "+point] == 0 {
			t.Errorf("nobody was killed at %s", point)
		}
	}
}
