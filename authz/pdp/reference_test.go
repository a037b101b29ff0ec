package pdp

import (
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
)

// reference is a second reading of the same two tables: strings and maps all
// the way, no Casbin, none of the loader's terms. It is slow and trusts its input.
type reference struct {
	groups map[string][]string // "role clinician" -> members
	none   map[string]bool
	rules  [][]string
}

func newReference(t testing.TB, src Source) *reference {
	t.Helper()
	r := &reference{map[string][]string{}, map[string]bool{}, nil}
	for _, l := range strings.Split(src.Groups, "\n") {
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		kind, rest, _ := strings.Cut(l, ", ")
		name, members, _ := strings.Cut(rest, ", ")
		r.groups[kind+" "+name] = strings.FieldsFunc(members, func(c rune) bool { return c == '|' || c == '+' })
	}
	for _, m := range r.groups["type none"] {
		r.none[m] = true
	}
	for _, l := range strings.Split(src.Policy, "\n") {
		if strings.HasPrefix(l, "p, ") {
			r.rules = append(r.rules, strings.Split(l, ", ")[1:])
		}
	}
	if len(r.rules) == 0 {
		t.Fatal("the reference has no rules")
	}
	return r
}

func (r *reference) expand(kind, field, sep string) map[string]bool {
	out := map[string]bool{}
	for _, n := range strings.Split(field, sep) {
		if g := r.groups[kind+" "+n]; g != nil {
			for _, m := range g {
				out[m] = true
			}
		} else {
			out[n] = true
		}
	}
	return out
}

func (r *reference) one(kind, field string, have ...string) bool {
	if field == "*" {
		return true
	}
	set := r.expand(kind, strings.TrimPrefix(field, "!"), "|")
	found := false
	for _, h := range have {
		found = found || set[h]
	}
	return found != strings.HasPrefix(field, "!")
}

func (r *reference) permit(q authz.Question, f authz.Fact) bool {
	var known []string
	for _, have := range q.Roles {
		for _, k := range Roles() {
			if have == k {
				known = append(known, k)
			}
		}
	}
	isPurpose := false
	for _, u := range Purposes() {
		isPurpose = isPurpose || u == q.Purpose
	}
	if len(known) == 0 || !isPurpose || q.Action == "" || !q.Type.Valid() || q.Labels>>30 != 0 || q.Labels&0x60 != 0 {
		return false
	}
	holds := map[string]bool{}
	for _, x := range authz.Facts() {
		if f&x.Bit != 0 {
			holds[x.Name] = true
		}
	}
	allowed := false
	for _, rule := range r.rules {
		role, purpose, action, types, labels, facts, effect := rule[0], rule[1], rule[2], rule[3], rule[4], rule[5], rule[6]
		if !r.one("role", role, known...) || !r.one("purpose", purpose, q.Purpose) || !r.one("action", action, string(q.Action)) || !r.one("type", types, string(q.Type)) {
			continue
		}
		if types == "*" && effect == "allow" && r.none[string(q.Type)] {
			continue
		}
		named := r.expand("label", strings.ReplaceAll(labels, "!", ""), "+")
		all, some := true, labels == "*"
		for _, n := range strings.Split(labels, "+") {
			if must, ok := strings.CutSuffix(n, "!"); ok {
				all = all && strings.Contains("+"+q.Labels.String()+"+", "+"+must+"+")
			}
		}
		for _, c := range q.Labels.Codes() {
			all = all && named[c]
			some = some || named[c]
		}
		if effect == "allow" {
			for _, n := range strings.Split(facts, "+") {
				all = all && (n == "-" || holds[n])
			}
			allowed = allowed || all
			continue
		}
		lifted := false
		for _, n := range strings.Split(facts, "|") {
			lifted = lifted || holds[n]
		}
		if some && !lifted {
			return false
		}
	}
	return allowed
}

// Every resource type is in one group: a type that FHIR adds is a fault, not a hole.
func TestEveryTypeHasAGroup(t *testing.T) {
	g, err := loadGroups(groupsText)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, members := range g.types {
		n += len(members)
	}
	if n != len(fhir.ResourceTypes()) {
		t.Errorf("%d types in groups, %d in R4", n, len(fhir.ResourceTypes()))
	}
}
