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
	signed := func(what, text string) string {
		t.Helper()
		eventually(t, what, func() bool { s, _ := got.with(text); return s != "" })
		s, head := got.with(text)
		if want := notify.Signature(head.Get("Webhook-Id"), head.Get("Webhook-Timestamp"), []byte(s), [][]byte{key}); head.Get("Webhook-Signature") != want || head.Get("Webhook-Id") == "" {
			t.Errorf("%s is signed with %q, not with %q", what, head.Get("Webhook-Signature"), want)
		}
		return s
	}
	signed("the handshake", `"handshake"`)

	// Whatever the exchange sees last of a patient is what the general program shares.
	shown := printedPatient.FindAllStringSubmatch(blocks["hie"], -1)
	patient := shown[len(shown)-1][1]
	rq, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/Observation", strings.NewReader(`{"resourceType":"Observation","status":"final","code":{"text":"weight"},"subject":{"reference":"Patient/`+patient+`"},"valueString":"just-now"}`))
	if err != nil {
		t.Fatal(err)
	}
	rq.Header.Set("Authorization", "Bearer "+tokenLine.FindStringSubmatch(blocks["therapist"])[2])
	rq.Header.Set("Content-Type", "application/fhir+json")
	res, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	var bundle struct {
		Entry []struct {
			Resource struct{ ResourceType, ValueString string }
		}
	}
	if err := json.Unmarshal([]byte(signed("the event", "just-now")), &bundle); err != nil {
		t.Fatal(err)
	}
	if n := len(bundle.Entry); n != 2 || bundle.Entry[1].Resource.ResourceType != "Observation" || bundle.Entry[1].Resource.ValueString != "just-now" {
		t.Errorf("the event has %+v", bundle)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
