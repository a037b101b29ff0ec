package record

import (
	"context"
	"slices"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

func (g *Gate) admit(ctx context.Context, gr authz.Grant, c Change) (Cleared, error) {
	under := c.Interaction
	if c.under != "" {
		under = c.under
	}
	gr, err := g.decider.Extend(gr, under, c.Ref.Type)
	if err != nil {
		return Cleared{}, err
	}
	if c.Import && !slices.Contains(gr.Caller().Roles, authz.Operator) {
		return Cleared{}, authz.ErrDenied
	}
	x := vault.Clearance{
		Grant: gr, Interaction: c.Interaction, Ref: c.Ref, Content: c.Content,
		IfMatch: c.IfMatch, Upsert: c.Upsert, Only: c.Only, Import: c.Import, IfChanged: c.IfChanged,
		Resolve: map[fhir.ResourceType]authz.Restriction{},
	}
	if x.Check, err = g.decider.Plan(ctx, gr, under, c.Ref.Type); err != nil {
		return Cleared{}, err
	}
	if x.Visible, err = g.decider.Plan(ctx, gr, fhir.Read, c.Ref.Type); err != nil {
		return Cleared{}, err
	}
	x.Marked = g.masked(gr, c)
	if c.Condition != nil {
		if c.Condition.Type() != c.Ref.Type {
			return Cleared{}, authz.ErrDenied
		}
		met, err := g.condition(ctx, gr, *c.Condition)
		if err != nil {
			return Cleared{}, err
		}
		x.Condition = &met
	}
	switch c.Interaction {
	case fhir.Delete:
		if c.Content != nil || c.Ref.ID == "" && c.Condition == nil {
			return Cleared{}, authz.ErrDenied
		}
		if c.Integrity {
			if x.Referrers, err = g.reach(ctx, gr, fhir.Read, fhir.ResourceTypes()); err != nil {
				return Cleared{}, err
			}
		}
		return vault.Clear(x), nil
	case fhir.Create:
		if c.Ref.ID == "" {
			x.Ref.ID = fhir.ID(NewID())
		}
	case fhir.Update:
		if c.Upsert || c.Condition != nil {
			if x.Insert, err = g.decider.Plan(ctx, gr, fhir.Create, c.Ref.Type); err != nil {
				return Cleared{}, err
			}
		}
	case fhir.Patch:
		if c.IfMatch == 0 {
			return Cleared{}, authz.ErrDenied // a patch is made of one version
		}
	default:
		return Cleared{}, authz.ErrDenied
	}
	if c.Content == nil || c.Content.Type != c.Ref.Type || !x.Ref.ID.Valid() && c.Condition == nil {
		return Cleared{}, outcome.New(outcome.Invalid, "the body is not a resource of the type that the URL names")
	}
	if c.Content.Subsetted() {
		return Cleared{}, outcome.At(outcome.Unprocessable, string(c.Ref.Type)+".meta.tag", "the resource is tagged SUBSETTED: it is what a summary left, and storing it would lose the rest; read it whole, change that, and send that")
	}
	x.Chosen, x.Signature = c.Content.ID(), c.signature
	x.Stated = stated(c)
	c.Content.StripSecurity()
	content := label.Content{Type: c.Ref.Type, Codings: c.Content.Codings()}
	x.Rules = g.labels
	x.Labels = g.labels.Classify(content) | x.Stated
	if c.Oversight {
		x.Labels |= label.Oversight
	}
	x.Program = c.Ref.Type == "Organization" && label.IsPart2Program(content)
	if err := g.note(gr, &x); err != nil {
		return Cleared{}, err
	}
	if err := g.conform(ctx, c); err != nil {
		return Cleared{}, err
	}
	return g.resolve(ctx, gr, c, x)
}

// stated is what the labels that a client sends add. That a record was received
// is said when it comes in: who sends back what was read here receives nothing.
func stated(c Change) label.Set {
	s := label.Stated(c.Content.Security())
	if c.Interaction != fhir.Create && !c.Import && !c.Upsert && c.Condition == nil {
		s &^= label.Received
	}
	return s
}

// resolve plans what the references of the content may meet.
func (g *Gate) resolve(ctx context.Context, gr authz.Grant, c Change, x vault.Clearance) (Cleared, error) {
	x.References, x.URLs = c.Content.References(), c.Content.URLs()
	plan := func(t fhir.ResourceType) (err error) {
		if _, planned := x.Resolve[t]; !planned {
			x.Resolve[t], err = g.decider.Plan(ctx, gr, fhir.Read, t)
		}
		return err
	}
	for _, links := range [][]codec.Link{x.References, x.URLs} {
		for _, l := range links {
			if ref, ok := codec.LocalRef(l.Node.Text); ok {
				if err := plan(ref.Type); err != nil {
					return Cleared{}, err
				}
			}
		}
	}
	x.Conditional = make(map[string]vault.Condition, len(c.Conditional))
	for text, q := range c.Conditional {
		met, err := g.condition(ctx, gr, q)
		if err != nil {
			return Cleared{}, err
		}
		if err := plan(q.Type()); err != nil {
			return Cleared{}, err
		}
		x.Conditional[text] = met
	}
	return vault.Clear(x), nil
}

// condition plans a search on behalf of a change. Whoever may search nothing of
// that type meets nothing: that is no refusal.
func (g *Gate) condition(ctx context.Context, gr authz.Grant, q search.Query) (vault.Condition, error) {
	sg, err := g.decider.Extend(gr, fhir.SearchType, q.Type())
	if err != nil {
		return vault.Condition{Query: q}, nil //nolint:nilerr // see above
	}
	reach, err := g.reach(ctx, sg, fhir.SearchType, q.Types())
	return vault.Condition{Query: q, Reach: reach}, err
}

func (g *Gate) reach(ctx context.Context, gr authz.Grant, i fhir.Interaction, types []fhir.ResourceType) (authz.Reach, error) {
	rs := make([]authz.Restriction, len(types))
	for n, t := range types {
		var err error
		if rs[n], err = g.decider.Plan(ctx, gr, i, t); err != nil {
			return authz.Reach{}, err
		}
	}
	return authz.ReachOf(rs...), nil
}

// conform checks the content against what this server holds writes to. It comes
// after the permission, and depends on the content alone.
func (g *Gate) conform(ctx context.Context, c Change) error {
	if c.Import && c.Advice == nil {
		return nil
	}
	var advice []outcome.Issue
	if g.conformance != nil {
		var err error
		if advice, err = g.conformance.Check(ctx, c.Content, c.Advice != nil); err != nil {
			return err
		}
	}
	if c.Advice != nil {
		advice = append(advice, deficient(c.Content)...)
		*c.Advice = advice
	}
	return nil
}

// note checks what makes a psychotherapy note (45 CFR 164.501) or an SUD
// counseling note (42 CFR 2.11): written by the professional herself, and
// free of what belongs in the general record.
func (g *Gate) note(gr authz.Grant, x *vault.Clearance) error {
	if !x.Labels.Any(label.Notes) {
		return nil
	}
	root := x.Content.Root
	if faults := label.NoteFaults(root); len(faults) > 0 {
		return &outcome.Error{Issues: faults}
	}
	var authors []fhir.Ref
	for _, a := range root.Get("author").List() {
		if ref, ok := codec.LocalRef(a.Get("reference").String()); ok {
			authors = append(authors, ref)
		}
	}
	if len(authors) != 1 || len(root.Get("author").List()) != 1 {
		return outcome.At(outcome.BusinessRule, string(x.Ref.Type)+".author", "such a note has exactly one author: the professional who writes it")
	}
	switch user := gr.Caller().User; {
	case x.Import:
		x.Originator = authors[0]
	case user != authors[0]:
		return outcome.At(outcome.BusinessRule, string(x.Ref.Type)+".author", "only its author can store such a note")
	}
	return nil
}
