package importer_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir/profile"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// rehearse is the report of a dry run: its text for people, then its lines.
func (h *house) rehearse(dir string) (string, string) {
	h.t.Helper()
	var lines bytes.Buffer
	m := h.importer()
	m.Rehearsal = intake.NewRehearsal(&lines)
	m.Gate = h.core.Gate.Holding(profile.New(h.core.Definitions, h.core.Terminology, nil).Door(profile.Off))
	if err := m.Run(context.Background(), dir); err != nil {
		h.t.Fatal(err)
	}
	tally, err := m.Rehearsal.End()
	if err != nil {
		h.t.Fatal(err)
	}
	return tally.Text() + string(tally.Summary("dry run")), lines.String()
}

func TestADryRunStoresNothingAndTellsAll(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	write(t, dir, "a.ndjson", "{'resourceType':'Patient','id':'anna'}\nnot json\n{'resourceType':'Patient','id':'bad','gender':'CANARY-7'}\n"+
		"{'resourceType':'Condition','id':'f11','subject':{'reference':'Patient/anna'},'code':{'coding':[{'system':'http://hl7.org/fhir/sid/icd-10-cm','code':'F11.20'}]}}\n"+
		"{'resourceType':'Encounter','id':'e','status':'finished','class':{'code':'AMB'},'subject':{'reference':'Patient/later'},'serviceProvider':{'reference':'Organization?identifier=urn:sites%7C0'}}\n"+
		"{'resourceType':'Encounter','id':'f','status':'finished','class':{'code':'AMB'},'subject':{'reference':'Patient/never'},'serviceProvider':{'reference':'Organization?identifier=urn:sites|9'}}\n")
	write(t, dir, "b.ndjson", "{'resourceType':'Patient','id':'later'}\n")
	write(t, dir, "c.json", sites())
	text, lines := h.rehearse(dir)
	if n := h.count("SELECT count(*) FROM record.resource") + h.count("SELECT count(*) FROM record.import_item"); n != 0 {
		t.Errorf("%d rows were stored", n)
	}
	for _, want := range []string{
		"Patient        2 new, 0 changed, 0 same, 1 refused, 0 unresolved, 1 unknown codes\n", "Encounter      1 new, 0 changed, 0 same, 0 refused, 1 unresolved, 1 references to what is not there",
		"Condition      1 new, 0 changed, 0 same, 0 refused, 0 unresolved; labels: ETH 1, OPIOIDUD 1, SUD 1", "not readable   0 new, 0 changed, 0 same, 1 refused", `"diagnostics":"6 new, 0 changed, 0 same, 2 refused, 1 unresolved, 1 unknown codes, 1 references`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, want := range []string{
		`"details":{"text":"a.ndjson, line 2"}`, `"text":"a.ndjson, line 3: Patient/bad"}`, `"expression":["Patient.gender"]`, `"text":"a.ndjson, line 6: Encounter/f"}`, `"expression":["Encounter.subject.reference"]`,
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
	if strings.Count(lines, "\n") != 4 || strings.Contains(lines+text, "CANARY") || strings.Contains(lines, "Encounter/e\"") {
		t.Errorf("%s", lines)
	}

	// What is stored already is the same, or it changes.
	h.load(dir)
	write(t, dir, "b.ndjson", "{'resourceType':'Patient','id':'later','active':true}\n")
	text, _ = h.rehearse(dir)
	if !strings.Contains(text, "Patient        0 new, 1 changed, 1 same, 1 refused") {
		t.Errorf("%s", text)
	}
	if n := h.count("SELECT count(*) FROM record.resource WHERE version > 1"); n != 0 {
		t.Errorf("%d rows were changed", n)
	}
}

func TestWhatIsStoredAlreadyMakesNoVersion(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	const observation = "{'resourceType':'Observation','id':'o','status':'final','code':{'text':'x'},'valueQuantity':{'value':1.0}}"
	write(t, dir, "a.ndjson", "{'resourceType':'Patient','id':'anna','name':[{'family':'Anna'}]}\n"+observation)
	h.load(dir)
	// In other pieces, in another order, with other keys first.
	other := t.TempDir()
	write(t, other, "b.ndjson", "{'id':'o','resourceType':'Observation','code':{'text':'x'},'valueQuantity':{'value':1.0},'status':'final','meta':{'versionId':'7','lastUpdated':'2020-01-01T00:00:00Z'}}\n\n{'name':[{'family':'Anna'}],'resourceType':'Patient','id':'anna'}\n{'resourceType':'Patient','id':'new'}")
	m := h.load(other)
	if st := m.Stats(); st.Resources.Load() != 1 || st.Same.Load() != 2 {
		t.Errorf("%d stored, %d the same", st.Resources.Load(), st.Same.Load())
	}
	h.once(3)
	// 1.00 says more than 1.0.
	write(t, other, "b.ndjson", strings.Replace(observation, "1.0", "1.00", 1))
	if m := h.load(other); m.Stats().Resources.Load() != 1 || h.count("SELECT count(*) FROM record.resource WHERE version = 2") != 1 {
		t.Error("another precision was taken for the same")
	}
	// A label that a sender states is something new.
	write(t, other, "b.ndjson", "{'resourceType':'Patient','id':'new','meta':{'security':[{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'HIV'}]}}")
	if m := h.load(other); m.Stats().Resources.Load() != 1 {
		t.Error("a stated label was lost")
	}
}

// A refused neighbour takes no label off anybody, and no resource is named anew.
func TestARefusalLeavesItsNeighboursAsTheyAre(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	const hiv = "'meta':{'security':[{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'HIV'}]}"
	// What is about a note is refused by the store, not by the gate.
	write(t, dir, "0.ndjson", "{'resourceType':'Patient','id':'anna'}\n{'resourceType':'Practitioner','id':'dora'}\n{'resourceType':'DocumentReference','id':'note','status':'current','type':{'coding':[{'system':'https://cloister.health/fhir/CodeSystem/note-kind','code':'psychotherapy-note'}]},'subject':{'reference':'Patient/anna'},'author':[{'reference':'Practitioner/dora'}],'content':[{'attachment':{'contentType':'text/plain','data':'c2VjcmV0'}}]}")
	h.load(dir) // first: files are loaded side by side
	write(t, dir, "1.ndjson", "{'resourceType':'Observation','id':'labelled','status':'final','code':{'text':'x'},"+hiv+"}\n{'resourceType':'Observation','id':'about','status':'final','code':{'text':'x'},'derivedFrom':[{'reference':'DocumentReference/note'}]}\n{'resourceType':'Observation','status':'final','code':{'text':'without an id'}}")
	m := h.load(dir)
	if m.Stats().Refused.Load() != 1 {
		t.Fatalf("the store was to refuse one: %s", h.report.String())
	}
	bit, err := label.ParseSet("HIV")
	if err != nil {
		t.Fatal(err)
	}
	if n := h.count("SELECT count(*) FROM record.resource r JOIN record.label_class c ON c.id = r.label_class WHERE r.id = 'labelled' AND c.labels & $1 = $1", int32(bit)); n != 1 {
		t.Error("a stated label was lost because another resource was refused")
	}
	before := h.count("SELECT count(*) FROM record.resource")
	write(t, dir, "2.ndjson", "{'resourceType':'Observation','status':'final','code':{'text':'without an id'}}\n{'resourceType':'Patient','id':'anna'}")
	h.load(dir)
	if after := h.count("SELECT count(*) FROM record.resource"); after != before {
		t.Errorf("a resource without an id came in twice: %d, then %d", before, after)
	}
}

// A line that is too long is a fault, and what comes after it goes in.
func TestALineThatIsTooLongIsNotTheEnd(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	write(t, dir, "a.ndjson", "{'resourceType':'Patient','id':'one'}\n{'resourceType':'Patient','id':'long','name':[{'text':'"+strings.Repeat("CANARY ", intake.MaxLine/7+1)+"'}]}\n{'resourceType':'Patient','id':'three'}")
	m := h.load(dir)
	h.once(2)
	if m.Stats().Refused.Load() != 1 || !strings.HasPrefix(h.report.String(), "a.ndjson\tline 2\t-\tthe line is longer than 16 MiB") {
		t.Errorf("%.300s", h.report.String())
	}
}
