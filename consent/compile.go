package consent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// Code systems that a Consent is written in.
const (
	actCode       = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
	actReason     = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	consentAction = "http://terminology.hl7.org/CodeSystem/consentaction"
	consentScope  = "http://terminology.hl7.org/CodeSystem/consentscope"
	resourceTypes = "http://hl7.org/fhir/resource-types"
)

// maxProvisions is how many provisions of one Consent are evaluated; one with more is malformed.
const maxProvisions = 256

// Result is what a Consent comes to.
type Result struct {
	Kind   Kind    // the one kind that it is of, else General
	Grants []Grant // the provisions, each after its parent; grant i has Node i
	// Defects says why a Consent permits nothing, by element and citation;
	// nothing of the Consent's content is in it.
	Defects []string
}

// Compile turns a Consent into grants.
//
// A Consent permits if it has what the law asks of its kind, else Defects says why
// it permits nothing; what it forbids needs no form. What is not understood of a provision
// never permits and always forbids; a Consent with a malformed provision forbids
// everything that needs consent. A Consent that is not active does neither (S8, S9), but for a proposed restriction
// to which the practice has to agree (H3, S25).
func Compile(d Directive, l Labels) Result {
	owed := d.owed()
	if d.Status != "active" && !owed {
		return Result{Kind: oneKind(kindsOf(d)), Grants: told(d, nil)}
	}
	if d.Patient.Type != "Patient" || !d.Patient.ID.Valid() {
		return Result{Defects: []string{"42 CFR 2.31(a)(1), 45 CFR 164.508(c)(1): the patient is missing"}}
	}
	c := compiler{d: d, labels: l, kinds: kindsOf(d), owed: owed}
	c.kind = oneKind(c.kinds)
	c.about = c.kind.Bit()
	for _, k := range c.kinds {
		c.denies |= k.family()
	}
	if len(c.kinds) == 0 {
		if !slices.Contains(d.Scope, Code{consentScope, "patient-privacy"}) {
			return Result{Defects: []string{"category: not a kind of consent that is evaluated"}}
		}
		c.denies = General.family()
		c.defect("category: of no kind of consent that is evaluated, so it can only forbid")
	}
	c.provisions(d)
	return Result{Kind: c.kind, Grants: told(d, c.grants), Defects: c.defects}
}

// kindsOf lists the kinds in the category, sorted and distinct; a code that is
// none counts as General.
func kindsOf(d Directive) []Kind {
	var out []Kind
	for _, c := range d.Category {
		if c.System != fhir.ConsentKind {
			continue
		}
		k := Kind(c.Code)
		if k.Bit() == 0 {
			k = General
		}
		out = append(out, k)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func oneKind(list []Kind) Kind {
	if len(list) == 1 {
		return list[0]
	}
	return General
}

// compiler is a Consent on its way to grants.
type compiler struct {
	d       Directive
	labels  Labels
	kinds   []Kind
	kind    Kind
	owed    bool  // it binds before it was agreed to
	about   Kinds // what its permits are of
	denies  Kinds // what its denials are of
	grants  []Grant
	listed  [][]string // the purposes of each grant, as they are written
	defects []string
}

func (c *compiler) defect(text string) {
	if !slices.Contains(c.defects, text) {
		c.defects = append(c.defects, text)
	}
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

func (c *compiler) provisions(d Directive) {
	if malformed(d) {
		c.defect("the Consent could not be understood in full")
		c.forbidEverything()
		return
	}
	if len(d.Malformed) > 0 {
		c.defect("the Consent could not be understood in full")
	}
	e := effectOf(d)
	if e == "" && c.kind == OptOut {
		e = Deny // what else would it be for
	}
	if e == "" {
		c.defect("provision.type: neither it nor policyRule (OPTIN, OPTOUT) says whether to permit or to deny")
		e = Permit // which it does not: its defect is one of the whole
	}
	c.walk(d.Root, e, "Consent.provision", nil)
	if len(c.grants) > maxProvisions || !typed(d.Root.Nested) {
		c.defect("provision: a nested provision has no type, or there are too many")
		c.forbidEverything()
		return
	}
	if len(c.grants) > 0 && c.permitsSomething() {
		c.law()
		if d.Attested == Lapsed {
			c.defect("42 CFR 2.31(a)(8), 45 CFR 164.508(c)(1)(vi): it is no longer what was signed")
		}
	}
	if len(c.defects) > 0 {
		for i := range c.grants {
			c.grants[i].Sure = false
		}
	}
	if c.pointless() {
		c.grants = nil
	}
}

// typed reports whether every nested provision has the type that R4 requires of it.
func typed(list []Provision) bool {
	return !slices.ContainsFunc(list, func(p Provision) bool {
		return p.Type != "permit" && p.Type != "deny" || !typed(p.Nested)
	})
}

func (c *compiler) permitsSomething() bool {
	return slices.ContainsFunc(c.grants, func(g Grant) bool { return g.Effect == Permit })
}

// pointless: nothing in it forbids, and nothing in it may be relied on.
func (c *compiler) pointless() bool {
	return !slices.ContainsFunc(c.grants, func(g Grant) bool { return g.Effect == Deny || g.Sure })
}

// forbidEverything that needs consent, and whatever the Consent is about besides.
func (c *compiler) forbidEverything() {
	g := Grant{Kind: c.kind, Effect: Deny, Path: "Consent.provision", About: c.denies | Permissions, Patient: c.d.Patient.ID, Labels: AllLabels}
	if c.owed {
		g.About = c.denies
		c.mustAgree(&g, nil)
	}
	c.grants = []Grant{g}
}

// walk adds a provision and those nested in it. What does not bear on the
// disclosure of records is left out.
func (c *compiler) walk(p Provision, e Effect, path string, above []Grant) {
	if len(c.grants) > maxProvisions {
		return
	}
	if !bears(p.Actions, e) {
		if len(above) == 0 {
			c.defect("provision.action: it does not permit to disclose")
		}
		return
	}
	g := Grant{Kind: c.kind, Effect: e, Node: int16(len(c.grants)), Path: path, Sure: true, About: c.about, //nolint:gosec // bounded by maxProvisions
		Patient: c.d.Patient.ID, Period: p.Period, DataPeriod: p.DataPeriod}
	if e == Deny {
		g.About = c.denies
	}
	for _, a := range above {
		g.Ancestors = append(g.Ancestors, a.Node)
		g.Sure = g.Sure && a.Sure
	}
	if e == Permit || len(above) == 0 {
		g.Programs = c.programs(e)
	}
	if e == Permit && c.d.DateTime.After(g.Period.Start) {
		g.Period.Start = c.d.DateTime // it is no consent before it is signed
	}
	r := reading{g: &g, leaf: len(p.Nested) == 0}
	r.actors(p.Actors)
	r.purposes(p.Purposes)
	r.classes(p.Classes)
	r.codes(p.Codes)
	r.data(p.Data)
	r.marks(p.SecurityLabels, c.labels)
	if c.owed && e == Deny && !c.mustAgree(&g, above) {
		return
	}
	if len(r.flaws) > 0 {
		g.Sure = false
		for _, f := range r.flaws {
			if e == Permit {
				c.defect(f)
			}
		}
	}
	c.grants = append(c.grants, g)
	c.listed = append(c.listed, r.listed)
	above = append(slices.Clone(above), g)
	for i, n := range p.Nested {
		c.walk(n, Effect(n.Type), fmt.Sprintf("%s.provision[%d]", path, i), above)
	}
}

// programs are those whose records the Consent is about. Where a denial does not
// say it clearly, it is about all.
func (c *compiler) programs(e Effect) []fhir.ID {
	if c.denies&^part2Kinds != 0 {
		return nil
	}
	out := organizations(c.d)
	unclear := slices.ContainsFunc(c.d.Malformed, func(p string) bool { return strings.HasPrefix(p, "Consent.organization") }) ||
		slices.ContainsFunc(c.d.Organizations, func(r fhir.Ref) bool { return r.Type != "Organization" })
	if e == Deny && unclear {
		return nil
	}
	if len(out) > 0 && c.kind == MinorDisclosure {
		out = append([]fhir.ID{""}, out...) // care outside of any program
	}
	return out
}

// part2Kinds are those in which organization says of whose program's records a
// consent speaks. Others name the practice there, of which all records are.
var part2Kinds = KindsOf(Part2TPO, Part2Specific, Part2Intermediary, Part2SUDCN, Part2Legal, Part2Research, MinorDisclosure)

// organizations are the programs whose records the Consent is about, sorted and distinct.
func organizations(d Directive) []fhir.ID {
	var out []fhir.ID
	for _, o := range d.Organizations {
		if o.Type == "Organization" && o.ID.Valid() {
			out = append(out, o.ID)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// formal are the elements that bear on the form of a Consent, not on what it says: not
// to understand one of them takes its permits away, and leaves its denials as they are.
var formal = []string{"performer", "organization", "verification", "sourceAttachment", "sourceReference", "source", "policy", "policyRule", "category", "dateTime", "patient"}

// malformed reports whether something that says what is permitted or forbidden
// was not understood.
func malformed(d Directive) bool {
	return slices.ContainsFunc(d.Malformed, func(path string) bool {
		rest, ok := strings.CutPrefix(path, "Consent.")
		if end := strings.IndexAny(rest, ".["); end >= 0 {
			if strings.Contains(rest, "modifierExtension") {
				return true
			}
			rest = rest[:end]
		}
		return !ok || !slices.Contains(formal, rest)
	})
}
