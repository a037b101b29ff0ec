package notify

import (
	"context"
	"net/http"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// sight is what a subscriber may see at one moment: asked anew for each page of changes, and for each try.
type sight struct {
	s    *Service
	who  authz.Principal
	open map[fhir.ResourceType]opening
}

// opening is what of one type may go out.
type opening struct {
	grant authz.Grant
	of    authz.Restriction
}

func (s *Service) sight(who authz.Frozen) *sight {
	return &sight{s: s, who: who.Principal(scopes), open: map[fhir.ResourceType]opening{}}
}

// of plans a type. What a client is not permitted any more is closed, which is no error.
func (v *sight) of(ctx context.Context, t fhir.ResourceType) (opening, error) {
	if o, ok := v.open[t]; ok {
		return o, nil
	}
	var o opening
	g, err := v.s.Engine.Authorize(ctx, v.who, fhir.SearchType, t)
	if err == nil {
		var reach authz.Reach
		if reach, err = v.s.Engine.Outbound(ctx, g, fhir.SearchType, t); err == nil {
			o = opening{g, reach.Of(t)}
		}
	}
	if err != nil && outcome.Of(err).Status() != http.StatusForbidden {
		return o, err
	}
	v.open[t] = o
	return o, nil
}

// version reads one version of a row, if it may go out.
func (v *sight) version(ctx context.Context, t fhir.ResourceType, id fhir.ID, row int64, n fhir.VersionID) (record.Sealed, bool, error) {
	o, err := v.of(ctx, t)
	if err != nil || o.of.Empty() || n < 1 {
		return record.Sealed{}, false, err
	}
	x, err := v.s.Records.VRead(ctx, o.of, id, n)
	if err != nil {
		if outcome.Of(err).Status() == http.StatusNotFound {
			err = nil
		}
		return record.Sealed{}, false, err
	}
	h := vault.Head(x)
	if h.Labels.Any(label.Notes) {
		return record.Sealed{}, false, errNotes
	}
	return x, h.Row == row, nil
}

// gather finds the next events of a subscription, at most as many as go into one message, in the
// order of the changes. It keeps page by page how far it has looked, and its turn with it, since many
// changes may be hidden between two events.
func (s *Service) gather(ctx context.Context, x *Subscription, c contents, o order) error {
	for room := o.most; room > 0; {
		changes, err := s.Subscriptions.Changes(ctx, *x, x.Position, page)
		if err != nil || len(changes) == 0 {
			return err
		}
		found, at, err := s.among(ctx, x, s.sight(c.Principal), o, changes, room)
		if err != nil {
			return err
		}
		if err := s.Subscriptions.Number(ctx, *x, at, found, lease); err != nil {
			return err
		}
		x.Position, x.Events, room = at, x.Events+int64(len(found)), room-len(found)
	}
	return nil
}

// among finds the events among changes, at most so many, and the position up to which it has looked.
func (s *Service) among(ctx context.Context, x *Subscription, v *sight, o order, changes []Change, most int) (found []Event, at int64, err error) {
	selected, err := s.selected(ctx, x, v, o, changes)
	if err != nil {
		return nil, 0, err
	}
	for _, ch := range changes {
		at = ch.Position
		if !selected(ch) {
			continue
		}
		e, ok, err := s.event(ctx, v, o.topic, ch)
		if err != nil {
			return nil, 0, err
		}
		if !ok {
			continue
		}
		if found = append(found, e); len(found) == most {
			break
		}
	}
	return found, at, nil
}

// event reads the version that a change made, and makes an event of it if the topic selects it.
func (s *Service) event(ctx context.Context, v *sight, t Topic, ch Change) (Event, bool, error) {
	x, ok, err := v.version(ctx, ch.Type, ch.ID, ch.Row, ch.Version)
	if err != nil || !ok {
		return Event{}, false, err
	}
	ok, err = t.selects(ctx, x, func() (record.Sealed, bool, error) {
		return v.version(ctx, ch.Type, ch.ID, ch.Row, ch.Version-1)
	})
	return Event{Type: ch.Type, ID: ch.ID, Row: ch.Row, Version: ch.Version, At: vault.Head(x).Updated}, ok, err
}

// selected asks the filters about the resources of changes.
func (s *Service) selected(ctx context.Context, x *Subscription, v *sight, o order, changes []Change) (func(Change) bool, error) {
	ids := map[fhir.ResourceType][]fhir.ID{}
	var deleted []int64
	for _, ch := range changes {
		ids[ch.Type] = append(ids[ch.Type], ch.ID)
		if ch.Deleted {
			deleted = append(deleted, ch.Row)
		}
	}
	free := map[fhir.ResourceType]bool{} // of filters
	rows := map[int64]bool{}
	for t, list := range ids {
		open, err := v.of(ctx, t)
		if err != nil {
			return nil, err
		}
		if open.of.Empty() {
			continue
		}
		opt, err := s.options(ctx, open.grant)
		if err != nil {
			return nil, err
		}
		q, asks, err := o.query(t, list, opt)
		if err != nil {
			return nil, refused(Unreadable, err)
		}
		if !asks {
			free[t] = true
			continue
		}
		reach, err := s.Engine.Outbound(ctx, open.grant, fhir.SearchType, q.Types()...)
		if err != nil {
			return nil, err
		}
		p, err := s.Records.Search(ctx, reach, q)
		if err != nil {
			return nil, err
		}
		for _, m := range p.Entries {
			rows[vault.Head(m).Row] = true
		}
	}
	told := map[int64]bool{}
	if deleted != nil {
		var err error
		if told, err = s.Subscriptions.Told(ctx, *x, deleted); err != nil {
			return nil, err
		}
	}
	return func(ch Change) bool { return free[ch.Type] || rows[ch.Row] || ch.Deleted && told[ch.Row] }, nil
}

// shown is an event with what of it may be told.
type shown struct {
	Event
	out *record.Released // nil: nothing but its number
}

// show reads events again, and lets out what may go out now. The record of that is durable
// when it returns.
func (s *Service) show(ctx context.Context, v *sight, events []Event) ([]shown, error) {
	out := make([]shown, len(events))
	seals, at := map[fhir.ResourceType][]record.Sealed{}, map[fhir.ResourceType][]int{}
	for i, e := range events {
		out[i].Event = e
		x, ok, err := v.version(ctx, e.Type, e.ID, e.Row, e.Version)
		if err != nil {
			return nil, err
		}
		if ok {
			seals[e.Type], at[e.Type] = append(seals[e.Type], x), append(at[e.Type], i)
		}
	}
	for _, t := range fhir.ResourceTypes() {
		if seals[t] == nil {
			continue
		}
		o, err := v.of(ctx, t)
		if err != nil {
			return nil, err
		}
		released, err := s.Gate.Release(ctx, o.grant, t, seals[t]...)
		if err != nil {
			return nil, err
		}
		for n := range released {
			out[at[t][n]].out = &released[n]
		}
	}
	return out, nil
}
