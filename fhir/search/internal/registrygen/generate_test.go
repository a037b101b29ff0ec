package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

// small is a made-up set of definitions with every shape of expression.
func small() fstest.MapFS {
	out := fstest.MapFS{}
	add := func(name, text string) { out[name+".json"] = &fstest.MapFile{Data: []byte(text)} }
	el := func(path, types string) string { return `{"path":"` + path + `","type":[` + types + `]}` }
	code := func(c string) string { return `{"code":"` + c + `"}` }
	structure := func(name string, elements ...string) {
		add("StructureDefinition-"+name, `{"url":"urn:sd:`+name+`","type":"`+name+`","derivation":"specialization","snapshot":{"element":[`+strings.Join(elements, ",")+`]}}`)
	}
	structure("Patient", el("Patient", ""))
	structure("Group", el("Group", ""))
	structure("Observation",
		el("Observation.id", `{"code":"http://hl7.org/fhirpath/System.String"}`),
		`{"path":"Observation.status","type":[{"code":"code"}],"binding":{"strength":"required","valueSet":"urn:vs:status|1"}}`,
		el("Observation.code", code("CodeableConcept")),
		el("Observation.value[x]", code("CodeableConcept")+","+code("string")+","+code("dateTime")+","+code("Quantity")),
		el("Observation.subject", `{"code":"Reference","targetProfile":["urn:sd:Patient","urn:sd:Group"]}`),
		el("Observation.component", code("BackboneElement")), el("Observation.component.code", code("CodeableConcept")),
		`{"path":"Observation.component.component","contentReference":"#Observation.component"}`,
		el("Observation.telecom", code("ContactPoint")), el("Observation.gone[x]", code("boolean")+","+code("dateTime")),
		el("Observation.seen", code("uri")), el("Observation.size", code("Quantity")), el("Observation.component.value[x]", code("CodeableConcept")+","+code("Quantity")),
		`{"path":"Observation.part","max":"*","type":[{"code":"BackboneElement"}]}`, `{"path":"Observation.part.at","max":"1","type":[{"code":"dateTime"}]}`,
		`{"path":"Observation.when[x]","max":"1","type":[{"code":"dateTime"},{"code":"Period"}]}`, el("Observation.amount", code("decimal")+","+code("Range")),
		el("Observation.target", `{"code":"Reference"}`))
	structure("CodeableConcept", el("CodeableConcept.text", code("string")))
	structure("Extension", el("Extension.value[x]", code("string")+","+code("Coding")))
	add("StructureDefinition-known", `{"url":"urn:known","type":"Extension","derivation":"constraint","snapshot":{"element":[`+el("Extension.value[x]", code("Coding"))+`]}}`)
	add("ValueSet-status", `{"url":"urn:vs:status","compose":{"include":[{"system":"urn:cs:status"}]}}`)
	param := func(code, typ, expression, more string) {
		add("SearchParameter-"+code, `{"id":"X-`+code+`","url":"urn:sp:`+code+`","code":"`+code+`","base":["Observation"],"type":"`+typ+`","expression":"`+expression+`"`+more+`}`)
	}
	param("plain", "token", "Patient.id | Observation.status", "")
	param("nested", "token", "Observation.component.code", "")
	param("content", "token", "Observation.component.component.code", "")
	param("choice", "date", "Observation.value", "")
	param("paren", "string", "(Observation.value as CodeableConcept).text | (Observation.value as string)", "")
	param("as", "string", "Observation.value.as(string)", "")
	param("is", "reference", "Observation.subject.where(resolve() is Patient)", `,"target":["Patient","Group"]`)
	param("ref", "reference", "Observation.subject", `,"target":["Patient","Group","Device"]`)
	param("where", "token", "Observation.telecom.where(system='email')", "")
	param("ext", "token", "Observation.extension('urn:known')", "")
	param("extunknown", "string", "Observation.extension('urn:other')", "")
	param("first", "token", "Observation.component[0].code", "")
	param("truth", "token", "Observation.gone.exists() and Observation.gone != false", "")
	param("bare", "token", "id", "")
	param("number", "number", "Observation.size", "")
	param("amount", "number", "Observation.amount", "")
	param("quantity", "quantity", "(Observation.value as Quantity)", "")
	param("date", "date", "Observation.part.at", "")
	param("effective", "date", "Observation.when", "")
	param("issued", "date", "Observation.when", "")
	param("has", "token", "Observation.component.where(hasExtension('urn:e')).code", "")
	param("oftype", "quantity", "Observation.component.value.ofType(Quantity)", "")
	param("component-nested", "token", "Observation.status", "")
	param("combo-nested", "token", "Observation.status | Observation.component.code", "")
	param("combo-plain", "token", "Observation.status | Observation.component.code", "")
	parts := func(p ...string) string {
		var list []string
		for pair := range slices.Chunk(p, 2) {
			list = append(list, `{"definition":"urn:sp:`+pair[0]+`","expression":"`+pair[1]+`"}`)
		}
		return `,"component":[` + strings.Join(list, ",") + `]`
	}
	param("pair", "composite", "Observation", parts("nested", "code", "quantity", "value.as(Quantity)"))
	param("pairs", "composite", "Observation | Observation.component", parts("nested", "code", "quantity", "value.as(Quantity) | value.as(DateTime)"))
	param("dated", "composite", "Observation", parts("nested", "code", "date", "value.as(DateTime)"))
	param("swapped", "composite", "Observation", parts("ref", "code", "nested", "target"))
	param("three", "composite", "Observation", parts("nested", "code", "nested", "code", "nested", "code"))
	param("strange", "composite", "Observation", parts("nested", "code", "absent", "code"))
	param("mismatch", "composite", "Observation", parts("nested", "code", "date", "code"))
	param("tokenless", "composite", "Observation", parts("date", "value.as(dateTime)", "nested", "code"))
	param("wrong", "date", "Observation.size", "")
	param("shape", "token", "Observation.component.where(code.exists()).code", "")
	param("lies", "token", "Observation.gone.exists() and Observation.value != false", "")
	param("missing", "token", "Observation.nowhere", "")
	param("itself", "token", "Observation", "")
	param("others", "token", "Patient.id", "")
	param("never", "token", "Observation.value.as(Coding)", "")
	param("nothing", "token", "", "")
	param("phonetic", "string", "Observation.value", "")
	add("SearchParameter-baseless", `{"id":"X-baseless","code":"baseless","type":"token","expression":"Observation.code"}`)
	add("SearchParameter-example", `{"id":"example","code":"plain","base":["Observation"],"type":"token","expression":"Observation.code"}`)
	add("SearchParameter-security", `{"id":"X-security","code":"_security","base":["Resource"],"type":"token","expression":"Resource.meta.security"}`)
	add("SearchParameter-_id", `{"id":"X-id","code":"_id","base":["Resource"],"type":"token","expression":"Resource.id"}`)
	return out
}

func TestGenerateReducesEveryShape(t *testing.T) {
	out, err := generate(small())
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(out.table)) {
		if col := strings.Split(strings.TrimSpace(line), "\t"); len(col) == 5 {
			rows[col[0]] = strings.TrimSpace(col[3] + " > " + col[4])
		} else if len(col) == 6 {
			rows[col[0]] = strings.TrimSpace(col[3] + " > " + col[4] + " > " + col[5])
		}
	}
	for code, want := range map[string]string{
		"plain": "> status:code(urn:cs:status)", "nested": "> component.code:CodeableConcept",
		"content": "> component.component.code:CodeableConcept", "choice": "> valueDateTime:dateTime",
		"paren": "> valueCodeableConcept.text:string|valueString:string", "as": "> valueString:string",
		"is": "Patient > subject[->Patient]:Reference", "ref": "Group Patient > subject:Reference",
		"where": "> telecom[system=email]:ContactPoint", "ext": "> extension[url=urn:known].valueCoding:Coding",
		"extunknown": "> extension[url=urn:other].valueString:string", "first": "> component[0].code:CodeableConcept",
		"truth": "> goneBoolean:truth|goneDateTime:truth", "bare": "> id:id",
		"number": "> !a number parameter over Quantity", "amount": "> amount:decimal|amount:Range", "quantity": "> valueQuantity:Quantity",
		"date": "> part.at:dateTime", "effective": "> whenDateTime:dateTime|whenPeriod:Period > clinical", "issued": "> whenDateTime:dateTime|whenPeriod:Period",
		"has": "> component[+urn:e].code:CodeableConcept", "oftype": "> component.valueQuantity:Quantity",
		"combo-nested": "> status:code(urn:cs:status)|component.code:CodeableConcept > union nested component-nested",
		"combo-plain":  "> status:code(urn:cs:status)|component.code:CodeableConcept",
		"pair":         "> :Element > nested token code:CodeableConcept;quantity quantity valueQuantity:Quantity",
		"pairs":        "> :Element|component:Element > nested token code:CodeableConcept;quantity quantity valueQuantity:Quantity",
		"dated":        "> :Element > nested token code:CodeableConcept;date date valueDateTime:dateTime",
		"swapped":      "> :Element > nested token code:CodeableConcept;ref reference target:Reference",
		"three":        "> !a composite of 3 parts", "strange": "> !component urn:sp:absent has no definition",
		"mismatch": "> !a date parameter over CodeableConcept", "tokenless": "> !a composite that does not begin with a token",
		"wrong": "> !a date parameter over Quantity",
		"shape": "> !expression of a shape that is not compiled", "lies": "> !expression of a shape that is not compiled",
		"missing": "> !no element Observation.nowhere", "itself": "> !expression is the resource itself",
		"others": "> !expression selects nothing of this base", "never": "> !Observation.value[x] is never a Coding",
		"nothing": "> !definition has no expression", "phonetic": "> !no phonetic algorithm",
		"_security": "> !labels are not searchable",
	} {
		if rows[code] != want {
			t.Errorf("%s: got %q, want %q", code, rows[code], want)
		}
	}
	if _, ok := rows["_id"]; ok {
		t.Error("_id is answered by a column and stands in the table")
	}
	if _, ok := rows["baseless"]; ok || !strings.Contains(string(out.refused), "baseless") {
		t.Error("a definition without a base is not listed as not compiled")
	}
	if !strings.Contains(string(out.table), "%uri\tseen\n") {
		t.Error("the elements that can hold a url are not listed")
	}
	for code, row := range rows {
		if strings.Contains(row, "> !") != strings.Contains(string(out.refused), "\t"+code+"\t") {
			t.Errorf("%s: table and list of what is not compiled disagree", code)
		}
	}
}

func TestGenerateNeedsDefinitions(t *testing.T) {
	if _, err := generate(fstest.MapFS{}); err == nil {
		t.Error("an empty folder gave a table")
	}
	if _, err := generate(fstest.MapFS{"SearchParameter-x.json": &fstest.MapFile{Data: []byte("{")}}); err == nil {
		t.Error("a broken file gave a table")
	}
	bad := small()
	bad["SearchParameter-y.json"] = &fstest.MapFile{Data: []byte(`{"id":"y","code":"y","base":["Nonsense"],"type":"token","expression":"Nonsense.x"}`)}
	if _, err := generate(bad); err == nil {
		t.Error("an unknown base gave a table")
	}
}

// TestTableIsCurrent regenerates the committed files from the official definitions.
func TestTableIsCurrent(t *testing.T) {
	out, err := generate(shareddata.Open(t, shareddata.Definitions))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"../../r4.txt": out.table, "../../testdata/golden/notcompiled.txt": out.refused} {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator writes: run go generate", name)
		}
	}
}
