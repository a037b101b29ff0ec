package operation

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// ConsultHook is the name of the CDS Hooks hook by which other systems ask whether a patient's
// consents let somebody have her records (the hook of the LEAP consent decision service).
const ConsultHook = "patient-consent-consult"

// Decisions of the hook.
const (
	consentPermit = "CONSENT_PERMIT"
	consentDeny   = "CONSENT_DENY"
	noConsent     = "NO_CONSENT"
)

const v3ActCode = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

// Services answers GET /cds-services (https://cds-hooks.hl7.org/2.0/#discovery).
func (c *Ceremony) Services(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if _, err := c.gate.Release(ctx, rq.Grant, "Consent"); err != nil {
		return nil, err
	}
	return respond.JSON(pairs(
		"services", items(pairs(
			"hook", element.NewString(ConsultHook), "id", element.NewString(ConsultHook), "title", element.NewString("Patient consent consult"),
			"description", element.NewString("Whether the law, the policy of the practice and the patient's consents let a recipient have her records for a purpose, and what would have to be redacted"),
		)),
	)), nil
}

// Consult answers POST /cds-services/patient-consent-consult with one card. What is said is
// what $evaluate says, for every kind of record that there is, or for each record in context.content.
func (c *Ceremony) Consult(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	q, err := c.consultation(ctx, rq)
	if err != nil {
		return nil, err
	}
	found := finding{decision: noConsent}
	if q.patient != (fhir.Ref{}) {
		if found, err = c.consult(ctx, rq, q); err != nil {
			return nil, err
		}
	}
	if q.patient == (fhir.Ref{}) || found.decision == "" {
		// Hidden, absent and meant by no identifier are one answer, and one record.
		if err := c.gate.Refuse(ctx, rq.Grant, "Consent"); err != nil {
			return nil, outcome.New(outcome.Unavailable, "the access could not be recorded: try again").Because(err)
		}
		found = finding{decision: noConsent}
	}
	return respond.JSON(pairs("cards", items(found.card(rq.Base)))), nil
}

// consultation is what a call of the hook asks.
type consultation struct {
	patient  fhir.Ref // zero: none that the caller may see
	to       []fhir.Ref
	known    []consent.Code // identifiers of the recipient
	purposes []string
	supposed []record.Supposed // of what is told of the content, or of its class
}

var errHook = outcome.New(outcome.Invalid, "the request is not one of the hook "+ConsultHook+": it has hook, hookInstance, and context with patientId and actor")

func (c *Ceremony) consultation(ctx context.Context, rq *respond.Request) (q consultation, err error) {
	context := rq.Hook.Get("context")
	if rq.Hook.Get("hook").String() != ConsultHook || rq.Hook.Get("hookInstance").String() == "" || context == nil || context.Kind != element.Object ||
		context.Get("patientId") == nil || context.Get("actor") == nil {
		return q, errHook
	}
	if context.Get("consent") != nil {
		return q, outcome.New(outcome.Invalid, "this service asks the consents that it stores, and none that come with the request")
	}
	patients, _, err := c.identified(ctx, rq, context.Get("patientId").List(), "Patient")
	if err != nil {
		return q, err
	}
	if len(patients) == 1 {
		q.patient = patients[0]
	}
	if q.to, q.known, err = c.identified(ctx, rq, context.Get("actor").List(), "Organization", "Practitioner"); err != nil {
		return q, err
	}
	for _, p := range context.Get("purposeOfUse").List() {
		q.purposes = append(q.purposes, p.String())
	}
	for _, e := range context.Get("content").Get("entry").List() {
		r := e.Get("resource")
		t := fhir.ResourceType(r.Get("resourceType").String())
		if !t.Valid() {
			return q, errHook
		}
		q.supposed = append(q.supposed, record.Supposed{Type: t, Labels: labelled(r)})
	}
	if q.supposed == nil {
		q.supposed = classes(context.Get("class").List())
	}
	return q, nil
}

// labelled is what a record that comes with the request is about: what its codes say, and what
// its own labels do. One that is no R4 resource could be about anything.
func labelled(n *element.Node) label.Set {
	r, err := codec.Check(n)
	if err != nil {
		return label.All
	}
	stated := label.Stated(func(yield func(system, code string) bool) {
		for _, l := range n.Get("meta").Get("security").List() {
			if !yield(l.Get("system").String(), l.Get("code").String()) {
				return
			}
		}
	})
	return stated | label.Classify(label.Content{Type: r.Type, Codings: r.Codings()})
}

// classes are records of which each has one label, and one that has none.
func classes(asked []*element.Node) (out []record.Supposed) {
	types := []fhir.ResourceType{"Observation"}
	for i, c := range asked {
		if t := fhir.ResourceType(c.Get("code").String()); t.Valid() {
			types = append(types[:min(i, len(types))], t)
		}
	}
	for _, t := range types {
		out = append(out, record.Supposed{Type: t})
		for _, code := range label.All.Codes() {
			s, err := label.ParseSet(code)
			if err != nil {
				continue
			}
			if s.Any(label.Notes) {
				out = append(out, record.Supposed{Type: "DocumentReference", Labels: s})
				continue
			}
			out = append(out, record.Supposed{Type: t, Labels: s})
		}
	}
	return out
}

// identified finds the resources that identifiers name, among what the caller may see:
// {"value":"Organization/1"}, {"value":"1"}, or system and value. The identifiers themselves
// come with them, because a Consent may name its recipients by those.
func (c *Ceremony) identified(ctx context.Context, rq *respond.Request, list []*element.Node, types ...fhir.ResourceType) (refs []fhir.Ref, known []consent.Code, err error) {
	for _, n := range list {
		system, value := n.Get("system").String(), n.Get("value").String()
		if value == "" {
			return nil, nil, errHook
		}
		if system == "" {
			if ref, ok := fhir.ParseRef(strings.TrimPrefix(value, rq.Base+"/")); ok {
				refs = append(refs, ref)
				continue
			}
			if id := fhir.ID(value); len(types) == 1 && id.Valid() {
				refs = append(refs, fhir.Ref{Type: types[0], ID: id})
				continue
			}
			return nil, nil, errHook
		}
		known = append(known, consent.Code{System: system, Code: value})
		for _, t := range types {
			ids, err := c.holders(ctx, rq, t, system+"|"+value)
			if err != nil {
				return nil, nil, err
			}
			for _, id := range ids {
				refs = append(refs, fhir.Ref{Type: t, ID: id})
			}
		}
	}
	refs = slices.DeleteFunc(refs, func(r fhir.Ref) bool { return !slices.Contains(types, r.Type) })
	slices.SortFunc(refs, func(a, b fhir.Ref) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(refs), known, nil
}

// holders are the resources of a type with that identifier, as far as the caller may find them.
func (c *Ceremony) holders(ctx context.Context, rq *respond.Request, t fhir.ResourceType, identifier string) ([]fhir.ID, error) {
	opt, err := c.pages.Searching(ctx, rq)
	if err != nil {
		return nil, err
	}
	q, _, err := search.Parse(t, url.Values{"identifier": {identifier}, "_count": {"2"}}, opt)
	if err != nil {
		return nil, err
	}
	reach, err := c.engine.Reach(ctx, rq.Grant, fhir.SearchType, q.Types()...)
	if err != nil {
		return nil, err
	}
	return c.store.Match(ctx, reach, q)
}

// finding is what a consultation comes to.
type finding struct {
	decision string
	why      string
	redact   label.Set
	refrain  []string
	basedOn  fhir.Ref
}

// consult asks for each purpose, and takes the answer that permits least. An empty
// decision says that the caller sees no such patient.
func (c *Ceremony) consult(ctx context.Context, rq *respond.Request, q consultation) (out finding, err error) {
	if len(q.purposes) == 0 {
		return finding{decision: consentDeny, why: "Without a purpose of use nothing is permitted."}, nil
	}
	for i, purpose := range q.purposes {
		e := evaluation{patient: q.patient, purpose: purpose, at: rq.Grant.Caller().Now}
		if e.to = recipient(rq.Grant.Caller(), q.to, nil, purpose); len(q.to) == 0 {
			e.to = consent.Caller{Roles: usual("", purpose)} // somebody of whom nothing else is known
		}
		e.to.Identifiers = q.known
		w, err := c.weighing(ctx, rq, e)
		if err != nil && outcome.Of(err).Status() == outcome.NotFound.Status() {
			return finding{}, nil // the caller sees no such patient, which is an answer
		}
		if err != nil {
			return out, err
		}
		x, err := c.classified(ctx, rq, w, q.supposed)
		if err != nil {
			return out, err
		}
		if i == 0 || less(x, out) {
			x.redact |= out.redact
			out = x
		} else {
			out.redact |= x.redact
		}
	}
	return out, nil
}

func less(a, b finding) bool {
	order := []string{consentDeny, noConsent, consentPermit}
	return slices.Index(order, a.decision) < slices.Index(order, b.decision)
}

// classified asks about each class. Of which programs a record would be is not told:
// it has to be permitted for each of those of which the patient's Consents speak.
func (c *Ceremony) classified(ctx context.Context, rq *respond.Request, w record.Weighing, supposed []record.Supposed) (out finding, err error) {
	w.Supposed = supposed[:1:1]
	first, err := c.weigh(ctx, rq, w, 0)
	if err != nil {
		return out, err
	}
	w.Supposed = nil
	var of []int
	for i, s := range supposed {
		if !s.Labels.Any(label.Part2) {
			w.Supposed, of = append(w.Supposed, s), append(of, i)
			continue
		}
		for _, p := range first[0].Programs {
			s.Origin = record.Origin{Programs: []fhir.ID{p}}
			w.Supposed, of = append(w.Supposed, s), append(of, i)
		}
	}
	all, err := c.weigh(ctx, rq, w, 0)
	if err != nil {
		return out, err
	}
	permitted := make([]bool, len(supposed))
	asked := make([]bool, len(supposed))
	for n, j := range all {
		i := of[n]
		permitted[i] = j.Permit && (permitted[i] || !asked[i])
		asked[i] = true
		for _, o := range j.obligations() {
			if !slices.Contains(out.refrain, o) {
				out.refrain = append(out.refrain, o)
			}
		}
		for _, a := range j.Accounts {
			switch {
			case a.Verdict == consent.Denies || a.Verdict == consent.AnotherKind && j.Restricted:
				out.decision, out.basedOn = consentDeny, a.Consent
			case a.Verdict == consent.Permits && out.decision != consentDeny:
				out.basedOn = a.Consent
			}
		}
	}
	some := slices.Contains(permitted, true)
	for i, ok := range permitted {
		if !ok {
			out.redact |= supposed[i].Labels
		}
	}
	switch {
	case some:
		out.decision, out.why = consentPermit, "The law, the policy of the practice and the patient's consents permit it, but for what has to be redacted."
	case out.decision == consentDeny:
		out.why, out.redact, out.refrain = "The patient forbade it.", 0, nil
	default:
		out.decision, out.redact, out.refrain, out.basedOn = noConsent, 0, nil, fhir.Ref{}
	}
	return out, nil
}

// card is the finding as the hook has it.
func (f finding) card(base string) *element.Node {
	indicator := map[string]string{consentPermit: "info", consentDeny: "critical", noConsent: "warning"}[f.decision]
	if f.why == "" {
		f.why = "No consent permits it, and the law does not without one."
	}
	if f.decision != consentPermit {
		f.redact, f.refrain = 0, nil
	}
	obligations := items()
	if f.redact != 0 {
		codes := items()
		for _, code := range f.redact.Codes() {
			codes.Items = append(codes.Items, pairs("system", element.NewString(labelSystem(code)), "code", element.NewString(code)))
		}
		obligations.Items = append(obligations.Items, pairs("id", pairs("system", element.NewString(v3ActCode), "code", element.NewString("REDACT")), "parameters", pairs("codes", codes)))
	}
	for _, o := range f.refrain {
		obligations.Items = append(obligations.Items, pairs("id", pairs("system", element.NewString(v3ActCode), "code", element.NewString(o))))
	}
	extension := pairs("decision", element.NewString(f.decision), "obligations", obligations)
	if f.basedOn != (fhir.Ref{}) {
		extension.Set("basedOn", element.NewString(base+"/"+f.basedOn.String()))
	}
	return pairs("summary", element.NewString(f.decision), "detail", element.NewString(f.why), "indicator", element.NewString(indicator),
		"source", pairs("label", element.NewString("Cloister"), "url", element.NewString(base)), "extension", extension)
}

// labelSystem is the code system of a security label: v3-ActCode where it has the code.
func labelSystem(code string) string {
	switch code {
	case "SUDCN", "MINORCONSENT", "42CFRPart2-RECEIVED", "UNCLASSIFIED":
		return fhir.SecurityLabel
	}
	return v3ActCode
}

// pairs makes an object of names and their values, in order.
func pairs(fields ...any) *element.Node {
	n := element.NewObject()
	for i := 0; i+1 < len(fields); i += 2 {
		name, _ := fields[i].(string)
		v, _ := fields[i+1].(*element.Node)
		n.Set(name, v)
	}
	return n
}

func items(list ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: list}
}
