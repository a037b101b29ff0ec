package operation

import (
	"context"
	"errors"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// Ceremony answers the operations by which a Consent comes to be, is signed, and ends.
type Ceremony struct {
	*Service
	store CeremonyStore
}

// CeremonyStore is what the ceremony needs of the place where resources are kept.
type CeremonyStore interface {
	Store
	VRead(context.Context, authz.Restriction, fhir.ID, fhir.VersionID) (record.Sealed, error)
	History(context.Context, authz.Reach, record.History) (record.Page, error)
	// Match gives the ids of at most Query.Count matches.
	Match(context.Context, authz.Reach, search.Query) ([]fhir.ID, error)
	// Views gives the views of a record that the Restriction shows, the fullest first.
	Views(context.Context, authz.Restriction, fhir.ID) ([]record.Supposed, error)
	// Commit writes all changes or none.
	Commit(context.Context, []record.Cleared) ([]record.Receipt, error)
}

// NewCeremony wires the operations on Consents.
func NewCeremony(s *Service, store CeremonyStore) *Ceremony { return &Ceremony{s, store} }

// Operations lists everything that c answers. Without a key nothing can be signed, and nothing says that it can.
func (c *Ceremony) Operations() []Operation {
	const ours = fhir.Canonical + "/OperationDefinition/Consent-"
	out := []Operation{
		{Code: "prepare", Type: "Consent", Level: Type, Needs: fhir.PrepareConsent, Definition: ours + "prepare", Handler: c.prepare},
		{Code: "evaluate", Type: "Consent", Level: Type, Needs: fhir.Read, Definition: ours + "evaluate", Handler: c.evaluate},
		{Code: "revoke", Type: "Consent", Level: Instance, Needs: fhir.RevokeConsent, Definition: ours + "revoke", Handler: c.revoke},
	}
	if c.gate.Signs() {
		out = append(out,
			Operation{Code: "sign", Type: "Consent", Level: Instance, Needs: fhir.SignConsent, Definition: ours + "sign", Handler: c.sign},
			Operation{Code: "verify-signature", Type: "Consent", Level: Instance, Safe: true, Definition: ours + "verify-signature", Handler: c.verify},
		)
	}
	return out
}

// sign answers POST Consent/[id]/$sign: the Consent that waits for it is signed by the
// caller. The answer is her copy (45 CFR 164.508(c)(4)).
func (c *Ceremony) sign(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	return c.attested(ctx, rq, c.gate.Sign, "authority", "witness")
}

// revoke answers POST Consent/[id]/$revoke: what was disclosed in reliance on the Consent
// stays disclosed, and nothing more is (42 CFR 2.31(a)(6), 45 CFR 164.508(b)(5)).
func (c *Ceremony) revoke(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	return c.attested(ctx, rq, c.gate.Revoke, "authority", "reason")
}

type attesting func(context.Context, authz.Grant, record.Sealed, record.Signing) ([]record.Cleared, error)

func (c *Ceremony) attested(ctx context.Context, rq *respond.Request, do attesting, known ...string) (respond.Response, error) {
	s, err := signing(rq, known...)
	if err != nil {
		return nil, err
	}
	receipts, err := c.commit(ctx, func() ([]record.Cleared, error) {
		current, err := c.current(ctx, rq)
		if err != nil {
			return nil, err
		}
		return do(ctx, rq.Grant, current, s)
	})
	if err != nil {
		return nil, err
	}
	return c.copy(ctx, rq, receipts), nil
}

// signing reads what is said with a signature.
func signing(rq *respond.Request, known ...string) (s record.Signing, err error) {
	a, err := arguments(rq, known...)
	if err != nil {
		return s, err
	}
	for _, x := range []struct {
		name string
		to   *string
	}{{"authority", &s.Authority}, {"reason", &s.Reason}} {
		if *x.to, err = a.text(x.name); err != nil {
			return s, err
		}
	}
	witness, err := a.text("witness")
	if err != nil {
		return s, err
	}
	if witness != "" {
		var ok bool
		if s.Witness, ok = fhir.ParseRef(witness); !ok || s.Witness.Type != "Practitioner" && s.Witness.Type != "RelatedPerson" {
			return s, outcome.New(outcome.Invalid, "the parameter witness is a reference to a Practitioner or a RelatedPerson of this server")
		}
	}
	if h := rq.IfMatch; h != "" && h != "*" {
		var ok bool
		if s.IfMatch, ok = respond.ParseETag(h); !ok {
			return s, outcome.New(outcome.Precondition, `If-Match names no version of this server: its form is W/"1"`)
		}
	}
	return s, nil
}

// current reads the resource that rq names and leaves it sealed.
func (c *Ceremony) current(ctx context.Context, rq *respond.Request) (record.Sealed, error) {
	g, err := c.engine.Extend(rq.Grant, fhir.Read, rq.Type)
	if err != nil {
		return record.Sealed{}, err
	}
	r, err := c.engine.Plan(ctx, g, fhir.Read, rq.Type)
	if err != nil {
		return record.Sealed{}, err
	}
	return c.store.Read(ctx, r, rq.ID)
}

// commit stores what admit lets in, all or none.
func (c *Ceremony) commit(ctx context.Context, admit func() ([]record.Cleared, error)) ([]record.Receipt, error) {
	const tries = 4
	for try := 1; ; try++ {
		cleared, err := admit()
		if err != nil {
			return nil, err
		}
		receipts, err := c.store.Commit(ctx, cleared)
		if try == tries || !errors.Is(err, record.ErrReplan) {
			return receipts, err
		}
	}
}

// copy answers with what was stored, as far as the caller may read it: the change
// stands, whatever becomes of its echo.
func (c *Ceremony) copy(ctx context.Context, rq *respond.Request, receipts []record.Receipt) respond.Response {
	var out []record.Released
	if rq.Prefer.Represent() {
		for _, rc := range receipts {
			if r, err := c.version(ctx, rq, rc); err == nil {
				out = append(out, r...)
			}
		}
	}
	return respond.Attested(receipts[0], out)
}

func (c *Ceremony) version(ctx context.Context, rq *respond.Request, rc record.Receipt) ([]record.Released, error) {
	g, err := c.engine.Extend(rq.Grant, fhir.Read, rc.Ref.Type)
	if err != nil {
		return nil, err
	}
	r, err := c.engine.Plan(ctx, g, fhir.Read, rc.Ref.Type)
	if err != nil {
		return nil, err
	}
	sealed, err := c.store.VRead(ctx, r, rc.Ref.ID, rc.Version)
	if err != nil {
		return nil, err
	}
	return c.gate.Release(ctx, g, rc.Ref.Type, sealed)
}
