package operation

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// evaluation is the question whether somebody could see something of a patient.
type evaluation struct {
	patient  fhir.Ref
	resource fhir.Ref // zero: a class of resources, below
	typ      fhir.ResourceType
	labels   label.Set
	programs []fhir.ID
	to       consent.Caller
	purpose  string
	assumed  authz.Fact
	at       time.Time
}

// judged is the answer to an evaluation.
type judged struct {
	authz.Explained
	record.Weighed
	held     authz.Fact // what holds, with what was assumed
	redacted bool       // the recipient could see the record without some of what it mentions
}

// evaluate answers POST Consent/$evaluate: could somebody see something of a patient
// for a purpose, and why. It asks the policy and the consents that decide over reads.
// What the caller may not see of the patient has no part in the answer.
func (c *Ceremony) evaluate(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	q, err := c.asked(rq)
	if err != nil {
		return nil, err
	}
	j, err := c.judge(ctx, rq, q)
	if err != nil {
		return nil, err
	}
	return respond.Found(j.parameters()), nil
}

// asked reads the parameters. Whoever names no recipient asks about herself.
func (c *Ceremony) asked(rq *respond.Request) (q evaluation, err error) {
	r := newReader(rq, "patient", "resource", "type", "label", "program", "recipient", "role", "purpose", "assume", "at")
	local := func(name, text string, types ...fhir.ResourceType) (ref fhir.Ref) {
		ref, ok := fhir.ParseRef(strings.TrimPrefix(text, rq.Base+"/"))
		if !ok || len(types) > 0 && !slices.Contains(types, ref.Type) {
			r.fail(outcome.New(outcome.Invalid, "the parameter "+name+" is a reference to a resource of this server, of a type that it can be"))
		}
		return ref
	}
	q.patient = local("patient", r.required("patient"), "Patient")
	q.typ = fhir.ResourceType(r.one("type"))
	switch text := r.one("resource"); {
	case text != "":
		q.resource = local("resource", text)
	case r.err == nil && !q.typ.Valid():
		r.fail(outcome.New(outcome.Required, "the operation needs the parameter resource, or the parameter type with the name of a resource type"))
	}
	for _, text := range r.texts["label"] {
		_, code, ok := strings.Cut(text, "|")
		if !ok {
			code = text
		}
		s, err := label.ParseSet(code)
		if err != nil || s == 0 {
			r.fail(outcome.New(outcome.Invalid, "the parameter label is the code of a security label"))
		}
		q.labels |= s
	}
	for _, text := range r.texts["program"] {
		q.programs = append(q.programs, local("program", text, "Organization").ID)
	}
	if q.resource != (fhir.Ref{}) && (q.typ != "" || q.labels != 0 || q.programs != nil) {
		r.fail(outcome.New(outcome.Invalid, "a resource has a type, labels and programs: ask about a resource, or about a class of them"))
	}
	me := rq.Grant.Caller()
	q.purpose, q.at = me.Purpose, me.Now
	if text := r.one("purpose"); text != "" {
		_, code, ok := strings.Cut(text, "|")
		if !ok {
			code = text
		}
		q.purpose = code
	}
	if text := r.one("at"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			r.fail(outcome.New(outcome.Invalid, "the parameter at is a dateTime with seconds and time zone"))
		}
		q.at = at
	}
	for _, text := range r.texts["assume"] {
		f, ok := authz.FactNamed(text)
		if !ok {
			r.fail(outcome.New(outcome.Invalid, "the parameter assume is the name of a fact, as the policy has it"))
		}
		q.assumed |= f
	}
	recipients := make([]fhir.Ref, 0, len(r.texts["recipient"]))
	for _, text := range r.texts["recipient"] {
		recipients = append(recipients, local("recipient", text, "Organization", "Practitioner", "PractitionerRole", "CareTeam", "RelatedPerson", "Patient"))
	}
	q.to = recipient(me, recipients, r.texts["role"], q.purpose)
	if r.err == nil && len(q.to.Roles) == 0 {
		r.fail(outcome.New(outcome.Required, "nobody of that kind receives for that purpose here: the parameter role says as what"))
	}
	return q, r.err
}

// recipient is the caller whom the references and roles describe; without any, the one who asks.
func recipient(me authz.Caller, refs []fhir.Ref, roles []string, purpose string) (c consent.Caller) {
	if len(refs) == 0 && len(roles) == 0 {
		c.User, c.Roles = me.User, me.Roles
		for _, o := range me.Organizations {
			c.Organizations = append(c.Organizations, fhir.ID(o))
		}
		return c
	}
	for _, r := range refs {
		switch {
		case r.Type == "Organization":
			c.Organizations = append(c.Organizations, r.ID)
		case c.User == fhir.Ref{} && (r.Type == "Practitioner" || r.Type == "RelatedPerson" || r.Type == "Patient"):
			c.User = r
		default:
			c.ActsAs = append(c.ActsAs, r)
		}
	}
	if c.Roles = roles; len(roles) == 0 {
		c.Roles = usual(c.User.Type, purpose)
	}
	return c
}

// usual is the role in which somebody receives who is not said to have another.
func usual(user fhir.ResourceType, purpose string) []string {
	for _, x := range []struct {
		user          fhir.ResourceType
		purpose, role string
	}{
		{"Practitioner", "TREAT", "therapist"}, {"Practitioner", "HPAYMT", "biller"}, {"Practitioner", "HOPERAT", "front-desk"},
		{"Patient", "PATRQT", "patient"}, {"RelatedPerson", "PATRQT", "proxy"},
	} {
		if x.user == user && x.purpose == purpose {
			return []string{x.role}
		}
	}
	if user == "" {
		return []string{"hie"} // another organization
	}
	return nil
}

// judge reads what the caller may see of the patient, and answers over that. Of a record
// that is kept in several views the recipient may see any: the answer is that of the
// fullest that she may, or of the fullest if none.
func (c *Ceremony) judge(ctx context.Context, rq *respond.Request, q evaluation) (judged, error) {
	supposed := []record.Supposed{{Type: q.typ, Labels: q.labels, Origin: record.Origin{Programs: q.programs}}}
	if q.resource != (fhir.Ref{}) {
		if err := c.visible(ctx, rq, q.resource); err != nil {
			return judged{}, err
		}
		sub, err := c.as(rq, fhir.Read, q.resource.Type)
		if err != nil {
			return judged{}, err
		}
		restriction, err := c.engine.Plan(ctx, sub.Grant, fhir.Read, q.resource.Type)
		if err != nil {
			return judged{}, err
		}
		if supposed, err = c.store.Views(ctx, restriction, q.resource.ID); err != nil {
			return judged{}, err
		}
	}
	w, err := c.weighing(ctx, rq, q)
	if err != nil {
		return judged{}, err
	}
	w.Supposed = supposed
	all, err := c.weigh(ctx, rq, w, q.assumed)
	if err != nil {
		return judged{}, err
	}
	for i := range all {
		if all[i].Permit {
			all[i].redacted = i > 0
			return all[i], nil
		}
	}
	return all[0], nil
}

// weighing gathers what the caller may see of the patient of a question.
func (c *Ceremony) weighing(ctx context.Context, rq *respond.Request, q evaluation) (w record.Weighing, err error) {
	w = record.Weighing{Patient: q.patient, To: q.to, Purpose: q.purpose, At: q.at}
	sub, err := c.as(rq, fhir.Read, "Consent")
	if err != nil {
		return w, err
	}
	if err := c.visible(ctx, rq, q.patient); err != nil {
		return w, err
	}
	if w.Consents, err = c.about(ctx, rq, sub, "Consent", q.patient); err != nil {
		return w, err
	}
	r, err := c.engine.Plan(ctx, sub.Grant, fhir.Read, "Consent")
	if err != nil {
		return w, err
	}
	if w.Attested, err = c.store.Attested(ctx, r, q.patient.ID); err != nil {
		return w, err
	}
	if q.to.User.Type == "Practitioner" {
		w.CareTeams, err = c.about(ctx, rq, sub, "CareTeam", q.patient)
	}
	return w, err
}

// weigh asks the consents and the policy about everything that w supposes.
func (c *Ceremony) weigh(ctx context.Context, rq *respond.Request, w record.Weighing, assumed authz.Fact) ([]judged, error) {
	sub, err := c.as(rq, fhir.Read, "Consent")
	if err != nil {
		return nil, err
	}
	weighed, err := c.gate.Weigh(ctx, sub.Grant, w)
	if err != nil {
		return nil, err
	}
	out := make([]judged, len(weighed))
	for i, x := range weighed {
		j := judged{Weighed: x, held: x.Facts | assumed}
		if j.Explained, err = c.engine.WhatIf(sub.Grant, authz.Question{Roles: w.To.Roles, Purpose: w.Purpose, Action: authz.ActionRead, Type: x.Type, Labels: x.Labels}, j.held); err != nil {
			return nil, err
		}
		out[i] = j
	}
	return out, nil
}

// visible finds whether the caller may see a resource: hidden and absent are one answer.
func (c *Ceremony) visible(ctx context.Context, rq *respond.Request, ref fhir.Ref) error {
	sub, err := c.as(rq, fhir.Read, ref.Type)
	if err != nil {
		return outcome.New(outcome.NotFound, "") // who may read none of them sees none
	}
	sub.ID = ref.ID
	_, err = c.current(ctx, sub)
	return err
}

// most is how many Consents, and how many CareTeams, of a patient are looked at.
const most = "200"

// about finds what of that type is about the patient, as far as the caller may see it.
func (c *Ceremony) about(ctx context.Context, rq, sub *respond.Request, t fhir.ResourceType, patient fhir.Ref) ([]record.Sealed, error) {
	opt, err := c.pages.Searching(ctx, rq)
	if err != nil {
		return nil, err
	}
	q, _, err := search.Parse(t, url.Values{"patient": {patient.String()}, "_count": {most}, "_sort": {"_id"}}, opt)
	if err != nil {
		return nil, err
	}
	reach, err := c.engine.Reach(ctx, sub.Grant, fhir.Read, q.Types()...)
	if err != nil {
		return nil, err
	}
	page, err := c.store.Search(ctx, reach, q)
	if err == nil && page.More {
		err = outcome.New(outcome.TooCostly, "the patient has more "+string(t)+" resources than one answer can look at")
	}
	return page.Entries, err
}

// noRedisclosure is the refrain of what a program discloses with consent (42 CFR 2.32).
const noRedisclosure = "NORDSCLCD"

// obligations are what goes with a disclosure that is permitted.
func (j judged) obligations() []string {
	if j.Permit && j.Labels.Any(label.Part2) && len(j.PermittedBy) > 0 && !j.held.Has(authz.Program) && !j.held.Has(authz.Self) {
		return []string{noRedisclosure}
	}
	return nil
}

// missing are the consents that would change the answer.
func (j judged) missing() []consent.Missing {
	if j.Permit || !slices.ContainsFunc(j.Needs, func(f authz.Fact) bool { return f.Has(authz.Consent) }) {
		return nil
	}
	return j.Missing
}

// parameters is j as the answer of $evaluate.
func (j judged) parameters() *element.Node {
	decision := "deny"
	if j.Permit {
		decision = "permit"
	}
	p := parametersOf(param("decision", "valueCode", decision), param("policy", "valueString", j.Version))
	add := func(name, typ string, values ...string) {
		for _, v := range values {
			addParam(p, param(name, typ, v))
		}
	}
	if j.redacted {
		addParam(p, paramFlag("redacted"))
	}
	add("by", "valueString", j.By...)
	add("fact", "valueCode", authz.FactNames(j.held)...)
	if !j.Permit {
		for _, needs := range j.Needs {
			add("needs", "valueString", strings.Join(authz.FactNames(needs), "+"))
		}
	}
	for _, o := range j.obligations() {
		addParam(p, paramCoding("obligation", "http://terminology.hl7.org/CodeSystem/v3-ActCode", o))
	}
	for _, a := range j.Accounts {
		parts := []*element.Node{paramReference("reference", a.Consent.String())}
		for _, x := range []struct{ name, typ, value string }{
			{"kind", "valueCode", string(a.Kind)}, {"verdict", "valueCode", string(a.Verdict)}, {"provision", "valueString", a.Provision},
		} {
			if x.value != "" {
				parts = append(parts, param(x.name, x.typ, x.value))
			}
		}
		for _, d := range a.Defects {
			parts = append(parts, param("defect", "valueString", d))
		}
		if a.Verdict != consent.Permits && a.Verdict != consent.Denies {
			for _, y := range a.Why {
				parts = append(parts, param("why", "valueString", y.Provision+": "+y.Criterion))
			}
		}
		addParam(p, paramParts("consent", parts...))
	}
	for _, m := range j.missing() {
		var parts []*element.Node
		for _, k := range m.Kinds {
			parts = append(parts, param("kind", "valueCode", string(k)))
		}
		if m.Program != "" {
			parts = append(parts, paramReference("program", "Organization/"+string(m.Program)))
		}
		addParam(p, paramParts("missing", parts...))
	}
	return p
}
