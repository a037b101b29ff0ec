package deident

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
)

// leaves checks what is released against the text of the allow-list and the
// definitions of R4, by itself: it shares no code with the walk.
type leaves struct {
	t    testing.TB
	name string              // of the profile
	list map[string][]string // type to JSON names
	root string
}

func listedOnly(t testing.TB, name string, root *element.Node) {
	t.Helper()
	l := leaves{t: t, name: name, list: listOfNames(name), root: shown(root)}
	l.resource(root, true)
}

var namesOf = map[string]map[string][]string{}

// listOfNames reads the allow-list once more, for a profile.
func listOfNames(name string) map[string][]string {
	if list := namesOf[name]; list != nil {
		return list
	}
	list := map[string][]string{}
	at := ""
	for line := range strings.Lines(allowText) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, ":"):
			at, _, _ = strings.Cut(line[1:], " ")
			list[at] = []string{}
		default:
			for _, w := range strings.Fields(line) {
				if strings.HasPrefix(w, "+") && name != "limited-data-set" {
					continue
				}
				base, choice, more := strings.Cut(strings.TrimPrefix(w, "+"), "{")
				for _, c := range strings.Split(strings.TrimSuffix(choice, "}"), ",") {
					c, _, _ = strings.Cut(c, "=")
					if !more {
						base, _, _ = strings.Cut(base, "=")
					}
					list[at] = append(list[at], base+c)
				}
			}
		}
	}
	namesOf[name] = list
	return list
}

var compiled = map[string]*regexp.Regexp{}

// re compiles a pattern once.
func re(pattern string) *regexp.Regexp {
	if compiled[pattern] == nil {
		compiled[pattern] = regexp.MustCompile(pattern)
	}
	return compiled[pattern]
}

func (l leaves) fault(what string) {
	l.t.Helper()
	l.t.Errorf("%s is released: %s", what, l.root)
}

func (l leaves) resource(n *element.Node, outer bool) {
	l.t.Helper()
	name := n.Get("resourceType").String()
	if l.list[name] == nil {
		l.fault(name)
		return
	}
	var rest element.Node
	rest.Kind = element.Object
	for _, f := range n.Fields {
		switch {
		case f.Name == "resourceType":
		case f.Name == "id" && outer && re(`^([A-Z2-7]{26}|alone)$`).MatchString(f.Value.Text):
		case f.Name == "id" && !outer && re(`^c\d+$`).MatchString(f.Value.Text):
		case f.Name == "meta" && outer && re(`^\{'security':\[\{'system':'http://terminology.hl7.org/CodeSystem/v3-ObservationValue','code':'(ANONYED|PSEUDED)'\},`+
			`\{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'NORELINK'\}\]\}$`).MatchString(shown(f.Value)):
		case f.Name == "contained" && outer:
			for _, c := range f.Value.List() {
				l.resource(c, false)
			}
		default:
			rest.Fields = append(rest.Fields, f)
		}
	}
	l.object(name, &rest)
}

const mark = `{'extension':[{'url':'http://hl7.org/fhir/StructureDefinition/data-absent-reason','valueCode':'masked'}]}`

func (l leaves) object(name string, n *element.Node) {
	l.t.Helper()
	d, ok := codec.DefinitionOf(name)
	if !ok {
		l.fault("a value of no type " + name)
		return
	}
	for _, f := range n.Fields {
		where := name + "." + f.Name
		if f.Name == "extension" {
			for _, x := range f.Value.List() {
				l.extension(where, x)
			}
			continue
		}
		bare, beside := strings.CutPrefix(f.Name, "_")
		e, ok := d.Element(bare)
		if !ok {
			l.fault(where)
			continue
		}
		if marksOnly(f.Value) {
			if !e.Required {
				l.fault("a mark for " + where)
			}
			continue
		}
		if beside || !slices.Contains(l.list[name], f.Name) {
			l.fault(where)
			continue
		}
		for _, v := range f.Value.List() {
			l.value(where, e, v)
		}
	}
}

func marksOnly(n *element.Node) bool {
	if shown(n) == mark {
		return true
	}
	if n.Kind == element.String || n.Kind == element.Number || n.Kind == element.Bool {
		return false
	}
	for _, f := range n.Fields {
		if !marksOnly(f.Value) {
			return false
		}
	}
	for _, x := range n.Items {
		if !marksOnly(x) {
			return false
		}
	}
	return true
}

func (l leaves) extension(where string, x *element.Node) {
	l.t.Helper()
	s := shown(x)
	for _, ok := range []string{
		`^\{'url':'http://hl7.org/fhir/us/core/StructureDefinition/us-core-(race|ethnicity)','extension':\[(,?\{'url':'(ombCategory|detailed)','valueCoding':\{'system':'[a-z0-9:.]+','code':'(\d{4}-\d|UNK|ASKU)'\}\})+\]\}$`,
		`^\{'url':'http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex','valueCode':'(F|M|UNK)'\}$`,
		`^\{'url':'http://hl7.org/fhir/StructureDefinition/data-absent-reason','valueCode':'[a-z-]+'\}$`,
	} {
		if re(ok).MatchString(s) {
			return
		}
	}
	l.fault(where + " " + s)
}

// text is how a primitive may look.
var text2pattern = map[string]*regexp.Regexp{
	"boolean": re(`^(true|false)$`), "integer": re(`^-?\d{1,6}$`), "positiveInt": re(`^\d{1,6}$`),
	"unsignedInt": re(`^\d{1,6}$`), "decimal": re(`^-?\d{1,6}(\.\d+)?$`),
	"date": re(`^\d{4}$`), "dateTime": re(`^\d{4}$`),
}

func (l leaves) value(where string, e codec.Element, v *element.Node) {
	l.t.Helper()
	keys := func(allowed ...string) {
		for _, f := range v.Fields {
			if !slices.Contains(allowed, f.Name) {
				l.fault(where + "." + f.Name)
			}
		}
	}
	switch e.Type {
	case "Coding":
		keys("system", "code")
		return
	case "CodeableConcept":
		keys("coding")
		for _, c := range v.Get("coding").List() {
			l.value(where+".coding", codec.Element{Type: "Coding"}, c)
		}
		return
	case "Reference":
		keys("reference")
		if !re(`^([A-Z][A-Za-z]+/[A-Z2-7]{26}|#c\d+|#)$`).MatchString(v.Get("reference").String()) {
			l.fault(where)
		}
		return
	case "Quantity", "SimpleQuantity", "Age", "Duration", "Count", "Distance", "MoneyQuantity":
		keys("value", "comparator", "system", "code")
		if s := v.Get("system"); s != nil && s.Text != ucum {
			l.fault(where + ".system")
		}
		return
	case "code":
		if !e.Permits(v.String()) {
			l.fault(where)
		}
		return
	}
	if !e.Primitive {
		l.object(e.Type, v)
		return
	}
	if l.name == "limited-data-set" && (e.Type == "date" || e.Type == "dateTime" || e.Type == "instant" || e.Type == "time") {
		return
	}
	if l.name == "expert-determination" && re(`^\d{4}-\d\d-\d\d(T00:00:00Z)?$`).MatchString(v.Text) && (e.Type == "date" || e.Type == "dateTime" || e.Type == "instant") {
		return
	}
	p := text2pattern[e.Type]
	switch where {
	case "Address.state":
		p = re(`^[A-Z]{2}$`)
	case "Address.postalCode":
		p = re(`^\d{3}$`)
		if l.name == "limited-data-set" {
			p = re(`^\d{5}$`)
		}
	case "Address.country":
		p = re(`^USA?$`)
	case "Address.city":
		p = re(`^[A-Za-z .'-]+$`)
	case "QuestionnaireResponse.item.linkId":
		p = re(`^(/\d+-\d)+$|^q\d+$`)
	case "QuestionnaireResponse.questionnaire":
		p = re(`^http://example.org/Questionnaire/known$`)
	}
	if p == nil || !p.MatchString(v.Text) {
		l.fault(where + " " + v.Text)
	}
}
