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
	"github.com/cloister-health/cloister/fhir/record/turn/turntest"
)

type (
	mortalSubscriptions struct {
		notify.Subscriptions
		*turntest.Mortal
	}
	mortalRecords struct {
		notify.Records
		*turntest.Mortal
	}
	mortalGate struct {
		notify.Gate
		*turntest.Mortal
	}
	mortalHooks struct {
		notify.Sender
		*turntest.Mortal
	}
)

func (x mortalSubscriptions) Sequence(ctx context.Context) error {
	return turntest.Act(x.Mortal, "sequence", func() error { return x.Subscriptions.Sequence(ctx) })
}

func (x mortalSubscriptions) Take(ctx context.Context, c notify.Channel, d time.Duration) (s notify.Subscription, ok bool, err error) {
	s, err = turntest.Do(x.Mortal, "take", func() (s notify.Subscription, err error) { s, ok, err = x.Subscriptions.Take(ctx, c, d); return s, err })
	return s, ok, err
}

func (x mortalSubscriptions) Begin(ctx context.Context, s notify.Subscription) (at int64, ready bool, err error) {
	at, err = turntest.Do(x.Mortal, "begin", func() (at int64, err error) { at, ready, err = x.Subscriptions.Begin(ctx, s); return at, err })
	return at, ready, err
}

func (x mortalSubscriptions) Number(ctx context.Context, s notify.Subscription, at int64, events []notify.Event, d time.Duration) error {
	return turntest.Act(x.Mortal, "number", func() error { return x.Subscriptions.Number(ctx, s, at, events, d) })
}

func (x mortalSubscriptions) Delivered(ctx context.Context, s notify.Subscription, n int64, st notify.Status) error {
	return turntest.Act(x.Mortal, "delivered", func() error { return x.Subscriptions.Delivered(ctx, s, n, st) })
}

func (x mortalSubscriptions) Yield(ctx context.Context, s notify.Subscription, at time.Time) error {
	return turntest.Act(x.Mortal, "yield", func() error { return x.Subscriptions.Yield(ctx, s, at) })
}

func (x mortalRecords) VRead(ctx context.Context, r authz.Restriction, id fhir.ID, v fhir.VersionID) (record.Sealed, error) {
	return turntest.Do(x.Mortal, "read", func() (record.Sealed, error) { return x.Records.VRead(ctx, r, id, v) })
}

func (x mortalGate) Release(ctx context.Context, g authz.Grant, t fhir.ResourceType, in ...record.Sealed) ([]record.Released, error) {
	return turntest.Do(x.Mortal, "release", func() ([]record.Released, error) { return x.Gate.Release(ctx, g, t, in...) })
}

func (x mortalHooks) Send(ctx context.Context, m notify.Message) error {
	return turntest.Act(x.Mortal, "send", func() error { return x.Sender.Send(ctx, m) })
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
			m := &turntest.Mortal{At: at, After: after}
			cfg := h.cfg
			cfg.Subscriptions, cfg.Records, cfg.Gate, cfg.Hooks = mortalSubscriptions{cfg.Subscriptions, m}, mortalRecords{cfg.Records, m}, mortalGate{cfg.Gate, m}, mortalHooks{cfg.Hooks, m}
			first, err := notify.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			work := func() {
				for turns := 0; !m.Dead && turns < 400; turns++ {
					if err := cfg.Subscriptions.Sequence(ctx); err != nil {
						return
					}
					if busy, _ := first.Step(ctx); !busy {
						if st := h.state(id); st == "active " {
							return
						}
						h.Clock.Add(1500)
						time.Sleep(5 * time.Millisecond)
					}
				}
			}
			work()
			if m.Dead {
				h.Clock.Add(181_000)
			}
			for range 400 {
				if h.settle(); h.state(id) == "active " {
					break
				}
				h.Clock.Add(1500)
				time.Sleep(5 * time.Millisecond)
			}
			h.Load(observation("a", "anna", fmt.Sprintf(`,"valueInteger":%d`, run)))
			h.Load(note("n", "psychotherapy-note"))
			h.Load(observation("b", "bert", fmt.Sprintf(`,"valueInteger":%d`, run)))
			h.Load(observation("c", "cleo", fmt.Sprintf(`,"valueInteger":%d`, run)))
			work()
			if m.Dead {
				if _, err := first.Step(ctx); !errors.Is(err, turntest.ErrKilled) {
					t.Fatalf("the dead walk: %v", err)
				}
				deaths[m.Died]++
				h.Clock.Add(181_000) // its lease ends
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
						t.Errorf("killed %s: one message says %s and %s", m.Died, before, said)
					}
					continue
				}
				seen[msg.ID] = said
				got = append(got, b.events...)
			}
			if !slices.Equal(got, []string{"1 Observation/a", "2 Observation/b", "3 Observation/c"}) {
				t.Errorf("killed %s (call %d): %q", m.Died, at, got)
			}
			if err := h.Delete(ctx, h.Grant(h.exchange()), id); err != nil {
				t.Fatal(err)
			}
			if !m.Dead {
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
