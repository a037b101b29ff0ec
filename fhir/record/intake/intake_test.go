package intake_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// References go to whatever the import brings, in any order, also in a circle; a second run changes nothing.
func TestReferencesInAnyOrder(t *testing.T) {
	h := newHouse(t)
	p := h.exchange()
	// More than one unit, each of which needs the next one; and two that need each other.
	var lines []string
	for i := range 1300 {
		next := fmt.Sprintf(`,"derivedFrom":[{"reference":"Observation/n%04d"}]`, i+600)
		if i >= 700 {
			next = ""
		}
		if i == 10 {
			next = `,"hasMember":[{"reference":"Observation/n1299"}]`
		}
		if i == 1299 {
			next = `,"hasMember":[{"reference":"https://clinic.example/fhir/Observation/n0010"}]`
		}
		lines = append(lines, observation(fmt.Sprintf("n%04d", i), next))
	}
	lines = append(lines, observation("never", `,"derivedFrom":[{"reference":"Observation/nothing"}]`),
		observation("by-identifier", `,"performer":[{"reference":"Practitioner?identifier=urn:npi|1"}]`), observation("by-nothing", `,"performer":[{"reference":"Practitioner?identifier=urn:npi|9"}]`))
	for _, dry := range []bool{true, false} {
		id := h.upload(p, dry, lines...)
		h.finish()
		if got := h.counted(p, id); got != "1301 new, 0 changed, 0 same, 0 refused, 2 unresolved" {
			t.Errorf("dry %v: %s", dry, got)
		}
		r := h.report(p, id)
		for _, want := range []string{`"text":"input 1, line 1301: Observation/never"`, `"expression":["Observation.derivedFrom[0].reference"]`, `"text":"input 1, line 1303: Observation/by-nothing"`} {
			if !strings.Contains(r, want) {
				t.Errorf("dry %v: no %s in\n%.3000s", dry, want, r)
			}
		}
		want := map[bool]string{true: "0", false: "1301"}[dry]
		if got := h.SQL("SELECT count(*)::text FROM record.resource WHERE id LIKE 'n____' OR id LIKE 'by%'"); got != want {
			t.Errorf("dry %v: %s are stored, want %s", dry, got, want)
		}
	}
	id := h.upload(p, false, lines...)
	h.finish()
	if got := h.counted(p, id); got != "0 new, 0 changed, 1301 same, 0 refused, 2 unresolved" {
		t.Errorf("again: %s", got)
	}
	if got := h.SQL("SELECT count(*)::text FROM record.resource WHERE version > 1"); got != "0" {
		t.Errorf("%s have a second version", got)
	}
	if s := h.status(p, id); !strings.HasPrefix(s.Progress, "1303 of 1303 lines") {
		t.Errorf("%q", s.Progress)
	}
	h.Clock.Add(1000)
	if err := h.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := h.objects(); n != 0 {
		t.Errorf("%d inputs are left", n)
	}
}

// What a client may not write it does not import, and labels are set at the door.
func TestNobodyImportsWhatSheMayNotWrite(t *testing.T) {
	h := newHouse(t)
	p := h.exchange()
	id := h.upload(p, false,
		observation("fine", ""),
		`{"resourceType":"Medication","id":"m"}`,
		`{"resourceType":"Consent","id":"c","status":"active","scope":{"text":"x"},"category":[{"text":"x"}],"policyRule":{"text":"x"},"patient":{"reference":"Patient/anna"}}`,
		`{"resourceType":"DocumentReference","id":"note","status":"current","type":{"coding":[{"system":"`+fhir.NoteKind+`","code":"psychotherapy-note"}]},"subject":{"reference":"Patient/anna"},"author":[{"reference":"Practitioner/dora"}],"content":[{"attachment":{"contentType":"text/plain","data":"c2VjcmV0"}}]}`,
		`{"resourceType":"Organization","id":"own","type":[{"coding":[{"system":"`+fhir.OrganizationKind+`","code":"part2-program"}]}]}`,
		observation("of-a-program", `,"encounter":{"reference":"Encounter/hidden"}`),
		`{"resourceType":"Condition","id":"f11","subject":{"reference":"Patient/anna"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F11.20"}]}}`,
		observation("relabelled", `,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}]}`),
		`{"resourceType":"Patient","id":"bad","gender":"`+canary+`"}`,
		"not json "+canary,
		observation("secret", ""), // hers is another one than that which she does not see
	)
	h.finish()
	if got := h.counted(p, id); !strings.HasPrefix(got, "4 new, 0 changed, 0 same, 6 refused, 1 unresolved") || !strings.Contains(got, "42CFRPart2-RECEIVED 1, ETH 1, OPIOIDUD 1, SUD 1") {
		t.Errorf("%s\n%s", got, h.report(p, id))
	}
	if got := h.SQL("SELECT id FROM record.resource WHERE id = ANY ('{fine,m,c,note,own,of-a-program,f11,relabelled,bad}') UNION ALL SELECT id FROM notes.resource ORDER BY id"); got != "f11 fine relabelled" {
		t.Errorf("stored: %q", got)
	}
	if got := h.SQL("SELECT count(*)::text FROM record.resource WHERE id = 'secret'"); got != "2" {
		t.Errorf("%s resources have the id of the hidden one", got)
	}
	if r := h.report(p, id); strings.Contains(r, canary) || strings.Contains(r, "c2VjcmV0") {
		t.Errorf("%s", r)
	}
	for _, l := range strings.Split(strings.TrimSpace(h.report(p, id)), "\n") {
		if !strings.HasPrefix(l, `{"resourceType":"OperationOutcome","issue":[{`) {
			t.Errorf("%q is no OperationOutcome", l)
		}
	}

	// Who acts for a user, or writes nothing, begins none.
	ctx := context.Background()
	user := h.exchange()
	user.Scopes = smart.Parse("user/*.cruds")
	reader := h.exchange()
	reader.Scopes = smart.Parse("system/*.rs")
	for name, who := range map[string]authz.Principal{"user": user, "reader": reader} {
		if _, err := h.Upload(ctx, h.Grant(who), intake.Request{}, strings.NewReader(observation("x", "")), false); status(err) != 403 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Scopes narrow what goes in, too.
	narrow := h.exchange()
	narrow.Scopes = smart.Parse("system/Patient.cruds")
	id = h.upload(narrow, false, observation("narrow", ""), `{"resourceType":"Patient","id":"narrow"}`)
	h.finish()
	if got := h.counted(narrow, id); got != "1 new, 0 changed, 0 same, 1 refused, 0 unresolved" {
		t.Errorf("narrow: %s", got)
	}
}

// Permission is asked for at each batch.
func TestAClientThatMayNotGoOnStops(t *testing.T) {
	retired := false
	h := newHouse(t, func(c *intake.Config) {
		c.Clients = registry(func(string) error {
			if retired {
				return authz.ErrDenied
			}
			return nil
		})
	})
	p := h.exchange()
	var lines []string
	for i := range 600 {
		lines = append(lines, observation(fmt.Sprintf("n%03d", i), ""))
	}
	id := h.upload(p, false, lines...)
	if _, err := h.Step(context.Background()); err != nil {
		t.Fatal(err)
	}
	retired = true
	h.finish()
	if s := h.status(p, id); s.State != intake.Failed || s.Reason != intake.Denied {
		t.Errorf("%+v", s)
	}
	if got := h.SQL("SELECT count(*)::text FROM record.resource WHERE id LIKE 'n___'"); got != "500" {
		t.Errorf("%s are stored", got)
	}
	if _, err := h.Upload(context.Background(), h.Grant(p), intake.Request{}, strings.NewReader(lines[0]), false); status(err) != 403 {
		t.Errorf("a retired app begins: %v", err)
	}
}

type registry func(client string) error

func (r registry) Standing(_ context.Context, who authz.Frozen) error { return r(who.Client) }

// Clients take turns, however many imports one of them has; and nobody has more than some.
func TestClientsTakeTurns(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	greedy, modest := h.exchange(), h.exchange()
	modest.Client, modest.Subject = "modest", "iss|modest"
	for i := range 4 {
		h.upload(greedy, false, observation(fmt.Sprintf("g%d", i), ""))
	}
	if _, err := h.Upload(ctx, h.Grant(greedy), intake.Request{}, strings.NewReader(observation("x", "")), false); status(err) != 429 {
		t.Errorf("a fifth import: %v", err)
	}
	id := h.upload(modest, false, observation("m", ""))
	for turn := 1; h.status(modest, id).State != intake.Done; turn++ {
		if turn > 5 {
			t.Fatal("the modest client waits for the greedy one")
		}
		if _, err := h.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	h.finish()
	// Another client's is not there.
	for name, err := range map[string]error{
		"status": func() error { _, err := h.Status(ctx, h.Grant(greedy), id); return err }(),
		"report": func() error { _, err := h.Report(ctx, h.Grant(greedy), id, 0); return err }(),
		"cancel": h.Cancel(ctx, h.Grant(greedy), id),
	} {
		if status(err) != 404 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// It expires.
	h.Clock.Add(25 * 3600_000)
	if _, err := h.Status(ctx, h.Grant(modest), id); status(err) != 404 {
		t.Errorf("%v", err)
	}
	if err := h.Sweep(ctx); err != nil || h.SQL("SELECT count(*)::text FROM intake.job") != "0" {
		t.Errorf("%v", err)
	}
}

// What lies in the sink and in the row of the job tells nothing to whoever has it.
func TestInputsAreEncrypted(t *testing.T) {
	h := newHouse(t)
	p := h.exchange()
	h.upload(p, false, observation("x", `,"note":[{"text":"`+canary+`"}]`))
	if h.objects() != 1 {
		t.Fatalf("%d objects", h.objects())
	}
	other := h.upload(p, false, observation("y", ""))
	first := h.SQL("SELECT name::text FROM intake.chunk WHERE job::text <> $1", other)
	h.SQL("UPDATE intake.chunk SET name = gen_random_uuid() WHERE job::text <> $1 RETURNING ''", other)
	h.SQL("UPDATE intake.chunk SET name = $1 WHERE job::text = $2 RETURNING ''", first, other)
	if _, err := h.Step(context.Background()); err == nil {
		t.Error("the input of another import opens")
	}
	if strings.Contains(h.SQL("SELECT encode(sealed, 'escape') FROM intake.job"), "exchange") {
		t.Error("what the job is about lies open")
	}
}

// A process that has not heard of a label yet, because another one was the first to give it,
// finds what has it all the same.
func TestLabelsThatAnotherProcessGaveFirst(t *testing.T) {
	h := newHouse(t)
	other, err := open(h.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Store.Close()
	other.Moving = h.Now
	classes := h.SQL("SELECT count(*)::text FROM record.label_class")
	if err := h.Write(fhir.Update, `{"resourceType":"Observation","id":"mood","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"44261-6"}]},"subject":{"reference":"Patient/anna"}}`); err != nil {
		t.Fatal(err)
	}
	if h.SQL("SELECT count(*)::text FROM record.label_class") == classes {
		t.Fatal("its labels are no new ones, so this test shows nothing")
	}
	p := h.exchange()
	id := h.upload(p, false, observation("x", `,"derivedFrom":[{"reference":"Observation/mood"}]`))
	if h.Service, err = intake.NewService(other.config(h.cfg.Sink, nil, h.cfg.Log)); err != nil {
		t.Fatal(err)
	}
	h.finish()
	if got := h.counted(p, id); got != "1 new, 0 changed, 0 same, 0 refused, 0 unresolved" {
		t.Error(got)
	}
}

// A circle that one transaction does not hold is in the report, with each of its lines and what
// to do; done so, it goes in.
func TestACircleThatIsTooLong(t *testing.T) {
	const n, per = 15, 5
	line := func(i int, refers bool) string {
		if !refers {
			return observation(fmt.Sprintf("c%02d", i), "")
		}
		return observation(fmt.Sprintf("c%02d", i), fmt.Sprintf(`,"derivedFrom":[{"reference":"Observation/c%02d"}]`, (i+per)%n))
	}
	open := true // the circle is cut
	url, reached := files(t, func(w http.ResponseWriter, r *http.Request) {
		var lines []string
		first, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		for i := first; i < first+per; i++ {
			lines = append(lines, line(i, open || i >= per))
		}
		_, _ = io.WriteString(w, strings.Join(lines, "\n"))
	})
	h := newHouse(t, reached, func(c *intake.Config) { c.Together = 2 * per })
	p := h.exchange()
	load := func() string {
		var r intake.Request
		for i := 0; i < n; i += per {
			r.Inputs = append(r.Inputs, intake.Input{Type: "Observation", URL: fmt.Sprintf("%s/%d", url, i)})
		}
		id, err := h.Accept(context.Background(), h.Grant(p), r)
		if err != nil {
			t.Fatal(err)
		}
		h.finish()
		return id
	}
	id := load()
	if got := h.counted(p, id); got != "0 new, 0 changed, 0 same, 0 refused, 15 unresolved" {
		t.Error(got)
	}
	report := h.report(p, id)
	for i := range n {
		if want := fmt.Sprintf("leads to Observation/c%02d, which is in this import and was not stored either", (i+per)%n); !strings.Contains(report, want) {
			t.Errorf("nothing %q in %s", want, report)
		}
	}
	if !strings.Contains(report, "circle of more than 10") || !strings.Contains(report, "import them without this reference first") || !strings.Contains(report, "Observation.derivedFrom[0]") {
		t.Errorf("the report does not say what to do: %s", report)
	}
	open = false
	if got := h.counted(p, load()); got != "15 new, 0 changed, 0 same, 0 refused, 0 unresolved" {
		t.Error(got)
	}
	open = true
	if got := h.counted(p, load()); got != "0 new, 5 changed, 10 same, 0 refused, 0 unresolved" {
		t.Error(got)
	}
}
