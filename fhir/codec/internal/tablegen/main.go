// Command tablegen writes the validation table of fhir/codec from the published
// definitions of FHIR R4: names, types, cardinalities and codes, nothing else.
//
//	go run ./fhir/codec/internal/tablegen FOLDER > fhir/codec/r4.table
//
// FOLDER holds the StructureDefinition-*, ValueSet-* and CodeSystem-*.json files of
// the package hl7.fhir.r4.core 4.0.1. The output is the same for the same input.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tablegen FOLDER > r4.table")
		os.Exit(2)
	}
	out := bufio.NewWriter(os.Stdout)
	err := errors.Join(generate(os.DirFS(os.Args[1]), out, os.Stderr), out.Flush())
	if err != nil {
		fmt.Fprintln(os.Stderr, "tablegen:", err)
		os.Exit(1)
	}
}

type structure struct {
	Name, Kind, Derivation, BaseDefinition, Type string
	Abstract                                     bool
	Snapshot                                     struct{ Element []element }
}

type element struct {
	Path, ContentReference, Max string
	Min                         int
	IsSummary, IsModifier       bool
	Base                        struct{ Path string }
	Type                        []struct {
		Code                   string
		Profile, TargetProfile []string
		Extension              []struct{ URL, ValueURL string }
	}
	Binding struct{ Strength, ValueSet string }
}

type concept struct {
	Code    string
	Concept []concept
}

type codeSystem struct {
	URL, Content string
	Concept      []concept
}

type valueSet struct {
	URL     string
	Compose struct {
		Include []struct {
			System   string
			Concept  []concept
			Filter   []any
			ValueSet []string
		}
		Exclude []any
	}
}

const fhirBase = "http://hl7.org/fhir/StructureDefinition/"

// profiled are the two constrained types that the base resources name by
// profile and that change which elements may appear.
var profiled = map[string]bool{"SimpleQuantity": true, "MoneyQuantity": true}

// patterned are the value sets that no code system of the folder enumerates,
// with the check that stands in for them.
var patterned = map[string]string{
	"http://hl7.org/fhir/ValueSet/currencies": "^currency",
}

type tables struct {
	structures []structure
	sets       map[string]valueSet
	systems    map[string]codeSystem
	used       map[string]string // value set URL -> its name in the table
	log        io.Writer
}

func generate(folder fs.FS, out, log io.Writer) error {
	t := &tables{sets: map[string]valueSet{}, systems: map[string]codeSystem{}, used: map[string]string{}, log: log}
	if err := errors.Join(
		each(folder, "StructureDefinition-*.json", func(s structure) { t.structures = append(t.structures, s) }),
		each(folder, "ValueSet-*.json", func(v valueSet) { t.sets[v.URL] = v }),
		each(folder, "CodeSystem-*.json", func(c codeSystem) { t.systems[c.URL] = c }),
	); err != nil {
		return err
	}
	t.structures = slices.DeleteFunc(t.structures, func(s structure) bool {
		return s.Kind == "logical" || s.Kind == "primitive-type" || s.Derivation == "constraint" && !profiled[s.Name]
	})
	if len(t.structures) == 0 {
		return errors.New("the folder holds no StructureDefinition of a base type")
	}
	sort.Slice(t.structures, func(i, j int) bool { return t.structures[i].Name < t.structures[j].Name })

	var types strings.Builder
	for _, s := range t.structures {
		if err := t.structure(&types, s); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	var b strings.Builder
	b.WriteString("# Written by fhir/codec/internal/tablegen from hl7.fhir.r4.core 4.0.1 (CC0). Do not edit.\n")
	for _, url := range slices.Sorted(mapKeys(t.used)) {
		t.set(&b, url)
	}
	b.WriteString(types.String())
	_, err := io.WriteString(out, b.String())
	return err
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func each[T any](folder fs.FS, pattern string, add func(T)) error {
	names, err := fs.Glob(folder, pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		body, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		add(v)
	}
	return nil
}

// structure writes the types of one definition: the type itself and one for
// each element that has elements of its own.
func (t *tables) structure(b *strings.Builder, s structure) error {
	parents := map[string]bool{}
	for _, e := range s.Snapshot.Element {
		if i := strings.LastIndexByte(e.Path, '.'); i >= 0 {
			parents[e.Path[:i]] = true
		}
	}
	root := s.Snapshot.Element[0].Path
	order := []string{root}
	elements := map[string][]element{}
	bases := map[string]string{root: strings.TrimPrefix(s.BaseDefinition, fhirBase)}
	for _, e := range s.Snapshot.Element[1:] {
		parent := e.Path[:strings.LastIndexByte(e.Path, '.')]
		if parents[e.Path] {
			order = append(order, e.Path)
			bases[e.Path] = e.Type[0].Code
		}
		own := e.Base.Path == e.Path
		if profiled[s.Name] {
			own = e.Max == "0"
		}
		if own {
			elements[parent] = append(elements[parent], e)
		}
	}
	for _, path := range order {
		name, kind := path, "datatype"
		switch {
		case path != root:
			kind = "backbone"
		case profiled[s.Name]:
			name = s.Name
		case s.Abstract:
			kind = "abstract"
		case s.Kind == "resource":
			kind = "resource"
		}
		fmt.Fprintf(b, ":%s\t%s\t%s\n", name, bases[path], kind)
		for _, e := range elements[path] {
			typ, err := t.typeOf(e, parents[e.Path])
			if err != nil {
				return fmt.Errorf("%s: %w", e.Path, err)
			}
			short := e.Path[strings.LastIndexByte(e.Path, '.')+1:]
			fmt.Fprintf(b, "%s%s\t%d..%s\t%s", marks(e), short, e.Min, e.Max, typ)
			if e.Binding.Strength == "required" {
				if name := t.bind(e.Binding.ValueSet); name != "" {
					fmt.Fprintf(b, "\t%s", name)
				}
			}
			b.WriteByte('\n')
		}
	}
	return nil
}

// marks stand before the name of an element: ~ for one of the summary, ! for a modifier.
func marks(e element) string {
	out := ""
	if e.IsSummary {
		out += "~"
	}
	if e.IsModifier {
		out += "!"
	}
	return out
}

func (t *tables) typeOf(e element, parent bool) (string, error) {
	if e.ContentReference != "" {
		return strings.TrimPrefix(e.ContentReference, "#"), nil
	}
	if parent {
		return e.Path, nil
	}
	var names []string
	for _, y := range e.Type {
		name := y.Code
		switch {
		case strings.HasPrefix(y.Code, "http://hl7.org/fhirpath/System."):
			// An XML attribute: it cannot carry an extension of its own.
			if len(y.Extension) == 0 {
				return "", errors.New("an attribute without its FHIR type")
			}
			name = "@" + y.Extension[0].ValueURL
			if e.Base.Path == "Resource.id" {
				name = "@id"
			}
		case y.Code == "xhtml":
			name = "@xhtml"
		case y.Code == "Reference":
			var targets []string
			for _, p := range y.TargetProfile {
				targets = append(targets, strings.TrimPrefix(p, fhirBase))
			}
			sort.Strings(targets)
			if len(targets) > 0 && !slices.Contains(targets, "Resource") {
				name += "(" + strings.Join(targets, ",") + ")"
			}
		case len(y.Profile) == 1 && profiled[strings.TrimPrefix(y.Profile[0], fhirBase)]:
			name = strings.TrimPrefix(y.Profile[0], fhirBase)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "", errors.New("no type")
	}
	return strings.Join(names, "|"), nil
}

// bind names the value set of a required binding, or "" for one whose codes
// nobody can list.
func (t *tables) bind(canonical string) string {
	url, _, _ := strings.Cut(canonical, "|")
	if p := patterned[url]; p != "" {
		return p
	}
	v, ok := t.sets[url]
	if !ok {
		t.pass(url, "is not in the folder: not checked")
		return ""
	}
	if len(v.Compose.Exclude) > 0 {
		t.pass(url, "has exclusions: not checked")
		return ""
	}
	for _, inc := range v.Compose.Include {
		cs, ok := t.systems[inc.System]
		switch {
		case len(inc.Filter) > 0, len(inc.ValueSet) > 0, len(inc.Concept) == 0 && (!ok || cs.Content != "complete"):
			t.pass(url, "cannot be enumerated: not checked")
			return ""
		}
	}
	name := url[strings.LastIndexByte(url, '/')+1:]
	t.used[url] = name
	return name
}

// pass says that a binding is passed over; a report that fails is no reason to stop.
func (t *tables) pass(url, why string) { _, _ = fmt.Fprintf(t.log, "tablegen: %s %s\n", url, why) }

func (t *tables) set(b *strings.Builder, url string) {
	fmt.Fprintf(b, "=%s\n", t.used[url])
	for _, inc := range t.sets[url].Compose.Include {
		concepts := inc.Concept
		if len(concepts) == 0 {
			concepts = t.systems[inc.System].Concept
		}
		b.WriteString("+" + inc.System)
		codes(b, concepts)
		b.WriteByte('\n')
	}
}

func codes(b *strings.Builder, concepts []concept) {
	for _, c := range concepts {
		if strings.ContainsAny(c.Code, "\t\n") {
			panic("a code with a tab: " + strconv.Quote(c.Code))
		}
		b.WriteString("\t" + c.Code)
		codes(b, c.Concept)
	}
}
