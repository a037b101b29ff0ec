package state

import "github.com/cloister-health/cloister/consent/rule"

func funcs(names ...string) []string {
	for i := range names {
		names[i] = "consent/state." + names[i]
	}
	return names
}

// Rules lists the rules of states and other jurisdictions, J1 to J14.
func Rules() []rule.Rule {
	const strict = "The statute lists further recipients; without consent we know the emergency only, which is stricter: courts, coroners, agencies and service organizations are outside, and get through the privacy officer what they are due"
	return []rule.Rule{
		{ID: "J1", Title: "Washington: the fact of admission and all of mental health care leave the practice with consent", Citation: "RCW 70.02.230", Funcs: funcs("Washington"), Status: rule.Decides, Mark: rule.Read, Doubt: strict},
		{ID: "J2", Title: "Washington: the My Health My Data Act is about what neither HIPAA nor part 2 protects", Citation: "RCW 19.373", Funcs: funcs("ConsumerHealthData"), Status: rule.Computes, Mark: rule.Known},
		{ID: "J3", Title: "California: outpatient psychotherapy leaves the practice on a written request, or with consent", Citation: "Cal. Civ. 56.104", Funcs: funcs("California"), Status: rule.Decides, Mark: rule.Known, Doubt: "What carries PSY or MH counts as outpatient psychotherapy"},
		{ID: "J4", Title: "California: gender-affirming care, abortion and contraception do not leave the state", Citation: "Cal. Civ. 56.101 (AB 352)", Funcs: funcs("California"), Status: rule.Decides, Mark: rule.Read, Doubt: "Whoever is outside of the practice counts as out of state; SEX and PREGNANT stand for abortion and contraception"},
		{ID: "J5", Title: "California: the CPRA's limits on sensitive personal information", Citation: "Cal. Civ. 1798.100", Status: rule.Outside, Mark: rule.Known, Doubt: "It is about data that is no medical information under the CMIA, which is not stored here"},
		{ID: "J6", Title: "Illinois: mental health records leave with a consent that names the recipient; personal notes never", Citation: "740 ILCS 110", Funcs: funcs("Illinois"), Status: rule.Decides, Mark: rule.Known, Doubt: strict},
		{ID: "J7", Title: "New York: clinical records of mental health leave with consent", Citation: "MHL 33.13", Funcs: funcs("NewYork"), Status: rule.Decides, Mark: rule.Known, Doubt: strict},
		{ID: "J8", Title: "Texas: mental health records leave with consent, or to who treats", Citation: "HSC 611.004", Funcs: funcs("Texas"), Status: rule.Decides, Mark: rule.Known, Doubt: strict},
		{ID: "J9", Title: "Florida: clinical records of mental health leave with consent, or to who treats", Citation: "Fla. Stat. 394.4615", Funcs: funcs("Florida"), Status: rule.Decides, Mark: rule.Known, Doubt: strict},
		{ID: "J10", Title: "Pennsylvania: SUD records leave to treat with consent, and not for payment or operations", Citation: "4 Pa. Code 255.5", Funcs: funcs("Pennsylvania"), Status: rule.Decides, Mark: rule.Known, Doubt: "The section lets payers have a few elements; since elements are not told apart, they get none, nor does a service organization"},
		{ID: "J11", Title: "From which age a minor consents alone; what the minor consented to goes neither to a parent nor out of the practice", Citation: "Cal. Fam. 6924, 6929; RCW 71.34.530; 405 ILCS 5/3-550; MHL 33.21; Tex. Fam. 32.004; Fla. Stat. 394.4784; 35 P.S. 10101.1", Funcs: funcs("MayConsentAlone", "OfAge"), Status: rule.Decides, Mark: rule.Known, Doubt: "Ages only; the flag on the encounter says that a statute's further conditions were met. A documented exception whose kind is for such care lets it out, to nobody's parent"},
		{ID: "J12", Title: "GDPR: a record whose processing is restricted is stored and not used, but with consent", Citation: "GDPR art. 18", Funcs: funcs("GDPR"), Status: rule.Computes, Mark: rule.Known, Doubt: "No record carries the flag yet; claims and important public interest (18(2)) are not told apart"},
		{ID: "J13", Title: "GDPR: requests are answered within a month, breaches reported within 72 hours", Citation: "GDPR art. 12(3), 33", Funcs: funcs("Deadlines"), Status: rule.Computes, Mark: rule.Known},
		{ID: "J14", Title: "A machine that drafts documentation is shown what the patient consented to, in writing, and no note of a session", Citation: "225 ILCS 155/15", Funcs: []string{"consent/law.Floor", "consent.Required"}, Status: rule.Decides, Mark: rule.Known, Doubt: "The statute is of Illinois, and about sessions that are recorded or transcribed; we ask everywhere, for all that is shown. That no note of a session is, is our decision"},
	}
}
