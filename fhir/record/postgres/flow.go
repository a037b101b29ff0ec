package postgres

import (
	"context"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/search"
)

// protection is what flows along a reference: a record is at least as
// protected as everything that it mentions.
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
}

func parse(in []codec.Link, must bool) []link {
	out := make([]link, 0, len(in))
	for _, l := range in {
		if ref, ok := codec.LocalRef(l.Node.Text); ok {
			out = append(out, link{ref, l.Path, must})
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
		links[r] = append(parse(r.c.References, !r.c.Import), parse(r.c.URLs, false)...)
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
	for _, r := range w.rows {
		if r.unchanged {
			continue
		}
		p := protection{labels: r.c.Labels}
		if r.c.Program {
			p.programs = []string{string(r.c.Ref.ID)}
		}
		if r.old != nil {
			p = p.join(protection{r.old.labels, r.old.programs})
		}
		for _, l := range links[r] {
			target, ok := found[l.to]
			switch {
			case inBatch[l.to] != nil:
			case ok:
				p = p.join(target)
			case r.refersTo(w.tenant(), l.to): // what flowed along it before is in the row's labels
			case l.must:
				return w.fail(r, outcome.At(outcome.Unprocessable, l.path, textUnresolved))
			}
		}
		state[r] = p
	}
	for changed := true; changed; {
		changed = false
		for _, r := range w.rows {
			p := state[r]
			for _, l := range links[r] {
				if target := inBatch[l.to]; target != nil && target != r {
					p = p.join(state[target])
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
		r.labels, r.programs = state[r].labels, state[r].programs
		if err := w.separate(r, links[r], found); err != nil {
			return err
		}
	}
	return nil
}

// separate keeps notes in their own schema, from their first version on, and
// everything else out of it.
func (w *write) separate(r *row, links []link, found map[fhir.Ref]protection) error {
	own := r.c.Labels & label.Notes
	if r.old != nil && r.old.schema == "notes" {
		own = r.old.labels & label.Notes
	}
	if own == 0 {
		if r.labels.Any(label.Notes) {
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
			q.WriteString("SELECT r.* FROM unnest(" + key + "::text[]) AS n(id), LATERAL (SELECT r.id, r.label_class, r.programs FROM " +
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
		p := protection{r.labels &^ label.Notes, r.programs}
		before := protection{}
		if r.old != nil {
			before = protection{r.old.labels &^ label.Notes, r.old.programs}
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
	own := make([]int64, len(w.rows))
	for i, r := range w.rows {
		own[i] = r.pk
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

// raise lifts the referrers of front in one schema, but for those in skip, and adds those that grew to next.
func (w *write) raise(ctx context.Context, schema string, front, next map[fhir.Ref]protection, skip []int64) error {
	byHash := make(map[int64]protection, len(front))
	hashes := make([]int64, 0, len(front))
	for ref, p := range front {
		h := mix(w.tenant(), 0, search.TargetHash(ref))
		byHash[h] = p
		hashes = append(hashes, h)
	}
	// One probe of the index per hash (which is the practice's own, see mix), and
	// then the rows by number: for one condition over many hashes the planner reads
	// the whole practice.
	var referrers []int64
	var pk int64
	if err := forEach(ctx, w.tx, "SELECT x.pk FROM unnest($1::bigint[]) AS f(hash), LATERAL (SELECT r.pk FROM "+schema+
		".resource r WHERE r.refs @> ARRAY[f.hash] AND r.pk <> ALL ($2::bigint[]) OFFSET 0) AS x", []any{hashes, skip}, []any{&pk}, func() error { referrers = append(referrers, pk); return nil }); err != nil || len(referrers) == 0 {
		return err
	}
	slices.Sort(referrers)
	type grown struct {
		pk int64
		p  protection
	}
	var changes []grown
	var t, class int16
	var id string
	var programs []string
	var refs []int64
	lock := "SELECT pk, type, id, label_class, programs, refs FROM " + schema + ".resource WHERE tenant = $1 AND pk = ANY ($2::bigint[]) ORDER BY pk FOR UPDATE"
	if err := forEach(ctx, w.tx, lock, []any{w.tenant(), slices.Compact(referrers)}, []any{&pk, &t, &id, &class, &programs, &refs}, func() error {
		labels, err := w.s.labels(ctx, class)
		if err != nil {
			return err
		}
		was := protection{labels, programs}
		now := was
		for _, h := range refs {
			if p, ok := byHash[h]; ok {
				now = now.join(p)
			}
		}
		if !now.equal(was) {
			changes = append(changes, grown{pk, now})
			next[fhir.Ref{Type: fhir.TypeOf(t), ID: fhir.ID(id)}] = protection{now.labels &^ label.Notes, now.programs}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, c := range changes {
		class, err := w.s.class(ctx, c.p.labels)
		if err != nil {
			return err
		}
		if _, err := w.tx.Exec(ctx, "UPDATE "+schema+".resource SET label_class = $2, programs = $3 WHERE pk = $1", c.pk, class, c.p.programs); err != nil {
			return err
		}
	}
	return nil
}
