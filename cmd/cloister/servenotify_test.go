package main

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/issuer"
	"github.com/cloister-health/cloister/cmd/cloister/internal/seed"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// stocked fills a migrated database with the sample clinic.
func stocked(t *testing.T, dsn, key string, sample clinic.Config) {
	t.Helper()
	c := config.Keys{Notes: "file:" + key}
	keys, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	store, err := postgres.Open(t.Context(), postgres.Options{URL: dsn, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	core, err := server.NewCore(store, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := seed.Run(t.Context(), core, sample, nil); err != nil {
		t.Fatal(err)
	}
}

// TestServeNotifies: serve sends signed notifications to the endpoint that its settings allow. It takes no subscription for
// another host, and sends nothing to one whose address is not public where the settings do not say that it may be so.
func TestServeNotifies(t *testing.T) {
	const base = "https://fhir.example.org/fhir"
	ctx := context.Background()
	dsn, dir := cluster.NewDatabase(t, cluster.Template{}), t.TempDir()
	key, marks := filepath.Join(dir, "key.json"), auditKey(t)
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := parse(t, "keys", "create", key).Keys.Create.Run(io.Discard); err != nil {
		t.Fatal(err)
	}
	sample := clinic.Config{Seed: 1, Now: time.Now()}
	stocked(t, dsn, key, sample)

	// A program of its own, so that it trusts the certificate of this test.
	var iss *issuer.Issuer
	idp := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { iss.Handler().ServeHTTP(w, r) }))
	defer idp.Close()
	iss, err := issuer.New(issuer.Config{URL: idp.URL, Audience: base, KeyFile: filepath.Join(dir, "issuer.key"), Lifetime: time.Hour, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	allowed, inside, unknown := &hooked{}, &hooked{}, &hooked{}
	var at []string
	for _, h := range []http.Handler{allowed, inside, unknown} {
		s := httptest.NewTLSServer(h)
		t.Cleanup(s.Close)
		at = append(at, strings.TrimPrefix(s.URL, "https://"))
	}
	trusted := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: idp.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	address, log := freeAddress(t), &output{}
	serve := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // it is this very program
	serve.Args = []string{
		"cloister", "serve", "--database-url", dsn, "--notes-key", "file:" + key, "--audit-key", marks, "--listen", address, "--base-url", base, "--issuers", idp.URL + "|" + base,
		"--webhook-private-hosts", at[0], "--webhook-hosts", at[1],
	}
	serve.Env = append(os.Environ(), "SSL_CERT_FILE="+trusted)
	serve.Stdout, serve.Stderr = log, log
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceValue(func() error { return errors.Join(serve.Process.Signal(syscall.SIGTERM), serve.Wait()) })
	defer func() { _ = stop() }()
	here := "http://" + address + "/fhir"
	eventually(t, "the server", func() bool { status, _ := ask(t, here+"/metadata", ""); return status == http.StatusOK })

	token := func(persona string) string {
		t.Helper()
		people := clinic.Personas(sample)
		text, err := iss.Mint(claims(people[slices.IndexFunc(people, func(p clinic.Persona) bool { return p.Name == persona })].Claims), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	subscribe := func(host string) (int, string) {
		t.Helper()
		return post(t, here+"/Subscription", token("hie"), strings.Replace(subscribing.Body, "http://127.0.0.1:9000", "https://"+host, 1))
	}
	if status, body := subscribe(at[2]); status < 400 || status >= 500 || !strings.Contains(body, "its operator keeps the list") {
		t.Errorf("a host of no list: %d %s", status, body)
	}
	if status, body := subscribe(at[1]); status != http.StatusCreated {
		t.Errorf("a host that is said to be public: %d %s", status, body)
	}
	status, body := subscribe(at[0])
	secret := printedSecret.FindStringSubmatch(body)
	if status != http.StatusCreated || secret == nil {
		t.Fatalf("a host of the list: %d %s\n%s", status, body, log)
	}
	signing, err := base64.StdEncoding.DecodeString(secret[1])
	if err != nil {
		t.Fatal(err)
	}
	allowed.signed(t, signing, "the handshake", `"handshake"`)
	people := clinic.Personas(sample)
	patient := people[slices.IndexFunc(people, func(p clinic.Persona) bool { return p.Name == "patient" })].Claims.Patient
	if status, body := post(t, here+"/Observation", token("therapist"), weighed(patient)); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	allowed.signed(t, signing, "the event", "just-now")
	for what, h := range map[string]*hooked{"a host of no list": unknown, "a host whose address is not public": inside} {
		if s, _ := h.with(""); s != "" {
			t.Errorf("%s was told %s", what, s)
		}
	}
	if err := stop(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if found := clinic.FindCanaries([]byte(log.String())); len(found) > 0 {
		t.Errorf("the log carries data: %v", found)
	}
}
