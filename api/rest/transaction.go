package rest

import (
	"context"
	"errors"
	"slices"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// transaction answers POST [base] with a Bundle of type transaction: all of
// its changes are stored, or none (http://hl7.org/fhir/R4/http.html#trules). Each entry is
// authorized by itself; reads see what the changes have left. A document is filed as one.
func (s *Service) transaction(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	entries := rq.Content.Entries()
	var left map[int]bool
	var err error
	if rq.Content.BundleType() == "document" {
		if left, err = file(rq.Content.Root, entries, rq.Faults, rq.Base); err != nil {
			return nil, err
		}
	}
	p, err := newPlan(entries, left, rq.Faults, rq.Base, record.NewID)
	if err != nil {
		return nil, err
	}
	subs := make([]*respond.Request, len(entries))
	for _, st := range p.steps {
		sub := s.sub(rq, &entries[st.at])
		subs[st.at] = sub
		if !st.writes() {
			continue // answered like an entry of a batch, after the commit
		}
		if err := s.aim(sub, st.target); err != nil {
			return nil, within(entryPath(st.at), err)
		}
	}
	receipts, err := s.commitAll(ctx, rq, entries, subs, p)
	if err != nil {
		return nil, err
	}
	out := make([]respond.Entry, len(entries))
	for _, st := range p.steps {
		sub := subs[st.at]
		e := respond.Entry{Request: sub}
		switch rc, written := receipts[st.at]; {
		case written && st.interaction == fhir.Delete:
			e.Response = respond.Deleted(rc)
		case written:
			e.Response = s.written(ctx, sub, rc)
		default:
			e = s.entry(ctx, rq, &entries[st.at], st.at, nil)
		}
		out[st.at] = e
	}
	for at := range slices.Backward(out) {
		if left[at] {
			out = slices.Delete(out, at, at+1)
		}
	}
	return respond.Bundle(fhir.Transaction, out), nil
}

// rewrite makes the references of an entry literal and local, and reads its
// conditional references, which the store resolves in the transaction.
func (s *Service) rewrite(ctx context.Context, rq *respond.Request, e *codec.Entry, path string, p *plan) (map[string]search.Query, []outcome.Issue) {
	var faults []outcome.Issue
	var conditions map[string]search.Query
	for _, l := range p.link(e.Resource, e.FullURL) {
		t, query, isConditional := conditional(l.Node.Text)
		if !isConditional {
			faults = append(faults, outcome.Issue{Category: outcome.Unprocessable, Path: path + ".resource" + l.below(), Text: "the reference names no entry of this Bundle"})
			continue
		}
		q, err := s.condition(ctx, rq, t, query)
		if err != nil {
			faults = append(faults, outcome.Of(within(path+".resource"+l.below(), err)).Issues...)
			continue
		}
		if conditions == nil {
			conditions = map[string]search.Query{}
		}
		conditions[l.Node.Text] = q
	}
	e.Resource.Localise(rq.Base)
	return conditions, faults
}

// commitAll admits the changes one by one and stores them together.
func (s *Service) commitAll(ctx context.Context, rq *respond.Request, entries []codec.Entry, subs []*respond.Request, p *plan) (map[int]record.Receipt, error) {
	conditions := make([]map[string]search.Query, len(entries))
	var faults []outcome.Issue
	var at []int
	for _, st := range p.steps {
		if !st.writes() {
			continue
		}
		at = append(at, st.at)
		if st.interaction != fhir.Delete {
			var f []outcome.Issue
			conditions[st.at], f = s.rewrite(ctx, rq, &entries[st.at], entryPath(st.at), p)
			faults = append(faults, f...)
		}
	}
	if faults != nil {
		return nil, &outcome.Error{Issues: faults}
	}
	receipts := rq.Done
	if receipts == nil && len(at) > 0 {
		var err error
		if receipts, err = s.commit(ctx, rq, func() ([]record.Cleared, error) {
			cleared := make([]record.Cleared, 0, len(at))
			for _, st := range p.steps {
				if !st.writes() {
					continue
				}
				c, err := s.admit(ctx, subs[st.at], st, conditions[st.at])
				if err != nil {
					return nil, within(entryPath(st.at), err)
				}
				cleared = append(cleared, c)
			}
			return cleared, nil
		}); err != nil {
			var ce *record.ChangeError
			if errors.As(err, &ce) && ce.Index >= 0 && ce.Index < len(at) {
				return nil, within(entryPath(at[ce.Index]), ce.Err)
			}
			return nil, err
		}
	}
	if len(receipts) != len(at) {
		return nil, errors.New("rest: the store gave another number of receipts than changes")
	}
	out := make(map[int]record.Receipt, len(receipts))
	for i, rc := range receipts {
		out[at[i]] = rc
	}
	return out, nil
}

// admit admits the change of one entry.
func (s *Service) admit(ctx context.Context, sub *respond.Request, st *step, conditions map[string]search.Query) (record.Cleared, error) {
	var c record.Change
	var err error
	switch st.interaction {
	case fhir.Patch:
		p, err := entryPatch(sub.Content)
		if err != nil {
			return record.Cleared{}, err
		}
		return s.patching(ctx, sub, p, conditions)
	case fhir.Delete:
		c, err = s.deletion(ctx, sub)
	case fhir.Update:
		c, err = s.updating(ctx, sub)
	default:
		c = record.Change{Interaction: fhir.Create, Content: sub.Content}
		if sub.IfNoneExist != "" {
			q, malformed := s.condition(ctx, sub, sub.Type, criteria(sub.Type, sub.IfNoneExist, sub.Base))
			c.Condition, err = &q, malformed
		}
	}
	if err != nil {
		return record.Cleared{}, err
	}
	c.Ref, c.Conditional, c.Advice = st.ref, conditions, advice(sub)
	if st.interaction == fhir.Create {
		c.Content.SetID(st.ref.ID)
	}
	return s.gate.Admit(ctx, sub.Grant, c)
}
