package audit_test

import (
	"testing"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
)

// What is documented or ended is no resource: the AuditEvent names it in a detail.
func TestRenderNamesActs(t *testing.T) {
	for typ, want := range map[fhir.ResourceType]string{
		"":        `[{"detail":[{"type":"exception","valueString":"x1"}]},{"detail":[{"type":"exception","valueString":"x2"}]}]`,
		"Patient": `[{"detail":[{"type":"emergency","valueString":"x1"}]},{"detail":[{"type":"emergency","valueString":"x2"}]}]`,
	} {
		e := audit.Event{Interaction: fhir.Operation, Type: typ, Outcome: audit.Success, Acts: []string{"x1", "x2"}}
		if got := string(audit.Render(e).Get("entity").AppendJSON(nil)); got != want {
			t.Errorf("type %q: %s", typ, got)
		}
	}
	if audit.Render(audit.Event{Interaction: fhir.Operation}).Get("entity") != nil {
		t.Error("an event of no act has an entity")
	}
}
