package postgres_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// The roles that the server works under own nothing, pass by no check of the database, and can
// neither remove a record nor touch what was recorded of an access.
func TestL52_RolesHaveNoMoreThanTheyNeed(t *testing.T) {
	h := clinic(t)
	const ours = "('record', 'notes', 'audit', 'definition')"
	if n := h.count("SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1)", []string{postgres.RoleApp, postgres.RoleNotes}); n != 2 {
		t.Fatalf("%d roles", n)
	}
	for what, sql := range map[string]string{
		"a role that logs in, or passes by checks": "SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1) AND (rolcanlogin OR rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole OR rolreplication)",
		"a role that is a member of another":       "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = ANY ($1)",
		"something that they own":                  "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.rolname = ANY ($1) AND n.nspname IN " + ours,
		"a function that runs as its owner":        "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace CROSS JOIN unnest($1::text[]) AS r(name) WHERE p.prosecdef AND has_function_privilege(r.name, p.oid, 'EXECUTE') AND $1::text[] IS NOT NULL AND n.nspname IN " + ours,
		"a schema in which they can create":        "SELECT count(*) FROM pg_namespace n, unnest($1::text[]) AS r(name) WHERE has_schema_privilege(r.name, n.oid, 'CREATE') AND n.nspname NOT LIKE 'pg_temp%' AND n.nspname NOT LIKE 'pg_toast%'",
		"a change of what was recorded":            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, unnest($1::text[]) AS r(name), unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES']) AS p(right_) WHERE n.nspname = 'audit' AND c.relkind IN ('r', 'p') AND has_table_privilege(r.name, c.oid, p.right_)",
		"a removal of records":                     "SELECT count(*) FROM unnest($1::text[]) AS r(name), unnest(ARRAY['record.resource', 'record.resource_history', 'notes.resource', 'notes.resource_history']) AS c(name), unnest(ARRAY['DELETE', 'TRUNCATE']) AS p(right_) WHERE has_table_privilege(r.name, c.name, p.right_)",
		"a right of everybody's":                   "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) AS a WHERE a.grantee = 0 AND $1::text[] IS NOT NULL AND n.nspname IN " + ours,
	} {
		if n := h.count(sql, []string{postgres.RoleApp, postgres.RoleNotes}); n != 0 {
			t.Errorf("there is %s: %d", what, n)
		}
	}
	// What the server works with is there: the questions are not about nothing.
	for _, role := range []string{postgres.RoleApp, postgres.RoleNotes} {
		if n := h.count("SELECT (has_table_privilege($1, 'audit.event', 'INSERT') AND has_table_privilege($1, 'record.resource', 'UPDATE'))::int", role); n != 1 {
			t.Errorf("%s cannot do its work", role)
		}
	}
}

// A connection and its prepared statements serve one caller after another: each gets her own, whoever
// had them before, and what the database has to say of a failure is not for a client.
func TestL52_ConnectionsAndPlansAreShared(t *testing.T) {
	h := clinic(t)
	obs := h.load(strings.Replace(observation(""), "{", "{'id':'o1',", 1))
	note := h.mustCreate(h.as("therapist", "TREAT", "Practitioner/dora"), noteOf("", "dora"))
	_, keys := keeper()
	one := h.over(postgres.Options{MaxConns: 1, Keys: keys})
	callers := map[string]authz.Principal{
		"dora": h.as("therapist", "TREAT", "Practitioner/dora"), "emil": h.as("therapist", "TREAT", "Practitioner/emil"), "a researcher": h.as("research-analyst", "HRESCH", "Practitioner/emil"),
	}
	for round := range 12 { // beyond the five executions after which a plan may be kept
		for name, p := range callers {
			hers := name == "dora"
			if got := one.sees(p, obs); got != hers {
				t.Fatalf("round %d: %s sees the observation: %v", round, name, got)
			}
			if _, err := one.read(p, note); (err == nil) != hers {
				t.Fatalf("round %d: %s reads the note: %v", round, name, err)
			}
		}
	}
	h.exec(h.owner(), "ALTER TABLE record.resource ADD CONSTRAINT secret_canary CHECK (version < 2) NOT VALID")
	_, err := one.update(callers["dora"], strings.Replace(observation(""), "{", "{'id':'o1','language':'en',", 1))
	one.wantStatus("a constraint that fails", err, 500)
	if text := outcome.Of(err).Error(); strings.Contains(text, "canary") || strings.Contains(text, "23514") || strings.Contains(text, "o1") {
		t.Errorf("a failure of the database is told to the client: %s", text)
	}
}

// Data keys that stay in memory serve many at once: those who may open a note do, nobody else, and
// none waits on what another has unwrapped. The race detector watches.
func TestL48_NoteKeysAreSharedByNobody(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	var notes []fhir.Ref
	for range 3 {
		notes = append(notes, h.mustCreate(dora, noteOf("", "dora")))
	}
	kms, keys := keeper()
	n := h.over(postgres.Options{MaxConns: 4, Keys: keys})
	read := func(p authz.Principal, ref fhir.Ref) error {
		ctx := context.Background()
		g, r, err := n.plan(p, fhir.Read, ref.Type)
		if err != nil {
			return err
		}
		s, err := n.store.Read(ctx, r, ref.ID)
		if err != nil {
			return err
		}
		_, err = n.release(g, ref.Type, s)
		return err
	}
	emil := h.as("therapist", "TREAT", "Practitioner/emil")
	caller := func(of int) authz.Principal {
		p := dora
		if of%3 == 2 {
			p = emil
		}
		p.Subject += string(rune('a' + of)) // each holds keys of her own
		return p
	}
	for of := range 6 {
		if err := read(caller(of), notes[0]); (err == nil) != (of%3 != 2) {
			t.Fatalf("%s reads a note of dora's: %v", caller(of).User, err)
		}
	}
	if calls := kms.Calls.Load(); calls != 4 {
		t.Errorf("the keeper of the keys was asked %d times for four who hold a key", calls)
	}
	var all sync.WaitGroup
	for of := range 6 {
		all.Go(func() {
			for i := range 8 {
				if err := read(caller(of), notes[(of+i)%len(notes)]); (err == nil) != (of%3 != 2) {
					t.Errorf("%s reads a note of dora's: %v", caller(of).User, err)
				}
				if i == 4 && of == 0 {
					n.clock.Add(6 * 60_000) // beyond the life of a held key
				}
			}
		})
	}
	all.Wait()
	// Once more for those whose key has expired meanwhile: not for each of 32 reads.
	if calls := kms.Calls.Load(); calls < 5 || calls > 8 {
		t.Errorf("the keeper of the keys was asked %d times", calls)
	}
}
