// Package bulkdata answers Bulk Data Access 2.0: the kick-off of an export, its status and its files
// (https://hl7.org/fhir/uv/bulkdata/STU2/export.html).
package bulkdata

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// Service answers what is about exports.
type Service struct{ exports *export.Service }

// New wires the handlers.
func New(e *export.Service) *Service { return &Service{e} }

const definitions = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"

// Operations lists the kick-offs, and the release of one patient.
func (s *Service) Operations() []operation.Operation {
	return []operation.Operation{
		s.deidentify(),
		{Code: "export", Level: operation.System, Safe: true, Definition: definitions + "export", Handler: s.kickOff(export.System, "")},
		{Code: "export", Type: "Patient", Level: operation.Type, Safe: true, Definition: definitions + "patient-export", Handler: s.kickOff(export.Patient, "/Patient")},
		{Code: "export", Type: "Group", Level: operation.Instance, Safe: true, Definition: definitions + "group-export", Handler: s.kickOff(export.Group, "/Group/")},
	}
}

// place is the URL of an export.
func place(rq *respond.Request, id string) string { return rq.Base + "/_export/" + id }

// kickOff begins an export, and answers with the place of its status.
func (s *Service) kickOff(level export.Level, path string) respond.Handler {
	return func(ctx context.Context, rq *respond.Request) (respond.Response, error) {
		if !rq.Prefer.Async {
			return nil, outcome.New(outcome.Invalid, "an export is carried out later: send the header Prefer: respond-async")
		}
		r, err := request(rq)
		if err != nil {
			return nil, err
		}
		r.Level = level
		r.URL = rq.Base + path + "/$export"
		if level == export.Group {
			r.Group, r.URL = rq.ID, rq.Base+path+string(rq.ID)+"/$export"
		}
		if rq.Query != "" {
			r.URL += "?" + rq.Query
		}
		id, err := s.exports.Accept(ctx, rq.Grant, r)
		if err != nil {
			return nil, err
		}
		return respond.Accepted(place(rq, id)), nil
	}
}

// known are the parameters of an export, in the order of the specification.
var known = []string{"_outputFormat", "_since", "_until", "_type", "_elements", "patient", "_typeFilter", "_profile"}

var errPatient = outcome.New(outcome.Invalid, "the parameter patient is a valueReference to a Patient of this server, in the Parameters of a POST")

// request reads the parameters of a kick-off, from the query and from the Parameters of a POST.
func request(rq *respond.Request) (export.Request, error) {
	r := export.Request{Lenient: rq.Prefer.Lenient, Labels: rq.Prefer.Labels}
	values, err := url.ParseQuery(rq.Query)
	if err != nil {
		return r, outcome.New(outcome.Invalid, "the query is not well-formed: escape reserved characters")
	}
	if values.Has("patient") {
		return r, errPatient
	}
	values.Del("_format")
	values.Del("_pretty")
	if err := posted(rq, values); err != nil {
		return r, err
	}
	for name := range values {
		if !slices.Contains(known, name) && !r.Lenient {
			return r, outcome.New(outcome.Invalid, "an export has no parameter of one of these names here; it takes "+strings.Join(known, ", ")+" (or send Prefer: handling=lenient)")
		}
	}
	if r.Released = values.Has("_profile"); r.Released {
		r.Profile = values.Get("_profile")
	}
	for _, name := range []string{"_outputFormat", "_since", "_until", "_profile"} {
		if len(values[name]) > 1 {
			return r, outcome.New(outcome.Invalid, "the parameter "+name+" may stand once")
		}
	}
	switch strings.ReplaceAll(values.Get("_outputFormat"), " ", "+") { // a plus sign that was not escaped
	case "", "application/fhir+ndjson", "application/ndjson", "ndjson":
	default:
		return r, outcome.New(outcome.Invalid, "_outputFormat is application/fhir+ndjson")
	}
	// And in the zone of an instant.
	r.Since, r.Until = strings.ReplaceAll(values.Get("_since"), " ", "+"), strings.ReplaceAll(values.Get("_until"), " ", "+")
	for _, name := range split(values["_type"]) {
		r.Types = append(r.Types, fhir.ResourceType(name))
	}
	r.Elements = split(values["_elements"])
	for _, f := range values["_typeFilter"] {
		r.Filters = append(r.Filters, export.SplitFilters(f)...)
	}
	for _, text := range values["patient"] {
		ref, ok := fhir.ParseRef(strings.TrimPrefix(text, rq.Base+"/"))
		if !ok || ref.Type != "Patient" {
			return r, errPatient
		}
		r.Patients = append(r.Patients, ref.ID)
	}
	return r, nil
}

// posted adds the parameters of a body.
func posted(rq *respond.Request, values url.Values) error {
	if rq.Content == nil {
		return nil
	}
	if rq.Content.Type != "Parameters" {
		return outcome.New(outcome.Invalid, "the body of a kick-off is a Parameters resource")
	}
	for _, p := range rq.Content.Root.Get("parameter").List() {
		name := p.Get("name").String()
		values[name] = slices.Clip(values[name]) // it is there, also without a value
		for _, f := range p.Fields {
			switch {
			case !strings.HasPrefix(f.Name, "value"):
			case f.Name == "valueReference":
				values[name] = append(values[name], f.Value.Get("reference").String())
			default:
				values[name] = append(values[name], f.Value.Text)
			}
		}
	}
	return nil
}

// split reads lists that commas separate.
func split(values []string) (out []string) {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				out = append(out, name)
			}
		}
	}
	return out
}

// Status answers GET [base]/_export/[id]: 202 while the export is under way, then its manifest.
// Whoever did not begin it finds nothing there.
func (s *Service) Status(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	st, err := s.exports.Status(ctx, rq.Grant, string(rq.ID))
	if err != nil {
		return nil, err
	}
	switch {
	case st.State == export.Done:
		return respond.Manifest(st, place(rq, string(rq.ID))), nil
	case st.State == export.Failed && st.Reason == export.Denied:
		return nil, outcome.New(outcome.Forbidden, "")
	case st.State == export.Failed && st.Reason == export.Changed:
		return nil, outcome.New(outcome.Conflict, "records changed again and again while the release was made: ask for it again later")
	case st.State == export.Failed && st.Reason == export.Small:
		return nil, outcome.New(outcome.BusinessRule, "a de-identified release of a Group is made of at least 11 patients")
	case st.State == export.Failed:
		return nil, outcome.New(outcome.Internal, "").Because(errors.New("bulkdata: the export failed"))
	}
	return respond.Pending(st.Progress()), nil
}

// Cancel answers DELETE [base]/_export/[id]: what the export has written is removed.
func (s *Service) Cancel(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := s.exports.Cancel(ctx, rq.Grant, string(rq.ID)); err != nil {
		return nil, err
	}
	return respond.Accepted(""), nil
}

// File answers GET [base]/_export/[id]/[n].ndjson with what the client may see of it now.
func (s *Service) File(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	lines, err := s.exports.Fetch(ctx, rq.Grant, string(rq.ID), rq.File)
	if err != nil {
		return nil, err
	}
	return respond.NDJSON(lines), nil
}
