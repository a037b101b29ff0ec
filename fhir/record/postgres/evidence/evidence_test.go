package evidence_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

func TestSealedTrailVerifies(t *testing.T) {
	h := newHouse(t)
	s := h.sealer()
	r := rand.New(rand.NewPCG(1, 1))
	now := time.Now()
	for range 4 {
		h.write(h.store, r, 20, now.AddDate(0, -2, 0), now)
		seal(t, s)
	}
	report := h.sound(h.outsideToo)
	if report.Rows != 80 || report.Links < 8 || report.Checkpoints != 4 || report.Unsealed != 0 || report.Unsigned != 0 || report.Found != 0 {
		t.Errorf("%+v", report)
	}
	// What was added since is counted, and is no fault.
	h.write(h.store, r, 7, now.Add(-time.Hour), now)
	if report := h.sound(h.outsideToo); report.Unsealed != 7 || report.Oldest.IsZero() {
		t.Errorf("%+v", report)
	}
	// Whoever verifies needs the public keys alone.
	public, err := h.keys.Public()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := trail.Parse(public)
	if err != nil {
		t.Fatal(err)
	}
	if keys.CanSign() || keys.HoldsSecret() {
		t.Error("the public keys hold something private")
	}
	h.sound(h.outsideToo, func(v *evidence.Verification) { v.Keys = keys })
	// Keys of somebody else's trust nothing.
	if _, findings := h.verify(func(v *evidence.Verification) { v.Keys = newKeys(t, nil) }); len(findings) == 0 {
		t.Error("checkpoints of unknown keys verify")
	}
}

// A row that is committed after rows with higher numbers is sealed all the same, and nothing is sealed over its head.
func TestNothingIsCommittedBehindTheSeal(t *testing.T) {
	h := newHouse(t)
	s := h.sealer()
	ctx := context.Background()
	slow := h.connect()
	tx, err := slow.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	late := event(time.Now(), 1)
	if _, err := tx.Exec(ctx, "INSERT INTO audit.security (tenant, at, id, kind, outcome, reason, account, fhir_user, actor, client, session, methods, address) VALUES (0, now(), $1, 'sign-in', '0', '', '', '', '', '', '', '{}', '')", late.ID); err != nil {
		t.Fatal(err)
	}
	h.write(h.store, rand.New(rand.NewPCG(2, 2)), 5, time.Now().Add(-time.Hour), time.Now())
	done := make(chan error, 1)
	go func() { done <- s.Seal(ctx, true) }()
	select {
	case err := <-done:
		t.Fatalf("sealed while a lower number was open: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	// Writers do not wait for a sealer that waits.
	h.write(h.store, rand.New(rand.NewPCG(2, 3)), 5, time.Now().Add(-time.Hour), time.Now())
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	seal(t, s)
	report, findings := h.verify(h.outsideToo)
	if report.Rows != 11 || report.Unsealed != 0 || len(findings) != 1 || findings[0].Fault != evidence.Forged || findings[0].ID != late.ID {
		t.Errorf("%+v %v", report, findings)
	}
}

// Rows of before the migration are sealed as found, and no row can pretend to be one later.
func TestRowsOfBeforeAreFound(t *testing.T) {
	h := newHouse(t)
	now := time.Now()
	insert := "INSERT INTO audit.security (tenant, at, id, kind, outcome, reason, account, fhir_user, actor, client, session, methods, address, seq) VALUES (0, $1, gen_random_uuid(), 'sign-in', '0', '', '', '', '', '', '', '{}', '', $2)"
	for i := range 5 {
		h.exec(insert, now.AddDate(0, -3, 0), -i)
	}
	h.write(h.store, rand.New(rand.NewPCG(3, 3)), 5, now.Add(-time.Hour), now)
	s := h.sealer()
	seal(t, s)
	if r := h.sound(h.outsideToo); r.Found != 5 || r.Rows != 10 {
		t.Errorf("%+v", r)
	}
	h.exec(insert, now, -17)
	seal(t, s)
	if _, findings := h.verify(); len(findings) != 1 || findings[0].Fault != evidence.Inserted || findings[0].Seq != -17 {
		t.Errorf("%v", findings)
	}
}

// The server's roles add, and change nothing; neither does the owner by mistake.
func TestRolesOfTheServerOnlyAdd(t *testing.T) {
	h := newHouse(t)
	now := time.Now()
	h.write(h.store, rand.New(rand.NewPCG(4, 4)), 10, now.Add(-time.Hour), now)
	seal(t, h.sealer())
	ctx := context.Background()
	conn := h.connect()
	month := now.UTC().Format("2006_01")
	changes := []string{"DROP SCHEMA audit CASCADE", "ALTER SCHEMA audit RENAME TO x", "CREATE TABLE audit.x ()", "SELECT audit.drop_month(now()::date)", "SELECT audit.add_month('2031-01-01')", "SELECT audit.drop_checkpoints(2)", "SELECT setval('audit.seq', 1)", "ALTER SEQUENCE audit.seq RESTART", "DROP SEQUENCE audit.seq CASCADE", "SET session_replication_role = replica", "ALTER FUNCTION audit.prepare() SECURITY INVOKER", "CREATE OR REPLACE FUNCTION audit.append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"}
	for _, table := range []string{"event", "event_" + month, "event_default", "security", "security_" + month, "downgrade", "downgrade_" + month, "link", "link_" + month, "checkpoint"} {
		for _, change := range []string{
			"UPDATE audit.% SET at = now()", "DELETE FROM audit.%", "TRUNCATE audit.%", "ALTER TABLE audit.% ADD x integer", "ALTER TABLE audit.% DROP at", "ALTER TABLE audit.% OWNER TO CURRENT_USER", "DROP TABLE audit.%",
			"ALTER TABLE audit.% DISABLE TRIGGER ALL", "ALTER TABLE audit.% DISABLE TRIGGER append_only", "DROP TRIGGER append_only ON audit.%", "CREATE RULE x AS ON INSERT TO audit.% DO INSTEAD NOTHING", "CREATE TRIGGER x BEFORE INSERT ON audit.% EXECUTE FUNCTION audit.append_only()",
			"ALTER TABLE audit.% ENABLE ROW LEVEL SECURITY", "CREATE INDEX ON audit.% (at)", "GRANT DELETE ON audit.% TO PUBLIC; DELETE FROM audit.%", "LOCK audit.% IN SHARE MODE",
		} {
			changes = append(changes, replaced(change, table))
		}
		if table == "event" || table == "link" {
			changes = append(changes, "ALTER TABLE audit."+table+" DETACH PARTITION audit."+table+"_"+month)
		}
	}
	// A login like the one that serves: a member of all roles of the server, and of no other.
	h.exec("DO $$ BEGIN CREATE ROLE serves LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
	h.exec("GRANT cloister_app, cloister_notes, cloister_identity, cloister_seal TO serves")
	h.exec("GRANT serves TO CURRENT_USER")
	for _, role := range []string{"cloister_app", "cloister_notes", "cloister_identity", "cloister_seal", "serves"} {
		for _, change := range changes {
			tx, err := conn.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(ctx, "SET ROLE "+role); err != nil {
				t.Fatal(err)
			}
			_, err = tx.Exec(ctx, change)
			if err == nil {
				t.Errorf("%s may: %s", role, change)
			}
			if err := tx.Rollback(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	var member bool
	h.query(&member, "SELECT pg_has_role('serves', 'cloister_audit', 'MEMBER')")
	if member {
		t.Error("the login that serves can become the owner of the trail")
	}
	// The owner passes by no trigger that it has not disabled first.
	for _, table := range []string{"event", "event_" + month, "event_default", "security", "security_" + month, "downgrade", "link", "link_" + month, "checkpoint"} {
		for _, change := range []string{"UPDATE audit.% SET at = now()", "DELETE FROM audit.%", "TRUNCATE audit.%"} {
			if _, err := h.owner.Exec(ctx, replaced(change, table)); err == nil {
				t.Errorf("the owner may: %s", replaced(change, table))
			}
		}
	}
	h.sound(h.outsideToo)
}

func replaced(change, table string) string { return strings.ReplaceAll(change, "%", table) }

// A row is never refused for its moment, and rows that came before their month are moved when it is made.
func TestMonths(t *testing.T) {
	h := newHouse(t)
	s := h.sealer()
	r := rand.New(rand.NewPCG(5, 5))
	old := time.Date(2011, 5, 1, 0, 0, 0, 0, time.UTC)
	var last string // of the months ahead; taken before they are made, a new month may begin meanwhile
	h.query(&last, "SELECT to_char(now() + interval '3 months', 'YYYY_MM')")
	h.write(h.store, r, 10, old, old.AddDate(0, 1, 0))
	seal(t, s)
	var in int
	h.query(&in, "SELECT (SELECT count(*) FROM audit.event_default) + (SELECT count(*) FROM audit.security_default) + (SELECT count(*) FROM audit.downgrade_default)")
	if in != 10 {
		t.Fatalf("%d rows in the default partitions", in)
	}
	h.sound(h.outsideToo)
	h.exec("SELECT audit.add_month('2011-05-01')")
	h.query(&in, "SELECT (SELECT count(*) FROM audit.event_2011_05) + (SELECT count(*) FROM audit.security_2011_05) + (SELECT count(*) FROM audit.downgrade_2011_05)")
	if in != 10 {
		t.Errorf("%d rows were moved", in)
	}
	h.write(h.store, r, 10, old, old.AddDate(0, 1, 0))
	seal(t, s)
	if report := h.sound(h.outsideToo); report.Rows != 20 {
		t.Errorf("%+v", report)
	}
	var ahead bool
	h.query(&ahead, "SELECT to_regclass('audit.event_' || $1) IS NOT NULL", last)
	if !ahead {
		t.Error("the months ahead are not made")
	}
}

// Rows go with the migration, forwards and backwards.
func TestMigrationKeepsRows(t *testing.T) {
	ctx := context.Background()
	h := &house{t: t, dsn: cluster.NewDatabase(t, cluster.Template{}), keys: newKeys(t, nil)}
	if _, err := postgres.MigrateTo(ctx, h.dsn, 24); err != nil {
		t.Fatal(err)
	}
	h.owner = h.connect()
	h.exec(`INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients)
SELECT 1, '2025-01-15'::timestamptz + make_interval(days => i), gen_random_uuid(), '0', 'read', 'Patient', 's', 'c', '', '{a}', 'TREAT', 'p', 'r', '{Patient/a/_history/1}', '{0}', '{a}' FROM generate_series(1, 100) AS i`)
	h.exec("INSERT INTO audit.security SELECT 1, '2025-02-03', gen_random_uuid(), 'sign-in', '0', '', 'a', '', '', '', '', '{}', ''")
	h.exec("INSERT INTO audit.downgrade SELECT 1, '2025-02-03', gen_random_uuid(), 'Patient/a/_history/1', 2, 1, 'r'")
	const all = "SELECT md5((SELECT string_agg(tenant || at::text || id || subject || entities::text, ',' ORDER BY at, id) FROM audit.event) || (SELECT string_agg(at::text || id || account, ',') FROM audit.security) || (SELECT string_agg(at::text || event || entity, ',') FROM audit.downgrade))"
	var before, after string
	h.query(&before, all)
	if _, err := postgres.Migrate(ctx, h.dsn); err != nil {
		t.Fatal(err)
	}
	h.query(&after, all)
	if after != before {
		t.Error("rows changed on the way forwards")
	}
	seal(t, h.sealer(func(o *evidence.Options) { o.Outside = "" }))
	if r := h.sound(); r.Found != 102 || len(r.Months) != 4 {
		t.Errorf("%+v", r)
	}
	if _, err := postgres.MigrateTo(ctx, h.dsn, 24); err != nil {
		t.Fatal(err)
	}
	h.query(&after, all)
	if after != before {
		t.Error("rows changed on the way backwards")
	}
	if _, err := postgres.Migrate(ctx, h.dsn); err != nil {
		t.Fatal(err)
	}
	seal(t, h.sealer(func(o *evidence.Options) { o.Outside = "" }))
	h.sound()
}
