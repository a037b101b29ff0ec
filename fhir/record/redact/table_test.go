package redact_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/redact"
)

// Every mention is a list element of its type that may be left out, as the codec has it from the definitions.
func TestMentionsAreOptionalLists(t *testing.T) {
	for _, rt := range redact.Types() {
		if !rt.Valid() {
			t.Errorf("%s is no type", rt)
		}
		for _, name := range redact.Mentions(rt) {
			faults := func(value string) string {
				_, err := codec.Parse([]byte(`{"resourceType":"` + string(rt) + `"` + value + `}`))
				if err == nil {
					return ""
				}
				return err.Error()
			}
			if f := faults(`,"` + name + `":{"id":"x"}`); !strings.Contains(f, string(rt)+"."+name+": this element repeats") {
				t.Errorf("%s.%s is no list: %s", rt, name, f)
			}
			if f := faults(""); strings.Contains(f, string(rt)+"."+name) {
				t.Errorf("%s.%s is required: %s", rt, name, f)
			}
		}
	}
}

// elements reads what R4 says of the elements of each type: name, cardinality, types.
func elements(t *testing.T) map[string][][3]string {
	t.Helper()
	table, err := os.ReadFile("../../codec/r4.table")
	if err != nil {
		t.Fatal(err)
	}
	out, at := map[string][][3]string{}, ""
	for _, l := range strings.Split(string(table), "\n") {
		f := strings.Split(l, "\t")
		switch {
		case strings.HasPrefix(l, ":"):
			at = strings.TrimPrefix(f[0], ":")
		case l == "" || strings.ContainsAny(l[:1], "=+#"):
		case at != "" && len(f) > 2:
			out[at] = append(out[at], [3]string{strings.TrimLeft(f[0], "~!"), f[1], f[2]})
		}
	}
	if len(out["Encounter"]) < 10 {
		t.Fatal("the table is not what it was")
	}
	return out
}

// kept are the texts at the root that a view keeps.
var kept = map[string]string{
	"CarePlan.title": "a name", "CareTeam.name": "a name", "Composition.title": "a name", "List.title": "a name", "Media.deviceName": "a name",
	"ExplanationOfBenefit.preAuthRef": "an identifier", "Immunization.lotNumber": "an identifier",
	"Immunization.occurrence[x]": "a time", "Procedure.performed[x]": "a time",
}

// Whatever is free text at the root of a resource that mentions goes with a
// mention; what stays is listed above.
func TestEveryTextAtTheRootIsQuieted(t *testing.T) {
	listed := 0
	for rt, all := range elements(t) {
		if redact.Mentions(fhir.ResourceType(rt)) == nil {
			continue
		}
		for _, e := range all {
			text := false
			for _, of := range strings.Split(e[2], "|") {
				text = text || of == "string" || of == "markdown" || of == "Annotation"
			}
			if !text {
				continue
			}
			if kept[rt+"."+e[0]] != "" {
				listed++
				continue
			}
			value := element.NewString("canary")
			if strings.HasSuffix(e[1], "*") {
				value = &element.Node{Kind: element.Array, Items: []*element.Node{element.NewObject(element.Field{Name: "text", Value: value})}}
			}
			root := whole(fhir.ResourceType(rt))
			root.Set(e[0], value)
			root.Set("_"+e[0], element.NewObject(element.Field{Name: "id", Value: element.NewString("canary")}))
			if strings.HasSuffix(e[1], "*") {
				root.Delete("_" + e[0])
			}
			if got := redact.View(fhir.ResourceType(rt), root, func(int) bool { return false }, nil); strings.Contains(string(got.AppendJSON(nil)), "canary") {
				t.Errorf("%s.%s stays: %s", rt, e[0], got.AppendJSON(nil))
			}
			if got := redact.View(fhir.ResourceType(rt), root, func(int) bool { return true }, nil); !strings.Contains(string(got.AppendJSON(nil)), "canary") {
				t.Errorf("%s.%s goes where nothing is left out", rt, e[0])
			}
		}
	}
	if listed != len(kept) {
		t.Errorf("%d of %d listed texts are elements", listed, len(kept))
	}
}

// whole is a resource with one item in each list of mentions, each with a code, a
// display, a text and a note, and a narrative.
func whole(rt fhir.ResourceType) *element.Node {
	str := func(name, text string) element.Field {
		return element.Field{Name: name, Value: element.NewString(text)}
	}
	item := element.NewObject(str("reference", "Condition/mention"), str("display", "mention"), str("text", "mention"),
		element.Field{Name: "coding", Value: &element.Node{Kind: element.Array, Items: []*element.Node{element.NewObject(str("code", "mention"), str("display", "mention"))}}},
		element.Field{Name: "note", Value: &element.Node{Kind: element.Array, Items: []*element.Node{element.NewObject(str("text", "mention"))}}})
	root := element.NewObject(str("resourceType", string(rt)),
		element.Field{Name: "text", Value: element.NewObject(str("status", "generated"), str("div", "mention"))})
	for _, name := range redact.Mentions(rt) {
		x := item
		if rt == "Composition" {
			x = element.NewObject(str("title", "t"), element.Field{Name: "text", Value: root.Get("text")}, element.Field{Name: "entry", Value: &element.Node{Kind: element.Array, Items: []*element.Node{item}}})
		}
		root.Set(name, &element.Node{Kind: element.Array, Items: []*element.Node{x.Clone()}})
	}
	return root
}

// Of what is left out of a resource of any type nothing stays: no display, text or
// note of it, no narrative and no status of one. Nothing required is missing
// afterwards that was there before.
func TestL22_NothingRepeatsWhatIsLeftOut(t *testing.T) {
	for _, rt := range redact.Types() {
		root := whole(rt)
		before := faults(root)
		view := redact.View(rt, root, func(int) bool { return false }, nil)
		if got := string(view.AppendJSON(nil)); got != `{"resourceType":"`+string(rt)+`"}` {
			t.Errorf("%s: %s", rt, got)
		}
		for _, f := range faults(view) {
			if !slices.Contains(before, f) {
				t.Errorf("%s: %s", rt, f)
			}
		}
		back := view.Clone()
		redact.Merge(rt, back, root, view)
		if !equal(back, root) {
			t.Errorf("%s written back: %s", rt, back.AppendJSON(nil))
		}
	}
}

func faults(root *element.Node) []string {
	if _, err := codec.Parse(root.AppendJSON(nil)); err != nil {
		return strings.Split(err.Error(), "; ")
	}
	return nil
}
