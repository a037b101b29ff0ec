package consent

import (
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/consent/hipaa"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
)

// intermediary is the role of the actor that is an intermediary (42 CFR 2.11).
var intermediary = Code{fhir.ConsentActorRole, "intermediary"}

// Statements of a form, codes of fhir.ConsentStatement, in policyRule or as
// policy.uri ("system#code").
const (
	saysRevocation   = "revocation"
	saysConditioning = "conditioning"
	saysRedisclosure = "redisclosure"
	saysRemuneration = "remuneration"
	paidInFull       = "paid-in-full"
	endsWithCare     = "expires-end-of-treatment"
	endsNever        = "expires-none"
	endsWithStudy    = "expires-end-of-study"
	authority        = "authority-" // parent, guardian or executor
	needsParent      = "needs-parent"
	needsWitness     = "needs-witness"
	witnessed        = "witnessed"
)

// states reports whether a statement is coded in the Consent.
func (d Directive) states(code string) bool {
	return slices.Contains(d.PolicyRule, Code{fhir.ConsentStatement, code}) ||
		slices.Contains(d.Policies, fhir.ConsentStatement+"#"+code)
}

// form is what of a Consent the law on its kind looks at.
type form struct {
	statements struct{ revocation, conditioning, redisclosure, remuneration bool }
	expiry     bool
	event      string // an expiry that is no date
	signed     part2.Signatures
	recipients bool // every permit names some
	classes    bool // some permit names nobody but by class
	purposes   bool // every permit names some
	listed     [][]string
}

// law adds what keeps the permits of the Consent from being a consent in law.
func (c *compiler) law() {
	if faults := combined(c.kinds); len(faults) > 0 {
		for _, f := range faults {
			c.defect(f)
		}
		return
	}
	f := c.form()
	var faults []string
	switch c.kind {
	case Restriction, OptOut, General:
		return
	case Authorization, Psychotherapy:
		faults = hipaa.AuthorizationFaults(f.authorization(c.d), time.Time{})
	case AIDocumentation:
		faults = f.machine(c.d)
	default:
		faults = f.part2(c.d, c.kind)
	}
	if c.kind == Part2Intermediary {
		faults = append(faults, c.intermediary()...)
	}
	if c.kind == MinorDisclosure && !c.toRelated() {
		faults = append(faults, "42 CFR 2.14(b): the recipient is not a RelatedPerson")
	}
	for _, x := range append(faults, unsigned(c.d)...) {
		c.defect(x)
	}
	for _, g := range c.grants {
		if g.Effect == Permit && !g.Period.End.IsZero() && !g.Period.Start.Before(g.Period.End) {
			c.defect("provision.period: it ends before it starts")
		}
	}
}

// combined says which kinds cannot be in one document.
func combined(list []Kind) (out []string) {
	if len(list) < 2 {
		if len(list) == 1 && list[0] == General {
			out = append(out, "category: not a kind of consent that is evaluated")
		}
		return out
	}
	names := make([]string, len(list))
	for i, k := range list {
		names[i] = string(k)
	}
	if slices.Contains(list, Psychotherapy) && !hipaa.AuthorizationStandsAlone(names, func(k string) bool { return Kind(k) == Psychotherapy }) {
		out = append(out, "category: an authorization for psychotherapy notes is combined with another (45 CFR 164.508(b)(3)(ii))")
	}
	if slices.Contains(list, Part2SUDCN) {
		out = append(out, "category: a consent for SUD counseling notes is combined with another (42 CFR 2.31(b)(2))")
	}
	if slices.Contains(list, Part2Legal) {
		out = append(out, "category: a consent for proceedings is combined with another (42 CFR 2.31(d))")
	}
	return append(out, "category: a consent is of one kind (42 CFR 2.31(b)(2), (d))")
}

// form reads the elements. What a provision does not say, the one above it says.
func (c *compiler) form() form {
	d := c.d
	f := form{recipients: true, purposes: true}
	s := &f.statements
	s.revocation = d.Source || d.states(saysRevocation)
	s.conditioning = d.Source || d.states(saysConditioning)
	s.redisclosure = d.Source || d.states(saysRedisclosure)
	s.remuneration = d.states(saysRemuneration)
	for _, e := range []string{endsWithCare, endsNever, endsWithStudy} {
		if d.states(e) {
			f.event = e
		}
	}
	f.expiry = true
	for i, g := range c.grants {
		if g.Effect != Permit {
			continue
		}
		purposes, end, to, named := c.listed[i], false, false, false
		for _, n := range append(slices.Clone(g.Ancestors), g.Node) {
			x := c.grants[n]
			to = to || len(x.Recipients) > 0
			named = named || len(x.Recipients) > 0 && !slices.ContainsFunc(x.Recipients, isClass)
			end = end || !x.Period.End.IsZero()
		}
		for _, n := range slices.Backward(g.Ancestors) {
			if len(purposes) == 0 {
				purposes = c.listed[n]
			}
		}
		f.recipients = f.recipients && to
		f.purposes = f.purposes && len(purposes) > 0
		f.classes = f.classes || !named
		f.listed = append(f.listed, purposes)
		f.expiry = f.expiry && end
	}
	f.signed = signatures(d)
	return f
}

func signatures(d Directive) part2.Signatures {
	s := part2.Signatures{
		Patient: slices.ContainsFunc(d.Performers, func(r fhir.Ref) bool { return part2.MayConsent(d.Patient.String(), r.String()) }),
		Representative: slices.ContainsFunc(d.Performers, func(r fhir.Ref) bool {
			return r.Type == "RelatedPerson" && r.ID.Valid() && slices.Contains(d.Verified, r)
		}),
	}
	for _, a := range []part2.Authority{part2.Parent, part2.Guardian, part2.Executor} {
		if d.states(authority + string(a)) {
			s.Authority = append(s.Authority, a)
		}
	}
	return s
}

// all reports whether ok holds for every list of purposes, none of which is empty.
func (f form) all(ok func([]string) bool) bool {
	return f.purposes && !slices.ContainsFunc(f.listed, func(p []string) bool { return !ok(p) })
}

// fit: in a single consent the phrase of the law is said once, and what is
// nested in it may be about a part.
func (f form) fit(k part2.Kind) bool {
	if k != part2.TPO {
		return f.all(func(p []string) bool { return part2.PurposesFit(k, p) })
	}
	return slices.ContainsFunc(f.listed, part2.IsTPO) &&
		f.all(func(p []string) bool { return part2.PurposesFit(part2.Specific, p) })
}

// part2 applies 42 CFR 2.31(a) to a consent of kind k.
func (f form) part2(d Directive, k Kind) []string {
	kind := part2.Kind(k)
	out := part2.Missing(kind, part2.Written{
		Patient:     true,
		Discloser:   len(organizations(d)) > 0,
		Description: true, // what cannot be evaluated is a defect already
		Recipient:   f.recipients,
		Purpose:     f.fit(kind),
		Statements:  f.statements.revocation,
		Expiry:      f.expiry || part2.ExpiryEvent(kind, f.event),
		Signature:   part2.Signed(kind, f.signed),
		Date:        !d.DateTime.IsZero(),
	})
	if f.classes && k != Part2TPO && k != Part2Intermediary {
		out = append(out, "42 CFR 2.31(a)(4)(i): only a consent for treatment, payment and operations names a class of recipients")
	}
	if k == Part2TPO && !f.statements.redisclosure {
		out = append(out, "42 CFR 2.31(a)(4)(iii), (10)(i): the statement on redisclosure is missing")
	}
	if k == Part2TPO && !f.statements.conditioning {
		out = append(out, "42 CFR 2.31(a)(10)(ii): the statement on the consequences of refusing is missing")
	}
	return out
}

// authorization is what 45 CFR 164.508(c) asks for.
func (f form) authorization(d Directive) hipaa.Authorization {
	marketing := slices.ContainsFunc(f.listed, func(p []string) bool { return slices.Contains(p, "HMARKT") })
	research := len(f.listed) > 0 && f.all(func(p []string) bool {
		return !slices.ContainsFunc(p, func(c string) bool { return !isA(c, "HRESCH") })
	})
	return hipaa.Authorization{
		Description: true, Discloser: len(organizations(d)) > 0, Recipient: f.recipients, Purpose: f.purposes,
		Expiry:    f.expiry || f.event == endsWithCare || research && (f.event == endsWithStudy || f.event == endsNever),
		Signature: f.signed.Patient || f.signed.Representative, SignatureDate: !d.DateTime.IsZero(),
		Representative: !f.signed.Patient, Authority: len(f.signed.Authority) > 0,
		Revocation: f.statements.revocation, Conditioning: f.statements.conditioning, Redisclosure: f.statements.redisclosure,
		Marketing: marketing, Remuneration: f.statements.remuneration,
	}
}

// machine: no law says yet what a consent to documentation by a machine has to
// hold; it is signed, dated, and says what for.
func (f form) machine(d Directive) (out []string) {
	for _, e := range []struct {
		there bool
		text  string
	}{
		{f.purposes, "provision.purpose: the purpose is missing"},
		{f.signed.Patient || part2.Signed(part2.Specific, f.signed), "performer: the patient's signature is missing"},
		{!d.DateTime.IsZero(), "dateTime: the date of the signature is missing"},
	} {
		if !e.there {
			out = append(out, e.text)
		}
	}
	return out
}

// intermediary applies 42 CFR 2.31(a)(4)(ii) to the recipients of every permit.
func (c *compiler) intermediary() []string {
	i := part2.Intermediated{}
	var collect func(p Provision)
	collect = func(p Provision) {
		for _, a := range p.Actors {
			who := recipientOf(a)
			switch {
			case slices.Contains(a.Role, intermediary):
				i.Named = i.Named || strings.HasPrefix(who, "Organization/")
			case who == class("treating-providers"):
				i.TreatingProviders = true
			case isClass(who):
				i.OtherClass = true
			case who != "":
				i.Participants = true
			}
		}
		for _, n := range p.Nested {
			collect(n)
		}
	}
	collect(c.d.Root)
	return part2.IntermediaryFaults(i)
}

// toRelated reports whether what is permitted is permitted to RelatedPersons alone.
func (c *compiler) toRelated() bool {
	return !slices.ContainsFunc(c.grants, func(g Grant) bool {
		return g.Effect == Permit && slices.ContainsFunc(g.Recipients, func(r string) bool { return !strings.HasPrefix(r, "RelatedPerson/") })
	})
}
