// Command invariantgen writes the table of the invariants of R4 from the published definitions: where they hold,
// their keys, severities and expressions, nothing else.
//
//	go run ./fhir/profile/internal/invariantgen FOLDER > fhir/profile/invariants.txt
//
// FOLDER holds the StructureDefinition-*.json files of the package hl7.fhir.r4.core 4.0.1. The output is the same for
// the same input.
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
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: invariantgen FOLDER > invariants.txt")
		os.Exit(2)
	}
	out := bufio.NewWriter(os.Stdout)
	if err := errors.Join(generate(os.DirFS(os.Args[1]), out), out.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, "invariantgen:", err)
		os.Exit(1)
	}
}

type structure struct {
	URL, Kind, Derivation, Type string
	Differential                struct{ Element []element }
}

type element struct {
	Path       string
	Constraint []struct{ Key, Severity, Expression string }
}

// checked are the invariants that fhir/codec holds for every resource that it reads.
var checked = map[string]bool{
	"ele-1": true, "ext-1": true, "dom-2": true, "dom-3": true, "dom-4": true, "txt-1": true, "txt-2": true, "ref-1": true,
}

// passed over: dom-5 is about labels, which are the server's own; dom-6 is advice that would stand under most resources.
var advice = map[string]bool{"dom-5": true, "dom-6": true}

func generate(folder fs.FS, w io.Writer) error {
	names, err := fs.Glob(folder, "StructureDefinition-*.json")
	if err != nil {
		return err
	}
	var lines []string
	for _, name := range names {
		body, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		var s structure
		if err := json.Unmarshal(body, &s); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if s.Kind != "resource" && s.Kind != "complex-type" || s.Derivation == "constraint" {
			continue
		}
		for _, e := range s.Differential.Element {
			for _, c := range e.Constraint {
				if checked[c.Key] || advice[c.Key] || c.Expression == "" {
					continue
				}
				lines = append(lines, e.Path+"\t"+c.Key+"\t"+c.Severity+"\t"+strings.Join(strings.Fields(c.Expression), " "))
			}
		}
	}
	if len(lines) == 0 {
		return errors.New("the folder holds no definition with an invariant")
	}
	slices.Sort(lines)
	if _, err := fmt.Fprintln(w, "# Written by fhir/profile/internal/invariantgen from hl7.fhir.r4.core 4.0.1 (CC0). Do not edit."); err != nil {
		return err
	}
	for _, l := range slices.Compact(lines) {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}
