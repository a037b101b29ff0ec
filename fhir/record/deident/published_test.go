package deident

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
	"github.com/cloister-health/cloister/fhir/record/deident/canary"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// secrets are the texts of a resource that nobody may find in a release: names,
// telecoms, identifiers, address lines, displays, and the logical ids.
func secrets(root *element.Node) map[string]bool {
	out := map[string]bool{}
	root.Walk(func(name string, n *element.Node) bool {
		if n.Kind == element.String && len(n.Text) >= 7 {
			switch name {
			case "family", "given", "line", "city", "display", "text", "div", "id", "reference", "title", "name", "comment", "url", "fullUrl", "birthDate", "start", "end", "issued", "lastUpdated", "lotNumber":
				out[n.Text] = true
			case "value": // of identifiers and telecoms
				out[n.Text] = true
			}
		}
		return true
	})
	// What the marks, the labels and the list say themselves.
	for _, ours := range []string{absence, "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race", "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity",
		"http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex", "ombCategory", "detailed"} {
		delete(out, ours)
	}
	return out
}

// strings collects the texts of a tree.
func textsOf(root *element.Node) []string {
	var out []string
	root.Walk(func(_ string, n *element.Node) bool {
		if n.Kind == element.String {
			out = append(out, n.Text)
		}
		return true
	})
	return out
}

// word is a text that may be a code of a required binding, which listedOnly looks at.
var word = regexp.MustCompile(`^[a-z-]+$`)

// coded are texts that are codes of a system on the list, and so are no secrets where they are released as that.
func coded(root *element.Node) map[string]bool {
	out := map[string]bool{}
	root.Walk(func(name string, n *element.Node) bool {
		if name == "code" && n.Kind == element.String {
			out[n.Text] = true
		}
		return true
	})
	return out
}

func examine(t *testing.T, source, out *element.Node) {
	t.Helper()
	listedOnly(t, "safe-harbor", out)
	hidden, codes := secrets(source), coded(out)
	for _, s := range textsOf(out) {
		if hidden[s] && !codes[s] && !word.MatchString(s) && !strings.HasPrefix(s, "#") {
			t.Errorf("%q of %s is released: %s", s, source.Get("resourceType").String(), shown(out))
		}
	}
}

// Every example of R4 of a listed type is released as what the list allows, and nothing of its names, ids and texts.
func TestD1_164_514_b_2_ExamplesOfR4(t *testing.T) {
	dir := shareddata.Open(t, shareddata.Examples)
	names := shareddata.Files(t, dir)
	released := 0
	for i, name := range names {
		if testing.Short() && i%5 != 0 {
			continue
		}
		body := shareddata.Read(t, dir, name)
		r, err := codec.Parse(body)
		if err != nil || r.ID() == "" || !slices.Contains(Types(), r.Type) {
			continue
		}
		x := newTrial(t, "safe-harbor")
		out := x.run(stored{patient: "somebody", body: string(body)})[0]
		if out == nil {
			if why := x.report.LeftOut[r.Type]; why[Modified] != 1 {
				t.Errorf("%s is left out: %v", name, why)
			}
			continue
		}
		released++
		examine(t, r.Root, out)
	}
	if released < 100 {
		t.Errorf("%d examples are released", released)
	}
}

// The records of synthetic patients are released whole: references hold, two releases
// share no id, and no name, address, identifier or text is in either.
func TestD3_164_514_c_ReleasesOfSynthea(t *testing.T) {
	dir := shareddata.Open(t, shareddata.Synthea)
	names := shareddata.Files(t, dir)
	var in []stored
	var sources []*element.Node
	hidden := map[string]bool{}
	for _, name := range names[:min(len(names), 4)] {
		for _, s := range synthea(t, dir, name) {
			r, err := codec.Parse([]byte(s.body))
			if err != nil {
				t.Fatal(err)
			}
			in, sources = append(in, s), append(sources, r.Root)
			maps.Copy(hidden, secrets(r.Root))
		}
	}
	ids := map[string]bool{}
	for range 2 {
		x := newTrial(t, "safe-harbor")
		out := x.run(in...)
		followed := integrity(t, out)
		released := 0
		for i, n := range out {
			if n == nil {
				continue
			}
			released++
			if id := n.Get("id").String(); ids[id] {
				t.Errorf("the id %s is in two releases", id)
			} else {
				ids[id] = true
			}
			examine(t, sources[i], n)
		}
		if released < 200 || followed < 500 {
			t.Errorf("%d of %d are released with %d references: %v", released, len(in), followed, x.report.LeftOut)
		}
		for rt, why := range x.report.LeftOut {
			if len(why) != 1 || why[Type] == 0 {
				t.Errorf("%s is left out: %v", rt, why)
			}
		}
	}
	if len(hidden) < 500 {
		t.Errorf("%d secrets", len(hidden))
	}
}

// synthea reads a Bundle as what the store has of it: references are local, each resource is of its patient.
func synthea(t *testing.T, dir fs.FS, name string) (out []stored) {
	t.Helper()
	r, err := codec.Parse(shareddata.Read(t, dir, name))
	if err != nil {
		t.Fatal(err)
	}
	refs := map[string]string{}
	var patient fhir.ID
	for _, e := range r.Entries() {
		refs[e.FullURL] = e.Resource.Ref().String()
		if e.Resource.Type == "Patient" {
			patient = e.Resource.ID()
		}
	}
	for _, e := range r.Entries() {
		for _, l := range e.Resource.References() {
			if to := refs[l.Node.Text]; to != "" {
				l.Node.Text = to
			}
		}
		s := stored{patient: patient, body: string(e.Resource.Root.AppendJSON(nil))}
		if p := allowed().harbor[string(e.Resource.Type)]; p != nil && p.shared {
			s.patient = ""
		}
		out = append(out, s)
	}
	return out
}

// Whatever a resource has, what is released of it is valid, on the list, and is released
// again as it is: there is nothing in it to take away.
func TestD1_164_514_b_2_WhateverIsStored(t *testing.T) {
	types := Types()
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom(types).Draw(rt, "type")
		root, _ := canary.Plant(kind, rapid.IntRange(0, 11).Draw(rt, "variant")*3) // without contained resources: those keep their references
		root.Delete("contained")
		prune(string(kind), root, func() bool { return rapid.IntRange(0, 5).Draw(rt, "drop") == 0 }, 3)
		body := root.AppendJSON(nil)
		if _, err := codec.Parse(body); err != nil {
			rt.Skip("not valid")
		}
		x := newTrial(t, "safe-harbor")
		s := stored{patient: "p", body: string(body)}
		out := x.run(s)[0]
		if out == nil {
			rt.Fatalf("%s is left out: %v", kind, x.report.LeftOut)
		}
		listedOnly(rt2{t, rt}, "safe-harbor", out)
		again := newTrial(t, "safe-harbor").run(stored{patient: "p", body: string(out.AppendJSON(nil))})[0]
		again.Set("id", out.Get("id"))
		if shown(again) != shown(out) {
			rt.Fatalf("released again:\n%s\nwas\n%s", shown(again), shown(out))
		}
	})
}

// rt2 fails the drawn case where a check fails the test.
type rt2 struct {
	testing.TB
	rt *rapid.T
}

func (r rt2) Errorf(format string, args ...any) { r.rt.Fatalf(format, args...) }

// prune takes out elements that R4 does not require, so deep.
func prune(name string, n *element.Node, drop func() bool, depth int) {
	d, ok := codec.DefinitionOf(name)
	if !ok || depth == 0 {
		return
	}
	left := len(n.Fields)
	n.Fields = slices.DeleteFunc(n.Fields, func(f element.Field) bool {
		e, ok := d.Element(strings.TrimPrefix(f.Name, "_"))
		if !ok || e.Required || f.Name == "id" || left <= 2 || !drop() { // an element has more than an id (ele-1)
			return false
		}
		left--
		return true
	})
	for _, f := range n.Fields {
		if e, ok := d.Element(f.Name); ok && !e.Primitive && e.Type != "Extension" {
			for _, x := range f.Value.List() {
				prune(e.Type, x, drop, depth-1)
			}
		}
	}
}

// A fuzzed body is released as what the list allows, or not at all; and nothing panics.
func FuzzTransform(f *testing.F) {
	for _, s := range family("p") {
		f.Add([]byte(s.text()))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		x := newTrial(t, "safe-harbor")
		r, err := codec.Parse(body)
		if err != nil || r.ID() == "" {
			return
		}
		s := vault.Seal(vault.Header{Ref: r.Ref(), Patient: "p"}, x.grants, body)
		if err := x.release.Survey(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		x.release.Settle()
		d, ok, err := x.release.Transform(context.Background(), s)
		if err != nil || !ok {
			return
		}
		var b bytes.Buffer
		if err := x.release.NDJSON(&b).Put(d); err != nil {
			t.Fatal(err)
		}
		out, err := codec.Parse(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		listedOnly(t, "safe-harbor", out.Root)
	})
}
