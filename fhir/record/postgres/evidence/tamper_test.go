package evidence_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

// tampering is one thing that somebody with the database in hand does. sql is a script in which $row and $other stand for conditions
// that hold for one row each, of table.
type tampering struct {
	name  string
	sql   string
	fault evidence.Fault // that must be among the findings
	named bool           // with the id of the row
}

// rows of one table, each by its number.
func (h *house) seqs(table, where string) (out []int64) {
	h.t.Helper()
	rows, err := h.owner.Query(context.Background(), "SELECT seq FROM audit."+table+" WHERE "+where+" ORDER BY seq")
	if err != nil {
		h.t.Fatal(err)
	}
	if out, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		h.t.Fatal(err)
	}
	return out
}

// columns of a table with a statement that gives each another value.
func (h *house) columns(table string) map[string]string {
	h.t.Helper()
	rows, err := h.owner.Query(context.Background(), "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = ('audit.' || $1::text)::regclass AND attnum > 0 AND NOT attisdropped", table) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[string]string{}
	var name, typ string
	if _, err := pgx.ForEachRow(rows, []any{&name, &typ}, func() error {
		value, ok := map[string]string{
			"integer": name + " + 1", "bigint": "1000000000 + " + name, "text": name + " || 'x'", "uuid": "gen_random_uuid()", "text[]": name + " || ARRAY['x']", "integer[]": name + " || 1",
			"timestamp with time zone": name + " + interval '1 microsecond'", "bytea": "set_byte(" + name + ", 0, (get_byte(" + name + ", 0) + 1) % 256)", "date": name + " + 31",
		}[typ]
		if !ok {
			return fmt.Errorf("no other value of type %s", typ)
		}
		out[name] = value
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	return out
}

// tamperings lists every kind, with what must be found.
func (h *house) tamperings(r *rand.Rand) (out []tampering) {
	pick := func(list []int64) int64 { return list[r.IntN(len(list))] }
	for _, table := range []string{"event", "security", "downgrade"} {
		id := map[string]string{"downgrade": "event"}[table]
		if id == "" {
			id = "id"
		}
		all := h.seqs(table, "true")
		row, other := pick(all), pick(all)
		for other == row {
			other = pick(all)
		}
		at := func(seq int64) string { return fmt.Sprintf("seq = %d", seq) }
		for column, value := range h.columns(table) {
			// A number or a moment that is another one is a row that is gone, and one that was put in.
			fault := evidence.Altered
			if column == "seq" {
				fault = evidence.Removed
			}
			out = append(out, tampering{table + "." + column, "UPDATE audit." + table + " SET " + column + " = " + value + " WHERE " + at(row), fault, true})
		}
		columns := strings.Join(slices.DeleteFunc(sortedKeys(h.columns(table)), func(c string) bool { return c == "seq" || c == id }), ", ")
		copied := func(seq string) string {
			return "INSERT INTO audit." + table + " (" + id + ", seq, " + columns + ") SELECT gen_random_uuid(), " + seq + ", " + columns + " FROM audit." + table + " WHERE " + at(row)
		}
		out = append(out,
			tampering{table + ": another month", "UPDATE audit." + table + " SET at = at - interval '40 days' WHERE " + at(row), evidence.Removed, true},
			tampering{table + ": a month without rows", "UPDATE audit." + table + " SET at = '2001-01-01' WHERE " + at(row), evidence.Inserted, true},
			tampering{table + ": the end of time", "UPDATE audit." + table + " SET at = 'infinity' WHERE " + at(row), evidence.Inserted, true},
			tampering{table + ": removed", "DELETE FROM audit." + table + " WHERE " + at(row), evidence.Removed, true},
			tampering{table + ": inserted under a new number", copied("nextval('audit.seq')"), evidence.Forged, false},
			tampering{table + ": inserted under an old number", copied("-5"), evidence.Inserted, false},
			tampering{table + ": inserted under a number that was taken", copied(fmt.Sprint(row)), evidence.Inserted, false},
			tampering{table + ": inserted under a number to come", copied("100000000"), evidence.Inserted, false},
			tampering{table + ": numbers swapped", fmt.Sprintf("UPDATE audit.%s SET seq = %d - seq WHERE seq IN (%d, %d)", table, row+other, row, other), "", false},
			tampering{table + ": ids swapped", fmt.Sprintf("UPDATE audit.%s e SET %s = o.%s FROM audit.%s o WHERE e.seq IN (%d, %d) AND o.seq IN (%d, %d) AND o.seq <> e.seq", table, id, id, table, row, other, row, other), evidence.Altered, true},
			tampering{table + ": emptied", "TRUNCATE audit." + table, evidence.Removed, true},
			tampering{table + ": a copy of a month without one row", fmt.Sprintf(`DO $$ DECLARE p text; BEGIN
SELECT tableoid::regclass::text INTO p FROM audit.%[1]s WHERE seq = %[2]d;
CREATE TABLE audit.copied (LIKE audit.%[1]s INCLUDING ALL);
EXECUTE 'INSERT INTO audit.copied SELECT * FROM ' || p || ' WHERE seq <> %[2]d';
EXECUTE 'TRUNCATE ' || p;
EXECUTE 'INSERT INTO ' || p || ' SELECT * FROM audit.copied';
DROP TABLE audit.copied;
END $$`, table, row), evidence.Removed, true},
		)
	}
	var month string
	h.query(&month, "SELECT month::text FROM audit.link WHERE to_regclass(to_char(month, '\"audit.link_\"YYYY_MM')) IS NOT NULL GROUP BY month ORDER BY count(*) DESC LIMIT 1")
	var links int64
	h.query(&links, "SELECT count(*) FROM audit.link WHERE month = $1::text::date", month)
	n := 1 + r.Int64N(links-1) // not the last
	at := fmt.Sprintf("month = '%s' AND n = %d", month, n)
	for column, value := range h.columns("link") {
		out = append(out, tampering{"link." + column, "UPDATE audit.link SET " + column + " = " + value + " WHERE " + at, evidence.BadLink, false})
	}
	out = append(out,
		tampering{"link: removed", "DELETE FROM audit.link WHERE " + at, evidence.BadLink, false},
		tampering{"link: all removed", "TRUNCATE audit.link", evidence.BadPoint, false},
		tampering{"link: one row of one month out, its link made anew", fmt.Sprintf("UPDATE audit.link SET entries = substr(entries, 59), rows = rows - 1, hash = sha256(entries) WHERE month = '%s' AND n = %d", month, n), evidence.BadLink, false},
		tampering{"link: swapped", fmt.Sprintf("UPDATE audit.link l SET entries = o.entries, rows = o.rows FROM audit.link o WHERE l.month = '%s' AND o.month = l.month AND l.n IN (%d, %d) AND o.n IN (%d, %d) AND o.n <> l.n", month, n, n+1, n, n+1), evidence.BadLink, false},
		tampering{"link: a month removed, rows and all", fmt.Sprintf("DELETE FROM audit.link WHERE month = '%[1]s'; DELETE FROM audit.event WHERE date_trunc('month', at) = '%[1]s'; DELETE FROM audit.security WHERE date_trunc('month', at) = '%[1]s'; DELETE FROM audit.downgrade WHERE date_trunc('month', at) = '%[1]s'", month), evidence.BadPoint, false},
		tampering{"link: one put in", "INSERT INTO audit.link SELECT month, n + 1, at, through, rows, entries, hash, sha256(hash), mac FROM audit.link ORDER BY month DESC, n DESC LIMIT 1", evidence.BadLink, false},
	)
	var points int64
	h.query(&points, "SELECT count(*) FROM audit.checkpoint")
	p := 2 + r.Int64N(points-2) // neither the first nor the last
	for column, value := range h.columns("checkpoint") {
		out = append(out, tampering{"checkpoint." + column, fmt.Sprintf("UPDATE audit.checkpoint SET %s = %s WHERE number = %d", column, value, p), evidence.BadPoint, false})
	}
	out = append(out,
		tampering{"checkpoint: removed", fmt.Sprintf("DELETE FROM audit.checkpoint WHERE number = %d", p), evidence.BadPoint, false},
		tampering{"checkpoint: the first removed", "DELETE FROM audit.checkpoint WHERE number = 1", evidence.BadPoint, false},
		tampering{"checkpoint: the beginning removed", fmt.Sprintf("DELETE FROM audit.checkpoint WHERE number <= %d", p), evidence.BadPoint, false},
		tampering{"checkpoint: all removed", "TRUNCATE audit.checkpoint", evidence.BadPoint, false},
		tampering{"checkpoint: the last removed", "DELETE FROM audit.checkpoint WHERE number = (SELECT max(number) FROM audit.checkpoint)", evidence.Truncated, false},
		tampering{"checkpoint: says something else", fmt.Sprintf(`UPDATE audit.checkpoint SET body = replace(body, '"links":', '"links":1') WHERE number = %d`, p), evidence.BadPoint, false},
		tampering{"checkpoint: swapped", fmt.Sprintf("UPDATE audit.checkpoint SET number = -1 WHERE number = %[1]d; UPDATE audit.checkpoint SET number = %[1]d WHERE number = %[1]d + 1; UPDATE audit.checkpoint SET number = %[1]d + 1 WHERE number = -1", p), evidence.BadPoint, false},
		tampering{"all of it goes back to an earlier state", fmt.Sprintf(`DO $$ DECLARE t bigint; BEGIN
SELECT (body::jsonb ->> 'through')::bigint INTO t FROM audit.checkpoint WHERE number = %[1]d;
DELETE FROM audit.checkpoint WHERE number > %[1]d; DELETE FROM audit.link WHERE through > t;
DELETE FROM audit.event WHERE seq > t; DELETE FROM audit.security WHERE seq > t; DELETE FROM audit.downgrade WHERE seq > t; END $$`, p), evidence.Truncated, false},
		tampering{"everything removed", "TRUNCATE audit.event, audit.security, audit.downgrade, audit.link, audit.checkpoint", evidence.Truncated, false},
	)
	month = strings.ReplaceAll(month[:7], "-", "_")
	return append(out,
		tampering{"a trigger disabled", "ALTER TABLE audit.event_" + month + " DISABLE TRIGGER append_only", evidence.BadStructure, false},
		tampering{"a trigger dropped", "DROP TRIGGER append_only ON audit.link_" + month, evidence.BadStructure, false},
		tampering{"a rule in the way", "CREATE RULE x AS ON INSERT TO audit.event DO INSTEAD NOTHING", evidence.BadStructure, false},
		tampering{"a view in the place", "ALTER TABLE audit.security RENAME TO before; CREATE VIEW audit.security AS SELECT * FROM audit.before; ALTER VIEW audit.security OWNER TO cloister_audit; GRANT SELECT ON audit.security TO cloister_seal", evidence.BadStructure, false},
		tampering{"rows hidden", "ALTER TABLE audit.event ENABLE ROW LEVEL SECURITY", evidence.BadStructure, false},
		tampering{"a month taken out", "ALTER TABLE audit.event DETACH PARTITION audit.event_" + month, evidence.Removed, false},
		tampering{"no default", "ALTER TABLE audit.event DETACH PARTITION audit.event_default", evidence.BadStructure, false},
	)
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Whatever one changes of a trail that was made by the real store, with the database in hand, verify finds it, and names the row where it is one.
func TestEveryTamperingIsFound(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	h := &house{t: t, keys: newKeys(t, nil), outside: filepath.Join(t.TempDir(), "checkpoints")}
	written := cluster.Template{Name: fmt.Sprintf("written%d", seed), Prepare: func(ctx context.Context, dsn string) error {
		if _, err := postgres.Migrate(ctx, dsn); err != nil {
			return err
		}
		w := *h
		w.dsn, w.owner = dsn, nil
		store, err := postgres.Open(ctx, postgres.Options{URL: dsn, Trail: h.keys, MaxConns: 4})
		if err != nil {
			return err
		}
		defer store.Close()
		w.owner = w.connect()
		defer func() { _ = w.owner.Close(ctx) }()
		s, err := evidence.New(ctx, evidence.Options{URL: dsn, Keys: h.keys, Outside: h.outside})
		if err != nil {
			return err
		}
		defer s.Close()
		// One month has tables of its own, the other lies in the default partitions.
		w.exec("SELECT audit.add_month('2026-03-01')")
		now := time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)
		for range 6 {
			w.write(store, r, 15, now.AddDate(0, -1, 0), now)
			seal(t, s)
		}
		return nil
	}}
	again := func(t *testing.T) *house {
		t.Helper()
		c := *h
		c.t, c.dsn = t, cluster.NewDatabase(t, written)
		c.owner = c.connect()
		return &c
	}
	shared := again(t)
	list := shared.tamperings(r)
	const kept = "event security downgrade link checkpoint"
	shared.exec("CREATE SCHEMA kept")
	restore := "TRUNCATE audit.event, audit.security, audit.downgrade, audit.link, audit.checkpoint;"
	for table := range strings.FieldsSeq(kept) {
		shared.exec("CREATE TABLE kept." + table + " AS SELECT * FROM audit." + table)
		restore += "INSERT INTO audit." + table + " SELECT * FROM kept." + table + ";"
	}
	shared.sound(shared.outsideToo)
	if len(list) < 80 {
		t.Fatalf("%d kinds of tampering", len(list))
	}
	if testing.Short() {
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		list = list[:20]
	}
	for _, x := range list {
		t.Run(x.name, func(t *testing.T) {
			if x.fault == evidence.BadStructure || strings.Contains(x.sql, "DETACH") { // another database each
				again(t).found(x)
				return
			}
			shared.t = t
			shared.found(x)
			shared.tamper(restore)
		})
	}
	shared.t = t
	shared.sound(shared.outsideToo)
}

func (h *house) found(x tampering) {
	t := h.t
	table, ids := "", map[int64]string{}
	if x.named {
		table = strings.FieldsFunc(x.name, func(r rune) bool { return r == '.' || r == ':' })[0]
		ids = h.ids(table)
	}
	if x.fault == evidence.BadStructure {
		h.exec(x.sql)
	} else {
		h.tamper(x.sql)
	}
	_, findings := h.verify(h.outsideToo)
	if len(findings) == 0 {
		t.Fatalf("nothing was found: %s", x.sql)
	}
	if !slices.ContainsFunc(findings, func(f evidence.Finding) bool { return x.fault == "" || f.Fault == x.fault }) {
		t.Errorf("not found as %q: %v\n%s", x.fault, findings, x.sql)
	}
	if x.named && !slices.ContainsFunc(findings, func(f evidence.Finding) bool {
		return f.Table == table && f.Month != "" && (f.Fault == evidence.Inserted || ids[f.Seq] != "" && (f.ID == ids[f.Seq] || strings.Contains(f.Detail, ids[f.Seq])))
	}) {
		t.Errorf("the row is not named: %v\n%s", findings, x.sql)
	}
}

// ids of the rows of a table, by number.
func (h *house) ids(table string) map[int64]string {
	h.t.Helper()
	id := "id"
	if table == "downgrade" {
		id = "event"
	}
	rows, err := h.owner.Query(context.Background(), "SELECT seq, "+id+"::text FROM audit."+table) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[int64]string{}
	var seq int64
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&seq, &name}, func() error { out[seq] = name; return nil }); err != nil {
		h.t.Fatal(err)
	}
	return out
}
