package profile_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
	"github.com/cloister-health/cloister/fhir/profile"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

const usCore = "http://hl7.org/fhir/us/core/StructureDefinition/"

// exceptions reads testdata/exceptions.txt: examples that are not accepted, with the reason.
func exceptions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/exceptions.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, reason, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if ok && name[0] != '#' {
			m[name] = reason
		}
	}
	return m
}

// examples gives the examples of a package that declare a profile of US Core, by name.
func declared(examples map[string][]byte) (names []string) {
	for n, body := range examples {
		if strings.Contains(string(body), usCore) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// Every example of US Core conforms to what it declares, or testdata/exceptions.txt says why not.
func TestUSCoreExamples(t *testing.T) {
	for _, name := range shareddata.Packages {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			examples := w.pack(t, name)
			w.core(t)
			v := profile.New(w, w, clock)
			known := exceptions(t)
			ok, total := 0, 0
			var spent time.Duration
			for _, n := range declared(examples) {
				total++
				reason := known[name+"/"+n]
				r, err := codec.Parse(examples[n])
				if err == nil {
					if _, err := v.Validate(context.Background(), r, profile.Options{}); err != nil { // compiles what it needs
						t.Fatal(err)
					}
					start := time.Now()
					issues, failed := v.Validate(context.Background(), r, profile.Options{})
					spent += time.Since(start)
					if failed != nil {
						t.Fatal(failed)
					}
					err = profile.Refusal(issues)
				}
				switch {
				case err == nil && reason != "":
					t.Errorf("%s is accepted: take it out of testdata/exceptions.txt", n)
				case err != nil && reason == "":
					t.Errorf("%s: %.300v", n, err)
				case err == nil:
					ok++
				}
			}
			t.Logf("%d of %d examples conform, %v each", ok, total, spent/time.Duration(max(ok, 1)))
		})
	}
}

// What is taken out of an example, or changed in it, against its profile is refused.
func TestUSCoreMutations(t *testing.T) {
	name := shareddata.Packages[len(shareddata.Packages)-1]
	w := newWorld()
	examples := w.pack(t, name)
	w.core(t)
	v := profile.New(w, w, clock)
	tried, kinds := 0, map[string]int{}
	for _, n := range declared(examples) {
		r, err := codec.Parse(examples[n])
		if err != nil || r.Type == "Bundle" {
			continue
		}
		for _, p := range r.Root.Get("meta").Get("profile").List() {
			sd, ok, err := w.Find(context.Background(), "StructureDefinition", p.String())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				continue
			}
			for _, m := range mutations(w, r, sd) {
				tried++
				kinds[m.kind]++
				x, err := codec.Check(m.root)
				if err != nil {
					continue // R4 itself refuses it
				}
				issues, err := v.Validate(context.Background(), x, profile.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if profile.Refusal(issues) == nil {
					t.Errorf("%s: %s of %s is accepted (%s)", n, m.kind, m.path, p.String())
				}
			}
		}
	}
	t.Log(tried, "mutations", kinds)
	if tried < 500 {
		t.Errorf("only %d mutations", tried)
	}
}

type mutation struct {
	kind, path string
	root       *element.Node
}

// mutations breaks r in every way that one element of a snapshot forbids by itself.
func mutations(w *world, r *codec.Resource, sd *element.Node) (out []mutation) {
	change := func(kind, path string, do func(owner *element.Node, field string)) {
		c := r.Clone()
		root, _ := fhirpath.Resource(c.Root)
		e, err := fhirpath.Compile(path)
		if err != nil {
			return
		}
		found, err := e.Eval(context.Background(), root, fhirpath.Options{})
		if err != nil || len(found) == 0 {
			return
		}
		for _, v := range found { // all of them: another one could make up for one
			if p := v.Place(); p.Owner != nil {
				do(p.Owner, p.Field)
			}
		}
		out = append(out, mutation{kind, path, c.Root})
	}
	for _, e := range sd.Get("snapshot").Get("element").List() {
		id, path := e.Get("id").String(), e.Get("path").String()
		if strings.Contains(id, ":") || !strings.Contains(path, ".") {
			continue
		}
		path = strings.ReplaceAll(path, "[x]", "")
		if e.Get("min").Text == "1" && !strings.HasSuffix(path, ".extension.url") {
			change("required", path, func(owner *element.Node, field string) {
				owner.Delete(field)
				owner.Delete("_" + field)
				if len(owner.Fields) == 0 {
					owner.Set("id", element.NewString("x"))
				}
			})
		}
		if pattern := e.Get("patternCodeableConcept"); pattern != nil {
			change("pattern", path, func(owner *element.Node, field string) {
				concept := element.NewObject(element.Field{Name: "text", Value: element.NewString("something else")})
				if owner.Get(field).Kind == element.Array {
					concept = &element.Node{Kind: element.Array, Items: []*element.Node{concept}}
				}
				owner.Set(field, concept)
			})
		}
		if fixed := e.Get("fixedCode"); fixed != nil {
			change("fixed", path, func(owner *element.Node, field string) { owner.Set(field, element.NewString("something-else")) })
		}
		if b := e.Get("binding"); b.Get("strength").String() == "required" {
			if s := w.expand(context.Background(), strings.Split(b.Get("valueSet").String(), "|")[0], 0); s.known && len(s.codes) > 0 {
				change("binding", path, func(owner *element.Node, field string) {
					owner.Get(field).Walk(func(name string, n *element.Node) bool {
						if n.Kind == element.String && (name == "code" || name == field || name == "") {
							n.Text = "no-such-code"
						}
						return true
					})
				})
			}
		}
		typ := e.Get("type").List()
		if len(typ) == 1 && typ[0].Get("code").String() == "Reference" && narrow(typ[0].Get("targetProfile")) {
			change("target", path, func(owner *element.Node, field string) {
				for _, x := range owner.Get(field).List() {
					x.Set("reference", element.NewString("ImplementationGuide/x"))
				}
			})
		}
	}
	return out
}

func narrow(targets *element.Node) bool {
	for _, t := range targets.List() {
		if strings.HasSuffix(t.String(), "/Resource") {
			return false
		}
	}
	return targets != nil
}

// The invariants of R4 find nothing wrong with its own examples.
func TestR4Examples(t *testing.T) {
	dir := shareddata.Open(t, shareddata.Examples)
	v := profile.New(profile.Nothing{}, profile.Nothing{}, clock)
	n := 0
	var spent time.Duration
	for _, name := range shareddata.Files(t, dir) {
		r, err := codec.Parse(shareddata.Read(t, dir, name))
		if err != nil {
			continue
		}
		n++
		start := time.Now()
		issues, err := v.Validate(context.Background(), r, profile.Options{})
		spent += time.Since(start)
		if err != nil {
			t.Fatal(err)
		}
		if err := profile.Refusal(issues); err != nil {
			t.Errorf("%s: %.300v", name, err)
		}
		for _, i := range issues {
			if strings.Contains(i.Text, "could not be evaluated") {
				t.Errorf("%s: %s: %s", name, i.Path, i.Text)
			}
		}
	}
	t.Logf("%d examples, %v each", n, spent/time.Duration(max(n, 1)))
}

// Synthea's patients meet US Core but for what testdata/exceptions.txt says.
func TestSynthea(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	dir := shareddata.Open(t, shareddata.Synthea)
	w := newWorld()
	w.pack(t, shareddata.Packages[0])
	w.core(t)
	v := profile.New(w, w, clock)
	known := exceptions(t)
	total, bad := 0, 0
	var times []time.Duration
	for _, name := range shareddata.Files(t, dir)[:4] {
		b, err := codec.Parse(shareddata.Read(t, dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range b.Entries() {
			if e.Resource == nil {
				continue
			}
			start := time.Now()
			issues, err := v.Validate(context.Background(), e.Resource, profile.Options{})
			times = append(times, time.Since(start))
			if err != nil {
				t.Fatal(err)
			}
			total++
			refused := false
			for _, i := range issues {
				if i.Warning {
					continue
				}
				refused = true
				if known["synthea/"+string(e.Resource.Type)+": "+i.Text] == "" {
					t.Errorf("%s: %s: %s", name, i.Path, i.Text)
				}
			}
			if refused {
				bad++
			}
		}
	}
	slices.Sort(times)
	t.Logf("%d resources, %d refused; half within %v, 99 of 100 within %v", total, bad, times[len(times)/2], times[len(times)*99/100])
}
