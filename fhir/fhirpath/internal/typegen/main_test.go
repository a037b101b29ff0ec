package main

import (
	"os"
	"strings"
	"testing"
)

func TestTheTableIsUpToDate(t *testing.T) {
	table, err := os.ReadFile("../../../codec/r4.table")
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../types.txt")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := generate(string(table), &b); err != nil {
		t.Fatal(err)
	}
	if b.String() != string(have) {
		t.Error("types.txt does not follow from the table of fhir/codec: go generate ./fhir/fhirpath")
	}
}

func TestGenerate(t *testing.T) {
	var b strings.Builder
	err := generate("# x\n=set\n+urn:s\ta\n:Element\t\tabstract\nid\t0..1\t@string\n:SimpleQuantity\tQuantity\tdatatype\ncomparator\t0..0\tcode\n"+
		":Thing\tElement\tresource\nname\t0..*\tHumanName\nvalue[x]\t0..1\tSimpleQuantity|Reference(Patient)\n", &b)
	want := "Element\t\tabstract\tid:string\nThing\tElement\tresource\tname:HumanName*\tvalue[x]:Quantity|Reference\n"
	if err != nil || !strings.HasSuffix(b.String(), want) {
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := generate(":x\n", &b); err == nil {
		t.Error("a line that is none is read")
	}
}
