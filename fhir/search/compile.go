package search

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// codeForm is what parameters of a practice may be called: nothing that means
// something else in a search URL.
var codeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// Compile makes a Param of a SearchParameter resource (R4 searchparameter.html)
// whose values are found by FHIRPath. The error is an *outcome.Error of category
// Invalid with the path of each fault. Composites and special parameters cannot
// be defined by a practice.
func Compile(def *element.Node) (*Param, error) {
	c := compiler{def: def}
	p := &Param{
		Code: c.text("code"), FHIRType: c.text("type"), Definition: c.text("url"),
	}
	p.Type = paramTypes[p.FHIRType]
	if def.Get("resourceType").String() != "SearchParameter" {
		c.fail("", "is no SearchParameter")
	}
	if !codeForm.MatchString(p.Code) {
		c.fail("code", "begins with a letter and has up to 64 letters, digits, - and _")
	}
	if p.Definition == "" {
		c.fail("url", "is missing")
	}
	if p.Type == 0 || p.Type == Composite {
		c.fail("type", "is none that a SearchParameter of one's own can have here")
	}
	p.Bases = c.bases()
	for _, t := range c.texts("target") {
		rt := fhir.ResourceType(t)
		switch {
		case t == "Resource":
			p.Targets = fhir.ResourceTypes()
		case !rt.Valid():
			c.fail("target", "names no resource type")
		default:
			p.Targets = append(p.Targets, rt)
		}
	}
	if len(p.Targets) > 100 {
		p.Targets = nil // any
	}
	var err error
	if p.expression, err = fhirpath.Compile(c.text("expression")); err != nil {
		c.fail("expression", "is no FHIRPath that can be evaluated here")
	}
	if len(c.faults) > 0 {
		return nil, &outcome.Error{Issues: c.faults}
	}
	return p, nil
}

// Generation tells p from what its definition selected before or after a
// change: an equal one selects the same values of the same types.
func (p *Param) Generation() int64 {
	parts := []string{p.Code, p.FHIRType, p.expression.String(), strconv.Itoa(len(p.Bases))}
	for _, t := range p.Bases {
		parts = append(parts, string(t))
	}
	for _, t := range p.Targets {
		parts = append(parts, string(t))
	}
	return hash(kindGeneration, parts...)
}

type compiler struct {
	def    *element.Node
	faults []outcome.Issue
}

func (c *compiler) fail(member, text string) {
	at := "SearchParameter"
	if member != "" {
		at += "." + member
	}
	c.faults = append(c.faults, outcome.Issue{Category: outcome.Invalid, Path: at, Text: at + " " + text})
}

func (c *compiler) text(member string) string { return c.def.Get(member).String() }

func (c *compiler) texts(member string) []string {
	var out []string
	for _, n := range c.def.Get(member).List() {
		out = append(out, n.String())
	}
	return out
}

func (c *compiler) bases() []fhir.ResourceType {
	var out []fhir.ResourceType
	for _, name := range c.texts("base") {
		switch rt := fhir.ResourceType(name); {
		case name == "Resource" || name == "DomainResource":
			for _, t := range fhir.ResourceTypes() {
				if fhirpath.IsA(string(t), name) {
					out = append(out, t)
				}
			}
		case !rt.Valid():
			c.fail("base", "names no resource type")
		default:
			out = append(out, rt)
		}
	}
	if len(out) == 0 {
		c.fail("base", "is missing")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// accepts are the datatypes that each parameter type can index (R4 search, 3.1.1.4).
var accepts = map[ParamType][]leaf{
	Token:     {leafCode, leafBoolean, leafCoding, leafCodeableConcept, leafIdentifier, leafContactPoint, leafURI, leafCanonical},
	Reference: {leafReference, leafCanonical, leafURI},
	Date:      {leafDate, leafPeriod, leafTiming},
	String:    {leafCode, leafHumanName, leafAddress},
	URI:       {leafURI, leafCanonical},
	Number:    {leafNumber, leafRange},
	Quantity:  {leafQuantity, leafMoney, leafRange, leafSampledData},
}

// computed are the datatypes of what an expression computes.
var computed = map[string]leaf{
	"System.Boolean": leafBoolean, "System.String": leafCode, "System.Integer": leafNumber, "System.Decimal": leafNumber,
	"System.Date": leafDate, "System.DateTime": leafDate,
}

// maxSteps bounds the evaluation of one parameter on one resource.
const maxSteps = 100_000

// evaluated indexes what the expression of p selects. One that fails on this
// resource selects nothing of it: a definition must not stand in the way of a write.
func (x *extraction) evaluated(p *Param) {
	root, ok := fhirpath.Resource(x.root)
	if !ok {
		return
	}
	out, err := p.expression.Eval(x.ctx, root, fhirpath.Options{Limits: fhirpath.Limits{Steps: maxSteps, Items: maxSteps / 10}})
	if err != nil {
		return
	}
	x.code = p.name()
	for i := 0; i < len(out); i++ {
		v := out[i]
		if v.Type() == "Extension" {
			// Expressions that end at an extension mean its value, as R4's own do.
			out = append(out, v.Child("value")...)
			continue
		}
		l, n := leaves[v.Type()], v.Node()
		if l == 0 {
			l = computed[v.Type()]
		}
		if !slices.Contains(accepts[p.Type], l) {
			continue
		}
		if n == nil {
			n = madeNode(l, v.Text())
		}
		x.value(p.Type, &path{leaf: l}, n)
	}
}

// madeNode is the node of a computed value.
func madeNode(l leaf, text string) *element.Node {
	switch l {
	case leafBoolean:
		return &element.Node{Kind: element.Bool, Text: text}
	case leafNumber:
		return &element.Node{Kind: element.Number, Text: text}
	default:
		return element.NewString(strings.TrimPrefix(text, "@"))
	}
}
