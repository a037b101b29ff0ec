package notify

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/turn"
)

// Message is one notification on its way.
type Message struct {
	ID       string // the same for each try
	Endpoint string
	Header   []Header
	Body     []byte
	At       time.Time
	Keys     [][]byte // that sign it, the newest first
	Noticed  bool     // the notice of 42 CFR 2.32 goes with it
	Timeout  time.Duration
}

var errNotes = errors.New("notify: the query let a psychotherapy or SUD counseling note through")

// Run delivers until ctx ends, so many subscriptions at a time, and forgets what nobody needs.
func (s *Service) Run(ctx context.Context, workers int) {
	var all sync.WaitGroup
	all.Go(func() {
		turn.Every(ctx, s.Log, "notifications", time.Second, func(ctx context.Context) (bool, error) { return false, s.Subscriptions.Sequence(ctx) })
	})
	for range workers {
		all.Go(func() { turn.Every(ctx, s.Log, "notifications", time.Second, s.Step) })
	}
	all.Go(func() {
		turn.Every(ctx, s.Log, "notifications", time.Minute, func(ctx context.Context) (bool, error) { return false, s.Sweep(ctx) })
	})
	all.Wait()
}

// Sweep forgets what nobody needs any more.
func (s *Service) Sweep(ctx context.Context) error {
	return s.Subscriptions.Sweep(ctx, s.Now().Add(-s.Keep))
}

// Step takes one turn with the subscription that has waited the longest: at most one delivery.
// It is not busy where nothing waits.
func (s *Service) Step(ctx context.Context) (busy bool, err error) {
	x, ok, err := s.Subscriptions.Take(ctx, RestHook, lease)
	if err != nil || !ok {
		return false, err
	}
	return true, s.took(ctx, &x, s.Hooks.Send)
}

// send delivers a message, see [Sender].
type send func(context.Context, Message) error

// took takes the turn that was given, and keeps what became of it.
func (s *Service) took(ctx context.Context, x *Subscription, to send) error {
	err := turn.Safely(func() error { return s.turn(ctx, x, to) })
	var end *ended
	switch {
	case err == nil, errors.Is(err, ErrOver):
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // its lease ends
	case errors.As(err, &end):
		s.Log.Warn("a subscription is in error", "subscription", x.ID, "reason", end.why, "error", turn.Private(end.err))
		return over(s.Subscriptions.Turned(ctx, *x, Failed, end.why))
	default:
		return errors.Join(err, over(s.Subscriptions.Yield(ctx, *x, s.Now().Add(patience))))
	}
}

// ended is what cannot get better by trying again.
type ended struct {
	why Reason
	err error
}

func (e *ended) Error() string { return "notify: " + string(e.why) }

func (e *ended) Unwrap() error { return e.err }

// refused makes of a refusal the end for that reason; what may pass stays what it is.
func refused(why Reason, err error) error {
	switch outcome.Of(err).Status() {
	case http.StatusForbidden, http.StatusUnauthorized, http.StatusUnprocessableEntity, http.StatusBadRequest:
		return &ended{why, err}
	}
	return err
}

// over makes nothing of it where the turn is over anyway.
func over(err error) error {
	if errors.Is(err, ErrOver) {
		return nil
	}
	return err
}

func (s *Service) turn(ctx context.Context, x *Subscription, to send) error {
	if !s.Now().Before(x.Expires) {
		return s.Subscriptions.Turned(ctx, *x, Off, Ended)
	}
	c, o, err := s.ordered(ctx, x)
	if err != nil {
		return refused(Unreadable, err)
	}
	if err := s.standing(ctx, c.Principal); err != nil {
		return refused(Denied, err)
	}
	if !x.Begun {
		position, ready, err := s.Subscriptions.Begin(ctx, *x)
		if err != nil || !ready {
			return errors.Join(err, s.Subscriptions.Yield(ctx, *x, s.Now().Add(time.Second)))
		}
		x.Begun, x.Position = true, position
	}
	if x.Status == Requested || x.greet {
		return s.deliver(ctx, x, c, o, notification{kind: handshake}, to)
	}
	if x.Sent == x.Events {
		if err := s.gather(ctx, x, c, o); err != nil {
			return err
		}
	}
	if x.Sent < x.Events {
		events, err := s.Subscriptions.List(ctx, *x, x.Sent+1, x.Events, o.most)
		if err != nil {
			return err
		}
		told, err := s.show(ctx, s.sight(c.Principal), events)
		if err != nil {
			return err
		}
		return s.deliver(ctx, x, c, o, notification{kind: happened, events: told}, to)
	}
	if x.Beat > 0 && !s.Now().Before(x.Spoke.Add(x.Beat)) {
		return s.deliver(ctx, x, c, o, notification{kind: beat}, to)
	}
	return s.Subscriptions.Yield(ctx, *x, s.Now())
}

// ordered opens a subscription.
func (s *Service) ordered(ctx context.Context, x *Subscription) (contents, order, error) {
	c, err := s.open(ctx, x)
	if err != nil {
		return c, order{}, err
	}
	root, err := c.root()
	if err != nil {
		return c, order{}, err
	}
	o, err := read(root, x.Updated)
	return c, o, err
}

// deliver tries to deliver a notification, and keeps what became of it.
func (s *Service) deliver(ctx context.Context, x *Subscription, c contents, o order, n notification, to send) error {
	now := s.Now()
	n.base, n.x, n.topic, n.content, n.at = s.Base, x, o.topic.URL, o.content, now
	sent := x.Sent
	if k := len(n.events); k > 0 {
		sent = n.events[k-1].Number
	}
	body, err := n.write()
	if err != nil {
		return err
	}
	err = to(ctx, Message{
		ID: "msg_" + n.name(), Endpoint: o.endpoint, Header: o.headers, Body: body, At: now, Keys: c.keys(now), Noticed: n.noticed(), Timeout: time.Duration(o.timeout) * time.Second,
	})
	switch {
	case err == nil:
		x.greeted = n.kind == handshake
		return s.Subscriptions.Delivered(ctx, *x, sent, Active)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errClosed):
		return s.Subscriptions.Yield(ctx, *x, now) // whoever connects next gets it
	case errors.Is(err, ErrGone):
		return s.Subscriptions.Turned(ctx, *x, Failed, Gone)
	case x.Failures+1 >= s.Tries:
		s.Log.Warn("a subscription is in error: its endpoint did not take what was sent", "subscription", x.ID, "tries", s.Tries, "error", err)
		return s.Subscriptions.Turned(ctx, *x, Failed, Undelivered)
	}
	return s.Subscriptions.Undelivered(ctx, *x, s.Now().Add(s.pause(x.Failures)))
}

// pause is how long to wait after so many failures before this one: exponential, with jitter,
// so that what failed together is not tried together.
func (s *Service) pause(failures int) time.Duration {
	d := longest
	if failures < 10 {
		d = min(longest, firstPause<<failures)
	}
	return d/2 + time.Duration(s.Jitter()*float64(d/2))
}
