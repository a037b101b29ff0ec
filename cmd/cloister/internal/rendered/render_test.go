package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

// Events of security of every kind are AuditEvents of R4: with all that they can say, and with nothing but their kind.
func TestSecurityEventsAreR4(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 1_000_000, time.UTC)
	const id = "0b8f0a34-6f0f-4c07-8a39-2a3c1b4d5e6f"
	for _, k := range audit.Kinds() {
		for why, e := range map[string]audit.Security{
			"whole": {
				Tenant: 1, Account: id, User: fhir.Ref{Type: "Practitioner", ID: "tess"}, Client: "chart", Session: id, Methods: []string{"pwd", "otp", "mfa"}, Address: netip.MustParseAddr("2001:db8::1"),
				Outcome: audit.Refused, Reason: audit.ReasonCredential,
			},
			"by somebody else": {Tenant: 1, Account: id, By: "scim", Outcome: audit.Success},
			"an app alone":     {Client: "pump", Address: netip.MustParseAddr("192.0.2.1"), Outcome: audit.Success},
			"nobody":           {Outcome: audit.Refused, Reason: audit.ReasonUnknown},
		} {
			e.ID, e.At, e.Kind = id, at, k
			text := audit.RenderSecurity(e).AppendJSON(nil)
			if _, err := codec.Parse(text); err != nil {
				t.Errorf("%s, %s: %v\n%s", k, why, err, text)
			}
		}
	}
}
