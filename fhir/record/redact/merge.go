package redact

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Merge puts into root, which is what somebody has written to a view, what a
// fuller view holds and she did not see: items at their places, annotations,
// contained resources, pointers. full and seen are both views as they were. A text that
// she did not see is kept and hers follows it.
func Merge(t fhir.ResourceType, root, full, seen *element.Node) {
	m := merger{there: sequences(seen), renamed: map[string]string{}}
	m.contained(root, full, seen)
	if t == "Composition" {
		m.sections(root, full, seen)
	} else {
		for _, name := range mentions[t] {
			m.list(root, name, full.Get(name), seen.Get(name))
		}
	}
	if t == "Communication" || t == "CommunicationRequest" {
		m.list(root, payload, full.Get(payload), seen.Get(payload))
	}
	for _, name := range texts(t) {
		m.text(root, name, full.Get(name), seen.Get(name))
	}
	m.point(root, full)
}

type merger struct {
	there   map[string]bool   // sequences of the diagnoses in the view that was seen
	renamed map[string]string // "#id" of hidden contained resources whose id she has used for another
}

// list puts back the items of full that are not in seen, at their places as far as there are so many.
func (m *merger) list(at *element.Node, name string, full, seen *element.Node) {
	shown := slices.Clone(seen.List())
	list, changed := slices.Clone(at.Get(name).List()), false
	for i, x := range full.List() {
		if n := slices.IndexFunc(shown, func(y *element.Node) bool { return same(m.shown(x), m.shown(y)) }); n >= 0 {
			shown = slices.Delete(shown, n, n+1)
			continue
		}
		list, changed = slices.Insert(list, min(i, len(list)), m.rename(x.Clone())), true
	}
	if changed {
		setList(at, name, list)
	}
}

// shown is an item without the pointers that the view could not hold.
func (m *merger) shown(item *element.Node) *element.Node {
	list := item.Get(pointers)
	if list == nil {
		return item
	}
	out := item.Clone()
	setList(out, pointers, slices.DeleteFunc(slices.Clone(list.List()), func(n *element.Node) bool { return !m.there[n.Text] }))
	return out
}

// point restores the pointers to hidden diagnoses of items that are still there.
func (m *merger) point(root, full *element.Node) {
	for _, item := range root.Get(items).List() {
		for _, was := range full.Get(items).List() {
			if !same(item.Get(sequence), was.Get(sequence)) {
				continue
			}
			list := slices.Clone(item.Get(pointers).List())
			for i, p := range was.Get(pointers).List() {
				if !m.there[p.Text] && !among(p, list) {
					list = slices.Insert(list, min(i, len(list)), p.Clone())
				}
			}
			setList(item, pointers, list)
		}
	}
}

func (m *merger) contained(root, full, seen *element.Node) {
	shown := seen.Get("contained").List()
	list := slices.Clone(root.Get("contained").List())
	taken := func(id string) bool {
		return slices.ContainsFunc(list, func(n *element.Node) bool { return n.Get("id").String() == id })
	}
	for i, c := range full.Get("contained").List() {
		id := c.Get("id").String()
		if slices.ContainsFunc(shown, func(n *element.Node) bool { return n.Get("id").String() == id }) {
			continue
		}
		c = c.Clone()
		if taken(id) {
			other := id
			for taken(other) {
				other += "-1"
			}
			m.renamed["#"+id] = "#" + other
			c.Set("id", element.NewString(other))
		}
		list = slices.Insert(list, min(i, len(list)), c)
	}
	setList(root, "contained", list)
}

func (m *merger) rename(n *element.Node) *element.Node {
	n.Walk(func(_ string, x *element.Node) bool {
		if to, ok := m.renamed[x.Text]; ok && x.Kind == element.String {
			x.Text = to
		}
		return true
	})
	return n
}

// text keeps a free text that was not shown. What she wrote follows it, and is
// told from it by being what her view holds.
func (m *merger) text(root *element.Node, name string, full, seen *element.Node) {
	if full == nil || same(full, seen) {
		return
	}
	hers := root.Get(name)
	switch {
	case full.Kind == element.Array:
		m.list(root, name, full, seen)
	case name == "text":
		hidden := full.Get("div").String()
		if before := seen.Get("div").String(); before != "" {
			if rest, ok := strings.CutSuffix(hidden, before+closing); ok {
				hidden = strings.TrimPrefix(rest, opening)
			}
		}
		if hers == nil {
			v := full.Clone()
			v.Set("div", element.NewString(hidden))
			root.Set(name, v)
		} else if div := hers.Get("div").String(); div != "" {
			v := hers.Clone()
			v.Set("div", element.NewString(opening+hidden+div+closing))
			root.Set(name, v)
		}
	case full.Kind == element.String && (hers == nil || hers.Kind == element.String):
		hidden := full.Text
		if before := seen.String(); before != "" {
			hidden = strings.TrimSuffix(hidden, between+before)
		}
		if hers != nil {
			hidden += between + hers.Text
		}
		root.Set(name, element.NewString(hidden))
	}
}

// Two texts as one: paragraphs of a string, and elements of a narrative (XHTML).
const between, opening, closing = "\n\n", `<div xmlns="http://www.w3.org/1999/xhtml">`, `</div>`

// sections puts entries, texts and whole sections back where they were. A section
// is known by its title and code.
func (m *merger) sections(root, full, seen *element.Node) {
	list := slices.Clone(root.Get(sections).List())
	for i, was := range full.Get(sections).List() {
		shown, now := sectionLike(was, seen), sectionLike(was, root)
		switch {
		case now == nil && shown == nil:
			list = slices.Insert(list, min(i, len(list)), m.rename(was.Clone()))
			continue
		case now == nil:
			// She has taken it out: what she did not see of it stays.
			now = was.Clone()
			now.Delete(entries)
			now.Delete(sections)
			now.Delete("text")
			m.section(now, was, shown)
			if now.Get(entries) != nil || now.Get(sections) != nil || now.Get("text") != nil {
				list = slices.Insert(list, min(i, len(list)), now)
			}
		default:
			m.section(now, was, shown)
		}
	}
	setList(root, sections, list)
}

func (m *merger) section(now, was, shown *element.Node) {
	m.list(now, entries, was.Get(entries), shown.Get(entries))
	m.text(now, "text", was.Get("text"), shown.Get("text"))
	m.sections(now, was, shown)
}

func sectionLike(s, at *element.Node) *element.Node {
	for _, x := range at.Get(sections).List() {
		if x.Get("title").String() == s.Get("title").String() && (same(x.Get("code"), s.Get("code")) || x.Get("code") == nil && s.Get("code") == nil) {
			return x
		}
	}
	return nil
}
