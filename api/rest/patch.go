package rest

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/patch"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// patch answers PATCH [type]/[id] and PATCH [type]?query
// (http://hl7.org/fhir/R4/http.html#patch). A resource that the caller may not
// see is not found before anything of the patch is evaluated. Where the client
// names no version and the resource changes meanwhile, the patch is made once more
// of the new version.
func (s *Service) patch(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if len(rq.Done) == 1 {
		return s.written(ctx, rq, rq.Done[0]), nil
	}
	if err := plain(rq); err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		rc, err := s.patchOnce(ctx, rq)
		switch {
		case err == nil:
			return s.written(ctx, rq, rc), nil
		case rq.IfMatch != "" || outcome.Of(err).Status() != http.StatusPreconditionFailed || several(err):
			return nil, err
		case again:
			return nil, outcome.New(outcome.Conflict, "the resource was changed at the same moment: try again").Because(err)
		}
	}
}

func (s *Service) patchOnce(ctx context.Context, rq *respond.Request) (record.Receipt, error) {
	rcs, err := s.commit(ctx, rq, func() ([]record.Cleared, error) {
		cleared, err := s.patching(ctx, rq, rq.Patch, nil)
		return []record.Cleared{cleared}, err
	})
	if err != nil {
		return record.Receipt{}, err
	}
	return rcs[0], nil
}

// patching reads what is to be patched, under the caller's read permission, and
// hands it to the gate together with the patch.
func (s *Service) patching(ctx context.Context, rq *respond.Request, p patch.Patch, conditional map[string]search.Query) (record.Cleared, error) {
	var none record.Cleared
	c := record.Change{Interaction: fhir.Patch, Ref: fhir.Ref{Type: rq.Type, ID: rq.ID}, Conditional: conditional, Advice: advice(rq)}
	var err error
	if c.IfMatch, err = ifMatch(rq.IfMatch); err != nil {
		return none, err
	}
	if rq.ID == "" {
		q, err := s.condition(ctx, rq, rq.Type, rq.Query)
		if err != nil {
			return none, err
		}
		if c.Ref.ID, err = s.one(ctx, rq, q); err != nil {
			return none, err
		}
		c.Condition = &q
	}
	g, err := s.engine.Extend(rq.Grant, fhir.Read, rq.Type)
	if err != nil {
		return none, err
	}
	r, err := s.engine.Plan(ctx, g, fhir.Read, rq.Type)
	if err != nil {
		return none, err
	}
	current, err := s.store.Read(ctx, r, c.Ref.ID)
	if err != nil {
		return none, err
	}
	return s.gate.Patch(ctx, rq.Grant, current, p, c)
}

var errSeveral = outcome.New(outcome.Precondition, "the condition meets several resources: it must mean one")

// several reports a condition that meets several resources, however often it is tried.
func several(err error) bool { return outcome.Of(err).Error() == errSeveral.Error() }

// one finds the resource that a condition means before it is read. The store
// looks again in the transaction that writes.
func (s *Service) one(ctx context.Context, rq *respond.Request, q search.Query) (fhir.ID, error) {
	g, err := s.engine.Extend(rq.Grant, fhir.SearchType, rq.Type)
	if err != nil {
		return "", errNotFound // who may find nothing of that type meets nothing
	}
	reach, err := s.engine.Reach(ctx, g, fhir.SearchType, q.Types()...)
	if err != nil {
		return "", err
	}
	ids, err := s.store.Match(ctx, reach, q)
	switch {
	case err != nil:
		return "", err
	case len(ids) == 0:
		return "", errNotFound
	case len(ids) > 1:
		return "", errSeveral
	}
	return ids[0], nil
}

// entryPatch reads the patch of an entry: a Binary that holds a JSON Patch, or
// the Parameters of a FHIRPath Patch (http://hl7.org/fhir/R4/http.html#patch).
func entryPatch(content *codec.Resource) (patch.Patch, error) {
	switch {
	case content == nil:
	case content.Type == "Parameters":
		return patch.Parse(patch.FHIRPathPatch, content.Root.AppendJSON(nil))
	case content.Type == "Binary":
		body, err := base64.StdEncoding.DecodeString(content.Root.Get("data").String())
		if err == nil {
			return patch.Parse(content.Root.Get("contentType").String(), body)
		}
	}
	return patch.Patch{}, outcome.New(outcome.Invalid, "the patch of an entry is a Binary that holds a JSON Patch, or the Parameters of a FHIRPath Patch")
}
