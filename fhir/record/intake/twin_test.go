package intake_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// An import into the full database has the report, counts and status of one into a database
// from which everything is physically absent that its client may not see.
func TestL28_TwinsImportTheSame(t *testing.T) {
	ctx := context.Background()
	full, twin := newHouse(t), newHouse(t)
	sees := map[fhir.ResourceType]authz.Restriction{}
	for _, rt := range fhir.ResourceTypes() {
		g, err := twin.engine.Authorize(ctx, twin.exchange(), fhir.Read, rt)
		if err != nil {
			continue
		}
		if sees[rt], err = twin.engine.Plan(ctx, g, fhir.Read, rt); err != nil {
			t.Fatal(err)
		}
	}
	owner, err := pgx.Connect(ctx, twin.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close(ctx) }()
	before := full.sql("SELECT id FROM record.resource ORDER BY id")
	if err := postgres.Excise(ctx, owner, sees); err != nil {
		t.Fatal(err)
	}
	if after := twin.sql("SELECT id FROM record.resource ORDER BY id"); before == after {
		t.Fatal("nothing is hidden, so this test shows nothing")
	}
	lines := []string{
		observation("open", `,"subject":{"reference":"Patient/anna"}`), // as it is
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Anne"}]}`,
		observation("secret", ""), // the id of what is hidden, twice
		observation("secret", `,"valueInteger":1`),
		observation("to-hidden", `,"encounter":{"reference":"Encounter/hidden"}`),
		observation("to-secret", `,"derivedFrom":[{"reference":"Observation/secret"}]`),
		observation("to-hidden-by-query", `,"performer":[{"reference":"Practitioner?identifier=urn:npi|2"}]`),
		observation("to-either", `,"performer":[{"reference":"Practitioner?identifier:missing=false"}]`),
		`{"resourceType":"Encounter","id":"hidden","status":"planned","class":{"code":"AMB"}}`,
		`{"resourceType":"Practitioner","id":"eve"}`, `{"resourceType":"Organization","id":"sud"}`,
		"nothing",
	}
	for round, dry := range []bool{true, false, false, true} {
		var got [2]string
		for n, h := range []*house{full, twin} {
			p := h.exchange()
			id := h.upload(p, dry, lines...)
			h.finish()
			got[n] = h.report(p, id) + h.status(p, id).Progress
		}
		if got[0] != got[1] {
			t.Errorf("round %d\n--- full\n%s\n--- twin\n%s", round, got[0], got[1])
		}
		if len(got[0]) < 1000 {
			t.Errorf("there is next to nothing to compare: %s", got[0])
		}
	}
}
