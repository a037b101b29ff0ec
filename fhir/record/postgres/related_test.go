package postgres_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
)

// The relations are written twice: in statements, and in a function for the rows
// that are rarely asked. Both have to say the same, at every moment.
func TestRelationsOfTheFunctionAreThoseOfStatements(t *testing.T) {
	h := clinic(t)
	c, err := pgx.Connect(t.Context(), h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	practice := strconv.Itoa(int(h.tenant)) // which of the two practices came first is left to chance
	for _, insert := range []string{
		"INSERT INTO record.relation (tenant, kind, member, patient, starts, ends, source) SELECT t, k, 'Practitioner/' || m, p, s, s + interval '9 days', 0" +
			" FROM unnest(ARRAY[1, 2]) AS t, unnest(ARRAY[1, 2]) AS k, unnest(ARRAY['a', 'b', 'c']) AS m, unnest(ARRAY['x', 'y', 'z']) AS p, unnest(ARRAY[timestamptz '2026-03-01', NULL]) AS s WHERE (t * 7 + k * 3 + ascii(m) * 5 + ascii(p)) % 4 = 0",
		"INSERT INTO record.supervision (tenant, supervisor, supervisee, starts, ends, source) SELECT " + practice + ", 'Practitioner/' || m, 'Practitioner/' || n, timestamptz '2026-03-05', s, 0" +
			" FROM unnest(ARRAY['a', 'b', 'c']) AS m, unnest(ARRAY['a', 'b', 'c']) AS n, unnest(ARRAY[timestamptz '2026-03-07', NULL]) AS s WHERE (ascii(m) + ascii(n)) % 3 = 1",
		"INSERT INTO record.emergency (tenant, id, member, subject, patient, purpose, reason, nature, recipient, facility, discloser, starts, ends) SELECT " + practice + ", gen_random_uuid(), 'Practitioner/b', '', p, 'ETREAT', 'ETREAT', '', '', '', '', timestamptz '2026-03-06', timestamptz '2026-03-08' FROM unnest(ARRAY['x', 'z']) AS p",
	} {
		if _, err := c.Exec(t.Context(), insert); err != nil {
			t.Fatal(err)
		}
	}
	related := map[int]int{}
	for _, day := range []int{1, 4, 6, 7, 8, 12} {
		h.clock.Store(time.Date(2026, 3, day, 12, 0, 0, 0, time.UTC).UnixMilli())
		for _, who := range []string{"a", "b", "c"} {
			_, r, err := h.plan(h.as("psychiatrist", "ETREAT", "Practitioner/"+who), fhir.Read, "Patient")
			if err != nil {
				t.Fatal(err)
			}
			for kind := 1; kind <= 4; kind++ {
				inline, function, err := h.store.Related(t.Context(), r, kind, []string{"x", "y", "z"})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(inline, function) {
					t.Errorf("day %d, %s, kind %d: %v in a statement, %v in the function", day, who, kind, inline, function)
				}
				related[kind] += len(inline)
			}
		}
	}
	for kind := 1; kind <= 4; kind++ {
		if related[kind] == 0 {
			t.Errorf("kind %d: nobody is related to anybody", kind)
		}
	}
}
