package pdp

import (
	"errors"
	"fmt"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// never is a class of questions to which every policy of this house says no,
// even where all facts but the withheld ones hold.
type never struct {
	why      string
	roles    []string // each is asked alone
	purposes []string
	actions  []authz.Action
	types    []fhir.ResourceType
	labels   []label.Set
	withheld authz.Fact
}

func nevers() []never {
	var people, notClinicians, notOfficers, notInProceedings []string
	for _, r := range roles {
		switch r {
		case "court", "law-enforcement", "privacy-officer":
		default:
			notInProceedings = append(notInProceedings, r)
		}
		if r == Operator {
			continue
		}
		people = append(people, r)
		if r != "privacy-officer" {
			notOfficers = append(notOfficers, r)
		}
		switch r {
		case "therapist", "psychiatrist", "trainee", "supervisor", "sud-counselor":
		default:
			notClinicians = append(notClinicians, r)
		}
	}
	outsiders := []string{"service-organization", "auditor", "coroner", "law-enforcement", "court", "public-health"}
	usual := []string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT", "HRESCH"}
	read := []authz.Action{authz.ActionRead}
	notes := []label.Set{label.PsychNote, label.CounselingNote, label.CounselingNote | label.Part2}
	documents := []fhir.ResourceType{"DocumentReference"}
	some := []fhir.ResourceType{"Patient", "Condition", "DocumentReference"}
	return []never{
		{"a note of a session is its originator's (45 CFR 164.508(a)(2), 42 CFR 2.31(b))",
			people, usual, []authz.Action{authz.ActionRead, authz.ActionUpdate}, documents, notes, authz.Originator | authz.Consent | authz.Exception},
		{"a note of a session is a clinician's (45 CFR 164.501)",
			notClinicians, usual, read, documents, notes, authz.Consent | authz.Exception},
		{"a note of a session has no emergency exception (45 CFR 164.508(a)(2))",
			people, []string{"ETREAT", "BTG"}, read, documents, notes, 0},
		{"without a documented exception a note of a session is for treatment (45 CFR 164.508(a)(2))",
			people, []string{"HLEGAL", "TRAIN", "HCOMPL", "HDECD", "THREAT", "LEGAL", "PUBHLTH"}, read, documents, notes, authz.Consent | authz.Exception},
		{"who asks from outside the practice needs an exception or an agreement (42 CFR 2.13, 2.61, 45 CFR 164.512)",
			outsiders, []string{"TREAT", "HPAYMT", "HOPERAT", "LEGAL", "HLEGAL", "HCOMPL", "HDECD", "THREAT", "PUBHLTH"}, read, some, []label.Set{0, label.PSY}, authz.Exception | authz.Agreement},
		{"with a Part 2 record likewise, but for a proceeding to which the patient consented (42 CFR 2.31(d))",
			outsiders, []string{"TREAT", "HPAYMT", "HOPERAT", "HCOMPL", "HDECD", "THREAT", "PUBHLTH"}, read, some, []label.Set{label.Part2}, authz.Exception | authz.Agreement},
		{"a Part 2 record reaches a proceeding with the patient's consent to that, or an order (42 CFR 2.12(d)(1), 2.31(d))",
			people, []string{"LEGAL", "HLEGAL"}, read, []fhir.ResourceType{"Condition"}, []label.Set{label.Part2, label.Received}, authz.Exception | authz.Consent},
		{"software is shown what the patient consented to (225 ILCS 155/15)",
			[]string{authz.Assistant}, []string{"TREAT", "HOPERAT", "ETREAT"}, []authz.Action{authz.ActionRead, authz.ActionCreate}, some, []label.Set{0, label.Part2}, authz.Consent},
		{"software is shown no note of a session",
			[]string{authz.Assistant}, []string{"TREAT", "TRAIN", "HLEGAL"}, read, documents, notes, 0},
		{"that there was an emergency is the privacy officer's to know",
			notOfficers, append([]string{"ETREAT", "BTG"}, usual...), []authz.Action{authz.ActionRead, authz.ActionUpdate}, []fhir.ResourceType{"Task", "Communication"}, []label.Set{label.Oversight}, 0},
		{"an emergency is declared, not assumed (42 CFR 2.51)",
			people, []string{"ETREAT", "BTG"}, read, []fhir.ResourceType{"Condition", "Patient"}, []label.Set{0, label.Part2, label.MinorConsented}, authz.Emergency},
		{"a Part 2 record needs program, consent or self (42 CFR 2.13)",
			people, usual, read, []fhir.ResourceType{"Condition", "Patient"}, []label.Set{label.Part2, label.Part2 | label.SUD},
			authz.Program | authz.Consent | authz.Self | authz.Emergency | authz.Exception | authz.Agreement},
		{"a Part 2 record is not for proceedings, whatever the consent, but for those who may be named in one to that (42 CFR 2.12(d)(1), 2.31(d))",
			notInProceedings, []string{"HLEGAL", "LEGAL"}, read, []fhir.ResourceType{"Condition"}, []label.Set{label.Part2}, authz.Exception},
		{"what a minor consented to is not the parent's (42 CFR 2.14)",
			[]string{"proxy"}, usual, read, []fhir.ResourceType{"Encounter"}, []label.Set{label.MinorConsented, label.Part2}, authz.Self | authz.Consent},
		{"a restriction binds whoever it names (45 CFR 164.522(a), 42 CFR 2.26)",
			[]string{"therapist", "psychiatrist", "biller", "front-desk", "hie", "proxy"}, usual, read, []fhir.ResourceType{"Condition", "Patient", "Coverage"}, []label.Set{0, label.PSY, label.Part2},
			authz.Unrestricted},
		{"a patient has no right of access to notes of sessions (45 CFR 164.524(a)(1)(i))",
			[]string{"patient", "proxy"}, []string{"PATRQT"}, read, documents, notes, 0},
		{"a clinical record is not for the front desk (45 CFR 164.502(b))",
			[]string{"front-desk"}, usual, read, []fhir.ResourceType{"Condition", "DocumentReference"}, []label.Set{0, label.PSY}, 0},
		{"a clinical record is for research with a documented basis (42 CFR 2.52, 45 CFR 164.512(i))",
			[]string{"research-analyst"}, usual, read, []fhir.ResourceType{"Condition", "Patient"}, []label.Set{0, label.PSY}, authz.Exception},
		{"a Part 2 record is for research with a documented basis, or the patient's consent (42 CFR 2.31, 2.52)",
			[]string{"research-analyst"}, usual, read, []fhir.ResourceType{"Condition", "Patient"}, []label.Set{label.Part2}, authz.Exception | authz.Consent},
		{"a consent to research is for nothing else",
			[]string{"research-analyst"}, []string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT"}, read, []fhir.ResourceType{"Condition", "Patient"}, []label.Set{0, label.Part2}, authz.Exception},
		{"that something of a program, a note or a minor's own care is left out is told to nobody (42 CFR 2.13(c), 2.14)",
			[]string{"therapist", "front-desk", "biller", "privacy-officer"}, []string{"TREAT", "HPAYMT", "HOPERAT"}, []authz.Action{authz.ActionMask}, []fhir.ResourceType{"Encounter"},
			[]label.Set{label.Part2, label.Part2 | label.SUD, label.Received, label.PsychNote, label.CounselingNote, label.MinorConsented, label.Oversight}, 0},
		{"that something is left out is told to the practice's own people alone",
			append([]string{"hie", "patient", "proxy", "research-analyst"}, outsiders...), []string{"TREAT", "PATRQT", "LEGAL"}, []authz.Action{authz.ActionMask}, []fhir.ResourceType{"Encounter"},
			[]label.Set{label.HIV}, 0},
		{"that somebody is a patient of a program is not told by a Group (42 CFR 2.13(c))",
			[]string{"hie"}, []string{"TREAT", "HOPERAT"}, read, []fhir.ResourceType{"Group"}, []label.Set{label.Part2, label.Part2 | label.SUD}, 0},
		{"the server's own records are nobody's",
			roles, []string{"HSYSADMIN", "TREAT", "HOPERAT"}, []authz.Action{authz.ActionRead, authz.ActionCreate}, []fhir.ResourceType{"AuditEvent", "Subscription"}, []label.Set{0}, 0},
		{"the operator's purpose is the operator's",
			people, []string{"HSYSADMIN"}, read, []fhir.ResourceType{"Condition", "Organization"}, []label.Set{0}, 0},
	}
}

// selfTest asks what must be denied before a policy comes into force.
func (p *policy) selfTest() error {
	var errs []error
	ask := func(why string, q authz.Question, f authz.Fact) {
		permit := false
		q, ok := normal(q)
		if ok {
			var err error
			if permit, err = p.enforce(q, f); err != nil {
				errs = append(errs, err)
				return
			}
		}
		if permit {
			errs = append(errs, fmt.Errorf("pdp: self-test: %v may %s %s labelled %s for %s with %s: %s",
				q.Roles, q.Action, q.Type, q.Labels, q.Purpose, factNames(f), why))
		}
	}
	for _, n := range nevers() {
		for _, r := range n.roles {
			for _, u := range n.purposes {
				for _, a := range n.actions {
					for _, t := range n.types {
						for _, l := range n.labels {
							ask(n.why, authz.Question{Roles: []string{r}, Purpose: u, Action: a, Type: t, Labels: l}, allFacts&^n.withheld)
						}
					}
				}
			}
		}
	}
	open := authz.Question{Roles: []string{"therapist"}, Purpose: "TREAT", Action: authz.ActionRead, Type: "Organization"}
	for _, broken := range []func(*authz.Question){
		func(q *authz.Question) { q.Roles = nil },
		func(q *authz.Question) { q.Roles = []string{"nobody"} },
		func(q *authz.Question) { q.Purpose = "" },
		func(q *authz.Question) { q.Purpose = "NONE" },
		func(q *authz.Question) { q.Action = "" },
		func(q *authz.Question) { q.Type = "Nothing" },
		func(q *authz.Question) { q.Labels = 1 << 31 },
	} {
		q := open
		broken(&q)
		ask("the question is not one", q, allFacts)
	}
	return errors.Join(errs...)
}
