package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

func TestPackageCommand(t *testing.T) {
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(context.Background(), io.Discard); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "terms")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/package.json", `{"name":"test.terms","version":"1.2.0","fhirVersions":["4.0.1"],"dependencies":{"health.cloister.terms":"1.0.0","test.other":"3.0.0"}}`)
	write(t, dir+"/ValueSet-a.json", `{"resourceType":"ValueSet","url":"http://x/vs/a","status":"active"}`)
	install := func(paths ...string) (string, error) {
		var out bytes.Buffer
		err := parse(t, append([]string{"package", "install", "--database-url", dsn, "--quiet"}, paths...)...).Package.Install.Run(context.Background(), &out)
		return out.String(), err
	}
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{dir}, "test.terms#1.2.0: 1 definitions installed\ntest.terms#1.2.0 needs health.cloister.terms#1.0.0, test.other#3.0.0, not installed\n"},
		{[]string{dir}, "test.terms#1.2.0: installed already\ntest.terms#1.2.0 needs health.cloister.terms#1.0.0, test.other#3.0.0, not installed\n"},
		{nil, "health.cloister.terms#1.0.0: 21 definitions installed\ntest.terms#1.2.0 needs test.other#3.0.0, not installed\n"},
	} {
		if got, err := install(c.paths...); err != nil || got != c.want {
			t.Errorf("install %v says %q, %v", c.paths, got, err)
		}
	}
	var out bytes.Buffer
	if err := parse(t, "package", "list", "--database-url", dsn).Package.List.Run(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^test\.terms#1\.2\.0 +4\.0\.1 +1 +0 +\d{4}-\d\d-\d\d +test\.other#3\.0\.0$`).MatchString(out.String()) || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("list says\n%s", out.String())
	}
	write(t, dir+"/broken.json", `{"resourceType":`)
	if _, err := install(dir); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "broken.json") {
		t.Errorf("a broken file: %v", err)
	}
	empty := t.TempDir()
	write(t, empty+"/package.json", `{"name":"test.empty","version":"1.0.0"}`)
	if _, err := install(empty); err == nil || !strings.Contains(err.Error(), "no definitions") {
		t.Errorf("an empty package: %v", err)
	}
}
