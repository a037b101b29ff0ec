package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/api/operation"
	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir"
)

// content is what a route reads of the request body.
type content uint8

const (
	nothing content = iota
	resource
	form
	bundle
	patching
	parameters // a resource, or no body at all
	hook       // JSON that is no resource
	candidate  // as parameters; what is wrong with it is for the handler
	importing  // the manifest of an import, or its lines
)

// route is one row of the table.
type route struct {
	method      string
	path        string
	interaction fhir.Interaction // "" for what is no FHIR interaction
	reads       content
	open        bool // answers without a token
	handler     respond.Handler
	typ         fhir.ResourceType // where the path names the type itself
	operation   string            // canonical of the operation's definition
	async       bool              // about a request that was put off
	foreign     bool              // of another standard: no capability statement speaks of it
	needs       fhir.Interaction  // what an operation is made of at least: permission for it comes first
	stream      bool              // answers with a stream, for as long as that takes
	upload      bool              // reads a stream, for as long as that takes
}

// routes is the table of everything that this server answers. The router, the
// capability statement and the walk of the tests are made from it and from nothing else.
//
// Rows with the same method and path are told apart by Bundle.type.
func (s *server) routes() ([]route, error) {
	table := []route{
		{method: "GET", path: "/fhir/metadata", interaction: fhir.Capabilities, open: true},
		{method: "GET", path: "/health", open: true, handler: s.ready()},
		{method: "GET", path: "/health/live", open: true, handler: live},

		{method: "GET", path: "/fhir/:type", interaction: fhir.SearchType},
		{method: "POST", path: "/fhir/:type/_search", interaction: fhir.SearchType, reads: form},
		{method: "GET", path: "/fhir", interaction: fhir.SearchSystem},
		{method: "POST", path: "/fhir/_search", interaction: fhir.SearchSystem, reads: form},
		{method: "GET", path: "/fhir/:compartment/:owner/:type", interaction: fhir.SearchType},
		{method: "POST", path: "/fhir/:compartment/:owner/:type/_search", interaction: fhir.SearchType, reads: form},
		{method: "POST", path: "/fhir/:type", interaction: fhir.Create, reads: resource},
		{method: "GET", path: "/fhir/:type/:id", interaction: fhir.Read},
		{method: "PUT", path: "/fhir/:type/:id", interaction: fhir.Update, reads: resource},
		{method: "PATCH", path: "/fhir/:type/:id", interaction: fhir.Patch, reads: patching},
		{method: "DELETE", path: "/fhir/:type/:id", interaction: fhir.Delete},
		{method: "PUT", path: "/fhir/:type", interaction: fhir.Update, reads: resource},
		{method: "PATCH", path: "/fhir/:type", interaction: fhir.Patch, reads: patching},
		{method: "DELETE", path: "/fhir/:type", interaction: fhir.Delete},
		{method: "GET", path: "/fhir/_history", interaction: fhir.HistorySystem},
		{method: "GET", path: "/fhir/:type/_history", interaction: fhir.HistoryType},
		{method: "GET", path: "/fhir/:type/:id/_history", interaction: fhir.HistoryInstance},
		{method: "GET", path: "/fhir/:type/:id/_history/:vid", interaction: fhir.VRead},
		{method: "GET", path: "/fhir/_async/:id", interaction: fhir.Operation, async: true, handler: s.rest.Audited(s.rest.Job)},
		{method: "DELETE", path: "/fhir/_async/:id", interaction: fhir.Operation, async: true, handler: s.rest.Audited(s.rest.CancelJob)},
		{method: "GET", path: "/cds-services", interaction: fhir.Operation, foreign: true, typ: "Consent", needs: fhir.Read, handler: s.rest.Audited(s.ceremony.Services)},
		{method: "POST", path: "/cds-services/" + operation.ConsultHook, interaction: fhir.Operation, foreign: true, reads: hook, typ: "Consent", needs: fhir.Read, handler: s.rest.Audited(s.ceremony.Consult)},
		{method: "POST", path: "/fhir", interaction: fhir.Batch, reads: bundle},
		{method: "POST", path: "/fhir", interaction: fhir.Transaction, reads: bundle},
	}
	if s.SMART != nil {
		h, err := s.SMART.handler()
		if err != nil {
			return nil, err
		}
		table = append(table, route{method: "GET", path: "/fhir/.well-known/smart-configuration", open: true, handler: h})
	}
	if s.Gate.Signs() {
		h, err := s.keys()
		if err != nil {
			return nil, err
		}
		table = append(table, route{method: "GET", path: "/fhir/.well-known/consent-jwks.json", open: true, handler: h})
	}
	var exports []operation.Operation
	if s.bulk != nil {
		exports = s.bulk.Operations()
		table = append(table,
			route{method: "GET", path: "/fhir/_export/:id", interaction: fhir.Operation, async: true, handler: s.rest.Audited(s.bulk.Status)},
			route{method: "DELETE", path: "/fhir/_export/:id", interaction: fhir.Operation, async: true, handler: s.rest.Audited(s.bulk.Cancel)},
			route{method: "GET", path: "/fhir/_export/:id/:file", interaction: fhir.Operation, async: true, stream: true, handler: s.rest.Audited(s.bulk.File)})
	}
	if s.subscriptions != nil {
		table = append(table, s.subscribing()...)
	}
	if s.imports != nil {
		exports = append(exports, s.imports.Operations()...)
		table = append(table,
			route{method: "GET", path: "/fhir/_import/:id", interaction: fhir.Operation, async: true, handler: s.rest.Audited(s.imports.Status)},
			route{method: "DELETE", path: "/fhir/_import/:id", interaction: fhir.Operation, async: true, handler: s.rest.Audited(s.imports.Cancel)},
			route{method: "GET", path: "/fhir/_import/:id/:file", interaction: fhir.Operation, async: true, stream: true, handler: s.rest.Audited(s.imports.File)})
	}
	for _, o := range slices.Concat(s.operations.Operations(), s.validation.Operations(), s.ceremony.Operations(), s.terms.Operations(), exports) {
		r := route{method: "POST", path: o.Path(), interaction: fhir.Operation, reads: parameters, handler: s.rest.Audited(o.Handler), typ: o.Type, operation: o.Definition, needs: o.Needs}
		if o.Level == operation.Instance && o.Needs == "" {
			r.needs = fhir.Read
		}
		if o.Candidate {
			r.reads = candidate
		}
		if o.Lines {
			r.reads, r.upload = importing, true
		}
		table = append(table, r)
		if o.Safe {
			r.method, r.reads = "GET", nothing
			if o.Progress != nil {
				r.handler = s.rest.Audited(o.Progress)
			}
			table = append(table, r)
		}
	}
	for i := range table {
		r := &table[i]
		if r.open && (strings.Contains(r.path, ":") || r.method != "GET") {
			return nil, fmt.Errorf("api: %s %s cannot be open: only one document at one path can", r.method, r.path)
		}
		if r.handler != nil {
			continue
		}
		if r.interaction == fhir.Capabilities {
			r.handler = s.capabilities(table)
			continue
		}
		h, ok := s.rest.Handler(r.interaction)
		if !ok {
			return nil, fmt.Errorf("api: nothing answers the interaction %s", r.interaction)
		}
		r.handler = h
	}
	return table, nil
}

// subscribing are the rows about Subscriptions. These are kept beside the record, where policy has
// no say: what a client may have of them is for their service.
func (s *server) subscribing() []route {
	const base, one = "/fhir/Subscription", "/fhir/Subscription/:id"
	x := s.subscriptions
	row := func(method, path string, reads content, h respond.Handler) route {
		return route{method: method, path: path, interaction: fhir.Operation, typ: "Subscription", reads: reads, async: true, handler: s.rest.Audited(h)}
	}
	table := []route{
		row("POST", base, resource, x.Create), row("GET", base, nothing, x.Search),
		row("GET", one, nothing, x.Read), row("PUT", one, resource, x.Update), row("DELETE", one, nothing, x.Delete),
	}
	for _, o := range x.Operations() {
		path := base
		if o.Instance {
			path = one
		}
		r := row("POST", path+"/$"+o.Code, parameters, o.Handler)
		r.operation = o.Definition
		table = append(table, r)
		if o.Safe {
			r.method, r.reads = "GET", nothing
			table = append(table, r)
		}
	}
	return table
}
