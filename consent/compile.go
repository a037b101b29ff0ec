package consent

import (
	"cmp"
	"slices"
	"time"

	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
)

// Code systems that a Consent is written in.
const (
	actCode       = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
	actReason     = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	consentAction = "http://terminology.hl7.org/CodeSystem/consentaction"
)

// Everyone is the recipient of a denial that names nobody. [Recipients] holds
// it for every caller; no permit names it.
const Everyone = "*"

// Result is what a Consent comes to.
type Result struct {
	Grants []Grant // in a fixed order, whatever the order in the Consent
	// Defects says why a Consent permits nothing, by element and citation;
	// nothing of the Consent's content is in it.
	Defects []string
}

// Compile turns a Consent into the disclosures that it permits or forbids.
//
// A permit is a written consent with every element of 42 CFR 2.31(a) whose whole
// meaning this version understands; otherwise it permits nothing and Defects says
// why. A Consent that forbids needs no form: what is not understood of it
// only widens it, up to everything ([Everyone], and the empty Program for every
// program). A Consent that is not active does neither (S8, S9).
func Compile(d Directive) Result {
	if d.Status != "active" {
		return Result{}
	}
	if d.Patient.Type != "Patient" || !d.Patient.ID.Valid() {
		return Result{Defects: []string{"42 CFR 2.31(a)(1): the patient is missing"}}
	}
	kinds := kindsOf(d)
	if len(kinds) == 0 {
		return Result{Defects: []string{"category: not a kind of consent that this version evaluates"}}
	}
	if effectOf(d) == Deny {
		return Result{Grants: denials(d, kinds[0])}
	}
	var defects []string
	if effectOf(d) != Permit {
		defects = append(defects, "provision.type: neither it nor policyRule (OPTIN, OPTOUT) says whether to permit or to deny")
	}
	if len(d.Malformed) > 0 {
		defects = append(defects, "the Consent could not be understood in full")
	}
	if len(kinds) > 1 || !kinds[0].Valid() {
		defects = append(defects, "category: a consent is of one kind (42 CFR 2.31(b)(2), (d))")
	}
	p := permit{d: d, kind: kinds[0]}
	defects = append(defects, p.compile()...)
	if len(defects) > 0 {
		return Result{Defects: defects}
	}
	return Result{Grants: p.grants()}
}

// kindsOf lists the kinds in the category, valid or not, sorted and distinct.
func kindsOf(d Directive) []part2.Kind {
	var out []part2.Kind
	for _, c := range d.Category {
		if c.System == fhir.ConsentKind {
			out = append(out, part2.Kind(c.Code))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// effectOf is the type of the root provision, else what policyRule says: R4 has
// no type at the root, yet many write it there.
func effectOf(d Directive) Effect {
	switch d.Root.Type {
	case "permit":
		return Permit
	case "deny":
		return Deny
	case "":
		switch {
		case slices.Contains(d.PolicyRule, Code{actCode, "OPTOUT"}):
			return Deny
		case slices.Contains(d.PolicyRule, Code{actCode, "OPTIN"}):
			return Permit
		}
	}
	return ""
}

// permit is a Consent on its way to grants.
type permit struct {
	d          Directive
	kind       part2.Kind
	programs   []fhir.ID
	recipients []string
	purposes   []string
	start      time.Time
}

// compile reads the elements and names the defects.
func (p *permit) compile() []string {
	d, root := p.d, p.d.Root
	p.programs = organizations(d)
	namesClass := false
	for _, a := range root.Actors {
		if !isRecipient(a) {
			continue
		}
		if r := named(a.Reference); r != "" {
			p.recipients = append(p.recipients, r)
		}
		if a.Identifier.System == fhir.RecipientClass {
			namesClass = true
			if purposeOf(a.Identifier.Code) != "" {
				p.recipients = append(p.recipients, class(a.Identifier.Code))
			}
		}
	}
	slices.Sort(p.recipients)
	p.recipients = slices.Compact(p.recipients)

	understood := true
	for _, c := range root.Purposes {
		p.purposes = append(p.purposes, c.Code)
		understood = understood && c.System == actReason && (p.kind == part2.TPO || part2.Consentable(c.Code))
	}
	slices.Sort(p.purposes)
	p.purposes = slices.Compact(p.purposes)
	purpose := understood && len(p.purposes) > 0
	if p.kind == part2.TPO {
		purpose = understood && part2.IsTPO(p.purposes)
	}

	// It is no consent before it is signed.
	p.start = d.DateTime
	if root.Period.Start.After(p.start) {
		p.start = root.Period.Start
	}

	defects := part2.Missing(p.kind, part2.Written{
		Patient:     true,
		Discloser:   len(p.programs) > 0,
		Description: wholeRecord(root),
		Recipient:   len(p.recipients) > 0,
		Purpose:     purpose,
		Statements:  d.Source,
		Expiry:      !root.Period.End.IsZero(),
		Signature: slices.ContainsFunc(d.Performers, func(r fhir.Ref) bool {
			return part2.MayConsent(d.Patient.String(), r.String())
		}),
		Date: !d.DateTime.IsZero(),
	})
	if namesClass && p.kind != part2.TPO {
		defects = append(defects, "42 CFR 2.31(a)(4)(i): only a consent for treatment, payment and operations names a class of recipients")
	}
	if !permitsDisclosure(root.Actions) {
		defects = append(defects, "provision.action: it does not permit to disclose")
	}
	if !root.Period.End.IsZero() && !p.start.Before(root.Period.End) {
		defects = append(defects, "provision.period: it ends before it starts")
	}
	return defects
}

// grants is every program to every recipient. A class of recipients has the
// one purpose for which the class is named.
func (p *permit) grants() []Grant {
	var out []Grant
	for _, program := range p.programs {
		for _, r := range p.recipients {
			purposes := slices.Clone(p.purposes)
			if one := purposeOf(classCode(r)); one != "" {
				purposes = []string{one}
			}
			out = append(out, Grant{
				Kind: string(p.kind), Effect: Permit, Patient: p.d.Patient.ID, Program: program,
				Recipient: r, Purposes: purposes, Start: p.start, End: p.d.Root.Period.End,
			})
		}
	}
	return out
}

// apart are purposes that no consent covers: to forbid one forbids nothing else.
var apart = []string{"BTG", "ETREAT", "HLEGAL", "HMARKT", "HRESCH", "PUBHLTH"}

// denials is what a Consent forbids: at least what it says.
func denials(d Directive, kind part2.Kind) []Grant {
	programs := organizations(d)
	var recipients, purposes []string
	period := d.Root.Period
	for _, a := range d.Root.Actors {
		switch r := named(a.Reference); {
		case r != "":
			recipients = append(recipients, r)
		case a.Identifier.System == fhir.RecipientClass && purposeOf(a.Identifier.Code) != "":
			recipients = append(recipients, class(a.Identifier.Code))
		default:
			recipients = append(recipients, Everyone)
		}
	}
	for _, c := range d.Root.Purposes {
		if c.System != actReason || !part2.Consentable(c.Code) && !slices.Contains(apart, c.Code) {
			purposes = nil
			break
		}
		purposes = append(purposes, c.Code)
	}
	if len(programs) == 0 || len(programs) < len(d.Organizations) {
		programs = []fhir.ID{""}
	}
	if len(d.Malformed) > 0 {
		programs, recipients, purposes, period = []fhir.ID{""}, nil, nil, Period{}
	}
	if len(recipients) == 0 || slices.Contains(recipients, Everyone) {
		recipients = []string{Everyone}
	}
	if len(purposes) == 0 {
		purposes = part2.ConsentablePurposes()
	}
	slices.Sort(recipients)
	slices.Sort(purposes)
	recipients, purposes = slices.Compact(recipients), slices.Compact(purposes)
	var out []Grant
	for _, program := range programs {
		for _, r := range recipients {
			out = append(out, Grant{Kind: string(kind), Effect: Deny, Patient: d.Patient.ID, Program: program,
				Recipient: r, Purposes: slices.Clone(purposes), Start: period.Start, End: period.End})
		}
	}
	return out
}

// organizations are the programs whose records the Consent is about, sorted and distinct.
func organizations(d Directive) []fhir.ID {
	var out []fhir.ID
	for _, o := range d.Organizations {
		if o.Type == "Organization" && o.ID.Valid() {
			out = append(out, o.ID)
		}
	}
	slices.SortFunc(out, func(a, b fhir.ID) int { return cmp.Compare(a, b) })
	return slices.Compact(out)
}

// named is the recipient string of an organization or a practitioner, or "".
func named(r fhir.Ref) string {
	if (r.Type == "Organization" || r.Type == "Practitioner") && r.ID.Valid() {
		return r.String()
	}
	return ""
}

// isRecipient: an actor takes part in a disclosure as its recipient, or holds
// the records, or ...; only the first is meant here.
func isRecipient(a Actor) bool {
	return slices.ContainsFunc(a.Role, func(c Code) bool {
		return c.System == participation && (c.Code == "IRCP" || c.Code == "PRCP")
	})
}

// wholeRecord reports whether a provision is about all records of the program:
// what narrows it further this version cannot evaluate.
func wholeRecord(p Provision) bool {
	for _, l := range p.SecurityLabels {
		if l != (Code{actCode, "42CFRPart2"}) {
			return false
		}
	}
	return len(p.Nested) == 0 && len(p.Classes) == 0 && len(p.Codes) == 0 && p.Data == 0 && p.DataPeriod == (Period{})
}

func permitsDisclosure(actions []Code) bool {
	return len(actions) == 0 || slices.ContainsFunc(actions, func(c Code) bool {
		return c.System == consentAction && (c.Code == "disclose" || c.Code == "access")
	})
}
