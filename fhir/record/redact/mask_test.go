package redact_test

import (
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/redact"
)

const masked = "{'extension':[{'url':'http://hl7.org/fhir/StructureDefinition/data-absent-reason','valueCode':'masked'}]}"

// Every list of mentions can have a mark that the definitions of R4 take for an
// item of it, and that has no other content.
func TestMarksAreItemsOfTheirLists(t *testing.T) {
	for _, rt := range redact.Types() {
		for _, name := range redact.Mentions(rt) {
			root := element.NewObject(element.Field{Name: "resourceType", Value: element.NewString(string(rt))})
			redact.Mark(rt, root, []string{name})
			list := root.Get(name).List()
			if len(list) != 1 || !redact.Marked(rt, root) {
				t.Fatalf("%s.%s has no mark: %s", rt, name, text(root))
			}
			_, err := codec.Parse(root.AppendJSON(nil))
			if err != nil && strings.Contains(err.Error(), string(rt)+"."+name) {
				t.Errorf("%s.%s: the mark is no item of it: %v", rt, name, err)
			}
			rest := strings.ReplaceAll(text(list[0]), masked, "")
			for _, part := range []string{"'condition':", "'item':", "'_sequence':", "'diagnosisCodeableConcept':", "'productOrService':", "'entry':"} {
				rest = strings.ReplaceAll(rest, part, "")
			}
			if strings.Trim(rest, "{},[]") != "" {
				t.Errorf("the mark of %s.%s says more than that something is masked: %s", rt, name, text(list[0]))
			}
			was := text(root)
			if redact.Mark(rt, root, []string{name}); text(root) != was {
				t.Errorf("%s.%s has two marks: %s", rt, name, text(root))
			}
		}
	}
}

// A marked view is a valid resource; what was left out of one list marks that list,
// once, whatever it was; and what is sent back is the view without the mark.
func TestL45_MarksTellThatAndNotWhat(t *testing.T) {
	for _, s := range samples {
		rt, root := read(t, s)
		for n, keep := range keepers(len(redact.Items(rt, root))) {
			view := redact.View(rt, root, keep, nil)
			lists := redact.Withheld(rt, view, root)
			hidden := map[string]int{}
			for i := range redact.Items(rt, root) {
				if !keep(i) {
					hidden[listOf(rt, root, i)]++
				}
			}
			if len(hidden) != len(lists) {
				t.Fatalf("view %b of %s: %v are withheld from, want %v", n, rt, lists, hidden)
			}
			before := text(view)
			shown := view.Clone()
			redact.Mark(rt, shown, lists)
			if got := strings.Count(text(shown), masked); len(lists) > 0 == (got == 0) {
				t.Errorf("view %b of %s: %d marks in %s", n, rt, got, text(shown))
			}
			for _, name := range lists {
				if hidden[name] == 0 {
					t.Errorf("view %b of %s: nothing is left out of %s", n, rt, name)
				}
				list, was := shown.Get(name).List(), view.Get(name).List()
				if len(list) != len(was)+1 {
					t.Fatalf("view %b of %s: %d items of %s and one mark, got %d", n, rt, len(was), name, len(list))
				}
				if !strings.Contains(text(list[len(was)]), masked) {
					t.Errorf("view %b of %s: the mark of %s says where something was: %s", n, rt, name, text(shown))
				}
			}
			if _, err := codec.Parse(shown.AppendJSON(nil)); err != nil {
				t.Fatalf("view %b of %s: %v", n, rt, err)
			}
			redact.Unmark(rt, shown, view)
			if !equal(shown, view) {
				t.Errorf("view %b of %s sent back:\n%s\nwas\n%s", n, rt, text(shown), before)
			}
			// A mark that is stored is not ours to take away.
			redact.Mark(rt, shown, redact.Mentions(rt))
			stored := shown.Clone()
			redact.Unmark(rt, shown, stored)
			if !equal(shown, stored) {
				t.Errorf("view %b of %s: what was stored is gone: %s", n, rt, text(shown))
			}
		}
	}
}

func listOf(rt fhir.ResourceType, root *element.Node, i int) string {
	if rt == "Composition" {
		return "section"
	}
	for _, name := range redact.Mentions(rt) {
		if i -= len(root.Get(name).List()); i < 0 {
			return name
		}
	}
	return ""
}

// A view of a Claim has lost pointers to a diagnosis in items that are there: that
// withholds no item.
func TestPointersAreNoItems(t *testing.T) {
	rt, root := read(t, samples[2])
	view := redact.View(rt, root, func(i int) bool { return i != 1 }, nil)
	if got := redact.Withheld(rt, view, root); len(got) != 1 || got[0] != "diagnosis" {
		t.Errorf("withheld from %v", got)
	}
}
