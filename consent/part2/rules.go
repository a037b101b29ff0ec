package part2

import "github.com/cloister-health/cloister/consent/rule"

func funcs(names ...string) []string {
	for i := range names {
		names[i] = "consent/part2." + names[i]
	}
	return names
}

// Rules lists S1 to S43.
func Rules() []rule.Rule {
	return []rule.Rule{
		{ID: "S1", Title: "Who is a program: holds itself out, or has a unit or staff for it, and is federally assisted", Citation: "42 CFR 2.11, 2.12(b), (e)", Funcs: funcs("IsProgram"), Status: rule.Computes, Mark: rule.Read, Doubt: "Which Organization is a program is said by its type, part2-program; no one derives it from assistance"},
		{ID: "S2", Title: "What another provider writes down about substance use is no record of part 2", Citation: "42 CFR 2.12(d)(2)(ii)", Funcs: funcs("IsRecord"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S3", Title: "What was received under a consent for treatment, payment and operations need not be kept apart, and has to remain known", Citation: "42 CFR 2.12(d)(2)(i)(C)", Funcs: funcs("MustSegregate", "MustIdentify"), Status: rule.Decides, Mark: rule.Read, Doubt: "We keep such records apart all the same"},
		{ID: "S4", Title: "That somebody is a patient of a program is told only where the record may be disclosed; otherwise the answer is that to an unknown patient", Citation: "42 CFR 2.13(c)", Funcs: funcs("MayAcknowledge"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S5", Title: "No more than the purpose needs", Citation: "42 CFR 2.13(a)", Funcs: funcs("Necessary"), Status: rule.Decides, Mark: rule.Known, Doubt: "Needed is what the policy lets role and purpose see: types and labels, not elements"},
		{ID: "S6", Title: "Nothing in a proceeding against the patient, whoever holds it, but with consent to that alone or an order and a subpoena", Citation: "42 CFR 2.12(d)(1), 2.33(b)(1)", Funcs: funcs("Proceeding", "ProceedingPermits"), Status: rule.Decides, Mark: rule.Read, Doubt: "The purposes HLEGAL and LEGAL stand for every proceeding, also those that are not against the patient"},
		{ID: "S7", Title: "What a written consent has to say; without one element it is none", Citation: "42 CFR 2.31(a)", Funcs: funcs("Missing", "ParticipantCovered"), Status: rule.Decides, Mark: rule.Read, Doubt: "That the statements are in the form is taken from its being there"},
		{ID: "S8", Title: "A consent that expired, was revoked, is known to be false or is deficient is none", Citation: "42 CFR 2.31(c)", Funcs: funcs("InForce", "Holds"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S9", Title: "A revocation counts from its moment on; reliance before is not undone", Citation: "42 CFR 2.31(a)(6), 2.33(a)(2)", Funcs: funcs("Revoked"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S10", Title: "What an SUD counseling note is; its originator uses it for treatment", Citation: "42 CFR 2.11", Funcs: funcs("IsCounselingNote", "CounselingRule"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S11", Title: "Nobody else uses SUD counseling notes without consent to that alone, but training, defense and oversight of the originator; no emergency", Citation: "42 CFR 2.31(b)(1)", Funcs: funcs("CounselingRule"), Status: rule.Decides, Mark: rule.Known, Doubt: "The list of exceptions in 2.31(b)(1)(ii) was read in part; what we do not know of it is denied"},
		{ID: "S12", Title: "A consent for SUD counseling notes is combined with nothing else, and nothing depends on it", Citation: "42 CFR 2.31(b)(2)", Funcs: append(funcs("StandsAlone", "MayCondition"), "consent.Compile"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S13", Title: "A consent for proceedings is combined with nothing else", Citation: "42 CFR 2.31(d)", Funcs: append(funcs("StandsAlone"), "consent.Compile"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S14", Title: "A specific consent permits its recipients its information for its purposes", Citation: "42 CFR 2.33(a)(1)", Funcs: funcs("SpecificPermits", "Consentable"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S15", Title: "A consent for treatment, payment and operations permits programs, covered entities and business associates, until it is revoked", Citation: "42 CFR 2.33(a)(2)", Funcs: funcs("TPOPermits", "IsTPO"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S16", Title: "A covered entity or business associate passes on as HIPAA permits", Citation: "42 CFR 2.33(b)(1)", Funcs: funcs("MayRedisclose"), Status: rule.Computes, Mark: rule.Read, Doubt: "We ask for the patient's consent again for records that carry the label, which is stricter"},
		{ID: "S17", Title: "A program that is no covered entity passes on within the consent", Citation: "42 CFR 2.33(b)(2)", Funcs: funcs("MayRedisclose"), Status: rule.Computes, Mark: rule.Read},
		{ID: "S18", Title: "Another lawful holder passes on to its contractors, for payment and operations, under contract", Citation: "42 CFR 2.33(b)(3), (c)", Funcs: funcs("MayRedisclose"), Status: rule.Computes, Mark: rule.Read},
		{ID: "S19", Title: "A disclosure with consent carries the notice and the consent or an explanation of it", Citation: "42 CFR 2.32", Funcs: append(funcs("Obligations"), "authz/obligation.Of"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S20", Title: "The words of the notice; none where nothing of part 2 is disclosed with consent", Citation: "42 CFR 2.32(a)", Funcs: append(funcs("NoticeText"), "authz/obligation.Of"), Status: rule.Decides, Mark: rule.Known, Doubt: "The second half of the long statement is from general knowledge"},
		{ID: "S21", Title: "Those who hold for a program do so as service organizations or intermediaries", Citation: "42 CFR 2.11", Funcs: funcs("ServicePermits", "IsIntermediary"), Status: rule.Computes, Mark: rule.Known},
		{ID: "S22", Title: "A service organization and its program exchange records under a written agreement, and only the two", Citation: "42 CFR 2.11, 2.12(c)(4)", Funcs: funcs("ServicePermits", "MayRedisclose"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S23", Title: "Who is an intermediary; its list of disclosures covers three years and is due in 30 days", Citation: "42 CFR 2.11, 2.24", Funcs: funcs("IsIntermediary", "IntermediaryList"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S24", Title: "Disclosures with consent of the last three years are accounted for", Citation: "42 CFR 2.25", Funcs: funcs("Accounted"), Status: rule.Decides, Mark: rule.Read, Doubt: "Compliance waits for HHS's rule on accounting"},
		{ID: "S25", Title: "A restriction that was agreed to binds, but in an emergency; what was paid for in full is kept from the plan", Citation: "42 CFR 2.26", Funcs: append(funcs("RestrictionBinds"), "consent.Compile", "consent.Evaluate"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S26", Title: "The patient sees the own record without a consent", Citation: "42 CFR 2.23", Funcs: funcs("BasisOf"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S27", Title: "Where a minor consents to treatment alone, only the minor consents to disclosure, to a parent too", Citation: "42 CFR 2.14(b)", Funcs: funcs("MayConsent", "MinorConsents"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S28", Title: "Where a parent has to consent, both sign; the application is told to the parent with the minor's consent", Citation: "42 CFR 2.14(c)", Funcs: append(funcs("MinorConsents", "ApplicationToParent"), "consent.Compile"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S29", Title: "To reduce a substantial threat, a parent may be told of a minor who cannot decide", Citation: "42 CFR 2.14(c)", Funcs: funcs("ApplicationToParent"), Status: rule.Computes, Mark: rule.Read},
		{ID: "S30", Title: "Who signs for a patient who was adjudicated, cannot act, or died", Citation: "42 CFR 2.15", Funcs: append(funcs("MaySign"), "consent.Compile"), Status: rule.Decides, Mark: rule.Known, Doubt: "The exception for vital statistics is for whoever reports a death"},
		{ID: "S31", Title: "The breach rule of HIPAA holds for a program's unsecured records", Citation: "42 CFR 2.16(b)", Funcs: funcs("BreachRuleApplies"), Status: rule.Computes, Mark: rule.Read},
		{ID: "S32", Title: "Formal policies on security, sanitizing and de-identification", Citation: "42 CFR 2.16(a)", Status: rule.Outside, Mark: rule.Known, Doubt: "Policies of an organization, written by people; what of it is about de-identified data is in the D rules"},
		{ID: "S33", Title: "A bona fide medical emergency opens what is needed to medical personnel, documented at once", Citation: "42 CFR 2.51(a), (c)", Funcs: append(funcs("EmergencyPermits", "EmergencyRecord"), "consent/exception.Emergency"), Status: rule.Decides, Mark: rule.Read, Doubt: "Whether consent could have been obtained is declared by who opens the record"},
		{ID: "S34", Title: "Medical personnel of the FDA, about an error in a product", Citation: "42 CFR 2.51(b)", Funcs: append(funcs("ToFDA"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Read},
		{ID: "S35", Title: "Research on the basis that HIPAA or the Common Rule asks for", Citation: "42 CFR 2.52", Funcs: append(funcs("ForResearch", "ForStudy"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S36", Title: "Audit and evaluation, under a written agreement", Citation: "42 CFR 2.53", Funcs: append(funcs("ForAudit"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S37", Title: "Public health gets de-identified records only", Citation: "42 CFR 2.54", Funcs: funcs("ToPublicHealth"), Status: rule.Computes, Mark: rule.Known},
		{ID: "S38", Title: "Within the program, and to who has direct administrative control of it", Citation: "42 CFR 2.12(c)(3)", Funcs: funcs("MayDisclose", "BasisOf"), Status: rule.Decides, Mark: rule.Known, Doubt: "Working for the program is taken from the token's organizations"},
		{ID: "S39", Title: "What may be told of a crime on the premises, and the first report of suspected child abuse", Citation: "42 CFR 2.12(c)(5), (6)", Funcs: append(funcs("AboutCrime", "AboutChildAbuse"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S40", Title: "Registries, referrals by criminal justice and prescription monitoring need a consent with terms of their own", Citation: "42 CFR 2.34-2.36", Funcs: funcs("NeedsOwnConsent", "RegistryPermits"), Status: rule.Computes, Mark: rule.Known},
		{ID: "S41", Title: "A court order permits with a subpoena, within its scope; neither does alone", Citation: "42 CFR 2.61-2.67", Funcs: append(funcs("OrderPermits"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Known, Doubt: "The criteria of each section are for the court; we ask only that it found them"},
		{ID: "S42", Title: "A request of law enforcement without that is denied, and does not learn whether there is a patient", Citation: "42 CFR 2.13(c), 2.61", Funcs: funcs("LawEnforcement", "BasisOf"), Status: rule.Decides, Mark: rule.Known},
		{ID: "S43", Title: "Notice to patients", Citation: "42 CFR 2.22, 45 CFR 164.520", Status: rule.Outside, Mark: rule.Read, Doubt: "A document that a practice gives out"},
	}
}
