package postgres_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
)

// trail is what p reads of the audit trail, page by page.
func (h *house) trail(p authz.Principal, q record.Traces) (out []string, err error) {
	h.t.Helper()
	ctx := context.Background()
	g, err := h.engine.Authorize(ctx, p, fhir.SearchType, "AuditEvent")
	if err != nil {
		return nil, err
	}
	for {
		page, err := h.gate.Search(ctx, g, record.TrailSearch{Traces: q})
		if err != nil {
			return out, err
		}
		for _, x := range page.Entries {
			var b bytes.Buffer
			if err := x.Render(&b, record.Form{}); err != nil {
				h.t.Fatal(err)
			}
			if _, err := codec.Parse(b.Bytes()); err != nil {
				h.t.Fatalf("no valid AuditEvent: %v\n%s", err, b.String())
			}
			out = append(out, b.String())
		}
		if !page.More {
			return out, nil
		}
		q.After = &page.Last
	}
}

// behind changes the database behind the server, past whatever guards it.
func (h *house) behind(sql string, args ...any) {
	h.t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := c.Exec(ctx, "ALTER TABLE audit.event DISABLE TRIGGER USER; ALTER TABLE audit.security DISABLE TRIGGER USER"); err != nil {
		h.t.Fatal(err)
	}
	if _, err := c.Exec(ctx, sql, args...); err != nil {
		h.t.Fatalf("%v: %s", err, sql)
	}
}

// saga is a history of accesses. Of what is named hidden, whoever oversees access in the general
// practice alone may know nothing.
type saga struct {
	h               *house
	officer, within authz.Principal
	hidden          []string // references
}

func newSaga(t *testing.T) *saga {
	t.Helper()
	h := clinic(t)
	s := &saga{h: h, officer: h.as("privacy-officer", "HOPERAT", "Practitioner/p", "general"), within: h.as("privacy-officer", "HOPERAT", "Practitioner/p", "general", "sud")}
	h.load("{'resourceType':'Practitioner','id':'p','name':[{'text':'Pat Privacy'}]}")
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	h.load("{'resourceType':'RelatedPerson','id':'rp','active':true,'patient':{'reference':'Patient/bert'},'relationship':[{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/v3-RoleCode','code':'HPOWATT'}]}]}")
	// A patient of the program alone, and a counselor of it.
	h.load("{'resourceType':'Patient','id':'cleo','managingOrganization':{'reference':'Organization/sud'}}")
	h.load("{'resourceType':'Practitioner','id':'otis'}")
	h.load(encounter("e1", "sud"))
	h.load(strings.Replace(observation(",'encounter':{'reference':'Encounter/e1'}"), "{", "{'id':'o1',", 1))
	h.load(strings.Replace(observation(""), "{", "{'id':'o2',", 1))
	h.load(strings.ReplaceAll(strings.Replace(observation(""), "{", "{'id':'o3',", 1), "Patient/anna", "Patient/cleo"))
	h.load("{'resourceType':'Appointment','id':'both','status':'booked','participant':[{'actor':{'reference':'Patient/anna'},'status':'accepted'},{'actor':{'reference':'Patient/bert'},'status':'accepted'}]}")
	h.load(specific().String())
	s.hidden = []string{"Encounter/e1", "Observation/o1", "Observation/o3", "Patient/cleo", "Consent/c", "Organization/sud"}
	return s
}

// play has accesses of every kind recorded.
func (s *saga) play() {
	h := s.h
	dora, hie := h.as("therapist", "TREAT", "Practitioner/dora", "sud"), h.as("hie", "TREAT", "", "hie")
	hie.Client = "county-exchange"
	try := func(p authz.Principal, refs ...string) {
		for _, r := range refs {
			ref, _ := fhir.ParseRef(r)
			_, _ = h.read(p, ref)
			h.tick()
		}
	}
	try(dora, "Observation/o1", "Observation/o2", "Patient/anna")
	try(hie, "Observation/o1", "Observation/o2")
	try(h.as("front-desk", "HOPERAT", "Practitioner/emil", "general", "sud"), "Patient/anna", "Patient/bert", "Patient/cleo", "Appointment/both")
	try(h.as("patient", "PATRQT", "Patient/anna"), "Observation/o1", "Observation/o2")
	try(h.as("patient", "PATRQT", "Patient/cleo"), "Observation/o3", "Patient/cleo")
	try(h.as("proxy", "PATRQT", "RelatedPerson/rp"), "Patient/bert")
	_, _ = h.search(dora, "Observation", "")
	_, _ = h.search(h.as("front-desk", "HOPERAT", "Practitioner/emil", "general", "sud"), "Patient", "")
	h.tick()
	// A refusal of a patient whom the general practice does not know.
	g, err := h.engine.Authorize(context.Background(), h.as("patient", "PATRQT", "Patient/cleo"), fhir.Read, "Observation")
	if err == nil {
		err = h.gate.Refuse(context.Background(), g, "Observation")
	}
	if err != nil {
		h.t.Fatal(err)
	}
	for i, e := range []audit.Security{
		{Kind: audit.SignIn, Outcome: audit.Success, Account: record.NewID(), User: fhir.Ref{Type: "Practitioner", ID: "dora"}},
		{Kind: audit.SignIn, Outcome: audit.Success, Account: record.NewID(), User: fhir.Ref{Type: "Patient", ID: "cleo"}},
		{Kind: audit.TokenRefused, Outcome: audit.Refused, Reason: audit.ReasonClient, Client: "app"},
	} {
		e.ID, e.At, e.Tenant = record.NewID(), h.now().Add(time.Duration(i)*time.Millisecond), h.tenant
		if err := h.store.RecordSecurity(context.Background(), e); err != nil {
			h.t.Fatal(err)
		}
	}
	h.tick()
}

// forget makes the twin: what may not be known is physically absent, in the records and in the trail.
func (s *saga) forget() {
	h := s.h
	for _, r := range s.hidden {
		ref, _ := fhir.ParseRef(r)
		h.behind("DELETE FROM record.resource WHERE tenant = $1 AND type = $2 AND id = $3", h.tenant, ref.Type.Code(), string(ref.ID))
		for _, each := range []string{"labels", "patients", "facts", "consents", "sessions", "entities"} {
			h.behind("UPDATE audit.event SET "+each+" = (SELECT COALESCE(array_agg(x ORDER BY n), '{}') FROM unnest("+each+") WITH ORDINALITY AS u(x, n) WHERE n > cardinality(entities) OR split_part(entities[n], '/_history/', 1) <> $1) WHERE cardinality(entities) > 1", r)
		}
		h.behind("DELETE FROM audit.event WHERE cardinality(entities) = 1 AND split_part(entities[1], '/_history/', 1) = $1", r)
	}
	h.behind("UPDATE audit.event SET consents = '{}'")
	h.behind("DELETE FROM audit.event WHERE fhir_user = 'Patient/cleo'")
	h.behind("DELETE FROM audit.security WHERE fhir_user = 'Patient/cleo'")
}

func TestP21_L43_TheTrailTellsOfNothingHidden(t *testing.T) {
	s := newSaga(t)
	h := s.h
	s.play()
	count := h.count("SELECT count(*) FROM audit.event")
	before, err := h.trail(s.officer, record.Traces{Count: 200})
	if err != nil {
		t.Fatal(err)
	}
	if n := h.count("SELECT count(*) FROM audit.event WHERE type = 'AuditEvent' AND interaction = 'search-type' AND patients @> '{anna}' AND entities[1] LIKE 'Patient/%/_history/1'"); n != 1 {
		t.Errorf("the reading of the trail was recorded %d times", n)
	}
	all := strings.Join(before, "\n")
	for _, x := range append(s.hidden, "cleo") {
		if strings.Contains(all, x) {
			t.Errorf("it tells of %s", x)
		}
	}
	for _, x := range []string{"Observation/o2", "Patient/bert", "Appointment/both", "county-exchange", "IHE.BasicAudit.PatientRead", "IHE.BasicAudit.PatientQuery", "sign-in", "token-refused"} {
		if !strings.Contains(all, x) {
			t.Errorf("it does not tell of %s", x)
		}
	}
	// Whoever oversees the program, too, is told of it; of a note of a session nobody is.
	whole, err := h.trail(s.within, record.Traces{Count: 200})
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Join(whole, "\n")
	for _, x := range append(s.hidden, "IHE.BasicAudit.AuthZconsent") {
		if !strings.Contains(told, x) {
			t.Errorf("who oversees the program is not told of %s", x)
		}
	}

	asked := map[string]record.Traces{
		"all": {Count: 200}, "page by page": {Count: 1}, "the oldest first": {Count: 7, Oldest: true},
		"of a patient": {Count: 3, Patients: []fhir.ID{"anna"}, EventsOnly: true}, "of a hidden patient": {Count: 3, Patients: []fhir.ID{"cleo"}, EventsOnly: true},
		"of a record": {Count: 3, Entities: []fhir.Ref{{Type: "Observation", ID: "o2"}}, EventsOnly: true}, "of a hidden record": {Count: 3, Entities: []fhir.Ref{{Type: "Observation", ID: "o1"}}, EventsOnly: true},
		"refusals": {Count: 3, Outcomes: []string{"4"}},
	}
	answers := func() map[string]string {
		out := map[string]string{}
		for name, q := range asked {
			got, err := h.trail(s.officer, q)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			// That the trail is read is in it, too.
			out[name] = strings.Join(slices.DeleteFunc(got, func(x string) bool { return strings.Contains(x, `"value":"test|privacy-officer`) }), "\n")
		}
		return out
	}
	want := answers()

	h.behind("DELETE FROM audit.event WHERE type = 'AuditEvent'")
	s.forget()
	if n := h.count("SELECT count(*) FROM audit.event"); n >= count {
		t.Fatalf("the twin has %d rows of %d", n, count)
	}
	for name, got := range answers() {
		if got != want[name] || got == "" && !strings.Contains(name, "hidden") {
			t.Errorf("%s: differs\n%s\n---\n%s", name, got, want[name])
		}
	}
}

// What is asked for by a hidden patient or record is answered as for one that never was.
func TestL43_TheTrailIsNotFoundByWhatIsHidden(t *testing.T) {
	s := newSaga(t)
	s.play()
	for _, q := range []record.Traces{
		{Count: 10, Patients: []fhir.ID{"cleo"}, EventsOnly: true}, {Count: 10, Patients: []fhir.ID{"nobody"}, EventsOnly: true},
		{Count: 10, Entities: []fhir.Ref{{Type: "Observation", ID: "o3"}}, EventsOnly: true}, {Count: 10, Entities: []fhir.Ref{{Type: "Observation", ID: "none"}}, EventsOnly: true},
	} {
		if got, err := s.h.trail(s.officer, q); err != nil || len(got) != 0 {
			t.Errorf("%v: %s, %v", q, got, err)
		}
	}
	if got, err := s.h.trail(s.within, record.Traces{Count: 10, Patients: []fhir.ID{"cleo"}, EventsOnly: true}); err != nil || len(got) == 0 {
		t.Errorf("who oversees the program finds %s, %v", got, err)
	}
}

// A note of a session is in nobody's trail, whatever was done with it.
func TestP21_TheTrailHasNoNotes(t *testing.T) {
	s := newSaga(t)
	h := s.h
	var id string
	if err := h.row("INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients) "+
		"VALUES ($1, $2, gen_random_uuid(), '0', 'read', 'DocumentReference', 's', '', 'Practitioner/dora', '{therapist}', 'TREAT', 'p', 'r', '{DocumentReference/n/_history/1}', ARRAY[$3::integer], '{anna}') RETURNING id::text",
		&id, h.tenant, h.now(), int32(label.PsychNote)); err != nil {
		t.Fatal(err)
	}
	got, err := h.trail(s.within, record.Traces{Count: 200})
	if err != nil || strings.Contains(strings.Join(got, ""), id) {
		t.Errorf("%v: %s", err, got)
	}
}

func TestTheTrailIsForWhoOverseesAccess(t *testing.T) {
	s := newSaga(t)
	h := s.h
	narrow := s.officer
	narrow.Scopes = mustScopes("user/Consent.rs user/Task.cruds user/Patient.rs")
	for what, p := range map[string]authz.Principal{
		"a therapist": h.as("therapist", "TREAT", "Practitioner/dora"), "a patient": h.as("patient", "PATRQT", "Patient/anna"), "an administrator": h.as("practice-admin", "HOPERAT", "Practitioner/v"),
		"an exchange": h.as("hie", "TREAT", "", "hie"), "the operator": h.operator(), "the officer for treatment": h.as("privacy-officer", "TREAT", "Practitioner/p"), "without the scope": narrow,
	} {
		if got, err := h.trail(p, record.Traces{Count: 1}); status(err) != 403 {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}
