package respond

import (
	"mime"
	"strconv"
	"strings"
)

// MediaType is the JSON type under which FHIR content is sent.
type MediaType uint8

// The media types (R4 http.html, "content types and encodings").
const (
	FHIRJSON  MediaType = iota // application/fhir+json
	PlainJSON                  // application/json, for a client that asks for no more
)

var mediaTypes = [...][]string{
	FHIRJSON:  {"application/fhir+json; charset=utf-8"},
	PlainJSON: {"application/json; charset=utf-8"},
}

func (t MediaType) header() []string { return mediaTypes[t] }

// Negotiate picks the media type of an answer from the Accept header fields
// and the _format parameter, which wins. ok is false where only types are
// asked for that this server does not write (406).
func Negotiate(accept []string, format string) (t MediaType, ok bool) {
	if format != "" {
		return formatOf(format)
	}
	best := -1.0
	asked := false
	for _, field := range accept {
		for _, item := range strings.Split(field, ",") {
			if strings.TrimSpace(item) == "" {
				continue
			}
			asked = true
			if mt, q, good := accepted(item); good && q > best {
				best, t, ok = q, mt, true
			}
		}
	}
	if !asked {
		return FHIRJSON, true
	}
	return t, ok
}

func formatOf(format string) (MediaType, bool) {
	// An unescaped plus sign in a query means a space.
	format = strings.Replace(format, "fhir json", "fhir+json", 1)
	if format == "json" {
		return FHIRJSON, true
	}
	t, _, ok := accepted(format)
	return t, ok
}

// accepted reads one media range.
func accepted(item string) (t MediaType, q float64, ok bool) {
	name, params, err := mime.ParseMediaType(item)
	if err != nil {
		return 0, 0, false
	}
	switch name {
	case "application/fhir+json", "application/*", "*/*":
		t = FHIRJSON
	case "application/json":
		t = PlainJSON
	default:
		return 0, 0, false
	}
	q = 1
	if s, given := params["q"]; given {
		if q, err = strconv.ParseFloat(s, 64); err != nil || !(q > 0 && q <= 1) {
			return 0, 0, false
		}
	}
	return t, q, suits(params)
}

// Zipped reports whether a client reads gzip (RFC 9110, 12.5.3), by the Accept-Encoding header fields.
func Zipped(fields []string) bool {
	for _, field := range fields {
		for item := range strings.SplitSeq(field, ",") {
			name, params, err := mime.ParseMediaType(item)
			if err != nil || name != "gzip" && name != "x-gzip" {
				continue
			}
			q, err := strconv.ParseFloat(params["q"], 64)
			return params["q"] == "" || err == nil && q > 0
		}
	}
	return false
}

// Readable reports whether a request body of that Content-Type is FHIR JSON
// that this server reads (else 415).
func Readable(contentType string) bool {
	name, params, err := mime.ParseMediaType(contentType)
	return err == nil && (name == "application/fhir+json" || name == "application/json") && suits(params)
}

// ReadablePatch reports whether a request body is a patch (R4 http.html, patch):
// a JSON Patch, or the Parameters of a FHIRPath Patch.
func ReadablePatch(contentType string) bool {
	name, params, err := mime.ParseMediaType(contentType)
	return err == nil && name == "application/json-patch+json" && suits(params) || Readable(contentType)
}

// ReadableLines reports whether a request body is NDJSON (Bulk Data Access 2.0, "Output Formats").
func ReadableLines(contentType string) bool {
	name, params, err := mime.ParseMediaType(contentType)
	return err == nil && (name == "application/fhir+ndjson" || name == "application/ndjson" || name == "application/x-ndjson") && suits(params)
}

// ReadableForm reports whether a request body is an HTML form (R4 http.html, search by POST).
func ReadableForm(contentType string) bool {
	name, params, err := mime.ParseMediaType(contentType)
	return err == nil && name == "application/x-www-form-urlencoded" && suits(params)
}

func suits(params map[string]string) bool {
	if v, given := params["fhirversion"]; given && v != "4.0" && v != "4.0.1" {
		return false
	}
	c, given := params["charset"]
	return !given || strings.EqualFold(c, "utf-8")
}
