package main

import (
	"bytes"
	"os"
	"testing"
	"testing/fstest"

	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

func folder(patient string) fstest.MapFS {
	dir := fstest.MapFS{}
	for _, d := range definitions {
		dir["CompartmentDefinition-"+d[0]+".json"] = &fstest.MapFile{Data: []byte(`{"code":"` + d[1] + `"}`)}
	}
	dir["CompartmentDefinition-patient.json"] = &fstest.MapFile{Data: []byte(patient)}
	return dir
}

func TestGenerate(t *testing.T) {
	got, err := generate(folder(`{"code":"Patient","resource":[{"code":"Account","param":["subject","{def}","owner"]},{"code":"Binary"},{"code":"Patient","param":["{def}"]}]}`))
	if err != nil || !bytes.HasSuffix(got, []byte("DO NOT EDIT.\n@Device\n@Encounter\n@Patient\nAccount\tsubject owner\n@Practitioner\n@RelatedPerson\n")) {
		t.Errorf("%q %v", got, err)
	}
	for _, text := range []string{`{"code":"Encounter","resource":[]}`, `{`} {
		if _, err := generate(folder(text)); err == nil {
			t.Errorf("%s gave a table", text)
		}
	}
	if _, err := generate(fstest.MapFS{}); err == nil {
		t.Error("an empty folder gave a table")
	}
}

// TestTableIsCurrent regenerates the committed file from the official definitions.
func TestTableIsCurrent(t *testing.T) {
	want, err := generate(shareddata.Open(t, shareddata.Definitions))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../compartments.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("compartments.txt is not what the generator writes: run go generate")
	}
}
