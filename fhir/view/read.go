package view

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/outcome"
)

const fhirVersion = "4.0.1"

// rowIndex is the variable that counts what a forEach goes through, from 0.
const rowIndex = "rowIndex"

// New reads a ViewDefinition. The error is an *outcome.Error with the path of the fault.
func New(root *element.Node) (*View, error) {
	r := &reader{view: &View{constants: map[string][]fhirpath.Value{}}}
	v := r.view
	const at = "ViewDefinition"
	if root == nil || root.Kind != element.Object {
		return nil, outcome.At(outcome.Structure, at, "it is no JSON object")
	}
	if err := members(at, root, head); err != nil {
		return nil, err
	}
	if t := root.Get("resourceType"); t != nil && t.Text != at {
		return nil, outcome.At(outcome.Structure, at+".resourceType", "it is no ViewDefinition")
	}
	v.url, v.name = root.Get("url").String(), root.Get("name").String()
	v.title, v.description = root.Get("title").String(), root.Get("description").String()
	if v.name != "" && !sqlName(v.name) {
		return nil, outcome.At(outcome.Value, at+".name", badName)
	}
	if err := r.target(at, root); err != nil {
		return nil, err
	}
	for i, c := range root.Get("constant").List() {
		if err := r.constant(fmt.Sprintf("%s.constant[%d]", at, i), c); err != nil {
			return nil, err
		}
	}
	for i, w := range root.Get("where").List() {
		p := fmt.Sprintf("%s.where[%d]", at, i)
		if err := members(p, w, map[string]form{"path": must, "description": text}); err != nil {
			return nil, err
		}
		e, err := r.expression(p+".path", w.Get("path").String())
		if err != nil {
			return nil, err
		}
		v.where = append(v.where, e)
	}
	v.root = &selection{path: at}
	for i, s := range root.Get("select").List() {
		x, err := r.selection(fmt.Sprintf("%s.select[%d]", at, i), s, 1)
		if err != nil {
			return nil, err
		}
		v.root.selects = append(v.root.selects, x)
	}
	v.root.end = len(v.columns)
	if len(v.columns) == 0 {
		return nil, outcome.At(outcome.Required, at+".select", "the view has no column")
	}
	return v, nil
}

type reader struct{ view *View }

var shapeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,254}$`)

const badName = "a name begins with a letter and goes on with letters, digits and underscores"

func sqlName(s string) bool { return shapeName.MatchString(s) }

// target reads what the view is of.
func (r *reader) target(at string, root *element.Node) error {
	rt := root.Get("resource").String()
	if d, ok := codec.DefinitionOf(rt); !ok || !d.Resource() {
		return outcome.At(outcome.CodeInvalid, at+".resource", "it is no resource type of R4")
	}
	r.view.resource = fhir.ResourceType(rt)
	for i, x := range root.Get("fhirVersion").List() {
		if x.Kind != element.String {
			return outcome.At(outcome.Structure, fmt.Sprintf("%s.fhirVersion[%d]", at, i), "it is no string")
		}
		r.view.versions = append(r.view.versions, x.Text)
	}
	if v := r.view.versions; v != nil && !slices.Contains(v, fhirVersion) {
		return outcome.At(outcome.NotSupported, at+".fhirVersion", "resources here are of FHIR "+fhirVersion+", which the view does not name")
	}
	return nil
}

// constantTypes are what value[x] of a constant may be.
const constantTypes = " base64Binary boolean canonical code date dateTime decimal id instant integer integer64 oid string positiveInt time unsignedInt uri url uuid "

func (r *reader) constant(at string, n *element.Node) error {
	if n.Kind != element.Object {
		return outcome.At(outcome.Structure, at, "it is no JSON object")
	}
	name, typ := n.Get("name").String(), ""
	var value *element.Node
	for _, f := range n.Fields {
		suffix, ok := strings.CutPrefix(f.Name, "value")
		switch {
		case f.Name == "name":
		case !ok || suffix == "" || !strings.Contains(constantTypes, " "+strings.ToLower(suffix[:1])+suffix[1:]+" "):
			return outcome.At(outcome.Structure, at+"."+f.Name, unknown)
		case value != nil:
			return outcome.At(outcome.Structure, at+"."+f.Name, "a constant has one value")
		default:
			typ, value = strings.ToLower(suffix[:1])+suffix[1:], f.Value
		}
	}
	switch _, twice := r.view.constants[name]; {
	case name == "":
		return outcome.At(outcome.Required, at+".name", needed)
	case value == nil:
		return outcome.At(outcome.Required, at+".value[x]", needed)
	case !sqlName(name):
		return outcome.At(outcome.Value, at+".name", badName)
	case twice || name == rowIndex || fhirpath.Defined(name):
		return outcome.At(outcome.Value, at+".name", "a variable of this name is defined already")
	}
	const wrong = "the value is not of its type"
	if typ == "integer64" { // of R5, in JSON a string; to FHIRPath it is an Integer
		if _, err := strconv.ParseInt(value.String(), 10, 64); err != nil {
			return outcome.At(outcome.Value, at, wrong)
		}
		value, typ = element.NewNode(element.Number, value.Text), "integer"
	} else if !parameter(typ, value) {
		return outcome.At(outcome.Value, at, wrong)
	}
	v, ok := fhirpath.Of(value, typ)
	if !ok {
		return outcome.At(outcome.Value, at, wrong)
	}
	r.view.constants[name] = []fhirpath.Value{v}
	return nil
}

// parameter reports whether a value is of its type. A Parameters resource may have all those types: what is wrong with a
// value is known there.
func parameter(typ string, value *element.Node) bool {
	p := element.NewObject(element.Field{Name: "name", Value: element.NewString("constant")},
		element.Field{Name: "value" + strings.ToUpper(typ[:1]) + typ[1:], Value: value})
	_, err := codec.Check(element.NewObject(element.Field{Name: "resourceType", Value: element.NewString("Parameters")},
		element.Field{Name: "parameter", Value: &element.Node{Kind: element.Array, Items: []*element.Node{p}}}))
	return err == nil
}

func (r *reader) expression(at, source string) (expression, error) {
	e, err := fhirpath.CompileView(source)
	if err != nil {
		return expression{}, outcome.At(outcome.Value, at, err.Error())
	}
	names := e.External()
	for _, name := range names {
		if _, ok := r.view.constants[name]; !ok && name != rowIndex {
			return expression{}, outcome.At(outcome.Value, at, "the view has no constant of the name "+name)
		}
	}
	return expression{e, at, slices.Contains(names, rowIndex)}, nil
}

func (r *reader) selection(at string, n *element.Node, depth int) (*selection, error) {
	if depth > maxNesting {
		return nil, outcome.At(outcome.TooCostly, at, "the selects are nested too deep")
	}
	if err := members(at, n, inSelect); err != nil {
		return nil, err
	}
	s := &selection{path: at, first: len(r.view.columns)}
	if err := r.iteration(at, n, s); err != nil {
		return nil, err
	}
	for i, c := range n.Get("column").List() {
		x, err := r.column(fmt.Sprintf("%s.column[%d]", at, i), c)
		if err != nil {
			return nil, err
		}
		s.columns = append(s.columns, x)
	}
	for i, c := range n.Get("select").List() {
		x, err := r.selection(fmt.Sprintf("%s.select[%d]", at, i), c, depth+1)
		if err != nil {
			return nil, err
		}
		s.selects = append(s.selects, x)
	}
	if err := r.union(at, n, s, depth); err != nil {
		return nil, err
	}
	s.end = len(r.view.columns)
	if s.first == s.end {
		return nil, outcome.At(outcome.Required, at, "a select needs a column, a select or a unionAll")
	}
	return s, nil
}

// iteration reads what the rows of a select are made of.
func (r *reader) iteration(at string, n *element.Node, s *selection) error {
	count := 0
	for _, name := range []string{"forEach", "forEachOrNull", "repeat"} {
		x := n.Get(name)
		if x == nil {
			continue
		}
		if count++; count > 1 {
			return outcome.At(outcome.Structure, at+"."+name, "a select has one of forEach, forEachOrNull and repeat at most")
		}
		if name != "repeat" {
			e, err := r.expression(at+"."+name, x.Text)
			if err != nil {
				return err
			}
			s.each, s.orNull = &e, name == "forEachOrNull"
			continue
		}
		for i, p := range x.Items {
			here := fmt.Sprintf("%s.repeat[%d]", at, i)
			if p.Kind != element.String {
				return outcome.At(outcome.Structure, here, "it is no string")
			}
			e, err := r.expression(here, p.Text)
			if err != nil {
				return err
			}
			s.repeat = append(s.repeat, e)
		}
	}
	return nil
}

func (r *reader) column(at string, n *element.Node) (cell, error) {
	if err := members(at, n, inColumn); err != nil {
		return cell{}, err
	}
	c := Column{Name: n.Get("name").String(), Type: "string", Description: n.Get("description").String()}
	if x := n.Get("collection"); x != nil {
		c.Collection = x.Text == "true"
	}
	if t := n.Get("type"); t != nil {
		if c.Type = columnType(t.Text); c.Type == "" {
			return cell{}, outcome.At(outcome.NotSupported, at+".type", "it is no primitive type of FHIR; a column here has values of one")
		}
		c.stated = true
	}
	switch {
	case !sqlName(c.Name):
		return cell{}, outcome.At(outcome.Value, at+".name", badName)
	case slices.ContainsFunc(r.view.columns, func(o Column) bool { return o.Name == c.Name }):
		return cell{}, outcome.At(outcome.Value, at+".name", "there is another column "+c.Name)
	case len(r.view.columns) == maxColumns:
		return cell{}, outcome.At(outcome.TooCostly, at, fmt.Sprintf("a view has at most %d columns", maxColumns))
	}
	for i, t := range n.Get("tag").List() {
		if err := members(fmt.Sprintf("%s.tag[%d]", at, i), t, map[string]form{"name": must, "value": must}); err != nil {
			return cell{}, err
		}
	}
	e, err := r.expression(at+".path", n.Get("path").String())
	if err != nil {
		return cell{}, err
	}
	r.view.columns = append(r.view.columns, c)
	return cell{expression: e, at: len(r.view.columns) - 1, index: strings.TrimSpace(e.String()) == "%"+rowIndex}, nil
}

// union reads a unionAll: all its structures fill the same columns.
func (r *reader) union(at string, n *element.Node, s *selection, depth int) error {
	before := r.view.columns
	var shared []Column
	for i, c := range n.Get("unionAll").List() {
		here := fmt.Sprintf("%s.unionAll[%d]", at, i)
		r.view.columns = before[:len(before):len(before)]
		x, err := r.selection(here, c, depth+1)
		if err != nil {
			return err
		}
		s.unions = append(s.unions, x)
		own := r.view.columns[len(before):]
		if i == 0 {
			shared = own
		} else if !slices.EqualFunc(shared, own, Column.same) {
			return outcome.At(outcome.Value, here, "its columns are not those of the first structure of the unionAll: names, order, types and collection are the same in all")
		}
	}
	if s.unions != nil {
		r.view.columns = slices.Concat(before, shared)
	}
	return nil
}

// same reports whether two structures of a unionAll may fill one column.
func (c Column) same(o Column) bool {
	return c.Name == o.Name && c.Type == o.Type && c.Collection == o.Collection && c.stated == o.stated
}
