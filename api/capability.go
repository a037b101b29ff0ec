package api

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/api/rest"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/notify"
	"github.com/cloister-health/cloister/fhir/search"
)

// capabilities answers GET [base]/metadata (http://hl7.org/fhir/R4/http.html#capabilities)
// with what the table and the search registry say, and nothing that they do not.
func (s *server) capabilities(table []route) respond.Handler {
	resp := respond.Document(http.StatusOK, s.statement(table).AppendJSON(nil), "", "public, max-age=300")
	return func(context.Context, *respond.Request) (respond.Response, error) { return resp, nil }
}

func text(s string) *element.Node { return element.NewString(s) }

func list(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

func boolean(b bool) *element.Node {
	if b {
		return &element.Node{Kind: element.Bool, Text: "true"}
	}
	return &element.Node{Kind: element.Bool, Text: "false"}
}

// object makes an object of name, value, name, value ...
func object(pairs ...any) *element.Node {
	n := element.NewObject()
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			panic("api: object takes name, value, name, value")
		}
		switch v := pairs[i+1].(type) {
		case string:
			n.Fields = append(n.Fields, element.Field{Name: name, Value: text(v)})
		case *element.Node:
			n.Fields = append(n.Fields, element.Field{Name: name, Value: v})
		}
	}
	return n
}

// statement is the CapabilityStatement (http://hl7.org/fhir/R4/capabilitystatement.html).
func (s *server) statement(table []route) *element.Node {
	served := map[fhir.Interaction]bool{}
	operations := map[fhir.ResourceType]*element.Node{}
	onType, onSystem := list(), list()
	for _, r := range table {
		if r.operation != "" {
			s.operation(operations, r)
			continue
		}
		if r.interaction == "" || r.async || r.foreign || served[r.interaction] {
			continue
		}
		served[r.interaction] = true
		code := object("code", string(r.interaction))
		switch r.interaction {
		case fhir.Capabilities:
		case fhir.Batch, fhir.Transaction, fhir.HistorySystem, fhir.SearchSystem:
			onSystem.Items = append(onSystem.Items, code)
		default:
			onType.Items = append(onType.Items, code)
		}
	}
	resources := list()
	for _, t := range fhir.ResourceTypes() {
		resources.Items = append(resources.Items, s.resource(t, onType, served, operations))
	}
	rest := object(
		"mode", "server",
		"security", s.security(),
		"resource", resources,
		"interaction", onSystem,
	)
	if onBase := operations[onSystemOnly]; onBase != nil {
		rest.Set("operation", onBase)
	}
	return object(
		"resourceType", "CapabilityStatement",
		"status", "active",
		"date", s.Released.UTC().Format(time.RFC3339),
		"kind", "instance",
		"software", object("name", "Cloister", "version", s.Version),
		"implementation", object("description", "Cloister: a FHIR server for behavioral health", "url", s.Base),
		"fhirVersion", "4.0.1",
		"format", list(text("application/fhir+json"), text("json")),
		"patchFormat", list(text("application/json-patch+json"), text("application/fhir+json")),
		"rest", list(rest),
		"document", list(object("mode", "consumer", "documentation", "what is posted to the base is filed: its records become resources of their patient", "profile", "http://hl7.org/fhir/StructureDefinition/Bundle")),
	)
}

// onSystemOnly stands for the base among the types that have operations.
const onSystemOnly fhir.ResourceType = "/"

// operation lists an operation under the type that its path names, "" for all.
func (s *server) operation(by map[fhir.ResourceType]*element.Node, r route) {
	base, code, _ := strings.Cut(r.path, "$")
	t := r.typ
	if base == "/fhir/" {
		t = onSystemOnly
	}
	if by[t] == nil {
		by[t] = list()
	}
	for _, o := range by[t].Items {
		if o.Get("definition").String() == r.operation {
			return
		}
	}
	by[t].Items = append(by[t].Items, object("name", code, "definition", r.operation))
}

func (s *server) resource(t fhir.ResourceType, interactions *element.Node, served map[fhir.Interaction]bool, operations map[fhir.ResourceType]*element.Node) *element.Node {
	if t == trailType {
		return s.trail(served)
	}
	policies := list(text("literal"), text("local"), text("logical"))
	if !s.Dangling {
		policies.Items = append(policies.Items, text("enforced"))
	}
	n := object("type", string(t), "interaction", interactions, "versioning", "versioned",
		"readHistory", boolean(served[fhir.VRead]), "updateCreate", boolean(s.Upsert && served[fhir.Update]),
		"conditionalCreate", boolean(served[fhir.Create]), "conditionalRead", "full-support",
		"conditionalUpdate", boolean(served[fhir.Update]), "conditionalDelete", s.conditionalDelete(served),
		"referencePolicy", policies)
	params := list()
	for _, p := range search.Params(t) {
		if p.Searchable() {
			params.Items = append(params.Items, object("name", p.Code, "definition", p.Definition, "type", p.FHIRType))
		}
	}
	if served[fhir.SearchType] {
		for _, x := range []struct {
			name  string
			items *element.Node
		}{{"searchInclude", includes(t)}, {"searchRevInclude", referrers()[t]}, {"searchParam", params}} {
			if x.items != nil && len(x.items.Items) > 0 {
				n.Set(x.name, x.items)
			}
		}
	}
	ops := list()
	for _, by := range []fhir.ResourceType{t, ""} {
		if operations[by] != nil {
			ops.Items = append(ops.Items, operations[by].Items...)
		}
	}
	if len(ops.Items) > 0 {
		n.Set("operation", ops)
	}
	if t == "Subscription" && s.subscriptions != nil {
		s.topics(n)
	}
	return n
}

// topics lists what can be subscribed to (Subscriptions R5 Backport, "Topic Discovery").
func (s *server) topics(n *element.Node) {
	list := list()
	for _, t := range notify.Topics {
		list.Items = append(list.Items, object("url", "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical", "valueCanonical", t.URL))
	}
	n.Set("extension", list)
	n.Set("supportedProfile", &element.Node{Kind: element.Array, Items: []*element.Node{text(notify.Profile)}})
}

// trailType is what the server makes of its audit trail.
const trailType fhir.ResourceType = "AuditEvent"

// trail declares AuditEvent, which is read and searched by parameters of its own, and nothing else.
func (s *server) trail(served map[fhir.Interaction]bool) *element.Node {
	interactions, params := list(), list()
	for _, i := range []fhir.Interaction{fhir.SearchType, fhir.Read} {
		if served[i] {
			interactions.Items = append(interactions.Items, object("code", string(i)))
		}
	}
	known := map[string]*search.Param{}
	for _, p := range search.Params(trailType) {
		known[p.Code] = p
	}
	for _, name := range append([]string{"_id"}, rest.TrailParams()...) {
		if p := known[name]; p != nil {
			params.Items = append(params.Items, object("name", name, "definition", p.Definition, "type", p.FHIRType))
			continue
		}
		params.Items = append(params.Items, object("name", name, "definition", fhir.Canonical+"/SearchParameter/AuditEvent-"+name, "type", "token",
			"documentation", text("AuditEvent.purposeOfEvent")))
	}
	return object("type", string(trailType), "interaction", interactions, "versioning", "no-version", "readHistory", boolean(false), "updateCreate", boolean(false),
		"conditionalCreate", boolean(false), "conditionalRead", "not-supported", "conditionalUpdate", boolean(false), "conditionalDelete", "not-supported", "searchParam", params)
}

// includes lists what _include takes for t.
func includes(t fhir.ResourceType) *element.Node {
	out := list(text("*"))
	for _, p := range search.Params(t) {
		if p.Searchable() && p.Type == search.Reference {
			out.Items = append(out.Items, text(string(t)+":"+p.Code))
		}
	}
	return out
}

// referrers lists what _revinclude takes for each type. Parameters that can
// point to any type are left out, because they stand for all of them.
var referrers = sync.OnceValue(func() map[fhir.ResourceType]*element.Node {
	out := map[fhir.ResourceType]*element.Node{}
	for _, t := range fhir.ResourceTypes() {
		if t == trailType { // it is made of the trail, and stored nowhere
			continue
		}
		for _, p := range search.Params(t) {
			if !p.Searchable() || p.Type != search.Reference {
				continue
			}
			for _, target := range p.Targets {
				if out[target] == nil {
					out[target] = list()
				}
				out[target].Items = append(out[target].Items, text(string(t)+":"+p.Code))
			}
		}
	}
	return out
})

func (s *server) conditionalDelete(served map[fhir.Interaction]bool) string {
	switch {
	case !served[fhir.Delete]:
		return "not-supported"
	case s.Several:
		return "multiple"
	}
	return "single"
}

// security names the OAuth endpoints where a SMART configuration is served (SMART App Launch 2.0).
func (s *server) security() *element.Node {
	n := object("cors", boolean(len(s.Origins) > 0 || s.Apps != nil))
	if s.SMART != nil {
		n.Set("service", list(object("coding", list(object(
			"system", "http://terminology.hl7.org/CodeSystem/restful-security-service", "code", "SMART-on-FHIR")))))
	}
	n.Set("description", text("Every request but for this statement, the SMART configuration and health needs a bearer token."))
	return n
}
