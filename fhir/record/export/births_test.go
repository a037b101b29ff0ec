package export_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// hiding is the store for somebody who may not see a patient, but what is of her.
type hiding struct {
	export.Records
	patient fhir.ID
}

func (x *hiding) Current(ctx context.Context, r authz.Restriction, ids []fhir.ID) (map[fhir.ID][]record.Sealed, error) {
	out, err := x.Records.Current(ctx, r, ids)
	if r.Type() == "Patient" {
		delete(out, x.patient)
	}
	return out, err
}

// What a release remembers of a patient is good as long as she is seen, and is what she was then.
func TestWhoIsRememberedIsStillAskedFor(t *testing.T) {
	x := &hiding{}
	h := newHouse(t, releasing, func(c *export.Config) { x.Records, c.Records = c.Records, x })
	p := h.exchange()
	anna := `{"resourceType":"Patient","id":"anna","birthDate":"1990-02-03"}`
	observations := func(want, ages int) {
		t.Helper()
		h.Clock.Add(1000)
		id := h.accept(p, released("Observation"))
		h.finish()
		seen := x.patient
		x.patient = "" // the fetching asks for itself
		got := h.fetched(p, id)["output Observation"]
		x.patient = seen
		if n := strings.Count(strings.Join(got, "\n"), `"value":35`); len(got) != want || n != ages {
			t.Errorf("%d Observations, %d with an age; want %d and %d", len(got), n, want, ages)
		}
	}
	h.Load(anna)
	h.Load(observation("age", "anna", `,"valueQuantity":{"value":35,"unit":"years","system":"http://unitsofmeasure.org","code":"a"}`))
	observations(14, 1)
	observations(14, 1)
	h.Load(strings.Replace(anna, "1990", "1930", 1)) // over 89 now: what is of her tells no age
	observations(14, 0)
	x.patient = "anna"
	observations(8, 0)
}
