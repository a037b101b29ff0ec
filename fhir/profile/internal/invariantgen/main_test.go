package main

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

func TestTheTableIsUpToDate(t *testing.T) {
	have, err := os.ReadFile("../../invariants.txt")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := generate(shareddata.Open(t, shareddata.Definitions), &b); err != nil {
		t.Fatal(err)
	}
	if b.String() != string(have) {
		t.Error("invariants.txt does not follow from the definitions: go generate ./fhir/profile")
	}
}

func TestGenerate(t *testing.T) {
	const thing = `{"kind":"resource","differential":{"element":[{"path":"Thing","constraint":[
		{"key":"dom-6","severity":"warning","expression":"text.exists()"},{"key":"thi-1","severity":"error","expression":"a\n  or b"}]},
		{"path":"Thing.x","constraint":[{"key":"thi-2","severity":"warning","expression":"c"},{"key":"thi-3","severity":"error"}]}]}}`
	var b strings.Builder
	err := generate(fstest.MapFS{"StructureDefinition-Thing.json": {Data: []byte(thing)},
		"StructureDefinition-other.json": {Data: []byte(strings.Replace(thing, `"kind"`, `"derivation":"constraint","kind"`, 1))}}, &b)
	want := "Thing\tthi-1\terror\ta or b\nThing.x\tthi-2\twarning\tc\n"
	if err != nil || !strings.HasSuffix(b.String(), "Do not edit.\n"+want) {
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := generate(fstest.MapFS{}, &b); err == nil {
		t.Error("an empty folder is accepted")
	}
}
