package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

func TestGenerate(t *testing.T) {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"StructureDefinition-Thing.json": `{"url":"http://x/Thing","type":"Thing","derivation":"specialization","snapshot":{"element":[{"type":[{"code":"CodeableConcept"}],"binding":{"valueSet":"http://x/vs|1"}},
			{"type":[{"code":"code"}],"binding":{"valueSet":"http://x/other"}}]}}`,
		"StructureDefinition-Else.json": `{"url":"http://x/Else","type":"Else","derivation":"specialization","snapshot":{"element":[{"type":[{"code":"Coding"}],"binding":{"valueSet":"http://x/other"}}]}}`,
		"ValueSet-vs.json":              `{"url":"http://x/vs","compose":{"include":[{"valueSet":["http://x/inner"]},{"system":"http://x/empty"}]}}`,
		"ValueSet-inner.json":           `{"url":"http://x/inner","compose":{"include":[{"system":"http://x/cs|2"}]}}`,
		"ValueSet-other.json":           `{"url":"http://x/other","compose":{"include":[{"system":"http://x/unused"}]}}`,
		"CodeSystem-cs.json":            `{"url":"http://x/cs","concept":[{"code":"b","concept":[{"code":"a"}]}]}`,
		"CodeSystem-empty.json":         `{"url":"http://x/empty"}`,
		"CodeSystem-unused.json":        `{"url":"http://x/unused","concept":[{"code":"z"}]}`,
	} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	var out bytes.Buffer
	if err := generate(files, strings.NewReader("# a list\n:Thing shared\nx\n"), &out); err != nil {
		t.Fatal(err)
	}
	if _, got, _ := strings.Cut(out.String(), "\n"); got != "http://x/cs\ta\tb\n" {
		t.Errorf("%q", got)
	}
	if err := generate(files, strings.NewReader("nothing"), &out); err == nil {
		t.Error("a list without types")
	}
	if err := generate(fstest.MapFS{}, strings.NewReader(":Thing\n"), &out); err == nil {
		t.Error("no definitions")
	}
}

// The table in the tree is what the published definitions give.
func TestTheTableIsGenerated(t *testing.T) {
	dir := shareddata.Open(t, shareddata.Definitions)
	list, err := os.Open(filepath.Join("..", "..", "allow.table"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = list.Close() }() // it was only read
	want, err := os.ReadFile(filepath.Join("..", "..", "systems.table"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := generate(dir, list, &out); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Error("generate systems.table again: go generate ./fhir/record/deident")
	}
}
