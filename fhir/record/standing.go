package record

import (
	"context"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/consent/state"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// Standing is what the store keeps of the signatures of a Consent beside the Provenances that
// carry them: those that cover what it says now, the oldest first.
type Standing struct {
	Patient    fhir.ID // whose Consent it is, "" where it is of no one patient
	Attested   consent.Attested
	Signatures []Signature
}

// Signature is one signature that this server made of a Consent.
type Signature struct {
	Version fhir.VersionID // of the Consent, that it made
	Role    string         // patient, parent, guardian, executor or witness
	Who     fhir.Ref
	Subject string // of the token, by which one person is known who has two records here
}

// by reports whether the one who acts is the one who made s.
func (s Signature) by(who fhir.Ref, subject string) bool { return s.Who == who || s.Subject == subject }

// roleWitness is the role of whoever signs as a witness.
const roleWitness = "witness"

// signedBy lists the signatures of a standing by witnesses, or by everybody else.
func (s Standing) signedBy(witnesses bool) []Signature {
	return slices.DeleteFunc(slices.Clone(s.Signatures), func(x Signature) bool { return (x.Role == roleWitness) != witnesses })
}

// Person is what is known of the patient of a Consent for the question who has to sign it.
type Person struct {
	Record Sealed    // the Patient as the caller sees her; zero: the caller does not
	States state.Set // the law of the states that the practice is under
}

// needsParent reports whether a parent has to sign beside the patient (S28, 42 CFR 2.14(c)): of a minor
// who may not consent alone to treatment for substance use under any law that is known to hold here.
// Nobody is a minor of whom no birth date is known. One without a day is as young as it can be.
func (g *Gate) needsParent(ctx context.Context, gr authz.Grant, k consent.Kind, p Person, at time.Time) (bool, error) {
	h := vault.Head(p.Record)
	if !consent.AsksForParent(k) || h.Ref.Type != "Patient" || h.Deleted {
		return false, nil
	}
	read, err := g.decider.Extend(gr, fhir.Read, h.Ref.Type)
	if err != nil {
		return false, err
	}
	if err := g.disclose(ctx, read, h.Ref.Type, p.Record); err != nil {
		return false, err
	}
	patient, err := opened(ctx, p.Record)
	if err != nil {
		return false, err
	}
	_, birth, known := search.Instants(patient.Root.Get("birthDate").String())
	if !known || state.OfAge(birth, at) {
		return false, nil
	}
	years := 0
	for !birth.AddDate(years+1, 0, 0).After(at) {
		years++
	}
	return !p.States.MayConsentAlone(state.SubstanceUse, years), nil
}
