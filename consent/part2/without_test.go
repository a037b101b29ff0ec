package part2_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/cloister-health/cloister/consent/part2"
)

func TestS27_2_14_b_MinorAlone(t *testing.T) {
	yes(t, part2.MinorConsents(part2.Minor{MayConsentAlone: true, MinorSigned: true}), "the minor")
	no(t, part2.MinorConsents(part2.Minor{MayConsentAlone: true, ParentSigned: true}), "the parent")
}

func TestS28_2_14_c_Both(t *testing.T) {
	yes(t, part2.MinorConsents(part2.Minor{MinorSigned: true, ParentSigned: true}), "both")
	no(t, part2.MinorConsents(part2.Minor{MinorSigned: true}), "the minor")
	no(t, part2.MinorConsents(part2.Minor{ParentSigned: true}), "the parent")
	yes(t, part2.ApplicationToParent(true, false, false), "with the minor's consent")
	no(t, part2.ApplicationToParent(false, false, false), "without")
}

func TestS29_2_14_c_Threat(t *testing.T) {
	yes(t, part2.ApplicationToParent(false, true, true), "a threat")
	no(t, part2.ApplicationToParent(false, true, false) || part2.ApplicationToParent(false, false, true), "half of it")
}

func TestS30_2_15_Signers(t *testing.T) {
	type state struct {
		adjudicated, cannotAct, deceased, representative bool
		purpose                                          string
	}
	may := func(s part2.Signer, c state) bool {
		return part2.MaySign(s, c.adjudicated, c.cannotAct, c.deceased, c.representative, c.purpose)
	}
	yes(t, may(part2.SignerPatient, state{}), "the patient")
	no(t, may(part2.SignerPatient, state{adjudicated: true}) || may(part2.SignerPatient, state{cannotAct: true}) || may(part2.SignerPatient, state{deceased: true}), "one who cannot")
	yes(t, may(part2.SignerGuardian, state{adjudicated: true}), "a guardian")
	no(t, may(part2.SignerGuardian, state{}) || may(part2.SignerGuardian, state{adjudicated: true, deceased: true}), "no guardian")
	yes(t, may(part2.SignerDirector, state{cannotAct: true, purpose: "HPAYMT"}), "the director, for payment")
	no(t, may(part2.SignerDirector, state{cannotAct: true, purpose: "TREAT"}) || may(part2.SignerDirector, state{purpose: "HPAYMT"}) ||
		may(part2.SignerDirector, state{cannotAct: true, adjudicated: true, purpose: "HPAYMT"}) || may(part2.SignerDirector, state{cannotAct: true, deceased: true, purpose: "HPAYMT"}), "the director")
	yes(t, may(part2.SignerRepresentative, state{deceased: true, representative: true}), "the representative")
	no(t, may(part2.SignerRepresentative, state{representative: true}) || may(part2.SignerRepresentative, state{deceased: true}), "no representative")
	yes(t, may(part2.SignerSpouse, state{deceased: true}), "the spouse")
	no(t, may(part2.SignerSpouse, state{}) || may(part2.SignerSpouse, state{deceased: true, representative: true}), "the spouse beside a representative")
	no(t, may("neighbor", state{deceased: true}), "a neighbor")
}

func TestS31_2_16_b_Breach(t *testing.T) {
	yes(t, part2.BreachRuleApplies(true, true), "unsecured")
	no(t, part2.BreachRuleApplies(true, false) || part2.BreachRuleApplies(false, true), "secured, or another's")
}

func TestS33_2_51_Emergency(t *testing.T) {
	each(t, "an emergency", part2.MedicalEmergency{BonaFide: true, Unobtainable: true, Personnel: true, Necessary: true}, part2.EmergencyPermits)
	each(t, "a disaster", part2.MedicalEmergency{BonaFide: true, Disaster: true, Personnel: true, Necessary: true}, part2.EmergencyPermits)
	for _, purpose := range []string{"TREAT", "ETREAT", "BTG", "ERTREAT"} {
		rule, ok := part2.BasisOf(part2.Basis{Emergency: true}, purpose)
		yes(t, ok && rule == "S33", purpose)
	}
	for _, purpose := range []string{"HPAYMT", "HOPERAT", "PATRQT", "HLEGAL", ""} {
		_, ok := part2.BasisOf(part2.Basis{Emergency: true}, purpose)
		no(t, ok, purpose)
	}
	yes(t, slices.Contains(part2.Obligations("S33"), part2.Documentation), "documentation")
	record := part2.EmergencyRecord{Recipient: "Dr. A", Facility: "General", Discloser: "B", At: noon, Nature: "overdose"}
	yes(t, record.Complete(), "complete")
	v := reflect.ValueOf(&record).Elem()
	for i := range v.NumField() {
		less := record
		reflect.ValueOf(&less).Elem().Field(i).SetZero()
		no(t, less.Complete(), "without "+v.Type().Field(i).Name)
	}
}

func TestS34_2_51_b_FDA(t *testing.T) {
	yes(t, part2.ToFDA(true, true, true), "an error in a product")
	no(t, part2.ToFDA(false, true, true) || part2.ToFDA(true, false, true) || part2.ToFDA(true, true, false), "part of it")
	rule, ok := part2.BasisOf(part2.Basis{Exception: true}, "PUBHLTH")
	yes(t, ok && rule == "S34-S41", "documented")
	_, ok = part2.BasisOf(part2.Basis{Exception: true}, "")
	no(t, ok, "for nothing")
	yes(t, slices.Contains(part2.Obligations("S34"), part2.Documentation) && slices.Contains(part2.Obligations("S34-S41"), part2.AccountingEntry), "documentation")
}

func TestS35_2_52_Research(t *testing.T) {
	yes(t, part2.ForResearch(true, true, true), "research")
	no(t, part2.ForResearch(false, true, true) || part2.ForResearch(true, false, true) || part2.ForResearch(true, true, false), "part of it")
}

func TestS36_2_53_Audit(t *testing.T) {
	yes(t, part2.ForAudit(true, false, false, false) && part2.ForAudit(true, true, true, false), "an audit")
	no(t, part2.ForAudit(false, false, true, false), "no agreement")
	no(t, part2.ForAudit(true, true, false, false), "copies without a promise")
	no(t, part2.ForAudit(true, true, true, true), "against the patient")
}

func TestS37_2_54_PublicHealth(t *testing.T) {
	yes(t, part2.ToPublicHealth(true, true), "de-identified")
	no(t, part2.ToPublicHealth(true, false) || part2.ToPublicHealth(false, true), "identified")
}

func TestS39_2_12_c_5_Crime(t *testing.T) {
	yes(t, part2.AboutCrime(true, "circumstances") && part2.AboutCrime(true, "whereabouts"), "the circumstances")
	no(t, part2.AboutCrime(true, "diagnosis") || part2.AboutCrime(false, "name"), "more")
	yes(t, part2.AboutChildAbuse(true, true), "the first report")
	no(t, part2.AboutChildAbuse(false, true) || part2.AboutChildAbuse(true, false), "the rest")
}

func TestS40_2_34_Registries(t *testing.T) {
	for _, p := range []part2.Program{part2.Registry, part2.Justice, part2.Monitoring} {
		yes(t, part2.NeedsOwnConsent(p) && part2.RegistryPermits(p, true), string(p))
		no(t, part2.RegistryPermits(p, false), string(p))
	}
	no(t, part2.NeedsOwnConsent("clinic") || part2.RegistryPermits("clinic", true), "a clinic")
}

func TestS41_2_61_OrderAndSubpoena(t *testing.T) {
	for _, section := range []string{"2.64", "2.65", "2.66", "2.67"} {
		each(t, section, part2.Order{Section: section, Findings: true, Subpoena: true, InScope: true, Sealed: true}, part2.OrderPermits)
	}
	no(t, part2.OrderPermits(part2.Order{Section: "2.63", Findings: true, Subpoena: true, InScope: true, Sealed: true}), "another section")
	no(t, part2.OrderPermits(part2.Order{Subpoena: true}), "a subpoena alone")
}

func TestS42_2_61_LawEnforcement(t *testing.T) {
	no(t, part2.LawEnforcement(part2.Order{Subpoena: true}), "a subpoena")
	yes(t, part2.LawEnforcement(part2.Order{Section: "2.65", Findings: true, Subpoena: true, InScope: true, Sealed: true}), "an order and a subpoena")
}
