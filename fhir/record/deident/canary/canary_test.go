package canary_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/canary"
)

// elements are all elements that an instance of a type can have, at any depth: "Patient.contact.gender". What is said in a
// resource inside another is the matter of its own type.
func elements(name string, into map[string]codec.Element) {
	d, ok := codec.DefinitionOf(name)
	if !ok || name == "Extension" { // which is looked at by itself
		return
	}
	for _, e := range d.Elements() {
		where := name + "." + e.JSON
		if _, met := into[where]; met || e.Forbidden || e.Type == "Resource" {
			continue
		}
		into[where] = e
		elements(e.Type, into)
	}
}

// planted marks the elements that an instance has.
func planted(name string, n *element.Node, have map[string]bool) {
	d, ok := codec.DefinitionOf(name)
	if !ok {
		return
	}
	for _, f := range n.Fields {
		have[name+"."+f.Name] = true
		e, ok := d.Element(f.Name)
		if !ok || e.Primitive {
			continue
		}
		for _, x := range f.Value.List() {
			planted(e.Type, x, have)
		}
	}
}

// Every element of R4 that every resource type can have has a token, or has the value that its type allows; and so has the object
// beside each primitive, and an extension in everything that is released. What a data type has is planted somewhere in what is
// released: it is treated in the same way wherever it is.
func TestEveryElementOfR4IsPlanted(t *testing.T) {
	count, tokens := 0, 0
	everywhere, shared := map[string]bool{}, map[string]codec.Element{}
	var missing []string
	check := func(name string, e codec.Element, have map[string]bool) {
		count++
		if !have[name] {
			missing = append(missing, name)
		}
		at := strings.LastIndexByte(name, '.')
		if beside := name[:at+1] + "_" + name[at+1:]; e.Primitive && !e.Attribute && e.Name != "id" && !have[beside] {
			missing = append(missing, beside)
		}
	}
	for _, rt := range fhir.ResourceTypes() {
		listed := slices.Contains(deident.Types(), rt)
		want, have := map[string]codec.Element{}, map[string]bool{}
		elements(string(rt), want)
		many := canary.Variants(rt)
		if !listed { // the whole type is left out, whichever choice is made in it
			many = 2
		}
		for v := range many {
			root, p := canary.Plant(rt, v)
			planted(string(rt), root, have)
			tokens += len(p.Tokens)
		}
		for name, e := range want {
			own := strings.HasPrefix(name, string(rt)+".")
			switch {
			case e.Name == "modifierExtension", e.Name == "implicitRules": // takes a resource out as a whole, and is another test's
			case own && (listed || e.Name != "extension" && e.Name == e.JSON):
				check(name, e, have)
			case !own && listed:
				shared[name] = e
			}
		}
		if listed {
			maps.Copy(everywhere, have)
		}
	}
	d, _ := codec.DefinitionOf("Extension") // which can have a value of any type
	for _, e := range d.Elements() {
		if shared["Extension."+e.JSON] = e; e.Name == "extension" || e.Attribute {
			delete(shared, "Extension."+e.JSON)
		}
	}
	for name, e := range shared {
		if !strings.HasPrefix(name, "Extension.") {
			check(name, e, everywhere)
		} else if !everywhere[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		t.Errorf("%d are missing: %v", len(missing), missing)
	}
	if count < 4000 || tokens < 300_000 {
		t.Errorf("%d elements, %d tokens", count, tokens)
	}
	t.Logf("%d elements, %d tokens", count, tokens)
}
