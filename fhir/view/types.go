package view

import (
	"strings"

	"github.com/cloister-health/cloister/fhir/fhirpath"
)

// structures is where the types of FHIR are defined; a column may leave it out.
const structures = "http://hl7.org/fhir/StructureDefinition/"

// kinds are the primitive types that a column may have, and what a value of each is to FHIRPath.
var kinds = map[string]fhirpath.Kind{
	"boolean": fhirpath.Boolean,
	"integer": fhirpath.Integer, "integer64": fhirpath.Integer, "positiveInt": fhirpath.Integer, "unsignedInt": fhirpath.Integer,
	"decimal": fhirpath.Decimal,
	"string":  fhirpath.String, "code": fhirpath.String, "id": fhirpath.String, "markdown": fhirpath.String, "base64Binary": fhirpath.String,
	"uri": fhirpath.String, "url": fhirpath.String, "canonical": fhirpath.String, "oid": fhirpath.String, "uuid": fhirpath.String,
	"date": fhirpath.Date, "dateTime": fhirpath.DateTime, "instant": fhirpath.DateTime, "time": fhirpath.Time,
}

// columnType is the primitive type that a URI of a view names, "" for what is none.
func columnType(uri string) string {
	name := strings.TrimPrefix(uri, structures)
	if _, ok := kinds[name]; !ok {
		return ""
	}
	return name
}

// fits reports whether a value may stand in the column: an integer is a decimal, too, and a date a
// dateTime. Where the view states no type, whatever comes is text.
func (c Column) fits(v fhirpath.Value) bool {
	if !c.stated {
		return true
	}
	switch want, is := kinds[c.Type], v.Kind(); {
	case want == is:
		return c.Type != "instant" || len(v.Text()) > len("2006-01-02T15:04:05")
	case want == fhirpath.Decimal:
		return is == fhirpath.Integer
	case c.Type == "dateTime":
		return is == fhirpath.Date
	}
	return false
}
