package consent

import (
	"slices"

	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
)

// Signer is one whose signature a Consent asks for.
type Signer string

// The signers. What asks for the last two is a statement (fhir.ConsentStatement) of the Consent:
// needs-parent, needs-witness.
const (
	SignerPatient Signer = "patient"
	SignerParent  Signer = "parent"  // beside a minor, 42 CFR 2.14(c)
	SignerWitness Signer = "witness" // of the signatures of the others
)

// Signers tells those who have signed a Consent, as it says itself, from those whose
// signatures it asks for besides. A guardian, or another who signs in place of the patient, counts as the patient.
// Only where nothing is awaited can the Consent permit anything: a witness alone signs for nobody.
func Signers(d Directive) (signed, awaited []Signer) {
	s, both := signatures(d), d.NeedsParent()
	for _, x := range []struct {
		who         Signer
		asked, done bool
	}{
		{SignerPatient, true, s.Patient || s.Representative && !both},
		{SignerParent, both, both && asParent(s)},
		{SignerWitness, d.states(needsWitness), d.states(witnessed)},
	} {
		switch {
		case x.done:
			signed = append(signed, x.who)
		case x.asked:
			awaited = append(awaited, x.who)
		}
	}
	return signed, awaited
}

// NeedsParent reports whether minor and parent have to sign, both (S28, 42 CFR 2.14(c)): where the form asks for the
// parent, and in a consent about a program's records also where somebody signed as a parent.
func (d Directive) NeedsParent() bool {
	return d.states(needsParent) || AsksForParent(d.Kind()) && d.states(authority+string(part2.Parent))
}

// Kind is the one kind of consent that d is of, else General.
func (d Directive) Kind() Kind { return oneKind(kindsOf(d)) }

// asParent: a guardian of a minor signs in the parent's place.
func asParent(s part2.Signatures) bool {
	return s.Representative && (slices.Contains(s.Authority, part2.Parent) || slices.Contains(s.Authority, part2.Guardian))
}

// unsigned says whose signatures are missing that the Consent itself asks for. That of the
// patient alone is a matter of the law on its kind.
func unsigned(d Directive) (out []string) {
	if s := signatures(d); d.states(needsParent) && !part2.MinorConsents(part2.Minor{MinorSigned: s.Patient, ParentSigned: asParent(s)}) {
		out = append(out, "42 CFR 2.14(c): minor and parent have to sign, both")
	}
	if d.states(needsWitness) && !d.states(witnessed) {
		out = append(out, "policy: the signature of the witness whom it asks for is missing")
	}
	return out
}

// AsksForParent reports whether a Consent of some kind by a minor who may not consent to the treatment alone asks for the
// parent's signature besides (S28, 42 CFR 2.14(c)): where it is about a program's records. What a
// minor lets a parent see is the minor's alone to say.
func AsksForParent(k Kind) bool { return part2Kinds&k.Bit() != 0 && k != MinorDisclosure }

// told adds what a minor permits who signs a Consent that asks for the parent's signature, too: that the parent
// sees this Consent, and who has signed it (S28, 42 CFR 2.14(c)(2)). It is for the patient's own
// requests, and holds for as long as the signature covers what the Consent says.
func told(d Directive, grants []Grant) []Grant {
	waits := d.Status == "proposed" || d.Status == "draft" || d.Status == "active"
	if !waits || d.Attested != Covered || !d.NeedsParent() || !signatures(d).Patient || !d.Ref.ID.Valid() || d.Patient.Type != "Patient" {
		return grants
	}
	return append(grants, Grant{
		Kind: MinorDisclosure, Effect: Permit, Node: int16(len(grants)), Path: "Consent", Sure: true, //nolint:gosec // bounded by maxProvisions
		About: KindsOf(MinorDisclosure, Part2Specific, Authorization), Patient: d.Patient.ID, Purposes: expand(Permit, []string{"PATRQT"}),
		Period: Period{Start: d.DateTime}, Types: []fhir.ResourceType{"Consent", "Provenance"}, Labels: AllLabels,
		Data: []Datum{{Meaning: "dependents", Reference: d.Ref}},
	})
}
