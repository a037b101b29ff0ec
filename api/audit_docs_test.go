package api

import (
	"regexp"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
)

var (
	atTime     = regexp.MustCompile(`at \d\d:\d\d UTC`)
	recordedAt = regexp.MustCompile(`"recorded":"[^"]*"`)
)

// The worked examples of docs/audit.md are what a server answers.
func TestDocsAuditExample(t *testing.T) {
	c := newClinic(t)
	c.want(t, 200, call{method: "GET", path: "/fhir/Patient/anna", token: "therapist"})
	steps, _ := workedExample(t, "audit.md", "audit", 5)
	event := ""
	for _, x := range steps {
		w := x.send(t, c, "event", event)
		if r, err := codec.Parse(w.Body.Bytes()); err != nil {
			t.Fatal(err)
		} else if list := auditEvents(r); event == "" && len(list) > 0 {
			event = list[0].Get("id").String()
		}
		got := atTime.ReplaceAllString(recordedAt.ReplaceAllString(strings.ReplaceAll(w.Body.String(), event, "{event}"), `"recorded":"<then>"`), "at <time> UTC")
		got = strings.NewReplacer(`\"`, `"`, `\u003c`, "<", `\u003e`, ">").Replace(got)
		if !strings.Contains(got, strings.TrimSuffix(x.answer, " ...")) {
			t.Errorf("%s: the page says\n%s\nand the server\n%s", x.line, x.answer, got)
		}
	}
}
