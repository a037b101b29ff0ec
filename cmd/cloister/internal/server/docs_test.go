package server_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

var docRequest = regexp.MustCompile(`^([A-Z]+) (\S+) as ([a-z-]+) → ([1-5][0-9][0-9])$`)

// docBlock is one runnable block of a page under docs.
type docBlock struct {
	page, persona string
	call
	status int
}

// docBlocks reads the http blocks of all pages; the first line of each says the
// request, who sends it and the status, as docs/rest/README.md explains.
func docBlocks(t *testing.T) (out []docBlock) {
	t.Helper()
	root := filepath.Join("..", "..", "..", "..", "docs")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		page, _ := filepath.Rel(root, path)
		for _, part := range strings.Split(string(text), "```http\n")[1:] {
			block, _, ok := strings.Cut(part, "\n```")
			head, body, _ := strings.Cut(block, "\n\n")
			lines := strings.Split(head, "\n")
			m := docRequest.FindStringSubmatch(lines[0])
			if !ok || m == nil {
				t.Errorf("%s: %q is no request", page, lines[0])
				continue
			}
			b := docBlock{page: page, persona: m[3], call: call{method: m[1], path: m[2], body: body, header: map[string]string{}}}
			b.status, _ = strconv.Atoi(m[4]) // three digits
			for _, l := range lines[1:] {
				name, value, ok := strings.Cut(l, ": ")
				if !ok {
					t.Errorf("%s: %q is no header", page, l)
				}
				b.header[name] = value
			}
			out = append(out, b)
		}
		return nil
	})
	if err != nil || len(out) < 20 {
		t.Fatalf("docs: %d requests, %v", len(out), err)
	}
	return out
}

// Every request in the pages gives, on the sample clinic, the status that the
// page says. {Patient} is a patient whom the caller may see.
func TestDocumentationOnTheSampleClinic(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil, func(c *api.Config) { c.Upsert = false }) // as the server is, unless told otherwise
	visible := map[string]string{}
	for _, b := range docBlocks(t) {
		token := b.persona
		if token == "nobody" {
			token = ""
		} else if _, ok := persona(token); !ok {
			t.Errorf("%s: the sample clinic has no persona %q", b.page, token)
			continue
		}
		if visible[token] == "" && strings.Contains(b.path+b.body, "{Patient}") {
			visible[token] = h.somePatient(t, token)
		}
		b.path = strings.ReplaceAll(b.path, "{Patient}", visible[token])
		b.body = strings.ReplaceAll(b.body, "{Patient}", visible[token])
		a := h.do(token, b.call)
		if a.status != b.status {
			t.Errorf("%s: %s %s as %s is %d, and the page says %d\n%s", b.page, b.method, b.path, b.persona, a.status, b.status, a.body)
		}
		if a.status >= 400 && len(clinic.FindCanaries([]byte(a.body))) > 0 {
			t.Errorf("%s: %s %s: a refusal carries data", b.page, b.method, b.path)
		}
	}
}

// somePatient gives the id of a Patient whom the caller may read.
func (h *house) somePatient(t *testing.T, token string) string {
	t.Helper()
	for _, s := range sampleRecords() {
		if s.ref.Type == "Patient" && h.do(token, get("/"+s.ref.String())).status == 200 {
			return string(s.ref.ID)
		}
	}
	if token == "therapist" {
		t.Fatal("the therapist sees no patient")
	}
	return h.somePatient(t, "therapist") // the page is about somebody who does not, or not yet
}
