package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// searchParameter is what the table needs of a SearchParameter.
type searchParameter struct {
	ID         string   `json:"id"`
	Code       string   `json:"code"`
	Base       []string `json:"base"`
	Type       string   `json:"type"`
	Expression string   `json:"expression"`
	Target     []string `json:"target"`
	URL        string   `json:"url"`
	Component  []struct {
		Definition string `json:"definition"`
		Expression string `json:"expression"`
	} `json:"component"`
}

// elementType is one entry of ElementDefinition.type.
type elementType struct {
	code    string
	targets []string // resource types; empty for any
}

// elementDefinition is one element of a type, under its path.
type elementDefinition struct {
	types   []elementType
	content string // path that contentReference names
	system  string // the one code system of a required binding, or ""
	many    bool   // max is above 1
}

// definitions is the part of the R4 definitions that the generator reads.
type definitions struct {
	params     []searchParameter
	elements   map[string]elementDefinition // "Observation.component.value[x]"
	extensions map[string][]elementType     // extension url -> types of value[x]
	uriNames   map[string]bool              // names of elements that can hold a url
}

type structureDefinition struct {
	URL        string `json:"url"`
	Type       string `json:"type"`
	Kind       string `json:"kind"`
	Derivation string `json:"derivation"`
	Snapshot   struct {
		Element []struct {
			Path             string `json:"path"`
			ContentReference string `json:"contentReference"`
			Max              string `json:"max"`
			Type             []struct {
				Code          string   `json:"code"`
				TargetProfile []string `json:"targetProfile"`
			} `json:"type"`
			Binding struct {
				Strength string `json:"strength"`
				ValueSet string `json:"valueSet"`
			} `json:"binding"`
		} `json:"element"`
	} `json:"snapshot"`
}

type valueSet struct {
	URL     string `json:"url"`
	Compose struct {
		Include []struct {
			System string `json:"system"`
		} `json:"include"`
	} `json:"compose"`
}

func load(dir fs.FS) (*definitions, error) {
	d := &definitions{elements: map[string]elementDefinition{}, extensions: map[string][]elementType{}, uriNames: map[string]bool{}}
	systems := map[string]string{}
	if err := each(dir, "ValueSet-*.json", func(v valueSet) error {
		if len(v.Compose.Include) == 1 {
			systems[v.URL] = v.Compose.Include[0].System
		}
		return nil
	}); err != nil {
		return nil, err
	}
	profiles := map[string]string{} // profile url -> type
	var structures []structureDefinition
	if err := each(dir, "StructureDefinition-*.json", func(s structureDefinition) error {
		profiles[s.URL] = s.Type
		structures = append(structures, s)
		return nil
	}); err != nil {
		return nil, err
	}
	for _, s := range structures {
		d.structure(s, profiles, systems)
	}
	if err := each(dir, "SearchParameter-*.json", func(p searchParameter) error {
		// The folder also holds the examples of the resource type SearchParameter.
		if !strings.HasPrefix(p.ID, "example") {
			d.params = append(d.params, p)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if len(d.params) == 0 || len(d.elements) == 0 {
		return nil, fmt.Errorf("the folder holds no SearchParameter or no StructureDefinition")
	}
	slices.SortFunc(d.params, func(a, b searchParameter) int { return strings.Compare(a.ID, b.ID) })
	return d, nil
}

func (d *definitions) structure(s structureDefinition, profiles, systems map[string]string) {
	for _, e := range s.Snapshot.Element {
		var def elementDefinition
		for _, t := range e.Type {
			et := elementType{code: t.Code}
			if strings.HasPrefix(t.Code, "http://hl7.org/fhirpath/") {
				et.code = primitiveOf(e.Path)
			}
			for _, p := range t.TargetProfile {
				if rt := profiles[p]; fhir.ResourceType(rt).Valid() {
					et.targets = append(et.targets, rt)
				}
			}
			def.types = append(def.types, et)
		}
		if s.Derivation == "constraint" {
			if s.Type == "Extension" && e.Path == "Extension.value[x]" {
				d.extensions[s.URL] = def.types
			}
			continue
		}
		def.content = strings.TrimPrefix(e.ContentReference, "#")
		def.many = e.Max != "" && e.Max != "0" && e.Max != "1"
		if e.Binding.Strength == "required" {
			vs, _, _ := strings.Cut(e.Binding.ValueSet, "|")
			def.system = systems[vs]
		}
		d.elements[e.Path] = def
		d.noteURIs(e.Path, def.types)
	}
}

func (d *definitions) noteURIs(path string, types []elementType) {
	name := path[strings.LastIndexByte(path, '.')+1:]
	for _, t := range types {
		switch t.code {
		case "uri", "url", "canonical":
			if base, choice := strings.CutSuffix(name, "[x]"); choice {
				d.uriNames[base+upper(t.code)] = true
			} else {
				d.uriNames[name] = true
			}
		}
	}
}

// primitiveOf says what the elements are that R4 types as FHIRPath System.String.
func primitiveOf(path string) string {
	switch {
	case path == "Extension.url":
		return "uri"
	case strings.HasSuffix(path, ".id") && fhir.ResourceType(strings.TrimSuffix(path, ".id")).Valid():
		return "id"
	default:
		return "string"
	}
}

func each[T any](dir fs.FS, pattern string, visit func(T) error) error {
	names, err := fs.Glob(dir, pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		b, err := fs.ReadFile(dir, name)
		if err != nil {
			return err
		}
		var v T
		if err := json.Unmarshal(b, &v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := visit(v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
