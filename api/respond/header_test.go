package respond

import (
	"net/http"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir"
)

// TestNegotiate: channels of leaks L53.
func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		accept []string
		format string
		want   MediaType
		ok     bool
	}{
		{nil, "", FHIRJSON, true},
		{[]string{""}, "", FHIRJSON, true},
		{[]string{"*/*"}, "", FHIRJSON, true},
		{[]string{"application/*"}, "", FHIRJSON, true},
		{[]string{"application/fhir+json"}, "", FHIRJSON, true},
		{[]string{"Application/FHIR+JSON"}, "", FHIRJSON, true},
		{[]string{"application/fhir+json; fhirVersion=4.0"}, "", FHIRJSON, true},
		{[]string{"application/fhir+json; fhirVersion=4.0; charset=UTF-8"}, "", FHIRJSON, true},
		{[]string{"application/fhir+json; fhirVersion=5.0"}, "", 0, false},
		{[]string{"application/json"}, "", PlainJSON, true},
		{[]string{"application/json, application/fhir+json"}, "", PlainJSON, true},
		{[]string{"application/json;q=0.5, application/fhir+json"}, "", FHIRJSON, true},
		{[]string{"application/xml, application/json;q=0.1"}, "", PlainJSON, true},
		{[]string{"application/xml", "application/fhir+json"}, "", FHIRJSON, true},
		{[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "", FHIRJSON, true},
		{[]string{"application/fhir+json;q=0"}, "", 0, false},
		{[]string{"application/fhir+json;q=nan"}, "", 0, false},
		{[]string{"application/fhir+json;q=2"}, "", 0, false},
		{[]string{"application/fhir+xml"}, "", 0, false},
		{[]string{"application/xml"}, "", 0, false},
		{[]string{"text/turtle"}, "", 0, false},
		{[]string{"text/html"}, "", 0, false},
		{[]string{"application/fhir+ndjson"}, "", 0, false},
		{[]string{"application/json-patch+json"}, "", 0, false},
		{[]string{"nonsense"}, "", 0, false},
		{[]string{"text/html"}, "json", FHIRJSON, true},
		{[]string{"text/html"}, "application/fhir+json", FHIRJSON, true},
		{[]string{"text/html"}, "application/fhir json", FHIRJSON, true},
		{nil, "application/json", PlainJSON, true},
		{nil, "xml", 0, false},
		{nil, "html", 0, false},
		{nil, "ttl", 0, false},
		{nil, "application/fhir+json;fhirVersion=3.0", 0, false},
	} {
		if got, ok := Negotiate(c.accept, c.format); got != c.want && ok || ok != c.ok {
			t.Errorf("Negotiate(%q, %q) = %v, %v", c.accept, c.format, got, ok)
		}
	}
}

func TestReadable(t *testing.T) {
	for s, want := range map[string]bool{
		"application/fhir+json": true, "application/json": true, "application/fhir+json; charset=utf-8": true,
		"application/fhir+json;fhirVersion=4.0": true, "application/fhir+json;fhirVersion=5.0": false,
		"application/fhir+json; charset=utf-16": false, "": false, "text/plain": false, "application/fhir+xml": false,
		"application/json-patch+json": false, "application/x-www-form-urlencoded": false, "*/*": false, "application/*": false,
	} {
		if got := Readable(s); got != want {
			t.Errorf("Readable(%q) = %v", s, got)
		}
	}
	if !ReadableForm("application/x-www-form-urlencoded;charset=UTF-8") || ReadableForm("multipart/form-data; boundary=x") {
		t.Error("forms")
	}
}

func TestParsePrefer(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   Prefer
	}{
		{nil, Prefer{}},
		{[]string{"return=minimal"}, Prefer{Return: Minimal}},
		{[]string{"return=representation"}, Prefer{Return: Representation}},
		{[]string{`return="OperationOutcome"`}, Prefer{Return: OperationOutcome}},
		{[]string{"handling=lenient"}, Prefer{Lenient: true}},
		{[]string{"handling=strict"}, Prefer{}},
		{[]string{"security-labels"}, Prefer{Labels: obligation.Labels}},
		{[]string{"return=minimal, security-labels=detailed"}, Prefer{Return: Minimal, Labels: obligation.Detailed}},
		{[]string{"return=representation; handling=lenient"}, Prefer{Return: Representation, Lenient: true}},
		{[]string{"respond-async, Return = representation", "handling=lenient"}, Prefer{Return: Representation, Lenient: true, Async: true}},
		{[]string{"return=everything"}, Prefer{}},
		{[]string{"return"}, Prefer{}},
	} {
		if got := ParsePrefer(c.fields); got != c.want {
			t.Errorf("ParsePrefer(%q) = %+v", c.fields, got)
		}
	}
}

func TestParseETag(t *testing.T) {
	for s, want := range map[string]fhir.VersionID{
		`W/"1"`: 1, `"12"`: 12, ` W/"3" `: 3, `W/"0"`: 0, `W/"01"`: 0, `W/1`: 0, `1`: 0, `W/"1`: 0, `W/"x"`: 0, `""`: 0, `"`: 0, `w/"1"`: 0, `W/"1", W/"2"`: 0,
	} {
		if got, ok := ParseETag(s); got != want || ok != (want != 0) {
			t.Errorf("ParseETag(%q) = %v, %v", s, got, ok)
		}
	}
	for _, v := range []fhir.VersionID{1, 9, 1 << 30} {
		if got, ok := ParseETag(ETag(v)); !ok || got != v {
			t.Errorf("ParseETag(ETag(%d)) = %d", v, got)
		}
	}
}

func TestUnchanged(t *testing.T) {
	updated := time.Date(2026, 3, 1, 12, 0, 0, 500e6, time.UTC)
	at := func(d time.Duration) string { return updated.Add(d).Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		Conditions
		want bool
	}{
		"none":                       {Conditions{}, false},
		"this version":               {Conditions{IfNoneMatch: `W/"2"`}, true},
		"another version":            {Conditions{IfNoneMatch: `W/"1"`}, false},
		"any":                        {Conditions{IfNoneMatch: `*`}, true},
		"list":                       {Conditions{IfNoneMatch: `"9",W/"2"`}, true},
		"nonsense":                   {Conditions{IfNoneMatch: `2`}, false},
		"the very second":            {Conditions{IfModifiedSince: at(0)}, true},
		"later":                      {Conditions{IfModifiedSince: at(time.Hour)}, true},
		"earlier":                    {Conditions{IfModifiedSince: at(-time.Second)}, false},
		"no date":                    {Conditions{IfModifiedSince: "yesterday"}, false},
		"the tag wins over the date": {Conditions{IfNoneMatch: `W/"1"`, IfModifiedSince: at(time.Hour)}, false},
	} {
		if got := c.unchanged(2, updated); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
