package fhirpath

import (
	"maps"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// CompileView reads an expression of a ViewDefinition (SQL on FHIR v2): as [Compile], with getResourceKey() and
// getReferenceKey(), which mean nothing elsewhere. It is not cached.
func CompileView(source string) (*Expression, error) {
	root, err := parseWith(source, viewFunctions)
	if err != nil {
		return nil, err
	}
	return &Expression{source, root}, nil
}

// viewFunctions are the required additional functions of SQL on FHIR v2. The key of a resource is its id. Keys of
// references are those of relative ones (Patient/1); of any other there is none.
var viewFunctions = map[string]*function{
	"getResourceKey": {call: func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
		var out []Value
		for _, v := range in {
			if v.typ == nil || !v.typ.resource {
				return nil, ErrType
			}
			if id := v.node.Get("id").String(); id != "" {
				out = append(out, text(id))
			}
		}
		return out, nil
	}},
	"getReferenceKey": {typeArg: true, optional: true, call: func(_ *evaluator, n *node, in []Value, _ scope) ([]Value, error) {
		var out []Value
		for _, v := range in {
			if !v.Is("Reference") {
				return nil, ErrType
			}
			ref, ok := fhir.ParseRef(v.node.Get("reference").String())
			if ok && (n.typ.name == "" || string(ref.Type) == n.typ.name) {
				out = append(out, text(string(ref.ID)))
			}
		}
		return out, nil
	}},
}

// External lists the names of the variables (%name) that the expression uses and neither FHIRPath nor R4 defines, sorted.
func (e *Expression) External() []string {
	names := map[string]bool{}
	var visit func(n *node)
	visit = func(n *node) {
		if n == nil {
			return
		}
		if n.op == opExternal && !Defined(n.name) {
			names[n.name] = true
		}
		visit(n.left)
		for _, a := range n.args {
			visit(a)
		}
	}
	visit(e.root)
	return slices.Sorted(maps.Keys(names))
}

// Defined reports whether FHIRPath or R4 define a variable of that name.
func Defined(name string) bool {
	return constants[name] != "" || name == "context" || name == "resource" || name == "rootResource" ||
		strings.HasPrefix(name, "vs-") || strings.HasPrefix(name, "ext-")
}

// Int is a computed Integer, for a variable.
func Int(i int) Value { return integer(int64(i)) }
