package api

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// worked is one request of a worked example, and what its page says is answered.
type worked struct {
	line, method, path, who string
	status                  int
	header                  []string // name, value ...
	body, answer            string
}

var idOf = regexp.MustCompile(`_(export|import)/[0-9a-f-]{36}`)

// moments are those of the clock of the tests.
var moments = regexp.MustCompile(`2026-03-01T12:\d\d:\d\d\.\d{3}Z`)

// workedExample reads the blocks of a page that are marked with a word, so many, and gives its text, too.
func workedExample(t *testing.T, page, word string, n int) ([]worked, string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```http " + word + "\n(.*?)```\n(?:\n```(?:json|ndjson|csv)\n(.*?)```)?")
	var out []worked
	for _, b := range block.FindAllStringSubmatch(string(text), -1) {
		head, body, _ := strings.Cut(strings.TrimSpace(b[1]), "\n\n")
		lines := strings.Split(head, "\n")
		m := firstLine.FindStringSubmatch(lines[0])
		if m == nil {
			t.Fatalf("%q is no example", lines[0])
		}
		x := worked{line: lines[0], method: m[1], path: m[2], who: m[3], body: body, answer: strings.TrimSpace(b[2])}
		x.status, _ = strconv.Atoi(m[4]) // three digits
		for _, l := range lines[1:] {
			name, value, _ := strings.Cut(l, ": ")
			x.header = append(x.header, name, value)
		}
		out = append(out, x)
	}
	if len(out) != n {
		t.Fatalf("%d blocks", len(out))
	}
	return out, string(text)
}

// send sends the request, with what the page calls name in braces.
func (x worked) send(t *testing.T, c *clinic, name, value string) *httptest.ResponseRecorder {
	t.Helper()
	w := c.do(t, call{method: x.method, path: strings.ReplaceAll(x.path, "{"+name+"}", value), token: x.who, body: x.body, header: header(x.header...)})
	if w.Code != x.status {
		t.Fatalf("%s: %d\n%s", x.line, w.Code, w.Body)
	}
	return w
}

// jobOf is the id in the address of a job.
func jobOf(w *httptest.ResponseRecorder) string {
	at := w.Header().Get("Content-Location")
	return at[strings.LastIndex(at, "/")+1:]
}

// agrees holds an answer to the page, but for ids of jobs and moments, and what else normal makes alike.
func (x worked) agrees(t *testing.T, got string, normal func(string) string) {
	t.Helper()
	alike := func(s string) string {
		return normal(moments.ReplaceAllString(idOf.ReplaceAllString(s, "_$1/{id}"), "<then>"))
	}
	if got = strings.TrimSpace(got); x.answer != "" && alike(got) != alike(x.answer) {
		t.Errorf("%s: the page says\n%s\nand the server\n%s", x.line, x.answer, got)
	}
}

func same(s string) string { return s }
