package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

const notifyName = "notifications"

// told is a subscription that an exchange makes: of every new Observation, with its id.
const told = `{"resourceType":"Subscription","meta":{"profile":["` + notify.Profile + `"]},"status":"requested","reason":"bench","criteria":"https://cloister.health/fhir/SubscriptionTopic/resource-change",
"_criteria":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria","valueString":"Observation?status=final"}]},
"channel":{"type":"rest-hook","endpoint":"https://hook.example/bench","payload":"application/fhir+json","extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-max-count","valuePositiveInt":100}],
"_payload":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content","valueCode":"id-only"}]}}}`

// taker takes every message: what the network and the receiver cost is not measured.
type taker struct{}

func (taker) Check(string, []notify.Header) error { return nil }

func (taker) Send(context.Context, notify.Message) error { return nil }

// notifications measures what it costs the writers that somebody is told of what they write: creates of one
// resource a transaction, while nobody has subscribed, and while somebody has and is told.
func (st *stage) notifications(ctx context.Context, r *Report) error {
	w, err := st.admitted(ctx)
	if err != nil {
		return err
	}
	var asked []request
	for i := range 400 {
		body := fmt.Sprintf(observation, "", w.patients[i%len(w.patients)], i%28)
		asked = append(asked, request{ask("POST", st.house.address, "/fhir/Observation", st.house.writer, []byte(body)), 0})
	}
	s, err := st.core.Notify(notify.Config{
		Base: "http://" + st.house.address + "/fhir", Hooks: taker{}, Keys: st.Keys, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}, record.LabelsExchange)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	x := &subscriber{st: st, s: s, who: exchange(st.tenant)}
	defer x.end()
	return st.measure(ctx, r, notifyName+": create", st.Clients[0], 1, []side{
		{name: sideUnsubscribed, address: st.house.address, requests: asked, before: x.unsubscribe},
		{name: sideCloister, address: st.house.address, requests: asked, before: x.subscribe},
	})
}

// subscriber is somebody who subscribes and ends it again.
type subscriber struct {
	st   *stage
	s    *notify.Service
	who  authz.Principal
	id   fhir.ID
	stop func()
}

func (x *subscriber) grant(ctx context.Context) (authz.Grant, error) {
	return x.st.core.Engine.Authorize(ctx, x.who, fhir.Operation, "")
}

// subscribe makes a subscription, works on it, and waits until it is active.
func (x *subscriber) subscribe(ctx context.Context) error {
	if err := x.unsubscribe(ctx); err != nil {
		return err
	}
	g, err := x.grant(ctx)
	if err != nil {
		return err
	}
	in, err := codec.Parse([]byte(told))
	if err != nil {
		return err
	}
	a, err := x.s.Create(ctx, g, in)
	if err != nil {
		return err
	}
	x.id = a.Ref.ID
	working, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() { defer close(over); x.s.Run(working, bulkWorkers) }()
	x.stop = func() { cancel(); <-over }
	for range 300 {
		var status string
		if err := x.st.sql.QueryRow(ctx, "SELECT status FROM notify.subscription WHERE id = $1", string(x.id)).Scan(&status); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		if notify.Status(status) == notify.Active {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("bench: the subscription did not become active")
}

// unsubscribe ends it, if there is one.
func (x *subscriber) unsubscribe(ctx context.Context) error {
	x.end()
	if x.id == "" {
		return nil
	}
	g, err := x.grant(ctx)
	if err != nil {
		return err
	}
	if err := x.s.Delete(ctx, g, x.id); err != nil {
		return err
	}
	x.id = ""
	if err := x.s.Subscriptions.Sequence(ctx); err != nil {
		return err
	}
	return x.s.Sweep(ctx)
}

// end ends the work.
func (x *subscriber) end() {
	if x.stop != nil {
		x.stop()
		x.stop = nil
	}
}
