package terminology

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// ValidateCode asks whether a code is valid, in a code system
// (codesystem-operation-validate-code.html) or a value set
// (valueset-operation-validate-code.html).
type ValidateCode struct {
	URL             string        // canonical of the code system or value set; "" where Inline is given
	Inline          *element.Node // a CodeSystem or ValueSet that comes with the request
	Codings         []Coding      // of a CodeableConcept: one that is valid is enough
	RefuseAbstract  bool          // abstract is false: a concept that is not to be selected is not valid
	DisplayLanguage string
}

// InCodeSystem gives the Parameters of CodeSystem/$validate-code. What is not
// known of a code is a result of false with a message; an *outcome.Error with
// not-found (422) says that the code system itself is not installed.
func (s *Service) InCodeSystem(ctx context.Context, q ValidateCode) (*element.Node, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	var cs *codeSystem
	if q.Inline != nil {
		if q.Inline.Get("content").String() == "supplement" {
			return nil, outcome.New(outcome.Unprocessable, "a supplement has no codes of its own")
		}
		if err := r.spend(int(definition.Size(q.Inline) / 10)); err != nil {
			return nil, err
		}
		cs = newCodeSystem(q.Inline)
	} else {
		if cs, err = r.system(q.URL, ""); err != nil {
			return nil, public(err)
		}
	}
	v := verdict{display: ""}
	for _, c := range q.Codings {
		if c.System != "" && bareSystem(c.System) != cs.url {
			v.fail("the code " + c.Code + " is of " + c.System + " and not of " + cs.url)
			continue
		}
		x, _ := cs.find(c.Code)
		if x == nil {
			v.fail("the code system " + cs.canonical() + noSuchCode(cs) + ": " + c.Code)
			continue
		}
		v.found(r, q, c, x.abstract, x.display, x.node.Get("designation").List(), cs.language)
	}
	return v.answer(), nil
}

// InValueSet gives the Parameters of ValueSet/$validate-code, as [Service.InCodeSystem].
func (s *Service) InValueSet(ctx context.Context, q ValidateCode) (*element.Node, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	vs, err := r.subject(q.URL, q.Inline)
	if err != nil {
		return nil, public(err)
	}
	name := vs.node.Get("url").String()
	if name == "" {
		name = "of the request"
	}
	v := verdict{}
	for _, c := range q.Codings {
		in, err := r.in(vs, bareSystem(c.System), c.Code)
		var u *unknownError
		switch {
		case errors.As(err, &u):
			v.fail("whether " + c.System + "|" + c.Code + " is in the value set " + name + " cannot be said: " + u.text)
			continue
		case err != nil:
			return nil, err
		case !in:
			v.fail(c.System + "|" + c.Code + " is not in the value set " + name)
			continue
		}
		m := vs.mentions(c)
		cs, err := r.system(c.System, c.Version)
		if err == nil {
			if x, _ := cs.find(c.Code); x != nil {
				if m.display == "" {
					m.display = x.display
				}
				v.found(r, q, c, x.abstract, m.display, append(r.texts(m), r.texts(member{display: x.display, listed: x.node})...), cs.language)
				continue
			}
		} else if !errors.As(err, &u) {
			return nil, err
		}
		v.found(r, q, c, m.abstract, m.display, r.texts(m), "")
	}
	return v.answer(), nil
}

// mentions finds what the value set itself says of a code.
func (vs *valueSet) mentions(c Coding) member {
	for i := range vs.include {
		x := &vs.include[i]
		if j, ok := x.byCode[c.Code]; ok && bareSystem(x.system) == bareSystem(c.System) {
			return member{display: x.listed[j].Get("display").String(), listed: x.listed[j]}
		}
	}
	for _, m := range vs.stored {
		if m.system == bareSystem(c.System) && m.code == c.Code {
			return m
		}
	}
	return member{}
}

// texts gives the display of m as a designation, and its designations.
func (r *run) texts(m member) []*element.Node {
	return append([]*element.Node{element.NewObject(element.Field{Name: "value", Value: element.NewString(m.display)})}, m.listed.Get("designation").List()...)
}

// verdict collects what is found of the codings of one request.
type verdict struct {
	valid    bool
	display  string
	messages []string
}

func (v *verdict) fail(message string) { v.messages = append(v.messages, message) }

// found judges a code that is there, by its display and whether it may be selected.
func (v *verdict) found(_ *run, q ValidateCode, c Coding, abstract bool, display string, designations []*element.Node, language string) {
	if q.DisplayLanguage != "" && !speaks(language, q.DisplayLanguage) {
		if text := inLanguage(designations, q.DisplayLanguage); text != "" {
			display = text
		}
	}
	if v.display == "" || !v.valid {
		v.display = display
	}
	if abstract && q.RefuseAbstract {
		v.fail("the code " + c.Code + " is abstract: it groups others and is not to be used itself")
		return
	}
	if c.Display != "" && display != "" && !sameText(c.Display, display) && !slices.ContainsFunc(designations, func(d *element.Node) bool { return sameText(c.Display, d.Get("value").String()) }) {
		v.fail("the display of " + c.Code + " is not the one that was sent: it is " + display)
		return
	}
	v.valid = true
}

// sameText compares displays without regard to letter case and spacing.
func sameText(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}

func (v *verdict) answer() *element.Node {
	p := &parameters{}
	p.flag("result", v.valid)
	if !v.valid {
		p.text("message", "valueString", strings.Join(v.messages, "; "))
	}
	p.text("display", "valueString", v.display)
	return p.resource()
}

// Subsumes says how two codes of a code system relate, in the words of
// concept-subsumption-outcome: equivalent, subsumes, subsumed-by or not-subsumed
// (codesystem-operation-subsumes.html). The error is an *outcome.Error: not-found
// (422) where the code system is not installed or does not have both codes.
func (s *Service) Subsumes(ctx context.Context, system, version, a, b string) (*element.Node, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	cs, err := r.system(system, version)
	if err != nil {
		return nil, public(err)
	}
	at := [2]int32{}
	for i, code := range []string{a, b} {
		if _, at[i] = cs.find(code); at[i] < 0 {
			return nil, outcome.New(outcome.Undefined, "the code system "+cs.canonical()+noSuchCode(cs))
		}
	}
	result := "not-subsumed"
	switch {
	case at[0] == at[1]:
		result = "equivalent"
	case cs.subsumes(at[0], at[1]):
		result = "subsumes"
	case cs.subsumes(at[1], at[0]):
		result = "subsumed-by"
	}
	p := &parameters{}
	p.text("outcome", "valueCode", result)
	return p.resource(), nil
}
