package operation

import (
	"context"
	"net/http"
	"strconv"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/terminology"
)

// Terminology answers the operations of the terminology module
// (http://hl7.org/fhir/R4/terminology-service.html). It sees installed
// packages and the request, and no record of any practice: every authenticated
// caller gets the same answer.
type Terminology struct {
	gate    *record.Gate
	service *terminology.Service
}

// NewTerminology wires the terminology operations. Without a service there are none.
func NewTerminology(g *record.Gate, s *terminology.Service) *Terminology {
	return &Terminology{gate: g, service: s}
}

// Operations lists everything that t answers.
func (t *Terminology) Operations() []Operation {
	if t == nil || t.service == nil {
		return nil
	}
	return []Operation{
		{Code: "expand", Type: "ValueSet", Level: Type, Safe: true, Definition: hl7 + "ValueSet-expand", Handler: t.answered(t.expand)},
		{Code: "lookup", Type: "CodeSystem", Level: Type, Safe: true, Definition: hl7 + "CodeSystem-lookup", Handler: t.answered(t.lookup)},
		{Code: "subsumes", Type: "CodeSystem", Level: Type, Safe: true, Definition: hl7 + "CodeSystem-subsumes", Handler: t.answered(t.subsumes)},
		{Code: "translate", Type: "ConceptMap", Level: Type, Safe: true, Definition: hl7 + "ConceptMap-translate", Handler: t.answered(t.translate)},
		{Code: "validate-code", Type: "CodeSystem", Level: Type, Safe: true, Definition: hl7 + "CodeSystem-validate-code", Handler: t.answered(t.validateInCodeSystem)},
		{Code: "validate-code", Type: "ValueSet", Level: Type, Safe: true, Definition: hl7 + "ValueSet-validate-code", Handler: t.answered(t.validateInValueSet)},
	}
}

// answered records the access, which discloses no record, and responds.
func (t *Terminology) answered(h func(context.Context, *respond.Request) (*element.Node, error)) respond.Handler {
	return func(ctx context.Context, rq *respond.Request) (respond.Response, error) {
		n, err := h(ctx, rq)
		if err != nil {
			return nil, err
		}
		if _, err := t.gate.Release(ctx, rq.Grant, rq.Type); err != nil {
			return nil, err
		}
		return respond.Document(http.StatusOK, n.AppendJSON(nil), "", ""), nil
	}
}

// reader takes arguments one by one and keeps the first fault.
type reader struct {
	args
	err error
}

func newReader(rq *respond.Request, known ...string) *reader {
	a, err := arguments(rq, known...)
	return &reader{a, err}
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) one(name string) string {
	v, err := r.text(name)
	if err != nil {
		r.fail(err)
	}
	return v
}

func (r *reader) required(name string) string {
	v := r.one(name)
	if v == "" {
		r.fail(outcome.New(outcome.Required, "the operation needs the parameter "+name))
	}
	return v
}

func (r *reader) flag(name string, standard bool) bool {
	switch r.one(name) {
	case "":
		return standard
	case "true":
		return true
	case "false":
		return false
	}
	r.fail(outcome.New(outcome.Invalid, "the parameter "+name+" is true or false"))
	return standard
}

func (r *reader) number(name string, standard int) int {
	v := r.one(name)
	if v == "" {
		return standard
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		r.fail(outcome.New(outcome.Invalid, "the parameter "+name+" is a number that is not negative"))
	}
	return int(n)
}

// object is the one structured value of a parameter, or nil. Such a value cannot stand in a query.
func (r *reader) object(name string) *element.Node {
	nodes := r.nodes[name]
	if len(nodes) == 0 && len(r.texts[name]) > 0 || len(nodes) > 1 {
		r.fail(outcome.New(outcome.Invalid, "the parameter "+name+" may stand once, in a Parameters resource that is posted"))
	}
	if len(nodes) == 0 {
		return nil
	}
	if nodes[0].Kind != element.Object {
		r.fail(outcome.New(outcome.Invalid, "the parameter "+name+" has a value of another type"))
		return nil
	}
	return nodes[0]
}

// resource is a resource that came as a parameter, or nil.
func (r *reader) resource(name, typ string) *element.Node {
	n := r.object(name)
	if n != nil && n.Get("resourceType").String() != typ {
		r.fail(outcome.New(outcome.Invalid, "the parameter "+name+" is a "+typ))
	}
	return n
}

// subject is the canonical URL of what the operation is about, unless that came with the request.
func (r *reader) subject(inline *element.Node, version string) string {
	u, v := r.one("url"), ""
	if version != "" {
		v = r.one(version)
	}
	if (u == "") == (inline == nil) {
		r.fail(outcome.New(outcome.Required, "the operation needs the parameter url, or the resource itself, and not both"))
	}
	if v == "" || u == "" {
		return u
	}
	return u + "|" + v
}

func coding(n *element.Node) terminology.Coding {
	return terminology.Coding{System: n.Get("system").String(), Version: n.Get("version").String(), Code: n.Get("code").String(), Display: n.Get("display").String()}
}

// codings reads the code that the operation is about, in one of its three forms.
func (r *reader) codings(system, version string) []terminology.Coding {
	var out []terminology.Coding
	forms := 0
	if code := r.one("code"); code != "" {
		forms++
		c := terminology.Coding{Code: code, Display: r.one("display")}
		if system != "" {
			c.System = r.one(system)
		}
		if version != "" {
			c.Version = r.one(version)
		}
		out = append(out, c)
	}
	if n := r.object("coding"); n != nil {
		forms++
		out = append(out, coding(n))
	}
	if n := r.object("codeableConcept"); n != nil {
		forms++
		for _, c := range n.Get("coding").List() {
			out = append(out, coding(c))
		}
		if len(out) == 0 {
			r.fail(outcome.New(outcome.Required, "the parameter codeableConcept has no coding"))
		}
	}
	if forms != 1 {
		r.fail(outcome.New(outcome.Required, "the operation needs one of the parameters code, coding and codeableConcept"))
	}
	return out
}

// expand answers ValueSet/$expand (http://hl7.org/fhir/R4/valueset-operation-expand.html).
func (t *Terminology) expand(ctx context.Context, rq *respond.Request) (*element.Node, error) {
	r := newReader(rq, "url", "valueSet", "valueSetVersion", "filter", "offset", "count", "includeDesignations", "includeDefinition", "activeOnly", "excludeNested",
		"excludeNotForUI", "excludePostCoordinated", "displayLanguage", "exclude-system", "system-version", "check-system-version", "force-system-version")
	q := terminology.Expand{Inline: r.resource("valueSet", "ValueSet")}
	q.ValueSet = r.subject(q.Inline, "valueSetVersion")
	q.Filter, q.Offset, q.Count = r.one("filter"), r.number("offset", 0), r.number("count", -1)
	q.IncludeDesignations, q.IncludeDefinition = r.flag("includeDesignations", false), r.flag("includeDefinition", false)
	q.ActiveOnly, q.ExcludeNotForUI = r.flag("activeOnly", false), r.flag("excludeNotForUI", false)
	// Expansions are flat and have no post-coordinated codes, whatever is asked.
	_, _ = r.flag("excludeNested", true), r.flag("excludePostCoordinated", true)
	q.DisplayLanguage, q.ExcludeSystem = r.one("displayLanguage"), r.texts["exclude-system"]
	q.SystemVersion, q.CheckSystemVersion, q.ForceSystemVersion = r.texts["system-version"], r.texts["check-system-version"], r.texts["force-system-version"]
	if r.err != nil {
		return nil, r.err
	}
	return t.service.Expand(ctx, q)
}

// lookup answers CodeSystem/$lookup (http://hl7.org/fhir/R4/codesystem-operation-lookup.html).
func (t *Terminology) lookup(ctx context.Context, rq *respond.Request) (*element.Node, error) {
	r := newReader(rq, "code", "system", "version", "coding", "displayLanguage", "property")
	q := terminology.Lookup{Properties: r.texts["property"], DisplayLanguage: r.one("displayLanguage")}
	cs := r.codings("system", "version")
	if r.err == nil && cs[0].System == "" {
		r.fail(outcome.New(outcome.Required, "the operation needs the system of the code"))
	}
	if r.err != nil {
		return nil, r.err
	}
	q.Coding = cs[0]
	return t.service.Lookup(ctx, q)
}

// validateInCodeSystem answers CodeSystem/$validate-code (http://hl7.org/fhir/R4/codesystem-operation-validate-code.html).
func (t *Terminology) validateInCodeSystem(ctx context.Context, rq *respond.Request) (*element.Node, error) {
	r := newReader(rq, "url", "codeSystem", "code", "version", "display", "coding", "codeableConcept", "abstract", "displayLanguage")
	q := terminology.ValidateCode{Inline: r.resource("codeSystem", "CodeSystem"), RefuseAbstract: !r.flag("abstract", true), DisplayLanguage: r.one("displayLanguage")}
	q.Codings = r.codings("", "")
	if r.err == nil && q.Inline == nil && r.one("url") == "" && len(q.Codings) == 1 && q.Codings[0].System != "" {
		q.URL = q.Codings[0].System // a coding names its code system itself
	} else {
		q.URL = r.subject(q.Inline, "version")
	}
	if r.err != nil {
		return nil, r.err
	}
	return t.service.InCodeSystem(ctx, q)
}

// validateInValueSet answers ValueSet/$validate-code (http://hl7.org/fhir/R4/valueset-operation-validate-code.html).
func (t *Terminology) validateInValueSet(ctx context.Context, rq *respond.Request) (*element.Node, error) {
	r := newReader(rq, "url", "valueSet", "valueSetVersion", "code", "system", "systemVersion", "display", "coding", "codeableConcept", "abstract", "displayLanguage")
	q := terminology.ValidateCode{Inline: r.resource("valueSet", "ValueSet"), RefuseAbstract: !r.flag("abstract", true), DisplayLanguage: r.one("displayLanguage")}
	q.URL = r.subject(q.Inline, "valueSetVersion")
	q.Codings = r.codings("system", "systemVersion")
	for _, c := range q.Codings {
		if c.System == "" || c.Code == "" {
			r.fail(outcome.New(outcome.Required, "a code needs its system to be looked for in a value set"))
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return t.service.InValueSet(ctx, q)
}

// subsumes answers CodeSystem/$subsumes (http://hl7.org/fhir/R4/codesystem-operation-subsumes.html).
func (t *Terminology) subsumes(ctx context.Context, rq *respond.Request) (*element.Node, error) {
	r := newReader(rq, "codeA", "codeB", "system", "version", "codingA", "codingB")
	a, b := r.object("codingA"), r.object("codingB")
	if a != nil && b != nil {
		x, y := coding(a), coding(b)
		if x.System != y.System {
			r.fail(outcome.New(outcome.Invalid, "both codes are of one code system"))
		}
		if x.Code == "" || y.Code == "" {
			r.fail(outcome.New(outcome.Required, "the operation needs two codes"))
		}
		if r.err != nil {
			return nil, r.err
		}
		return t.service.Subsumes(ctx, x.System, x.Version, x.Code, y.Code)
	}
	codeA, codeB, system, version := r.required("codeA"), r.required("codeB"), r.required("system"), r.one("version")
	if r.err != nil {
		return nil, r.err
	}
	return t.service.Subsumes(ctx, system, version, codeA, codeB)
}

// translate answers ConceptMap/$translate (http://hl7.org/fhir/R4/conceptmap-operation-translate.html).
func (t *Terminology) translate(ctx context.Context, rq *respond.Request) (*element.Node, error) {
	r := newReader(rq, "url", "conceptMap", "conceptMapVersion", "code", "system", "version", "source", "coding", "codeableConcept", "target", "targetsystem", "dependency", "reverse")
	q := terminology.Translate{
		Inline: r.resource("conceptMap", "ConceptMap"), Source: r.one("source"), Target: r.one("target"), TargetSystem: r.one("targetsystem"), Reverse: r.flag("reverse", false),
	}
	if r.one("url") != "" || q.Inline != nil {
		q.ConceptMap = r.subject(q.Inline, "conceptMapVersion")
	}
	q.Codings = r.codings("system", "version")
	for _, c := range q.Codings {
		if c.System == "" || c.Code == "" {
			r.fail(outcome.New(outcome.Required, "a code needs its system to be translated"))
		}
	}
	q.Dependencies = dependencies(rq)
	if r.err != nil {
		return nil, r.err
	}
	return t.service.Translate(ctx, q)
}

// dependencies are parameters of two parts, element and concept.
func dependencies(rq *respond.Request) []terminology.Dependency {
	if rq.Content == nil {
		return nil
	}
	var out []terminology.Dependency
	for _, p := range rq.Content.Root.Get("parameter").List() {
		if p.Get("name").String() != "dependency" {
			continue
		}
		var d terminology.Dependency
		var concepts []*element.Node
		for _, part := range p.Get("part").List() {
			switch part.Get("name").String() {
			case "element":
				d.Element = part.Get("valueUri").String()
			case "concept":
				concepts = append(concepts, part.Get("valueCodeableConcept").Get("coding").List()...)
				if c := part.Get("valueCoding"); c != nil {
					concepts = append(concepts, c)
				}
			}
		}
		for _, c := range concepts {
			d.Concept = coding(c)
			out = append(out, d)
		}
	}
	return out
}
