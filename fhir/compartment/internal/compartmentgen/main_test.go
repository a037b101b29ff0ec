package main

import (
	"bytes"
	"io/fs"
	"os"
	"testing"
	"testing/fstest"

	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

func TestGenerate(t *testing.T) {
	file := func(text string) fs.FS {
		return fstest.MapFS{"CompartmentDefinition-patient.json": &fstest.MapFile{Data: []byte(text)}}
	}
	got, err := generate(file(`{"code":"Patient","resource":[{"code":"Account","param":["subject","owner"]},{"code":"Binary"}]}`))
	if err != nil || !bytes.HasSuffix(got, []byte("DO NOT EDIT.\nAccount\tsubject owner\n")) {
		t.Errorf("%q %v", got, err)
	}
	for _, text := range []string{`{"code":"Encounter","resource":[]}`, `{`} {
		if _, err := generate(file(text)); err == nil {
			t.Errorf("%s gave a table", text)
		}
	}
	if _, err := generate(fstest.MapFS{}); err == nil {
		t.Error("an empty folder gave a table")
	}
}

// TestTableIsCurrent regenerates the committed file from the official definition.
func TestTableIsCurrent(t *testing.T) {
	want, err := generate(shareddata.Open(t, shareddata.Definitions))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../patient.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("patient.txt is not what the generator writes: run go generate")
	}
}
