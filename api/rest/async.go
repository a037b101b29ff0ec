package rest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

const (
	maxJobs      = 8                // of one caller at a time
	background   = 4                // batches that one process works on at a time
	jobLease     = 30 * time.Second // after which another process may go on with a batch
	jobTime      = 15 * time.Minute // for one batch
	jobFailed    = "the request failed on the server; its log says why"
	jobForgotten = "the request was lost with the server that accepted it: send it again"
)

// asynchronous reports an interaction that Prefer: respond-async puts off.
func asynchronous(i fhir.Interaction) bool {
	switch i {
	case fhir.SearchType, fhir.SearchSystem, fhir.HistorySystem, fhir.Batch:
		return true
	}
	return false
}

// deferred is a request that was put off, as it is kept: sealed, because its
// parameters and its body are about people.
type deferred struct {
	Interaction fhir.Interaction  `json:"i"`
	Type        fhir.ResourceType `json:"t,omitempty"`
	Query       string            `json:"q,omitempty"`
	Form        string            `json:"f,omitempty"`
	Body        []byte            `json:"b,omitempty"`
	Prefer      respond.Prefer    `json:"p"`
	Key         respond.Key       `json:"k"`
}

// putOff answers a request that asks for it with the place where its result will
// be found (http://hl7.org/fhir/R5/async-bundle.html). A search is carried out when
// its result is fetched, under the permission of that moment. A batch is begun at
// once, under a key of its own, so that no entry is carried out twice.
func (s *Service) putOff(h respond.Handler) respond.Handler {
	return func(ctx context.Context, rq *respond.Request) (respond.Response, error) {
		// A request with a key of its client's is carried out at once: its key ends on a
		// day of its own.
		if !rq.Prefer.Async || rq.Key != nil {
			return h(ctx, rq)
		}
		d := deferred{Interaction: rq.Interaction, Type: rq.Type, Query: rq.Query, Form: rq.Form, Prefer: rq.Prefer}
		d.Prefer.Async = false
		c := rq.Grant.Caller()
		j := record.Job{
			ID: record.NewID(), Tenant: c.Tenant, Caller: digest(c.Subject, c.Client),
			Created: c.Now, Expires: c.Now.Add(s.keyLife), Lease: c.Now, Ready: rq.Interaction != fhir.Batch,
		}
		if rq.Content != nil {
			d.Body = rq.Content.Root.AppendJSON(nil)
			d.Key = respond.Key{Value: "job " + j.ID, Request: sha256.Sum256(d.Body)}
		}
		var err error
		if j.Request, err = s.sealJob(j, d); err != nil {
			return nil, err
		}
		if err := s.store.Enqueue(ctx, j, maxJobs); err != nil {
			return nil, err
		}
		if !j.Ready {
			s.work(ctx, j, d, rq)
		}
		return respond.Accepted(rq.Base + "/_async/" + j.ID), nil
	}
}

// Job answers GET [base]/_async/[id]: 202 while the request is under way, then
// its result. Whoever did not send the request finds nothing there.
func (s *Service) Job(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	j, d, err := s.job(ctx, rq)
	if err != nil {
		return nil, err
	}
	sub, err := s.resume(rq, d)
	if err != nil {
		return nil, err
	}
	if j.Failed {
		return nil, outcome.New(outcome.Unprocessable, jobFailed)
	}
	if !j.Ready {
		s.work(ctx, j, d, sub)
		return respond.Pending("the batch is being carried out", 2*time.Second), nil
	}
	h, ok := s.Handler(d.Interaction)
	if !ok {
		return nil, errors.New("rest: nothing answers a request that was put off")
	}
	resp, err := h(ctx, sub)
	if d.Interaction == fhir.Batch {
		return resp, err
	}
	return respond.Bundle(fhir.Batch, []respond.Entry{{Request: sub, Response: resp, Err: err}}), nil
}

// CancelJob answers DELETE [base]/_async/[id]. What a batch has changed already stays.
func (s *Service) CancelJob(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	j, _, err := s.job(ctx, rq)
	if err != nil {
		return nil, err
	}
	if cancel, ok := s.working.LoadAndDelete(j.ID); ok {
		if f, ok := cancel.(context.CancelFunc); ok {
			f()
		}
	}
	if err := s.store.DropJob(ctx, j); err != nil {
		return nil, err
	}
	return respond.Accepted(""), nil
}

// job finds a job of the caller's own.
func (s *Service) job(ctx context.Context, rq *respond.Request) (record.Job, deferred, error) {
	c := rq.Grant.Caller()
	j, err := s.store.Job(ctx, c.Tenant, digest(c.Subject, c.Client), string(rq.ID))
	if err != nil {
		return j, deferred{}, err
	}
	d, err := s.openJob(j)
	if err != nil {
		return j, d, outcome.New(outcome.Unprocessable, jobForgotten).Because(err)
	}
	return j, d, nil
}

// resume makes the request anew, under the grant of whoever asks for its result.
func (s *Service) resume(rq *respond.Request, d deferred) (*respond.Request, error) {
	sub := &respond.Request{Base: rq.Base, Grant: rq.Grant, Interaction: d.Interaction, Type: d.Type, Query: d.Query, Form: d.Form, Prefer: d.Prefer}
	switch d.Interaction {
	case fhir.Batch:
		var err error
		sub.Content, sub.Faults, err = codec.ParseBatch(d.Body, codec.DefaultLimits)
		sub.Key = &d.Key
		return sub, err
	case fhir.SearchType:
		g, err := s.engine.Extend(rq.Grant, d.Interaction, d.Type)
		sub.Grant = g
		return sub, err
	}
	return sub, nil
}

// work carries out a batch in the background, unless somebody does already.
func (s *Service) work(ctx context.Context, j record.Job, d deferred, rq *respond.Request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobTime)
	if _, busy := s.working.LoadOrStore(j.ID, cancel); busy {
		cancel()
		return
	}
	j.Worker = s.worker
	run := *rq
	run.Prefer, run.Key = d.Prefer, &d.Key
	go func() {
		defer cancel()
		defer s.working.Delete(j.ID)
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-ctx.Done():
			return
		}
		mine, err := s.store.LeaseJob(ctx, j, jobLease)
		if err != nil || !mine {
			return
		}
		beat := time.NewTicker(jobLease / 3)
		defer beat.Stop()
		done := make(chan bool, 1)
		go func() { done <- s.carryOut(ctx, &run) }()
		for {
			select {
			case well := <-done:
				if ctx.Err() == nil {
					_ = s.store.EndJob(ctx, j, !well) // else its lease ends, and a later poll goes on with it
				}
				return
			case <-beat.C:
				_, _ = s.store.LeaseJob(ctx, j, jobLease)
			}
		}
	}()
}

// carryOut reports whether the batch came to its end.
func (s *Service) carryOut(ctx context.Context, rq *respond.Request) (well bool) {
	defer func() {
		if recover() != nil {
			well = false
		}
	}()
	h, ok := s.Handler(fhir.Batch)
	if !ok {
		return false
	}
	_, err := h(ctx, rq)
	return err == nil
}

// jobSeal is the cipher of requests that are put off.
func (s *Service) jobSeal() (cipher.AEAD, error) {
	key := sha256.Sum256(append([]byte("async request\x00"), s.cursors[:]...))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (s *Service) sealJob(j record.Job, d deferred) ([]byte, error) {
	plain, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("rest: a request cannot be put off: %w", err)
	}
	seal, err := s.jobSeal()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, seal.NonceSize())
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return seal.Seal(nonce, nonce, plain, append([]byte(j.ID), j.Caller[:]...)), nil
}

func (s *Service) openJob(j record.Job) (d deferred, err error) {
	seal, err := s.jobSeal()
	if err != nil || len(j.Request) < seal.NonceSize() {
		return d, errors.Join(errors.New("rest: no sealed request"), err)
	}
	n := seal.NonceSize()
	plain, err := seal.Open(nil, j.Request[:n], j.Request[n:], append([]byte(j.ID), j.Caller[:]...))
	if err != nil {
		return d, err
	}
	err = json.Unmarshal(plain, &d)
	return d, err
}
