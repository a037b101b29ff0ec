package api

import (
	"regexp"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/deident/terms"
)

var (
	laidBlock  = regexp.MustCompile("(?s)```json releases\n(.*?)```")
	surrogates = regexp.MustCompile(`[A-Z2-7]{26}`)
)

// The worked example of docs/deidentification.md is what a server answers, step by step.
func TestDocsReleaseExample(t *testing.T) {
	c, s, _ := newReleasing(t)
	steps, text := workedExample(t, "deidentification.md", "release", 5)
	if laid := laidBlock.FindStringSubmatch(text); laid == nil {
		t.Error("the page shows no releases.json")
	} else if _, err := terms.Parse([]byte(laid[1])); err != nil {
		t.Error(err)
	}
	id := ""
	for _, x := range steps {
		w := x.send(t, c, "id", id)
		switch {
		case w.Header().Get("X-Progress") != "":
			work(t, s)
		case id == "":
			id = jobOf(w)
		}
		x.agrees(t, w.Body.String(), func(s string) string { return surrogates.ReplaceAllString(s, "SURROGATE") })
	}
}
