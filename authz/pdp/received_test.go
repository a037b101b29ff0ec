package pdp

import (
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// 42 CFR 2.12(d)(2)(i)(C): what was received under consent need not be kept
// apart, so treatment is as for any record; but 2.12(d)(1): it reaches no
// proceeding. It goes no further by itself, to an exchange or a proxy.
func TestS3S6S16ReceivedRecords(t *testing.T) {
	p := house(t)
	every := authz.Fact(0)
	for _, f := range authz.Facts() {
		every |= f.Bit
	}
	for _, c := range []struct {
		role, purpose string
		typ           fhir.ResourceType
		facts         authz.Fact
		want          bool
	}{
		{"therapist", "TREAT", "Condition", authz.Treating, true},
		{"therapist", "TREAT", "Condition", 0, false},
		{"biller", "HPAYMT", "Claim", 0, true},
		{"patient", "PATRQT", "Condition", authz.Self, true},
		{"therapist", "HLEGAL", "Condition", every, false},
		{"privacy-officer", "HLEGAL", "Condition", every &^ authz.Exception, false},
		{"proxy", "PATRQT", "Condition", authz.Proxy, false},
		{"hie", "TREAT", "Condition", 0, false},
		{"front-desk", "HOPERAT", "Patient", 0, false},
	} {
		q := authz.Question{Roles: []string{c.role}, Purpose: c.purpose, Action: authz.ActionRead, Type: c.typ, Labels: label.Received | label.SUD}
		if got, err := p.Explain(q, c.facts|authz.Unrestricted); err != nil || got.Permit != c.want {
			t.Errorf("%s %s %s with %s: %v (%v), want %v", c.role, c.purpose, c.typ, factNames(c.facts), got.Permit, err, c.want)
		}
	}
}
