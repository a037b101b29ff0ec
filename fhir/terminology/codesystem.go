package terminology

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/element"
)

// codeSystem is a CodeSystem ready to be asked.
type codeSystem struct {
	url, version, name string
	content            string // complete, fragment or example
	language           string
	caseSensitive      bool
	partOf             bool // the hierarchy says what a concept is a part of, not what it is
	concepts           []concept
	byCode             map[string]int32
	properties         map[string]string // code -> uri
	bytes              int64
}

type concept struct {
	code, display     string
	parents, children []int32
	inactive          bool
	abstract          bool // not to be selected by a user
	node              *element.Node
}

func (cs *codeSystem) canonical() string {
	if cs.version == "" {
		return cs.url
	}
	return cs.url + "|" + cs.version
}

func (cs *codeSystem) complete() bool { return cs.content == "complete" }

func (cs *codeSystem) size() int64 { return cs.bytes }

func (cs *codeSystem) fold(code string) string {
	if cs.caseSensitive {
		return code
	}
	return strings.ToLower(code)
}

func (cs *codeSystem) find(code string) (*concept, int32) {
	i, ok := cs.byCode[cs.fold(code)]
	if !ok {
		return nil, -1
	}
	return &cs.concepts[i], i
}

func newCodeSystem(n *element.Node) *codeSystem {
	cs := &codeSystem{
		url: n.Get("url").String(), version: n.Get("version").String(), name: n.Get("name").String(),
		content: n.Get("content").String(), language: n.Get("language").String(),
		// Where nothing is said, codes of one letter case are taken for others: a mistake is refused rather than overlooked.
		caseSensitive: n.Get("caseSensitive") == nil || isTrue(n.Get("caseSensitive")),
		partOf:        n.Get("hierarchyMeaning").String() == "part-of",
		byCode:        map[string]int32{}, properties: map[string]string{},
	}
	for _, p := range n.Get("property").List() {
		cs.properties[p.Get("code").String()] = p.Get("uri").String()
	}
	cs.add(n.Get("concept").List(), -1)
	cs.link()
	cs.bytes = definition.Size(n) + int64(len(cs.concepts))*180
	return cs
}

func (cs *codeSystem) add(nodes []*element.Node, parent int32) {
	for _, n := range nodes {
		code := n.Get("code").String()
		i, seen := cs.byCode[cs.fold(code)]
		if !seen {
			i = int32(len(cs.concepts)) //nolint:gosec // a definition is far smaller
			cs.byCode[cs.fold(code)] = i
			cs.concepts = append(cs.concepts, concept{code: code, display: n.Get("display").String(), node: n})
		}
		cs.below(parent, i)
		cs.add(n.Get("concept").List(), i)
	}
}

// below says that child stands under parent.
func (cs *codeSystem) below(parent, child int32) {
	if parent < 0 || parent == child || slices.Contains(cs.concepts[child].parents, parent) {
		return
	}
	cs.concepts[child].parents = append(cs.concepts[child].parents, parent)
	cs.concepts[parent].children = append(cs.concepts[parent].children, child)
}

const conceptProperties = "http://hl7.org/fhir/concept-properties#"

// means reports whether the property code is the one that FHIR defines under
// that name (codesystem-concept-properties.html), by its URI or, as in most code systems, by its name.
func (cs *codeSystem) means(code, name string) bool {
	return code == name || cs.properties[code] == conceptProperties+name
}

// link reads the properties that say more about the hierarchy and the state of concepts.
func (cs *codeSystem) link() {
	for i := range cs.concepts {
		c := &cs.concepts[i]
		for _, p := range c.node.Get("property").List() {
			code, value := p.Get("code").String(), propertyValue(p)
			switch {
			case cs.means(code, "inactive"):
				c.inactive = c.inactive || value == "true"
			case cs.means(code, "status"):
				c.inactive = c.inactive || value == "retired" || value == "inactive"
			case cs.means(code, "notSelectable"), code == "abstract":
				c.abstract = c.abstract || value == "true"
			case cs.means(code, "parent"):
				if _, parent := cs.find(value); parent >= 0 {
					cs.below(parent, int32(i))
				}
			case cs.means(code, "child"):
				if _, child := cs.find(value); child >= 0 {
					cs.below(int32(i), child)
				}
			}
		}
	}
}

// propertyNode is the value[x] of a property.
func propertyNode(p *element.Node) (string, *element.Node) {
	for i := range p.Fields {
		if name := p.Fields[i].Name; strings.HasPrefix(name, "value") {
			return name, p.Fields[i].Value
		}
	}
	return "", nil
}

// propertyValue is the value of a property as filters compare it.
func propertyValue(p *element.Node) string {
	_, v := propertyNode(p)
	switch {
	case v == nil:
		return ""
	case v.Kind == element.Object: // Coding
		return v.Get("code").String()
	default:
		return v.Text
	}
}

// values gives what concept i has under a property, as filters see it.
func (cs *codeSystem) values(i int32, property string) []string {
	c := &cs.concepts[i]
	var out []string
	for _, p := range c.node.Get("property").List() {
		if p.Get("code").String() == property {
			out = append(out, propertyValue(p))
		}
	}
	relatives := func(list []int32) {
		for _, j := range list {
			if code := cs.concepts[j].code; !slices.Contains(out, code) {
				out = append(out, code)
			}
		}
	}
	switch property {
	case "concept", "code":
		out = append(out, c.code)
	case "display":
		out = append(out, c.display)
	case "definition":
		if d := c.node.Get("definition").String(); d != "" {
			out = append(out, d)
		}
	case "parent":
		relatives(c.parents)
	case "child":
		relatives(c.children)
	case "inactive":
		if len(out) == 0 {
			out = append(out, boolean(c.inactive))
		}
	case "notSelectable":
		if len(out) == 0 {
			out = append(out, boolean(c.abstract))
		}
	}
	return out
}

func boolean(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// has reports whether the code system knows the property at all.
func (cs *codeSystem) has(property string) bool {
	switch property {
	case "concept", "code", "display", "definition", "parent", "child", "inactive", "notSelectable":
		return true
	}
	_, ok := cs.properties[property]
	return ok
}

// closure gives i and all that next leads to, each once, nearest first.
func (cs *codeSystem) closure(i int32, next func(*concept) []int32) []int32 {
	const few = 32 // up to here looking through the list is faster than a map
	var seen map[int32]bool
	out := []int32{i}
	for at := 0; at < len(out); at++ {
		for _, j := range next(&cs.concepts[out[at]]) {
			switch {
			case seen != nil && seen[j], seen == nil && slices.Contains(out, j):
				continue
			case seen != nil:
				seen[j] = true
			case len(out) == few:
				seen = map[int32]bool{j: true}
				for _, k := range out {
					seen[k] = true
				}
			}
			out = append(out, j)
		}
	}
	return out
}

// under reports whether i is the concept above or stands below it.
func (cs *codeSystem) under(i, above int32) bool {
	return i == above || slices.Contains(cs.closure(i, up), above)
}

func up(c *concept) []int32   { return c.parents }
func down(c *concept) []int32 { return c.children }

// subsumes reports whether a is b or stands above it.
func (cs *codeSystem) subsumes(a, b int32) bool {
	return a == b || !cs.partOf && cs.under(b, a)
}

// codesOf maps positions to codes.
func (cs *codeSystem) codesOf(list []int32) []string {
	out := make([]string, len(list))
	for i, j := range list {
		out[i] = cs.concepts[j].code
	}
	return out
}
