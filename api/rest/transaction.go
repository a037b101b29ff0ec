package rest

import (
	"context"
	"errors"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// transaction answers POST [base] with a Bundle of type transaction: all of
// its changes are stored, or none (http://hl7.org/fhir/R4/http.html#trules). Each entry is
// authorized by itself; reads see what the changes have left.
func (s *Service) transaction(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	entries := rq.Content.Entries()
	p, err := newPlan(entries, rq.Faults, rq.Base, record.NewID)
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
	if err := s.meet(ctx, subs, p); err != nil {
		return nil, err
	}
	if err := s.rewrite(ctx, rq, entries, p); err != nil {
		return nil, err
	}
	receipts, err := s.commitAll(ctx, subs, p)
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
		case st.met:
			e.Response, e.Err = s.found(ctx, sub, st.ref)
		default:
			e = s.entry(ctx, rq, &entries[st.at], nil)
		}
		out[st.at] = e
	}
	return respond.Bundle(fhir.Transaction, out), nil
}

// meet resolves the conditional creates: one that something meets already
// becomes a reference to it.
func (s *Service) meet(ctx context.Context, subs []*respond.Request, p *plan) error {
	for _, st := range p.steps {
		if st.interaction != fhir.Create || subs[st.at].IfNoneExist == "" {
			continue
		}
		ids, err := s.match(ctx, subs[st.at], st.typ, subs[st.at].IfNoneExist)
		if err != nil {
			return within(entryPath(st.at), err)
		}
		switch len(ids) {
		case 0:
		case 1:
			p.replace(st, fhir.Ref{Type: st.typ, ID: ids[0]})
		default:
			return within(entryPath(st.at), errSeveral)
		}
	}
	return nil
}

// rewrite makes the references of the changes literal and local.
func (s *Service) rewrite(ctx context.Context, rq *respond.Request, entries []codec.Entry, p *plan) error {
	known := map[string]string{}
	var faults []outcome.Issue
	for _, st := range p.steps {
		content := entries[st.at].Resource
		if content == nil || !st.writes() {
			continue
		}
		for _, l := range p.link(content, entries[st.at].FullURL) {
			path := entryPath(st.at) + ".resource" + l.below()
			t, query, isConditional := conditional(l.Node.Text)
			if !isConditional {
				faults = append(faults, outcome.Issue{Category: outcome.Unprocessable, Path: path, Text: "the reference names no entry of this Bundle"})
				continue
			}
			literal, seen := known[l.Node.Text]
			if !seen {
				ids, err := s.match(ctx, rq, t, query)
				if err != nil {
					return within(path, err)
				}
				if len(ids) == 1 {
					literal = fhir.Ref{Type: t, ID: ids[0]}.String()
				}
				known[l.Node.Text] = literal
			}
			if literal == "" {
				faults = append(faults, outcome.Issue{Category: outcome.Precondition, Path: path, Text: "the conditional reference does not mean exactly one resource"})
				continue
			}
			l.Node.Text = literal
		}
		content.Localise(rq.Base)
	}
	if faults != nil {
		return &outcome.Error{Issues: faults}
	}
	return nil
}

// commitAll admits the changes one by one and stores them in the order of the
// specification: deletes, creates, updates.
func (s *Service) commitAll(ctx context.Context, subs []*respond.Request, p *plan) (map[int]record.Receipt, error) {
	var cleared []record.Cleared
	var at []int
	for _, st := range p.steps {
		if !st.writes() || st.met {
			continue
		}
		sub := subs[st.at]
		v, err := ifMatch(sub.IfMatch)
		if err != nil {
			return nil, within(entryPath(st.at), err)
		}
		if st.interaction == fhir.Create {
			sub.Content.SetID(st.ref.ID)
		}
		c, err := s.gate.Admit(ctx, sub.Grant, record.Change{
			Interaction: st.interaction, Ref: st.ref, Content: st.content(sub), IfMatch: v,
			Upsert: s.upsert && st.interaction == fhir.Update && sub.IfMatch == "",
			Advice: advice(sub),
		})
		if err != nil {
			return nil, within(entryPath(st.at), err)
		}
		cleared, at = append(cleared, c), append(at, st.at)
	}
	if len(cleared) == 0 {
		return nil, nil
	}
	receipts, err := s.store.Commit(ctx, cleared)
	if err != nil {
		var ce *record.ChangeError
		if errors.As(err, &ce) && ce.Index >= 0 && ce.Index < len(at) {
			return nil, within(entryPath(at[ce.Index]), ce.Err)
		}
		return nil, err
	}
	if len(receipts) != len(cleared) {
		return nil, errors.New("rest: the store gave another number of receipts than changes")
	}
	out := make(map[int]record.Receipt, len(receipts))
	for i, rc := range receipts {
		out[at[i]] = rc
	}
	return out, nil
}
