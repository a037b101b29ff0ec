package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

func TestRelabelCommand(t *testing.T) {
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir+"/o.ndjson", `{"resourceType":"Observation","id":"o","status":"final","code":{"coding":[{"system":"http://example.org/x","code":"1"}]}}`+"\n")
	write(t, dir+"/rows.tsv", "HIV\thttp://example.org/x\t1\n")
	if err := parse(t, "import", "--database-url", dsn, "--practice=harbor", "--create-practice", "--quiet", "--report="+filepath.Join(dir, "report"), dir+"/o.ndjson").Import.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		err := parse(t, append([]string{"relabel", "--database-url", dsn, "--quiet"}, args...)...).Relabel.Run(ctx, &out)
		if err != nil {
			out.WriteString(err.Error())
		}
		return regexp.MustCompile(`[0-9a-f]{16}`).ReplaceAllStringFunc(out.String(), func(v string) string {
			return map[string]string{ruleVersion(t): "HOUSE", ruleVersion(t, dir+"/rows.tsv"): "OURS"}[v]
		})
	}
	labels := func() (bits int) {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		if err := conn.QueryRow(ctx, "SELECT c.labels FROM record.resource r JOIN record.label_class c ON c.id = r.label_class").Scan(&bits); err != nil {
			t.Fatal(err)
		}
		return bits
	}
	ours := "--label-set=" + dir + "/rows.tsv"
	for i, c := range []struct {
		args    []string
		want    string
		labeled bool
	}{
		{[]string{"--status"}, "PRACTICE  CLASSIFIED BY  UNDER WAY\nharbor    nothing yet    -\nthis configuration: rules HOUSE\n", false},
		{[]string{"--downgrade"}, "relabel: harbor: not all of it is classified by these rules: run cloister relabel first, without --downgrade", false},
		{[]string{ours}, "harbor: classified by rules OURS\n", true},
		{[]string{"--status", "--practice=harbor"}, "PRACTICE  CLASSIFIED BY           UNDER WAY\nharbor    rules OURS  -\nthis configuration: rules HOUSE\n", true},
		{nil, "harbor: classified by rules HOUSE\n", true},
		{[]string{"--downgrade", ours}, "relabel: harbor: not all of it is classified by these rules: run cloister relabel first, without --downgrade", true},
		{[]string{"--downgrade", "--practice=harbor"}, "harbor: 1 records have fewer labels by rules HOUSE\n", false},
		{[]string{"--downgrade"}, "harbor: 0 records have fewer labels by rules HOUSE\n", false},
		{[]string{"--practice=nowhere"}, `relabel: the database knows no practice "nowhere": check CLOISTER_PRACTICE (--practice)`, false},
	} {
		if got := run(c.args...); got != c.want {
			t.Errorf("%d: relabel %v says %q, want %q", i, c.args, got, c.want)
		}
		if (labels() != 0) != c.labeled {
			t.Errorf("%d: after relabel %v the labels are %b", i, c.args, labels())
		}
	}
}

// ruleVersion is the version of the rules with these files.
func ruleVersion(t *testing.T, sets ...string) string {
	t.Helper()
	args := []string{"label", "explain"}
	if len(sets) > 0 {
		args = append(args, "--label-set="+strings.Join(sets, ","))
	}
	c, err := parse(t, append(args, "-")...).Label.Explain.Classifier()
	if err != nil {
		t.Fatal(err)
	}
	return c.Version()
}
