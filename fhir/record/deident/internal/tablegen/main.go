// Command tablegen writes the code systems that a release may use, with their codes,
// from the published definitions of FHIR R4.
//
//	go run ./fhir/record/deident/internal/tablegen FOLDER < allow.table > systems.table
//
// FOLDER holds the StructureDefinition-*, ValueSet-* and CodeSystem-*.json files of
// the package hl7.fhir.r4.core 4.0.1. A system is in the output where a resource type
// of the allow-list is bound to it, with any strength, and where it has codes there.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tablegen FOLDER < allow.table > systems.table")
		os.Exit(2)
	}
	out := bufio.NewWriter(os.Stdout)
	err := errors.Join(generate(os.DirFS(os.Args[1]), os.Stdin, out), out.Flush())
	if err != nil {
		fmt.Fprintln(os.Stderr, "tablegen:", err)
		os.Exit(1)
	}
}

// always are systems that extensions and marks of a release use.
var always = []string{
	"http://terminology.hl7.org/CodeSystem/data-absent-reason", "http://terminology.hl7.org/CodeSystem/v3-NullFlavor",
	"http://terminology.hl7.org/CodeSystem/v3-Race", "http://terminology.hl7.org/CodeSystem/v3-Ethnicity",
}

type definition struct {
	URL, Kind, Type, Derivation, Content string
	Snapshot                             struct {
		Element []struct {
			Binding struct{ ValueSet string }
			Type    []struct{ Code string }
		}
	}
	Compose struct {
		Include []struct {
			System   string
			ValueSet []string
		}
	}
	Concept []concept
}

type concept struct {
	Code    string
	Concept []concept
}

func generate(dir fs.FS, allowed io.Reader, out io.Writer) error {
	types, err := resourceTypes(allowed)
	if err != nil {
		return err
	}
	structures, err := load(dir, "StructureDefinition-*.json")
	if err != nil {
		return err
	}
	sets, err := load(dir, "ValueSet-*.json")
	if err != nil {
		return err
	}
	systems, err := load(dir, "CodeSystem-*.json")
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, s := range always {
		used[s] = true
	}
	for _, d := range structures {
		if d.Derivation != "specialization" || !types[d.Type] {
			continue
		}
		for _, e := range d.Snapshot.Element {
			for _, t := range e.Type {
				if t.Code == "Coding" || t.Code == "CodeableConcept" {
					collect(sets, e.Binding.ValueSet, used, 0)
				}
			}
		}
	}
	if _, err := fmt.Fprintln(out, "# Written by fhir/record/deident/internal/tablegen from hl7.fhir.r4.core 4.0.1 (CC0). Do not edit."); err != nil {
		return err
	}
	for _, url := range slices.Sorted(maps.Keys(used)) {
		codes := codesOf(systems[url].Concept, nil)
		if len(codes) == 0 {
			continue
		}
		slices.Sort(codes)
		if _, err := fmt.Fprintln(out, url+"\t"+strings.Join(slices.Compact(codes), "\t")); err != nil {
			return err
		}
	}
	return nil
}

// resourceTypes are the types of an allow-list, and the data types that are bound too.
func resourceTypes(r io.Reader) (map[string]bool, error) {
	types := map[string]bool{}
	s := bufio.NewScanner(r)
	for s.Scan() {
		if name, ok := strings.CutPrefix(s.Text(), ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			types[name] = true
		}
	}
	if len(types) == 0 && s.Err() == nil {
		return nil, errors.New("the allow-list has no types")
	}
	return types, s.Err()
}

func load(dir fs.FS, pattern string) (map[string]definition, error) {
	names, err := fs.Glob(dir, pattern)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no %s", pattern)
	}
	out := map[string]definition{}
	for _, name := range names {
		body, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		var d definition
		if err := json.Unmarshal(body, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[d.URL] = d
	}
	return out, nil
}

// collect adds the systems of a value set, and of those that it includes.
func collect(sets map[string]definition, url string, used map[string]bool, depth int) {
	url, _, _ = strings.Cut(url, "|")
	set, ok := sets[url]
	if !ok || depth > 5 {
		return
	}
	for _, i := range set.Compose.Include {
		if i.System != "" {
			system, _, _ := strings.Cut(i.System, "|")
			used[system] = true
		}
		for _, v := range i.ValueSet {
			collect(sets, v, used, depth+1)
		}
	}
}

func codesOf(list []concept, out []string) []string {
	for _, c := range list {
		out = codesOf(c.Concept, append(out, c.Code))
	}
	return out
}
