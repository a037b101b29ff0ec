package form

import (
	"maps"
	"slices"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// bindings are the elements that an item can fill, and the types of the answers.
var bindings = map[string][]string{
	"organization":               {"Reference"},
	"provision.actor":            {"Reference", "Coding"}, // a Coding is of fhir.RecipientClass
	"provision.purpose":          {"Coding"},
	"provision.action":           {"Coding"},
	"provision.securityLabel":    {"Coding"},
	"provision.class":            {"Coding"},
	"provision.code":             {"Coding"},
	"provision.period.start":     {"Date", "DateTime"},
	"provision.period.end":       {"Date", "DateTime"},
	"provision.dataPeriod.start": {"Date", "DateTime"},
	"provision.dataPeriod.end":   {"Date", "DateTime"},
}

func bound() []string { return slices.Sorted(maps.Keys(bindings)) }

// statement is what a form of some kind has to say.
type statement struct{ code, source string }

// kind is what a kind of consent asks of its form.
type kind struct {
	code       string
	deny       bool // the patient forbids
	statements []statement
}

// Statements (codes of fhir.ConsentStatement).
const (
	revocation   = "revocation"        // the right to revoke it, and how, and what was disclosed until then
	redisclosure = "redisclosure"      // what the recipient may pass on
	conditioning = "conditioning"      // what depends on signing
	standsAlone  = "stands-alone"      // that the consent is about nothing else
	mayRefuse    = "may-not-be-agreed" // that a practice need not agree to every restriction
)

var (
	part2 = []statement{{revocation, "42 CFR 2.31(a)(6)"}}
	hipaa = []statement{{revocation, "45 CFR 164.508(c)(2)(i)"}, {conditioning, "45 CFR 164.508(c)(2)(ii)"}, {redisclosure, "45 CFR 164.508(c)(2)(iii)"}}
)

// kinds are the kinds of consent that have forms (codes of fhir.ConsentKind).
var kinds = map[string]kind{
	"part2-tpo":           {statements: slices.Concat(part2, []statement{{redisclosure, "42 CFR 2.31(a)(10)(i)"}, {conditioning, "42 CFR 2.31(a)(10)(ii)"}})},
	"part2-specific":      {statements: part2},
	"part2-sudcn":         {statements: slices.Concat(part2, []statement{{standsAlone, "42 CFR 2.31(b)"}})},
	"hipaa-authorization": {statements: hipaa},
	"hipaa-psychotherapy": {statements: slices.Concat(hipaa, []statement{{standsAlone, "45 CFR 164.508(b)(3)(ii)"}})},
	"restriction":         {deny: true, statements: []statement{{mayRefuse, "45 CFR 164.522(a)(1)(ii)"}}},
}

// consent puts the values of the form where they belong.
func (c *filling) consent(f Filled, k kind, form *element.Node) *element.Node {
	rule, effect := coding(actCode, "OPTIN", "opt-in"), "permit"
	if k.deny {
		rule, effect = coding(actCode, "OPTOUT", "opt-out"), "deny"
	}
	category := coding(fhir.ConsentKind, k.code, f.Template.Get("title").String())
	n := object("resourceType", text("Consent"), "contained", list(form), "status", text("proposed"),
		"scope", concept(coding(consentScope, "patient-privacy", "Privacy Consent")),
		"category", list(concept(category)), "patient", reference(f.Patient))
	if o := c.slots["organization"]; len(o) > 0 {
		n.Set("organization", list(o...))
	}
	n.Set("sourceReference", object("reference", text("#"+formID)))
	policies := list()
	for _, code := range c.statements {
		policies.Items = append(policies.Items, object("uri", text(fhir.ConsentStatement+"#"+code)))
	}
	if len(policies.Items) > 0 {
		n.Set("policy", policies)
	}
	n.Set("policyRule", concept(rule))
	p := object("type", text(effect))
	for _, name := range []string{"period", "dataPeriod"} {
		if x := c.period(name); x != nil {
			p.Set(name, x)
		}
	}
	c.put(p, "actor", actor)
	c.put(p, "action", concept)
	if p.Get("action") == nil && !k.deny {
		p.Set("action", list(concept(coding(consentAction, "disclose", "Disclose"))))
	}
	for _, name := range []string{"securityLabel", "purpose", "class"} {
		c.put(p, name, func(x *element.Node) *element.Node { return x })
	}
	c.put(p, "code", concept)
	n.Set("provision", p)
	return n
}

func (c *filling) put(p *element.Node, name string, wrap func(*element.Node) *element.Node) {
	values := c.slots["provision."+name]
	if len(values) == 0 {
		return
	}
	l := list()
	for _, v := range values {
		l.Items = append(l.Items, wrap(v))
	}
	p.Set(name, l)
}

func (c *filling) period(name string) *element.Node {
	n := object()
	for _, bound := range []string{"start", "end"} {
		if v := c.slots["provision."+name+"."+bound]; len(v) > 0 {
			n.Set(bound, v[0])
		}
	}
	if len(n.Fields) == 0 {
		return nil
	}
	return n
}

// actor is a recipient: a resource of this server, or a class of recipients.
func actor(v *element.Node) *element.Node {
	to := v
	if v.Get("reference") == nil {
		to = object("identifier", object("system", v.Get("system"), "value", v.Get("code")))
		if d := v.Get("display"); d != nil {
			to.Set("display", d)
		}
	}
	return object("role", concept(coding(participation, "IRCP", "information recipient")), "reference", to)
}

// object makes an object of names and their values, in order.
func object(fields ...any) *element.Node {
	n := element.NewObject()
	for i := 0; i+1 < len(fields); i += 2 {
		name, _ := fields[i].(string)
		v, _ := fields[i+1].(*element.Node)
		n.Set(name, v)
	}
	return n
}

func list(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

func text(s string) *element.Node { return element.NewString(s) }

func reference(r fhir.Ref) *element.Node { return object("reference", text(r.String())) }

func coding(system, code, display string) *element.Node {
	n := object("system", text(system), "code", text(code))
	if display != "" {
		n.Set("display", text(display))
	}
	return n
}

func concept(c *element.Node) *element.Node { return object("coding", list(c)) }
