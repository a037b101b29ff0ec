package bulkdata

import (
	"context"
	"net/url"
	"slices"

	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// deidentify is Patient/[id]/$deidentify.
func (s *Service) deidentify() operation.Operation {
	return operation.Operation{Code: "deidentify", Type: "Patient", Level: operation.Instance, Safe: true,
		Definition: fhir.Canonical + "/OperationDefinition/Patient-deidentify", Handler: s.single}
}

// single answers with a de-identified Bundle of what the caller sees of a patient. A Bundle that somebody
// sends is not taken: of the people in it nobody knows here what they are willing to, nor what its notes are.
func (s *Service) single(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	values, err := url.ParseQuery(rq.Query)
	if err != nil {
		return nil, outcome.New(outcome.Invalid, "the query is not well-formed: escape reserved characters")
	}
	values.Del("_format")
	values.Del("_pretty")
	if err := posted(rq, values); err != nil {
		return nil, err
	}
	for name := range values {
		if !slices.Contains([]string{"_profile", "_type"}, name) {
			return nil, outcome.New(outcome.Invalid, "$deidentify takes _profile and _type alone")
		}
	}
	if len(values["_profile"]) != 1 {
		return nil, outcome.New(outcome.Invalid, "_profile stands once: it is safe-harbor or limited-data-set")
	}
	var types []fhir.ResourceType
	for _, name := range split(values["_type"]) {
		types = append(types, fhir.ResourceType(name))
	}
	b, err := s.exports.Single(ctx, rq.Grant, rq.ID, values.Get("_profile"), types)
	if err != nil {
		return nil, err
	}
	return respond.Collection(b), nil
}
