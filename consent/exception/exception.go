// Package exception holds the exceptions by which the law lets a record be
// disclosed without the patient's consent, each as a kind with its rule, over plain facts.
//
// The numbers P6 to P12 (45 CFR 164.508(a)(2)) and S33 to S42 (42 CFR part 2,
// subparts D and E) are those of the segmentation rules.
package exception

import (
	"slices"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Source is where a record comes from, as far as the law asks. The zero Source
// is a record to which HIPAA alone applies.
type Source uint8

// The sources.
const (
	Part2             Source = 1 << iota // of a Part 2 program (42 CFR 2.11)
	PsychotherapyNote                    // 45 CFR 164.501
	CounselingNote                       // SUD counseling note (42 CFR 2.11)
	MinorConsented                       // care to which a minor consented alone (42 CFR 2.14)
)

// Sources lists every combination. The caller owns the slice.
func Sources() []Source {
	out := make([]Source, 0, 16)
	for s := Source(0); s <= Part2|PsychotherapyNote|CounselingNote|MinorConsented; s++ {
		out = append(out, s)
	}
	return out
}

// Emergency reports whether a declared emergency opens a record (S33, 42 CFR
// 2.51): for the purposes of an emergency alone, and never a note of a session (P19).
func Emergency(purpose string, noteOfASession bool) bool {
	return !noteOfASession && (purpose == "ETREAT" || purpose == "BTG")
}

// Scope is what an exception has to name so that it is limited to what the law
// lets be disclosed.
type Scope uint8

// The scopes. Where a kind asks for one, it is required; any may be added.
const (
	OfPatient Scope = 1 << iota
	OfOriginator
	OfProgram
)

// Element is one thing that has to be written down.
type Element struct {
	Name     string // of the part of documentation
	Citation string
	// True says that the element is a statement, which has to be true.
	True bool
	// Of are the values that it may have; nil is any text.
	Of []string
}

// Kind is one exception.
type Kind struct {
	Code     string
	Rules    []string
	Citation string
	// Purposes are the codes of v3-ActReason under which it counts.
	Purposes []string
	Scope    Scope
	Elements []Element
	// Types narrows it to resource types; nil is every type that the policy opens.
	Types []fhir.ResourceType
	// Longest is for how long one may be documented at most.
	Longest time.Duration
	opens   []Source
}

const day = 24 * time.Hour

// note is an SUD counseling note, which is always a program's.
const note = Part2 | CounselingNote

// kinds. What a kind opens is what its own provision covers: 45 CFR 164.508(a)(2)
// lists the exceptions for psychotherapy notes, 42 CFR 2.31(b)(1) those for SUD
// counseling notes, and subparts D and E of part 2 those for a program's records.
var kinds = []Kind{
	{
		Code: "training", Rules: []string{"P6", "S11"}, Citation: "45 CFR 164.508(a)(2)(i)(B), 42 CFR 2.31(b)(1)",
		Purposes: []string{"TRAIN"}, Scope: OfOriginator, Longest: 366 * day,
		Elements: []Element{{Name: "training-program", Citation: "45 CFR 164.508(a)(2)(i)(B)"}, {Name: "under-supervision", Citation: "45 CFR 164.508(a)(2)(i)(B)", True: true}},
		opens:    []Source{0, MinorConsented, PsychotherapyNote, PsychotherapyNote | MinorConsented, Part2, Part2 | MinorConsented, note, note | MinorConsented, PsychotherapyNote | Part2},
	},
	{
		Code: "legal-defense", Rules: []string{"P7", "S11"}, Citation: "45 CFR 164.508(a)(2)(i)(C), 42 CFR 2.31(b)(1)",
		Purposes: []string{"HLEGAL"}, Scope: OfPatient, Longest: 366 * day,
		Elements: []Element{{Name: "case", Citation: "45 CFR 164.508(a)(2)(i)(C)"}, {Name: "brought-by-patient", Citation: "45 CFR 164.508(a)(2)(i)(C)", True: true}},
		// A program's other records reach a proceeding by court order alone (42 CFR 2.12(d)(1)).
		opens: []Source{0, PsychotherapyNote, note},
	},
	{
		Code: "hhs-compliance", Rules: []string{"P8", "S11"}, Citation: "45 CFR 164.502(a)(2)(ii), 42 CFR 2.2(b)",
		Purposes: []string{"HCOMPL"}, Longest: 183 * day,
		Elements: []Element{{Name: "investigation", Citation: "45 CFR 160.310(c)"}},
		opens:    []Source{0, MinorConsented, PsychotherapyNote, Part2, Part2 | MinorConsented, note, PsychotherapyNote | MinorConsented, note | MinorConsented},
	},
	{
		Code: "required-by-law", Rules: []string{"P9"}, Citation: "45 CFR 164.512(a)",
		Purposes: []string{"HCOMPL"}, Scope: OfPatient, Longest: 30 * day,
		Elements: []Element{{Name: "law", Citation: "45 CFR 164.512(a)(1)"}, {Name: "requirement", Citation: "45 CFR 164.512(a)(1)"}},
		opens:    []Source{0, MinorConsented, PsychotherapyNote, PsychotherapyNote | MinorConsented},
	},
	{
		Code: "originator-oversight", Rules: []string{"P10", "S11"}, Citation: "45 CFR 164.508(a)(2)(ii), 164.512(d), 42 CFR 2.31(b)(1), 2.53",
		Purposes: []string{"HCOMPL"}, Scope: OfOriginator, Longest: 183 * day,
		Elements: []Element{{Name: "agency", Citation: "45 CFR 164.512(d)(1)"}, {Name: "activity", Citation: "45 CFR 164.512(d)(1)"}},
		opens:    []Source{0, PsychotherapyNote, note},
	},
	{
		Code: "coroner", Rules: []string{"P11", "S30"}, Citation: "45 CFR 164.512(g)(1), 42 CFR 2.15(b)(1)",
		Purposes: []string{"HDECD"}, Scope: OfPatient, Longest: 183 * day,
		Elements: []Element{{Name: "office", Citation: "45 CFR 164.512(g)(1)", Of: []string{"coroner", "medical-examiner"}}, {Name: "inquiry", Citation: "45 CFR 164.512(g)(1)"}},
		opens:    []Source{0, PsychotherapyNote, Part2, note},
	},
	{
		Code: "serious-threat", Rules: []string{"P12"}, Citation: "45 CFR 164.512(j)(1)(i)",
		Purposes: []string{"THREAT"}, Scope: OfPatient, Longest: 7 * day,
		Elements: []Element{{Name: "threat", Citation: "45 CFR 164.512(j)(1)(i)(A)"}, {Name: "serious-and-imminent", Citation: "45 CFR 164.512(j)(1)(i)(A)", True: true},
			{Name: "able-to-prevent", Citation: "45 CFR 164.512(j)(1)(i)(B)", True: true}},
		opens: []Source{0, MinorConsented, PsychotherapyNote, PsychotherapyNote | MinorConsented},
	},
	{
		Code: "fda", Rules: []string{"S34"}, Citation: "42 CFR 2.51(b)",
		Purposes: []string{"PUBHLTH"}, Scope: OfPatient, Longest: 30 * day,
		Elements: []Element{{Name: "product", Citation: "42 CFR 2.51(b)"}, {Name: "error", Citation: "42 CFR 2.51(b)"}, {Name: "recipient", Citation: "42 CFR 2.51(c)(1)"}, {Name: "discloser", Citation: "42 CFR 2.51(c)(2)"}},
		opens:    []Source{0, Part2},
	},
	{
		Code: "research", Rules: []string{"S35"}, Citation: "42 CFR 2.52, 45 CFR 164.512(i)",
		Purposes: []string{"HRESCH"}, Scope: OfProgram, Longest: 366 * day,
		Elements: []Element{{Name: "protocol", Citation: "42 CFR 2.52(a)"}, {Name: "basis", Citation: "42 CFR 2.52(a)(1)", Of: []string{"waiver", "authorization", "common-rule"}},
			{Name: "board", Citation: "45 CFR 164.512(i)(2)(i)"}, {Name: "no-identified-reports", Citation: "42 CFR 2.52(b)(3)", True: true}},
		opens: []Source{0, Part2},
	},
	{
		Code: "audit-evaluation", Rules: []string{"S36"}, Citation: "42 CFR 2.53",
		Purposes: []string{"HCOMPL"}, Scope: OfProgram, Longest: 183 * day,
		Elements: []Element{{Name: "activity", Citation: "42 CFR 2.53(c)"}, {Name: "agreement", Citation: "42 CFR 2.53(b)(1)"}, {Name: "retention", Citation: "42 CFR 2.53(b)(1)(ii)"}},
		opens:    []Source{0, Part2},
	},
	{
		Code: "crime-on-premises", Rules: []string{"S39"}, Citation: "42 CFR 2.12(c)(5)",
		Purposes: []string{"LEGAL"}, Scope: OfPatient, Longest: 7 * day, Types: []fhir.ResourceType{"Patient"},
		Elements: []Element{{Name: "crime", Citation: "42 CFR 2.12(c)(5)(i)"}, {Name: "against-program", Citation: "42 CFR 2.12(c)(5)(i)", True: true}},
		opens:    []Source{0, Part2},
	},
	{
		Code: "child-abuse-report", Rules: []string{"S39"}, Citation: "42 CFR 2.12(c)(6), 45 CFR 164.512(b)(1)(ii)",
		Purposes: []string{"HCOMPL"}, Scope: OfPatient, Longest: 7 * day,
		Elements: []Element{{Name: "law", Citation: "42 CFR 2.12(c)(6)"}, {Name: "initial-report", Citation: "42 CFR 2.12(c)(6)", True: true}},
		opens:    []Source{0, MinorConsented, Part2, Part2 | MinorConsented},
	},
	{
		Code: "court-order", Rules: []string{"S41"}, Citation: "42 CFR 2.61 to 2.67",
		Purposes: []string{"LEGAL", "HLEGAL"}, Scope: OfPatient, Longest: 183 * day,
		Elements: []Element{{Name: "order", Citation: "42 CFR 2.61(a)"}, {Name: "subpoena", Citation: "42 CFR 2.61(b)(1)"},
			{Name: "basis", Citation: "42 CFR 2.64 to 2.67", Of: []string{"2.64", "2.65", "2.66", "2.67"}},
			{Name: "scope", Citation: "42 CFR 2.64(e)(1)"}, {Name: "sealed", Citation: "42 CFR 2.64(e)(3)", True: true}},
		opens: []Source{0, Part2},
	},
}

// refused are what a request may ask for and no exception gives.
var refused = map[string]string{
	"subpoena":            "42 CFR 2.61(b)(1): a subpoena alone authorizes nothing: a court order that authorizes the disclosure is needed, too",
	"law-enforcement":     "42 CFR 2.13(c), 2.61: without a court order and a subpoena nothing is disclosed, nor that somebody is a patient",
	"public-health":       "42 CFR 2.54: a public health authority receives de-identified records only",
	"funeral-director":    "45 CFR 164.508(a)(2)(ii): the exception for decedents is that of a coroner or medical examiner",
	"central-registry":    "42 CFR 2.34: a central registry needs the patient's consent",
	"criminal-referral":   "42 CFR 2.35: a referral of the criminal justice system needs the patient's consent",
	"prescription-report": "42 CFR 2.36: a prescription drug monitoring program needs the patient's consent",
	"emergency":           "42 CFR 2.51: an emergency is declared by the one who treats, with Patient/$break-glass",
}

// Kinds lists the kinds in the order of their rules. The caller owns the slice.
func Kinds() []Kind { return slices.Clone(kinds) }

// Of gives the kind of that code.
func Of(code string) (Kind, bool) {
	for _, k := range kinds {
		if k.Code == code {
			return k, true
		}
	}
	return Kind{}, false
}

// Opens reports whether k lets a record of those sources be disclosed. A source
// that a provision does not speak of stays closed.
func (k Kind) Opens(s Source) bool { return slices.Contains(k.opens, s) }
