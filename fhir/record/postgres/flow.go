package postgres

import (
	"context"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// protection is what flows along a reference: a record is at least as
// protected as everything that it refers to. What it only mentions it is kept
// with and without, see [write.views].
type protection struct {
	labels   label.Set
	programs []string
}

func (p protection) join(q protection) protection {
	return protection{p.labels | q.labels, sortedUnion(p.programs, q.programs)}
}

func (p protection) equal(q protection) bool {
	return p.labels == q.labels && slices.Equal(p.programs, q.programs)
}

// link is a mention of a local resource.
type link struct {
	to   fhir.Ref
	path string
	must bool // it has to resolve
	node *element.Node

	element bool // it is a Reference, and no URL
}

func parse(in []codec.Link, must, reference bool) []link {
	out := make([]link, 0, len(in))
	for _, l := range in {
		if ref, ok := codec.LocalRef(l.Node.Text); ok {
			out = append(out, link{ref, l.Path, must, l.Node, reference})
		}
	}
	return out
}

const (
	textUnresolved = "the reference does not resolve: there is no such resource"
	textNoteRef    = "psychotherapy and SUD counseling notes are kept separate: no other resource can refer to one"
	textNoteKind   = "a note is kept separate from its first version on: create a new resource of this kind instead"
)

// flow resolves every local reference as the caller would see it, and computes
// each row's labels: those of its own content, those that it had, and those of
// everything that it refers to.
func (w *write) flow(ctx context.Context) error {
	inBatch := map[fhir.Ref]*row{}
	for _, r := range w.rows {
		if r.c.Content != nil {
			inBatch[r.c.Ref] = r
		}
	}
	links := make(map[*row][]link, len(w.rows))
	wanted := map[fhir.Ref]bool{}
	for _, r := range w.rows {
		links[r] = append(parse(r.c.References, !r.c.Import, true), parse(r.c.URLs, false, false)...)
		for _, l := range links[r] {
			if inBatch[l.to] == nil {
				wanted[l.to] = true
			}
		}
	}
	found, err := w.resolve(ctx, wanted)
	if err != nil {
		return err
	}

	state := make(map[*row]protection, len(w.rows))
	outside := make(map[*row][]link, len(w.rows))
	kept := map[fhir.Ref]bool{} // what is referred to as it was before, and the caller does not see
	for _, r := range w.rows {
		if r.unchanged {
			continue
		}
		var p protection
		p.labels, outside[r], r.mentions = r.parts(links[r])
		if r.c.Program {
			p.programs = []string{string(r.c.Ref.ID)}
		}
		if r.old != nil {
			p = p.join(r.old.flows)
		}
		state[r] = p
		for _, l := range links[r] {
			_, ok := found[l.to]
			switch {
			case inBatch[l.to] != nil, ok, w.expected(l.to):
			case r.refersTo(w.tenant(), l.to), r.c.Import:
				// What flowed along it before is in the labels of a row that has but one view.
				if r.kin != nil || r.mentions != nil {
					kept[l.to] = true
				}
				if r.c.Import && w.rehearsal() && l.element {
					r.missing = append(r.missing, record.Missing{Path: l.path, To: l.to.String()})
				}
			case l.must:
				if err := w.fail(r, outcome.At(outcome.Unprocessable, l.path, textUnresolved).Because(record.ErrUnresolved)); !w.collected(err) {
					return err
				}
			}
		}
	}
	if err := w.refusals(); err != nil {
		return err
	}
	hidden, err := w.underlying(ctx, kept)
	if err != nil {
		return err
	}
	reached := func(r *row, p protection, links []link) protection {
		for _, l := range links {
			switch target := inBatch[l.to]; {
			case target == r:
			case target != nil:
				p = p.join(state[target])
			default:
				p = p.join(found[l.to]).join(hidden[l.to])
			}
		}
		return p
	}
	for changed := true; changed; {
		changed = false
		for _, r := range w.rows {
			if r.unchanged {
				continue
			}
			p := reached(r, state[r], outside[r])
			for i := range r.mentions {
				m := &r.mentions[i]
				m.protection = reached(r, m.protection, m.links)
				if !p.apart(m.protection, r.rooted) {
					p = p.join(m.protection)
				}
			}
			if !p.equal(state[r]) {
				state[r], changed = p, true
			}
		}
	}
	for _, r := range w.rows {
		if r.unchanged {
			continue
		}
		r.flows = state[r]
		p := state[r]
		if r.old != nil {
			p = p.join(r.old.protection())
		}
		r.labels, r.programs = p.labels, p.programs
		for _, m := range r.mentions {
			p = p.join(m.protection)
		}
		if err := w.separate(r, p.labels, links[r], found); err != nil {
			return err
		}
		if r.schema == "notes" { // a note has one view
			r.labels, r.programs, r.flows = p.labels, p.programs, p
		}
	}
	return nil
}

// separate keeps notes in their own schema, from their first version on, and
// everything else out of it.
func (w *write) separate(r *row, whole label.Set, links []link, found map[fhir.Ref]protection) error {
	own := r.c.Labels & label.Notes
	if r.old != nil && r.old.schema == "notes" {
		own = r.old.labels & label.Notes
	}
	if own == 0 {
		if whole.Any(label.Notes) {
			for _, l := range links {
				if found[l.to].labels.Any(label.Notes) {
					return w.fail(r, outcome.At(outcome.BusinessRule, l.path, textNoteRef))
				}
			}
			return w.fail(r, outcome.New(outcome.BusinessRule, textNoteRef))
		}
		return nil
	}
	if r.old != nil && r.old.schema == "record" {
		return w.fail(r, outcome.New(outcome.BusinessRule, textNoteKind))
	}
	r.schema = "notes"
	return nil
}

// resolve finds the protection of references, each under the caller's own
// Restriction. A target that she cannot see is not there. The rows stay as they
// are until this transaction ends, so that no label can pass it by.
func (w *write) resolve(ctx context.Context, wanted map[fhir.Ref]bool) (map[fhir.Ref]protection, error) {
	byType := map[fhir.ResourceType][]string{}
	for ref := range wanted {
		byType[ref.Type] = append(byType[ref.Type], string(ref.ID))
	}
	found := map[fhir.Ref]protection{}
	for t, ids := range byType {
		r := w.resolution(t)
		if r.Empty() {
			continue
		}
		slices.Sort(ids)
		for _, schema := range schemas(r) {
			var q statement
			x := restrict(&q, r)
			x.keyed = true
			key := q.arg(ids)
			q.WriteString("SELECT r.* FROM unnest(" + key + "::text[]) AS n(id), LATERAL (SELECT r.id, " + flowColumns("r") + " FROM " +
				schema + ".resource r WHERE NOT r.deleted AND r.id = n.id AND " + x.where("r") + " FOR KEY SHARE OF r) AS r")
			var id string
			var class int16
			var programs []string
			if err := forEach(ctx, w.tx, q.String(), q.args, []any{&id, &class, &programs}, func() error {
				labels, err := w.s.labels(ctx, class)
				if err != nil {
					return err
				}
				ref := fhir.Ref{Type: t, ID: fhir.ID(id)}
				found[ref] = found[ref].join(protection{labels, programs})
				return nil
			}); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func (w *write) resolution(t fhir.ResourceType) authz.Restriction {
	for _, r := range w.rows {
		if x, ok := r.c.Resolve[t]; ok {
			return x
		}
	}
	return authz.Restriction{}
}

// relabel carries a row's grown protection to everything that refers to it,
// and on from there. Labels only ever rise here: a downgrade is a privileged
// operation of its own.
func (w *write) relabel(ctx context.Context) error {
	front := map[fhir.Ref]protection{}
	for _, r := range w.rows {
		if r.unchanged || r.c.Content == nil {
			continue
		}
		p := protection{r.flows.labels &^ label.Notes, r.flows.programs}
		before := protection{}
		if r.old != nil {
			before = protection{r.old.flows.labels &^ label.Notes, r.old.flows.programs}
		}
		// Only a row whose id could be known before can have referrers.
		if known := r.old != nil || r.c.Interaction == fhir.Update; known && !p.equal(before) {
			front[r.c.Ref] = p
		}
	}
	if len(front) == 0 {
		return nil
	}
	if !w.notes {
		return errNeedsNotes // a note may refer to it, too
	}
	// What this transaction writes has been joined with the rest of it already.
	// Only rows outside that grow may still lift it.
	own := []int64{}
	for _, r := range w.all() {
		own = append(own, r.pk)
	}
	for len(front) > 0 {
		next := map[fhir.Ref]protection{}
		for _, schema := range []string{"record", "notes"} {
			if err := w.raise(ctx, schema, front, next, own); err != nil {
				return err
			}
		}
		front, own = next, []int64{} // never nil: that would be NULL
	}
	return nil
}
