package search

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// LocalRef reads a literal that names a resource of this server: relative
// ("Patient/1"), or absolute under base ("https://host/fhir/Patient/1"; an
// empty base knows relative ones only). A version, a fragment and a canonical's
// |version are passed over. It gives false for anything else.
func LocalRef(base, literal string) (fhir.Ref, bool) {
	if i := strings.IndexAny(literal, "|#"); i >= 0 {
		literal = literal[:i]
	}
	if rest, ok := underBase(base, literal); ok {
		literal = rest
	}
	return fhir.ParseRef(literal)
}

func underBase(base, literal string) (string, bool) {
	base = strings.TrimSuffix(base, "/")
	if base == "" || len(literal) <= len(base) || literal[:len(base)] != base || literal[len(base)] != '/' {
		return "", false
	}
	return literal[len(base)+1:], true
}

// References lists, sorted and distinct, every resource of this server that
// the resource refers to anywhere, contained resources and bundled ones
// included: by a literal reference (R4 references, 2.3.0.1) or by an element
// that can hold a url, such as Attachment.url.
func References(base string, root *element.Node) []fhir.Ref {
	var out []fhir.Ref
	names := registry().uriNames
	root.Walk(func(name string, n *element.Node) bool {
		if n.Kind == element.String && mayBeLocal(base, n.Text) && (name == "reference" || names[name]) {
			if r, ok := LocalRef(base, n.Text); ok {
				out = append(out, r)
			}
		}
		return true
	})
	slices.SortFunc(out, compareRefs)
	return slices.Compact(out)
}

// mayBeLocal passes over most texts of a resource cheaply: a relative literal
// begins with the name of a type, an absolute one with the base.
func mayBeLocal(base, s string) bool {
	if s == "" || strings.IndexByte(s, '/') < 0 {
		return false
	}
	return s[0] >= 'A' && s[0] <= 'Z' || base != "" && s[0] == base[0]
}

// Targets lists, sorted and distinct, the resources of this server that the
// reference parameter code selects in a resource of type t; relative literals
// only. An unknown parameter selects nothing.
func Targets(t fhir.ResourceType, code string, root *element.Node) []fhir.Ref {
	p, ok := Lookup(t, code)
	if !ok || p.Type != Reference {
		return nil
	}
	var out []fhir.Ref
	for i := range p.paths {
		if p.paths[i].leaf != leafReference {
			continue
		}
		each(root, root, p.paths[i].steps, func(n *element.Node) {
			if r, ok := LocalRef("", n.Get("reference").String()); ok {
				out = append(out, r)
			}
		})
	}
	slices.SortFunc(out, compareRefs)
	return slices.Compact(out)
}

// Relativise rewrites, in place, every Reference.reference that is absolute
// under base to its relative form, so that everything after the door sees one
// spelling of a local reference. It returns how many it has rewritten.
func Relativise(base string, root *element.Node) int {
	count := 0
	root.Walk(func(name string, n *element.Node) bool {
		if name == "reference" && n.Kind == element.String {
			if rest, ok := underBase(base, n.Text); ok {
				if _, ok := fhir.ParseRef(rest); ok {
					n.Text = rest
					count++
				}
			}
		}
		return true
	})
	return count
}

func compareRefs(a, b fhir.Ref) int {
	if c := strings.Compare(string(a.Type), string(b.Type)); c != 0 {
		return c
	}
	return strings.Compare(string(a.ID), string(b.ID))
}
