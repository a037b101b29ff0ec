package export

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
)

// Destination is where a release is written that is made at once.
type Destination interface {
	// Open begins what there is of a type; each type is opened once, after the one before it was closed.
	Open(t fhir.ResourceType) (Writer, error)
	// Reset forgets all that was written: records changed, and the release is made anew.
	Reset() error
}

// Writer takes the resources of one type, in the order of their surrogates. It takes nothing that is not de-identified.
type Writer interface {
	// Put writes one resource; of is the release that it is of, as [deident.Release.NDJSON] asks for it.
	Put(of *deident.Release, d deident.Deidentified) error
	Close() error
}

// Order is what a release that is made at once is about.
type Order struct {
	Profile   string   // a name, or a canonical URL, with or without |version
	Reference fhir.Ref // of the agreement or the determination by which it is made; the zero Ref is whichever is in force
	// Purpose is that of the recipient, where the one who makes the release is the operator of the server.
	Purpose  string
	Types    []fhir.ResourceType                           // nil: all that can be released
	Progress func(writes bool, t fhir.ResourceType, n int) // is told of each page; may be nil
	To       Destination
}

// Made is what was made.
type Made struct {
	Told
	Transaction time.Time
	Report      deident.Report // for whoever answers for the release, and no part of it
	Lines       map[fhir.ResourceType]int
}

// ForReleases wires a service that makes releases at once, and nothing else: it needs neither jobs, a sink nor keys.
func ForReleases(c Config) (*Service, error) {
	for name, missing := range map[string]bool{
		"Engine": c.Engine == nil, "Gate": c.Gate == nil, "Records": c.Records == nil, "Now": c.Now == nil, "Releases": c.Releases == nil, "OptOuts": c.OptOuts == nil, "Terms": c.Terms == nil,
	} {
		if missing {
			return nil, errors.New("export: " + name + " is missing")
		}
	}
	c.sized()
	return &Service{Config: c}, nil
}

// kept is how long the keys of a release outlast whoever makes it, if that is killed.
const kept = 24 * time.Hour

// Make makes a release of all that a principal may see, and erases its keys.
func (s *Service) Make(ctx context.Context, p authz.Principal, o Order) (Made, error) {
	g, err := s.Engine.Authorize(ctx, p, fhir.Operation, "")
	if err != nil {
		return Made{}, err
	}
	r := Request{Level: System, Released: true, Profile: o.Profile, Types: o.Types, Purpose: o.Purpose}
	under, err := s.releasing(g, &r)
	if err == nil {
		err = r.settle(s.Engine, under)
	}
	if err != nil {
		return Made{}, err
	}
	if told := r.told(); o.Reference != (fhir.Ref{}) && o.Reference != told.Reference {
		return Made{}, outcome.New(outcome.Forbidden, "the document that is named is not the first one on file that is in force for this recipient")
	}
	// The record of it is durable before anything begins.
	if _, err := s.Gate.Release(ctx, g, ""); err != nil {
		return Made{}, err
	}
	k := Key{record.NewID(), 1}
	if err := s.Releases.Begin(ctx, k.Release, p.Tenant, s.Now().Add(kept)); err != nil {
		return Made{}, err
	}
	defer func() { // also of what failed
		if err := s.Releases.Erase(context.WithoutCancel(ctx), k.Release); err != nil && s.Log != nil {
			s.Log.Error("the keys of a release stay until they expire", "error", err)
		}
	}()
	out := Made{Told: *r.told(), Transaction: g.Caller().Now.Truncate(time.Millisecond)}
	for round := range rounds {
		k.Turn = int64(round + 1)
		err = s.make(ctx, p, k, round, &r, o, &out)
		if !errors.Is(err, ErrDrift) {
			break
		}
		if err := o.To.Reset(); err != nil {
			return Made{}, fmt.Errorf("export: %w", err)
		}
	}
	if errors.Is(err, ErrDrift) {
		err = outcome.New(outcome.Conflict, "records changed again and again while the release was made: make it again later").Because(err)
	}
	return out, err
}

// make makes one round.
func (s *Service) make(ctx context.Context, p authz.Principal, k Key, round int, r *Request, o Order, out *Made) error {
	out.Lines = map[fhir.ResourceType]int{}
	// Who makes it is asked anew for each page, as an export is.
	next := func() (*maker, error) {
		g, err := s.Engine.Authorize(ctx, p, fhir.Operation, "")
		if err != nil {
			return nil, err
		}
		m, err := s.maker(g, k, r)
		if err == nil {
			m.at = out.Transaction
		}
		return m, err
	}
	tell := o.Progress
	if tell == nil {
		tell = func(bool, fhir.ResourceType, int) {}
	}
	if err := s.Releases.Enter(ctx, k, p.Tenant, round); err != nil {
		return err
	}
	for _, st := range r.steps() {
		switch st.kind {
		case survey:
			for at, again := (Position{}), true; again; again = at.After != nil {
				m, err := next()
				if err != nil {
					return err
				}
				var n int
				if at.After, n, err = m.survey(ctx, st.t, at.After); err != nil {
					return err
				}
				tell(false, st.t, n)
			}
		case settle:
			m, err := next()
			if err != nil {
				return err
			}
			if out.Report, err = m.settle(ctx); err != nil {
				return err
			}
			out.Held = heldBack(out.Report.Determined)
		default:
			n, err := s.writeAll(ctx, next, st.t, o.To, tell)
			if err != nil {
				return err
			}
			if n > 0 {
				out.Lines[st.t] = n
			}
		}
	}
	return nil
}

// writeAll writes a type to its end. Where there is nothing of it, nothing is opened.
func (s *Service) writeAll(ctx context.Context, next func() (*maker, error), t fhir.ResourceType, to Destination, tell func(bool, fhir.ResourceType, int)) (n int, err error) {
	var w Writer
	defer func() {
		if w != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	for after, again := fhir.ID(""), true; again; again = after != "" {
		m, err := next()
		if err != nil {
			return n, err
		}
		page, err := m.write(ctx, t, after)
		if err != nil {
			return n, err
		}
		after = page.next
		if w == nil && len(page.made) > 0 {
			if w, err = to.Open(t); err != nil {
				return n, fmt.Errorf("export: %w", err)
			}
		}
		for _, d := range page.made {
			if err := w.Put(page.of, d); err != nil {
				return n, fmt.Errorf("export: %w", err)
			}
			n++
		}
		tell(true, t, len(page.made))
	}
	return n, nil
}
