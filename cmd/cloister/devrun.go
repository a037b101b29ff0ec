package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/cloister-health/cloister/api/smart"
	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/config"
	"github.com/cloister-health/cloister/cmd/cloister/internal/demo"
	"github.com/cloister-health/cloister/cmd/cloister/internal/httpd"
	"github.com/cloister-health/cloister/cmd/cloister/internal/issuer"
	"github.com/cloister-health/cloister/cmd/cloister/internal/seed"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/cmd/cloister/internal/signin"
	"github.com/cloister-health/cloister/cmd/cloister/internal/vocabulary"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// tokenLifetime is long enough for a day of trying things out.
const tokenLifetime = 24 * time.Hour

// Run starts everything, prints how to use it, and serves until ctx ends.
func (c *devCmd) Run(ctx context.Context, out io.Writer, log *slog.Logger) (err error) {
	labels, err := c.Classifier()
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	dir, err := c.dataDir()
	if err != nil {
		return err
	}
	if c.Reset {
		if err := os.Remove(filepath.Join(dir, sampleFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("--reset: %w", err)
		}
	}
	db, err := openDatabase(ctx, c.URL, dir, c.Reset, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := postgres.Migrate(ctx, db.DSN); err != nil {
		return fmt.Errorf("dev: the schema could not be migrated (cloister dev --reset starts clean): %w", err)
	}
	own, err := vocabulary.Package()
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	if err := errors.Join(install(ctx, io.Discard, db.DSN, own, true), installFiles(ctx, out, db.DSN, c.Packages, false)); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	keys, err := c.keys(dir)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	if _, err := postgres.EncryptNotes(ctx, db.DSN, keys, nil); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	marks, err := c.marks(dir)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	signed, err := sealTrail(ctx, db.DSN, marks, c.Sealing, false, log)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	defer signed()
	store, err := postgres.Open(ctx, careOptions(c.Care, postgres.Options{URL: db.DSN, Keys: keys, Trail: marks}))
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	defer store.Close()
	if err := store.CheckKeys(ctx); err != nil {
		return fmt.Errorf("dev: the notes of the database do not open with %s: %w", keys.URI(), err)
	}
	sample, err := c.seed(ctx, store, dir, labels, log)
	if err != nil {
		return err
	}
	return c.serve(ctx, out, log, dir, db, store, keys, labels, sample)
}

// notesFile is the key that wraps the data keys of notes, where none is configured.
const notesFile = "notes-key.json"

func (c *devCmd) keys(dir string) (*envelope.Keys, error) {
	if c.Notes == "" {
		path := filepath.Join(dir, notesFile)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			if err := envelope.Create(path); err != nil {
				return nil, err
			}
		}
		c.Notes = "file:" + path
	}
	return c.Keys.Open()
}

// trailFile is the key that signs the audit trail, where none is configured.
const trailFile = "audit-key.jwks"

func (c *devCmd) marks(dir string) (*trail.Keys, error) {
	if c.AuditKey == "" {
		c.AuditKey = filepath.Join(dir, trailFile)
		if _, err := os.Stat(c.AuditKey); errors.Is(err, os.ErrNotExist) {
			if err := trail.Create(c.AuditKey, nil); err != nil {
				return nil, err
			}
		}
	}
	return c.Trail.Open(true)
}

// sampleFile remembers which clinic the database holds, so that a restart on
// another day, or with other flags, does not mix two of them.
const sampleFile = "clinic.json"

func (c *devCmd) seed(ctx context.Context, store *postgres.Store, dir string, labels *label.Classifier, log *slog.Logger) (clinic.Config, error) {
	want := clinic.Config{Seed: c.Seed, Patients: max(c.Patients, clinic.MinPatients), Now: time.Now().UTC().Truncate(24 * time.Hour)}
	path := filepath.Join(dir, sampleFile)
	switch text, err := os.ReadFile(path); { //nolint:gosec // in the data directory
	case err == nil:
		var have clinic.Config
		if err := json.Unmarshal(text, &have); err != nil {
			return want, fmt.Errorf("dev: %s cannot be read (cloister dev --reset starts clean): %w", path, err)
		}
		if have.Seed != want.Seed || have.Patients != want.Patients {
			log.Warn("the database holds the sample clinic of an earlier start, which stays: --reset makes a new one", "patients", have.Patients, "seed", have.Seed)
		}
		want = have
	case errors.Is(err, os.ErrNotExist):
		text, err := json.Marshal(want)
		if err != nil {
			return want, fmt.Errorf("dev: %w", err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return want, fmt.Errorf("dev: %w", err)
		}
	default:
		return want, fmt.Errorf("dev: %w", err)
	}
	core, err := server.NewCore(store, time.Now)
	if err != nil {
		return want, fmt.Errorf("dev: %w", err)
	}
	core = core.Labelling(labels)
	bar := progress(int64(clinic.Total(want)), "sample clinic", false)
	start, stored := time.Now(), 0
	err = seed.Run(ctx, core, want, func(_ string, n int) {
		stored += n
		_ = bar.Add(1) // a terminal that cannot be written to shows no progress
	})
	_ = bar.Finish()
	if err != nil {
		return want, fmt.Errorf("dev: %w", err)
	}
	if stored > 0 {
		log.Info("the sample clinic is in", "patients", want.Patients, "resources", stored, "took", time.Since(start).Round(time.Millisecond))
	}
	return want, nil
}

// progress is a bar on the terminal, and nothing where standard error is none.
func progress(total int64, what string, bytes bool) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionSetVisibility(term.IsTerminal(int(os.Stderr.Fd()))), progressbar.OptionShowCount(), progressbar.OptionShowBytes(bytes),
		progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true))
}

// doors are the listeners of dev, and the addresses by which browsers reach them.
type doors struct {
	front, back, side net.Listener
	base, issuer      string // of the API, and of the tokens of personas
	demo              string // origin of the demo app
}

func (c *devCmd) open(ctx context.Context) (d doors, err error) {
	for _, x := range []struct {
		at       *net.Listener
		address  string
		variable string
	}{
		{&d.front, c.Listen, "CLOISTER_LISTEN (--listen)"},
		{&d.back, c.IssuerListen, "CLOISTER_ISSUER_LISTEN (--issuer-listen)"},
		{&d.side, c.DemoListen, "CLOISTER_DEMO_LISTEN (--demo-listen)"},
	} {
		if *x.at, err = issuer.Listen(ctx, x.address); err != nil {
			d.Close()
			return d, fmt.Errorf("dev: %s: %w", x.variable, err)
		}
	}
	d.issuer, d.demo = "http://"+d.back.Addr().String(), "http://"+d.side.Addr().String()
	if d.base = c.BaseURL; d.base == "" {
		d.base = "http://" + d.front.Addr().String() + "/fhir"
	}
	return d, nil
}

// Close closes what is open; a listener that a server had is closed already.
func (d doors) Close() {
	for _, l := range []net.Listener{d.front, d.back, d.side} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (c *devCmd) serve(ctx context.Context, out io.Writer, log *slog.Logger, dir string, db *database, store *postgres.Store, keys *envelope.Keys, labels *label.Classifier, sample clinic.Config) error {
	go store.Reindex(ctx, reindexInterval, func(err error) { log.Warn("resources could not be indexed anew", "error", err) })
	at, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer at.Close()
	people := clinic.Personas(sample)
	providers, err := c.Providers.Read(true)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	sign, known, err := openSignIn(ctx, signin.Config{
		URL: db.DSN, FHIRBase: at.base, Auditor: store, Practices: store, Issuers: []oidc.Issuer{{URL: at.issuer, Audience: at.base}}, Providers: providers, Origins: c.CORSOrigins,
		People: identity.Config{Title: "Cloister dev", Mail: printedMail{out}}, Policy: smart.RegistrationOpen, Log: log, Now: time.Now,
	}, dir, people)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	defer sign.Close()
	cfg := c.API
	if cfg.SigningKeys == "" {
		cfg.SigningKeys = filepath.Join(dir, "signing.jwks")
		if err := config.MakeKeys(cfg.SigningKeys); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
	}
	cfg.CORSOrigins = append(slices.Clone(cfg.CORSOrigins), at.demo)
	laid, err := openTerms(ctx, c.Policies, store.Tenant, log)
	if err != nil {
		return fmt.Errorf("dev: CLOISTER_POLICIES (--policies): %w", err)
	}
	policies, err := openPolicies(ctx, c.Policies, store.Tenant, log)
	if err != nil {
		return fmt.Errorf("dev: CLOISTER_POLICIES (--policies): %w", err)
	}
	if cfg.ExportDir == "" && cfg.ExportS3 == "" {
		cfg.ExportDir = filepath.Join(dir, "exports")
	}
	if cfg.ImportDir == "" {
		cfg.ImportDir = filepath.Join(dir, "imports")
	}
	files := &bulk{
		dir: cfg.ExportDir, bucket: cfg.ExportS3, keys: keys, clients: sign, terms: laid, local: true,
		imports: cfg.ImportDir,
	}
	defer files.end()
	api, err := handler(ctx, store, policies, cfg, labels, at.base, sign.Authenticator, authorizationFace{sign.SMART(), sign.Server.AllowsOrigin}, files, log)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	h, err := sign.Handler(api)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	client := demoClient(at.side)
	if err := register(ctx, sign, store.Tenant, client, at.demo, c.CORSOrigins); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	iss, err := issuer.New(issuer.Config{
		URL: at.issuer, Audience: at.base, KeyFile: filepath.Join(dir, "issuer.key"), Personas: offered(people, at.base), Lifetime: tokenLifetime, Now: time.Now,
		SignIn: credentials(known), Demo: at.demo, Patients: shownPatients(people),
	})
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	iss.LaunchWith(launcher(iss, people, at.base, strings.TrimSuffix(at.base, "/fhir")+"/smart", client, at.demo))
	app, err := demo.Handler(demo.Config{FHIR: at.base, Issuer: at.issuer, Client: client, Patients: compared(people)})
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	if err := welcome(out, iss, at, db.DSN, c.Notes, people); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	sign.Start()
	g.Go(func() error { return httpd.Serve(ctx, at.front, h, c.Grace, log) })
	g.Go(func() error {
		store.Relabel(ctx, relabelInterval, labels, func(err error) { log.Warn("resources could not be classified anew", "error", err) })
		return nil
	})
	g.Go(func() error { return httpd.Serve(ctx, at.back, iss.Handler(), time.Second, log) })
	g.Go(func() error { return httpd.Serve(ctx, at.side, app, time.Second, log) })
	g.Go(func() error {
		select {
		case <-db.Done():
			return errors.New("dev: the private database ended by itself; its log is in the data directory")
		case <-ctx.Done():
			return nil
		}
	})
	return g.Wait()
}

func claims(c clinic.Claims) issuer.Claims {
	return issuer.Claims{
		Subject: c.Subject, Scope: c.Scope, Practice: c.Practice, Roles: c.Roles, Organizations: c.Organizations,
		Purpose: c.Purpose, User: c.FHIRUser, Patient: c.Patient, Client: c.Client,
	}
}

func offered(people []clinic.Persona, base string) []issuer.Persona {
	out := make([]issuer.Persona, 0, len(people))
	for _, p := range people {
		x := issuer.Persona{Name: p.Name, About: p.Description, Claims: claims(p.Claims)}
		for _, rq := range p.Requests {
			x.Try = append(x.Try, issuer.Request{Command: pasted(base, rq), Expect: rq.Expect})
		}
		x.Try = append(x.Try, exporting(base, p.Exports)...)
		out = append(out, x)
	}
	return out
}

// pasted is a request of a persona for a shell that has the token in TOKEN. Where a request makes something,
// the shell keeps its address in MADE.
func pasted(base string, rq clinic.Request) string {
	c := `curl -sS -H "Authorization: Bearer $TOKEN"`
	switch {
	case rq.Body != "":
		c += " -H 'Content-Type: application/fhir+json' -d '" + rq.Body + "'"
	case rq.Method == http.MethodPost:
		c += " -X POST"
	}
	if rest, ok := strings.CutPrefix(rq.Path, clinic.Made); ok {
		return c + ` "$MADE"'` + rest + "'"
	}
	c += " '" + base + rq.Path + "'"
	if rq.Makes {
		c = "MADE=$(" + c + ` -D - -o /dev/null | sed -n 's|^Location: \(.*\)/_history/.*|\1|p')`
	}
	return c
}

// subscribing asks to be told of encounters and observations, at an address where nobody has to listen.
var subscribing = clinic.Request{
	Path: "/Subscription",
	Body: `{"resourceType":"Subscription","meta":{"profile":["http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription"]},"status":"requested","reason":"try it",` +
		`"criteria":"https://cloister.health/fhir/SubscriptionTopic/resource-change","_criteria":{"extension":[` +
		`{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria","valueString":"Observation"}]},` +
		`"channel":{"type":"rest-hook","endpoint":"http://127.0.0.1:9000/hook","payload":"application/fhir+json","_payload":{"extension":[` +
		`{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content","valueCode":"full-resource"}]}}}`,
	Expect: "signed notifications of observations to whatever listens at the endpoint on this machine: a handshake, then what changes",
}

// exporting begins an export of a Group, and asks for it by the address that the shell keeps in JOB.
func exporting(base string, group fhir.Ref) []issuer.Request {
	if group == (fhir.Ref{}) {
		return nil
	}
	c := `curl -sS -H "Authorization: Bearer $TOKEN" `
	return []issuer.Request{
		{Command: "JOB=$(" + c + "-H 'Prefer: respond-async' '" + base + "/" + group.String() + `/$export' -D - -o /dev/null | tr -d '\r' | sed -n 's|^Content-Location: ||p')`, Expect: "an export of all that the exchange may see of the patients of its panel"},
		{Command: c + `"$JOB"`, Expect: "after some seconds its manifest: a file for each type, to be fetched with the same token; nothing while it is under way"},
	}
}

// welcome prints the address, and for each persona a token and requests to paste.
func welcome(out io.Writer, iss *issuer.Issuer, at doors, dsn, notes string, people []clinic.Persona) error {
	base := at.base
	w := &printer{out: out}
	w.printf("\nCloister serves a sample clinic. Everybody in it is made up.\n\n")
	for _, p := range people {
		token, err := iss.Mint(claims(p.Claims), tokenLifetime)
		if err != nil {
			return fmt.Errorf("dev: %w", err)
		}
		w.printf("# %s: %s (%s)\nTOKEN=%s\n", p.Name, p.Description, p.Practice, token)
		for _, rq := range p.Requests {
			w.printf("%s   # %s\n", pasted(base, rq), rq.Expect)
		}
		for _, x := range exporting(base, p.Exports) {
			w.printf("%s   # %s\n", x.Command, x.Expect)
		}
		if strings.Contains(p.Claims.Scope, "system/Subscription.") {
			w.printf("%s   # %s\n", pasted(base, subscribing), subscribing.Expect)
		}
		w.printf("\n")
	}
	w.printf("FHIR endpoint       %s\nWhat it can do      %s/metadata\nPersonas and tokens %s/personas\nSign in             %s/smart/sign-in (passwords and codes are on the page of personas)\nDemo SMART app      %s/\nYour own app        export CLOISTER_DATABASE_URL='%s'   # then as docs/smart.md says: cloister app register, cloister app approve\nImport your files   CLOISTER_DATABASE_URL='%s' CLOISTER_NOTES_KEY='%s' cloister import --practice harbor PATH\n\nCtrl-C stops everything; the data stays (cloister dev --reset starts clean).\n\n", base, base, at.issuer, strings.TrimSuffix(base, "/fhir"), at.demo, dsn, dsn, notes)
	return w.err
}

// printer keeps the first error.
type printer struct {
	out io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}
