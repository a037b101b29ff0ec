package audit_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
)

func TestRenderSecurity(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	in := audit.Security{
		ID: "e1", At: at, Tenant: 1, Kind: audit.SignIn, Outcome: audit.Success, Account: "a1", User: fhir.Ref{Type: "Practitioner", ID: "tess"},
		Session: "s1", Methods: []string{"pwd", "mfa"}, Address: netip.MustParseAddr("192.0.2.1"),
	}
	if got, want := string(audit.RenderSecurity(in).AppendJSON(nil)), `{"resourceType":"AuditEvent","id":"e1","type":{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110114"},`+
		`"subtype":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110122"},{"system":"https://cloister.health/fhir/CodeSystem/security-event","code":"sign-in"}],`+
		`"action":"E","recorded":"2026-03-01T12:00:00Z","outcome":"0",`+
		`"agent":[{"who":{"identifier":{"value":"a1"},"reference":"Practitioner/tess"},"requestor":true,"network":{"address":"192.0.2.1","type":"2"}}],`+
		`"source":{"observer":{"display":"Cloister"}},`+
		`"entity":[{"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2"},"detail":[{"type":"session","valueString":"s1"},{"type":"method","valueString":"pwd"},{"type":"method","valueString":"mfa"}]}]}`; got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	// Somebody else did it: the agent is who did, the entity to whom.
	off := string(audit.RenderSecurity(audit.Security{ID: "e2", At: at, Kind: audit.AccountDisabled, Outcome: audit.Success, Account: "a1", By: "scim", User: fhir.Ref{Type: "Practitioner", ID: "tess"}}).AppendJSON(nil))
	if !strings.Contains(off, `"agent":[{"who":{"identifier":{"value":"scim"}},"requestor":true}]`) || !strings.Contains(off, `"entity":[{"what":{"identifier":{"value":"a1"}}`) {
		t.Error(off)
	}
	// Nobody is known, and an app alone.
	none := string(audit.RenderSecurity(audit.Security{ID: "e3", At: at, Kind: audit.SignIn, Outcome: audit.Refused, Reason: audit.ReasonUnknown}).AppendJSON(nil))
	if !strings.Contains(none, `"outcome":"4","outcomeDesc":"unknown","agent":[{"who":{"display":"unknown"},"requestor":true}]`) {
		t.Error(none)
	}
	app := string(audit.RenderSecurity(audit.Security{ID: "e4", At: at, Kind: audit.TokenIssued, Outcome: audit.Success, Client: "app"}).AppendJSON(nil))
	if !strings.Contains(app, `"agent":[{"type":{"coding":[{"system":"http://dicom.nema.org/resources/ontology/DCM","code":"110150"}]},"who":{"identifier":{"value":"app"}},"requestor":true}]`) {
		t.Error(app)
	}
}

func TestEveryKindHasItsCodes(t *testing.T) {
	for _, k := range audit.Kinds() {
		text := string(audit.RenderSecurity(audit.Security{Kind: k, Outcome: audit.Success}).AppendJSON(nil))
		if !k.Known() || strings.Contains(text, `"code":""`) || strings.Contains(text, `"action":""`) {
			t.Errorf("%s: %s", k, text)
		}
	}
	if audit.Kind("made-up").Known() {
		t.Error("any text is a kind")
	}
}
