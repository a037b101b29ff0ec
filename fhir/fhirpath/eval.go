package fhirpath

import (
	"context"
	"errors"
	"time"

	"github.com/cloister-health/cloister/fhir/element"
)

// Options are what an evaluation may know and cost. The zero Options are good.
type Options struct {
	Resource  *element.Node      // %resource: the resource that holds the focus; nil: the focus
	Root      *element.Node      // %rootResource: the container of a contained resource; nil: Resource
	Variables map[string][]Value // %name, besides those that FHIRPath and R4 define
	Now       time.Time          // now() and today(); the zero time is none, and such an evaluation fails
	Limits    Limits

	// MemberOf answers memberOf(); known is false for a value set that cannot be computed, which evaluates to
	// empty. nil: every value set is unknown.
	MemberOf func(ctx context.Context, valueSet, system, code string) (in, known bool, err error)
}

// Limits bound one evaluation.
type Limits struct {
	Steps int // nodes and items visited; 0: 1,000,000
	Items int // in one collection; 0: 100,000
	Text  int // bytes of one computed string; 0: 1 MiB

	Spent *int // if set, the steps taken are subtracted from it
}

// The errors of an evaluation. They name the expression's fault and never a value of the data.
var (
	ErrSteps   = errors.New("FHIRPath: the evaluation takes too many steps")
	ErrItems   = errors.New("FHIRPath: a collection becomes too large")
	ErrText    = errors.New("FHIRPath: a text becomes too long")
	ErrSingle  = errors.New("FHIRPath: one item is expected where the data has several")
	ErrType    = errors.New("FHIRPath: an operator or function does not go with the type of its input")
	ErrUnknown = errors.New("FHIRPath: a variable is not defined")
	ErrNow     = errors.New("FHIRPath: the current time is not known here")
	ErrFailed  = errors.New("FHIRPath: the evaluation failed")
)

// evaluator is one evaluation.
type evaluator struct {
	ctx   context.Context
	opts  Options
	root  Value
	steps int
}

// scope is what $this, $index and $total mean.
type scope struct {
	this    []Value
	index   int // -1: none
	total   []Value
	totaled bool
}

// Eval evaluates e with focus as the context (%context). The error is one of this package or that of ctx.
func (e *Expression) Eval(ctx context.Context, focus Value, opts Options) (out []Value, err error) {
	defer func() {
		if recover() != nil { // nothing is known to panic; if something does, it takes one evaluation along
			out, err = nil, ErrFailed
		}
	}()
	if opts.Limits.Steps <= 0 {
		opts.Limits.Steps = 1_000_000
	}
	if opts.Limits.Items <= 0 {
		opts.Limits.Items = 100_000
	}
	if opts.Limits.Text <= 0 {
		opts.Limits.Text = 1 << 20
	}
	ev := &evaluator{ctx: ctx, opts: opts, root: focus}
	if opts.Limits.Spent != nil {
		defer func() { *opts.Limits.Spent -= ev.steps }()
	}
	return ev.eval(e.root, scope{this: []Value{focus}, index: -1})
}

// Bool evaluates e as a condition: nothing is false, one item that is no Boolean is true (FHIRPath N1, singleton
// evaluation of collections), several items are an error.
func (e *Expression) Bool(ctx context.Context, focus Value, opts Options) (bool, error) {
	out, err := e.Eval(ctx, focus, opts)
	if err != nil {
		return false, err
	}
	b, known, err := truth(out)
	return b && known, err
}

// Holds evaluates e as an invariant: as Bool, but where the expression says nothing, it holds.
func (e *Expression) Holds(ctx context.Context, focus Value, opts Options) (bool, error) {
	out, err := e.Eval(ctx, focus, opts)
	if err != nil {
		return false, err
	}
	b, known, err := truth(out)
	return b || !known, err
}

// truth is the Boolean that a collection is where one is expected; known is false for the empty one.
func truth(c []Value) (b, known bool, err error) {
	switch {
	case len(c) == 0:
		return false, false, nil
	case len(c) > 1:
		return false, false, ErrSingle
	case c[0].kind == Boolean:
		if c[0].text == "" {
			return false, false, nil // an element with extensions only
		}
		return c[0].text == "true", true, nil
	default:
		return true, true, nil
	}
}

func (ev *evaluator) step(n int) error {
	before := ev.steps
	if ev.steps += n; ev.steps > ev.opts.Limits.Steps {
		return ErrSteps
	}
	if before>>10 != ev.steps>>10 {
		return ev.ctx.Err()
	}
	return nil
}

// sized passes a collection on if it is not too large, and counts it.
func (ev *evaluator) sized(c []Value) ([]Value, error) {
	if len(c) > ev.opts.Limits.Items {
		return nil, ErrItems
	}
	return c, ev.step(len(c))
}

func (ev *evaluator) eval(n *node, s scope) ([]Value, error) {
	if err := ev.step(1); err != nil {
		return nil, err
	}
	switch n.op {
	case opLiteral:
		return []Value{n.value}, nil
	case opEmpty:
		return nil, nil
	case opThis:
		return s.this, nil
	case opIndex:
		if s.index < 0 {
			return nil, nil
		}
		return []Value{integer(int64(s.index))}, nil
	case opTotal:
		if !s.totaled {
			return nil, nil
		}
		return s.total, nil
	case opExternal:
		return ev.external(n.name)
	case opMember:
		return ev.member(n, s)
	case opCall:
		in, err := ev.focus(n, s)
		if err != nil {
			return nil, err
		}
		out, err := n.fn.call(ev, n, in, s)
		if err != nil {
			return nil, err
		}
		return ev.sized(out)
	case opIndexer:
		in, err := ev.focus(n, s)
		if err != nil {
			return nil, err
		}
		at, err := ev.single(n.args[0], s)
		if err != nil || at == nil {
			return nil, err
		}
		i, ok := parseInt(at.text)
		if at.kind != Integer || !ok {
			return nil, ErrType
		}
		if i < 0 || i >= int64(len(in)) {
			return nil, nil
		}
		return in[i : i+1], nil
	case opNegate, opPlus:
		return ev.sign(n, s)
	case opIs:
		in, err := ev.single(n.left, s)
		if err != nil || in == nil {
			return nil, err
		}
		return []Value{boolean(n.typ.matches(*in))}, nil
	case opAs:
		in, err := ev.eval(n.left, s)
		if err != nil {
			return nil, err
		}
		return ofType(n.typ, in), nil
	default:
		return ev.binary(n, s)
	}
}

// focus is what n is applied to.
func (ev *evaluator) focus(n *node, s scope) ([]Value, error) {
	if n.left == nil {
		return s.this, nil
	}
	return ev.eval(n.left, s)
}

// single evaluates n to one item, or nil for none.
func (ev *evaluator) single(n *node, s scope) (*Value, error) {
	c, err := ev.eval(n, s)
	if err != nil || len(c) == 0 {
		return nil, err
	}
	if len(c) > 1 {
		return nil, ErrSingle
	}
	return &c[0], nil
}

func (ev *evaluator) member(n *node, s scope) ([]Value, error) {
	in, err := ev.focus(n, s)
	if err != nil || len(in) == 0 {
		return nil, err
	}
	if n.left == nil && n.name[0] >= 'A' && n.name[0] <= 'Z' {
		// The name of a type at the start of a path stands for the context, if it is of that type.
		if t := model()[n.name]; t != nil {
			var out []Value
			for i := range in {
				if in[i].typ.is(t) {
					out = append(out, in[i])
				}
			}
			return out, nil
		}
	}
	var out []Value
	for i := range in {
		out = in[i].appendChild(out, n.name)
		if len(out) > ev.opts.Limits.Items {
			return nil, ErrItems
		}
	}
	return ev.sized(out)
}

// constants are the variables that FHIRPath and R4 define (R4 fhirpath.html, variables).
var constants = map[string]string{
	"ucum": "http://unitsofmeasure.org", "sct": "http://snomed.info/sct", "loinc": "http://loinc.org",
}

func (ev *evaluator) external(name string) ([]Value, error) {
	if v, ok := ev.opts.Variables[name]; ok {
		return v, nil
	}
	if uri, ok := constants[name]; ok {
		return []Value{text(uri)}, nil
	}
	switch {
	case name == "context":
		return []Value{ev.root}, nil
	case name == "resource" || name == "rootResource":
		n := ev.opts.Resource
		if name == "rootResource" && ev.opts.Root != nil {
			n = ev.opts.Root
		}
		if n == nil {
			return []Value{ev.root}, nil
		}
		if v, ok := Resource(n); ok {
			return []Value{v}, nil
		}
		return nil, nil
	case len(name) > 3 && name[:3] == "vs-":
		return []Value{text("http://hl7.org/fhir/ValueSet/" + name[3:])}, nil
	case len(name) > 4 && name[:4] == "ext-":
		return []Value{text("http://hl7.org/fhir/StructureDefinition/" + name[4:])}, nil
	}
	return nil, ErrUnknown
}

func ofType(t typeName, in []Value) []Value {
	var out []Value
	for i := range in {
		if t.matches(in[i]) {
			out = append(out, in[i])
		}
	}
	return out
}
