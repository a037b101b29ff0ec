package patch

import (
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// jsonOperation is one operation of a JSON Patch (RFC 6902, 4). It works on nodes rather than on encoded JSON, so
// that decimals keep their digits (R4 json.html#decimal).
type jsonOperation struct {
	op    string
	path  []string
	from  []string
	value *element.Node
}

func parseJSON(body []byte) (Patch, error) {
	root, err := codec.ReadJSON(body, codec.DefaultLimits)
	if err != nil {
		return Patch{}, err
	}
	if root.Kind != element.Array {
		return Patch{}, outcome.New(outcome.Invalid, "a JSON Patch is an array of operations (RFC 6902)")
	}
	if len(root.Items) > MaxOperations {
		return Patch{}, outcome.New(outcome.TooLong, "the patch has more than "+strconv.Itoa(MaxOperations)+" operations")
	}
	var p Patch
	for i, n := range root.Items {
		o, wrong := jsonOperationOf(n)
		if wrong != "" {
			return Patch{}, outcome.New(outcome.Invalid, "operation "+strconv.Itoa(i)+": "+wrong)
		}
		p.operations = append(p.operations, o)
	}
	return p, nil
}

func jsonOperationOf(n *element.Node) (o jsonOperation, wrong string) {
	if n.Kind != element.Object {
		return o, "an operation is an object"
	}
	o = jsonOperation{op: n.Get("op").String(), value: n.Get("value")}
	value, from := false, false
	switch o.op {
	case "add", "replace", "test":
		value = true
	case "move", "copy":
		from = true
	case "remove":
	default:
		return o, "op is add, remove, replace, move, copy or test"
	}
	if value && o.value == nil {
		return o, "value is missing"
	}
	var ok bool
	if o.path, ok = pointer(n.Get("path")); !ok {
		return o, "path is no JSON Pointer (RFC 6901)"
	}
	if from {
		if o.from, ok = pointer(n.Get("from")); !ok {
			return o, "from is no JSON Pointer (RFC 6901)"
		}
	}
	return o, ""
}

// pointer reads a JSON Pointer (RFC 6901).
func pointer(n *element.Node) ([]string, bool) {
	if n == nil || n.Kind != element.String {
		return nil, false
	}
	if n.Text == "" {
		return nil, true
	}
	if n.Text[0] != '/' || strings.Count(n.Text, "/") > 2*codec.DefaultLimits.Depth {
		return nil, false
	}
	segs := strings.Split(n.Text[1:], "/")
	for i, s := range segs {
		for j := 0; j < len(s); j++ {
			if s[j] == '~' && (j+1 == len(s) || s[j+1] != '0' && s[j+1] != '1') {
				return nil, false
			}
		}
		segs[i] = strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~")
	}
	return segs, true
}

// errNowhere is the one answer to a path that leads nowhere.
func errNowhere() error {
	return outcome.New(outcome.Unprocessable, "the path does not lead to an element of the resource")
}

// errTest is the one answer to a test that fails, whatever is there instead, or nothing.
func errTest() error { return outcome.New(outcome.Unprocessable, "the test failed") }

func (o jsonOperation) apply(d *document) error {
	switch o.op {
	case "test":
		n, ok := d.find(o.path)
		if !ok || !equal(n, o.value) {
			return errTest()
		}
		return nil
	case "add":
		if err := d.take(o.value); err != nil {
			return err
		}
		return d.add(o.path, o.value.Clone())
	case "replace":
		if err := d.take(o.value); err != nil {
			return err
		}
		return d.replace(o.path, o.value.Clone())
	case "remove":
		_, err := d.remove(o.path)
		return err
	case "copy":
		n, ok := d.find(o.from)
		if !ok {
			return errNowhere()
		}
		if err := d.take(n); err != nil {
			return err
		}
		return d.add(o.path, n.Clone())
	default: // move
		if len(o.path) > len(o.from) && slicesPrefix(o.path, o.from) {
			return outcome.New(outcome.Unprocessable, "an element cannot move into itself")
		}
		n, err := d.remove(o.from)
		if err != nil {
			return err
		}
		return d.add(o.path, n)
	}
}

func slicesPrefix(s, prefix []string) bool {
	for i := range prefix {
		if s[i] != prefix[i] {
			return false
		}
	}
	return true
}

// find follows a pointer.
func (d *document) find(path []string) (*element.Node, bool) {
	n := d.root
	for _, seg := range path {
		switch n.Kind {
		case element.Object:
			if n = n.Get(seg); n == nil {
				return nil, false
			}
		case element.Array:
			i, ok := index(seg, len(n.Items)-1)
			if !ok {
				return nil, false
			}
			n = n.Items[i]
		default:
			return nil, false
		}
	}
	return n, true
}

// index reads an array index from 0 to last.
func index(seg string, last int) (int, bool) {
	i, err := strconv.Atoi(seg)
	return i, err == nil && i >= 0 && i <= last && strconv.Itoa(i) == seg
}

func (d *document) parent(path []string) (n *element.Node, seg string, ok bool) {
	n, ok = d.find(path[:len(path)-1])
	return n, path[len(path)-1], ok && (n.Kind == element.Object || n.Kind == element.Array)
}

func (d *document) add(path []string, v *element.Node) error {
	if len(path) == 0 {
		d.root = v
		return nil
	}
	n, seg, ok := d.parent(path)
	if !ok {
		return errNowhere()
	}
	if n.Kind == element.Object {
		n.Set(seg, v)
		return nil
	}
	i, ok := index(seg, len(n.Items))
	if seg == "-" {
		i, ok = len(n.Items), true
	}
	if !ok {
		return errNowhere()
	}
	insert(n, i, v)
	return nil
}

func insert(n *element.Node, i int, v *element.Node) {
	n.Items = append(n.Items, nil)
	copy(n.Items[i+1:], n.Items[i:])
	n.Items[i] = v
}

func (d *document) replace(path []string, v *element.Node) error {
	if len(path) == 0 {
		d.root = v
		return nil
	}
	n, seg, ok := d.parent(path)
	switch {
	case !ok:
	case n.Kind == element.Object && n.Get(seg) != nil:
		n.Set(seg, v)
		return nil
	case n.Kind == element.Array:
		if i, ok := index(seg, len(n.Items)-1); ok {
			n.Items[i] = v
			return nil
		}
	}
	return errNowhere()
}

func (d *document) remove(path []string) (*element.Node, error) {
	if len(path) == 0 {
		return nil, outcome.New(outcome.Unprocessable, "a patch cannot remove the resource")
	}
	n, seg, ok := d.parent(path)
	switch {
	case !ok:
	case n.Kind == element.Object:
		if v := n.Get(seg); v != nil {
			n.Delete(seg)
			return v, nil
		}
	default:
		if i, ok := index(seg, len(n.Items)-1); ok {
			v := n.Items[i]
			n.Items = append(n.Items[:i:i], n.Items[i+1:]...)
			return v, nil
		}
	}
	return nil, errNowhere()
}

// equal compares as a test does (RFC 6902, 4.6): numbers by value, objects whatever the order of their members.
func equal(a, b *element.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Kind != b.Kind || len(a.Fields) != len(b.Fields) || len(a.Items) != len(b.Items) {
		return false
	}
	switch a.Kind {
	case element.Number:
		return a.Text == b.Text || sameNumber(a.Text, b.Text)
	case element.Object:
		for _, f := range a.Fields {
			if !equal(f.Value, b.Get(f.Name)) {
				return false
			}
		}
	case element.Array:
		for i := range a.Items {
			if !equal(a.Items[i], b.Items[i]) {
				return false
			}
		}
	}
	return a.Text == b.Text || a.Kind == element.Object || a.Kind == element.Array
}

func sameNumber(a, b string) bool {
	x, _, err1 := apd.NewFromString(a)
	y, _, err2 := apd.NewFromString(b)
	// A comparison aligns the digits: beyond what codec lets in, that is work for nothing.
	const most = 2000
	if err1 != nil || err2 != nil || max(x.Exponent, y.Exponent) > most || min(x.Exponent, y.Exponent) < -most {
		return false
	}
	return x.Cmp(y) == 0
}
