package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/turn"
)

// Run works on jobs until ctx ends, on so many at a time, and removes what is to be removed.
func (s *Service) Run(ctx context.Context, workers int) {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() { turn.Every(ctx, s.Log, "bulk import", time.Second, s.Step) })
	}
	all.Go(func() {
		turn.Every(ctx, s.Log, "bulk import", 30*time.Second, func(ctx context.Context) (bool, error) { return false, s.Sweep(ctx) })
	})
	all.Wait()
}

// Step takes one turn with the job whose client has waited the longest: it fetches an input, or
// takes in a batch. It is not busy where nothing waits. Wherever it is cut off, the next turn
// begins where the last one that counted has ended.
func (s *Service) Step(ctx context.Context) (busy bool, err error) {
	j, ok, err := s.Jobs.Take(ctx, lease)
	if err != nil || !ok {
		return false, err
	}
	err = turn.Safely(func() error { return s.turn(ctx, &j) })
	switch {
	case err == nil, errors.Is(err, ErrOver):
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err() // its lease ends
	case turn.Denied(err):
		return true, s.fail(ctx, j, Denied)
	case j.Attempts >= attempts:
		return true, errors.Join(err, s.fail(ctx, j, Internal))
	default:
		return true, errors.Join(err, over(s.Jobs.Yield(ctx, j, s.Now().Add(patience))))
	}
}

func (s *Service) fail(ctx context.Context, j Job, why Reason) error {
	return over(s.Jobs.Finish(ctx, j, Failed, why, s.Now().Add(s.Keep)))
}

// over makes nothing of it where the turn is over anyway.
func over(err error) error {
	if errors.Is(err, ErrOver) {
		return nil
	}
	return err
}

// turn does the next piece of a job.
func (s *Service) turn(ctx context.Context, j *Job) error {
	key, c, err := s.open(ctx, j)
	if err != nil {
		return err
	}
	// The client is asked for anew each time: neither its token nor the batch before says anything of now.
	if err := s.standing(ctx, c.Principal); err != nil {
		return err
	}
	if j.Input < len(c.Request.Inputs) {
		return s.fetch(ctx, j, key, c)
	}
	return s.load(ctx, j, key, c)
}

const togetherBytes = 32 << 20

// load takes in the next batch of a round, or begins the next round.
func (s *Service) load(ctx context.Context, j *Job, key *envelope.StreamKey, c contents) error {
	most := 1
	if j.Phase != Apart {
		most = s.Together // each has a line that waits
	}
	chunks, err := s.Jobs.Chunks(ctx, *j, j.Chunk, most)
	if err != nil {
		return err
	}
	if len(chunks) == 0 {
		return s.round(ctx, j)
	}
	b := batch{s: s, j: j, c: c, dry: c.Request.Dry, before: map[int]int{}}
	size := 0
	for _, x := range chunks {
		u, err := s.read(ctx, j, key, x)
		if err != nil {
			return err
		}
		if size += b.add(x, u); len(b.candidates) >= s.Together || size >= togetherBytes {
			break
		}
	}
	return b.load(ctx)
}

// round ends a round: there is nothing left, or what still waits is tried again.
func (s *Service) round(ctx context.Context, j *Job) error {
	waiting, err := s.Jobs.Chunks(ctx, *j, 0, 1)
	switch {
	case err != nil:
		return err
	case len(waiting) == 0 || j.Phase == Final:
		return s.Jobs.Finish(ctx, *j, Done, "", s.Now().Add(s.Keep))
	case j.Progress:
		return s.Jobs.NextRound(ctx, *j, Apart)
	}
	return s.Jobs.NextRound(ctx, *j, j.Phase+1)
}

// batch is one turn.
type batch struct {
	s          *Service
	j          *Job
	c          contents
	dry        bool
	chunks     []Chunk
	before     map[int]int // by chunk: lines that waited, or all of them
	of         []Chunk     // by candidate
	candidates []*Candidate
}

// add adds the lines of a chunk that are to be tried, and says how long they are.
func (b *batch) add(x Chunk, u *Unit) (size int) {
	b.chunks, b.before[x.Number] = append(b.chunks, x), len(x.Waiting)
	if x.Waiting == nil {
		b.before[x.Number] = x.Lines
	}
	want := b.c.Request.Inputs[x.Input-1].Type
	for _, c := range u.Parse() {
		if x.Waiting != nil && !slices.Contains(x.Waiting, c.Line) {
			continue
		}
		if c.Fate == Pending && want != "" && c.Resource.Type != want {
			c.refuse(outcome.New(outcome.Invalid, "the line is not of the type that the manifest gives for its file: move it to another file"))
			c.Ref = fhir.Ref{}
		}
		if c.Fate == Pending {
			b.sourced(c.Resource)
		}
		b.candidates, b.of = append(b.candidates, c), append(b.of, x)
	}
	return len(u.Body)
}

// sourced says where a resource is from, if it does not say so itself (Bulk Data Import
// Proposal, "Preserving Resource provenance").
func (b *batch) sourced(r *codec.Resource) {
	if b.c.Request.Source == "" {
		return
	}
	meta := r.Root.Get("meta")
	if meta == nil {
		meta = element.NewObject()
		r.Root.Set("meta", meta)
	}
	if meta.Get("source") == nil {
		meta.Set("source", element.NewString(b.c.Request.Source))
	}
}

func (b *batch) load(ctx context.Context) error {
	l := &Loader{Finder: b.s.Finder, Engine: b.s.Engine, Gate: b.s.Gate, Principal: b.c.Principal.Principal(scopes), Base: b.s.Base, Advise: true}
	expected, err := b.expected(ctx, l)
	if err != nil {
		return err
	}
	refers, err := b.waitsFor(ctx)
	if err != nil {
		return err
	}
	return l.Load(ctx, Batch{Candidates: b.candidates, Last: b.j.Phase == Final}, func(ctx context.Context, cleared []record.Cleared) ([]record.Receipt, error) {
		for c, paths := range refers {
			b.explain(c, paths)
		}
		return b.s.Jobs.Advance(ctx, *b.j, cleared, b.dry, expected, b.outcome())
	})
}

// expected are the resources that a dry run takes for stored: other lines would have brought them.
func (b *batch) expected(ctx context.Context, l *Loader) (map[fhir.Ref]bool, error) {
	if !b.dry {
		return nil, nil
	}
	texts := map[[16]byte]string{}
	b.references(func(_ *Candidate, _, text string) { texts[digest(text)] = text })
	digests := make([][16]byte, 0, len(texts))
	for d := range texts {
		digests = append(digests, d)
	}
	found, err := b.s.Jobs.Expected(ctx, *b.j, digests)
	if err != nil {
		return nil, err
	}
	out := map[fhir.Ref]bool{}
	l.expected = map[string]bool{}
	for d := range found {
		if ref, ok := fhir.ParseRef(texts[d]); ok {
			out[ref] = true
		} else {
			l.expected[texts[d]] = true
		}
	}
	return out, nil
}

// references calls f with each reference of the lines that are still to be stored: its path, and where it leads.
func (b *batch) references(f func(c *Candidate, path, text string)) {
	for _, c := range b.candidates {
		if c.Fate != Pending {
			continue
		}
		c.Resource.Localise(b.s.Base)
		for _, x := range c.Resource.References() {
			text := sought(x.Node.Text)
			if ref, ok := codec.LocalRef(text); ok && !conditional(text) {
				text = ref.String()
			}
			f(c, x.Path, text)
		}
	}
}

// waits marks what a line would bring that waits in the phase Together, beside what a dry run brings.
func waits(text string) [16]byte { return digest("waits\n" + text) }

// waitsFor says which references of lines, by their paths, lead to lines of the import that wait, too:
// asked at the end, when nothing that waits will be stored any more.
func (b *batch) waitsFor(ctx context.Context) (map[*Candidate]map[string]string, error) {
	if b.j.Phase != Final {
		return nil, nil
	}
	var digests [][16]byte
	b.references(func(_ *Candidate, _, text string) { digests = append(digests, waits(text)) })
	found, err := b.s.Jobs.Expected(ctx, *b.j, digests)
	if err != nil {
		return nil, err
	}
	out := map[*Candidate]map[string]string{}
	b.references(func(c *Candidate, path, text string) {
		if !found[waits(text)] {
			return
		}
		if out[c] == nil {
			out[c] = map[string]string{}
		}
		out[c][path] = text
	})
	return out, nil
}

// explain says of a reference that does not resolve, because a line of the import waits itself, what can be done.
func (b *batch) explain(c *Candidate, paths map[string]string) {
	if c.Fate != Unresolved {
		return
	}
	for i, issue := range c.Issues {
		if to, ok := paths[issue.Path]; ok {
			c.Issues[i].Text = fmt.Sprintf("the reference leads to %s, which is in this import and was not stored either: correct that line, if it is in the report for another reason; where lines refer to each other in a circle of more than %d, import them without this reference first, and then as they are", to, b.s.Together)
		}
	}
}

// outcome is what became of the batch, as far as that is known before it is stored.
func (b *batch) outcome() Outcome {
	o := Outcome{Tally: map[int]Tally{}, Findings: map[int]string{}, Waiting: map[int][]int{}}
	for _, x := range b.chunks {
		o.Next = x.Number
		o.Waiting[x.Number] = []int{}
		if o.Tally[x.Input] == nil {
			o.Tally[x.Input] = Tally{}
		}
	}
	for i, c := range b.candidates {
		x := b.of[i]
		if c.Fate == Waits {
			o.Waiting[x.Number] = append(o.Waiting[x.Number], c.Line)
			if b.j.Phase == Together {
				for _, text := range c.Brings() {
					o.Brought = append(o.Brought, waits(text))
				}
			}
			continue
		}
		if c.Fate == Pending {
			o.Receipts, o.Labels = append(o.Receipts, x.Input), append(o.Labels, c.Labels)
			for _, issue := range c.Issues {
				if issue.Category == outcome.CodeInvalid {
					o.Tally[x.Input][Key{string(c.Ref.Type), countUnknown}]++
				}
			}
			if b.dry {
				for _, text := range c.Brings() {
					o.Brought = append(o.Brought, digest(text))
				}
			}
		} else {
			o.Tally[x.Input].Add(c)
		}
		o.Findings[x.Input] += string(AppendOutcome(nil, b.c.Request.name(x.Input), c, c.Issues))
	}
	for _, x := range b.chunks {
		o.Settled += b.before[x.Number] - len(o.Waiting[x.Number])
	}
	return o
}

// name is an input as the report names it.
func (r *Request) name(input int) string {
	if t := r.Inputs[input-1].Type; t != "" {
		return fmt.Sprintf("input %d (%s)", input, t)
	}
	return fmt.Sprintf("input %d", input)
}
