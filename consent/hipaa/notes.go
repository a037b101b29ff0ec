package hipaa

import "slices"

// Note is what makes a record a psychotherapy note (45 CFR 164.501).
type Note struct {
	Professional bool // its author is a mental health professional
	Session      bool // it documents or analyses what was said in a counseling session
	Separate     bool // it is kept apart from the rest of the record
	Excluded     bool // it carries what the definition leaves out, see [Excluded]
}

// IsPsychotherapyNote reports whether a note is one (P1, P2, P3, 45 CFR 164.501):
// a mental health professional's, about a session, kept apart, and free of what the
// definition leaves out. Anything else is part of the record.
func IsPsychotherapyNote(n Note) bool {
	return n.Professional && n.Session && n.Separate && !n.Excluded
}

// excluded are the resource types that record what 45 CFR 164.501 leaves out of
// the definition: prescriptions, session times, modalities, results of tests, and the
// summary of diagnosis, status, plan, symptoms, prognosis and progress.
var excluded = []string{
	"MedicationRequest", "MedicationAdministration", "MedicationDispense", "MedicationStatement",
	"Encounter", "Appointment", "Procedure", "Observation", "DiagnosticReport", "QuestionnaireResponse",
	"Condition", "ClinicalImpression", "CarePlan", "Goal", "RiskAssessment",
}

// Excluded reports whether a type of resource records what is no psychotherapy
// note (P1), so that it never takes a note's protection, nor stands inside one.
func Excluded(resourceType string) bool { return slices.Contains(excluded, resourceType) }

// Use is what is known of a use or disclosure of a psychotherapy note.
type Use struct {
	Purpose       string // v3-ActReason
	Originator    bool   // by the one who wrote the note
	Authorized    bool   // a valid authorization for psychotherapy notes covers it
	Trainee       bool   // enrolled in, or teaching in, the entity's own mental health training program
	Supervising   bool   // supervises who treats the patient
	Defense       bool   // in defense of a proceeding that the individual brought
	Case          string // the documented case, for Defense
	Secretary     bool   // the HHS Secretary's investigation of compliance
	Law           string // the law that requires it
	Oversight     bool   // a health oversight agency
	OfOriginator  bool   // its oversight is of the note's originator
	Examiner      bool   // a coroner or medical examiner, for the duties of one
	Threat        bool   // a serious and imminent threat
	AbleToPrevent bool   // the recipient can prevent or lessen it
	Documented    bool   // one of the above was documented and approved, and is in force
}

// ForTraining is P6 (45 CFR 164.508(a)(2)(i)(B)): the entity's own supervised
// training program in mental health, for those who are in it.
func ForTraining(u Use) bool { return u.Purpose == training && (u.Trainee || u.Supervising) }

// ForDefense is P7 (45 CFR 164.508(a)(2)(i)(C)): the entity defends itself in a
// proceeding that the individual brought; the case is on record.
func ForDefense(u Use) bool {
	return (u.Purpose == "HLEGAL" || u.Purpose == "LEGAL") && u.Defense && u.Case != ""
}

// ForSecretary is P8 (45 CFR 164.502(a)(2)(ii)): required by the Secretary to
// investigate compliance.
func ForSecretary(u Use) bool { return u.Secretary }

// RequiredByLaw is P9 (45 CFR 164.512(a)): a law requires it, and the law is named.
func RequiredByLaw(u Use) bool { return u.Law != "" }

// ForOversight is P10 (45 CFR 164.512(d)): oversight of the note's originator, and of nobody else.
func ForOversight(u Use) bool { return u.Oversight && u.OfOriginator }

// ForExaminer is P11 (45 CFR 164.512(g)(1)): coroners and medical examiners; funeral directors are (g)(2).
func ForExaminer(u Use) bool { return u.Examiner }

// AgainstThreat is P12 (45 CFR 164.512(j)(1)(i)): a serious and imminent threat, to a person able to prevent it.
func AgainstThreat(u Use) bool { return u.Threat && u.AbleToPrevent }

// noteExceptions in the order of the law.
var noteExceptions = []struct {
	rule  string
	holds func(Use) bool
}{
	{"P6", ForTraining}, {"P7", ForDefense}, {"P8", ForSecretary}, {"P9", RequiredByLaw},
	{"P10", ForOversight}, {"P11", ForExaminer}, {"P12", AgainstThreat},
}

// NoteException names the exception to the authorization that holds ("P6-P12" for one
// that was documented before), or is ""
// (P13, 45 CFR 164.508(a)(2)): public health, research, law enforcement, subpoenas, workers'
// compensation, organ donation, fundraising and marketing are none. Emergency treatment is
// none either (P19): what opens a note in an emergency is P9 or P12, under a purpose of its own.
func NoteException(u Use) string {
	if Emergency(u.Purpose) {
		return ""
	}
	for _, e := range noteExceptions {
		if e.holds(u) {
			return e.rule
		}
	}
	if u.Documented {
		return "P6-P12"
	}
	return ""
}

// NoteRule names the rule by which a psychotherapy note may be used, or the one
// that denies it (P4, 45 CFR 164.508(a)(2)): nobody uses a note without an authorization but its
// originator for treatment, and the exceptions. No right of access reaches it (P17).
func NoteRule(u Use) (rule string, permit bool) {
	switch {
	case Emergency(u.Purpose):
		return "P19", false
	case u.Purpose == request && !RightOfAccess(true) && !u.Authorized:
		return "P17", false
	case MayUsePsychotherapyNote(u.Originator, u.Purpose):
		return "P5", true
	case u.Authorized:
		return "P4", true
	}
	if e := NoteException(u); e != "" {
		return e, true
	}
	return "P4", false
}

// InExport reports whether a record is in an export of the patient's electronic
// health information, a bulk export or an analysis (P18, 45 CFR 171.102; P20): psychotherapy notes are not.
func InExport(psychotherapyNote bool) bool { return !psychotherapyNote }

// MayKnow reports whether somebody may learn that a note exists, its title, author or
// date (P21): who may use it.
func MayKnow(u Use) bool { _, ok := NoteRule(u); return ok }
