package export

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/record/turn"
	"github.com/cloister-health/cloister/fhir/search"
)

// Run works on jobs until ctx ends, on so many at a time, and removes what is to be removed.
// When it returns, the turns that were under way are given back.
func (s *Service) Run(ctx context.Context, workers int) {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() { turn.Every(ctx, s.Log, "bulk export", time.Second, s.Step) })
	}
	all.Go(func() {
		turn.Every(ctx, s.Log, "bulk export", 30*time.Second, func(ctx context.Context) (bool, error) { return false, s.Sweep(ctx) })
	})
	all.Wait()
}

// Step takes one turn with the job whose client has waited the longest: the work of one
// page. It is not busy where nothing waits. Wherever it is cut off, the next turn begins
// where the last one that was published has ended.
func (s *Service) Step(ctx context.Context) (busy bool, err error) {
	j, ok, err := s.Jobs.Take(ctx, lease)
	if err != nil || !ok {
		return false, err
	}
	err = turn.Safely(func() error { return s.turn(ctx, &j) })
	switch {
	case err == nil, errors.Is(err, ErrOver) && j.Attempts < attempts:
		return true, nil
	case errors.Is(err, errUnsettled):
		return true, over(s.Jobs.Wait(ctx, j, s.Now().Add(unsettled)))
	case ctx.Err() != nil:
		return false, errors.Join(ctx.Err(), s.giveBack(ctx, j))
	case turn.Denied(err):
		return true, s.fail(ctx, j, Denied)
	case errors.Is(err, errNotes), errors.Is(err, errView), j.Attempts >= attempts: // also where it is over each time, because its keys are gone
		return true, errors.Join(over(err), s.fail(ctx, j, Internal))
	default:
		return true, errors.Join(err, over(s.Jobs.Yield(ctx, j, s.Now().Add(patience))))
	}
}

// giveBack ends a turn that was cut short on purpose, so that nobody waits until its lease ends.
func (s *Service) giveBack(ctx context.Context, j Job) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	return over(s.Jobs.Wait(ctx, j, s.Now()))
}

// fail ends a job, and then erases the keys of its release: whoever is late ends nothing, and erases none. Where it is
// killed in between, [Service.Sweep] erases them.
func (s *Service) fail(ctx context.Context, j Job, why Reason) error {
	if err := s.Jobs.Finish(ctx, j, Failed, why, s.Now().Add(s.Keep)); err != nil || s.Releases == nil {
		return over(err)
	}
	return s.Releases.Erase(ctx, j.ID) // of a job that makes no release there is nothing
}

// over makes nothing of it where the turn is over anyway.
func over(err error) error {
	if errors.Is(err, ErrOver) {
		return nil
	}
	return err
}

var errUnsettled = errors.New("export: changes of before its moment are under way")

var errNotes = errors.New("export: the query let a psychotherapy or SUD counseling note through")

// turn does the next pages of a job, up to the first one that has something in it.
func (s *Service) turn(ctx context.Context, j *Job) error {
	key, c, err := s.open(ctx, j)
	if err != nil {
		return err
	}
	if err := s.standing(ctx, c.Principal); err != nil {
		return err
	}
	if j.Position == (Position{}) {
		// Whoever began to write before the moment of the export may not have come to the end.
		if settled, err := s.Jobs.Settled(ctx, j.Transaction); err != nil {
			return err
		} else if !settled {
			return errUnsettled
		}
	}
	w := &work{s: s, j: j, key: key, c: c}
	if c.Request.Release != nil {
		return s.releaseTurn(ctx, w)
	}
	steps := c.Request.steps()
	at := j.Position
	for at.Step < len(steps) && len(w.parts) == 0 {
		if c.Request.Organized && steps[at.Step].kind == Output {
			if at, err = w.blocks(ctx, at); err != nil {
				return err
			}
			break
		}
		if at, err = w.page(ctx, at, steps[at.Step]); err != nil {
			return err
		}
	}
	if j.Position == (Position{}) {
		if err := w.ignored(ctx); err != nil {
			return err
		}
	}
	if err := s.Jobs.Publish(ctx, *j, at, w.parts, w.explained, s.Longest); err != nil {
		return err
	}
	if at.Step < len(steps) {
		return nil
	}
	return s.Jobs.Finish(ctx, *j, Done, "", s.Now().Add(s.Keep))
}

// work is one turn.
type work struct {
	s         *Service
	j         *Job
	key       *envelope.StreamKey
	c         contents
	parts     []Part
	explained []fhir.ID
}

// page does one page, and gives the place behind it. The client is authorized, and what it may
// reach is planned, at this moment: neither the token of the kick-off nor the page before says anything of it.
func (w *work) page(ctx context.Context, at Position, st step) (Position, error) {
	g, err := w.s.Engine.Authorize(ctx, w.c.Principal.Principal(scopes), fhir.SearchType, st.t)
	if err != nil {
		return at, err
	}
	find := w.search
	if st.kind == Deleted {
		find = w.deleted
	}
	found, next, err := find(ctx, g, at, st.t)
	if err != nil || len(found) == 0 {
		return next, err
	}
	for _, x := range found {
		if vault.Head(x).Labels.Any(label.Notes) {
			return at, errNotes
		}
	}
	// The record of it is durable before anything is written. It is no disclosure before it is fetched.
	out, err := w.s.Gate.Collect(ctx, g, st.t, found...)
	if err != nil {
		return at, err
	}
	if err := w.explain(ctx, out); err != nil {
		return at, err
	}
	return next, w.write(ctx, st, found, out)
}

// search finds the next resources of a type.
func (w *work) search(ctx context.Context, g authz.Grant, at Position, t fhir.ResourceType) ([]record.Sealed, Position, error) {
	next := Position{Step: at.Step + 1}
	if reach, err := w.s.Engine.Outbound(ctx, g, fhir.SearchType, t); err != nil || reach.Of(t).Empty() {
		return nil, next, err
	}
	found, after, err := w.s.resources(ctx, g, &w.c.Request, t, w.j.Transaction, at.After, nil)
	if err != nil {
		return nil, at, err
	}
	if after != nil {
		next = Position{Step: at.Step, After: after}
	}
	if t == provenance && w.c.Request.Provenance == LatestProvenance {
		found, err = w.latest(ctx, g, found)
	}
	return found, next, err
}

// resources finds the next resources of a type that a request is about, by their ids, of those alone if there are
// some; after is the place behind them, nil at the end.
func (s *Service) resources(ctx context.Context, g authz.Grant, r *Request, t fhir.ResourceType, moment time.Time, from *search.Cursor, those []fhir.ID) (found []record.Sealed, after *search.Cursor, err error) {
	opt, err := s.options(ctx, g, moment)
	if err != nil {
		return nil, nil, err
	}
	q, err := r.query(t, opt)
	if err != nil {
		return nil, nil, err
	}
	if len(those) > 0 {
		q.Legs[0].Where = append(q.Legs[0].Where, oneOf(those))
	}
	return s.found(ctx, g, q, moment, s.Page, from)
}

// found finds the next so many resources that a query is about.
func (s *Service) found(ctx context.Context, g authz.Grant, q search.Query, moment time.Time, most int, from *search.Cursor) (found []record.Sealed, after *search.Cursor, err error) {
	q.Count, q.Bytes, q.After = most, s.Bytes, from
	reach, err := s.Engine.Outbound(ctx, g, fhir.SearchType, q.Types()...)
	if err != nil {
		return nil, nil, err
	}
	page, err := s.Records.Search(ctx, reach, q)
	if err != nil {
		return nil, nil, err
	}
	if page.More {
		after = &page.Last
	}
	// What came to be after the moment of the export is for the next one.
	found = slices.DeleteFunc(page.Entries, func(x record.Sealed) bool {
		h := vault.Head(x)
		return h.Created && h.Updated.After(moment)
	})
	return found, after, nil
}

// explain writes, for each consent that a page is disclosed under and that no line of the
// job explains yet, what it permits (42 CFR 2.32(b)).
func (w *work) explain(ctx context.Context, out []record.Released) error {
	var scopes []obligation.Scope
	known := append(slices.Clone(w.j.Explained), w.explained...)
	for _, r := range out {
		for _, x := range r.Scopes() {
			if !slices.Contains(known, x.Consent) {
				known, scopes = append(known, x.Consent), append(scopes, x)
			}
		}
	}
	if scopes == nil {
		return nil
	}
	o, err := w.create(ctx, Part{Kind: Error, Type: "OperationOutcome", Noticed: true})
	if err != nil {
		return err
	}
	defer o.abandon()
	for _, x := range scopes {
		line := []byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational","details":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NORDSCLCD"}],"text":`)
		line = element.AppendQuoted(line, obligation.ShortNotice)
		line = append(line, `},"diagnostics":`...)
		line = element.AppendQuoted(line, w.s.Base+"/Consent/"+string(x.Consent)+" - "+x.Explain())
		if err := o.line(append(line, `}]}`...), vault.Header{Ref: fhir.Ref{Type: "Consent", ID: x.Consent}}); err != nil {
			return err
		}
		w.explained = append(w.explained, x.Consent)
	}
	return w.done(o)
}

// ignored writes, once, what was left out of the request.
func (w *work) ignored(ctx context.Context) error {
	if len(w.c.Request.Ignored) == 0 {
		return nil
	}
	o, err := w.create(ctx, Part{Kind: Error, Type: "OperationOutcome"})
	if err != nil {
		return err
	}
	defer o.abandon()
	for _, what := range w.c.Request.Ignored {
		line := []byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"not-supported","diagnostics":`)
		if err := o.line(append(element.AppendQuoted(line, "ignored: "+what), `}]}`...), vault.Header{}); err != nil {
			return err
		}
	}
	return w.done(o)
}

// write writes the lines of a page.
func (w *work) write(ctx context.Context, st step, found []record.Sealed, out []record.Released) error {
	o, err := w.create(ctx, Part{Kind: st.kind, Type: st.t})
	if err != nil {
		return err
	}
	defer o.abandon()
	if err := w.lines(o, st, found, out); err != nil {
		return err
	}
	return w.done(o)
}

// lines writes the lines of a page into an object.
func (w *work) lines(o *object, st step, found []record.Sealed, out []record.Released) error {
	view, form := w.c.Request.view(st.t), record.Form{Base: w.s.Base, Labels: w.c.Request.Labels}
	var line bytes.Buffer
	for i, r := range out {
		line.Reset()
		if st.kind == Deleted {
			line.WriteString(`{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"` + r.Ref().String() + `"}}]}`)
		} else if err := r.View(view).Render(&line, form); err != nil {
			return err
		}
		o.Noticed = o.Noticed || len(r.Scopes()) > 0
		if err := o.line(line.Bytes(), vault.Head(found[i])); err != nil {
			return err
		}
	}
	return nil
}

// object is a part that is being written: lines, compressed, encrypted, into the sink.
type object struct {
	Part
	to   io.WriteCloser
	seal io.WriteCloser
	zip  *gzip.Writer
	sum  hash.Hash
}

// bound is what the content of an object is bound to.
func bound(job, name string) []byte { return []byte("part\n" + job + "\n" + name) }

// create begins an object. What is known of it before anything of it is there is how it is
// found again if nobody comes to its end.
func (w *work) create(ctx context.Context, p Part) (*object, error) {
	p.Name = record.NewID()
	if err := w.s.Jobs.Reserve(ctx, *w.j, p.Name, w.s.Now().Add(2*lease)); err != nil {
		return nil, err
	}
	to, err := w.s.Sink.Create(ctx, p.Name)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	o := &object{Part: p, to: to, sum: sha256.New()}
	if o.seal, err = w.key.Seal(to, bound(w.j.ID, p.Name)); err != nil {
		o.abandon()
		return nil, fmt.Errorf("export: %w", err)
	}
	o.zip, _ = zips.Get().(*gzip.Writer)
	o.zip.Reset(o.seal)
	return o, nil
}

// zips are compressors that are free: each takes the memory of a thousand resources, and every page needs one.
var zips = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

var errLine = errors.New("export: a resource does not fit on one line")

func (o *object) line(text []byte, h vault.Header) error {
	if bytes.ContainsAny(text, "\n\r") {
		return errLine
	}
	text = append(text, '\n')
	_, _ = o.sum.Write(text) // never fails (hash.Hash)
	if _, err := o.zip.Write(text); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	o.Lines++
	o.Bytes += int64(len(text))
	o.IDs, o.Versions, o.Rows = append(o.IDs, h.Ref.ID), append(o.Versions, h.Version), append(o.Rows, h.Row)
	o.Lengths = append(o.Lengths, int32(len(text))) //nolint:gosec // a resource is shorter
	return nil
}

// abandon ends the writing of an object that did not come to its end.
func (o *object) abandon() {
	if o.to != nil {
		_ = o.to.Close() // nobody will read it
		o.to = nil
	}
}

// done ends an object, which is durable then.
func (w *work) done(o *object) error {
	to := o.to
	o.to = nil
	if err := errors.Join(o.zip.Close(), o.seal.Close(), to.Close()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	o.zip.Reset(nil)
	zips.Put(o.zip)
	o.zip = nil
	copy(o.SHA256[:], o.sum.Sum(nil))
	w.parts = append(w.parts, o.Part)
	return nil
}

// eraseFailed erases the keys of releases that have failed. Who ended one may have been killed before it did so itself: jobs and keys
// are kept by two roles, neither of which reaches what the other keeps, and so in two transactions.
func (s *Service) eraseFailed(ctx context.Context) error {
	kept, err := s.Releases.Kept(ctx)
	if err != nil || len(kept) == 0 {
		return err
	}
	failed, err := s.Jobs.Failed(ctx, kept)
	if err != nil {
		return err
	}
	for _, id := range failed {
		if err := s.Releases.Erase(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// Sweep erases the keys of releases that have expired or failed, and removes what no job refers to: what a worker left behind, and what
// belonged to jobs that were cancelled or have expired.
func (s *Service) Sweep(ctx context.Context) error {
	const batch = 100
	if s.Releases != nil {
		if err := errors.Join(s.Releases.EraseExpired(ctx), s.eraseFailed(ctx)); err != nil {
			return err
		}
	}
	for {
		names, err := s.Jobs.Orphans(ctx, batch)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := s.Sink.Remove(ctx, name); err != nil {
				return fmt.Errorf("export: %w", err)
			}
			if err := s.Jobs.Forget(ctx, name); err != nil {
				return err
			}
		}
		if len(names) < batch {
			return nil
		}
	}
}
