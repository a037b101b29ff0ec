package part2

// Holder is who holds records of substance use disorder care.
type Holder struct {
	HoldsItselfOut bool // as providing diagnosis, treatment or referral for SUD, and provides it
	Unit           bool // an identified unit of a general facility that does
	Staff          bool // staff of a general facility whose primary function it is
	Assisted       bool // federally: Medicare or Medicaid, a DEA registration used for it, tax exemption, federal funds
}

// IsProgram reports whether records that a holder makes are records of a program (S1, 42 CFR 2.11, 2.12(b), (e)).
func IsProgram(h Holder) bool { return h.Assisted && (h.HoldsItselfOut || h.Unit || h.Staff) }

// IsRecord reports whether information about substance use is a record of part 2 (S2, 42 CFR
// 2.12(d)(2)(ii)): what a program made, or what was received from one. What another provider writes down is not.
func IsRecord(madeByProgram, receivedFromProgram bool) bool {
	return madeByProgram || receivedFromProgram
}

// Path is how a record came to whoever holds it.
type Path string

// The paths.
const (
	Held             Path = "program-held"
	ReceivedTPO      Path = "received-TPO"
	ReceivedSpecific Path = "received-specific"
	ReceivedLegal    Path = "received-legal"
	ReceivedWithout  Path = "received-no-consent"
)

// MustSegregate reports whether a record has to be kept apart (S3, 42 CFR 2.12(d)(2)(i)(C)): not what a
// program, covered entity or business associate received under a consent for treatment, payment and
// operations. [MustIdentify] holds all the same.
func MustSegregate(p Path, coveredOrProgram bool) bool {
	return p != ReceivedTPO || !coveredOrProgram
}

// MustIdentify reports whether a record has to remain known as one of part 2 (S3, S6): always, because
// nothing lifts the bar on proceedings on its way.
func MustIdentify(p Path) bool { return p != "" }

// MayAcknowledge reports whether one may say that somebody is a patient of a program (S4, 42 CFR 2.13(c)):
// where their record may be disclosed. Otherwise the answer is that to an unknown patient.
func MayAcknowledge(b Basis, purpose string) bool { return MayDisclose(b, purpose) }

// Necessary reports whether a kind of information is among those that a purpose needs (S5, 42 CFR 2.13(a)).
func Necessary(kind string, needed ...string) bool {
	for _, n := range needed {
		if n == kind && kind != "" {
			return true
		}
	}
	return false
}

// CounselingNote is what makes a record an SUD counseling note (42 CFR 2.11).
type CounselingNote struct {
	Program      bool // made in a program
	Professional bool // by an SUD or mental health professional
	Session      bool // documents or analyses what was said in an SUD counseling session
	Separate     bool // kept apart from the rest of the record
	Excluded     bool // carries what the definition leaves out, as for psychotherapy notes
}

// IsCounselingNote reports whether a note is an SUD counseling note (S10, 42 CFR 2.11).
func IsCounselingNote(n CounselingNote) bool {
	return n.Program && n.Professional && n.Session && n.Separate && !n.Excluded
}

// CounselingUse is what is known of a use or disclosure of an SUD counseling note.
type CounselingUse struct {
	Purpose      string
	Originator   bool
	Consent      bool // one for SUD counseling notes alone covers it
	Training     bool // the program's own, for those who are in it
	Defense      bool // of the program, in a proceeding that the patient brought
	OfOriginator bool // oversight of the note's originator
	Documented   bool // one of the above was documented and approved, and is in force
}

// CounselingRule names the rule by which an SUD counseling note may be used, or S11 that denies it
// (42 CFR 2.31(b)(1)): its originator for treatment, a consent for SUD counseling notes alone, and the
// exceptions. No emergency opens it.
func CounselingRule(u CounselingUse) (rule string, permit bool) {
	switch {
	case u.Purpose == "ETREAT" || u.Purpose == "BTG" || u.Purpose == "ERTREAT":
		return "S11", false
	case u.Originator && u.Purpose == treatment:
		return "S10", true
	case u.Consent:
		return "S12", true
	case u.Training && u.Purpose == "TRAIN", u.Defense && Proceeding(u.Purpose), u.OfOriginator, u.Documented:
		return "S11", true
	}
	return "S11", false
}
