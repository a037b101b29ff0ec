package record

import (
	"context"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/patch"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/record/redact"
)

// Patch makes of the current version of a resource, read by the holder of gr, the
// one that p leaves, and admits it as a change of that very version (R4
// http.html, patch). What is patched is disclosed, because the outcome of a
// test says something about it: the read permission is decided and recorded
// before anything of p is evaluated. c carries what else the client asks for:
// IfMatch, Condition, Conditional.
func (g *Gate) Patch(ctx context.Context, gr authz.Grant, current Sealed, p patch.Patch, c Change) (Cleared, error) {
	h := vault.Head(current)
	if h.Ref != c.Ref || c.Interaction != fhir.Patch {
		return Cleared{}, authz.ErrDenied
	}
	if _, err := g.decider.Extend(gr, fhir.Patch, h.Ref.Type); err != nil {
		return Cleared{}, err
	}
	read, err := g.decider.Extend(gr, fhir.Read, h.Ref.Type)
	if err != nil {
		return Cleared{}, err
	}
	if err := g.disclose(ctx, read, h.Ref.Type, current); err != nil {
		return Cleared{}, err
	}
	switch {
	case h.Deleted:
		return Cleared{}, outcome.New(outcome.Deleted, "the resource was deleted")
	case c.IfMatch != 0 && c.IfMatch != h.Version:
		return Cleared{}, outcome.New(outcome.Precondition, "the resource has changed since the version that If-Match names: read it again")
	}
	marks, err := g.marks(ctx, read, []Sealed{current})
	if err != nil {
		return Cleared{}, err
	}
	was, err := opened(ctx, current)
	if err != nil {
		return Cleared{}, err
	}
	redact.Mark(h.Ref.Type, was.Root, marks[0])
	if c.Content, err = p.Apply(was); err != nil {
		return Cleared{}, err
	}
	c.IfMatch = h.Version
	return g.admit(ctx, gr, c)
}

// opened opens a resource on which was decided, for what the gate makes of it.
func opened(ctx context.Context, s Sealed) (*codec.Resource, error) {
	body, err := vault.Open(ctx, s)
	if err != nil {
		return nil, err
	}
	r, err := codec.Parse(body)
	if err != nil {
		return nil, outcome.New(outcome.Internal, "the server failed; its log says why").Because(err)
	}
	return r, nil
}
