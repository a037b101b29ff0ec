package rest

import (
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// target is the interaction that Bundle.entry.request asks for
// (http://hl7.org/fhir/R4/http.html#transaction).
type target struct {
	interaction fhir.Interaction
	typ         fhir.ResourceType // "" for a type that does not exist
	id          fhir.ID           // "" for an id that cannot exist
	version     fhir.VersionID    // 0 for a version that cannot exist
	query       string
	head        bool // answered without a body
	// unknown is set where the path leads nowhere: hidden, absent and impossible are one answer.
	unknown bool
}

var (
	errEntryMethod = outcome.New(outcome.NotSupported, "an entry takes the methods GET, HEAD, POST, PUT, PATCH and DELETE on a type or a resource")
	errEntryURL    = outcome.New(outcome.Invalid, "an entry's request.url is relative to the base, or absolute under it")
)

// parseTarget reads request.method and request.url.
func parseTarget(method, url, base string) (target, error) {
	if rest, ok := strings.CutPrefix(url, base+"/"); ok {
		url = rest
	}
	path, query, queried := strings.Cut(url, "?")
	if path == "" || strings.Contains(path, ":") || path[0] == '/' {
		return target{}, errEntryURL
	}
	seg := strings.Split(path, "/")
	t := target{query: query, head: method == "HEAD"}
	if t.head {
		method = "GET"
	}
	if method == "GET" && path == "_history" {
		t.interaction = fhir.HistorySystem
		return t, nil
	}
	if typ := fhir.ResourceType(seg[0]); typ.Valid() {
		t.typ = typ
	}
	if method == "GET" && len(seg) == 2 && seg[1] == "_history" {
		t.interaction, t.unknown = fhir.HistoryType, t.typ == ""
		return t, nil
	}
	if len(seg) > 1 {
		if id := fhir.ID(seg[1]); id.Valid() {
			t.id = id
		}
	}
	t.unknown = t.typ == "" || (len(seg) > 1 && t.id == "")
	// A change is about one resource by its id, or about those that a query finds.
	oneOrQuery := len(seg) == 2 && !queried || len(seg) == 1 && queried
	switch {
	case method == "GET" && len(seg) == 1:
		t.interaction = fhir.SearchType
	case method == "GET" && len(seg) == 2:
		t.interaction = fhir.Read
	case method == "GET" && len(seg) == 3 && seg[2] == "_history":
		t.interaction = fhir.HistoryInstance
	case method == "GET" && len(seg) == 4 && seg[2] == "_history":
		v, ok := fhir.ParseVersionID(seg[3])
		t.interaction, t.version, t.unknown = fhir.VRead, v, t.unknown || !ok
	case method == "GET":
		t.interaction, t.unknown = fhir.Read, true
	case method == "POST" && len(seg) == 1 && !queried:
		t.interaction = fhir.Create
	case method == "PUT" && oneOrQuery:
		t.interaction = fhir.Update
	case method == "PATCH" && oneOrQuery:
		t.interaction = fhir.Patch
	case method == "DELETE" && oneOrQuery:
		t.interaction = fhir.Delete
	default:
		return target{}, errEntryMethod
	}
	return t, nil
}

// conditional reads a conditional reference, "Patient?identifier=...".
func conditional(literal string) (t fhir.ResourceType, query string, ok bool) {
	name, query, ok := strings.Cut(literal, "?")
	t = fhir.ResourceType(name)
	return t, query, ok && t.Valid()
}

// within moves err under an entry of the request's Bundle, so that its paths
// lead through the Bundle. The private cause stays.
func within(path string, err error) error {
	if err == nil {
		return nil
	}
	e := outcome.Of(err)
	moved := make([]outcome.Issue, len(e.Issues))
	for i, x := range e.Issues {
		switch _, rest, ok := strings.Cut(x.Path, "."); {
		case ok:
			x.Path = path + ".resource." + rest
		case x.Path != "":
			x.Path = path + ".resource"
		default:
			x.Path = path
		}
		moved[i] = x
	}
	return (&outcome.Error{Issues: moved}).Because(err)
}
