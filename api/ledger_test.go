package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// ledger is the test's own account of what was in which answer. It knows of no audit record.
type ledger struct {
	t       *testing.T
	c       *clinic
	exports *export.Service
	rand    *rand.Rand
	of      map[string][]string // whose a record is, by Type/id, as the test made it
	part2   map[string]bool     // what is a program's, likewise
	ids     map[string][]string // by type
	answers []answered
	now     map[string]fhir.VersionID // the current version, where it is not the first
	kinds   map[string]int            // records disclosed by each kind of request
}

type answered struct {
	who, request string
	purpose      string
	got          []string // Type/id/_history/version
	wrote        []string
}

// members are callers with organizations: token, role, purpose, fhirUser, organization.
var members = map[string][4]string{
	"dora":      {"therapist", "TREAT", "Practitioner/dora", "general"},
	"counselor": {"sud-counselor", "TREAT", "Practitioner/dora", "sud"},
	"emil":      {"therapist", "TREAT", "Practitioner/emil", "general"},
	"desk":      {"front-desk", "HOPERAT", "Practitioner/emil", "general"},
	"anna":      {"patient", "PATRQT", "Patient/anna", ""},
	"bert":      {"patient", "PATRQT", "Patient/bert", ""},
	"rescue":    {"therapist", "ETREAT", "Practitioner/emil", "general"},
	"hie":       {"hie", "TREAT", "", "hie"},
	"officer":   {"privacy-officer", "HOPERAT", "Practitioner/omar", "sud"},
	"outsider":  {"privacy-officer", "HOPERAT", "Practitioner/omar", "general"},
}

func (l *ledger) Authenticate(ctx context.Context, token string) (authz.Principal, error) {
	who, ok := members[token]
	if !ok {
		return l.c.Authenticate(ctx, token)
	}
	p := authz.Principal{Tenant: l.c.tenant, Subject: "test|" + token, Client: token, Roles: []string{who[0]}, Purpose: who[1], Scopes: smart.Parse("user/*.cruds"), SignedIn: l.c.now()}
	p.User, _ = fhir.ParseRef(who[2])
	if who[3] != "" {
		p.Organizations = []fhir.ID{fhir.ID(who[3])}
	}
	if who[0] == "hie" {
		p.Scopes = smart.Parse("system/*.rs system/Subscription.cud")
	}
	return p, nil
}

func (l *ledger) load(text string) {
	l.t.Helper()
	ctx := context.Background()
	r, err := codec.Parse([]byte(text))
	if err != nil {
		l.t.Fatalf("%v: %s", err, text)
	}
	operator, _ := l.c.Authenticate(ctx, "operator")
	g, err := l.c.cfg.Engine.Authorize(ctx, operator, fhir.Update, r.Type)
	if err != nil {
		l.t.Fatal(err)
	}
	cleared, err := l.c.cfg.Gate.Admit(ctx, g, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Import: true})
	if err == nil {
		_, err = l.c.store.Commit(ctx, []record.Cleared{cleared})
	}
	if err != nil {
		l.t.Fatalf("%v: %s", err, text)
	}
	l.ids[string(r.Type)] = append(l.ids[string(r.Type)], string(r.ID()))
}

func newLedger(t *testing.T, seed uint64) *ledger {
	t.Helper()
	c, exports := newBulk(t)
	l := &ledger{t: t, c: c, exports: exports, rand: rand.New(rand.NewPCG(seed, 1)), of: map[string][]string{}, kinds: map[string]int{}, now: map[string]fhir.VersionID{}, part2: map[string]bool{}, ids: map[string][]string{"Patient": {"anna", "bert"}, "CareTeam": {"one", "two"}}}
	c.cfg.Authenticator = l
	var err error
	if c.Handler, err = New(c.cfg); err != nil {
		t.Fatal(err)
	}
	for _, x := range []string{
		`{"resourceType":"Organization","id":"sud","name":"Program","type":[{"coding":[{"system":"` + fhir.OrganizationKind + `","code":"part2-program"}]}]}`,
		`{"resourceType":"Organization","id":"general","name":"General"}`,
		`{"resourceType":"Organization","id":"hie","name":"Exchange"}`,
		`{"resourceType":"Practitioner","id":"omar","name":[{"family":"Omar"}]}`,
		`{"resourceType":"Consent","id":"c","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},"category":[{"coding":[{"system":"` + fhir.ConsentKind + `","code":"part2-specific"}]}],` +
			`"patient":{"reference":"Patient/anna"},"dateTime":"2025-06-01","performer":[{"reference":"Patient/anna"}],"organization":[{"reference":"Organization/sud"}],"sourceAttachment":{"title":"signed form"},"policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"OPTIN"}]},` +
			`"provision":{"type":"permit","period":{"end":"2027-01-01"},"actor":[{"role":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}]},"reference":{"reference":"Organization/hie"}}],"purpose":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}]}}`,
	} {
		l.load(x)
	}
	for _, p := range []string{"anna", "bert"} {
		l.of["Patient/"+p] = []string{p}
		for _, at := range []string{"sud", "general"} {
			e := "e" + at + p
			l.load(`{"resourceType":"Encounter","id":"` + e + `","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/` + p + `"},"serviceProvider":{"reference":"Organization/` + at + `"}}`)
			l.of["Encounter/"+e], l.part2["Encounter/"+e] = []string{p}, at == "sud"
			c, d := "c"+at+p, "d"+at+p
			l.load(`{"resourceType":"Composition","id":"` + c + `","status":"final","type":{"text":"Summary"},"subject":{"reference":"Patient/` + p + `"},"encounter":{"reference":"Encounter/` + e + `"},"date":"2026-02-01","author":[{"reference":"Practitioner/dora"}],"title":"Summary","section":[{"entry":[{"reference":"Observation/o` + at + p + `0"}]}]}`)
			l.load(`{"resourceType":"DocumentReference","id":"` + d + `","status":"current","subject":{"reference":"Patient/` + p + `"},"context":{"encounter":[{"reference":"Encounter/` + e + `"}]},"content":[{"attachment":{"contentType":"text/plain","title":"Letter"}}]}`)
			for _, ref := range []string{"Composition/" + c, "DocumentReference/" + d} {
				l.of[ref], l.part2[ref] = []string{p}, at == "sud"
			}
			for i := range 3 {
				o := fmt.Sprintf("o%s%s%d", at, p, i)
				l.load(strings.Replace(observation("Patient/"+p, `,"encounter":{"reference":"Encounter/`+e+`"}`), "{", `{"id":"`+o+`",`, 1))
				l.of["Observation/"+o], l.part2["Observation/"+o] = []string{p}, at == "sud"
			}
		}
	}
	l.of["CareTeam/one"], l.of["CareTeam/two"], l.of["Consent/c"] = []string{"anna"}, []string{"bert"}, []string{"anna"}
	l.part2["Consent/c"] = true
	l.load(`{"resourceType":"Appointment","id":"group","status":"booked","participant":[{"actor":{"reference":"Patient/anna"},"status":"accepted"},{"actor":{"reference":"Patient/bert"},"status":"accepted"}]}`)
	l.of["Appointment/group"] = []string{"anna", "bert"}
	return l
}

// resources are those in an answer, whatever it is.
func resources(body []byte) (out []string) {
	for _, line := range bytes.Split(body, []byte("\n")) {
		var v map[string]any
		if json.Unmarshal(line, &v) != nil {
			continue
		}
		var walk func(v map[string]any)
		walk = func(v map[string]any) {
			switch v["resourceType"] {
			case nil, "OperationOutcome", "Parameters":
				return
			case "Bundle":
				list, _ := v["entry"].([]any)
				for _, e := range list {
					m, _ := e.(map[string]any)
					if r, ok := m["resource"].(map[string]any); ok {
						walk(r)
					}
				}
				return
			}
			meta, _ := v["meta"].(map[string]any)
			out = append(out, fmt.Sprintf("%v/%v/_history/%v", v["resourceType"], v["id"], meta["versionId"]))
		}
		walk(v)
	}
	sort.Strings(out)
	return slices.Compact(out)
}

// send sends a request and writes down what came back.
func (l *ledger) send(who, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	w := ask(l.t, l.c, method, path, who, body, headers...)
	l.answered(who, method, path, body, w)
	return w
}

// answered writes down what was in an answer.
func (l *ledger) answered(who, method, path, body string, w *httptest.ResponseRecorder) {
	l.t.Helper()
	if w.Code >= 500 {
		l.t.Fatalf("%s %s as %s: %d %s", method, path, who, w.Code, w.Body)
	}
	target, _, _ := strings.Cut(strings.TrimPrefix(path, "/fhir/"), "?")
	a := answered{who: who, request: w.Header().Get("X-Request-Id"), purpose: members[who][1], got: resources(w.Body.Bytes())}
	if w.Code >= 400 {
		a.got = nil
	}
	// Without a body it still tells that the record is there, and which version: that counts as reading it.
	if w.Code == http.StatusNotModified || method == "HEAD" && w.Code == http.StatusOK {
		a.got = []string{strings.TrimPrefix(path, "/fhir/") + "/_history/" + strings.Trim(strings.TrimPrefix(w.Header().Get("ETag"), "W/"), `"`)}
	}
	if tag := w.Header().Get("ETag"); method == "PATCH" && w.Code < 300 {
		if strings.Contains(target, "/") {
			version, _ := fhir.ParseVersionID(strings.Trim(strings.TrimPrefix(tag, "W/"), `"`))
			a.wrote = []string{target + "/_history/" + version.String()}
			// Whoever patches a record learns of what it was: that counts as reading it.
			a.got = append([]string{target + "/_history/" + (version - 1).String()}, a.got...)
		}
	}
	if place, ok := strings.CutPrefix(w.Header().Get("Location"), "https://clinic.example/fhir/"); ok && w.Code < 300 && (method == "POST" || method == "PUT") {
		a.wrote = []string{place}
		ref, _, _ := strings.Cut(place, "/_history/")
		if strings.HasPrefix(ref, "Observation/") && l.of[ref] == nil {
			r, _ := codec.Parse([]byte(body))
			subject, _ := strings.CutPrefix(r.Root.Get("subject").Get("reference").String(), "Patient/")
			l.of[ref] = []string{subject}
			l.part2[ref] = strings.Contains(body, "Encounter/esud")
		}
	}
	if method == "PATCH" && w.Code == http.StatusUnprocessableEntity {
		a.got = []string{target + "/_history/" + max(l.now[target], 1).String()} // what does not fit tells of it, too
	}
	for _, x := range a.wrote {
		ref, version, _ := strings.Cut(x, "/_history/")
		l.now[ref], _ = fhir.ParseVersionID(version)
	}
	if ref, meta := strings.CutSuffix(strings.TrimPrefix(path, "/fhir/"), "/$meta"); meta && w.Code == http.StatusOK {
		_, version, _ := strings.Cut(w.Body.String(), `"versionId":"`)
		version, _, _ = strings.Cut(version, `"`)
		a.got = []string{ref + "/_history/" + version}
	}
	if strings.Contains(path, "$deidentify") {
		a.got = nil
	}
	l.kinds[kindOf(method, path)] += len(a.got)
	l.answers = append(l.answers, a)
}

// kindOf is the kind of a request.
func kindOf(method, path string) string {
	path, query, _ := strings.Cut(strings.TrimPrefix(path, "/fhir"), "?")
	for _, op := range []string{"$everything", "$docref", "$document", "$deidentify", "$lastn", "_history", "$export", "/*"} {
		if strings.Contains(path, op) {
			return op
		}
	}
	switch {
	case strings.HasPrefix(path, "/_export/"):
		return "a file"
	case method == "POST" && path == "":
		return "batch"
	case method != "GET":
		return method
	case strings.Contains(query, "_include="):
		return "_include"
	case strings.Contains(query, "_revinclude="):
		return "_revinclude"
	case query != "" || !strings.Contains(strings.TrimPrefix(path, "/"), "/"):
		return "search"
	}
	return "read"
}

var disclosing = map[string]bool{"read": true, "vread": true, "history-instance": true, "history-type": true, "history-system": true, "search-type": true, "search-system": true}

// recorded is what the audit trail says of one request: what was disclosed, what was changed,
// each with the patients.
func (l *ledger) recorded(conn *pgx.Conn, request string) (got, wrote []string) {
	rows, err := conn.Query(l.t.Context(), "SELECT interaction, entities, patients FROM audit.event WHERE request = $1 AND outcome = '0'", request) //nolint:rowserrcheck // ForEachRow checks it
	if err != nil {
		l.t.Fatal(err)
	}
	var interaction string
	var entities, patients []string
	if _, err := pgx.ForEachRow(rows, []any{&interaction, &entities, &patients}, func() error {
		for i := range entities {
			line := entities[i] + " of " + patients[i]
			if disclosing[interaction] {
				got = append(got, line)
			} else if interaction == "create" || interaction == "update" || interaction == "patch" {
				wrote = append(wrote, line)
			}
		}
		return nil
	}); err != nil {
		l.t.Fatal(err)
	}
	for _, list := range []*[]string{&got, &wrote} {
		sort.Strings(*list)
		*list = slices.Compact(*list)
	}
	return got, wrote
}

// owned is a list of versions with those whose they are.
func (l *ledger) owned(list []string) (out []string) {
	for _, x := range list {
		ref, _, _ := strings.Cut(x, "/_history/")
		of := l.of[ref]
		if of == nil {
			of = []string{""}
		}
		for _, p := range of {
			out = append(out, x+" of "+p)
		}
	}
	sort.Strings(out)
	return out
}

// owed are the entries of a patient's accounting, by the words of the rules: what left the practice of a program's
// records, with consent or in an emergency (42 CFR 2.25, 2.51). Treatment of others is no disclosure that is
// accounted for (45 CFR 164.528(a)(1)(i)), nor is what she herself was given (ii).
func (l *ledger) owed(patient string) (out []string) {
	for _, a := range l.answers {
		if a.who != "hie" && a.who != "rescue" {
			continue
		}
		types := map[string]int{}
		for _, x := range a.got {
			ref, _, _ := strings.Cut(x, "/_history/")
			if l.part2[ref] && slices.Contains(l.of[ref], patient) {
				t, _, _ := strings.Cut(ref, "/")
				types[t]++
			}
		}
		var parts []string
		for t, n := range types {
			parts = append(parts, fmt.Sprintf("%s (%d)", t, n))
		}
		sort.Strings(parts)
		if parts != nil {
			out = append(out, a.who+": "+strings.Join(parts, ", "))
		}
	}
	sort.Strings(out)
	return out
}

// accounted are the entries that the server gives.
func (l *ledger) accounted(patient string) (out []string) {
	for next := "/fhir/Patient/" + patient + "/$accounting?_count=20"; next != ""; {
		w := ask(l.t, l.c, "GET", next, patient, "")
		r, err := codec.Parse(w.Body.Bytes())
		if err != nil || w.Code != 200 {
			l.t.Fatalf("%d %v %s", w.Code, err, w.Body)
		}
		for _, e := range auditEvents(r) {
			name := ""
			for _, x := range e.Get("entity").List() {
				if n := x.Get("name").String(); n != "" {
					name = n
				}
			}
			who := ""
			for _, a := range e.Get("agent").List() {
				if a.Get("requestor").Text == "true" {
					who = a.Get("altId").String()
				}
			}
			out = append(out, who+": "+name)
		}
		next = link(r, "next")
	}
	sort.Strings(out)
	return out
}

// S24, H1: of a random run, the audit trail says of each answer exactly what was in it, no more and no
// less, and the accounting of each patient is what the rules ask for.
func TestS24_H1_EveryDisclosureIsAccountedForExactly(t *testing.T) {
	steps := 260
	if testing.Short() {
		steps = 60
	}
	l := newLedger(t, 20260301)
	for range steps {
		l.step()
	}
	l.export()
	conn, err := pgx.Connect(t.Context(), l.c.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	disclosed := 0
	for _, a := range l.answers {
		got, wrote := l.recorded(conn, a.request)
		want := l.owned(a.got)
		disclosed += len(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s, request %s: recorded\n%s\ndisclosed\n%s", a.who, a.request, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if a.wrote != nil && !slices.Equal(wrote, l.owned(a.wrote)) {
			t.Errorf("%s, request %s: recorded as written %s, written %s", a.who, a.request, wrote, a.wrote)
		}
	}
	for _, kind := range []string{"$docref", "$document", "$everything", "$lastn", "/*", "_history", "_include", "_revinclude", "a file", "HEAD", "PATCH", "POST", "PUT", "batch", "read", "search"} {
		if l.kinds[kind] == 0 && !testing.Short() {
			t.Errorf("the run discloses nothing by %s: %v", kind, l.kinds)
		}
	}
	entries := 0
	for _, p := range []string{"anna", "bert"} {
		got, want := l.accounted(p), l.owed(p)
		entries += len(want)
		if !slices.Equal(got, want) {
			t.Errorf("the accounting of %s is\n%s\nand should be\n%s", p, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if disclosed < steps || entries < 5 {
		t.Errorf("the run disclosed %d records, of which %d entries tell: it shows nothing", disclosed, entries)
	}
}
