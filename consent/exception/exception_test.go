package exception

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// whole is a statement of a kind that lacks nothing.
func whole(k Kind) Statement {
	s := Statement{
		Kind: k.Code, Purposes: k.Purposes[:1], Recipient: fhir.Ref{Type: "Practitioner", ID: "b"}, By: fhir.Ref{Type: "Practitioner", ID: "a"}, Of: []string{"house"},
		Patient: "anna", Originator: fhir.Ref{Type: "Practitioner", ID: "c"}, Program: "sud", Starts: now, Ends: now.Add(24 * time.Hour), Documentation: map[string]string{},
	}
	for _, e := range k.Elements {
		switch {
		case e.True:
			s.Documentation[e.Name] = "true"
		case e.Of != nil:
			s.Documentation[e.Name] = e.Of[0]
		default:
			s.Documentation[e.Name] = "text"
		}
	}
	return s
}

// Each element that the law asks for is required; what has to be true has to be.
func TestFaultsOfEveryKind(t *testing.T) {
	for _, k := range Kinds() {
		t.Run(k.Code, func(t *testing.T) {
			if f := Faults(whole(k), now); f != nil {
				t.Fatalf("a whole statement: %v", f)
			}
			lacks := func(parameter string, change func(*Statement)) {
				t.Helper()
				s := whole(k)
				change(&s)
				if f := Faults(s, now); !slices.ContainsFunc(f, func(x Fault) bool { return x.Parameter == parameter }) {
					t.Errorf("no fault of %s: %v", parameter, f)
				}
			}
			for _, e := range k.Elements {
				lacks("documentation."+e.Name, func(s *Statement) { delete(s.Documentation, e.Name) })
				lacks("documentation."+e.Name, func(s *Statement) { s.Documentation[e.Name] = " " })
				if e.True || e.Of != nil {
					lacks("documentation."+e.Name, func(s *Statement) { s.Documentation[e.Name] = "false" })
				}
			}
			lacks("documentation", func(s *Statement) { s.Documentation["more"] = "x" })
			lacks("purpose", func(s *Statement) { s.Purposes = nil })
			lacks("purpose", func(s *Statement) { s.Purposes = []string{"TREAT"} })
			lacks("recipient", func(s *Statement) { s.Recipient = fhir.Ref{} })
			lacks("recipient", func(s *Statement) { s.Recipient = s.By })
			lacks("recipient", func(s *Statement) { s.Recipient = fhir.Ref{Type: "Organization", ID: "house"} })
			lacks("recipient", func(s *Statement) { s.By = fhir.Ref{} })
			lacks("end", func(s *Statement) { s.Ends = time.Time{} })
			lacks("end", func(s *Statement) { s.Ends = now.Add(k.Longest + time.Second) })
			lacks("end", func(s *Statement) { s.Starts, s.Ends = now.Add(-48*time.Hour), now })
			lacks("type", func(s *Statement) { s.Types = []fhir.ResourceType{"Nothing"} })
			if k.Scope&OfPatient != 0 {
				lacks("patient", func(s *Statement) { s.Patient = "" })
			}
			if k.Scope&OfOriginator != 0 {
				lacks("originator", func(s *Statement) { s.Originator = fhir.Ref{} })
			}
			if k.Scope&OfProgram != 0 {
				lacks("program", func(s *Statement) { s.Program = "" })
			}
			lacks("patient", func(s *Statement) { s.Patient, s.Originator, s.Program = "", fhir.Ref{}, "" })
		})
	}
}

func opens(t *testing.T, code string) func(Source) bool {
	t.Helper()
	k, ok := Of(code)
	if !ok {
		t.Fatalf("no kind %s", code)
	}
	return k.Opens
}

// onlyThese checks that a source opens under the kinds that are listed, and under no other.
func onlyThese(t *testing.T, s Source, kinds ...string) {
	t.Helper()
	for _, k := range Kinds() {
		if got, want := k.Opens(s), slices.Contains(kinds, k.Code); got != want {
			t.Errorf("%s opens %b: %v, want %v", k.Code, s, got, want)
		}
	}
}

func TestP4_164_508_a_2_PsychotherapyNotesOpenUnderTheListedExceptions(t *testing.T) {
	onlyThese(t, PsychotherapyNote, "training", "legal-defense", "hhs-compliance", "required-by-law", "originator-oversight", "coroner", "serious-threat")
}

func TestS11_2_31_b_1_CounselingNotesOpenUnderTheListedExceptions(t *testing.T) {
	onlyThese(t, Part2|CounselingNote, "training", "legal-defense", "hhs-compliance", "originator-oversight", "coroner")
	onlyThese(t, CounselingNote) // there is none outside of a program
}

func TestS33_S41_Part2RecordsOpenUnderSubpartsDAndE(t *testing.T) {
	onlyThese(t, Part2, "training", "hhs-compliance", "coroner", "fda", "research", "audit-evaluation", "crime-on-premises", "child-abuse-report", "court-order")
}

func TestS27_2_14_WhatAMinorConsentedToStaysClosedToMost(t *testing.T) {
	onlyThese(t, MinorConsented, "training", "hhs-compliance", "required-by-law", "serious-threat", "child-abuse-report")
}

// One rule each, with what it permits and what it does not.
func TestP6_164_508_a_2_i_B_Training(t *testing.T) {
	if o := opens(t, "training"); !o(PsychotherapyNote) || !o(Part2|CounselingNote) {
		t.Error("the training program does not open notes")
	}
}

func TestP7_164_508_a_2_i_C_LegalDefense(t *testing.T) {
	if o := opens(t, "legal-defense"); !o(PsychotherapyNote) || o(Part2) {
		t.Error("the defense opens psychotherapy notes, and no other record of a program (42 CFR 2.12(d)(1))")
	}
}

func TestP10_164_512_d_OversightOfTheOriginator(t *testing.T) {
	k, _ := Of("originator-oversight")
	s := whole(k)
	s.Originator = fhir.Ref{}
	if !k.Opens(PsychotherapyNote) || Faults(s, now) == nil {
		t.Error("oversight is of the originator, who has to be named")
	}
}

func TestP11_164_512_g_1_CoronersAndNoFuneralDirectors(t *testing.T) {
	k, _ := Of("coroner")
	s := whole(k)
	s.Documentation["office"] = "funeral-director"
	if Faults(whole(k), now) != nil || Faults(s, now) == nil {
		t.Error("a coroner or a medical examiner, nobody else")
	}
}

func TestP12_164_512_j_1_i_SeriousAndImminentThreat(t *testing.T) {
	k, _ := Of("serious-threat")
	s := whole(k)
	s.Documentation["serious-and-imminent"] = "false"
	if !k.Opens(PsychotherapyNote) || k.Opens(Part2) || Faults(s, now) == nil {
		t.Error("a threat is serious and imminent, and opens no record of a program")
	}
}

func TestS33_2_51_Emergency(t *testing.T) {
	if !Emergency("ETREAT", false) || !Emergency("BTG", false) || Emergency("TREAT", false) || Emergency("BTG", true) {
		t.Error("an emergency is for the purposes of one, and opens no note of a session (P19)")
	}
}

func TestS37_2_54_PublicHealthGetsNoIdentifiedRecord(t *testing.T) {
	refuses(t, "public-health", "2.54")
	if _, ok := Of("fda"); !ok {
		t.Error("the Food and Drug Administration has an exception of its own (42 CFR 2.51(b))")
	}
}

func TestS39_2_12_c_5_CrimeOnPremisesShowsThePatientAlone(t *testing.T) {
	k, _ := Of("crime-on-premises")
	s := whole(k)
	s.Types = []fhir.ResourceType{"Condition"}
	if got := whole(k).Narrowed().Types; len(got) != 1 || got[0] != "Patient" || Faults(s, now) == nil {
		t.Errorf("types %v", got)
	}
}

func TestS40_2_34_2_35_2_36_NeedConsent(t *testing.T) {
	refuses(t, "central-registry", "2.34")
	refuses(t, "criminal-referral", "2.35")
	refuses(t, "prescription-report", "2.36")
}

func TestS41_2_61_OrderAndSubpoena(t *testing.T) {
	k, _ := Of("court-order")
	for _, missing := range []string{"order", "subpoena", "scope", "sealed"} {
		s := whole(k)
		delete(s.Documentation, missing)
		if Faults(s, now) == nil {
			t.Errorf("without %s", missing)
		}
	}
	refuses(t, "subpoena", "2.61")
}

func TestS42_2_13_c_LawEnforcementWithout(t *testing.T) {
	refuses(t, "law-enforcement", "2.13(c)")
}

func refuses(t *testing.T, kind, citation string) {
	t.Helper()
	if f := Faults(Statement{Kind: kind}, now); len(f) != 1 || f[0].Parameter != "kind" || !strings.Contains(f[0].Text, citation) {
		t.Errorf("%s: %v", kind, f)
	}
}

// No kind counts for treatment, payment or ordinary operations: those have rules of their own.
func TestNoKindIsForEverydayPurposes(t *testing.T) {
	for _, k := range Kinds() {
		for _, p := range []string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT", "ETREAT", "BTG", "HMARKT"} {
			if slices.Contains(k.Purposes, p) {
				t.Errorf("%s counts for %s", k.Code, p)
			}
		}
		if k.Longest <= 0 || len(k.Elements) == 0 || k.Citation == "" || len(k.Rules) == 0 {
			t.Errorf("%s is incomplete", k.Code)
		}
	}
}
