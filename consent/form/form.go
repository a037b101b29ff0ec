// Package form turns a consent form that somebody filled in into the Consent that is to be signed.
//
// A form is a Questionnaire (http://hl7.org/fhir/R4/questionnaire.html) that a practice writes. Its
// code names the kind of consent (fhir.ConsentKind); the definition of an item names the
// element of the Consent that the answer fills; the code of an item (fhir.ConsentStatement) says
// which statement of the law its text makes.
package form

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// definition begins Questionnaire.item.definition of what fills an element.
const definition = "http://hl7.org/fhir/StructureDefinition/Consent#Consent."

// Systems of the codes that the Consent is made of.
const (
	actCode       = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
	participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	consentScope  = "http://terminology.hl7.org/CodeSystem/consentscope"
	consentAction = "http://terminology.hl7.org/CodeSystem/consentaction"
)

// formID is the id, within the Consent, of the form as it was filled in.
const formID = "form"

// Filled is a form with its answers.
type Filled struct {
	Template *element.Node // Questionnaire
	Answers  *element.Node // QuestionnaireResponse, or nil where the form asks for nothing
	Patient  fhir.Ref
	Authored string // dateTime at which it was filled in
	// Parent and Witness have the form say that a parent, and a witness, sign besides the patient
	// (statements needs-parent, needs-witness), where it does not say so itself.
	Parent, Witness bool
}

// Consent makes the Consent of f, with the status proposed. The form with its text and
// the answers, as they were shown, is inside it: whoever signs the Consent signs them.
// Without issues there is a Consent. Issues say nothing of the answers; their
// paths are those of the Questionnaire or of the QuestionnaireResponse.
func Consent(f Filled) (*element.Node, []outcome.Issue) {
	c := filling{patient: f.Patient, slots: map[string][]*element.Node{}}
	k := c.kind(f.Template)
	answers := c.answers(f)
	shown := c.items("Questionnaire", f.Template.Get("item").List(), answers)
	for _, a := range answers {
		if !a.used {
			c.fail(outcome.Unprocessable, a.path, "the form has no item of that linkId in that place")
		}
	}
	shown = append(shown, c.cosigners(f)...)
	for _, s := range k.statements {
		if !slices.Contains(c.statements, s.code) {
			c.fail(outcome.BusinessRule, "Questionnaire.item", "the form does not make the statement "+s.code+" ("+s.source+")")
		}
	}
	if len(c.issues) > 0 {
		return nil, c.issues
	}
	form := object("resourceType", text("QuestionnaireResponse"), "id", text(formID),
		"questionnaire", text(f.Template.Get("url").String()+"|"+f.Template.Get("version").String()),
		"status", text("completed"), "subject", reference(f.Patient), "authored", text(f.Authored), "item", list(shown...))
	return c.consent(f, k, form), nil
}

// Kind is the code (of fhir.ConsentKind) of the kind of consent that a form is for, "" where it names no one.
func Kind(template *element.Node) string { return (&filling{}).kind(template).code }

// cosigners are what a form says besides of who signs it: whoever signs it has agreed to that.
func (c *filling) cosigners(f Filled) (out []*element.Node) {
	for _, x := range []struct {
		asked       bool
		code, words string
	}{
		{f.Parent, "needs-parent", "My parent or guardian signs this, too, sees it for that, and learns so that I asked for this care (42 CFR 2.14(c))."},
		{f.Witness, "needs-witness", "A witness signs this, too: that I signed it in the presence of the witness."},
	} {
		if !x.asked || slices.Contains(c.statements, x.code) {
			continue
		}
		c.statements = append(c.statements, x.code)
		yes := &element.Node{Kind: element.Bool, Text: "true"}
		out = append(out, object("linkId", text("cloister-"+x.code), "text", text(x.words), "answer", list(object("valueBoolean", yes))))
	}
	return out
}

// filling is a form on its way to a Consent.
type filling struct {
	patient    fhir.Ref
	slots      map[string][]*element.Node // values by the element that they fill
	statements []string
	issues     []outcome.Issue
}

func (c *filling) fail(category outcome.Category, path, why string) {
	c.issues = append(c.issues, outcome.Issue{Category: category, Path: path, Text: why})
}

// kind checks the head of a template.
func (c *filling) kind(q *element.Node) kind {
	var codes []string
	for _, x := range q.Get("code").List() {
		if x.Get("system").String() == fhir.ConsentKind {
			codes = append(codes, x.Get("code").String())
		}
	}
	if q.Get("status").String() != "active" || q.Get("url").String() == "" || q.Get("version").String() == "" {
		c.fail(outcome.BusinessRule, "Questionnaire", "a form that can be signed is active, and has a url and a version")
	}
	if len(codes) != 1 {
		c.fail(outcome.BusinessRule, "Questionnaire.code", "a form is about one kind of consent, which its code names")
		return kind{}
	}
	k, ok := kinds[codes[0]]
	if !ok {
		c.fail(outcome.BusinessRule, "Questionnaire.code", "there is no such kind of consent")
	}
	k.code = codes[0]
	return k
}

// answer is one item of the response.
type answer struct {
	linkID, path string
	values       []*element.Node
	items        []*answer
	used         bool
}

func (c *filling) answers(f Filled) []*answer {
	if f.Answers == nil {
		return nil
	}
	url, version, _ := strings.Cut(f.Answers.Get("questionnaire").String(), "|")
	if url != "" && (url != f.Template.Get("url").String() || version != "" && version != f.Template.Get("version").String()) {
		c.fail(outcome.Unprocessable, "QuestionnaireResponse.questionnaire", "the answers are to another form")
	}
	if s := f.Answers.Get("subject").Get("reference").String(); s != "" && s != f.Patient.String() {
		c.fail(outcome.Unprocessable, "QuestionnaireResponse.subject", "the answers are about another patient")
	}
	return read("QuestionnaireResponse", f.Answers.Get("item").List())
}

func read(path string, items []*element.Node) []*answer {
	out := make([]*answer, 0, len(items))
	for i, n := range items {
		a := &answer{linkID: n.Get("linkId").String(), path: path + ".item[" + strconv.Itoa(i) + "]"}
		for _, x := range n.Get("answer").List() {
			if _, v := value(x); v != nil {
				a.values = append(a.values, x)
			}
			a.items = append(a.items, read(a.path+".answer", x.Get("item").List())...)
		}
		a.items = append(a.items, read(a.path, n.Get("item").List())...)
		out = append(out, a)
	}
	return out
}

// value is the value[x] of an answer, an initial or an option, with the type in its name.
func value(n *element.Node) (typ string, v *element.Node) {
	if n == nil {
		return "", nil
	}
	for _, f := range n.Fields {
		if rest, ok := strings.CutPrefix(f.Name, "value"); ok && rest != "" {
			return rest, f.Value
		}
	}
	return "", nil
}

// items gives the items of the form as they are shown, with their answers.
func (c *filling) items(path string, items []*element.Node, answers []*answer) []*element.Node {
	out := make([]*element.Node, 0, len(items))
	for i, n := range items {
		at := path + ".item[" + strconv.Itoa(i) + "]"
		linkID := n.Get("linkId").String()
		given := &answer{}
		for _, a := range answers {
			if a.linkID == linkID && !a.used {
				a.used, given = true, a
				break
			}
		}
		out = append(out, c.item(at, n, given))
		for _, a := range given.items {
			if !a.used {
				c.fail(outcome.Unprocessable, a.path, "the form has no item of that linkId in that place")
			}
		}
	}
	return out
}

func (c *filling) item(at string, n *element.Node, given *answer) *element.Node {
	if len(n.Get("enableWhen").List()) > 0 || len(n.Get("modifierExtension").List()) > 0 {
		c.fail(outcome.BusinessRule, at, "an item of a form that can be signed is always shown, and means what R4 says")
	}
	values := given.values
	if fixed := n.Get("readOnly"); fixed != nil && fixed.Text == "true" {
		initial := n.Get("initial").List()
		if len(values) > 0 && !same(values, initial) {
			c.fail(outcome.Unprocessable, given.path, "the form answers this item itself")
		}
		values = initial
	}
	if len(values) == 0 && n.Get("required") != nil && n.Get("required").Text == "true" && n.Get("type").String() != "group" {
		c.fail(outcome.Required, at, "the form needs an answer to this item")
	}
	if repeats := n.Get("repeats"); len(values) > 1 && (repeats == nil || repeats.Text != "true") {
		c.fail(outcome.Unprocessable, at, "this item takes one answer")
	}
	if options := n.Get("answerOption").List(); len(options) > 0 && n.Get("type").String() == "choice" {
		for _, v := range values {
			if !slices.ContainsFunc(options, func(o *element.Node) bool { return alike(v, o) }) {
				c.fail(outcome.Unprocessable, at, "the answer is none of those that the form offers")
			}
		}
	}
	c.bind(at, n, values)
	shown := object("linkId", n.Get("linkId"))
	if t := n.Get("text"); t != nil {
		shown.Set("text", t)
	}
	var answered []*element.Node
	for _, v := range values {
		typ, x := value(v)
		answered = append(answered, object("value"+typ, x))
	}
	nested := c.items(at, n.Get("item").List(), given.items)
	switch {
	case len(answered) > 0:
		// What is asked within an answer stands in it (R4 qrs-1).
		if len(nested) > 0 {
			answered[0].Set("item", list(nested...))
		}
		shown.Set("answer", list(answered...))
	case len(nested) > 0:
		shown.Set("item", list(nested...))
	}
	return shown
}

// bind notes what an item says about the Consent.
func (c *filling) bind(at string, n *element.Node, values []*element.Node) {
	for _, x := range n.Get("code").List() {
		if x.Get("system").String() != fhir.ConsentStatement {
			continue
		}
		if len(values) != 1 || n.Get("text").String() == "" {
			c.fail(outcome.BusinessRule, at, "a statement has a text, and is a question that is answered with yes")
			continue
		}
		if typ, v := value(values[0]); typ != "Boolean" || v.Text != "true" {
			c.fail(outcome.BusinessRule, at, "a statement is a question that is answered with yes")
			continue
		}
		c.statements = append(c.statements, x.Get("code").String())
	}
	name, ok := strings.CutPrefix(n.Get("definition").String(), definition)
	if !ok {
		return
	}
	types, known := bindings[name]
	if !known {
		c.fail(outcome.BusinessRule, at+".definition", "a form fills these elements of a Consent: "+strings.Join(bound(), ", "))
		return
	}
	for _, v := range values {
		typ, x := value(v)
		if !slices.Contains(types, typ) || typ == "Reference" && !literal(x) {
			c.fail(outcome.Unprocessable, at, "what fills this element is "+strings.Join(types, " or ")+", and a reference is to a resource of this server")
			continue
		}
		c.slots[name] = append(c.slots[name], x)
	}
}

func literal(n *element.Node) bool {
	_, ok := fhir.ParseRef(n.Get("reference").String())
	return ok && n.Get("identifier") == nil
}

func same(a, b []*element.Node) bool { return slices.EqualFunc(a, b, alike) }

// alike compares two values; a display is no part of what a coding or a reference says.
func alike(a, b *element.Node) bool {
	ta, va := value(a)
	tb, vb := value(b)
	if ta != tb {
		return false
	}
	switch ta {
	case "Coding":
		return va.Get("system").String() == vb.Get("system").String() && va.Get("code").String() == vb.Get("code").String()
	case "Reference":
		return va.Get("reference").String() == vb.Get("reference").String()
	}
	return bytes.Equal(va.AppendCanonical(nil), vb.AppendCanonical(nil))
}
