package part2_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/consent/rule"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// each asks with all flags of a struct, and without each of them.
func each[T any](t *testing.T, what string, whole T, holds func(T) bool) {
	t.Helper()
	yes(t, holds(whole), what)
	v := reflect.ValueOf(&whole).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Bool && f.Bool() {
			f.SetBool(false)
			no(t, holds(whole), what+" without "+v.Type().Field(i).Name)
			f.SetBool(true)
		}
	}
}

func TestS1_2_11_Program(t *testing.T) {
	each(t, "a program", part2.Holder{HoldsItselfOut: true, Assisted: true}, part2.IsProgram)
	each(t, "a unit", part2.Holder{Unit: true, Assisted: true}, part2.IsProgram)
	each(t, "staff", part2.Holder{Staff: true, Assisted: true}, part2.IsProgram)
}

func TestS2_2_12_d_2_ii_OtherProviders(t *testing.T) {
	yes(t, part2.IsRecord(true, false) && part2.IsRecord(false, true), "a program's")
	no(t, part2.IsRecord(false, false), "another provider's")
}

func TestS3_2_12_d_2_i_C_Segregation(t *testing.T) {
	no(t, part2.MustSegregate(part2.ReceivedTPO, true), "received for treatment, payment and operations")
	yes(t, part2.MustSegregate(part2.ReceivedTPO, false), "by somebody else")
	yes(t, part2.MustSegregate(part2.ReceivedSpecific, true), "received under a specific consent")
	yes(t, part2.MustIdentify(part2.ReceivedTPO) && part2.MustIdentify(part2.Held), "known as what it is")
	no(t, part2.MustIdentify(""), "nothing")
}

func TestS4_2_13_c_Acknowledge(t *testing.T) {
	yes(t, part2.MayAcknowledge(part2.Basis{Program: true}, "TREAT"), "the program")
	no(t, part2.MayAcknowledge(part2.Basis{}, "TREAT"), "anybody")
}

func TestS5_2_13_a_Necessary(t *testing.T) {
	yes(t, part2.Necessary("Coverage", "Patient", "Coverage"), "what is needed")
	no(t, part2.Necessary("Condition", "Patient", "Coverage"), "what is not")
	no(t, part2.Necessary("", ""), "nothing")
}

func TestS6_2_12_d_1_ProceedingPermits(t *testing.T) {
	order := part2.Order{Section: "2.65", Findings: true, Subpoena: true, InScope: true, Sealed: true}
	yes(t, part2.ProceedingPermits(true, part2.Order{}), "consent to proceedings")
	yes(t, part2.ProceedingPermits(false, order), "an order of 2.65")
	order.Section = "2.64"
	yes(t, part2.ProceedingPermits(false, order), "an order of 2.64")
	order.Section = "2.66"
	no(t, part2.ProceedingPermits(false, order), "an order against a holder")
	no(t, part2.ProceedingPermits(false, part2.Order{}), "nothing")
	for _, purpose := range []string{"HLEGAL", "LEGAL"} {
		rule, ok := part2.BasisOf(part2.Basis{Program: true, Consent: true, Self: true, Agreement: true, Exception: true, Emergency: true}, purpose)
		no(t, ok || rule != "S6", purpose)
		_, ok = part2.BasisOf(part2.Basis{Legal: true}, purpose)
		yes(t, ok, purpose+" with consent to that alone")
	}
	_, ok := part2.BasisOf(part2.Basis{Legal: true}, "TREAT")
	no(t, ok, "consent to proceedings, for treatment")
}

func TestS7_2_31_a_4_ii_Participants(t *testing.T) {
	yes(t, part2.ParticipantCovered(true, true, false, false), "named")
	yes(t, part2.ParticipantCovered(true, false, true, true), "designated and treating")
	no(t, part2.ParticipantCovered(true, false, true, false), "designated")
	no(t, part2.ParticipantCovered(true, false, false, true), "treating")
	no(t, part2.ParticipantCovered(false, true, true, true), "an intermediary that is not named")
}

func TestS8_S9_2_31_c_Holds(t *testing.T) {
	good := part2.State{Start: noon.Add(-time.Hour)}
	yes(t, part2.Holds(good, noon), "in force")
	for what, change := range map[string]func(*part2.State){
		"expired":   func(s *part2.State) { s.End = noon },
		"not yet":   func(s *part2.State) { s.Start = noon.Add(1) },
		"false":     func(s *part2.State) { s.False = true },
		"deficient": func(s *part2.State) { s.Deficient = true },
		"revoked":   func(s *part2.State) { s.RevokedAt = noon },
	} {
		bad := good
		change(&bad)
		no(t, part2.Holds(bad, noon), what)
	}
}

func TestS9_2_31_a_6_Revocation(t *testing.T) {
	no(t, part2.Revoked(noon, noon.Add(-1)), "a moment before")
	yes(t, part2.Revoked(noon, noon), "that moment")
	no(t, part2.Revoked(time.Time{}, noon), "never")
}

func TestS10_2_11_CounselingNote(t *testing.T) {
	whole := part2.CounselingNote{Program: true, Professional: true, Session: true, Separate: true}
	each(t, "a counseling note", whole, part2.IsCounselingNote)
	whole.Excluded = true
	no(t, part2.IsCounselingNote(whole), "with session times")
	rule, ok := part2.CounselingRule(part2.CounselingUse{Purpose: "TREAT", Originator: true})
	yes(t, ok && rule == "S10", "its originator")
	_, ok = part2.CounselingRule(part2.CounselingUse{Purpose: "HOPERAT", Originator: true})
	no(t, ok, "its originator, for operations")
}

func TestS11_2_31_b_1_CounselingUse(t *testing.T) {
	for what, u := range map[string]part2.CounselingUse{
		"training":   {Purpose: "TRAIN", Training: true},
		"defense":    {Purpose: "HLEGAL", Defense: true},
		"oversight":  {Purpose: "GOV", OfOriginator: true},
		"documented": {Purpose: "HOPERAT", Documented: true},
	} {
		rule, ok := part2.CounselingRule(u)
		yes(t, ok && rule == "S11", what)
		u.Purpose = "BTG"
		_, ok = part2.CounselingRule(u)
		no(t, ok, what+" in an emergency")
	}
	for what, u := range map[string]part2.CounselingUse{
		"nobody":             {Purpose: "TREAT"},
		"training to treat":  {Purpose: "TREAT", Training: true},
		"defense to treat":   {Purpose: "TREAT", Defense: true},
		"emergency":          {Purpose: "ETREAT", Originator: true, Consent: true},
		"emergency record":   {Purpose: "ERTREAT", Originator: true, Consent: true},
		"patient's request":  {Purpose: "PATRQT"},
		"for its training":   {Purpose: "TRAIN"},
		"for a proceeding":   {Purpose: "LEGAL"},
		"without a purpose ": {},
	} {
		_, ok := part2.CounselingRule(u)
		no(t, ok, what)
	}
}

func TestS12_2_31_b_2_CounselingAlone(t *testing.T) {
	rule, ok := part2.CounselingRule(part2.CounselingUse{Purpose: "TREAT", Consent: true})
	yes(t, ok && rule == "S12", "a consent to that")
	yes(t, part2.StandsAlone([]part2.Kind{part2.SUDCN, part2.SUDCN}, part2.SUDCN), "alone")
	no(t, part2.StandsAlone([]part2.Kind{part2.SUDCN, part2.TPO}, part2.SUDCN), "combined")
	no(t, part2.StandsAlone(nil, part2.SUDCN), "nothing")
	yes(t, part2.MayCondition(part2.TPO), "a condition on a consent for payment")
	no(t, part2.MayCondition(part2.SUDCN) || part2.MayCondition(part2.Legal) || part2.MayCondition(""), "a condition on this one")
}

func TestS13_2_31_d_LegalAlone(t *testing.T) {
	yes(t, part2.StandsAlone([]part2.Kind{part2.Legal}, part2.Legal), "alone")
	no(t, part2.StandsAlone([]part2.Kind{part2.Specific, part2.Legal}, part2.Legal), "combined")
}

func TestS14_2_33_a_1_SpecificConsent(t *testing.T) {
	yes(t, part2.SpecificPermits(true, true, true, "COC"), "all match")
	no(t, part2.SpecificPermits(false, true, true, "COC"), "invalid")
	no(t, part2.SpecificPermits(true, false, true, "COC"), "another recipient")
	no(t, part2.SpecificPermits(true, true, false, "COC"), "other data")
	no(t, part2.SpecificPermits(true, true, true, "HLEGAL"), "a proceeding")
	rule, ok := part2.BasisOf(part2.Basis{Consent: true}, "COC")
	yes(t, ok && rule == "S14", "a further purpose")
}

func TestS15_2_33_a_2_TPOConsent(t *testing.T) {
	for _, to := range []part2.Recipient{part2.Covered, part2.ProgramOnly, part2.Workforce} {
		yes(t, part2.TPOPermits(true, to, "HPAYMT", true), string(to))
	}
	no(t, part2.TPOPermits(true, part2.LawfulHolder, "HPAYMT", true), "another holder")
	no(t, part2.TPOPermits(false, part2.Covered, "HPAYMT", true), "revoked")
	no(t, part2.TPOPermits(true, part2.Covered, "HLEGAL", true), "a proceeding")
	no(t, part2.TPOPermits(true, part2.Covered, "HPAYMT", false), "what HIPAA bars")
	for _, purpose := range []string{"TREAT", "HPAYMT", "HOPERAT"} {
		rule, ok := part2.BasisOf(part2.Basis{Consent: true}, purpose)
		yes(t, ok && rule == "S15", purpose)
	}
}

func redisclosure(r part2.Redisclosure) func(string, bool) bool {
	return func(rule string, permit bool) bool {
		got, ok := part2.MayRedisclose(r)
		return got == rule && ok == permit
	}
}

func TestS16_2_33_b_1_CoveredEntities(t *testing.T) {
	r := part2.Redisclosure{By: part2.Covered, TPO: true, HIPAA: true, Purpose: "HPAYMT"}
	yes(t, redisclosure(r)("S16", true), "as HIPAA permits")
	r.HIPAA = false
	yes(t, redisclosure(r)("S16", false), "as it does not")
	r.TPO, r.Consistent = false, true
	yes(t, redisclosure(r)("S14", true), "within a specific consent")
	r.Purpose = "LEGAL"
	no(t, !redisclosure(r)("S6", false), "proceedings")
}

func TestS17_2_33_b_2_Programs(t *testing.T) {
	yes(t, redisclosure(part2.Redisclosure{By: part2.ProgramOnly, Consistent: true})("S17", true), "within the consent")
	no(t, !redisclosure(part2.Redisclosure{By: part2.ProgramOnly, HIPAA: true})("S17", false), "beyond it")
}

func TestS18_2_33_b_3_LawfulHolders(t *testing.T) {
	r := part2.Redisclosure{By: part2.LawfulHolder, To: part2.Contractor, Contract: true, Purpose: "HPAYMT"}
	yes(t, redisclosure(r)("S18", true), "payment")
	r.Purpose = "HOPERAT"
	yes(t, redisclosure(r)("S18", true), "operations")
	r.Purpose = "TREAT"
	no(t, !redisclosure(r)("S18", false), "treatment")
	r.Purpose, r.Contract = "HPAYMT", false
	no(t, !redisclosure(r)("S18", false), "no contract")
	r.Contract, r.To = true, part2.Covered
	no(t, !redisclosure(r)("S18", false), "somebody else")
}

func TestS19_2_32_Obligations(t *testing.T) {
	for _, rule := range []string{"S14", "S15", "S16", "S17", "S18"} {
		o := part2.Obligations(rule)
		yes(t, slices.Contains(o, part2.Notice) && slices.Contains(o, part2.CopyOfConsent) && slices.Contains(o, part2.NoRedisclosure), rule)
	}
	for _, rule := range []string{"S38", "S26", "S22", "S33", "P5", ""} {
		no(t, slices.Contains(part2.Obligations(rule), part2.Notice), rule)
	}
}

func TestS20_2_32_a_Statements(t *testing.T) {
	yes(t, part2.NoticeText("S15", true) == part2.StatementShort && part2.NoticeText("S15", false) == part2.StatementLong, "with consent")
	long := part2.NoticeText("S14", false)
	for _, part := range []string{"42 CFR part 2", "against the patient", "2.12(c)(5)", "2.64 or 2.65", "NOT sufficient", "subparts A and E"} {
		yes(t, strings.Contains(long, part), part)
	}
	no(t, part2.NoticeText("S33", true) != "", "a notice in an emergency")
	no(t, part2.NoticeText("S38", true) != "" || part2.NoticeText("", false) != "", "a notice without a disclosure under consent")
}

func TestS21_S22_2_11_ServiceOrganizations(t *testing.T) {
	yes(t, part2.ServicePermits(true, true, true), "under an agreement")
	no(t, part2.ServicePermits(false, true, true) || part2.ServicePermits(true, false, true), "without one")
	no(t, part2.ServicePermits(true, true, false), "a third party")
	yes(t, redisclosure(part2.Redisclosure{By: part2.Service, BackToMaker: true})("S22", true), "back to the program")
	no(t, !redisclosure(part2.Redisclosure{By: part2.Service, HIPAA: true, Consistent: true})("S22", false), "onward")
	rule, ok := part2.BasisOf(part2.Basis{Agreement: true}, "HOPERAT")
	yes(t, ok && rule == "S22", "for the program")
	yes(t, slices.Equal(part2.Obligations("S22"), []part2.Obligation{part2.AccountingEntry}), "accounted for")
}

func TestS21_S23_2_24_Intermediaries(t *testing.T) {
	yes(t, part2.IsIntermediary(true, false), "an exchange")
	no(t, part2.IsIntermediary(true, true) || part2.IsIntermediary(false, false), "a covered entity, and nobody")
	since, due := part2.IntermediaryList(noon)
	yes(t, since.Equal(noon.AddDate(-3, 0, 0)) && due.Equal(noon.AddDate(0, 0, 30)), "three years, 30 days")
	yes(t, redisclosure(part2.Redisclosure{By: part2.ViaIntermediary, Consistent: true})("S23", true), "to a participant")
	no(t, !redisclosure(part2.Redisclosure{By: part2.ViaIntermediary})("S23", false), "to another")
}

func TestS24_2_25_Accounting(t *testing.T) {
	yes(t, part2.Accounted(true, noon, noon, "TREAT", true), "through a record system")
	yes(t, part2.Accounted(true, noon.AddDate(-3, 0, 0), noon, "HRESCH", false), "three years ago")
	no(t, part2.Accounted(true, noon, noon, "TREAT", false), "on paper, for treatment")
	no(t, part2.Accounted(true, noon.AddDate(-3, 0, -1), noon, "HRESCH", true), "longer ago")
	no(t, part2.Accounted(true, noon.Add(1), noon, "HRESCH", true), "later")
	no(t, part2.Accounted(false, noon, noon, "HRESCH", true), "without consent")
	yes(t, slices.Contains(part2.Obligations("S15"), part2.AccountingEntry), "an entry")
}

func TestS25_2_26_Restrictions(t *testing.T) {
	yes(t, part2.RestrictionBinds(true, false, false, "TREAT"), "agreed")
	no(t, part2.RestrictionBinds(false, false, false, "TREAT"), "not agreed")
	for _, purpose := range []string{"ETREAT", "BTG", "ERTREAT"} {
		no(t, part2.RestrictionBinds(true, false, false, purpose), purpose)
	}
	yes(t, part2.RestrictionBinds(false, true, true, "HPAYMT"), "paid in full")
	no(t, part2.RestrictionBinds(false, true, false, "TREAT") || part2.RestrictionBinds(false, false, true, "HPAYMT"), "half of it")
}

func TestS26_2_23_OwnRecord(t *testing.T) {
	rule, ok := part2.BasisOf(part2.Basis{Self: true}, "PATRQT")
	yes(t, ok && rule == "S26", "the patient")
	_, ok = part2.BasisOf(part2.Basis{}, "PATRQT")
	no(t, ok, "anybody")
}

func TestS38_S42_2_12_c_3_WithinTheProgram(t *testing.T) {
	rule, ok := part2.BasisOf(part2.Basis{Program: true}, "HOPERAT")
	yes(t, ok && rule == "S38", "within")
	rule, ok = part2.BasisOf(part2.Basis{}, "HOPERAT")
	no(t, ok || rule != "S42", "without")
}

func TestRulesAreListed(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range part2.Rules() {
		seen[r.ID] = true
		if r.Title == "" || r.Citation == "" || (r.Status == rule.Outside) != (len(r.Funcs) == 0) {
			t.Errorf("%+v", r)
		}
	}
	if len(seen) != 43 {
		t.Errorf("%d rules", len(seen))
	}
}
