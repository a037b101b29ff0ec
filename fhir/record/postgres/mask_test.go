package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/patch"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// tells is a line by which a practice tells the front desk that reasons of an
// appointment are left out, and one that would tell everybody else.
const tells = "p, front-desk, HOPERAT, mask, scheduling, general+HIV+STD+SDV, -, allow, test-tells-desk\n" +
	"p, clinician|hie|patient, TREAT|PATRQT, mask, *, general+sud+high+42CFRPart2, -, allow, test-tells-all\n"

// masking is a hospital where that is the policy.
func masking(t *testing.T, lines string) (h *house, desk authz.Principal) {
	t.Helper()
	h, _, _, _ = hospital(t)
	h.load("{'resourceType':'Location','id':'room','name':'Room'}")
	h.enforce(lines)
	desk = h.as("front-desk", "HOPERAT", "Practitioner/emil")
	return h, desk
}

// enforce puts lines in force beside those of the house.
func (h *house) enforce(lines string) {
	h.t.Helper()
	src := pdp.Embedded()
	src.Policy += lines
	policy, err := pdp.New(src)
	if err != nil {
		h.t.Fatal(err)
	}
	h.engine = authz.NewEngine(policy, h.store, h.now)
	h.gate = record.NewGate(h.engine, h.store, h.now).Explaining(h.store).Accounting(h.store).Masking(h.store)
}

func appointment(more string) string {
	return "{'resourceType':'Appointment','id':'a','status':'booked','start':'2026-05-01T10:00:00Z','end':'2026-05-01T11:00:00Z'," +
		"'participant':[{'actor':{'reference':'Patient/anna'},'status':'accepted'},{'actor':{'reference':'Location/room'},'status':'accepted'}]" + more + "}"
}

func reasons(codes ...string) string {
	list := make([]string, len(codes))
	for i, c := range codes {
		list[i] = reason(c)
	}
	return ",'reasonCode':[" + strings.Join(list, ",") + "]"
}

const markJSON = `{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}`

func dense(body string) string {
	return strings.ReplaceAll(strings.ReplaceAll(body, `": `, `":`), ", ", ",")
}

// answers are what p gets to see of the appointment a, on every path there is.
func (h *house) answers(p authz.Principal) string {
	h.t.Helper()
	ref := fhir.Ref{Type: "Appointment", ID: "a"}
	var out strings.Builder
	out.WriteString(h.mustRead(p, ref) + "\n")
	for _, q := range []string{
		"_id=a", "reason-code:missing=true", "reason-code:missing=false", "reason-reference:missing=true", "reason-code=B20", "reason-code=A51.0", "reason-code:not=B20",
		"reason-code=masked", "reason-code=http://hl7.org/fhir/StructureDefinition/data-absent-reason|masked", "reason-code:text=masked", "reason-code=F32.1",
		"_text=masked", "_content=masked", "_content=HIV", "patient=anna&_sort=-date", "_id=a&_total=accurate&_count=0", "_id=a&_include=*", "reason-reference=Condition/hiv", "reason-reference.code=B20",
	} {
		bodies, err := h.search(p, "Appointment", q)
		_, _ = fmt.Fprintf(&out, "%s: %v %v\n", q, bodies, status(err))
		if err == nil {
			page, names := h.find(p, query(h.t, "Appointment?"+q))
			_, _ = fmt.Fprintf(&out, "%d %s\n", page.Total, names)
		}
	}
	g, r, err := h.plan(p, fhir.HistoryInstance, "Appointment")
	if err != nil {
		h.t.Fatal(err)
	}
	page, err := h.history(r, ref.ID, 10, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	bodies, err := h.release(g, "Appointment", page.Entries...)
	_, _ = fmt.Fprintf(&out, "history %v %v\n", bodies, err)
	for v := fhir.VersionID(1); v <= 4; v++ {
		g, r, _ := h.plan(p, fhir.VRead, "Appointment")
		s, err := h.store.VRead(context.Background(), r, ref.ID, v)
		if err == nil {
			bodies, err = h.release(g, "Appointment", s)
		}
		_, _ = fmt.Fprintf(&out, "version %d %v %d\n", v, bodies, status(err))
	}
	return out.String()
}

func (h *house) patch(p authz.Principal, ref fhir.Ref, text string) error {
	h.t.Helper()
	x, err := patch.Parse("application/json-patch+json", []byte(text))
	if err != nil {
		h.t.Fatal(err)
	}
	ctx := context.Background()
	h.tick()
	g, err := h.engine.Authorize(ctx, p, fhir.Patch, ref.Type)
	if err != nil {
		return err
	}
	rg, err := h.engine.Extend(g, fhir.Read, ref.Type)
	if err != nil {
		return err
	}
	r, err := h.engine.Plan(ctx, rg, fhir.Read, ref.Type)
	if err != nil {
		return err
	}
	s, err := h.store.Read(ctx, r, ref.ID)
	if err != nil {
		return err
	}
	cleared, err := h.gate.Patch(ctx, g, s, x, record.Change{Interaction: fhir.Patch, Ref: ref})
	if err != nil {
		return err
	}
	_, err = h.store.Commit(ctx, []record.Cleared{cleared})
	return err
}

// asking counts how often the store is asked what is left out.
type asking struct {
	store *postgres.Store
	times int
}

func (a *asking) Withheld(ctx context.Context, r authz.Restriction, in []record.Sealed) ([]vault.Withheld, error) {
	a.times++
	return a.store.Withheld(ctx, r, in)
}

// Nobody is told anything where no line of the policy says so, and nobody but
// whom one says so.
func TestL45_MarksAreToldByPolicyAlone(t *testing.T) {
	h, desk := masking(t, "")
	for _, c := range []struct {
		what, lines string
		want        int
	}{{"the house", "", 0}, {"a practice that tells", tells, 1}} {
		h.enforce(c.lines)
		ref := h.load(appointment(reasons("F32.1", "B20", "A51.0") + ",'comment':'about B20'"))
		asked := &asking{store: h.store}
		h.gate = h.gate.Masking(asked)
		body := dense(h.mustRead(desk, ref))
		if (asked.times > 0) != (c.want > 0) || h.rows(ref) != 4 {
			t.Errorf("%s: %d look-ups, %d rows: who tells nothing asks nothing and stores nothing for it", c.what, asked.times, h.rows(ref))
		}
		if n := strings.Count(body, markJSON); n != c.want {
			t.Errorf("%s: %d marks in %s", c.what, n, body)
		}
		h.wantSays(desk, ref, "F32.1", "-B20", "-A51", "-comment")
		if found, err := h.search(desk, "Appointment", "_id=a"); err != nil || len(found) != 1 || strings.Count(dense(found[0]), "masked") != c.want {
			t.Errorf("%s: search %v %v", c.what, found, err)
		}
		for _, p := range []authz.Principal{h.as("hie", "TREAT", "", "hie"), h.as("patient", "PATRQT", "Patient/anna"), h.as("therapist", "TREAT", "Practitioner/dora")} {
			if body, err := h.read(p, ref); err == nil && strings.Contains(body, "masked") {
				t.Errorf("%s: %v is told: %s", c.what, p.Roles, body)
			}
		}
		// Who is of the practice, and of something else too, is not told.
		both := desk
		both.Roles = []string{"front-desk", "patient"}
		if body, err := h.read(both, ref); err == nil && strings.Contains(body, "masked") {
			t.Errorf("%s: %v is told: %s", c.what, both.Roles, body)
		}
	}
}

// Databases that differ only in what is left out, and how much of it, give the same
// answers, byte for byte; so do those with and without what may not be told.
func TestL17_MaskedElementsAreNotSearchable(t *testing.T) {
	mood := ",'reasonReference':[{'reference':'Condition/mood'}]"
	groups := map[string]map[string]string{
		"marked": { // contents that differ for whoever sees it all
			"one":               reasons("F32.1", "B20") + ",'comment':'HIV'",
			"other":             reasons("A51.0", "F32.1"),
			"besides a program": reasons("F32.1", "B20") + ",'reasonReference':[{'reference':'Condition/opioid'}]",
			"many":              reasons("B20", "T74.21XA", "F32.1", "A51.0") + ",'description':'HIV masked'",
		},
		"silent": {
			"nothing":      reasons("F32.1") + mood,
			"of a program": reasons("F32.1") + strings.Replace(mood, "]", ",{'reference':'Condition/opioid'}]", 1),
			"untold":       reasons("D57.1", "F32.1") + mood,
		},
	}
	for what, group := range groups {
		first, of := "", ""
		for name, content := range group {
			h, desk := masking(t, tells)
			h.load(appointment(content))
			h.load(appointment(content + ",'priority':3"))
			got := h.answers(desk)
			if n := strings.Count(dense(h.mustRead(desk, fhir.Ref{Type: "Appointment", ID: "a"})), markJSON); (n == 1) != (what == "marked") {
				t.Errorf("%s, %s: %d marks\n%s", what, name, n, got)
			}
			if what == "marked" && !strings.Contains(got, "reason-code=masked: [] 0\n") {
				t.Errorf("the mark is found:\n%s", got)
			}
			if err := h.patch(desk, fhir.Ref{Type: "Appointment", ID: "a"}, `[{"op":"replace","path":"/priority","value":5},{"op":"add","path":"/reasonCode/-","value":{"text":"late"}}]`); err != nil {
				t.Fatalf("%s, %s: patch: %v", what, name, err)
			}
			got += h.answers(desk)
			if first == "" {
				first, of = got, name
			} else if got != first {
				t.Errorf("%s: the answers of %s and %s differ:\n%s\n--- and\n%s", what, of, name, first, got)
			}
		}
	}
}

// A view of which all reasons are left out has the mark alone, and is found like one that never had any.
func TestL17_MissingIsWhatIsMasked(t *testing.T) {
	h, desk := masking(t, "")
	h.load(appointment(reasons("B20")))
	h.load(strings.Replace(appointment(""), "'a'", "'b'", 1))
	h.load(strings.Replace(appointment(reasons("F32.1")), "'a'", "'c'", 1))
	for _, lines := range []string{"", tells} {
		h.enforce(lines)
		h.wantFinds(desk, "Appointment?reason-code:missing=true&_sort=_id", "a b")
		h.wantFinds(desk, "Appointment?reason-code:missing=false&_sort=_id", "c")
		h.wantFinds(desk, "Appointment?reason-code=B20", "")
	}
}

// What is sent back with a mark neither stores the mark nor touches what it stands for.
func TestL35_AMarkThatIsSentBackIsNotStored(t *testing.T) {
	h, desk := masking(t, tells)
	all := h.as("therapist", "TREAT", "Practitioner/dora")
	ref := h.load(appointment(reasons("F32.1", "B20", "A51.0")))
	sent := strings.ReplaceAll(h.mustRead(desk, ref), `"status": "booked"`, `"status": "arrived"`)
	sent = strings.ReplaceAll(dense(sent), `"status":"booked"`, `"status":"arrived"`)
	if !strings.Contains(sent, markJSON) || !strings.Contains(sent, "arrived") {
		t.Fatalf("she is to send a mark: %s", sent)
	}
	for range 2 {
		if _, err := h.update(desk, sent); err != nil {
			t.Fatal(err)
		}
		h.wantSays(all, ref, "B20", "A51.0", "F32.1", "arrived", "-masked")
		h.wantSays(desk, ref, "F32.1", "arrived", "masked", "-B20")
	}
	if body := h.mustRead(all, ref); strings.Count(body, "B20") != 1 || strings.Count(body, "F32.1") != 1 {
		t.Errorf("something is kept twice: %s", body)
	}
	if n := h.count("SELECT count(*) FROM (SELECT body FROM record.resource UNION ALL SELECT body FROM record.resource_history) AS b WHERE body::text LIKE '%masked%'"); n != 0 {
		t.Errorf("%d versions hold a mark", n)
	}
	// A patch is of what she sees: the mark can be tested and removed, and nothing comes of that.
	if err := h.patch(desk, ref, `[{"op":"test","path":"/reasonCode/1/extension/0/valueCode","value":"masked"},{"op":"remove","path":"/reasonCode/1"},{"op":"add","path":"/reasonCode/-","value":{"text":"late"}}]`); err != nil {
		t.Fatal(err)
	}
	h.wantSays(all, ref, "B20", "A51.0", "F32.1", "late", "-masked")
	h.wantSays(desk, ref, "F32.1", "late", "masked", "-B20")
	// She takes away all that she sees of the list.
	if _, err := h.update(desk, appointment("")); err != nil {
		t.Fatal(err)
	}
	h.wantSays(all, ref, "B20", "A51.0", "-F32.1", "-masked")
	h.wantSays(desk, ref, "masked", "-B20")
	if err := h.patch(desk, ref, `[{"op":"add","path":"/reasonCode/-","value":{"text":"again"}}]`); err != nil {
		t.Fatal(err)
	}
	h.wantSays(all, ref, "B20", "again", "-masked")
	// What somebody stores of her own accord stays hers, and is the only one.
	other := "{'resourceType':'Appointment','id':'b'" + strings.TrimPrefix(appointment(""), "{'resourceType':'Appointment','id':'a'")
	own := strings.TrimSuffix(other, "}") + ",'reasonCode':[" + reason("B20") + "," + strings.ReplaceAll(markJSON, `"`, "'") + "]}"
	b := h.load(own)
	if body := dense(h.mustRead(desk, b)); strings.Count(body, "masked") != 1 {
		t.Errorf("one mark is enough: %s", body)
	}
	if _, err := h.update(desk, dense(h.mustRead(desk, b))); err != nil {
		t.Fatal(err)
	}
	h.wantSays(all, b, "B20", "masked")
}

// Whether a mark that she sends is stored does not tell whether anything is hidden:
// to whom nothing is told it is content like any other.
func TestL35_AMarkOfWhoeverIsToldNothingIsContent(t *testing.T) {
	h, desk := masking(t, "")
	for id, hidden := range map[string]string{"b": reasons("F32.1"), "c": reasons("F32.1", "B20")} {
		of := func(content string) string { return strings.Replace(appointment(content), "'a'", "'"+id+"'", 1) }
		ref := h.load(of(hidden))
		if _, err := h.update(desk, of(",'reasonCode':["+strings.ReplaceAll(markJSON, `"`, "'")+"]")); err != nil {
			t.Fatal(err)
		}
		h.wantSays(desk, ref, "masked", "-F32.1", "-B20")
	}
}

// What a restriction of the patient's hides from somebody she is not told of (45 CFR 164.522(a)).
func TestL45_RestrictionsAreNotTold(t *testing.T) {
	h, desk := masking(t, tells)
	ref := h.load(appointment(reasons("F32.1", "B20")))
	h.wantSays(desk, ref, "masked")
	for _, label := range []string{"HIV", "SDV"} {
		c := specific()
		c.kind, c.effect, c.recipient, c.purposes, c.programs = "restriction", "deny", "Practitioner/emil", []string{"HOPERAT"}, []string{"general"}
		h.load(strings.Replace(c.String(), "'provision':{", "'provision':{'securityLabel':[{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'"+label+"'}],", 1))
		want := "masked"
		if label == "HIV" {
			want = "-masked"
		}
		h.wantSays(desk, ref, "F32.1", "-B20", want)
	}
}

// What comes to be protected later is told of from then on; versions before it have the mark, too.
func TestMarksOfLaterProtection(t *testing.T) {
	h, desk := masking(t, tells)
	h.load(condition("later", "F32.1", ""))
	ref := h.load(appointment(reasons("F32.1") + ",'reasonReference':[{'reference':'Condition/later'}]"))
	h.load(appointment(",'reasonReference':[{'reference':'Condition/later'}]"))
	h.wantSays(desk, ref, "-masked", "Condition/later")
	h.load(condition("later", "B20", ""))
	h.wantSays(desk, ref, "masked", "-Condition/later")
	got := h.answers(desk)
	if _, past, _ := strings.Cut(got, "version 1 ["); strings.Contains(got, "Condition/later") || !strings.Contains(past, "masked") {
		t.Errorf("%s", got)
	}
}
