package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

// definitions are ours: small, in the form of the published ones.
var definitions = map[string]string{
	"StructureDefinition-Element.json": `{"name":"Element","kind":"complex-type","abstract":true,"type":"Element","snapshot":{"element":[{"path":"Element"},
	 {"path":"Element.id","min":0,"max":"1","base":{"path":"Element.id"},"type":[{"code":"http://hl7.org/fhirpath/System.String","extension":[{"url":"x","valueUrl":"string"}]}]}]}}`,
	"StructureDefinition-Quantity.json": `{"name":"Quantity","kind":"complex-type","derivation":"specialization","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Element","snapshot":{"element":[{"path":"Quantity"},
	 {"path":"Quantity.id","min":0,"max":"1","base":{"path":"Element.id"},"type":[{"code":"string"}]},{"path":"Quantity.comparator","min":0,"max":"1","base":{"path":"Quantity.comparator"},"type":[{"code":"code"}]}]}}`,
	"StructureDefinition-SimpleQuantity.json": `{"name":"SimpleQuantity","kind":"complex-type","derivation":"constraint","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Quantity","snapshot":{"element":[{"path":"Quantity"},
	 {"path":"Quantity.comparator","min":0,"max":"0","base":{"path":"Quantity.comparator"},"type":[{"code":"code"}]}]}}`,
	"StructureDefinition-Thing.json": `{"name":"Thing","kind":"resource","derivation":"specialization","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Element","snapshot":{"element":[{"path":"Thing"},
	 {"path":"Thing.status","isSummary":true,"isModifier":true,"min":1,"max":"1","base":{"path":"Thing.status"},"type":[{"code":"code"}],"binding":{"strength":"required","valueSet":"http://x/ValueSet/status|4.0.1"}},
	 {"path":"Thing.kind","isSummary":true,"min":0,"max":"1","base":{"path":"Thing.kind"},"type":[{"code":"code"}],"binding":{"strength":"preferred","valueSet":"http://x/ValueSet/status"}},
	 {"path":"Thing.unit","min":0,"max":"1","base":{"path":"Thing.unit"},"type":[{"code":"code"}],"binding":{"strength":"required","valueSet":"http://x/ValueSet/open"}},
	 {"path":"Thing.subject","min":0,"max":"*","base":{"path":"Thing.subject"},"type":[{"code":"Reference","targetProfile":["http://hl7.org/fhir/StructureDefinition/Thing","http://hl7.org/fhir/StructureDefinition/Other"]}]},
	 {"path":"Thing.any","min":0,"max":"1","base":{"path":"Thing.any"},"type":[{"code":"Reference","targetProfile":["http://hl7.org/fhir/StructureDefinition/Resource"]}]},
	 {"path":"Thing.value[x]","min":0,"max":"1","base":{"path":"Thing.value[x]"},"type":[{"code":"string"},{"code":"Quantity","profile":["http://hl7.org/fhir/StructureDefinition/SimpleQuantity"]}]},
	 {"path":"Thing.part","min":0,"max":"*","base":{"path":"Thing.part"},"type":[{"code":"Element"}]},
	 {"path":"Thing.part.id","min":0,"max":"1","base":{"path":"Element.id"},"type":[{"code":"string"}]},
	 {"path":"Thing.part.name","min":1,"max":"1","base":{"path":"Thing.part.name"},"type":[{"code":"string"}]},
	 {"path":"Thing.part.part","min":0,"max":"*","base":{"path":"Thing.part.part"},"contentReference":"#Thing.part"}]}}`,
	"StructureDefinition-profile.json": `{"name":"Profile","kind":"resource","derivation":"constraint","snapshot":{"element":[{"path":"Thing"}]}}`,
	"StructureDefinition-Event.json":   `{"name":"Event","kind":"logical","snapshot":{"element":[{"path":"Event"}]}}`,
	"ValueSet-status.json":             `{"url":"http://x/ValueSet/status","compose":{"include":[{"system":"http://x/CodeSystem/status"},{"system":"http://y","concept":[{"code":"a b"}]}]}}`,
	"ValueSet-open.json":               `{"url":"http://x/ValueSet/open","compose":{"include":[{"system":"http://unknown"}]}}`,
	"CodeSystem-status.json":           `{"url":"http://x/CodeSystem/status","content":"complete","concept":[{"code":"on","concept":[{"code":"on-hold"}]},{"code":"off"}]}`,
}

const table = `# Written by fhir/codec/internal/tablegen from hl7.fhir.r4.core 4.0.1 (CC0). Do not edit.
=status
+http://x/CodeSystem/status	on	on-hold	off
+http://y	a b
:Element		abstract
id	0..1	@string
:Quantity	Element	datatype
comparator	0..1	code
:SimpleQuantity	Quantity	datatype
comparator	0..0	code
:Thing	Element	resource
~!status	1..1	code	status
~kind	0..1	code
unit	0..1	code
subject	0..*	Reference(Other,Thing)
any	0..1	Reference
value[x]	0..1	string|SimpleQuantity
part	0..*	Thing.part
:Thing.part	Element	backbone
name	1..1	string
part	0..*	Thing.part
`

func TestGenerate(t *testing.T) {
	dir := t.TempDir()
	for name, body := range definitions {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, log bytes.Buffer
	if err := generate(os.DirFS(dir), &out, &log); err != nil {
		t.Fatal(err)
	}
	if out.String() != table {
		t.Errorf("got\n%s\nwant\n%s", out.String(), table)
	}
	if !strings.Contains(log.String(), "ValueSet/open cannot be enumerated") {
		t.Errorf("an open value set is passed over in silence: %s", log.String())
	}
	if err := generate(os.DirFS(t.TempDir()), &out, &log); err == nil {
		t.Error("an empty folder gives a table")
	}
	if err := os.WriteFile(filepath.Join(dir, "ValueSet-bad.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := generate(os.DirFS(dir), &out, &log); err == nil || !strings.Contains(err.Error(), "ValueSet-bad.json") {
		t.Errorf("a broken file: %v", err)
	}
}

// The committed table is what the published definitions give.
func TestCommittedTable(t *testing.T) {
	var out, log bytes.Buffer
	if err := generate(shareddata.Open(t, shareddata.Definitions), &out, &log); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("..", "..", "r4.table"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Error("r4.table is not what tablegen writes: run it again")
	}
}
