package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// change stores a resource with its own id, or deletes it, as an import does.
func (c *clinic) change(t *testing.T, i fhir.Interaction, text string) {
	t.Helper()
	ctx := context.Background()
	operator, _ := c.Authenticate(ctx, "operator")
	r, err := codec.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.cfg.Engine.Authorize(ctx, operator, i, r.Type)
	if err != nil {
		t.Fatal(err)
	}
	x := record.Change{Interaction: i, Ref: r.Ref()}
	if i == fhir.Update {
		x.Content, x.Upsert, x.Import = r, true, true
	}
	cleared, err := c.cfg.Gate.Admit(ctx, g, x)
	if err == nil {
		_, err = c.store.Commit(ctx, []record.Cleared{cleared})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func diagnosis(id, patient, code string) string {
	return `{"resourceType":"Condition","id":"` + id + `","subject":{"reference":"Patient/` + patient + `"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"` + code + `"}],"text":"` + id + `"}}`
}

// excise removes what an exchange may not see.
func (c *clinic) excise(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	who, err := c.Authenticate(ctx, "exchange")
	if err != nil {
		t.Fatal(err)
	}
	sees := map[fhir.ResourceType]authz.Restriction{}
	for _, rt := range fhir.ResourceTypes() {
		g, err := c.cfg.Engine.Authorize(ctx, who, fhir.Read, rt)
		if err != nil {
			continue
		}
		if sees[rt], err = c.cfg.Engine.Plan(ctx, g, fhir.Read, rt); err != nil {
			t.Fatal(err)
		}
	}
	owner, err := pgx.Connect(ctx, c.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close(ctx) }()
	if err := postgres.Excise(ctx, owner, sees); err != nil {
		t.Fatal(err)
	}
}

var (
	anyUUID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	anyTag  = regexp.MustCompile(`"[0-9a-f]{32}(-gzip)?"`)
)

// Over HTTP, from the kick-off to the last byte of a file, an export is that of a database
// from which everything is physically absent that its client may not see.
func TestL28_BulkTwinsOverHTTP(t *testing.T) {
	var answers [2]string
	for n := range answers {
		c, s := newBulk(t)
		for _, text := range []string{diagnosis("k1", "bert", "R51.9"), diagnosis("hidden", "anna", "B20"), diagnosis("gone", "bert", "R05.9"), diagnosis("hidden-and-gone", "bert", "B20")} {
			c.change(t, fhir.Update, text)
		}
		c.change(t, fhir.Delete, diagnosis("gone", "bert", "R05.9"))
		c.change(t, fhir.Delete, diagnosis("hidden-and-gone", "bert", "B20"))
		if n == 1 {
			c.excise(t)
		}
		c.tick.Store(1000) // it was asked for the time more often
		var b strings.Builder
		note := func(method, path string, headers ...string) []byte {
			w := ask(t, c, method, path, "exchange", "", headers...)
			w.Header().Del("X-Request-Id")
			var h bytes.Buffer
			if err := w.Header().Write(&h); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %s %d\n%s\n%s\n", method, path, w.Code, h.Bytes(), w.Body)
			return w.Body.Bytes()
		}
		for _, query := range []string{
			"/$export", "/Patient/$export?_type=Patient,Condition", "/$export?_type=Condition&_since=2026-01-01T00:00:00Z", "/$export?_type=Condition,Patient&allowPartialManifests=true",
			"/$export?_type=Condition&_typeFilter=Condition?code=B20", "/$export?_type=Patient&_typeFilter=Patient?_has:Condition:patient:code=B20", "/$export?_type=Consent", "/Group/x/$export", "/Patient/$export?_type=Patient,Condition&organizeOutputBy=Patient",
		} {
			w := ask(t, c, "GET", "/fhir"+query, "exchange", "", "Prefer", "respond-async")
			fmt.Fprintf(&b, "%s %d %s\n", query, w.Code, w.Body)
			if w.Code != 202 {
				continue
			}
			place := below(t, w.Header().Get("Content-Location"))
			note("GET", place)
			if _, err := s.Step(context.Background()); err != nil {
				t.Fatal(err)
			}
			note("GET", place)
			work(t, s)
			var m manifest
			if err := json.Unmarshal(note("GET", place), &m); err != nil {
				t.Fatal(err)
			}
			for _, f := range append(append(m.Output, m.Deleted...), m.Error...) {
				file := below(t, f.URL)
				note("GET", file)
				note("GET", file, "Range", "bytes=5-40")
				note("HEAD", file, "Accept-Encoding", "gzip")
			}
			note("DELETE", place)
		}
		answers[n] = moments.ReplaceAllString(anyTag.ReplaceAllString(anyUUID.ReplaceAllString(b.String(), "<id>"), "<tag>"), "<then>")
		if n == 0 && (!strings.Contains(answers[n], "Condition/gone") || !strings.Contains(answers[n], `"k1"`) || strings.Contains(answers[n], "hidden")) {
			t.Fatalf("this shows nothing, or too much: %s", answers[n])
		}
	}
	if answers[0] != answers[1] {
		a, b := strings.Split(answers[0], "\n"), strings.Split(answers[1], "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("line %d\n%s\n%s", i, a[i], b[i])
			}
		}
		t.Fatalf("%d lines and %d", len(a), len(b))
	}
}

var sentence = regexp.MustCompile("(?m)^\\| [^|]+ \\| [^|]+ \\| ((?:`Test[A-Za-z0-9_]+`(?:, )?)+) \\|$")

// Each sentence of the specification that docs/bulk.md lists is held by a test that there is.
func TestDocsBulkSentences(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "bulk.md"))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, dir := range []string{".", filepath.Join("..", "fhir", "record", "export")} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(b)
		}
	}
	rows := sentence.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 15 {
		t.Fatalf("%d sentences", len(rows))
	}
	for _, r := range rows {
		for name := range strings.SplitSeq(r[1], ", ") {
			if !strings.Contains(code.String(), "func "+strings.Trim(name, "`")+"(") {
				t.Errorf("there is no test %s", name)
			}
		}
	}
}
