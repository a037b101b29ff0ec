package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/api/bulkdata"
	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/api/rest"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/canary"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// registryPolicy lets the registry have what is not labelled.
const registryPolicy = "\np, hie, HOPERAT, read, demographics|clinical|scheduling|billing|directory|care-team|Group, general+sud+high, -, allow, registry\n"

// newReleasing is a clinic that makes de-identified releases, and what it logs.
func newReleasing(t testing.TB) (*clinic, *export.Service, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	var src pdp.Source
	c := newClinic(t, func(cfg *Config) {
		src = pdp.Embedded()
		src.Policy += registryPolicy
		policy, err := pdp.New(src)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		store := cfg.Store.(*postgres.Store) //nolint:forcetypeassert,errcheck // of the fixture
		engine := authz.NewEngine(policy, store, cfg.Now)
		cfg.Engine, cfg.Gate = engine, record.NewGate(engine, store, cfg.Now).Explaining(store).Accounting(store)
	})
	sink, err := export.OpenDisk(filepath.Join(t.TempDir(), "exports"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	laid := &terms.Practices{}
	in := terms.Validity{Reference: "Contract/dua-7", Recipients: []string{"registry"}, From: "2026-01-01", Until: "2027-01-01"}
	expert := in
	expert.Reference = "DocumentReference/expert-2"
	laid.Set(c.tenant, terms.Terms{Agreements: []terms.Agreement{{Validity: in}}, Determinations: []terms.Determination{{Validity: expert, K: deident.MinK, Days: 30, Quasi: []deident.Quasi{deident.Gender}}}})
	s, err := export.New(export.Config{
		Base: c.cfg.Base, Engine: c.cfg.Engine, Gate: c.cfg.Gate, Records: c.store, Consents: c.store, Jobs: c.store.Exports(), Sink: sink,
		Keys: envelopetest.Keys(), Log: c.cfg.Log, Now: c.now, Settle: -1, Releases: c.store.Releases(), OptOuts: c.store, Terms: laid, Page: 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.Exports = s
	if c.Handler, err = New(c.cfg); err != nil {
		t.Fatal(err)
	}
	return c, s, log
}

// put stores a resource as an import does.
func (c *clinic) put(t testing.TB, text string) error {
	t.Helper()
	ctx := context.Background()
	operator, _ := c.Authenticate(ctx, "operator")
	r, err := codec.Parse([]byte(text))
	if err != nil {
		return err
	}
	g, err := c.cfg.Engine.Authorize(ctx, operator, fhir.Update, r.Type)
	if err != nil {
		return err
	}
	x, err := c.cfg.Gate.Admit(ctx, g, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Import: true})
	if err == nil {
		_, err = c.store.Commit(ctx, []record.Cleared{x})
	}
	return err
}

// owned is a planted resource that is a record of one patient, as far as its type can say so.
func owned(root *element.Node, patient string) {
	d, _ := codec.DefinitionOf(root.Get("resourceType").String())
	for _, name := range []string{"patient", "subject", "beneficiary"} {
		e, ok := d.Element(name)
		if !ok || e.Type != "Reference" || !slices.Contains(e.Targets(), fhir.ResourceType("Patient")) {
			continue
		}
		v := element.NewObject(element.Field{Name: "reference", Value: element.NewString("Patient/" + patient)})
		if e.List {
			v = &element.Node{Kind: element.Array, Items: []*element.Node{v}}
		}
		root.Set(name, v)
	}
}

// heard is all that a client and whoever reads the log hear of a release: bodies, headers, names, log.
func heard(t *testing.T, c *clinic, s *export.Service, path, token string) (all string, lines map[string]int) {
	t.Helper()
	var b strings.Builder
	hear := func(w *httptest.ResponseRecorder) *httptest.ResponseRecorder {
		_ = w.Header().Write(&b)
		b.Write(w.Body.Bytes())
		return w
	}
	w := hear(ask(t, c, "GET", path, token, "", "Prefer", "respond-async"))
	if w.Code != 202 {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	place := below(t, w.Header().Get("Content-Location"))
	for busy := true; busy; {
		hear(ask(t, c, "GET", place, token, ""))
		var err error
		if busy, err = s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w = hear(ask(t, c, "GET", place, token, ""))
	var m manifest
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || w.Code != 200 {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	lines = map[string]int{}
	for _, f := range append(m.Output, m.Error...) {
		lines[f.Type] += f.Count
		file := hear(ask(t, c, "GET", below(t, f.URL), token, ""))
		n := strings.Count(file.Body.String(), "\n")
		if strings.HasSuffix(f.URL, ".csv") || strings.HasSuffix(f.URL, ".parquet") {
			x := tableOf(t, f.URL, file.Body.String())
			n = len(x) - 1
			fmt.Fprint(&b, x) // what Parquet packs
		}
		if file.Code != 200 || n != f.Count {
			t.Errorf("%s: %d, %d lines of %d", f.URL, file.Code, n, f.Count)
		}
	}
	hear(ask(t, c, "GET", place+"/99.ndjson", token, ""))
	hear(ask(t, c, "GET", path+"&_since=2020-01-01T00:00:00Z", token, "", "Prefer", "respond-async"))
	return b.String(), lines
}

// A token of its own is planted in every place of every resource type, and all of it is stored; nothing of it is in
// anything that leaves the server with a release, under any profile.
func TestD1_164_514_b_2_CanariesOverHTTP(t *testing.T) {
	c, s, log := newReleasing(t)
	listed := deident.Types()
	for i := range 12 {
		if err := c.put(t, fmt.Sprintf(`{"resourceType":"Patient","id":"Canary88%03dx8","gender":"female","birthDate":"1931-07-23","name":[{"family":"Canary77%03dx7"}],"address":[{"postalCode":"12180","city":"Canary66%03dx6"}]}`, i, i, i)); err != nil {
			t.Fatal(err)
		}
	}
	stored := 0
	for n, rt := range fhir.ResourceTypes() {
		many := 1
		if slices.Contains(listed, rt) {
			many = 3
		}
		for v := range many {
			root, _ := canary.Plant(rt, v)
			root.Set("id", element.NewString(fmt.Sprintf("Canary99%03dx%d", n, v)))
			owned(root, fmt.Sprintf("Canary88%03dx8", (n+v)%12))
			if err := c.put(t, string(root.AppendJSON(nil))); err == nil {
				stored++
			} else if slices.Contains(listed, rt) {
				t.Errorf("%s, variant %d: %v", rt, v, err)
			}
		}
	}
	if stored < 150 {
		t.Fatalf("%d resources are stored", stored)
	}
	log.Reset() // what is logged of requests that store is another test's
	for _, x := range []struct {
		path  string
		types int
		dates bool // no date may survive
	}{
		{"/fhir/$export?_profile=safe-harbor", 25, true}, {"/fhir/$export?_profile=expert-determination%7C1.1.0", 15, true}, {"/fhir/$export?_profile=limited-data-set", 25, false},
		{"/fhir/Patient/$export?_profile=safe-harbor", 15, true},
		{"/fhir/$export?_profile=safe-harbor&_outputFormat=text/csv", 6, true}, {"/fhir/$export?_profile=safe-harbor&_outputFormat=application/vnd.apache.parquet", 6, true},
		{"/fhir/$export?_profile=expert-determination&_outputFormat=application/vnd.apache.parquet", 6, true}, {"/fhir/$export?_profile=limited-data-set&_outputFormat=application/vnd.apache.parquet", 6, false},
	} {
		all, lines := heard(t, c, s, x.path, "registry")
		if len(lines) < x.types || lines["OperationOutcome"] > 0 {
			t.Errorf("%s: %v", x.path, lines)
		}
		for what, text := range map[string]string{"answer": all, "log": log.String()} {
			for _, token := range regexp.MustCompile(`(?i).{0,80}(canary[0-9x]*|Q2FuYXJ5|urn:oid:1\.2\.77|0c0ffee0).{0,40}`).FindAllString(text, 5) {
				t.Errorf("%s: the %s has %s", x.path, what, token)
			}
			text = anyUUID.ReplaceAllString(text, "") // which are random, and have 07-23 in them now and then
			for _, day := range []string{"07-23", "11:22:33", "11:44:33", "11:55:33"} {
				if x.dates && strings.Contains(text, day) {
					t.Errorf("%s: the %s has %s", x.path, what, day)
				}
			}
		}
		if !x.dates && !strings.Contains(all, "2011-07-23") {
			t.Errorf("%s has no dates: this test looks in the wrong place", x.path)
		}
	}
	// One patient, by her own id: neither the answer nor the log has it, nor has any refusal.
	for i := range 12 {
		for query, want := range map[string]int{"_profile=safe-harbor": 200, "_profile=limited-data-set": 200, "_profile=expert-determination": 400, "_profile=Canary55": 400, "_profile=safe-harbor&_type=Canary55": 400, "": 400} {
			w := ask(t, c, "GET", fmt.Sprintf("/fhir/Patient/Canary88%03dx8/$deidentify?%s", i, query), "registry", "")
			all := fmt.Sprint(w.Header(), w.Body)
			if w.Code != want || want == 200 && !strings.Contains(all, `"entry"`) || regexp.MustCompile(`(?i)canary|Q2FuYXJ5|1\.2\.77|0c0ffee0`).MatchString(all) || strings.Contains(query, "safe-harbor") && strings.Contains(all, "07-23") {
				t.Errorf("%s: %d %.600s", query, w.Code, all)
			}
		}
	}
	if token := regexp.MustCompile(`(?i).{0,80}canary.{0,40}`).FindString(log.String()); token != "" {
		t.Errorf("the log has %s", token)
	}
	if log.Len() == 0 {
		t.Error("nothing is logged: this test looks in the wrong place")
	}
}

// A client that is registered with a release profile gets it, and nothing else, by any route.
func TestAConfinedClientOnEveryRoute(t *testing.T) {
	c, s, _ := newReleasing(t)
	for i := range 12 {
		if err := c.put(t, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","name":[{"family":"Canary"}]}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	sv := &server{Config: c.cfg, rest: rest.New(c.cfg.Engine, c.cfg.Gate, c.cfg.Store, c.cfg.options()), bulk: bulkdata.New(s)}
	sv.operations = operation.New(c.cfg.Engine, c.cfg.Gate, c.cfg.Store, sv.rest, operation.DefaultLimits)
	sv.ceremony = operation.NewCeremony(sv.operations, c.cfg.Store)
	sv.validation = operation.NewValidation(sv.operations, c.cfg.Validator)
	sv.terms = operation.NewTerminology(c.cfg.Gate, c.cfg.Terminology)
	table, err := sv.routes()
	if err != nil {
		t.Fatal(err)
	}
	// The same token without the profile shows that there is something to see.
	if w := ask(t, c, "GET", "/fhir/Patient/p1", "registry", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "Canary") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	tried := 0
	for _, r := range table {
		for _, typ := range []string{"Patient", "Organization", "SearchParameter"} {
			path := strings.NewReplacer(":type", typ, ":id", "p1", ":vid", "1", ":compartment", "Patient", ":owner", "p1", ":file", "1.ndjson").Replace(r.path)
			for _, query := range []string{"", "?_profile=safe-harbor", "?_profile=limited-data-set&_type=Patient", "?_count=5"} {
				for _, body := range []string{"", `{"resourceType":"Parameters"}`, `{"resourceType":"Patient","id":"p1"}`, `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/p1"}}]}`} {
					if r.open {
						continue
					}
					headers := []string{"Accept", "*/*"}
					if strings.HasSuffix(path, "$export") {
						headers = append(headers, "Prefer", "respond-async")
					}
					w := ask(t, c, r.method, path+query, "analytics", body, headers...)
					tried++
					text := w.Body.String()
					if strings.Contains(text, "Canary") || strings.Contains(text, `"Patient"`) && w.Code < 300 {
						t.Errorf("%s %s%s: %d %s", r.method, path, query, w.Code, text)
					}
					batch := r.reads == bundle && strings.Contains(body, "batch") && strings.Contains(text, `"status":"403 `)
					own := strings.HasSuffix(path, "/$validate") // of what the client sends, and of nothing else
					if w.Code < 300 && !batch && !own && !(w.Code == 202 && strings.HasSuffix(path, "$export") && w.Header().Get("Content-Location") != "") {
						t.Errorf("%s %s%s with %.30s: %d %s", r.method, path, query, body, w.Code, text)
					}
					if w.Code == 202 {
						ask(t, c, "DELETE", below(t, w.Header().Get("Content-Location")), "analytics", "")
					}
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("%d requests", tried)
	}
	for _, path := range []string{"/fhir/Patient", "/fhir/_history", "/fhir?_type=Patient", "/fhir/Patient/p1/$everything"} { // and not later, either
		w := ask(t, c, "GET", path, "analytics", "", "Prefer", "respond-async")
		text := w.Body.String()
		if w.Code == 202 {
			text = string(c.fetch(t, "analytics", below(t, w.Header().Get("Content-Location"))).Root.AppendJSON(nil))
		}
		if strings.Contains(text, "Canary") || !strings.Contains(text, `"forbidden"`) {
			t.Errorf("%s, put off: %d %s", path, w.Code, text)
		}
	}
	all, lines := heard(t, c, s, "/fhir/$export?_type=Patient", "analytics")
	if lines["Patient"] != 14 || strings.Contains(all, "Canary") || !strings.Contains(all, `"extension":{"release":{"profile":"safe-harbor|1.1.0"`) {
		t.Errorf("%v %s", lines, all)
	}
}

func TestDeidentifyOnePatient(t *testing.T) {
	c, _, _ := newReleasing(t)
	c.create(t, "therapist", observation("Patient/anna", `,"effectiveDateTime":"2026-02-03","note":[{"text":"Canary"}]`))
	out := strings.NewReplacer("ID", "out", "KIND", "deidentified-optout").Replace(`{"resourceType":"Consent","id":"ID","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},"category":[{"coding":[{"system":"` + fhir.ConsentKind + `","code":"KIND"}]}],
"patient":{"reference":"Patient/bert"},"dateTime":"2025-01-01","provision":{"type":"deny"}}`)
	for _, x := range []struct {
		method, path, token, body string
		want                      int
		has                       string
	}{
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=safe-harbor", "therapist", "", 200, `"effectiveDateTime":"2026"`},
		{"POST", "/fhir/Patient/anna/$deidentify", "therapist", `{"resourceType":"Parameters","parameter":[{"name":"_profile","valueString":"safe-harbor|1.1.0"},{"name":"_type","valueString":"Patient"}]}`, 200, `"resourceType":"Patient"`},
		{"GET", "/fhir/Patient/bert/$deidentify?_profile=safe-harbor", "therapist", "", 404, ""}, // hidden
		{"GET", "/fhir/Patient/none/$deidentify?_profile=safe-harbor", "therapist", "", 404, ""},
		{"GET", "/fhir/Patient/anna/$deidentify", "therapist", "", 400, ""},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=none", "therapist", "", 400, ""},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=safe-harbor&_profile=safe-harbor", "therapist", "", 400, ""},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=safe-harbor&_elements=id", "therapist", "", 400, ""},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=safe-harbor&_type=DocumentReference", "therapist", "", 400, ""},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=expert-determination", "registry", "", 400, "at least eleven"},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=limited-data-set", "registry", "", 200, `"PSEUDED"`},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=limited-data-set", "therapist", "", 403, ""},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=safe-harbor", "analytics", "", 403, ""},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=safe-harbor", "front-desk", "", 200, `"Patient"`},
		{"POST", "/fhir/Patient/anna/$deidentify?_profile=safe-harbor", "therapist", `{"resourceType":"Bundle","type":"collection"}`, 400, ""},
		{"GET", "/fhir/Patient/anna/$deidentify?_profile=safe-harbor", "", "", 401, ""},
	} {
		w := ask(t, c, x.method, x.path, x.token, x.body)
		text := w.Body.String()
		if w.Code != x.want || !strings.Contains(text, x.has) || strings.Contains(text, "Canary") || strings.Contains(text, "Anna") || strings.Contains(text, "anna") || w.Code == 200 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s as %s: %d %s", x.method, x.path, x.token, w.Code, text)
		}
	}
	if w := ask(t, c, "GET", "/fhir/Patient/bert/$deidentify?_profile=safe-harbor", "colleague", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"entry"`) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if err := c.put(t, out); err != nil {
		t.Fatal(err)
	}
	if w := ask(t, c, "GET", "/fhir/Patient/bert/$deidentify?_profile=safe-harbor", "colleague", ""); strings.Contains(w.Body.String(), `"entry"`) {
		t.Errorf("who wants no use of his records is released: %d %s", w.Code, w.Body)
	}
	// Nothing leads back.
	c.exec(t, "DO $$ BEGIN IF EXISTS (SELECT FROM deident.release) THEN RAISE 'keys are left'; END IF; END $$")
}

func FuzzReleaseRequests(f *testing.F) {
	c, _, _ := newReleasing(f)
	f.Add("safe-harbor|1.1.0", `{"resourceType":"Parameters","parameter":[{"name":"_profile","valueString":"x"}]}`)
	f.Add("https://cloister.health/fhir/release-profile/safe-harbor", "")
	f.Add("limited-data-set", `{"resourceType":"Parameters","parameter":[{"name":"_type","valueCode":"Patient"}]}`)
	f.Fuzz(func(t *testing.T, profile, body string) {
		query := "?_profile=" + escape(profile)
		for _, x := range []struct{ path, token string }{{"/fhir/$export", "registry"}, {"/fhir/Patient/$export", "analytics"}, {"/fhir/Patient/anna/$deidentify", "therapist"}} {
			for _, body := range []string{"", body} {
				method := "GET"
				if body != "" {
					method = "POST"
				}
				w := ask(t, c, method, x.path+query, x.token, body, "Prefer", "respond-async")
				_, known := deident.Asked(profile)
				if w.Code >= 500 || w.Code < 300 && !known || strings.Contains(w.Body.String(), "Anna") {
					t.Fatalf("%s %s as %s with %q: %d %s", method, x.path+query, x.token, body, w.Code, w.Body)
				}
				if w.Code == 202 {
					ask(t, c, "DELETE", strings.TrimPrefix(w.Header().Get("Content-Location"), "https://clinic.example"), x.token, "")
				}
			}
		}
	})
}

func escape(s string) string {
	var b strings.Builder
	for _, x := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", x)
	}
	return b.String()
}
