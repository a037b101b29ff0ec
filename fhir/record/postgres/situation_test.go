package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// supervision is a CareTeam of the staff in which emil supervises dora, who treats anna.
const supervision = "{'resourceType':'CareTeam','id':'up','status':'active','category':[{'coding':[{'system':'" + fhir.CareTeamKind + "','code':'supervision'}]}],'period':{'start':'2026-03-02','end':'2026-03-31'},'participant':[" +
	"{'role':[{'coding':[{'system':'" + fhir.CareTeamKind + "','code':'supervisor'}]}],'member':{'reference':'Practitioner/emil'}}," +
	"{'role':[{'coding':[{'system':'" + fhir.CareTeamKind + "','code':'supervisee'}]}],'member':{'reference':'Practitioner/dora'},'period':{'end':'2026-03-20'}}]}"

func TestSupervising(t *testing.T) {
	h := clinic(t)
	obs := h.load(strings.Replace(observation(""), "{", "{'id':'o1',", 1))
	both := h.load("{'resourceType':'Appointment','id':'two','status':'booked','participant':[{'actor':{'reference':'Patient/anna'},'status':'accepted'},{'actor':{'reference':'Patient/bert'},'status':'accepted'}]}")
	note := h.load(strings.Replace(psychNote, "{", "{'id':'n1',", 1))
	emil, dora := h.as("supervisor", "TREAT", "Practitioner/emil"), h.as("supervisor", "TREAT", "Practitioner/dora")
	at := func(s string) {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		h.clock.Store(v.UnixMilli())
	}
	want := func(what string, want bool) {
		t.Helper()
		if got := h.sees(emil, obs); got != want {
			t.Errorf("%s: the supervisor sees the record: %v", what, got)
		}
	}
	at("2026-03-05T12:00:00Z")
	want("without supervision", false)
	h.load(supervision)
	want("in force", true)
	if h.sees(emil, both) {
		t.Error("a record of a second patient, whom the supervisee does not treat, is seen")
	}
	if h.sees(emil, note) {
		t.Error("a psychotherapy note is seen by supervision (45 CFR 164.508(a)(2))")
	}
	if _, err := h.update(emil, strings.Replace(observation(""), "{", "{'id':'o1',", 1)); err == nil {
		t.Error("a supervisor writes by supervision")
	}
	if h.sees(dora, fhir.Ref{Type: "Patient", ID: "bert"}) {
		t.Error("the supervisee sees a patient of nobody's")
	}
	h.load(strings.NewReplacer("'team'", "'team-bert'", "anna", "bert", "dora", "emil").Replace(team))
	if h.sees(dora, fhir.Ref{Type: "Patient", ID: "bert"}) {
		t.Error("supervision works upwards")
	}
	if h.sees(emil, both) {
		t.Error("one patient by treatment and the other by supervision make one fact")
	}
	at("2026-03-20T23:59:59Z")
	want("on the supervisee's last day", true)
	at("2026-03-21T00:00:00Z")
	want("after it", false)
	at("2026-03-05T12:00:00Z")
	for what, text := range map[string]string{
		"a team that is not active":      strings.Replace(supervision, "'active'", "'inactive'", 1),
		"a team of a patient's":          strings.Replace(supervision, "'period'", "'subject':{'reference':'Patient/anna'},'period'", 1),
		"a team of another kind":         strings.Replace(supervision, "'supervision'", "'other'", 1),
		"a supervisee without that role": strings.Replace(supervision, "'supervisee'", "'other'", 1),
		"a modified team":                strings.Replace(supervision, "'period'", "'modifierExtension':[{'url':'http://x','valueBoolean':true}],'period'", 1),
	} {
		h.load(text)
		want(what, false)
	}
	h.load(supervision)
	want("in force again", true)
	if err := h.delete(h.operator(), fhir.Ref{Type: "CareTeam", ID: "up"}); err != nil {
		t.Fatal(err)
	}
	want("deleted", false)
	h.load(supervision)
	h.load(strings.Replace(team, "'active'", "'inactive'", 1))
	want("once the supervisee has stopped treating", false)
}
