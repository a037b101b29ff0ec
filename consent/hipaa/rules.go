package hipaa

import "github.com/cloister-health/cloister/consent/rule"

func funcs(names ...string) []string {
	for i := range names {
		names[i] = "consent/hipaa." + names[i]
	}
	return names
}

// Rules lists P1 to P21 and H1 to H10.
func Rules() []rule.Rule {
	const notes = "45 CFR 164.508(a)(2)"
	return []rule.Rule{
		{ID: "P1", Title: "Prescriptions, session times, modalities, results of tests and the summary of diagnosis, plan and progress are no psychotherapy note", Citation: "45 CFR 164.501", Funcs: append(funcs("Excluded", "IsPsychotherapyNote"), "authz/label.NoteFaults"), Status: rule.Decides, Mark: rule.Read},
		{ID: "P2", Title: "A note that is kept in the general record is ordinary health information", Citation: "45 CFR 164.501", Funcs: funcs("IsPsychotherapyNote"), Status: rule.Decides, Mark: rule.Read, Doubt: "Separate is read as: in a database schema of its own, on which the role that serves everything else has no right"},
		{ID: "P3", Title: "Only a mental health professional writes psychotherapy notes", Citation: "45 CFR 164.501", Funcs: funcs("IsPsychotherapyNote"), Status: rule.Decides, Mark: rule.Read, Doubt: "Who is a mental health professional is read off the role; an SUD counselor is none here"},
		{ID: "P4", Title: "Nobody uses a psychotherapy note without an authorization, whatever the purpose, but by the exceptions", Citation: notes, Funcs: funcs("NoteRule"), Status: rule.Decides, Mark: rule.Read},
		{ID: "P5", Title: "The originator uses the note for treatment", Citation: notes + "(i)(A)", Funcs: funcs("MayUsePsychotherapyNote"), Status: rule.Decides, Mark: rule.Read},
		{ID: "P6", Title: "The entity's own supervised training program in mental health uses it", Citation: notes + "(i)(B)", Funcs: append(funcs("ForTraining"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Read, Doubt: "A supervisor of the treating clinician counts as part of the program, for the purpose TRAIN only"},
		{ID: "P7", Title: "The entity defends itself in a proceeding that the individual brought", Citation: notes + "(i)(C)", Funcs: append(funcs("ForDefense"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Read},
		{ID: "P8", Title: "The Secretary investigates compliance", Citation: notes + "(ii), 164.502(a)(2)(ii)", Funcs: append(funcs("ForSecretary"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Read},
		{ID: "P9", Title: "A law requires the disclosure, and no more than it requires is disclosed", Citation: "45 CFR 164.512(a)", Funcs: append(funcs("RequiredByLaw"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Read, Doubt: "Whether a law requires it, and how much, is for whoever documents the exception"},
		{ID: "P10", Title: "Health oversight of the note's originator, and of nobody else", Citation: "45 CFR 164.512(d)", Funcs: append(funcs("ForOversight"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Read},
		{ID: "P11", Title: "Coroners and medical examiners, not funeral directors", Citation: "45 CFR 164.512(g)(1)", Funcs: append(funcs("ForExaminer"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Known},
		{ID: "P12", Title: "A serious and imminent threat, to somebody able to prevent it", Citation: "45 CFR 164.512(j)(1)(i)", Funcs: append(funcs("AgainstThreat"), "consent/exception.Faults"), Status: rule.Decides, Mark: rule.Known},
		{ID: "P13", Title: "Nothing else is an exception: no public health, research, law enforcement, subpoena, workers' compensation, organ donation, fundraising, marketing", Citation: notes, Funcs: funcs("NoteException"), Status: rule.Decides, Mark: rule.Read},
		{ID: "P14", Title: "An authorization for psychotherapy notes that is combined with any other is invalid", Citation: "45 CFR 164.508(b)(3)(ii)", Funcs: append(funcs("AuthorizationStandsAlone"), "consent.Compile"), Status: rule.Decides, Mark: rule.Known},
		{ID: "P15", Title: "Treatment, payment and enrolment do not depend on an authorization for psychotherapy notes", Citation: "45 CFR 164.508(b)(4)", Funcs: funcs("MayCondition"), Status: rule.Computes, Mark: rule.Known, Doubt: "Research-related treatment may depend on an authorization for that research; for psychotherapy notes we refuse that, too"},
		{ID: "P16", Title: "An authorization that lacks an element or statement, has expired, was revoked or is known to be false is invalid", Citation: "45 CFR 164.508(b)(2), (c)", Funcs: append(funcs("AuthorizationFaults"), "consent.Compile"), Status: rule.Decides, Mark: rule.Known},
		{ID: "P17", Title: "The patient has no right of access to psychotherapy notes, and to everything else", Citation: "45 CFR 164.524(a)(1)(i)", Funcs: funcs("RightOfAccess"), Status: rule.Decides, Mark: rule.Known},
		{ID: "P18", Title: "Psychotherapy notes are in no export of electronic health information", Citation: "45 CFR 171.102", Funcs: funcs("InExport"), Status: rule.Computes, Mark: rule.Known},
		{ID: "P19", Title: "No emergency opens a psychotherapy note", Citation: notes, Funcs: funcs("Emergency", "NoteRule"), Status: rule.Decides, Mark: rule.Known, Doubt: "Inferred from the list of exceptions, which has no emergency; P9 and P12 remain, under purposes of their own"},
		{ID: "P20", Title: "Analyses and bulk exports have no psychotherapy notes", Citation: "45 CFR 164.508(a)(2)", Funcs: funcs("InExport"), Status: rule.Decides, Mark: rule.Ours},
		{ID: "P21", Title: "That a note exists, who wrote it and when is hidden from whom the note is denied", Citation: "HL7 DS4P", Funcs: funcs("MayKnow"), Status: rule.Decides, Mark: rule.Ours},

		{ID: "H1", Title: "Accounting of disclosures: which count, for six years, within 60 days, the first of a year free", Citation: "45 CFR 164.528", Funcs: funcs("Accountable", "AccountingSince", "AccountingDue", "AccountingFree"), Status: rule.Decides, Mark: rule.Known},
		{ID: "H2", Title: "Access by the patient within 30 days, and 30 more once", Citation: "45 CFR 164.524(b)(2)", Funcs: funcs("AccessDue"), Status: rule.Computes, Mark: rule.Known},
		{ID: "H3", Title: "A restriction that was agreed to binds; what was paid for in full is kept from the plan that asks", Citation: "45 CFR 164.522(a)", Funcs: append(funcs("MustAgree", "RestrictionBars"), "consent.Compile", "consent.Evaluate"), Status: rule.Decides, Mark: rule.Known, Doubt: "Nobody knows of an Organization whether it is a plan: each that a restriction names counts as one, and where none is named, whatever is for payment is kept. That it was paid is what the form says, until the practice rejects it"},
		{ID: "H4", Title: "The minimum necessary, but for treatment, the individual, authorizations, the Secretary and the law", Citation: "45 CFR 164.502(b)", Funcs: funcs("MinimumNecessary"), Status: rule.Decides, Mark: rule.Known, Doubt: "The policy narrows types and labels by role and purpose; it does not narrow elements"},
		{ID: "H5", Title: "Who acts for the individual is treated as the individual, but where a minor consented alone or it endangers", Citation: "45 CFR 164.502(g)", Funcs: funcs("IsRepresentative"), Status: rule.Decides, Mark: rule.Known},
		{ID: "H6", Title: "Technical safeguards: which are required and which addressable", Citation: "45 CFR 164.312", Funcs: funcs("Safeguards"), Status: rule.Computes, Mark: rule.Known},
		{ID: "H7", Title: "Proposed changes to the Security Rule (90 FR 898)", Citation: "90 FR 898", Status: rule.Outside, Mark: rule.Read, Doubt: "It is only proposed, and is about the operation of a system"},
		{ID: "H8", Title: "Breach notices: to whom, and until when", Citation: "45 CFR 164.400-414", Funcs: funcs("BreachNotices"), Status: rule.Computes, Mark: rule.Read, Doubt: "More than 500 residents of one state for the media, 500 or more individuals for the Secretary's early notice"},
		{ID: "H9", Title: "Documents are kept six years", Citation: "45 CFR 164.316(b)(2), 164.530(j)", Funcs: funcs("KeepUntil"), Status: rule.Computes, Mark: rule.Known},
		{ID: "H10", Title: "The attestation of the vacated reproductive health rule is asked of nobody", Citation: "Purl v. HHS (N.D. Tex. 2025)", Status: rule.Outside, Mark: rule.Known, Doubt: "The rule is vacated, so there is nothing to decide; state law is a plug-in (J rules)"},
	}
}
