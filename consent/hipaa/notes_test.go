package hipaa_test

import (
	"reflect"
	"testing"

	"github.com/cloister-health/cloister/consent/hipaa"
)

var note = hipaa.Note{Professional: true, Session: true, Separate: true}

func TestP1_164_501_Excluded(t *testing.T) {
	for _, typ := range []string{"MedicationRequest", "Encounter", "Observation", "Condition", "QuestionnaireResponse", "CarePlan"} {
		yes(t, hipaa.Excluded(typ), typ)
	}
	no(t, hipaa.Excluded("DocumentReference"), "a document")
	n := note
	n.Excluded = true
	no(t, hipaa.IsPsychotherapyNote(n), "a note with session times")
	yes(t, hipaa.IsPsychotherapyNote(note), "a note")
}

func TestP2_164_501_Integrated(t *testing.T) {
	n := note
	n.Separate = false
	no(t, hipaa.IsPsychotherapyNote(n), "a note in the general record")
	yes(t, hipaa.IsPsychotherapyNote(note), "a note apart")
}

func TestP3_164_501_Professional(t *testing.T) {
	n := note
	n.Professional = false
	no(t, hipaa.IsPsychotherapyNote(n), "a patient's journal")
	n = note
	n.Session = false
	no(t, hipaa.IsPsychotherapyNote(n), "a professional's letter")
	yes(t, hipaa.IsPsychotherapyNote(note), "a therapist's note")
}

func TestP4_164_508_a_2_Authorization(t *testing.T) {
	for _, purpose := range []string{"TREAT", "HPAYMT", "HOPERAT", "HRESCH", "HLEGAL", ""} {
		_, ok := hipaa.NoteRule(hipaa.Use{Purpose: purpose})
		no(t, ok, purpose)
	}
	rule, ok := hipaa.NoteRule(hipaa.Use{Purpose: "HPAYMT", Authorized: true})
	yes(t, ok && rule == "P4", "with an authorization")
	rule, ok = hipaa.NoteRule(hipaa.Use{Purpose: "TREAT"})
	no(t, ok || rule != "P4", "without")
	rule, ok = hipaa.NoteRule(hipaa.Use{Purpose: "PATRQT", Authorized: true})
	yes(t, ok && rule == "P4", "what the patient asks to be sent, with an authorization")
}

func TestP5_164_508_a_2_i_A_Originator(t *testing.T) {
	rule, ok := hipaa.NoteRule(hipaa.Use{Purpose: "TREAT", Originator: true})
	yes(t, ok && rule == "P5", "the originator")
	_, ok = hipaa.NoteRule(hipaa.Use{Purpose: "HOPERAT", Originator: true})
	no(t, ok, "the originator's operations")
}

// exception asks with all that one exception needs, and without each part of it.
func exception(t *testing.T, rule string, whole hipaa.Use, holds func(hipaa.Use) bool) {
	t.Helper()
	if got, ok := hipaa.NoteRule(whole); !ok || got != rule {
		t.Errorf("%s: %s, %v", rule, got, ok)
	}
	yes(t, holds(whole), rule)
	no(t, holds(hipaa.Use{}), "nothing")
	v := reflect.ValueOf(whole)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			continue
		}
		less := reflect.New(v.Type()).Elem()
		less.Set(v)
		less.Field(i).SetZero()
		u, ok := less.Interface().(hipaa.Use)
		if !ok {
			t.Fatal("no use")
		}
		no(t, holds(u), rule+" without "+v.Type().Field(i).Name)
		_, ok = hipaa.NoteRule(u)
		no(t, ok, rule+" without "+v.Type().Field(i).Name)
	}
}

func TestP6_164_508_a_2_i_B_Training(t *testing.T) {
	exception(t, "P6", hipaa.Use{Purpose: "TRAIN", Trainee: true}, hipaa.ForTraining)
	exception(t, "P6", hipaa.Use{Purpose: "TRAIN", Supervising: true}, hipaa.ForTraining)
	no(t, hipaa.ForTraining(hipaa.Use{Purpose: "TREAT", Trainee: true}), "a trainee who treats")
	yes(t, hipaa.NoteException(hipaa.Use{Purpose: "HOPERAT", Documented: true}) == "P6-P12", "a documented exception")
}

func TestP7_164_508_a_2_i_C_Defense(t *testing.T) {
	exception(t, "P7", hipaa.Use{Purpose: "HLEGAL", Defense: true, Case: "24-1"}, hipaa.ForDefense)
	yes(t, hipaa.ForDefense(hipaa.Use{Purpose: "LEGAL", Defense: true, Case: "24-1"}), "the older code")
	no(t, hipaa.ForDefense(hipaa.Use{Purpose: "HOPERAT", Defense: true, Case: "24-1"}), "another purpose")
}

func TestP8_164_502_a_2_ii_Secretary(t *testing.T) {
	exception(t, "P8", hipaa.Use{Secretary: true}, hipaa.ForSecretary)
}

func TestP9_164_512_a_RequiredByLaw(t *testing.T) {
	exception(t, "P9", hipaa.Use{Law: "duty to warn"}, hipaa.RequiredByLaw)
}

func TestP10_164_512_d_OversightOfTheOriginator(t *testing.T) {
	exception(t, "P10", hipaa.Use{Oversight: true, OfOriginator: true}, hipaa.ForOversight)
}

func TestP11_164_512_g_1_Examiner(t *testing.T) {
	exception(t, "P11", hipaa.Use{Examiner: true}, hipaa.ForExaminer)
}

func TestP12_164_512_j_1_i_Threat(t *testing.T) {
	exception(t, "P12", hipaa.Use{Threat: true, AbleToPrevent: true}, hipaa.AgainstThreat)
}

func TestP13_164_508_a_2_NoOtherException(t *testing.T) {
	for _, purpose := range []string{"PUBHLTH", "HRESCH", "LEGAL", "HLEGAL", "DONAT", "HMARKT", "GOV", "HPAYMT"} {
		no(t, hipaa.NoteException(hipaa.Use{Purpose: purpose, Originator: true}) != "", purpose)
	}
	yes(t, hipaa.NoteException(hipaa.Use{Purpose: "PUBHLTH", Law: "reporting of abuse"}) == "P9", "what a law requires")
}

func TestP17_164_524_PatientRequest(t *testing.T) {
	rule, ok := hipaa.NoteRule(hipaa.Use{Purpose: "PATRQT", Originator: true})
	no(t, ok || rule != "P17", "the note")
	yes(t, hipaa.RightOfAccess(false), "all else")
}

func TestP18_P20_171_102_Exports(t *testing.T) {
	yes(t, hipaa.InExport(false), "a record")
	no(t, hipaa.InExport(true), "a psychotherapy note")
}

func TestP19_164_508_a_2_NoEmergency(t *testing.T) {
	for _, purpose := range []string{"ETREAT", "BTG", "ERTREAT"} {
		yes(t, hipaa.Emergency(purpose), purpose)
		rule, ok := hipaa.NoteRule(hipaa.Use{Purpose: purpose, Originator: true, Authorized: true, Documented: true, Law: "x"})
		no(t, ok || rule != "P19", purpose)
		no(t, hipaa.NoteException(hipaa.Use{Purpose: purpose, Documented: true, Law: "x"}) != "", purpose)
	}
	no(t, hipaa.Emergency("TREAT"), "treatment")
}

func TestP21_ExistenceIsHidden(t *testing.T) {
	yes(t, hipaa.MayKnow(hipaa.Use{Purpose: "TREAT", Originator: true}), "the originator")
	no(t, hipaa.MayKnow(hipaa.Use{Purpose: "TREAT"}), "a colleague")
}
