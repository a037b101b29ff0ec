package pdp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// The columns of a policy line, after the leading "p".
const (
	columnRole = iota
	columnPurpose
	columnAction
	columnTypes
	columnLabels
	columnFacts
	columnEffect
	columnName
	columns
)

// noneGroup holds the types that no line can name.
const noneGroup = "none"

// groups is what groups.csv says.
type groups struct {
	roles  map[string][]string
	labels map[string]label.Set
	types  map[string][]fhir.ResourceType
	of     map[fhir.ResourceType]string
}

// faults collects everything that is wrong with one file.
type faults struct {
	file string
	errs []error
}

func (f *faults) at(line int, format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf("%s:%d: %s", f.file, line, fmt.Sprintf(format, args...)))
}

func (f *faults) err() error { return errors.Join(f.errs...) }

// rows splits a table: one row a line, fields between commas, # comments. There is no quoting.
func rows(text string, each func(number int, fields []string)) {
	for i, l := range strings.Split(text, "\n") {
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		fields := strings.Split(l, ",")
		for j := range fields {
			fields[j] = strings.TrimSpace(fields[j])
		}
		each(i+1, fields)
	}
}

// alternatives splits "a|b" and reports empty and repeated items.
func alternatives(field, sep string, fault func(format string, args ...any)) []string {
	items := strings.Split(field, sep)
	for i, x := range items {
		switch {
		case x == "":
			fault("%q has an empty item", field)
		case slices.Contains(items[:i], x):
			fault("%q names %q twice", field, x)
		}
	}
	return items
}

func loadGroups(text string) (*groups, error) {
	g := &groups{map[string][]string{}, map[string]label.Set{}, map[string][]fhir.ResourceType{}, map[fhir.ResourceType]string{}}
	f := &faults{file: "groups.csv"}
	f.groups(text, g)
	for _, t := range fhir.ResourceTypes() {
		if g.of[t] == "" {
			f.errs = append(f.errs, fmt.Errorf("groups.csv: %s is in no group; %s is the group of what is always denied", t, noneGroup))
		}
	}
	return g, f.err()
}

// groups adds the groups of a file to g.
func (f *faults) groups(text string, g *groups) {
	rows(text, func(n int, fields []string) {
		if len(fields) != 3 {
			f.at(n, "%d fields; a group has 3: kind, name, members", len(fields))
			return
		}
		kind, name, members := fields[0], fields[1], fields[2]
		fault := func(format string, args ...any) { f.at(n, format, args...) }
		if name == "" || strings.ContainsAny(name, "|+!*") {
			fault("%q is no name for a group", name)
			return
		}
		switch kind {
		case "role":
			if knownRoles[name] || g.roles[name] != nil {
				fault("the name %q is taken", name)
			}
			for _, r := range alternatives(members, "|", fault) {
				if !knownRoles[r] {
					fault("unknown role %q", r)
				}
				if r == Operator {
					fault("the operator stands alone")
				}
				g.roles[name] = append(g.roles[name], r)
			}
		case "label":
			if _, err := label.ParseSet(name); err == nil || g.labels[name] != 0 {
				fault("the name %q is taken", name)
			}
			for _, c := range alternatives(members, "+", fault) {
				s, err := label.ParseSet(c)
				if err != nil || s == 0 {
					fault("unknown label %q", c)
				}
				if s.Any(label.Source &^ label.Received) {
					fault("%s can be in no group: a line that covers it names it", c)
				}
				g.labels[name] |= s
			}
		case "type":
			if fhir.ResourceType(name).Valid() || g.types[name] != nil {
				fault("the name %q is taken", name)
			}
			for _, m := range alternatives(members, "|", fault) {
				t := fhir.ResourceType(m)
				if !t.Valid() {
					fault("unknown resource type %q", m)
				}
				if in := g.of[t]; in != "" && in != name {
					fault("%s is already in the group %s", m, in)
				}
				g.of[t] = name
				g.types[name] = append(g.types[name], t)
			}
		default:
			fault("unknown kind of group %q: role, label or type", kind)
		}
	})
}

// load reads a policy, strictly: it reports every fault and then nothing of
// the policy is used. A lenient reader would be one that permits: an effect spelled
// "Deny" is one that Casbin passes over.
func load(text string, g *groups) ([]*line, error) {
	f := &faults{file: "policy.csv"}
	var lines []*line
	names := map[string]string{}
	rows(text, func(n int, fields []string) {
		if l := f.line(n, fields, g, names); l != nil {
			lines = append(lines, l)
		}
	})
	if len(lines) == 0 {
		f.errs = append(f.errs, errors.New("policy.csv: no lines: an empty policy is a mistake, not a decision"))
	}
	return lines, f.err()
}

// line reads one line; names are those that are taken, and where. What is wrong
// with it is kept in f.
func (f *faults) line(n int, fields []string, g *groups, names map[string]string) *line {
	fault := func(format string, args ...any) { f.at(n, format, args...) }
	if fields[0] != "p" {
		fault("a line starts with p, not with %q", fields[0])
		return nil
	}
	fields = fields[1:]
	if len(fields) != columns {
		fault("%d fields after p; a line has %d: role, purpose, action, types, labels, facts, effect, name", len(fields), columns)
		return nil
	}
	l := &line{number: n, fields: fields, name: fields[columnName]}
	switch fields[columnEffect] {
	case "allow":
		l.allow = true
	case "deny":
	default:
		fault("the effect is allow or deny, not %q", fields[columnEffect])
	}
	if l.name == "" {
		fault("a line has a name")
	} else if first, taken := names[l.name]; taken {
		fault("the name %q is that of %s", l.name, first)
	} else {
		names[l.name] = fmt.Sprintf("line %d", n)
	}
	l.role = parseChoice("role", fields[columnRole], l.allow, knownRoles, g.roles, fault)
	l.purpose = parseChoice("purpose", fields[columnPurpose], l.allow, knownPurposes, nil, fault)
	l.action = parseChoice("action", fields[columnAction], false, knownActions, nil, fault)
	l.types = parseTypes(fields[columnTypes], l.allow, g, fault)
	l.labels = parseLabels(fields[columnLabels], l.allow, g, fault)
	l.facts = parseFacts(fields[columnFacts], l.allow, fault)
	return l
}

func parseChoice(what, field string, named bool, known map[string]bool, groups map[string][]string, fault func(string, ...any)) choice {
	if field == "*" {
		if named {
			fault("an allow line names each %s: * is for deny lines", what)
		}
		return choice{any: true}
	}
	text, negated := strings.CutPrefix(field, "!")
	if negated && (named || what == "action") {
		fault("%q: only the role and the purpose of a deny line can be negated", field)
	}
	c := choice{negated: negated}
	for _, n := range alternatives(text, "|", fault) {
		members := groups[n]
		if members == nil {
			if !known[n] && n != "" {
				fault("unknown %s %q", what, n)
			}
			members = []string{n}
		}
		for _, m := range members {
			if slices.Contains(c.names, m) {
				fault("%q names %q twice", field, m)
			}
			c.names = append(c.names, m)
		}
	}
	return c
}

func parseTypes(field string, allow bool, g *groups, fault func(string, ...any)) map[fhir.ResourceType]bool {
	types := map[fhir.ResourceType]bool{}
	if field == "*" {
		for _, t := range fhir.ResourceTypes() {
			if !allow || g.of[t] != noneGroup {
				types[t] = true
			}
		}
		return types
	}
	for _, n := range alternatives(field, "|", fault) {
		members := g.types[n]
		if members == nil {
			t := fhir.ResourceType(n)
			if !t.Valid() && n != "" {
				fault("unknown resource type or group %q", n)
			}
			members = []fhir.ResourceType{t}
		}
		for _, t := range members {
			if g.of[t] == noneGroup {
				fault("%s is in the group %s, which no line can name", t, noneGroup)
			}
			if types[t] {
				fault("%q names %s twice", field, t)
			}
			types[t] = true
		}
	}
	return types
}

func parseLabels(field string, allow bool, g *groups, fault func(string, ...any)) (t labelTerm) {
	switch {
	case field == "*" && allow:
		fault("an allow line names the labels that it covers: * is for deny lines")
	case field == "*":
		t.any = true
	case field == "-" && !allow:
		fault("a deny line names the labels that set it off, or * for every class")
	case field == "-":
	default:
		for _, item := range alternatives(field, "+", fault) {
			n, must := strings.CutSuffix(item, "!")
			s, grouped := g.labels[n]
			if !grouped {
				var err error
				if s, err = label.ParseSet(n); err != nil || s == 0 {
					fault("unknown label or group %q", n)
				}
			}
			if must {
				if !allow || grouped {
					fault("%q: only an allow line asks for a label, and for one by its own name", item)
				}
				t.must |= s
			}
			if t.set.Any(s) {
				fault("%q names %s twice", field, t.set&s)
			}
			t.set |= s
		}
	}
	return t
}

func parseFacts(field string, allow bool, fault func(string, ...any)) (t factTerm) {
	if field == "-" {
		return t
	}
	sep := "|"
	if allow {
		sep = "+"
	}
	for _, n := range alternatives(field, sep, fault) {
		switch f, ok := authz.FactNamed(n); {
		case ok && allow:
			t.need |= f
		case ok:
			t.unless = append(t.unless, f)
		case n != "":
			fault("unknown fact %q", n)
		}
	}
	return t
}
