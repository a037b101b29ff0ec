package operation

import (
	"context"
	"errors"
	"net/http"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent"
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
	// Standing gives the signatures that cover what a Consent says now, and Attested, for each Consent of a patient
	// that was signed here, whether they do. The Restriction is what the caller may read of Consents.
	Standing(context.Context, authz.Restriction, fhir.ID) (record.Standing, error)
	Attested(ctx context.Context, r authz.Restriction, patient fhir.ID) (map[fhir.ID]consent.Attested, error)
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
			// Who signs needs one permission, and who only saw it another.
			Operation{Code: "sign", Type: "Consent", Level: Instance, Definition: ours + "sign", Handler: c.sign},
			Operation{Code: "verify-signature", Type: "Consent", Level: Instance, Safe: true, Definition: ours + "verify-signature", Handler: c.verify},
		)
	}
	return out
}

// sign answers POST Consent/[id]/$sign: the Consent that waits for it is signed by the
// caller, who consents, or saw somebody consent. The answer is her copy (45 CFR 164.508(c)(4)),
// and says who has signed until now, and who has not.
func (c *Ceremony) sign(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	s, err := signing(rq, "authority", "witness", "role")
	if err != nil {
		return nil, err
	}
	under := fhir.SignConsent
	if s.AsWitness {
		under = fhir.WitnessConsent
	}
	// Whoever may sign nothing is told so before anything is looked for.
	if _, err := c.engine.Extend(rq.Grant, under, rq.Type); err != nil {
		return nil, err
	}
	return c.attested(ctx, rq, func(ctx context.Context, current record.Sealed) (record.Attestation, error) {
		s := s
		if s.Standing, err = c.standing(ctx, rq); err != nil {
			return record.Attestation{}, err
		}
		if s.Person, err = c.person(ctx, rq, s.Standing.Patient); err != nil {
			return record.Attestation{}, err
		}
		return c.gate.Sign(ctx, rq.Grant, current, s)
	})
}

// revoke answers POST Consent/[id]/$revoke: what was disclosed in reliance on the Consent
// stays disclosed, and nothing more is (42 CFR 2.31(a)(6), 45 CFR 164.508(b)(5)).
func (c *Ceremony) revoke(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	s, err := signing(rq, "authority", "reason")
	if err != nil {
		return nil, err
	}
	return c.attested(ctx, rq, func(ctx context.Context, current record.Sealed) (record.Attestation, error) {
		return c.gate.Revoke(ctx, rq.Grant, current, s)
	})
}

func (c *Ceremony) attested(ctx context.Context, rq *respond.Request, do func(context.Context, record.Sealed) (record.Attestation, error)) (respond.Response, error) {
	var a record.Attestation
	receipts, err := c.commit(ctx, func() ([]record.Cleared, error) {
		current, err := c.current(ctx, rq)
		if err != nil {
			return nil, err
		}
		a, err = do(ctx, current)
		return a.Changes, err
	})
	if err != nil {
		return nil, err
	}
	return c.copy(ctx, rq, receipts, a), nil
}

// standing is that of the Consent that rq names.
func (c *Ceremony) standing(ctx context.Context, rq *respond.Request) (record.Standing, error) {
	sub, err := c.as(rq, fhir.Read, rq.Type)
	if err != nil {
		return record.Standing{}, err
	}
	r, err := c.engine.Plan(ctx, sub.Grant, fhir.Read, rq.Type)
	if err != nil {
		return record.Standing{}, err
	}
	return c.store.Standing(ctx, r, rq.ID)
}

// person is what the caller may know of the patient of a Consent. A patient whom she does not see is none.
func (c *Ceremony) person(ctx context.Context, rq *respond.Request, patient fhir.ID) (p record.Person, err error) {
	p.States = c.engine.States(rq.Grant)
	sub, err := c.as(rq, fhir.Read, "Patient")
	if err != nil || patient == "" {
		return p, nil //nolint:nilerr // who may read no Patient sees none
	}
	sub.ID = patient
	p.Record, err = c.current(ctx, sub)
	if x := (*outcome.Error)(nil); errors.As(err, &x) && x.Status() == http.StatusNotFound {
		err = nil
	}
	return p, err
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
	role, err := a.text("role")
	if err != nil {
		return s, err
	}
	if s.AsWitness = role == "witness"; role != "" && !s.AsWitness {
		return s, outcome.New(outcome.Invalid, "the parameter role is witness, for one who signs as such, or is left out")
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
func (c *Ceremony) copy(ctx context.Context, rq *respond.Request, receipts []record.Receipt, a record.Attestation) respond.Response {
	var out []record.Released
	if rq.Prefer.Represent() {
		for _, rc := range receipts {
			if r, err := c.version(ctx, rq, rc); err == nil {
				out = append(out, r...)
			}
		}
	}
	return respond.Attested(receipts[0], out, a)
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
