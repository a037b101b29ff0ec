// Package bulkdata answers Bulk Data Access 2.0: the kick-off of an export, its status and its files
// (https://hl7.org/fhir/uv/bulkdata/STU2/export.html).
package bulkdata

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"
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
var known = []string{"_outputFormat", "_since", "_until", "_type", "_elements", "patient", "includeAssociatedData", "organizeOutputBy", "_typeFilter", "allowPartialManifests", "_profile"}

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
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case slices.Contains(known, name):
		case r.Lenient:
			r.Ignore(name, "an export has no such parameter here")
		default:
			return r, outcome.New(outcome.Invalid, "an export has no parameter of one of these names here; it takes "+strings.Join(known, ", ")+" (or send Prefer: handling=lenient)")
		}
	}
	if r.Released = values.Has("_profile"); r.Released {
		r.Profile = values.Get("_profile")
	}
	for _, name := range []string{"_outputFormat", "_since", "_until", "organizeOutputBy", "allowPartialManifests", "_profile"} {
		if len(values[name]) > 1 {
			return r, outcome.New(outcome.Invalid, "the parameter "+name+" may stand once")
		}
	}
	switch strings.ReplaceAll(values.Get("_outputFormat"), " ", "+") { // a plus sign that was not escaped
	case "", "application/fhir+ndjson", "application/ndjson", "ndjson":
	case "text/csv", "csv":
		r.Format = "csv"
	case "application/vnd.apache.parquet", "parquet":
		r.Format = "parquet"
	default: // also for who is lenient: she would get what she cannot read
		return r, outcome.New(outcome.Invalid, "_outputFormat is application/fhir+ndjson, or for tables of a de-identified release text/csv or application/vnd.apache.parquet")
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
	switch values.Get("allowPartialManifests") {
	case "true":
		r.Partial = true
	case "", "false":
	default:
		return r, outcome.New(outcome.Invalid, "allowPartialManifests is true or false")
	}
	switch by := values.Get("organizeOutputBy"); {
	case by == "Patient":
		r.Organized = true
	case !values.Has("organizeOutputBy"):
	case r.Lenient:
		r.Ignore("organizeOutputBy", "files are organized by Patient here, or by type")
	default:
		return r, outcome.New(outcome.Invalid, "organizeOutputBy is Patient here; without it each file is of one type")
	}
	for _, preset := range split(values["includeAssociatedData"]) {
		switch {
		case preset == "RelevantProvenanceResources":
			r.Provenance = export.RelevantProvenance // of two, the one that leaves out less
		case preset == "LatestProvenanceResources":
			if r.Provenance == "" {
				r.Provenance = export.LatestProvenance
			}
		case r.Lenient:
			r.Ignore("includeAssociatedData", "of presets there are LatestProvenanceResources and RelevantProvenanceResources here")
		default:
			return r, outcome.New(outcome.Invalid, "includeAssociatedData is LatestProvenanceResources or RelevantProvenanceResources here (or send Prefer: handling=lenient)")
		}
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
	page, err := pageOf(rq.Query)
	if err != nil {
		return nil, err
	}
	st, err := s.exports.Status(ctx, rq.Grant, string(rq.ID), page)
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
	if st.Files != nil {
		return respond.Manifest(st, place(rq, string(rq.ID))), nil
	}
	return respond.Pending(st.Progress(), st.Wait), nil
}

// pageOf is the number of a manifest, as the link to it says.
func pageOf(query string) (int, error) {
	values, err := url.ParseQuery(query)
	if err != nil || !values.Has("page") {
		return 1, nil //nolint:nilerr // the status has no parameters
	}
	n, err := strconv.Atoi(values.Get("page"))
	if err != nil || n < 1 {
		return 0, outcome.New(outcome.NotFound, "")
	}
	return n, nil
}

// Cancel answers DELETE [base]/_export/[id]: what the export has written is removed.
func (s *Service) Cancel(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := s.exports.Cancel(ctx, rq.Grant, string(rq.ID)); err != nil {
		return nil, err
	}
	return respond.Accepted(""), nil
}

// File answers GET [base]/_export/[id]/[n].ndjson with what the client may see of it now, and [n].csv and [n].parquet with tables.
func (s *Service) File(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	file, err := s.exports.Fetch(ctx, rq.Grant, string(rq.ID), rq.File)
	if err != nil {
		return nil, err
	}
	return respond.File(file, export.MediaType(rq.File)), nil
}
