package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// output collects what a running command prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// parse reads a command line, as main does.
func parse(t *testing.T, args ...string) *cli {
	t.Helper()
	var c cli
	if _, err := c.parser().Parse(args); err != nil {
		t.Fatal(err)
	}
	return &c
}

func ask(t *testing.T, url, token string) (int, string) {
	t.Helper()
	rq, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		rq.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(rq)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// start runs a command until the returned function stops it.
func start(t *testing.T, run func(context.Context, io.Writer, *slog.Logger) error) (out, log *output, stop func() error) {
	t.Helper()
	out, log = &output{}, &output{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, out, slog.New(slog.NewTextHandler(log, nil))) }()
	var once sync.Once
	var result error
	stop = func() error {
		once.Do(func() { cancel(); result = <-ended })
		return result
	}
	t.Cleanup(func() { _ = stop() })
	return out, log, stop
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 600 {
		if done() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s never came", what)
}

var (
	tokenLine = regexp.MustCompile(`(?m)^# ([a-z-]+):.*\nTOKEN=(\S+)$`)
	curlLine  = regexp.MustCompile(`'(http://[^']+)'`)
	endpoint  = regexp.MustCompile(`FHIR endpoint\s+(\S+)`)
)

// What dev prints works as printed, and the next start finds the data of the last.
func TestDevPrintsWhatWorks(t *testing.T) {
	dsn := cluster.NewDatabase(t, cluster.Template{})
	data := t.TempDir()
	var counts []int
	for round := range 3 {
		c := parse(t, "dev", "--database-url", dsn, "--data", data, "--listen", "127.0.0.1:0", "--issuer-listen", "127.0.0.1:0", "--demo-listen", "127.0.0.1:0")
		out, log, stop := start(t, c.Dev.Run)
		eventually(t, "the welcome", func() bool { return strings.Contains(out.String(), "Ctrl-C stops everything") })
		text := out.String()
		base := endpoint.FindStringSubmatch(text)[1]
		if status, _ := ask(t, base+"/metadata", ""); status != http.StatusOK {
			t.Fatalf("metadata: %d", status)
		}
		if status, _ := ask(t, base+"/Patient", ""); status != http.StatusUnauthorized {
			t.Fatalf("without a token: %d", status)
		}
		blocks := strings.Split(text, "\n# ")
		tried := 0
		for _, b := range blocks[1:] {
			token := tokenLine.FindStringSubmatch("# " + b)
			if token == nil {
				t.Fatalf("no token in %.200s", b)
			}
			m := curlLine.FindStringSubmatch(b)
			status, body := ask(t, m[1], token[2])
			if status != http.StatusOK && status != http.StatusForbidden && status != http.StatusNotFound {
				t.Errorf("%s: %s: %d %s", token[1], m[1], status, body)
			}
			if status == http.StatusOK {
				tried++
			}
		}
		if tried < 10 {
			t.Errorf("only %d of the printed requests found anything", tried)
		}
		if round == 2 { // after all that is counted
			ceremonies(t, blocks[1:])
			groupExport(t, blocks[1:])
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if found := clinic.FindCanaries([]byte(log.String())); len(found) > 0 {
			t.Errorf("the log carries data: %v", found)
		}
		if status, _ := ask(t, base+"/metadata", ""); status != 0 {
			t.Error("the server goes on after its end")
		}
		conn, err := pgx.Connect(context.Background(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		err = conn.QueryRow(context.Background(), "SELECT (SELECT count(*) FROM record.resource) + (SELECT count(*) FROM record.resource_history)").Scan(&n)
		_ = conn.Close(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, n)
	}
	if counts[0] != counts[1] || counts[0] < 500 {
		t.Errorf("the first start left %d versions, the second %d", counts[0], counts[1])
	}
}

// groupExport pastes the export of the Group that dev prints: it brings the records of the panel's patients, and of nobody else.
func groupExport(t *testing.T, blocks []string) {
	t.Helper()
	i := slices.IndexFunc(blocks, func(b string) bool { return strings.Contains(b, "/$export'") })
	if i < 0 {
		t.Fatal("dev prints no export")
	}
	token := tokenLine.FindStringSubmatch("# " + blocks[i])
	begin, poll := "", ""
	for _, l := range strings.Split(blocks[i], "\n") {
		switch {
		case strings.HasPrefix(l, "JOB="):
			begin = l
		case strings.Contains(l, `"$JOB"`):
			poll, _, _ = strings.Cut(l, "   #")
		}
	}
	script := "TOKEN=" + token[2] + "\n" + begin + "\nfor i in $(seq 60); do sleep 1; M=$(" + poll + `); case "$M" in *transactionTime*) echo "$M"; break;; esac; done`
	out, err := exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput()
	var manifest struct {
		Output []struct {
			Type, URL string
			Count     int
		}
	}
	if err != nil || json.Unmarshal(out, &manifest) != nil {
		t.Fatalf("the export: %v\n%s", err, out)
	}
	types := map[string]bool{}
	for _, f := range manifest.Output {
		types[f.Type] = true
		status, text := ask(t, f.URL, token[2])
		if status != http.StatusOK || strings.Count(text, "\n") != f.Count {
			t.Errorf("%s: %d, %d lines of %d", f.Type, status, strings.Count(text, "\n"), f.Count)
		}
		if f.Type == "Patient" && (f.Count != 2 || !strings.Contains(text, "Bergstrom") || !strings.Contains(text, "Lund")) {
			t.Errorf("the patients of the panel are\n%s", text)
		}
	}
	if !types["Patient"] || !types["Condition"] || !types["Encounter"] {
		t.Errorf("the export has %v: %s", types, out)
	}
}

// serve answers what is open, refuses everything else, and says so when its identity provider is out of reach.
func TestServeWithoutItsIdentityProvider(t *testing.T) {
	dsn := cluster.NewDatabase(t, cluster.Template{})
	var out bytes.Buffer
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "00001_record.sql") {
		t.Errorf("migrate says %q", out.String())
	}
	address, key := freeAddress(t), filepath.Join(t.TempDir(), "key.json")
	if err := parse(t, "keys", "create", key).Keys.Create.Run(&out); err != nil {
		t.Fatal(err)
	}
	c := parse(t, "serve", "--database-url", dsn, "--notes-key", "file:"+key, "--audit-key", auditKey(t), "--listen", address, "--base-url", "https://fhir.example.org/fhir", "--issuers", "https://127.0.0.1:1/realm|https://fhir.example.org/fhir")
	_, _, stop := start(t, func(ctx context.Context, _ io.Writer, log *slog.Logger) error { return c.Serve.Run(ctx, log) })
	base := "http://" + address + "/fhir"
	eventually(t, "the server", func() bool { status, _ := ask(t, base+"/metadata", ""); return status == http.StatusOK })
	if status, _ := ask(t, base+"/Patient", ""); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	// {"alg":"ES256","typ":"at+jwt"} {"iss":"https://127.0.0.1:1/realm"}
	token := "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJpc3MiOiJodHRwczovLzEyNy4wLjAuMToxL3JlYWxtIn0.c2ln"
	if status, body := ask(t, base+"/Patient", token); status != http.StatusServiceUnavailable && status != http.StatusUnauthorized || strings.Contains(body, "127.0.0.1") {
		t.Errorf("with its identity provider out of reach: %d %s", status, body)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestPolicyExplainSaysWhy(t *testing.T) {
	var out bytes.Buffer
	c := parse(t, "policy", "explain", "--role", "therapist", "--type", "DocumentReference", "--labels", "PSYTHPN", "--fact", "treating")
	if err := c.Policy.Explain.Run(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"deny: by psychotherapy-note-needs-originator", "permitted with the facts: originator", "psychotherapy-note-originator"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	out.Reset()
	c = parse(t, "policy", "explain", "--persona", "hie", "--type", "Condition", "--labels", "42CFRPart2+SUD")
	if err := c.Policy.Explain.Run(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "permitted with the facts: consent") {
		t.Errorf("an exchange needs consent for a Part 2 record, but the policy says\n%s", out.String())
	}
	// What a line permits, the law of a practice's state may bar.
	out.Reset()
	c = parse(t, "policy", "explain", "--persona", "hie", "--type", "Condition", "--labels", "PSY", "--policy", "../../testdata/policies/harbor")
	if err := c.Policy.Explain.Run(&out); err != nil || !strings.HasPrefix(out.String(), "deny: by law J1 ") || !strings.Contains(out.String(), "permitted with the facts: consent\n") {
		t.Errorf("an exchange in Washington: %v\n%s", err, out.String())
	}
	var none cli
	if _, err := none.parser().Parse([]string{"policy", "explain", "--persona", "nobody", "--type", "Condition"}); err == nil || !strings.Contains(err.Error(), "colleague") {
		t.Errorf("an unknown persona: %v", err)
	}
	out.Reset()
	c = parse(t, "policy", "test", "../../testdata/authz")
	if err := c.Policy.Test.Run(&out); err != nil || !regexp.MustCompile(`^\d{3} cases, 0 failed`).MatchString(out.String()) {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestImportCommand(t *testing.T) {
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(context.Background(), io.Discard); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir+"/a.ndjson", `{"resourceType":"Patient","id":"p1","active":true}
{"resourceType":"Patient","id":"p2","gender":"nonsense"}
{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p1"}}
`)
	args := []string{"import", "--database-url", dsn, "--practice", "harbor", "--create-practice", "--report", dir + "/report.tsv", "--quiet", dir}
	for i, want := range []string{"2 resources in", "0 resources in"} {
		var out bytes.Buffer
		if err := parse(t, args...).Import.Run(context.Background(), &out); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), want) {
			t.Errorf("run %d says %q", i+1, out.String())
		}
	}
	if report := read(t, dir+"/report.tsv"); !strings.Contains(report, "a.ndjson\tline 2\t") || !strings.Contains(report, "Patient.gender") || strings.Count(report, "\n") != 1 {
		t.Errorf("the report is %q", report)
	}
	var out bytes.Buffer
	err := parse(t, "import", "--database-url", dsn, "--practice", "nowhere", "--report", dir+"/report.tsv", "--quiet", dir).Import.Run(context.Background(), &out)
	if err == nil || !strings.Contains(err.Error(), "CLOISTER_PRACTICE") {
		t.Errorf("an unknown practice: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ceremonies pastes what is printed for those who sign into a shell, as it is printed.
func ceremonies(t *testing.T, blocks []string) {
	t.Helper()
	signed := 0
	for _, b := range blocks {
		if !strings.Contains(b, "$prepare") {
			continue
		}
		name, script, _ := strings.Cut(b, "\n")
		script, _, _ = strings.Cut(script, "\n\n")
		out, err := exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		text := strings.ReplaceAll(string(out), " ", "")
		for _, want := range []string{`"status":"active"`, `"valueCode":"signed"`, `"status":"inactive"`, "urn:iso-astm:E1762-95:2013"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: what is printed does not bring %s:\n%s", name, want, out)
			}
		}
		signed++
	}
	if signed < 3 {
		t.Errorf("only %d of the personas sign", signed)
	}
}
