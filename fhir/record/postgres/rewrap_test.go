package postgres_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// keyMakers are the packages that make data keys, and the table in which each keeps them.
var keyMakers = map[string]string{
	"fhir/record/postgres": "notes.data_key",
	"fhir/record/export":   "export.job",
	"fhir/record/intake":   "intake.job",
	"fhir/record/notify":   "notify.subscription",
}

// No kind of key is forgotten when keys are wrapped anew: neither one that a table has, nor one
// that a package makes.
func TestEveryKindOfKeyIsRewrapped(t *testing.T) {
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if _, err := postgres.Migrate(ctx, dsn); err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	rows, err := c.Query(ctx, "SELECT DISTINCT table_schema || '.' || table_name FROM information_schema.columns WHERE column_name ~ '(^|_)(kek|wrapped)' AND table_schema NOT IN ('pg_catalog', 'information_schema')")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	known := postgres.KeyTables()
	slices.Sort(tables)
	slices.Sort(known)
	if !slices.Equal(tables, known) {
		t.Errorf("tables with wrapped keys are %q, and keys are wrapped anew in %q", tables, known)
	}
	for pkg, table := range keyMakers {
		if !slices.Contains(known, table) {
			t.Errorf("the keys of %s are not wrapped anew", pkg)
		}
	}
	made := map[string]bool{}
	root := filepath.Join("..", "..", "..")
	for _, top := range []string{"api", "authz", "cmd", "consent", "fhir"} {
		if err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if bytes.Contains(text, []byte(".NewDataKey(")) || bytes.Contains(text, []byte(".NewStreamKey(")) {
				pkg, err := filepath.Rel(root, filepath.Dir(path))
				made[filepath.ToSlash(pkg)] = true
				return err
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for pkg := range made {
		if keyMakers[pkg] == "" {
			t.Errorf("%s makes data keys: say in which table it keeps them, and wrap them anew there", pkg)
		}
	}
	if len(made) != len(keyMakers) {
		t.Errorf("data keys are made by %v", made)
	}
}
