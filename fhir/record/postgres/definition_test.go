package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

func newPackage(t *testing.T, name, version string, bodies ...string) *definition.Package {
	t.Helper()
	for i := range bodies {
		bodies[i] = strings.ReplaceAll(bodies[i], "'", `"`)
	}
	p, err := definition.New(name, version, bodies...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestInstalledPackagesAreFound(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	source := h.store.Definitions()
	title := func(canonical string) string {
		t.Helper()
		n, _, err := source.Find(ctx, "ValueSet", canonical)
		if err != nil {
			t.Fatal(err)
		}
		return n.Get("title").String()
	}
	if got := title("http://x/vs"); got != "" {
		t.Fatalf("found %q before anything was installed", got)
	}
	empty, err := source.Revision(ctx)
	if err != nil {
		t.Fatal(err)
	}
	one := newPackage(t, "test.one", "1.0.0", "{'resourceType':'ValueSet','url':'http://x/vs','version':'1.0.0','title':'one','compose':{'x':1.50}}", "{'resourceType':'CodeSystem','url':'http://x/cs'}")
	one.Dependencies = map[string]string{"test.two": "2.0.0", "test.three": "3.x"}
	one.FHIRVersions = []string{"4.0.1"}
	heard := 0
	for i, want := range []bool{true, false} { // the second time it is in already
		added, err := postgres.InstallPackage(ctx, h.dsn, one, func() { heard++ })
		if err != nil || added != want {
			t.Fatalf("time %d: %t %v", i+1, added, err)
		}
	}
	if heard != 2 {
		t.Errorf("progress heard of %d definitions", heard)
	}
	if got := title("http://x/vs"); got != "" {
		t.Error("asked the database although it was asked just now")
	}
	h.clock.Add(definition.Stale.Milliseconds())
	if got := title("http://x/vs"); got != "one" {
		t.Errorf("a running server finds %q", got)
	}
	if n, _, err := source.Find(ctx, "ValueSet", "http://x/vs|1.0.0"); err != nil || n.Get("compose").Get("x").Text != "1.50" {
		t.Errorf("what was stored is not what was installed: %v", err)
	}
	full, err := source.Revision(ctx)
	if err != nil || full == empty {
		t.Errorf("the revision is %d as before, %v", full, err)
	}
	two := newPackage(t, "test.two", "2.0.0", "{'resourceType':'ValueSet','url':'http://x/vs','version':'1.10.0','title':'two'}")
	if _, err := postgres.InstallPackage(ctx, h.dsn, two, nil); err != nil {
		t.Fatal(err)
	}
	h.clock.Add(definition.Stale.Milliseconds())
	if got := title("http://x/vs"); got != "two" {
		t.Errorf("the newest is %q", got)
	}
	all, err := h.store.Packages(ctx)
	if err != nil || len(all) != 2 || all[0].Name != "test.one" || all[0].Artifacts != 2 || all[0].Bytes == 0 || all[0].At.IsZero() || all[0].FHIRVersions[0] != "4.0.1" {
		t.Fatalf("%+v %v", all, err)
	}
	if got := strings.Join(all[0].Missing(all), " "); got != "test.three#3.x" {
		t.Errorf("missing: %q", got)
	}
}

// A package that fails half way leaves nothing behind.
func TestAPackageGoesInWholeOrNotAtAll(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := newPackage(t, "test.bad", "1.0.0", "{'resourceType':'ValueSet','url':'http://x/vs','version':'1'}")
	p.Artifacts = append(p.Artifacts, p.Artifacts[0]) // the table takes each once
	if added, err := postgres.InstallPackage(ctx, h.dsn, p, nil); err == nil || added {
		t.Fatalf("%t %v", added, err)
	}
	all, err := h.store.Packages(ctx)
	if err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
	if _, found, err := h.store.Definitions().Find(ctx, "ValueSet", "http://x/vs"); err != nil || found {
		t.Error("a part of it is there", err)
	}
}

func TestTheServersRolesOnlyReadDefinitions(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	for _, role := range []string{postgres.RoleApp, postgres.RoleNotes} {
		c, err := pgx.Connect(ctx, h.dsn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(ctx, "SET ROLE "+role); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"package", "artifact", "revision"} {
			if _, err := c.Exec(ctx, "SELECT count(*) FROM definition."+table); err != nil {
				t.Errorf("%s cannot read %s: %v", role, table, err)
			}
			for _, change := range []string{"DELETE FROM definition." + table, "INSERT INTO definition." + table + " DEFAULT VALUES", "TRUNCATE definition." + table} {
				if _, err := c.Exec(ctx, change); err == nil || !strings.Contains(err.Error(), "permission denied") {
					t.Errorf("%s: %s: %v", role, change, err)
				}
			}
		}
		if err := c.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInstallSaysWhatIsWrong(t *testing.T) {
	ctx := context.Background()
	p := newPackage(t, "test.p", "1.0.0", "{'resourceType':'ValueSet','url':'http://x/vs'}")
	if _, err := postgres.InstallPackage(ctx, cluster.NewDatabase(t, cluster.Template{}), p, nil); err == nil || !strings.Contains(err.Error(), "cloister migrate") {
		t.Errorf("without the schema: %v", err)
	}
	h := newHouse(t)
	c, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	for _, q := range []string{"REVOKE ALL ON ALL TABLES IN SCHEMA definition FROM CURRENT_USER"} {
		if _, err := c.Exec(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := postgres.InstallPackage(ctx, h.dsn, p, nil); err == nil || !strings.Contains(err.Error(), "may not install") {
		t.Errorf("without the right: %v", err)
	}
	if _, err := postgres.InstallPackage(ctx, "postgres://[", p, nil); err == nil {
		t.Error("a URL that is none")
	}
}

// The published definitions go in, and are found from there.
func TestPublishedDefinitionsInTheDatabase(t *testing.T) {
	p, err := definition.ReadDir(shareddata.Open(t, shareddata.Definitions), definition.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t)
	ctx := context.Background()
	start := time.Now()
	if _, err := postgres.InstallPackage(ctx, h.dsn, p, nil); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	c, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	var size int64
	if err := c.QueryRow(ctx, "SELECT pg_total_relation_size('definition.artifact')").Scan(&size); err != nil {
		t.Fatal(err)
	}
	source := h.store.Definitions()
	start = time.Now()
	names, err := source.Canonicals(ctx, "StructureDefinition")
	if err != nil {
		t.Fatal(err)
	}
	index := time.Since(start)
	start = time.Now()
	for _, name := range names {
		if _, ok, err := source.Find(ctx, "StructureDefinition", name); !ok || err != nil {
			t.Fatalf("%s: %t %v", name, ok, err)
		}
	}
	t.Logf("installed in %v, %d bytes in the database; index in %v; %d profiles found in %v", took, size, index, len(names), time.Since(start))
}
