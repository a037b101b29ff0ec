// Package law evaluates all rules of law on one request, in their order of
// precedence, over plain facts.
//
// The order is: practice and compartment, caller and scopes, absolute bars, notes
// of sessions, 42 CFR part 2, the law of states, agreed restrictions, the patient's
// consents, the minimum necessary. The first of them that denies ends it; one that permits only
// lifts its own bar, so that an originator's note still has to pass part 2. What is missing or fails denies.
package law

import (
	"fmt"
	"slices"

	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/consent/hipaa"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/consent/rule"
	"github.com/cloister-health/cloister/consent/state"
)

// Recipient is who receives, as far as the law tells recipients apart.
type Recipient string

// The recipients. The zero Recipient is unknown, and denied.
const (
	Workforce      Recipient = "workforce-of-holder"
	Exchange       Recipient = "exchange" // whatever leaves the practice: other entities, programs, intermediaries
	Patient        Recipient = "patient"
	Parent         Recipient = "parent" // or whoever else acts for the patient
	LawEnforcement Recipient = "law-enforcement"
	Court          Recipient = "court"
	PublicHealth   Recipient = "public-health"
	Researcher     Recipient = "researcher"
	Service        Recipient = "service-organization" // 42 CFR 2.11; or another business associate
	Oversight      Recipient = "oversight"            // agencies, auditors
	Examiner       Recipient = "examiner"             // coroners and medical examiners
	Assistant      Recipient = "assistant"            // software that drafts documentation
)

// Outside reports whether what r receives leaves the practice. Who is not known is outside.
func (r Recipient) Outside() bool { return r != Workforce && r != Patient && r != Parent }

// Record is what the law asks of the record.
type Record struct {
	Part2          bool
	Received       bool // from a program, under a consent: no longer kept apart, and still barred (S3, S6)
	PsychNote      bool
	CounselingNote bool
	MinorConsented bool
	MentalHealth   bool
	SubstanceUse   bool
	Reproductive   bool
	GenderCare     bool
	Frozen         bool // see state.Disclosure
}

// Consents are the valid written consents in force that cover recipient, purpose, moment and record.
type Consents struct {
	TPO        bool // one for treatment, payment and operations
	Specific   bool
	Counseling bool // for SUD counseling notes alone
	Legal      bool // for proceedings alone
	Notes      bool // an authorization for psychotherapy notes alone
	Minor      bool // the minor's own
	Research   bool // for research alone
	Machine    bool // to documentation with the help of a machine
}

// any reports whether one of them names recipient and purpose.
func (c Consents) any() bool {
	return c.TPO || c.Specific || c.Counseling || c.Legal || c.Notes || c.Minor || c.Research
}

// Request is all that the law is asked about. The zero Request is denied.
type Request struct {
	Tenant      bool // caller and record belong to one practice
	Compartment bool // the record is where the interaction may look
	Caller      bool // authenticated
	Scope       bool // the token's scopes cover it
	Purpose     string
	Recipient   Recipient
	OtherState  bool // the recipient is, or may be, in another state
	Write       bool
	Machine     bool // what is shown is shown to software that drafts documentation

	Record     Record
	Program    bool // the caller works for every program that the record comes from
	Originator bool
	Self       bool // the caller is the patient
	Note       hipaa.Use
	Counseling part2.CounselingUse

	Consents  Consents
	Emergency bool // a medical emergency is declared, documented and in force
	Exception bool // an exception of the law is documented, approved and in force
	Agreement bool // the caller's organization serves the program under a written agreement
	Order     part2.Order

	States      state.Set
	Restriction hipaa.Restriction
	Denied      bool // one of the patient's consents denies it
	Unreadable  bool // one of them could not be understood
	Minimum     bool // the role needs such records for the purpose
}

// Decision is what came of a request.
type Decision struct {
	Permit      bool
	Rule        string // the one that decided
	Obligations []part2.Obligation
	Trail       []Step
}

// Step is one rule that was asked.
type Step struct {
	Stage  int    // of section 1.0
	Name   string // of the stage
	Rule   string // "" where the stage has nothing to say
	Permit bool
}

// MinimumNecessary asks whoever answers to leave out what the purpose does not need (H4).
const MinimumNecessary part2.Obligation = "minimum-necessary"

// stage asks one group of rules. rule is "" where it has nothing to say; a stage
// gets a copy, so that asking allocates nothing.
type stage struct {
	name string
	ask  func(Request) (rule string, permit bool)
}

// firstFloor and lastFloor are the stages that a policy cannot undo.
const firstFloor, lastFloor = 2, 5

var stages = []stage{
	{"practice and compartment", func(r Request) (string, bool) { return "", r.Tenant && r.Compartment }},
	{"caller and scopes", func(r Request) (string, bool) { return "", r.Caller && r.Scope && r.Purpose != "" && r.Recipient != "" }},
	{"absolute bars", bars},
	{"notes of sessions", notes},
	{"42 CFR part 2", program},
	{"law of states", states},
	{"agreed restrictions", restrictions},
	{"consents of the patient", func(r Request) (string, bool) { return "", !r.Denied && !r.Unreadable }},
	{"minimum necessary", minimum},
}

// bars is S6: nothing in a proceeding against the patient.
func bars(r Request) (string, bool) {
	if !r.Record.Part2 && !r.Record.CounselingNote && !r.Record.Received || !part2.Proceeding(r.Purpose) {
		return "", true
	}
	return "S6", proceeding(r)
}

// proceeding reports whether a record may be used in a proceeding. A consent to disclose is none to change the record. A
// documented exception for a proceeding is its order with its subpoena, or the defense that the patient's suit opens.
func proceeding(r Request) bool {
	return part2.ProceedingPermits(r.Consents.Legal && !r.Write, r.Order) || r.Exception
}

func notes(r Request) (rule string, permit bool) {
	if r.Machine && (r.Record.PsychNote || r.Record.CounselingNote) {
		return "P20", false
	}
	permit = true
	if r.Record.PsychNote {
		u := r.Note
		u.Purpose, u.Originator, u.Authorized, u.Documented = r.Purpose, r.Originator, r.Consents.Notes, r.Exception
		if rule, permit = hipaa.NoteRule(u); !permit {
			return rule, false
		}
	}
	if r.Record.CounselingNote {
		u := r.Counseling
		u.Purpose, u.Originator, u.Consent, u.Documented = r.Purpose, r.Originator, r.Consents.Counseling, r.Exception
		return part2.CounselingRule(u)
	}
	return rule, permit
}

func program(r Request) (string, bool) {
	if !r.Record.Part2 && !r.Record.CounselingNote {
		return "", true
	}
	b := part2.Basis{
		Program: r.Program, Self: r.Self, Emergency: r.Emergency, Exception: r.Exception, Agreement: r.Agreement,
		Legal: proceeding(r),
	}
	if !r.Write { // a consent to disclose is none to change the record
		b.Consent = r.Consents.TPO && part2.IsOne(r.Purpose) || r.Consents.Specific || r.Consents.Counseling && r.Record.CounselingNote ||
			r.Consents.Research && part2.ForStudy(r.Purpose)
	}
	return part2.BasisOf(b, r.Purpose)
}

func states(r Request) (string, bool) {
	c := r.Consents
	d := state.Disclosure{
		// What somebody else brings in discloses nothing.
		Purpose: r.Purpose, Outside: !r.Write && r.Recipient.Outside(),
		OtherState: r.OtherState, ToParent: r.Recipient == Parent, Self: r.Self, Emergency: r.Emergency, Exception: r.Exception,
		Consent: c.any(), Machine: r.Machine, MachineConsent: c.Machine,
		MentalHealth: r.Record.MentalHealth, Psychotherapy: r.Record.MentalHealth, SubstanceUse: r.Record.SubstanceUse || r.Record.Part2,
		Reproductive: r.Record.Reproductive, GenderCare: r.Record.GenderCare,
		PersonalNote: r.Record.PsychNote || r.Record.CounselingNote, MinorConsented: r.Record.MinorConsented, Frozen: r.Record.Frozen,
	}
	if d.MinorConsented && !c.Minor {
		d.Consent = false
	}
	rule := r.States.Bars(d)
	return rule, rule == ""
}

func restrictions(r Request) (string, bool) {
	if !hipaa.RestrictionBars(r.Restriction, r.Purpose) {
		return "", true
	}
	return "H3", false
}

func minimum(r Request) (string, bool) {
	// Even where HIPAA asks for no minimum, nobody sees what the role has no business with.
	return "H4", r.Minimum
}

// Evaluate decides a request. It never panics: a rule that does denies.
func Evaluate(r Request) (d Decision) {
	defer func() {
		if p := recover(); p != nil {
			d = Decision{Rule: fmt.Sprintf("error: %v", p)}
		}
	}()
	var by string
	for i, s := range stages {
		rule, permit := s.ask(r)
		d.Trail = append(d.Trail, Step{i, s.name, rule, permit})
		if !permit {
			return Decision{Rule: name(rule, s.name), Trail: d.Trail}
		}
		if rule != "" && i <= lastFloor {
			by = rule
		}
	}
	d.Permit, d.Rule = true, name(by, "HIPAA")
	d.Obligations = obligations(r, by)
	return d
}

func name(rule, otherwise string) string {
	if rule == "" {
		return otherwise
	}
	return rule
}

// obligations are those of the rule that permits, and those of HIPAA.
func obligations(r Request, by string) []part2.Obligation {
	var out []part2.Obligation
	if r.Record.Part2 || r.Record.CounselingNote {
		basis, _ := program(r)
		if basis == "S6" && r.Consents.Legal {
			basis = "S14" // a consent to proceedings is one to disclose
		}
		out = part2.Obligations(basis)
	}
	if hipaa.MinimumNecessary(r.Purpose, r.Consents.Specific || r.Consents.Notes, r.Note.Secretary, r.Note.Law != "") {
		out = append(out, MinimumNecessary)
	}
	outside := r.Recipient != Workforce && r.Recipient != Patient
	if hipaa.Accountable(hipaa.Disclosure{Purpose: r.Purpose, Authorized: by == "P4" || by == "S14", ToIndividual: r.Self, WithinWorkforce: !outside}) &&
		!slices.Contains(out, part2.AccountingEntry) {
		out = append(out, part2.AccountingEntry)
	}
	return out
}

// Floor reports whether the law lets a policy permit a request: the stages from the absolute bars to the law of states, and
// a recipient who is known. The rule is the one that bars. It allocates nothing.
func Floor(r Request) (rule string, permit bool) {
	if r.Recipient == "" {
		return "recipient", false
	}
	for _, s := range stages[firstFloor : lastFloor+1] {
		if rule, permit := s.ask(r); !permit {
			return rule, false
		}
	}
	return "", true
}

// Rules lists all rules of all packages, in the order P, S, H, D, J.
func Rules() []rule.Rule {
	h, p := hipaa.Rules(), part2.Rules()
	i := slices.IndexFunc(h, func(r rule.Rule) bool { return r.ID == "H1" })
	return slices.Concat(h[:i], p, h[i:], deidentify.Rules(), state.Rules())
}
