// Package operation has one file per FHIR operation (http://hl7.org/fhir/R4/operations.html).
package operation

import (
	"context"
	"net/url"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/api/rest"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// Store is what the operations need of the place where resources are kept. A
// resource that is hidden and one that is absent are the same outcome.NotFound.
type Store interface {
	Read(context.Context, authz.Restriction, fhir.ID) (record.Sealed, error)
	Search(context.Context, authz.Reach, search.Query) (record.Page, error)
	// BeginReindex computes the index anew, in the background, of all that the
	// practice has, or of what the SearchParameter is for.
	BeginReindex(context.Context, authz.Restriction, fhir.ID) (record.Reindexing, error)
	Reindexing(context.Context, authz.Restriction, fhir.ID) (record.Reindexing, error)
	// DeclareEmergency stores an emergency and the changes that tell of it, or
	// nothing. The Restriction is what its caller may read of Patients.
	DeclareEmergency(context.Context, []record.Cleared, authz.Restriction, record.Emergency) error
	// EndEmergency ends a session, or the caller's own of a patient. Like all that
	// documents or ends something it stores the access record, too, or does nothing.
	EndEmergency(ctx context.Context, g authz.Grant, session string, patient fhir.ID, oversees bool) error
	Emergencies(context.Context, authz.Restriction) ([]record.Emergency, error)
	// DocumentException stores an exception; the Reach is that of its caller for Patient and Organization.
	DocumentException(context.Context, authz.Reach, record.Exception) error
	EndException(ctx context.Context, g authz.Grant, id string) error
	Exceptions(context.Context, authz.Restriction) ([]record.Exception, error)
}

// Service answers the operations.
//
// The grant of an operation's request is for no type yet: a handler extends it
// to each interaction that it is made of, which is where it is refused.
type Service struct {
	engine *authz.Engine
	gate   *record.Gate
	store  Store
	pages  Pager
	limits Limits
}

// Pager answers with one page of what a query finds; package rest has it.
type Pager interface {
	Searching(context.Context, *respond.Request) (search.Options, error)
	Page(context.Context, *respond.Request, rest.Listing) (respond.Response, error)
	Place(rq *respond.Request, path string, self url.Values, token string) (*search.Cursor, error)
	Links(rq *respond.Request, path string, self url.Values, token string, next *search.Cursor) respond.Links
}

// New wires the operations. The zero Limits mean DefaultLimits.
func New(e *authz.Engine, g *record.Gate, s Store, p Pager, l Limits) *Service {
	if l == (Limits{}) {
		l = DefaultLimits
	}
	return &Service{engine: e, gate: g, store: s, pages: p, limits: l}
}

// Level says what an operation is invoked on.
type Level uint8

// The levels of R4 operations.
const (
	System Level = iota
	Type
	Instance
)

// Operation is one operation at one level.
type Operation struct {
	Code  string            // without the dollar sign
	Type  fhir.ResourceType // "" is every type
	Level Level
	Safe  bool // GET invokes it, too
	// Candidate says that the operation is about the body itself: what is wrong with it is the answer, not a refusal.
	Candidate bool
	// Lines says that the body is the manifest of an import, or NDJSON.
	Lines bool
	// Needs is the interaction on the type that a caller must be permitted at
	// least; "" is read on an instance, and none on the levels above.
	Needs      fhir.Interaction
	Definition string // canonical URL of its OperationDefinition
	Handler    respond.Handler
	// Progress answers GET where POST only begins something; Handler does without it.
	Progress respond.Handler
}

// Path is the route of the operation.
func (o Operation) Path() string {
	typ := ":type"
	if o.Type != "" {
		typ = string(o.Type)
	}
	switch o.Level {
	case Instance:
		return "/fhir/" + typ + "/:id/$" + o.Code
	case Type:
		return "/fhir/" + typ + "/$" + o.Code
	default:
		return "/fhir/$" + o.Code
	}
}

// Operations lists everything that this package answers.
func (s *Service) Operations() []Operation {
	return []Operation{
		{Code: "everything", Type: "Patient", Level: Instance, Safe: true, Definition: hl7 + "Patient-everything", Handler: s.everything},
		{Code: "everything", Type: "Encounter", Level: Instance, Safe: true, Definition: hl7 + "Encounter-everything", Handler: s.everything},
		{Code: "accounting", Type: "Patient", Level: Instance, Safe: true, Definition: fhir.Canonical + "/OperationDefinition/accounting", Handler: s.accounting},
		{Code: "access-report", Type: "Patient", Level: Instance, Safe: true, Definition: own + "access-report", Handler: s.accessReport},
		{Code: "access-anomalies", Level: System, Safe: true, Definition: own + "access-anomalies", Handler: s.accessAnomalies},
		{Code: "lastn", Type: "Observation", Level: Type, Safe: true, Needs: fhir.SearchType, Definition: hl7 + "Observation-lastn", Handler: s.lastn},
		{Code: "docref", Type: "DocumentReference", Level: Type, Safe: true, Needs: fhir.SearchType, Definition: "http://hl7.org/fhir/us/core/OperationDefinition/docref", Handler: s.docref},
		{Code: "document", Type: "Composition", Level: Instance, Safe: true, Definition: hl7 + "Composition-document", Handler: s.document},
		{Code: "reindex", Level: System, Safe: true, Definition: fhir.Canonical + "/OperationDefinition/reindex", Handler: s.reindex, Progress: s.reindexing},
		{Code: "reindex", Type: "SearchParameter", Level: Instance, Safe: true, Needs: fhir.Update, Definition: fhir.Canonical + "/OperationDefinition/reindex", Handler: s.reindex, Progress: s.reindexing},
		{Code: "break-glass", Type: "Patient", Level: Type, Definition: own + "break-glass", Handler: s.breakGlass},
		{Code: "end-emergency", Type: "Patient", Level: Type, Definition: own + "end-emergency", Handler: s.endEmergency},
		{Code: "emergencies", Level: System, Safe: true, Definition: own + "emergencies", Handler: s.emergencies},
		{Code: "document-exception", Level: System, Definition: own + "document-exception", Handler: s.documentException},
		{Code: "end-exception", Level: System, Definition: own + "end-exception", Handler: s.endException},
		{Code: "exceptions", Level: System, Safe: true, Definition: own + "exceptions", Handler: s.exceptions},
		{Code: "meta", Level: Instance, Safe: true, Definition: hl7 + "Resource-meta", Handler: s.meta},
	}
}

const (
	hl7 = "http://hl7.org/fhir/OperationDefinition/"
	own = fhir.Canonical + "/OperationDefinition/"
)

// as is rq under the permission for an interaction on a type, which the caller must have.
func (s *Service) as(rq *respond.Request, i fhir.Interaction, t fhir.ResourceType) (*respond.Request, error) {
	g, err := s.engine.Extend(rq.Grant, i, t)
	if err != nil {
		return nil, err
	}
	sub := *rq
	sub.Grant, sub.Type = g, t
	return &sub, nil
}

// read opens the current version of the resource that rq names, as a read would.
func (s *Service) read(ctx context.Context, rq *respond.Request) (record.Released, error) {
	g, err := s.engine.Extend(rq.Grant, fhir.Read, rq.Type)
	if err != nil {
		return record.Released{}, err
	}
	r, err := s.engine.Plan(ctx, g, fhir.Read, rq.Type)
	if err != nil {
		return record.Released{}, err
	}
	sealed, err := s.store.Read(ctx, r, rq.ID)
	if err != nil {
		return record.Released{}, err
	}
	out, err := s.gate.Release(ctx, g, rq.Type, sealed)
	if err != nil {
		return record.Released{}, err
	}
	return out[0], nil
}
