package consent_test

import (
	"slices"
	"testing"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

// signedBy is a consent to a disclosure of a program's records with those statements and signers.
func signedBy(status string, statements []string, performers ...fhir.Ref) consent.Directive {
	d := consent.Directive{
		Ref: fhir.Ref{Type: "Consent", ID: "c"}, Status: status, Patient: fhir.Ref{Type: "Patient", ID: "minor"},
		Category: []consent.Code{{System: fhir.ConsentKind, Code: "part2-specific"}}, Performers: performers, Verified: performers,
	}
	for _, s := range statements {
		d.Policies = append(d.Policies, fhir.ConsentStatement+"#"+s)
	}
	return d
}

var (
	minorRef  = fhir.Ref{Type: "Patient", ID: "minor"}
	parentRef = fhir.Ref{Type: "RelatedPerson", ID: "parent"}
)

// S28 (42 CFR 2.14(c)): who has signed, and who has still to.
func TestS28_2_14_c_Signers(t *testing.T) {
	const patient, parent, witness = consent.SignerPatient, consent.SignerParent, consent.SignerWitness
	for name, c := range map[string]struct {
		d               consent.Directive
		signed, awaited []consent.Signer
	}{
		"nobody":                    {signedBy("proposed", nil), nil, []consent.Signer{patient}},
		"the patient":               {signedBy("proposed", nil, minorRef), []consent.Signer{patient}, nil},
		"the minor alone":           {signedBy("proposed", []string{"needs-parent"}, minorRef), []consent.Signer{patient}, []consent.Signer{parent}},
		"the parent alone":          {signedBy("proposed", []string{"needs-parent", "authority-parent"}, parentRef), []consent.Signer{parent}, []consent.Signer{patient}},
		"a parent, unasked":         {signedBy("proposed", []string{"authority-parent"}, parentRef), []consent.Signer{parent}, []consent.Signer{patient}},
		"both":                      {signedBy("proposed", []string{"needs-parent", "authority-parent"}, minorRef, parentRef), []consent.Signer{patient, parent}, nil},
		"a relative of no such":     {signedBy("proposed", []string{"needs-parent"}, minorRef, parentRef), []consent.Signer{patient}, []consent.Signer{parent}},
		"a witness alone":           {signedBy("proposed", []string{"needs-witness", "witnessed"}), []consent.Signer{witness}, []consent.Signer{patient}},
		"without the witness":       {signedBy("proposed", []string{"needs-witness"}, minorRef), []consent.Signer{patient}, []consent.Signer{witness}},
		"in place of the patient":   {signedBy("proposed", []string{"authority-guardian"}, parentRef), []consent.Signer{patient}, nil},
		"a guardian beside a minor": {signedBy("proposed", []string{"needs-parent", "authority-guardian"}, minorRef, parentRef), []consent.Signer{patient, parent}, nil},
	} {
		if signed, awaited := consent.Signers(c.d); !slices.Equal(signed, c.signed) || !slices.Equal(awaited, c.awaited) {
			t.Errorf("%s: signed by %v, awaits %v", name, signed, awaited)
		}
	}
}

// S28 (42 CFR 2.14(c)(2)): the parent is told of the one Consent that the minor signed for that, and of nothing else.
func TestS28_2_14_c_2_ToldToTheParent(t *testing.T) {
	covered := func(d consent.Directive) consent.Directive { d.Attested = consent.Covered; return d }
	told := consent.Compile(covered(signedBy("proposed", []string{"needs-parent"}, minorRef)), nil).Grants
	if len(told) != 1 || !told[0].Sure || told[0].Patient != "minor" || !slices.Equal(told[0].Types, []fhir.ResourceType{"Consent", "Provenance"}) ||
		!slices.Equal(told[0].Data, []consent.Datum{{Meaning: "dependents", Reference: fhir.Ref{Type: "Consent", ID: "c"}}}) || slices.Contains(told[0].Purposes, "TREAT") {
		t.Errorf("what the minor permits by signing: %+v", told)
	}
	lapsed := signedBy("proposed", []string{"needs-parent"}, minorRef)
	lapsed.Attested = consent.Lapsed
	for name, d := range map[string]consent.Directive{
		"nobody signed here":   signedBy("proposed", []string{"needs-parent"}, minorRef),
		"it was changed":       lapsed,
		"the parent alone":     covered(signedBy("proposed", []string{"needs-parent", "authority-parent"}, parentRef)),
		"no parent is asked":   covered(signedBy("proposed", nil, minorRef)),
		"it was revoked":       covered(signedBy("inactive", []string{"needs-parent"}, minorRef)),
		"it was said in error": covered(signedBy("entered-in-error", []string{"needs-parent"}, minorRef)),
	} {
		if g := consent.Compile(d, nil).Grants; len(g) != 0 {
			t.Errorf("%s: %+v", name, g)
		}
	}
}
