package export_test

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)

// An export of the full database is that of one from which everything is physically absent
// that its client may not see: manifest, names, counts and lines.
func TestL28_TwinsExportTheSame(t *testing.T) {
	since := "2026-03-01T12:00:00Z"
	requests := []export.Request{
		{Level: export.System}, {Level: export.Patient}, {Level: export.Group, Group: "panel"}, {Level: export.Group, Group: "program"}, {Level: export.Group, Group: "others"}, {Level: export.Group, Group: "nobody"},
		{Level: export.System, Since: since}, {Level: export.Patient, Organized: true}, {Level: export.System, Organized: true, Since: since}, {Level: export.Patient, Patients: []fhir.ID{"anna", "bert"}},
		{Level: export.System, Types: []fhir.ResourceType{"Observation", "Encounter"}, Filters: []string{"Observation?encounter:missing=true", "Observation?encounter.service-provider=Organization/sud", "Encounter?service-provider:not=Organization/general"}, Lenient: true},
		{Level: export.System, Types: []fhir.ResourceType{"Patient"}, Filters: []string{"Patient?_has:Observation:patient:encounter:missing=false", "Patient?_has:Condition:patient:code:text=cough"}},
	}
	for name, who := range map[string]func(*house) authz.Principal{"exchange": (*house).exchange, "therapist": (*house).therapist} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			full, twin := newHouse(t), newHouse(t)
			for _, h := range []*house{full, twin} {
				h.remove("Observation/o05")
				h.remove("Observation/sb")
			}
			sees := map[fhir.ResourceType]authz.Restriction{}
			for _, rt := range fhir.ResourceTypes() {
				g, err := twin.Engine.Authorize(ctx, who(twin), fhir.Read, rt)
				if err != nil {
					continue
				}
				if sees[rt], err = twin.Engine.Plan(ctx, g, fhir.Read, rt); err != nil {
					t.Fatal(err)
				}
			}
			owner, err := pgx.Connect(ctx, twin.DSN)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = owner.Close(ctx) }()
			before := full.SQL("SELECT id FROM record.resource ORDER BY id")
			if err := postgres.Excise(ctx, owner, sees); err != nil {
				t.Fatal(err)
			}
			if after := twin.SQL("SELECT id FROM record.resource ORDER BY id"); before == after {
				t.Fatal("nothing is hidden, so this test shows nothing")
			}
			for i, r := range requests {
				var got [2]string
				for n, h := range []*house{full, twin} {
					r := r
					id, err := h.Accept(ctx, h.Grant(who(h)), r)
					if err != nil {
						got[n] = fmt.Sprint(status(err), err)
						continue
					}
					h.finish()
					s := h.status(who(h), id)
					got[n] = uuids.ReplaceAllString(fmt.Sprintf("%+v\n%s\n", s, s.Progress()), "<new>")
					for _, line := range sorted(h.fetched(who(h), id)) {
						got[n] += line + "\n"
					}
				}
				if got[0] != got[1] {
					t.Errorf("request %d\n--- full\n%s\n--- twin\n%s", i, got[0], got[1])
				}
				if i == 0 && len(got[0]) < 2000 {
					t.Errorf("there is next to nothing to compare: %s", got[0])
				}
			}
		})
	}
}
