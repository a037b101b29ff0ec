package fhirpath

import (
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

func extension(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	url, err := ev.single(n.args[0], s)
	if err != nil || url == nil {
		return nil, err
	}
	var out, buf []Value
	for i := range in {
		buf = in[i].appendChild(buf[:0], "extension")
		if err := ev.step(len(buf)); err != nil {
			return nil, err
		}
		for _, x := range buf {
			if x.node.Get("url").String() == url.text {
				out = append(out, x)
			}
		}
	}
	return out, nil
}

func getValue(_ *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
	if len(in) != 1 || !in[0].HasValue() {
		return nil, nil
	}
	return []Value{{kind: in[0].kind, text: in[0].text, unit: in[0].unit, index: -1}}, nil
}

// resolve gives for each reference what can be said without looking anything up: the contained resource, or a
// stand-in of the type that the reference names.
func resolve(ev *evaluator, _ *node, in []Value, _ scope) ([]Value, error) {
	var out []Value
	for _, v := range in {
		ref, said := v.text, ""
		if v.kind == Complex {
			if !v.Is("Reference") {
				continue
			}
			ref, said = v.node.Get("reference").String(), v.node.Get("type").String()
		}
		if len(ref) > 1 && ref[0] == '#' {
			container := ev.opts.Root
			if container == nil {
				container = ev.opts.Resource
			}
			if container == nil {
				container = ev.root.node
			}
			for i, x := range container.Get("contained").List() {
				if err := ev.step(1); err != nil {
					return nil, err
				}
				if t := resourceType(x); t != nil && x.Get("id").String() == ref[1:] {
					out = append(out, valueOf(t, x, nil, container, model()["DomainResource"].json["contained"], i))
					break
				}
			}
			continue
		}
		name, _ := fhir.ReferenceType(ref)
		if name == "" {
			name = fhir.ResourceType(said)
		}
		if t := model()[string(name)]; t != nil && t.resource {
			out = append(out, valueOf(t, element.NewObject(element.Field{Name: "resourceType", Value: element.NewString(t.name)}), nil, nil, nil, -1))
		}
	}
	return out, nil
}

// memberOf is true if one of the codings of the item is in the value set.
func memberOf(ev *evaluator, n *node, in []Value, s scope) ([]Value, error) {
	set, err := ev.single(n.args[0], s)
	if err != nil || set == nil || len(in) == 0 {
		return nil, err
	}
	if len(in) > 1 {
		return nil, ErrSingle
	}
	if ev.opts.MemberOf == nil {
		return nil, nil
	}
	type coding struct{ system, code string }
	var codings []coding
	switch v := in[0]; {
	case v.kind == String:
		codings = []coding{{"", v.text}}
	case v.Is("CodeableConcept"):
		for _, c := range v.node.Get("coding").List() {
			codings = append(codings, coding{c.Get("system").String(), c.Get("code").String()})
		}
	case v.Is("Coding") || v.Is("Quantity"):
		codings = []coding{{v.node.Get("system").String(), v.node.Get("code").String()}}
	default:
		return nil, ErrType
	}
	for _, c := range codings {
		member, known, err := ev.opts.MemberOf(ev.ctx, set.text, c.system, c.code)
		if err != nil || !known {
			return nil, err
		}
		if member {
			return is(true)
		}
		if err := ev.step(100); err != nil {
			return nil, err
		}
	}
	return is(false)
}
