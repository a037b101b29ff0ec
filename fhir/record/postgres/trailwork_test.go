package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// labour is what was asked of the database, and how many rows came back each time.
type labour struct {
	mu    sync.Mutex
	steps []string
}

type labourKey struct{}

func (l *labour) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, labourKey{}, fmt.Sprintf("%s\n%v", d.SQL, d.Args))
}

func (l *labour) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	asked, _ := ctx.Value(labourKey{}).(string)
	if strings.HasPrefix(asked, "INSERT INTO audit.event") { // its own id and moment
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, fmt.Sprintf("%s\n%d rows", asked, d.CommandTag.RowsAffected()))
}

// of is the work of a search of the trail, in which id stands for what is looked for.
func (l *labour) of(t *testing.T, s *saga, q record.Traces, id string) string {
	t.Helper()
	l.mu.Lock()
	l.steps = nil
	l.mu.Unlock()
	if got, err := s.h.trail(s.officer, q); err != nil || len(got) != 0 {
		t.Errorf("%v is found: %d, %v", q, len(got), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ReplaceAll(strings.Join(l.steps, "\n\n"), id, "ID")
}

// L39, L43: what the trail is asked for by is judged before a row of it is read. For a record, a patient or a
// user whom the reader may not know, the same statements with the same arguments bring the same
// number of rows as for what never was, however often it was accessed.
func TestL39_L43_TheTrailWorksAlikeForHiddenAndAbsent(t *testing.T) {
	s := newSaga(t)
	s.play()
	for entity, patient := range map[string]string{"Observation/o1": "anna", "Observation/o3": "cleo", "Encounter/e1": "anna", "Patient/cleo": "cleo"} {
		for _, user := range []string{"Practitioner/dora", "Patient/cleo"} {
			s.h.behind("INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients) "+
				"SELECT $1, $2, gen_random_uuid(), '0', 'read', 'Observation', 's', '', $3, '{therapist}', 'TREAT', 'p', 'r', ARRAY[$4 || '/_history/1'], '{1}', ARRAY[$5::text] FROM generate_series(1, 300)", s.h.tenant, s.h.now(), user, entity, patient)
		}
	}
	did := &labour{}
	s.h = s.h.over(postgres.Options{Keys: envelopetest.Keys(), Tracer: did})
	s.h.gate = record.NewGate(s.h.engine, s.h.store, s.h.now).Explaining(s.h.store).Accounting(s.h.store)

	const none = "never"
	entity := func(t fhir.ResourceType) func(id string) record.Traces {
		return func(id string) record.Traces {
			return record.Traces{Count: 50, EventsOnly: true, Entities: []fhir.Ref{{Type: t, ID: fhir.ID(id)}}}
		}
	}
	for _, c := range []struct {
		name, id string
		q        func(id string) record.Traces
	}{
		{"a record of a program, of a patient who is known", "o1", entity("Observation")},
		{"a record of a patient who is not", "o3", entity("Observation")},
		{"a visit", "e1", entity("Encounter")},
		{"a patient as a record", "cleo", entity("Patient")},
		{"a patient", "cleo", func(id string) record.Traces {
			return record.Traces{Count: 50, EventsOnly: true, Patients: []fhir.ID{fhir.ID(id)}}
		}},
		{"who acted", "cleo", func(id string) record.Traces {
			return record.Traces{Count: 50, Users: []string{"Patient/" + id}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _ = s.h.trail(s.officer, c.q(none)) // catalogues are filled once
			absent := did.of(t, s, c.q(none), none)
			if hidden := did.of(t, s, c.q(c.id), c.id); hidden != absent || !strings.Contains(absent, " rows") {
				t.Errorf("hidden:\n%s\n\nabsent:\n%s", hidden, absent)
			}
		})
	}
	// What is known is looked for in the trail.
	got, err := s.h.trail(s.officer, entity("Observation")("o2"))
	if err != nil || len(got) == 0 || !strings.Contains(strings.Join(did.steps, ""), "FROM audit.event") {
		t.Errorf("%d, %v", len(got), err)
	}
}

// An access to a record while it was no patient's is found after it has become one's.
func TestTheTrailOfARecordThatWasNobodys(t *testing.T) {
	s := newSaga(t)
	h := s.h
	visit := "{'resourceType':'Appointment','id':'slot','status':'booked','participant':[{'actor':{'reference':'%s'},'status':'accepted'}]}"
	h.load(fmt.Sprintf(visit, "Practitioner/dora"))
	ref := fhir.Ref{Type: "Appointment", ID: "slot"}
	if _, err := h.read(h.as("front-desk", "HOPERAT", "Practitioner/emil", "general"), ref); err != nil {
		t.Fatal(err)
	}
	h.load(fmt.Sprintf(visit, "Patient/anna"))
	was := h.count("SELECT count(*) FROM audit.event WHERE entities[1] = 'Appointment/slot/_history/1' AND patients = '{\"\"}'")
	got, err := h.trail(s.officer, record.Traces{Count: 50, EventsOnly: true, Entities: []fhir.Ref{ref}})
	if err != nil || was == 0 || strings.Count(strings.Join(got, ""), "Appointment/slot/_history/1") != was {
		t.Errorf("%d of %d: %v %s", len(got), was, err, got)
	}
}
