package rest

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// batch answers POST [base] with a Bundle of type batch: every entry is
// authorized and answered as if it had come alone
// (http://hl7.org/fhir/R4/http.html#brules).
func (s *Service) batch(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	entries := rq.Content.Entries()
	out := make([]respond.Entry, len(entries))
	for i := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out[i] = s.entry(ctx, rq, &entries[i], i, rq.Faults[i])
	}
	return respond.Bundle(fhir.Batch, out), nil
}

// entry answers one entry of a batch.
func (s *Service) entry(ctx context.Context, rq *respond.Request, e *codec.Entry, at int, fault *outcome.Error) respond.Entry {
	sub := s.sub(rq, e)
	if rq.Key != nil {
		sub.Key = &respond.Key{Value: rq.Key.Value, Request: rq.Key.Request, Entry: at + 1}
	}
	t, err := parseTarget(e.Method, e.URL, rq.Base)
	if err != nil {
		return respond.Entry{Request: sub, Err: err}
	}
	if err := s.aim(sub, t); err != nil {
		return respond.Entry{Request: sub, Err: s.Refuse(ctx, sub, err)}
	}
	if fault != nil {
		return respond.Entry{Request: sub, Err: s.Refuse(ctx, sub, fault)}
	}
	if t.interaction == fhir.Patch {
		if sub.Patch, err = entryPatch(e.Resource); err != nil {
			return respond.Entry{Request: sub, Err: s.Refuse(ctx, sub, err)}
		}
	}
	if !changes(t.interaction) {
		sub.Key = nil
	}
	h, ok := s.Handler(t.interaction)
	if !ok {
		return respond.Entry{Request: sub, Err: errEntryMethod}
	}
	resp, err := h(ctx, sub)
	return respond.Entry{Request: sub, Response: resp, Err: err, NoBody: t.head}
}

// sub is the request that an entry stands for.
func (s *Service) sub(rq *respond.Request, e *codec.Entry) *respond.Request {
	c := respond.Conditions{IfMatch: e.IfMatch, IfNoneMatch: e.IfNoneMatch, IfNoneExist: e.IfNoneExist}
	if at, err := time.Parse(time.RFC3339, e.IfModifiedSince); err == nil {
		c.IfModifiedSince = at.UTC().Format(http.TimeFormat)
	}
	prefer := rq.Prefer
	prefer.Async = false
	if prefer.Return == respond.Unstated {
		prefer.Return = respond.Minimal // a large transaction is not read back unless it is asked for
	}
	return &respond.Request{Base: rq.Base, Grant: rq.Grant, Prefer: prefer, Content: e.Resource, Conditions: c}
}

// aim authorizes sub for its target; what cannot exist is not found. As on a
// path of its own, permission comes first.
func (s *Service) aim(sub *respond.Request, t target) error {
	sub.Interaction, sub.Type, sub.ID, sub.Version, sub.Query = t.interaction, t.typ, t.id, t.version, t.query
	if t.interaction == fhir.HistorySystem {
		return nil // its handler asks type by type
	}
	if t.typ == "" {
		return errNotFound
	}
	g, err := s.engine.Extend(sub.Grant, t.interaction, t.typ)
	if err != nil {
		return authz.ErrDenied.Because(err)
	}
	sub.Grant = g
	if t.unknown {
		return errNotFound
	}
	return nil
}

func entryPath(i int) string { return "Bundle.entry[" + strconv.Itoa(i) + "]" }
