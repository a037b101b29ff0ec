package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/notify"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

var (
	printedSecret  = regexp.MustCompile(`whsec_([A-Za-z0-9+/=]+)`)
	printedPatient = regexp.MustCompile(`/Condition\?patient=([A-Za-z0-9.-]+)`)
)

// hooked is what arrived at an endpoint.
type hooked struct {
	mu    sync.Mutex
	heads []http.Header
	texts []string
}

func (x *hooked) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // one that is cut off has no good signature
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heads, x.texts = append(x.heads, r.Header), append(x.texts, string(body))
}

// with is the first message that holds a text, and its header.
func (x *hooked) with(text string) (string, http.Header) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, s := range x.texts {
		if strings.Contains(s, text) {
			return s, x.heads[i]
		}
	}
	return "", nil
}

// signed waits for a message that holds a text, and checks that the key has signed it.
func (x *hooked) signed(t *testing.T, key []byte, what, text string) string {
	t.Helper()
	eventually(t, what, func() bool { s, _ := x.with(text); return s != "" })
	s, head := x.with(text)
	if want := notify.Signature(head.Get("Webhook-Id"), head.Get("Webhook-Timestamp"), []byte(s), [][]byte{key}); head.Get("Webhook-Signature") != want || head.Get("Webhook-Id") == "" {
		t.Errorf("%s is signed with %q, not with %q", what, head.Get("Webhook-Signature"), want)
	}
	return s
}

func post(t *testing.T, url, token, body string) (int, string) {
	t.Helper()
	rq, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	rq.Header.Set("Authorization", "Bearer "+token)
	rq.Header.Set("Content-Type", "application/fhir+json")
	res, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// weighed is an Observation of a patient.
func weighed(patient string) string {
	return `{"resourceType":"Observation","status":"final","code":{"text":"weight"},"subject":{"reference":"Patient/` + patient + `"},"valueString":"just-now"}`
}

// The request that dev prints makes a subscription: its endpoint gets a handshake, and a signed
// notification of what is written afterwards.
func TestDevNotifies(t *testing.T) {
	c := parse(t, "dev", "--database-url", cluster.NewDatabase(t, cluster.Template{}), "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--issuer-listen", "127.0.0.1:0", "--demo-listen", "127.0.0.1:0")
	out, _, stop := start(t, c.Dev.Run)
	eventually(t, "the welcome", func() bool { return strings.Contains(out.String(), "Ctrl-C stops everything") })
	text := out.String()
	base := endpoint.FindStringSubmatch(text)[1]
	blocks := map[string]string{} // by persona
	for _, b := range strings.Split(text, "\n# ")[1:] {
		name, _, _ := strings.Cut(b, ":")
		blocks[name], _, _ = strings.Cut("# "+b, "\n\n")
	}
	got := &hooked{}
	to := httptest.NewServer(got)
	defer to.Close()

	var script string
	for _, l := range strings.Split(blocks["hie"], "\n") {
		if strings.HasPrefix(l, "TOKEN=") || strings.Contains(l, "/Subscription'") {
			script += strings.Replace(l, "http://127.0.0.1:9000/hook", to.URL+"/hook", 1) + "\n"
		}
	}
	answer, err := exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput()
	secret := printedSecret.FindSubmatch(answer)
	if err != nil || secret == nil || !strings.Contains(script, to.URL) {
		t.Fatalf("%v\n%s\n%s", err, script, answer)
	}
	key, err := base64.StdEncoding.DecodeString(string(secret[1]))
	if err != nil {
		t.Fatal(err)
	}
	got.signed(t, key, "the handshake", `"handshake"`)

	// Whatever the exchange sees last of a patient is what the general program shares.
	shown := printedPatient.FindAllStringSubmatch(blocks["hie"], -1)
	patient := shown[len(shown)-1][1]
	if status, body := post(t, base+"/Observation", tokenLine.FindStringSubmatch(blocks["therapist"])[2], weighed(patient)); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	var bundle struct {
		Entry []struct {
			Resource struct{ ResourceType, ValueString string }
		}
	}
	if err := json.Unmarshal([]byte(got.signed(t, key, "the event", "just-now")), &bundle); err != nil {
		t.Fatal(err)
	}
	if n := len(bundle.Entry); n != 2 || bundle.Entry[1].Resource.ResourceType != "Observation" || bundle.Entry[1].Resource.ValueString != "just-now" {
		t.Errorf("the event has %+v", bundle)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
