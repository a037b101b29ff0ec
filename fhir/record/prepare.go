package record

import (
	"context"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/consent/form"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Preparation is what is written into a consent form.
type Preparation struct {
	ID      fhir.ID // of the Consent that comes of it
	Patient fhir.Ref
	Answers *codec.Resource // a QuestionnaireResponse, or nil where the form asks for nothing
	// Parent and Witness ask for their signatures besides, where the form does not.
	Parent, Witness bool
	Person          Person
}

// Prepare makes of a consent form, read by the holder of gr, and of what was
// written into it a Consent that waits for its signature. It is refused, with
// every defect, where no signature could make it valid.
func (g *Gate) Prepare(ctx context.Context, gr authz.Grant, template Sealed, p Preparation) (Cleared, error) {
	h := vault.Head(template)
	if h.Ref.Type != "Questionnaire" || p.Patient.Type != "Patient" || p.Answers != nil && p.Answers.Type != "QuestionnaireResponse" {
		return Cleared{}, authz.ErrDenied
	}
	read, err := g.decider.Extend(gr, fhir.Read, h.Ref.Type)
	if err != nil {
		return Cleared{}, err
	}
	if err := g.disclose(ctx, read, h.Ref.Type, template); err != nil {
		return Cleared{}, err
	}
	questionnaire, err := opened(ctx, template)
	if err != nil {
		return Cleared{}, err
	}
	now := g.now().UTC().Truncate(time.Second)
	filled := form.Filled{Template: questionnaire.Root, Patient: p.Patient, Authored: now.Format(time.RFC3339), Parent: p.Parent, Witness: p.Witness}
	if !filled.Parent {
		if filled.Parent, err = g.needsParent(ctx, gr, consent.Kind(form.Kind(questionnaire.Root)), p.Person, now); err != nil {
			return Cleared{}, err
		}
	}
	if p.Answers != nil {
		filled.Answers = p.Answers.Root
	}
	root, faults := form.Consent(filled)
	if len(faults) > 0 {
		return Cleared{}, &outcome.Error{Issues: faults}
	}
	content, err := codec.Check(root)
	if err != nil {
		return Cleared{}, err
	}
	if faults := unsignable(content, p.Patient, now); len(faults) > 0 {
		return Cleared{}, &outcome.Error{Issues: faults}
	}
	content.SetID(p.ID)
	return g.admit(ctx, gr, Change{Interaction: fhir.Create, under: fhir.PrepareConsent, Ref: fhir.Ref{Type: "Consent", ID: p.ID}, Content: content})
}
