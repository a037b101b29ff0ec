package clinic

import (
	"slices"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// TestConsents checks what 42 CFR 2.31(a) asks of a written consent, and which
// patients have one in force.
func TestConsents(t *testing.T) {
	harbor, lakeside := archives(t, sample())
	for i := range lakeside.patients {
		if n := len(lakeside.chartOf(i, "Consent", nil)); n != 0 {
			t.Errorf("lakeside patient %d has %d Part 2 consents", i, n)
		}
	}
	tpoActors := []string{"treating-providers", "payers", "operations"}
	for patient, want := range map[int]*struct {
		status, kind string
		valid        bool
		purposes     []string
		recipients   []string
	}{
		featuredNotes:    nil,
		featuredTPO:      {"active", "part2-tpo", true, []string{"TREAT", "HPAYMT", "HOPERAT"}, tpoActors},
		featuredSpecific: {"active", "part2-specific", true, []string{"TREAT"}, []string{harbor.hie.String()}},
		featuredRevoked:  {"inactive", "part2-tpo", true, []string{"TREAT", "HPAYMT", "HOPERAT"}, tpoActors},
		featuredExpired:  {"active", "part2-tpo", false, []string{"TREAT", "HPAYMT", "HOPERAT"}, tpoActors},
		featuredSilent:   nil,
		featuredBoth:     nil,
	} {
		found := harbor.chartOf(patient, "Consent", nil)
		if want == nil {
			if len(found) != 0 {
				t.Errorf("patient %d has %d consents", patient, len(found))
			}
			continue
		}
		if len(found) != 1 {
			t.Errorf("patient %d has %d consents", patient, len(found))
			continue
		}
		c, self := found[0], harbor.patientRef(patient, "Patient", "").String()
		provision := c.Get("provision")
		if got := c.Get("status").String(); got != want.status {
			t.Errorf("patient %d: status %s", patient, got)
		}
		if !coded(c.Get("category"), fhir.ConsentKind, want.kind) || !coded(c.Get("scope"), terminology+"consentscope", "patient-privacy") {
			t.Errorf("patient %d: category or scope", patient)
		}
		for element, ref := range map[string]string{
			"patient":      c.Get("patient").Get("reference").String(),
			"performer":    c.Get("performer").Items[0].Get("reference").String(),
			"verification": c.Get("verification").Items[0].Get("verifiedWith").Get("reference").String(),
		} {
			if ref != self {
				t.Errorf("patient %d: %s is %s", patient, element, ref)
			}
		}
		if c.Get("organization").Items[0].Get("reference").String() != harbor.sud.org.String() {
			t.Errorf("patient %d: another discloser", patient)
		}
		if c.Get("verification").Items[0].Get("verified").Text != "true" || c.Get("sourceAttachment").Get("title") == nil ||
			c.Get("policyRule") == nil || c.Get("policy").Items[0].Get("uri") == nil || provision.Get("type").String() != "permit" ||
			!coded(provision.Get("securityLabel"), actCode, "42CFRPart2") {
			t.Errorf("patient %d: something that 2.31 asks for is missing", patient)
		}
		signed, err := time.Parse(time.RFC3339, c.Get("dateTime").String())
		if err != nil || signed.After(today) {
			t.Errorf("patient %d: signed at %v", patient, signed)
		}
		end, err := time.Parse(time.DateOnly, provision.Get("period").Get("end").String())
		if err != nil || end.After(today) != want.valid {
			t.Errorf("patient %d: ends on %v", patient, end)
		}
		var purposes, recipients []string
		for _, p := range provision.Get("purpose").List() {
			purposes = append(purposes, p.Get("code").String())
		}
		for _, a := range provision.Get("actor").List() {
			if !coded(a.Get("role"), partType, "IRCP") {
				t.Errorf("patient %d: an actor is no recipient", patient)
			}
			r := a.Get("reference")
			if id := r.Get("identifier"); id != nil {
				if id.Get("system").String() != fhir.RecipientClass {
					t.Errorf("patient %d: class of system %s", patient, id.Get("system"))
				}
				recipients = append(recipients, id.Get("value").String())
			} else {
				recipients = append(recipients, r.Get("reference").String())
			}
		}
		if !slices.Equal(purposes, want.purposes) || !slices.Equal(recipients, want.recipients) {
			t.Errorf("patient %d: purposes %v, recipients %v", patient, purposes, recipients)
		}
	}
}
