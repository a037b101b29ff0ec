package smart_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// block is what a page shows under a kind, without its indentation.
func block(t *testing.T, page, kind string) []string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "```"+kind+"\n")
	text, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatalf("no block %q", kind)
	}
	var out []string
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// parameters reads name=value lines.
func parameters(lines []string) url.Values {
	v := url.Values{}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, "=")
		v.Set(name, value)
	}
	return v
}

// TestSmartPage runs the examples of docs/smart.md.
func TestSmartPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "smart.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	w := newWorld(t)
	f := w.flow("chart")
	asked := block(t, page, "authorize")
	if asked[0] != "GET /smart/authorize" {
		t.Fatal(asked[0])
	}
	f.form = parameters(asked[1:])
	code := f.code(w.patient, "anna")
	exchange := block(t, page, "token")
	v := parameters(exchange[1:])
	if exchange[0] != "POST /smart/token" || v.Get("code") != "CODE" {
		t.Fatal(exchange)
	}
	v.Set("code", code)
	a := w.post(t, "/token", "", v).ok()
	for _, name := range []string{"access_token", "id_token", "refresh_token"} {
		if a.str(name) == "" {
			t.Errorf("no %s", name)
		}
		a.body[name] = "…"
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(strings.Join(block(t, page, "answer"), "")), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, a.body); diff != "" {
		t.Errorf("the page (-) and the server (+) differ:\n%s", diff)
	}
	if b := w.launch(t, w.host(w.therapist), strings.Join(block(t, page, "launch"), "")); b.status != http.StatusCreated || b.str("launch") == "" || b.str("iss") == "" {
		t.Errorf("%d %s", b.status, b.text)
	}
	for _, path := range []string{"/authorize", "/par", "/token", "/introspect", "/revoke", "/register", "/userinfo", "/end-session", "/launch", "/keys", "/.well-known/openid-configuration"} {
		if !strings.Contains(page, "`"+path+"`") {
			t.Errorf("the page says nothing of %s", path)
		}
	}
}
