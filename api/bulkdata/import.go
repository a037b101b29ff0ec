package bulkdata

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// Imports answers what is about imports (Bulk Data Import Proposal, Manifest Approach,
// https://github.com/smart-on-fhir/bulk-import).
type Imports struct{ imports *intake.Service }

// NewImports wires the handlers.
func NewImports(s *intake.Service) *Imports { return &Imports{s} }

// Operations lists the kick-off.
func (s *Imports) Operations() []operation.Operation {
	return []operation.Operation{
		{Code: "import", Level: operation.System, Lines: true, Definition: fhir.Canonical + "/OperationDefinition/import", Handler: s.kickOff},
	}
}

func importPlace(rq *respond.Request) string { return rq.Base + "/_import/" + string(rq.ID) }

// kickOff begins an import, and answers with the place of its status.
func (s *Imports) kickOff(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if !rq.Prefer.Async {
		return nil, outcome.New(outcome.Invalid, "an import is carried out later: send the header Prefer: respond-async")
	}
	values, err := url.ParseQuery(rq.Query)
	if err != nil {
		return nil, outcome.New(outcome.Invalid, "the query is not well-formed: escape reserved characters")
	}
	values.Del("_format")
	values.Del("_pretty")
	for name := range values {
		if name != "mode" || len(values[name]) > 1 {
			return nil, outcome.New(outcome.Invalid, "an import has one parameter in its query, once: mode, which is store or dry-run")
		}
	}
	var r intake.Request
	if rq.Upload == nil {
		if r, err = intake.ReadManifest(rq.Manifest); err != nil {
			return nil, err
		}
	}
	if values.Has("mode") {
		if r.Dry, err = intake.Mode(values.Get("mode")); err != nil {
			return nil, err
		}
	}
	if r.URL = rq.Base + "/$import"; rq.Query != "" {
		r.URL += "?" + rq.Query
	}
	var id string
	if rq.Upload != nil {
		id, err = s.imports.Upload(ctx, rq.Grant, r, rq.Upload.Lines, rq.Upload.Gzip)
	} else {
		id, err = s.imports.Accept(ctx, rq.Grant, r)
	}
	if err != nil {
		return nil, err
	}
	return respond.Accepted(rq.Base + "/_import/" + id), nil
}

// Status answers GET [base]/_import/[id]: 202 while the import is under way, then what became of it.
// Whoever did not begin it finds nothing there.
func (s *Imports) Status(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	st, err := s.imports.Status(ctx, rq.Grant, string(rq.ID))
	if err != nil {
		return nil, err
	}
	switch {
	case st.State == intake.Done:
		return respond.Imported(st, importPlace(rq)), nil
	case st.State == intake.Failed && st.Reason == intake.Denied:
		return nil, outcome.New(outcome.Forbidden, "")
	case st.State == intake.Failed:
		return nil, outcome.New(outcome.Internal, "").Because(errors.New("bulkdata: the import failed"))
	}
	return respond.Pending(st.Progress, importWait), nil
}

// importWait is how long a client is to wait before it asks again how far an import is.
const importWait = 2 * time.Second

// Cancel answers DELETE [base]/_import/[id]: what is not stored yet will not be.
func (s *Imports) Cancel(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := s.imports.Cancel(ctx, rq.Grant, string(rq.ID)); err != nil {
		return nil, err
	}
	return respond.Accepted(""), nil
}

// File answers GET [base]/_import/[id]/report.ndjson with the whole report, and
// GET [base]/_import/[id]/[n].ndjson with what was found in one input.
func (s *Imports) File(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	name, ok := strings.CutSuffix(rq.File, ".ndjson")
	input, err := strconv.Atoi(name)
	switch {
	case ok && name == "report":
		input = 0
	case !ok || err != nil || input < 1 || strconv.Itoa(input) != name:
		return nil, outcome.New(outcome.NotFound, "")
	}
	lines, err := s.imports.Report(ctx, rq.Grant, string(rq.ID), input)
	if err != nil {
		return nil, err
	}
	return respond.NDJSON(lines), nil
}
