package rest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net/http"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// once carries out a request with an Idempotency-Key at most once
// (draft-ietf-httpapi-idempotency-key-header). A repetition gets the first
// answer: the same status and headers, and the same version, as the caller may
// read it now. Keys belong to a caller: nobody learns of another's.
func (s *Service) once(h respond.Handler) respond.Handler {
	return func(ctx context.Context, rq *respond.Request) (respond.Response, error) {
		if rq.Key == nil {
			return h(ctx, rq)
		}
		o := s.attempt(rq)
		done, err := s.store.Begin(ctx, o)
		if err != nil {
			return nil, err
		}
		if done != nil && done.Refusal != nil {
			return nil, done.Refusal
		}
		if done != nil {
			rq.Done = done.Receipts
		} else {
			rq.Once = &o
		}
		resp, err := h(ctx, rq)
		if done != nil {
			return resp, err
		}
		// The answer may be under way when the client has gone.
		end := context.WithoutCancel(ctx)
		switch status := outcome.Of(err).Status(); {
		case err == nil && rq.Interaction == fhir.Batch:
			err = s.store.Settle(end, o, record.Done{})
		case err == nil: // settled by the commit; a transaction without a change has none
			_ = s.store.Abandon(end, o)
		case status >= http.StatusInternalServerError:
			_ = s.store.Abandon(end, o)
		default:
			_ = s.store.Settle(end, o, record.Done{Refusal: outcome.Of(err)}) // nothing else was stored: see Store.Settle
		}
		return resp, err
	}
}

// attempt names one attempt at rq.
func (s *Service) attempt(rq *respond.Request) record.Once {
	c := rq.Grant.Caller()
	return record.Once{
		Tenant: c.Tenant, Caller: digest(c.Subject, c.Client), Key: digest(rq.Key.Value), Entry: rq.Key.Entry, Request: rq.Key.Request,
		Attempt: record.NewID(), Lease: c.Now.Add(s.lease), Expires: c.Now.Add(s.keyLife),
	}
}

func digest(parts ...string) [32]byte {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}
