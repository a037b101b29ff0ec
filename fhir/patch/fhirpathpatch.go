package patch

import (
	"context"
	"strconv"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// pathOperation is one operation of a FHIRPath Patch (R4 fhirpatch.html).
type pathOperation struct {
	kind                       string
	at                         string // where in the Parameters: its path in the issues
	path                       *fhirpath.Expression
	name                       string
	value                      *content
	index, source, destination int // -1: not given
}

// content is what an operation puts somewhere: a value, a resource, or, for an element that has no data type of its
// own, its elements by name.
type content struct {
	value fhirpath.Value
	set   bool
	parts []namedContent
}

type namedContent struct {
	name string
	content
}

func parseFHIRPath(body []byte) (Patch, error) {
	r, err := codec.Parse(body)
	if err != nil {
		return Patch{}, err
	}
	if r.Type != "Parameters" {
		return Patch{}, outcome.New(outcome.Invalid, "a FHIRPath Patch is a Parameters resource")
	}
	root, _ := fhirpath.Resource(r.Root)
	list := root.Child("parameter")
	if len(list) > MaxOperations {
		return Patch{}, outcome.New(outcome.TooLong, "the patch has more than "+strconv.Itoa(MaxOperations)+" operations")
	}
	var p Patch
	for i, x := range list {
		at := "Parameters.parameter[" + strconv.Itoa(i) + "]"
		if x.Node().Get("name").String() != "operation" {
			return Patch{}, outcome.At(outcome.Invalid, at, "a parameter of a FHIRPath Patch is an operation")
		}
		o := pathOperation{at: at, index: -1, source: -1, destination: -1}
		if wrong := o.read(x.Child("part")); wrong != "" {
			return Patch{}, outcome.At(outcome.Invalid, at, wrong)
		}
		p.operations = append(p.operations, o)
	}
	return p, nil
}

func (o *pathOperation) read(parts []fhirpath.Value) (wrong string) {
	seen := map[string]bool{}
	for _, part := range parts {
		name := part.Node().Get("name").String()
		if seen[name] {
			return "the part " + known(name) + " is there twice"
		}
		seen[name] = true
		text := ""
		if v := part.Child("value"); len(v) == 1 {
			text = v[0].Text()
		}
		ok := true
		switch name {
		case "type":
			o.kind = text
		case "path":
			e, err := fhirpath.Compile(text)
			if err != nil {
				return "path: " + err.Error()
			}
			o.path = e
		case "name":
			o.name = text
		case "value":
			c := contentOf(part)
			o.value = &c
		case "index":
			o.index, ok = count(text)
		case "source":
			o.source, ok = count(text)
		case "destination":
			o.destination, ok = count(text)
		default:
			return "an operation has the parts type, path, name, value, index, source and destination only"
		}
		if !ok {
			return name + " is an integer from 0"
		}
	}
	need := func(ok bool, name string) {
		if !ok && wrong == "" {
			wrong = "the part " + name + " is missing"
		}
	}
	need(o.path != nil, "path")
	switch o.kind {
	case "add":
		need(o.name != "", "name")
		need(o.value != nil, "value")
	case "insert":
		need(o.value != nil, "value")
		need(o.index >= 0, "index")
	case "replace":
		need(o.value != nil, "value")
	case "move":
		need(o.source >= 0, "source")
		need(o.destination >= 0, "destination")
	case "delete":
	default:
		return "type is add, insert, delete, replace or move"
	}
	return wrong
}

// known keeps names that a client made up out of the answer.
func known(name string) string {
	switch name {
	case "type", "path", "name", "value", "index", "source", "destination":
		return name
	}
	return "of that name"
}

func count(s string) (int, bool) {
	i, err := strconv.Atoi(s)
	return i, err == nil && i >= 0
}

func contentOf(part fhirpath.Value) content {
	if v := part.Child("value"); len(v) == 1 {
		return content{value: v[0], set: true}
	}
	if v := part.Child("resource"); len(v) == 1 {
		return content{value: v[0], set: true}
	}
	var c content
	for _, p := range part.Child("part") {
		c.parts = append(c.parts, namedContent{p.Node().Get("name").String(), contentOf(p)})
	}
	return c
}

// limits bound the evaluation of one path; a path of a patch leads somewhere, it does not compute.
var limits = fhirpath.Limits{Steps: 200_000, Items: 10_000, Text: 64 << 10}

func (o pathOperation) apply(d *document) error {
	err := o.change(d)
	if err != nil {
		e := outcome.Of(err)
		for i := range e.Issues {
			e.Issues[i].Path = o.at
		}
	}
	return err
}

func refuse(text string) error { return outcome.New(outcome.Unprocessable, text) }

func (o pathOperation) change(d *document) error {
	root, ok := fhirpath.Resource(d.root)
	if !ok {
		return refuse("the patch leaves no resource")
	}
	found, err := o.path.Eval(context.Background(), root, fhirpath.Options{Limits: limits})
	if err != nil {
		return refuse("the path cannot be evaluated")
	}
	if o.value != nil {
		if err := o.value.take(d); err != nil {
			return err
		}
	}
	switch o.kind {
	case "add":
		if len(found) != 1 {
			return refuse("the path of an add selects one element")
		}
		return o.add(found[0])
	case "delete":
		if len(found) == 0 {
			return nil // fhirpatch.html: no error if there is nothing to delete
		}
		return o.single(found, func(p fhirpath.Place) error {
			removeAt(p)
			return nil
		})
	case "replace":
		return o.single(found, func(p fhirpath.Place) error { return o.value.replace(p) })
	case "insert":
		place, n, err := list(found)
		if err != nil {
			return err
		}
		if o.index > n {
			return refuse("the index is beyond the end of the list")
		}
		place.Index = o.index
		return o.value.insert(place, n)
	default: // move
		place, n, err := list(found)
		if err != nil {
			return err
		}
		if o.source >= n || o.destination >= n {
			return refuse("source or destination is beyond the end of the list")
		}
		move(place.Owner.Get(place.Field), o.source, o.destination)
		move(place.Owner.Get("_"+place.Field), o.source, o.destination)
		return nil
	}
}

func (c *content) take(d *document) error {
	for _, n := range []*element.Node{c.value.Node(), c.value.Extension()} {
		if err := d.take(n); err != nil {
			return err
		}
	}
	for i := range c.parts {
		if err := c.parts[i].take(d); err != nil {
			return err
		}
	}
	return nil
}

func (o pathOperation) single(found []fhirpath.Value, do func(fhirpath.Place) error) error {
	if len(found) != 1 {
		return refuse("the path of a " + o.kind + " selects one element")
	}
	p := found[0].Place()
	if p.Owner == nil {
		return refuse("the path does not lead to an element of the resource")
	}
	return do(p)
}

// list gives the place of the list that found is, and its length.
func list(found []fhirpath.Value) (fhirpath.Place, int, error) {
	if len(found) == 0 {
		return fhirpath.Place{}, 0, refuse("the path does not lead to a list of the resource")
	}
	p := found[0].Place()
	if p.Owner == nil || p.Index < 0 {
		return p, 0, refuse("the path does not lead to a list of the resource")
	}
	n := max(len(p.Owner.Get(p.Field).List()), len(p.Owner.Get("_"+p.Field).List()))
	for i, v := range found {
		if q := v.Place(); q.Owner != p.Owner || q.Field != p.Field || q.Index != i {
			return p, 0, refuse("the path selects a whole list, and nothing else")
		}
	}
	if len(found) != n {
		return p, 0, refuse("the path selects a whole list, and nothing else")
	}
	return p, n, nil
}

func move(n *element.Node, from, to int) {
	if n == nil || from >= len(n.Items) {
		return
	}
	x := n.Items[from]
	n.Items = append(n.Items[:from:from], n.Items[from+1:]...)
	insert(n, min(to, len(n.Items)), x)
}
