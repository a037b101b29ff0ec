package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit/anomaly"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

func TestAuditReportCommand(t *testing.T) {
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir+"/r.ndjson", `{"resourceType":"Practitioner","id":"dana","name":[{"family":"Okafor","given":["Dana"]}],"birthDate":"1980-01-01"}
{"resourceType":"Patient","id":"do","name":[{"family":"Okafor","given":["Dana"]}],"birthDate":"1980-01-01"}
`)
	if err := parse(t, "import", "--database-url", dsn, "--practice=harbor", "--create-practice", "--quiet", "--report="+filepath.Join(dir, "report"), dir+"/r.ndjson").Import.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var imports int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM audit.security s JOIN record.tenant t ON t.id = s.tenant WHERE s.kind = 'records-imported' AND s.actor = 'operator|import'").Scan(&imports); err != nil || imports != 1 {
		t.Errorf("the import is recorded %d times, %v", imports, err)
	}
	if err := parse(t, "relabel", "--database-url", dsn, "--quiet").Relabel.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := parse(t, "package", "install", "--database-url", dsn, "--quiet").Package.Install.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	if err := conn.QueryRow(ctx, "SELECT array_agg(kind ORDER BY at) FROM audit.security").Scan(&kinds); err != nil || strings.Join(kinds, " ") != "records-imported records-relabeled package-installed" {
		t.Errorf("%s, %v", kinds, err)
	}
	const event = "b6534ed9-19de-8459-9966-691305bee1a0"
	if _, err := conn.Exec(ctx, "INSERT INTO audit.event (tenant, at, id, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities, labels, patients, facts) "+
		"SELECT id, '2026-03-02T15:00:00Z', $1, '0', 'read', 'Patient', 's', '', 'Practitioner/dana', '{therapist}', 'TREAT', 'p', 'r', '{Patient/do/_history/1}', '{0}', '{do}', '{4}' FROM record.tenant", event); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if err := parse(t, append([]string{"audit", "report", "--database-url", dsn, "--practice=harbor"}, args...)...).Audit.Report.Run(ctx, &out, slog.New(slog.DiscardHandler)); err != nil {
			out.WriteString(err.Error())
		}
		return out.String()
	}
	week := []string{"--from=2026-03-02", "--to=2026-03-08", "--zone=America/New_York"}
	if got := run(week...); !strings.Contains(got, "2026-03-02  own-record  Practitioner/dana  do") || !strings.Contains(got, "AuditEvent/"+event+"-") {
		t.Error(got)
	}
	var found []anomaly.Finding
	if got := run(append(week, "--json")...); json.Unmarshal([]byte(got), &found) != nil || len(found) != 1 || found[0].Kind != anomaly.OwnRecord || len(found[0].Events) != 1 {
		t.Error(got)
	}
	if got := run("--from=2026-02-01", "--to=2026-02-07"); got != "nothing is out of the ordinary\n" {
		t.Error(got)
	}
	if got := run("--from=2026-02-01", "--to=2026-02-07", "--json"); strings.TrimSpace(got) != "[]" {
		t.Error(got)
	}
	for _, wrong := range [][]string{{"--zone=Mars"}, {"--from=lately"}, {"--to=lately"}, {"--practice=nowhere"}} {
		if got := run(wrong...); !strings.HasPrefix(got, "audit report: ") {
			t.Errorf("%s: %s", wrong, got)
		}
	}
	// Who made the report is in the trail.
	var n int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM audit.event WHERE subject = 'operator|audit' AND type = 'AuditEvent' AND patients @> '{do}'").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
}
