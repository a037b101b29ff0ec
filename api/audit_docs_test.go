package api

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
)

var (
	auditBlock = regexp.MustCompile("(?s)```http audit\n(.*?)\n```\n(?:\n```json\n(.*?)\n```)?")
	atTime     = regexp.MustCompile(`at \d\d:\d\d UTC`)
	recordedAt = regexp.MustCompile(`"recorded":"[^"]*"`)
)

// The worked examples of docs/audit.md are what a server answers.
func TestDocsAuditExample(t *testing.T) {
	c := newClinic(t)
	text, err := os.ReadFile(filepath.Join("..", "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	c.want(t, 200, call{method: "GET", path: "/fhir/Patient/anna", token: "therapist"})
	blocks := auditBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 5 {
		t.Fatalf("%d blocks", len(blocks))
	}
	event := ""
	for _, b := range blocks {
		m := firstLine.FindStringSubmatch(b[1])
		if m == nil {
			t.Fatalf("%q is no example", b[1])
		}
		w := ask(t, c, m[1], strings.ReplaceAll(m[2], "{event}", event), m[3], "")
		if strconv.Itoa(w.Code) != m[4] {
			t.Fatalf("%s: %d\n%s", b[1], w.Code, w.Body)
		}
		if r, err := codec.Parse(w.Body.Bytes()); err != nil {
			t.Fatal(err)
		} else if list := auditEvents(r); event == "" && len(list) > 0 {
			event = list[0].Get("id").String()
		}
		got := atTime.ReplaceAllString(recordedAt.ReplaceAllString(strings.ReplaceAll(w.Body.String(), event, "{event}"), `"recorded":"<then>"`), "at <time> UTC")
		got = strings.NewReplacer(`\"`, `"`, `\u003c`, "<", `\u003e`, ">").Replace(got)
		if b[2] != "" && !strings.Contains(got, strings.TrimSuffix(b[2], " ...")) {
			t.Errorf("%s: the page says\n%s\nand the server\n%s", b[1], b[2], got)
		}
	}
}
