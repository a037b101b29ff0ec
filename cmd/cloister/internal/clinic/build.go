package clinic

import (
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// The builders below make trees in the order of the R4 definitions. A builder
// that has nothing to say returns the zero Field, which object leaves out.

type (
	node  = *element.Node
	field = element.Field
)

func object(fields ...field) node {
	n := &element.Node{Kind: element.Object, Fields: make([]field, 0, len(fields))}
	for _, f := range fields {
		if f.Name != "" {
			n.Fields = append(n.Fields, f)
		}
	}
	return n
}

func str(name, value string) field {
	if value == "" {
		return field{}
	}
	return field{Name: name, Value: element.NewString(value)}
}

func strs(name string, values ...string) field {
	nodes := make([]node, len(values))
	for i, v := range values {
		nodes[i] = element.NewString(v)
	}
	return list(name, nodes...)
}

func number(name string, v int) field {
	return field{Name: name, Value: element.NewNumber(int64(v))}
}

// decimal takes the literal, because its precision is part of a FHIR decimal.
func decimal(name, literal string) field {
	return field{Name: name, Value: &element.Node{Kind: element.Number, Text: literal}}
}

func yes(name string) field {
	return field{Name: name, Value: &element.Node{Kind: element.Bool, Text: "true"}}
}

func nest(name string, fields ...field) field {
	return field{Name: name, Value: object(fields...)}
}

func list(name string, items ...node) field {
	if len(items) == 0 {
		return field{}
	}
	return field{Name: name, Value: &element.Node{Kind: element.Array, Items: items}}
}

func to(r fhir.Ref) node { return object(str("reference", r.String())) }

func reference(name string, r fhir.Ref) field {
	if r == (fhir.Ref{}) {
		return field{}
	}
	return field{Name: name, Value: to(r)}
}

func references(name string, refs ...fhir.Ref) field {
	nodes := make([]node, 0, len(refs))
	for _, r := range refs {
		if r != (fhir.Ref{}) {
			nodes = append(nodes, to(r))
		}
	}
	return list(name, nodes...)
}

// code is one coding; display is our own wording.
type code struct{ system, code, display string }

func (c code) coding() node {
	return object(str("system", c.system), str("code", c.code), str("display", c.display))
}

// concept is a CodeableConcept of codes and our own text.
func concept(text string, codes ...code) node {
	codings := make([]node, len(codes))
	for i, c := range codes {
		codings[i] = c.coding()
	}
	return object(list("coding", codings...), str("text", text))
}

func conceptField(name, text string, codes ...code) field {
	return field{Name: name, Value: concept(text, codes...)}
}

func quantity(name, literal, unit, ucumCode string) field {
	return nest(name, decimal("value", literal), str("unit", unit), str("system", ucum), str("code", ucumCode))
}

func period(name string, start, end time.Time) field {
	f := []field{str("start", instant(start))}
	if !end.IsZero() {
		f = append(f, str("end", instant(end)))
	}
	return nest(name, f...)
}

func narrative(text string) field {
	return nest("text", str("status", "generated"),
		str("div", `<div xmlns="http://www.w3.org/1999/xhtml"><p>`+text+divEnd))
}

// declares names the US Core 7.0.0 profiles that a resource follows, by the last part of their URLs.
func declares(profiles ...string) field {
	urls := make([]string, len(profiles))
	for i, p := range profiles {
		urls[i] = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-" + p
	}
	return nest("meta", strs("profile", urls...))
}

// date gives FHIR's date form of t, a UTC day.
func date(t time.Time) string { return t.Format(time.DateOnly) }

// instant gives FHIR's instant form of t.
func instant(t time.Time) string { return t.Format("2006-01-02T15:04:05Z") }

// days adds n days of 24 hours.
func days(t time.Time, n int) time.Time { return t.Add(time.Duration(n) * 24 * time.Hour) }

// Code systems, by the canonical URLs that R4 gives them.
const (
	terminology = "http://terminology.hl7.org/CodeSystem/"
	loinc       = "http://loinc.org"
	snomed      = "http://snomed.info/sct"
	icd10cm     = "http://hl7.org/fhir/sid/icd-10-cm"
	rxnorm      = "http://www.nlm.nih.gov/research/umls/rxnorm"
	ucum        = "http://unitsofmeasure.org"
	actCode     = terminology + "v3-ActCode"
	actReason   = terminology + "v3-ActReason"
	roleCode    = terminology + "v3-RoleCode"
	partType    = terminology + "v3-ParticipationType"
)
