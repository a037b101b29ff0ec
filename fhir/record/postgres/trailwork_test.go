package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
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

// steady is the work of a question of whatever answer.
func (l *labour) steady(ask func() error) (string, error) {
	l.mu.Lock()
	l.steps = nil
	l.mu.Unlock()
	err := ask()
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.steps, "\n\n"), err
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

	none := "never"
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
	// An access to nothing but what is hidden, by its id, is one that never was.
	var id string
	if err := s.h.row("SELECT id::text FROM audit.event WHERE entities = '{Observation/o3/_history/1}' AND at = $1 LIMIT 1", &id, s.h.now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	one := func(id string) record.Traces {
		return record.Traces{Count: 1, IDs: []string{id}, Moments: []time.Time{s.h.now().Add(-time.Minute)}}
	}
	none = record.NewID()
	if hidden, absent := did.of(t, s, one(id), id), did.of(t, s, one(none), none); hidden != absent || !strings.Contains(absent, "audit.event") {
		t.Errorf("hidden:\n%s\n\nabsent:\n%s", hidden, absent)
	}
	// What is known is looked for in the trail.
	got, err := s.h.trail(s.officer, entity("Observation")("o2"))
	if err != nil || len(got) == 0 || !strings.Contains(strings.Join(did.steps, ""), "FROM audit.event") {
		t.Errorf("%d, %v", len(got), err)
	}
}

// L39, L43: however the trail is asked, the same statements with the same arguments bring the same number of rows with what the
// reader may not know to exist as without it, in the records and in the trail: what is hidden is left
// out where rows are found.
func TestL39_L43_TheTrailWorksAlikeWithAndWithoutWhatIsHidden(t *testing.T) {
	s := newSaga(t)
	s.play()
	first := s.h.now()
	// Between what may be known: accesses to what is hidden alone, by and of who is hidden, and beside what is not.
	for i, c := range []struct{ user, roles, entities, labels, patients, consents, purpose string }{
		{"Practitioner/dora", "{therapist}", "{Observation/o1/_history/1}", "{1}", "{anna}", "{}", "TREAT"},
		{"Practitioner/dora", "{therapist}", "{Observation/o3/_history/1}", "{0}", "{cleo}", "{}", "TREAT"},
		{"Patient/cleo", "{patient}", "{Appointment/both/_history/1}", "{0}", "{anna}", "{}", "PATRQT"},
		{"Practitioner/dora", "{research-analyst}", "{Encounter/e1/_history/1}", "{1}", "{anna}", "{}", "HRESCH"},
		{"Practitioner/dora", "{research-analyst}", "{Observation/o2/_history/1,Observation/o1/_history/1}", "{0,1}", "{anna,anna}", "{}", "HRESCH"},
		{"Practitioner/dora", "{therapist}", "{Observation/o2/_history/1,Observation/o1/_history/1}", "{0,1}", "{anna,anna}", "{'',Consent/c}", "HRESCH"},
		{"Practitioner/dora", "{therapist}", "{Observation/o3/_history/1,Observation/o2/_history/1}", "{0,0}", "{cleo,anna}", "{Consent/c,''}", "TREAT"},
		{"Practitioner/dora", "{therapist}", "{Observation/o2/_history/1}", "{0}", "{anna}", "{}", "TREAT"},
		{"", "{registry}", "{Observation/o2/_history/1}", "{0}", "{anna}", "{}", "PUBHLTH"},
		{"", "{registry}", "{DocumentReference/n/_history/1}", "{2}", "{anna}", "{}", "PUBHLTH"},
		// It was not protected yet.
		{"Practitioner/dora", "{therapist}", "{Observation/o1/_history/1}", "{0}", "{anna}", "{}", "TREAT"},
	} {
		n := 40
		if strings.Contains(c.user, "Patient/") || !strings.Contains(c.entities, "o2") {
			n = 400
		}
		part2, note := fmt.Sprint(int32(label.Part2)), fmt.Sprint(int32(label.PsychNote))
		s.h.behind("INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients, consents) "+
			"SELECT $1, $2::timestamptz + i * interval '1 millisecond', gen_random_uuid(), '0', 'search-type', 'Observation', 's', 'app', $3, $4::text::text[], $5, 'p', 'r', $6::text::text[], $7::text::integer[], $8::text::text[], $9::text::text[] FROM generate_series($10::integer, $11::integer, 11) AS i",
			s.h.tenant, first, c.user, c.roles, c.purpose, c.entities, strings.NewReplacer("1", part2, "2", note).Replace(c.labels), c.patients, strings.ReplaceAll(c.consents, "'", `"`), i, 11*n)
	}
	s.h.behind("INSERT INTO audit.security (tenant, at, id, kind, outcome, reason, account, fhir_user, actor, client, session, methods, address) "+
		"SELECT $1, $2::timestamptz + i * interval '1 millisecond', gen_random_uuid(), 'sign-in', '0', '', '', CASE WHEN i % 2 = 0 THEN 'Patient/cleo' ELSE 'Patient/anna' END, '', '', '', '{}', '' FROM generate_series(1, 300) AS i", s.h.tenant, first)
	did := &labour{}
	s.h = s.h.over(postgres.Options{Keys: envelopetest.Keys(), Tracer: did})
	h := s.h
	h.gate = record.NewGate(h.engine, h.store, h.now).Explaining(h.store).Accounting(h.store)
	asked := h.now()
	self := h.as("patient", "PATRQT", "Patient/anna")
	questions := map[string]func() (int, error){}
	for name, q := range map[string]record.Traces{
		"everything": {Count: 50}, "a small page at a time": {Count: 9, From: first.Add(200 * time.Millisecond)}, "the oldest first": {Count: 50, Oldest: true}, "refusals": {Count: 5, Outcomes: []string{"4"}}, "searches": {Count: 50, Interactions: []string{"search-type"}},
		"of a patient": {Count: 50, Patients: []fhir.ID{"anna"}, EventsOnly: true}, "of two patients": {Count: 50, Patients: []fhir.ID{"cleo", "bert"}, EventsOnly: true}, "of a record": {Count: 50, Entities: []fhir.Ref{{Type: "Observation", ID: "o2"}}, EventsOnly: true},
		"by who acted": {Count: 50, Users: []string{"Practitioner/dora"}}, "what concerns no record": {Count: 50, SecurityOnly: true},
	} {
		q.Until = asked
		questions[name] = func() (int, error) { got, err := h.trail(s.officer, q); return len(got), err }
	}
	for name, p := range map[string]authz.Principal{"officer": s.officer, "patient": self} {
		questions["the report to the "+name] = func() (int, error) { got, err := h.report(p, "anna", 50); return len(got), err }
		questions["the accounting to the "+name] = func() (int, error) {
			got, _, err := h.account(p, func(q *record.Accounting) { q.Count = 200 })
			return len(got), err
		}
	}
	alike := func(who func(name string) bool, forget func()) {
		ask := func() (work map[string]string, found map[string]int) {
			work, found = map[string]string{}, map[string]int{}
			for name, q := range questions {
				if !who(name) {
					continue
				}
				h.behind("DELETE FROM audit.event WHERE at >= $1", asked)
				h.clock.Store(asked.UnixMilli())
				var err error
				if work[name], err = did.steady(func() (err error) { found[name], err = q(); return err }); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			return work, found
		}
		_, _ = ask() // catalogues are filled once
		with, found := ask()
		rows := h.count("SELECT count(*) FROM audit.event WHERE at < $1", asked)
		forget()
		if left := h.count("SELECT count(*) FROM audit.event WHERE at < $1", asked); rows-left < 300 || left < 100 {
			t.Errorf("of %d rows %d are left: it shows nothing", rows, left)
		}
		without, still := ask()
		for name, was := range with {
			if found[name] == 0 || found[name] != still[name] {
				t.Errorf("%s: %d, without what is hidden %d", name, found[name], still[name])
			}
			if was != without[name] {
				t.Errorf("%s: with what is hidden\n%s\n\nwithout\n%s", name, counts(was), counts(without[name]))
			}
		}
	}
	patient := func(name string) bool { return strings.HasSuffix(name, "to the patient") }
	alike(patient, func() { h.behind("DELETE FROM audit.event WHERE entities[1] LIKE 'DocumentReference/%'") })
	alike(func(name string) bool { return !patient(name) }, s.forget)
}

// counts is the last line of each step: how many rows came back.
func counts(work string) string {
	var out []string
	for _, step := range strings.Split(work, "\n\n") {
		lines := strings.Split(step, "\n")
		out = append(out, fmt.Sprintf("%.40s … %.300s: %s", lines[0], lines[len(lines)-2], lines[len(lines)-1]))
	}
	return strings.Join(out, "\n")
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
