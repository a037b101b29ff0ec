package deident

import (
	"context"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
)

// Reason is why a resource is not in a release.
type Reason string

// The reasons.
const (
	Type     Reason = "type"     // no list says what of it could be released
	Content  Reason = "content"  // it has what R4 does not define
	Modified Reason = "modified" // a modifier extension or implicit rules change what the rest means
	Note     Reason = "note"     // a psychotherapy or SUD counseling note
	OptedOut Reason = "opt-out"  // the patient does not want it
	Patient  Reason = "patient"  // it is not the record of one patient who is known
	Small    Reason = "small"    // too few patients are like hers
	Tombed   Reason = "deleted"  // it has no content
)

// walk makes the copy of one resource that may be released.
type walk struct {
	person
	ctx       context.Context //nolint:containedctx // a walk lasts as long as one call, and asks for members on its way
	release   *Release
	plans     map[string]*plan
	inside    map[string]bool // "#id" of contained resources that may be kept
	wanted    []string        // "#id" of those that something refers to, in the order in which it does
	left      Reason          // why there is no copy after all
	err       error
	questions map[string]bool // linkIds of the questionnaire that was answered
	asked     bool            // the answer to a question is an age
	cells     map[string]bool // codes that were met, by [cell]
	threshold bool            // whether rare codes are left out
}

func (w *walk) leave(r Reason) {
	if w.left == "" {
		w.left = r
	}
}

func (w *walk) stopped() bool { return w.left != "" || w.err != nil }

// resource copies the tree. own is the id in the release.
func (w *walk) resource(root *element.Node, own fhir.ID) *element.Node {
	t := root.Get("resourceType").String()
	pl := w.plans[t]
	if pl == nil || !pl.def.Resource() {
		w.leave(Type)
		return nil
	}
	contained := root.Get("contained").List()
	w.inside = map[string]bool{}
	for _, c := range contained {
		if inner := w.plans[c.Get("resourceType").String()]; inner != nil && inner.def.Resource() && w.holds(inner) {
			w.inside["#"+c.Get("id").String()] = true
		}
	}
	out := element.NewObject(
		element.Field{Name: "resourceType", Value: element.NewString(t)},
		element.Field{Name: "id", Value: element.NewString(string(own))},
		element.Field{Name: "meta", Value: element.NewObject(element.Field{Name: "security", Value: w.release.labels()})},
	)
	body := w.object(pl, root)
	if w.stopped() {
		return nil
	}
	if inner := w.contained(contained); len(inner) > 0 {
		out.Fields = append(out.Fields, element.Field{Name: "contained", Value: &element.Node{Kind: element.Array, Items: inner}})
	}
	if body != nil {
		out.Fields = append(out.Fields, body.Fields...)
	}
	return out
}

// holds reports whether a resource may be contained in one that is released. What an
// expert has determined of patients is applied to their own resources alone, and not to one inside another.
func (w *walk) holds(pl *plan) bool {
	name := pl.def.Name()
	return w.method != Expert || name == "Medication" || name != "Patient" && !pl.shared
}

// contained copies those contained resources to which something refers that is kept:
// the others would have no meaning (R4 references.html, dom-3). Their ids and their order say nothing of those that are left out.
func (w *walk) contained(list []*element.Node) []*element.Node {
	var out []*element.Node
	for i := 0; i < len(w.wanted); i++ { // copies want others
		id := w.wanted[i]
		at := slices.IndexFunc(list, func(c *element.Node) bool { return "#"+c.Get("id").String() == id })
		c := list[at]
		t := c.Get("resourceType").String()
		body := w.object(w.plans[t], c)
		if w.stopped() {
			return nil
		}
		copied := element.NewObject(
			element.Field{Name: "resourceType", Value: element.NewString(t)},
			element.Field{Name: "id", Value: element.NewString(strings.TrimPrefix(w.within(id), "#"))},
		)
		if body != nil {
			copied.Fields = append(copied.Fields, body.Fields...)
		}
		out = append(out, copied)
	}
	return out
}

// within is what a reference to a contained resource is in the release.
func (w *walk) within(id string) string {
	at := slices.Index(w.wanted, id)
	if at < 0 {
		at = len(w.wanted)
		w.wanted = append(w.wanted, id)
	}
	return "#c" + strconv.Itoa(at+1)
}

// object copies what the list has of an object, nil where that is nothing but marks of
// what is left out.
func (w *walk) object(pl *plan, n *element.Node) *element.Node {
	if n.Kind != element.Object {
		w.leave(Content)
		return nil
	}
	out, told := element.NewObject(), false
	foreign, old := w.foreign(pl, n), w.outgrown(pl, n)
	if pl.def.Name() == "QuestionnaireResponse.item" {
		defer func(was bool) { w.asked = was }(w.asked)
		w.asked = slices.ContainsFunc(strings.Split(n.Get("linkId").String(), "/"), func(code string) bool { return ageCodes[code] })
	}
	aged := w.aged(pl, n)
	for i := range n.Fields {
		f := &n.Fields[i]
		if !w.defined(pl, f) {
			return nil
		}
		r, ok := pl.rules[f.Name]
		if !ok || foreign && (r.treat == state || r.treat == zip || r.treat == city) || old && r.element.Name == "age" {
			continue
		}
		if aged && r.element.Name == "value" {
			r.treat = aging(r.treat)
		}
		if v := w.value(pl, r, f.Value); v != nil {
			out.Fields = append(out.Fields, element.Field{Name: f.Name, Value: v})
			told = told || !isMark(v)
		}
		if w.stopped() {
			return nil
		}
	}
	if x := w.extensions(n.Get("extension")); x != nil {
		out.Fields = append(out.Fields, element.Field{Name: "extension", Value: x})
		told = true
	}
	if dropsWithout(pl, out) {
		return nil
	}
	if pl.def.Name() == "Observation" || pl.def.Name() == "Observation.component" {
		valueless(out)
		told = slices.ContainsFunc(out.Fields, func(f element.Field) bool { return !isMark(f.Value) })
	}
	if !told && !pl.def.Resource() {
		return nil
	}
	w.fill(pl, n, out)
	return out
}

// defined reports whether a field is one of R4's; what is not, or changes the meaning
// of the rest, makes that the resource is left out.
func (w *walk) defined(pl *plan, f *element.Field) bool {
	e, ok := pl.known[f.Name]
	switch {
	case f.Name == "resourceType" && pl.def.Resource():
	case ok && f.Name == "modifierExtension", ok && f.Name == "implicitRules":
		w.leave(Modified)
	case ok && !e.Forbidden && f.Value != nil:
	default:
		bare, companion := strings.CutPrefix(f.Name, "_")
		switch e, ok := pl.known[bare]; {
		case !companion || !ok || !e.Primitive || e.Attribute:
			w.leave(Content)
		case bare == "implicitRules":
			w.leave(Modified)
		}
	}
	return w.left == ""
}

// value is what is kept of an element, nil for nothing.
func (w *walk) value(pl *plan, r rule, v *element.Node) *element.Node {
	if r.element.List != (v.Kind == element.Array) {
		w.leave(Content)
		return nil
	}
	if !r.element.List {
		return w.one(pl, r, v)
	}
	out := &element.Node{Kind: element.Array}
	for _, x := range v.Items {
		if x.Kind == element.Null { // the value is only said to be absent, beside it
			continue
		}
		if y := w.one(pl, r, x); y != nil {
			out.Items = append(out.Items, y)
		}
	}
	if len(out.Items) == 0 {
		return nil
	}
	return out
}

func (w *walk) one(pl *plan, r rule, v *element.Node) *element.Node {
	if r.element.Primitive == (v.Kind == element.Object || v.Kind == element.Array) {
		w.leave(Content)
		return nil
	}
	if !r.element.Primitive {
		return w.complex(pl, r, v)
	}
	switch r.treat {
	case kept:
		if v.Kind == element.Bool && (v.Text == "true" || v.Text == "false") {
			return element.NewNode(element.Bool, v.Text)
		}
	case number, answer, ages:
		return w.number(v, r.treat)
	case code:
		if r.element.Permits(v.String()) {
			return element.NewString(v.String())
		}
	case questionnaire:
		url := unversioned(v.String())
		if w.release.questionnaires[url] != nil {
			return element.NewString(url)
		}
	default:
		if s := w.text(r.treat, v.String()); s != "" {
			return element.NewString(s)
		}
	}
	return nil
}

// text is what is kept of a string, "" for nothing.
func (w *walk) text(t treatment, s string) string {
	switch t {
	case date:
		return w.date(s)
	case instant:
		return w.instant(s)
	case timeOfDay:
		if w.method == LimitedSet {
			return seconds(s)
		}
	case state:
		return stateOf(s)
	case zip:
		return w.zipOf(s)
	case country:
		if usa[s] {
			return s
		}
	case city:
		if w.method == LimitedSet && shapeCity(s) {
			return s
		}
	case link:
		if isLOINCPath(s) || w.questions[s] {
			return s
		}
	}
	return ""
}

func (w *walk) complex(pl *plan, r rule, v *element.Node) *element.Node {
	switch r.treat {
	case coding:
		return w.coding(pl, r, v)
	case concept:
		return w.concept(pl, r, v)
	case reference:
		return w.reference(v)
	case quantity, answer, ages:
		t := r.treat
		if r.element.Type == "Age" {
			t = ages
		}
		if r.sub != nil { // a Range or a Ratio: its parts are what it is
			return w.parts(r.sub, t, v)
		}
		return w.quantity(v, t, !compares(r.element.Type))
	}
	return w.object(r.sub, v)
}

// parts copies a Range or a Ratio whose numbers are treated like t.
func (w *walk) parts(pl *plan, t treatment, v *element.Node) *element.Node {
	of := *pl
	of.rules = map[string]rule{}
	for name, r := range pl.rules {
		r.treat = t
		of.rules[name] = r
	}
	return w.object(&of, v)
}

// compares reports whether a kind of quantity may have a comparator.
func compares(name string) bool {
	d, ok := codec.DefinitionOf(name)
	if !ok {
		return false
	}
	e, ok := d.Element("comparator")
	return ok && !e.Forbidden
}

func (w *walk) coding(pl *plan, r rule, v *element.Node) *element.Node {
	system, code := v.Get("system").String(), v.Get("code").String()
	if !permits(w.release.codes, system, code) {
		return nil
	}
	c := cell(pl.def.Name(), r.element.Name, system, code)
	w.cells[c] = true // also one that is left out: it was counted
	if w.threshold && w.release.rare(c) {
		return nil
	}
	return element.NewObject(element.Field{Name: "system", Value: element.NewString(system)}, element.Field{Name: "code", Value: element.NewString(code)})
}

func (w *walk) concept(pl *plan, r rule, v *element.Node) *element.Node {
	var codings []*element.Node
	for _, c := range v.Get("coding").List() {
		if c.Kind != element.Object {
			w.leave(Content)
			return nil
		}
		if x := w.coding(pl, r, c); x != nil {
			codings = append(codings, x)
		}
	}
	if len(codings) == 0 {
		return nil
	}
	return element.NewObject(element.Field{Name: "coding", Value: &element.Node{Kind: element.Array, Items: codings}})
}

// reference rewrites a reference to a resource of the release, and to a contained one.
// Any other is left out: the surrogate of something that is not there would still tell
// that it exists, who shares it, and how often.
func (w *walk) reference(v *element.Node) *element.Node {
	text := v.Get("reference").String()
	to := ""
	switch {
	case text == "":
		return nil
	case text == "#":
		to = text
	case text[0] == '#':
		if w.inside[text] {
			to = w.within(text)
		}
	default:
		ref, ok := fhir.ParseRef(text)
		if !ok {
			return nil
		}
		m, ok, err := w.release.member(w.ctx, ref)
		if err != nil {
			w.err = err
			return nil
		}
		if ok {
			to = string(ref.Type) + "/" + string(m.ID)
		}
	}
	if to == "" {
		return nil
	}
	return element.NewObject(element.Field{Name: "reference", Value: element.NewString(to)})
}

// foreign reports whether an address is none of the USA, or may be none: its postal code has no area of the census.
func (w *walk) foreign(pl *plan, n *element.Node) bool {
	if pl.def.Name() != "Address" {
		return false
	}
	country, in := n.Get("country"), n.Get("state")
	return country != nil && !usa[country.String()] || w.method != LimitedSet && in != nil && stateOf(in.String()) == ""
}

// outgrown reports whether the age of a relative, with the date on which she had it, tells that she is over 89 by now.
func (w *walk) outgrown(pl *plan, n *element.Node) bool {
	at, _, ok := day(n.Get("date").String())
	if pl.def.Name() != "FamilyMemberHistory" || !ok || w.method == LimitedSet {
		return false
	}
	limit := big.NewRat(int64(oldest-(w.now.Year()-at.Year())), 1)
	return slices.ContainsFunc([]*element.Node{n.Get("ageAge"), n.Get("ageRange").Get("low"), n.Get("ageRange").Get("high")}, func(q *element.Node) bool {
		v, _, ok := rational(q.Get("value"))
		if !ok {
			return false
		}
		years, span := inYears(v, q.Get("code").String())
		return span && years.Cmp(limit) >= 0
	})
}

// aged reports whether an observation is of an age or of a year of birth, by its codes, or a question, by the LOINC code
// in its linkId.
func (w *walk) aged(pl *plan, n *element.Node) bool {
	name := pl.def.Name()
	if name == "QuestionnaireResponse.item.answer" {
		return w.asked
	}
	if name != "Observation" && name != "Observation.component" {
		return false
	}
	return slices.ContainsFunc(n.Get("code").Get("coding").List(), func(c *element.Node) bool { return ageCodes[c.Get("code").String()] })
}

// ageCodes are those of LOINC and SNOMED CT for ages, and for a year of birth as a number.
var ageCodes = words(`30525-0 21612-7 29553-5 63900-5 35659-2 39016-1 21611-9 80904-6 397669002 424144002 397659008 445518008 105726004`)

func aging(t treatment) treatment {
	if t == answer {
		return ages
	}
	return t
}

// valueless takes the value of an observation out whose code was left out: it means nothing any more.
func valueless(n *element.Node) {
	if n.Get("code").Get("coding") != nil {
		return
	}
	n.Fields = slices.DeleteFunc(n.Fields, func(f element.Field) bool { return strings.HasPrefix(f.Name, "value") })
}

// dropsWithout reports whether an item of a questionnaire has lost its linkId: then it goes as a whole.
func dropsWithout(pl *plan, out *element.Node) bool {
	return pl.def.Name() == "QuestionnaireResponse.item" && out.Get("linkId") == nil
}

// unversioned is a canonical URL without its version and fragment.
func unversioned(url string) string {
	if i := strings.IndexAny(url, "|#"); i >= 0 {
		return url[:i]
	}
	return url
}
