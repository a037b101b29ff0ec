package api

import (
	"regexp"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

var manifests = regexp.MustCompile("(?s)```json\n(\\{\"inputFormat\".*?)```")

// The worked example of docs/rest/import.md is what a server answers, step by step.
func TestDocsImportExample(t *testing.T) {
	c, s := newImports(t, "files.example")
	steps, text := workedExample(t, "rest/import.md", "import", 5)
	id := ""
	for _, x := range steps {
		w := x.send(t, c, "id", id)
		if id == "" {
			id = jobOf(w)
			if p := ask(t, c, "GET", "/fhir/_import/"+id, "exchange", "").Header().Get("X-Progress"); p != "0 of 3 lines" {
				t.Errorf("X-Progress: %q", p)
			}
			takeIn(t, s)
		}
		x.agrees(t, w.Body.String(), same)
	}
	for _, m := range manifests.FindAllStringSubmatch(text, -1) {
		n, err := codec.ReadJSON([]byte(m[1]), codec.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := intake.ReadManifest(n); err != nil || len(r.Inputs) != 2 || !r.Gzip {
			t.Errorf("%+v %v", r, err)
		}
	}
}
