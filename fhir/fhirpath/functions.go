package fhirpath

import (
	"slices"
	"sync"
)

// function is one function: how many arguments it takes and what it does. Arguments are evaluated by the
// function, because some of them are criteria that are evaluated for each item.
type function struct {
	min, max int
	typeArg  bool // its one argument is a type
	optional bool // that argument may be left out
	call     func(ev *evaluator, n *node, in []Value, s scope) ([]Value, error)
}

var functions = sync.OnceValue(func() map[string]*function {
	m := map[string]*function{
		// Existence
		"empty":      {call: func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) { return is(len(in) == 0) }},
		"exists":     {max: 1, call: exists},
		"all":        {min: 1, max: 1, call: all},
		"allTrue":    {call: quantified(true, true)},
		"anyTrue":    {call: quantified(true, false)},
		"allFalse":   {call: quantified(false, true)},
		"anyFalse":   {call: quantified(false, false)},
		"subsetOf":   {min: 1, max: 1, call: subset(false)},
		"supersetOf": {min: 1, max: 1, call: subset(true)},
		"count": {call: func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
			return []Value{integer(int64(len(in)))}, nil
		}},
		"distinct":   {call: func(ev *evaluator, _ *node, in []Value, _ scope) ([]Value, error) { return ev.distinct(in) }},
		"isDistinct": {call: isDistinct},
		"not":        {call: not},

		// Filtering and projection
		"where":  {min: 1, max: 1, call: where},
		"select": {min: 1, max: 1, call: project},
		"repeat": {min: 1, max: 1, call: repeat},
		"ofType": {typeArg: true, call: typed},
		"as":     {typeArg: true, call: typed},
		"is":     {typeArg: true, call: isOf},

		// Subsetting
		"first": {call: part(func(in []Value) []Value { return in[:min(1, len(in))] })},
		"last":  {call: part(func(in []Value) []Value { return in[max(0, len(in)-1):] })},
		"tail":  {call: part(func(in []Value) []Value { return in[min(1, len(in)):] })},
		"single": {call: func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
			if len(in) > 1 {
				return nil, ErrSingle
			}
			return in, nil
		}},
		"skip":      {min: 1, max: 1, call: skip},
		"take":      {min: 1, max: 1, call: take},
		"intersect": {min: 1, max: 1, call: intersect(true)},
		"exclude":   {min: 1, max: 1, call: intersect(false)},

		// Combining
		"union": {min: 1, max: 1, call: func(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
			other, err := ev.eval(n.args[0], s)
			if err != nil {
				return nil, err
			}
			return ev.union(in, other)
		}},
		"combine": {min: 1, max: 1, call: func(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
			other, err := ev.eval(n.args[0], s)
			return append(slices.Clip(in), other...), err
		}},

		// Tree
		"children":    {call: children},
		"descendants": {call: descendants},

		// Utility
		"iif":       {min: 2, max: 3, call: iif},
		"aggregate": {min: 1, max: 2, call: aggregate},
		"trace":     {min: 1, max: 2, call: func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) { return in, nil }},
		"now":       {call: clock(DateTime)},
		"today":     {call: clock(Date)},
		"timeOfDay": {call: clock(Time)},

		// R4 fhirpath.html, additional functions
		"extension": {min: 1, max: 1, call: extension},
		// Used by one search parameter of R4, though no text defines it.
		"hasExtension": {min: 1, max: 1, call: func(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
			out, err := extension(ev, n, in, s)
			if err != nil {
				return nil, err
			}
			return is(len(out) > 0)
		}},
		"hasValue": {call: func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
			return is(len(in) == 1 && in[0].HasValue())
		}},
		"getValue":   {call: getValue},
		"resolve":    {call: resolve},
		"memberOf":   {min: 1, max: 1, call: memberOf},
		"htmlChecks": {call: func(*evaluator, *node, []Value, scope) ([]Value, error) { return is(true) }}, // codec refuses what they refuse
	}
	for name, f := range textFunctions() {
		m[name] = f
	}
	for name, f := range numberFunctions() {
		m[name] = f
	}
	for name, f := range conversions() {
		m[name] = f
	}
	for name, f := range boundaries() {
		m[name] = f
	}
	return m
})

func is(b bool) ([]Value, error) { return []Value{boolean(b)}, nil }

// each evaluates the criteria n for every item of in.
func (ev *evaluator) each(n *node, in []Value, s scope, visit func(v Value, out []Value) (more bool, err error)) error {
	for i := range in {
		out, err := ev.eval(n, scope{this: in[i : i+1 : i+1], index: i, total: s.total, totaled: s.totaled})
		if err != nil {
			return err
		}
		more, err := visit(in[i], out)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func exists(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	if len(n.args) == 0 {
		return is(len(in) > 0)
	}
	found := false
	err := ev.each(n.args[0], in, s, func(_ Value, out []Value) (bool, error) {
		b, known, err := truth(out)
		found = b && known
		return !found, err
	})
	if err != nil {
		return nil, err
	}
	return is(found)
}

func all(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	held := true
	err := ev.each(n.args[0], in, s, func(_ Value, out []Value) (bool, error) {
		b, known, err := truth(out)
		held = b && known
		return held, err
	})
	if err != nil {
		return nil, err
	}
	return is(held)
}

// quantified is allTrue and its like.
func quantified(want, every bool) func(*evaluator, *node, []Value, scope) ([]Value, error) {
	return func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
		for i := range in {
			if in[i].kind != Boolean {
				return nil, ErrType
			}
			if match := in[i].text != "" && (in[i].text == "true") == want; match != every {
				return is(!every)
			}
		}
		return is(every)
	}
}

func subset(super bool) func(*evaluator, *node, []Value, scope) ([]Value, error) {
	return func(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
		other, err := ev.eval(n.args[0], s)
		if err != nil {
			return nil, err
		}
		if super {
			in, other = other, in
		}
		set, err := ev.set(other)
		if err != nil {
			return nil, err
		}
		for _, v := range in {
			k, err := ev.key(v)
			if err != nil {
				return nil, err
			}
			if !set[k] {
				return is(false)
			}
		}
		return is(true)
	}
}

func (ev *evaluator) set(c []Value) (map[string]bool, error) {
	m := make(map[string]bool, len(c))
	for _, v := range c {
		k, err := ev.key(v)
		if err != nil {
			return nil, err
		}
		m[k] = true
	}
	return m, nil
}

func isDistinct(ev *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
	set, err := ev.set(in)
	if err != nil {
		return nil, err
	}
	return is(len(set) == len(in))
}

func not(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
	b, known, err := truth(in)
	if err != nil || !known {
		return nil, err
	}
	return is(!b)
}

func where(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	var out []Value
	err := ev.each(n.args[0], in, s, func(v Value, c []Value) (bool, error) {
		b, known, err := truth(c)
		if b && known {
			out = append(out, v)
		}
		return true, err
	})
	return out, err
}

func project(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	var out []Value
	err := ev.each(n.args[0], in, s, func(_ Value, c []Value) (bool, error) {
		if len(out)+len(c) > ev.opts.Limits.Items {
			return false, ErrItems
		}
		out = append(out, c...)
		return true, nil
	})
	return out, err
}

func repeat(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	var out []Value
	seen := map[string]bool{}
	for len(in) > 0 {
		var next []Value
		err := ev.each(n.args[0], in, s, func(_ Value, c []Value) (bool, error) {
			for _, v := range c {
				k, err := ev.key(v)
				if err != nil {
					return false, err
				}
				if !seen[k] {
					seen[k] = true
					next = append(next, v)
				}
			}
			if len(out)+len(next) > ev.opts.Limits.Items {
				return false, ErrItems
			}
			return true, nil
		})
		if err != nil {
			return nil, err
		}
		out, in = append(out, next...), next
	}
	return out, nil
}

func typed(_ *evaluator, n *node, in []Value, _ scope) ([]Value, error) {
	return ofType(n.typ, in), nil
}

func isOf(_ *evaluator, n *node, in []Value, _ scope) ([]Value, error) {
	switch {
	case len(in) == 0:
		return nil, nil
	case len(in) > 1:
		return nil, ErrSingle
	}
	return is(n.typ.matches(in[0]))
}

func part(cut func([]Value) []Value) func(*evaluator, *node, []Value, scope) ([]Value, error) {
	return func(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) { return cut(in), nil }
}

// amount evaluates the first argument to an Integer from 0 to the given greatest.
func (ev *evaluator) amount(n *node, s scope, greatest int) (i int, known bool, err error) {
	v, err := ev.single(n.args[0], s)
	if err != nil || v == nil {
		return 0, false, err
	}
	x, ok := parseInt(v.text)
	if v.kind != Integer || !ok {
		return 0, false, ErrType
	}
	return int(max(0, min(x, int64(greatest)))), true, nil
}

func skip(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	i, known, err := ev.amount(n, s, len(in))
	if err != nil || !known {
		return nil, err
	}
	return in[i:], nil
}

func take(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	i, known, err := ev.amount(n, s, len(in))
	if err != nil || !known {
		return nil, err
	}
	return in[:i], nil
}

// intersect is intersect(), or exclude() where both is false.
func intersect(both bool) func(*evaluator, *node, []Value, scope) ([]Value, error) {
	return func(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
		other, err := ev.eval(n.args[0], s)
		if err != nil {
			return nil, err
		}
		set, err := ev.set(other)
		if err != nil {
			return nil, err
		}
		var out []Value
		for _, v := range in {
			k, err := ev.key(v)
			if err != nil {
				return nil, err
			}
			if set[k] == both {
				out = append(out, v)
				if both {
					delete(set, k) // the result has no repetition
				}
			}
		}
		return out, nil
	}
}

func children(ev *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
	var out []Value
	for i := range in {
		for _, e := range in[i].Elements() {
			out = append(out, e.Value)
		}
		if len(out) > ev.opts.Limits.Items {
			return nil, ErrItems
		}
	}
	return out, nil
}

func descendants(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	var out []Value
	for len(in) > 0 {
		next, err := children(ev, n, in, s)
		if err != nil {
			return nil, err
		}
		if err := ev.step(len(next)); err != nil {
			return nil, err
		}
		if out = append(out, next...); len(out) > ev.opts.Limits.Items {
			return nil, ErrItems
		}
		in = next
	}
	return out, nil
}

func iif(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	inner := s
	if n.left != nil {
		inner = scope{this: in, index: s.index, total: s.total, totaled: s.totaled}
	}
	c, err := ev.eval(n.args[0], inner)
	if err != nil {
		return nil, err
	}
	b, known, err := truth(c)
	switch {
	case err != nil:
		return nil, err
	case b && known:
		return ev.eval(n.args[1], inner)
	case len(n.args) == 3:
		return ev.eval(n.args[2], inner)
	}
	return nil, nil
}

func aggregate(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	var total []Value
	var err error
	if len(n.args) == 2 {
		if total, err = ev.eval(n.args[1], s); err != nil {
			return nil, err
		}
	}
	for i := range in {
		if total, err = ev.eval(n.args[0], scope{this: in[i : i+1 : i+1], index: i, total: total, totaled: true}); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func clock(k Kind) func(*evaluator, *node, []Value, scope) ([]Value, error) {
	return func(ev *evaluator, _ *node, _ []Value, _ scope) ([]Value, error) {
		if ev.opts.Now.IsZero() {
			return nil, ErrNow
		}
		m := moment{at: ev.opts.Now.UTC(), to: toSecond, digits: 3, zoned: true}
		if k == Date {
			m.to, m.zoned = toDay, false
		}
		return []Value{{kind: k, text: m.text(k), index: -1}}, nil
	}
}
