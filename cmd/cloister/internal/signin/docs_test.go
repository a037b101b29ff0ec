package signin_test

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/app"
)

// browserOf is as much of a browser as the app of docs/smart.md asks for. What it was given comes as JSON; what it wants, it prints.
const browserOf = `
const given = JSON.parse(process.argv[2]);
const said = { kept: given.kept };
globalThis.location = { origin: given.origin, search: given.search, assign: (to) => { said.to = to; } };
globalThis.history = { replaceState: (state, title, to) => { said.address = to; } };
globalThis.sessionStorage = { getItem: (k) => said.kept[k] ?? null, setItem: (k, v) => { said.kept[k] = v; }, removeItem: (k) => { delete said.kept[k]; } };
const button = {}, pre = {};
globalThis.document = { querySelector: (name) => (name === 'button' ? button : pre) };
const asked = fetch; // as a page of the app's origin, which reads what it is let
globalThis.fetch = async (to, how = {}) => {
  const answer = await asked(to, { ...how, headers: { ...how.headers, Origin: given.origin } });
  if (answer.headers.get('access-control-allow-origin') !== given.origin) throw new Error('CORS: ' + to);
  return answer;
};
SCRIPT
if (given.click) await button.onclick();
said.shown = pre.textContent;
console.log(JSON.stringify(said));
`

// TestTheAppOfThePageConnects runs the app that docs/smart.md shows, as it stands there, against the whole server.
func TestTheAppOfThePageConnects(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil && os.Getenv("CLOISTER_NODE") == "required" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("there is no node: make conformance has it, and runs this test")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "smart.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<script type=\"module\">\n")
	script, _, closed := strings.Cut(rest, "</script>")
	if !ok || !closed {
		t.Fatal("the page shows no app")
	}
	h := newHouse(t)
	const origin = "http://localhost:3000"
	h.register(app.App{
		ID: "my-app", Name: "My app", Auth: app.None, Redirects: []string{origin + "/"}, Grants: []string{app.Code, app.Refresh},
		Scopes: []string{"openid", "fhirUser", "launch/patient", "patient/*.rs", "offline_access"}, Purposes: []string{"PATRQT", "TREAT"}, Registered: noon,
	})
	h.account("nora@harbor.example", "patient")
	file := filepath.Join(t.TempDir(), "app.mjs")
	whole := strings.Replace(browserOf, "SCRIPT", strings.ReplaceAll(script, "http://127.0.0.1:8080/fhir", h.base+"/fhir"), 1)
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil { //nolint:gosec // into a directory of the test
		t.Fatal(err)
	}
	type said struct {
		To, Address, Shown string
		Kept               map[string]string
	}
	run := func(search string, click bool, kept map[string]string) (out said) {
		t.Helper()
		given, err := json.Marshal(map[string]any{"origin": origin, "search": search, "click": click, "kept": kept})
		if err != nil {
			t.Fatal(err)
		}
		var wrong strings.Builder
		cmd := exec.CommandContext(t.Context(), node, file, string(given))
		cmd.Stderr = &wrong
		printed, err := cmd.Output()
		if err != nil || json.Unmarshal(printed, &out) != nil {
			t.Fatalf("%v %s %s", err, printed, wrong.String())
		}
		return out
	}
	first := run("", true, map[string]string{})
	if !strings.HasPrefix(first.To, h.base+"/smart/authorize?") || len(first.Kept) != 1 {
		t.Fatalf("%+v", first)
	}
	b := h.browser()
	p := b.signIn(b.get(first.To), "nora@harbor.example")
	p = b.submit(p, p.url.Path, "answer", "yes")
	back, err := url.Parse(p.header.Get("Location"))
	if err != nil || back.Scheme+"://"+back.Host != origin {
		t.Fatalf("%d %s %s", p.status, p.header.Get("Location"), p.body)
	}
	second := run("?"+back.RawQuery, false, first.Kept)
	var bundle struct {
		Type  string `json:"resourceType"`
		Entry []any
	}
	if err := json.Unmarshal([]byte(second.Shown), &bundle); err != nil || bundle.Type != "Bundle" || len(bundle.Entry) == 0 {
		t.Errorf("the app shows %s", second.Shown)
	}
	if second.Address != origin+"/" || len(second.Kept) != 0 {
		t.Errorf("the code stays in the address, or the verifier in the browser: %+v", second)
	}
	// An answer that the app did not ask for, as somebody else's: it is not taken.
	if third := run("?"+back.RawQuery, false, map[string]string{}); third.Shown != "" {
		t.Errorf("a second time, or in another browser: %s", third.Shown)
	}
}
