package export

import (
	"context"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// header is the type of the line that begins a block: Parameters that name its patient
// (Bulk Data Access 3.0, "Bulk Data Output File Organization").
const header fhir.ResourceType = "Parameters"

// asks is how many queries a turn makes at most, so that it ends long before its lease.
const asks = 400

// blocks goes on with the blocks of an export that is organized by patient: a header, the Patient, and what is
// in the compartment, for one patient after the other. A block is in one file, however many turns it takes; a
// patient of whom there is nothing has none.
func (w *work) blocks(ctx context.Context, at Position) (Position, error) {
	var o *object
	defer func() {
		if o != nil {
			o.abandon()
		}
	}()
	types := inBlock(w.c.Request.Types)
	for n := 0; n < asks && at.Step == 0 && (o == nil || o.Lines < w.s.Page && o.Bytes < int64(w.s.Bytes)); n++ {
		if at.Of == "" {
			next, err := w.block(ctx, at.After)
			if err != nil {
				return at, err
			}
			at = next
			continue
		}
		if at.In == len(types) {
			at = following(at.Then)
			if o != nil && o.Joins() { // the next block may have to be in another file
				break
			}
			continue
		}
		r := w.c.Request
		r.block = at.Of
		t := types[at.In]
		g, err := w.s.Engine.Authorize(ctx, w.c.Principal.Principal(scopes), fhir.SearchType, t)
		if err != nil {
			return at, err
		}
		found, after, err := w.s.resources(ctx, g, &r, t, w.j.Transaction, at.After, nil)
		if err != nil {
			return at, err
		}
		at.After = after
		if after == nil {
			at.In++
		}
		if len(found) == 0 {
			continue
		}
		if slices.ContainsFunc(found, func(x record.Sealed) bool { return vault.Head(x).Labels.Any(label.Notes) }) {
			return at, errNotes
		}
		out, err := w.s.Gate.Collect(ctx, g, t, found...)
		if err != nil {
			return at, err
		}
		if err := w.explain(ctx, out); err != nil {
			return at, err
		}
		if o == nil {
			if o, err = w.create(ctx, Part{Kind: Output, Type: "Patient"}); err != nil {
				return at, err
			}
		}
		if !at.Begun {
			at.Begun = true
			if err := o.line([]byte(`{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/`+string(at.Of)+`"}}]}`), vault.Header{Ref: fhir.Ref{Type: header, ID: at.Of}}); err != nil {
				return at, err
			}
			o.Types, o.Blocks = append(o.Types, header), append(o.Blocks, at.Of)
		}
		if err := w.lines(o, step{Output, t}, found, out); err != nil {
			return at, err
		}
		for range found {
			o.Types, o.Blocks = append(o.Types, t), append(o.Blocks, at.Of)
		}
	}
	if o == nil {
		return at, nil
	}
	return at, w.done(o)
}

// inBlock is the order of the types in a block: the patient comes first.
func inBlock(types []fhir.ResourceType) []fhir.ResourceType {
	out := slices.Clone(types)
	slices.SortStableFunc(out, func(a, b fhir.ResourceType) int {
		switch {
		case a == b:
			return 0
		case a == "Patient":
			return -1
		case b == "Patient":
			return 1
		}
		return 0
	})
	return out
}

// following is the place of the next block.
func following(then *search.Cursor) Position {
	if then == nil {
		return Position{Step: 1}
	}
	return Position{After: then}
}

// block finds the next patient whom the request is about, and whom the client sees. Whether the Patient itself is
// in the export is another question: it may not have changed since, or be of no type of it.
func (w *work) block(ctx context.Context, from *search.Cursor) (Position, error) {
	g, err := w.s.Engine.Authorize(ctx, w.c.Principal.Principal(scopes), fhir.SearchType, "Patient")
	if err != nil {
		return Position{}, err
	}
	opt, err := w.s.options(ctx, g, w.j.Transaction)
	if err != nil {
		return Position{}, err
	}
	all := Request{Level: w.c.Request.Level, Group: w.c.Request.Group, Patients: w.c.Request.Patients, Organized: true}
	q, err := all.query("Patient", opt)
	if err != nil {
		return Position{}, err
	}
	found, after, err := w.s.found(ctx, g, q, w.j.Transaction, 1, from)
	if err != nil {
		return Position{}, err
	}
	// Two resources can bear one id: they have one block.
	if len(found) == 0 || from != nil && from.ID == vault.Head(found[0]).Ref.ID {
		return following(after), nil
	}
	return Position{Of: vault.Head(found[0]).Ref.ID, Then: after}, nil
}

// inBlocks says of each line of a part of blocks whether the caller may see it now, and gives the resources of those that she
// may. Of a patient whom she does not see there is no block; a header is the Patient's.
func (s *Service) inBlocks(ctx context.Context, g authz.Grant, p *Part) (keep []bool, lines []record.Sealed, err error) {
	of := func(t fhir.ResourceType) (authz.Restriction, error) {
		sub, err := s.Engine.Extend(g, fhir.SearchType, t)
		if err != nil {
			return authz.Restriction{}, err
		}
		reach, err := s.Engine.Outbound(ctx, sub, fhir.SearchType, t)
		return reach.Of(t), err
	}
	patients, err := of("Patient")
	if err != nil {
		return nil, nil, err
	}
	whose, err := s.Records.Current(ctx, patients, unique(p.Blocks))
	if err != nil {
		return nil, nil, err
	}
	there := func(id fhir.ID) int {
		return slices.IndexFunc(whose[id], func(x record.Sealed) bool { return !vault.Head(x).Deleted })
	}
	resources := make([]record.Sealed, len(p.IDs))
	keep = make([]bool, len(p.IDs))
	for _, t := range unique(p.Types) {
		if t == header {
			continue
		}
		r, err := of(t)
		if status := outcome.Of(err).Status(); err != nil && status == outcome.New(outcome.Forbidden, "").Status() {
			continue // of a type that she may not see any more nothing is left
		} else if err != nil {
			return nil, nil, err
		}
		var ids []fhir.ID
		for i := range p.IDs {
			if p.Types[i] == t && there(p.Blocks[i]) >= 0 {
				ids = append(ids, p.IDs[i])
			}
		}
		now, err := s.Records.Current(ctx, r, unique(ids))
		if err != nil {
			return nil, nil, err
		}
		for i, id := range p.IDs {
			if p.Types[i] != t || there(p.Blocks[i]) < 0 {
				continue
			}
			if resources[i], keep[i], err = s.line(ctx, r, p, i, now[id]); err != nil {
				return nil, nil, err
			}
		}
	}
	// A header stays as long as something follows it. The last block of a part may go on in the next one.
	last := p.Blocks[len(p.Blocks)-1]
	follows := false
	for i := len(p.IDs) - 1; i >= 0; i-- {
		if p.Types[i] != header {
			follows = follows || keep[i]
			continue
		}
		if at := there(p.Blocks[i]); at >= 0 && (follows || p.Blocks[i] == last) {
			keep[i], resources[i] = true, whose[p.Blocks[i]][at]
		}
		follows = false
	}
	for i, x := range resources {
		if keep[i] {
			lines = append(lines, x)
		}
	}
	return keep, lines, nil
}

func unique[T ~string](in []T) []T {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// disclose makes the record of what goes out durable, type by type.
func (s *Service) disclose(ctx context.Context, g authz.Grant, lines []record.Sealed) error {
	of := map[fhir.ResourceType][]record.Sealed{}
	var types []fhir.ResourceType
	for _, x := range lines {
		t := vault.Head(x).Ref.Type
		of[t], types = append(of[t], x), append(types, t)
	}
	for _, t := range unique(types) {
		sub, err := s.Engine.Extend(g, fhir.SearchType, t)
		if err != nil {
			return err
		}
		if err := s.Gate.Disclose(ctx, sub, t, of[t]...); err != nil {
			return err
		}
	}
	return nil
}
