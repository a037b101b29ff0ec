package consent_test

import (
	"testing"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

// A Consent of the kind that wants no use of de-identified data forbids it, whether it says that it denies or says nothing;
// one that the patient took back does not (D7, 42 CFR 2.16).
func TestD7_2_16_AnOptOutForbids(t *testing.T) {
	for name, c := range map[string]struct {
		d    consent.Directive
		want bool
	}{
		"it denies":          {consent.Directive{Root: consent.Provision{Type: "deny"}}, true},
		"it says nothing":    {consent.Directive{}, true},
		"not understood":     {consent.Directive{Root: consent.Provision{Type: "permit"}, Malformed: []string{"Consent.provision.purpose[0]"}}, true},
		"it permits":         {consent.Directive{Root: consent.Provision{Type: "permit"}}, false},
		"it was taken back":  {consent.Directive{Status: "inactive", Root: consent.Provision{Type: "deny"}}, false},
		"it is another kind": {consent.Directive{Category: []consent.Code{{System: fhir.ConsentKind, Code: "hipaa-authorization"}}, Root: consent.Provision{Type: "deny"}}, false},
	} {
		d := c.d
		d.Patient = fhir.Ref{Type: "Patient", ID: "p"}
		if d.Status == "" {
			d.Status = "active"
		}
		if d.Category == nil {
			d.Category = []consent.Code{{System: fhir.ConsentKind, Code: "deidentified-optout"}}
		}
		got := false
		for _, g := range consent.Compile(d, nil).Grants {
			got = got || g.Effect == consent.Deny && g.About&consent.OptOut.Bit() != 0
		}
		if got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
