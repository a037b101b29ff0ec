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
		g, err := twin.Engine.Authorize(ctx, twin.exchange(), fhir.Read, rt)
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
	lines := []string{
		observation("open", `,"subject":{"reference":"Patient/anna"}`), // as it is
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Anne"}]}`,
		observation("secret", ""), // the id of what is hidden, twice
		observation("secret", `,"valueInteger":1`),
		observation("to-hidden", `,"encounter":{"reference":"Encounter/hidden"}`),
		observation("to-secret", `,"derivedFrom":[{"reference":"Observation/secret"}]`),
		observation("to-restricted-by-query", `,"performer":[{"reference":"Practitioner?identifier=urn:npi|2"}]`),
		observation("to-either", `,"performer":[{"reference":"Practitioner?identifier:missing=false"}]`),
		// Nobody sends what these refer to: it is hidden, or there is a hidden one beside it.
		observation("to-unseen", `,"encounter":{"reference":"Encounter/unseen"}`),
		observation("to-unseen-by-query", `,"encounter":{"reference":"Encounter?identifier=urn:visit|2"}`),
		observation("to-seen-by-query", `,"encounter":{"reference":"Encounter?identifier=urn:visit|1"}`),
		observation("by-what-refers-to-it", `,"subject":{"reference":"Patient?_has:Encounter:patient:identifier=urn:visit|2"}`),
		`{"resourceType":"Encounter","id":"hidden","status":"planned","class":{"code":"AMB"}}`,
		`{"resourceType":"Practitioner","id":"eve"}`, `{"resourceType":"Organization","id":"sud"}`,
		"nothing",
	}
	fates := func(h *house) string {
		return h.SQL("SELECT DISTINCT r.id || ' ' || COALESCE(r.body->'encounter'->>'reference', '') FROM record.resource r WHERE r.id ~ '^(to|by)-' ORDER BY 1")
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
	} // What the references led to was there for the caller, and nothing else.
	const stored = "to-hidden Encounter/hidden to-restricted-by-query  to-secret  to-seen-by-query Encounter/seen"
	if got := fates(full); got != stored || fates(twin) != got {
		t.Errorf("stored are %q, in the twin %q", got, fates(twin))
	}
}
