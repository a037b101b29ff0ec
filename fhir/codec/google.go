package codec

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/fhir/go/fhirversion"
	"github.com/google/fhir/go/jsonformat"
	d4 "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/datatypes_go_proto"
	r4 "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/bundle_and_contained_resource_go_proto"
	careteam "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/care_team_go_proto"
	consentpb "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/consent_go_proto"
	relatedperson "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/related_person_go_proto"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// This file is the only importer of google/fhir. Its unmarshaller is made at
// first use.

var unmarshaller = sync.OnceValues(func() (*jsonformat.Unmarshaller, error) {
	u, err := jsonformat.NewUnmarshallerWithoutValidation("UTC", fhirversion.R4)
	if err != nil {
		return nil, err
	}
	u.MaxNestingDepth = DefaultLimits.Depth // its cost is quadratic in the depth
	return u, nil
})

// typed reads root as a message of google/fhir.
func typed(root *element.Node) (m *r4.ContainedResource, err error) {
	u, err := unmarshaller()
	if err != nil {
		return nil, err
	}
	defer func() {
		// A panic of foreign code on foreign data must not take the server down.
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("google/fhir: %v", p)
		}
	}()
	msg, err := u.Unmarshal(root.AppendJSON(nil))
	if err != nil {
		return nil, err
	}
	m, ok := msg.(*r4.ContainedResource)
	if !ok {
		return nil, fmt.Errorf("google/fhir: a message of type %T", msg)
	}
	return m, nil
}

// notes collects the paths of what a view could not understand.
type notes struct{ paths []string }

func (n *notes) add(path string) {
	for _, p := range n.paths {
		if p == path {
			return
		}
	}
	n.paths = append(n.paths, path)
}

func consentOf(m *consentpb.Consent, n *notes) consent.Directive {
	d := consent.Directive{
		Status:   enumCode(m.GetStatus().GetValue()),
		Scope:    n.concept("Consent.scope", m.GetScope()),
		Category: n.concepts("Consent.category", m.GetCategory()),
		Patient:  n.local("Consent.patient", m.GetPatient()),
		Source:   m.GetSource() != nil,
	}
	if t := m.GetDateTime(); t != nil {
		d.DateTime, _ = bounds(t)
	}
	if m.GetPatient() == nil {
		n.add("Consent.patient")
	}
	for i, p := range m.GetPerformer() {
		if ref := n.local(fmt.Sprintf("Consent.performer[%d]", i), p); ref != (fhir.Ref{}) {
			d.Performers = append(d.Performers, ref)
		}
	}
	for i, o := range m.GetOrganization() {
		if ref := n.local(fmt.Sprintf("Consent.organization[%d]", i), o); ref != (fhir.Ref{}) {
			d.Organizations = append(d.Organizations, ref)
		}
	}
	for _, v := range m.GetVerification() {
		if with, ok := fhir.ParseRef(literal(v.GetVerifiedWith())); ok && v.GetVerified().GetValue() {
			d.Verified = append(d.Verified, with)
		}
	}
	for _, p := range m.GetPolicy() {
		if u := p.GetUri().GetValue(); u != "" {
			d.Policies = append(d.Policies, u)
		}
	}
	if p := m.GetPolicyRule(); p != nil {
		d.PolicyRule = n.concept("Consent.policyRule", p)
	}
	if p := m.GetProvision(); p != nil {
		d.Root = n.provision("Consent.provision", p)
	}
	return d
}

func (n *notes) provision(path string, m *consentpb.Consent_Provision) consent.Provision {
	p := consent.Provision{
		Period:         n.period(path+".period", m.GetPeriod()),
		Actions:        n.concepts(path+".action", m.GetAction()),
		SecurityLabels: n.codings(path+".securityLabel", m.GetSecurityLabel()),
		Purposes:       n.codings(path+".purpose", m.GetPurpose()),
		Classes:        n.codings(path+".class", m.GetClassValue()),
		Codes:          n.concepts(path+".code", m.GetCode()),
		DataPeriod:     n.period(path+".dataPeriod", m.GetDataPeriod()),
	}
	if t := m.GetType(); t != nil {
		p.Type = enumCode(t.GetValue())
	}
	for i, x := range m.GetData() {
		p.Data = append(p.Data, consent.Datum{
			Meaning:   enumCode(x.GetMeaning().GetValue()),
			Reference: n.local(fmt.Sprintf("%s.data[%d].reference", path, i), x.GetReference()),
		})
	}
	for i, a := range m.GetActor() {
		p.Actors = append(p.Actors, n.actor(fmt.Sprintf("%s.actor[%d]", path, i), a))
	}
	for i, x := range m.GetProvision() {
		p.Nested = append(p.Nested, n.provision(fmt.Sprintf("%s.provision[%d]", path, i), x))
	}
	return p
}

func (n *notes) actor(path string, m *consentpb.Consent_Provision_ProvisionActor) consent.Actor {
	a := consent.Actor{Role: n.concept(path+".role", m.GetRole())}
	ref := m.GetReference()
	if id := ref.GetIdentifier(); id != nil {
		a.Identifier = consent.Code{System: id.GetSystem().GetValue(), Code: id.GetValue().GetValue()}
		if a.Identifier.Code == "" {
			n.add(path + ".reference.identifier")
		}
	}
	if literal(ref) != "" || a.Identifier == (consent.Code{}) {
		a.Reference = n.local(path+".reference", ref)
	}
	return a
}

// literal is the text of a reference, which google/fhir takes apart.
func literal(r *d4.Reference) string {
	if r == nil {
		return ""
	}
	if f := r.GetFragment(); f != nil {
		return "#" + f.GetValue()
	}
	if err := jsonformat.DenormalizeReference(r); err != nil {
		return "?"
	}
	return r.GetUri().GetValue()
}

// local gives the resource of this server that r names; anything else goes
// to the notes.
func (n *notes) local(path string, r *d4.Reference) fhir.Ref {
	ref, ok := fhir.ParseRef(literal(r))
	if !ok {
		n.add(path)
		return fhir.Ref{}
	}
	return ref
}

func (n *notes) concepts(path string, list []*d4.CodeableConcept) []consent.Code {
	var out []consent.Code
	for i, c := range list {
		out = append(out, n.concept(fmt.Sprintf("%s[%d]", path, i), c)...)
	}
	return out
}

func (n *notes) concept(path string, c *d4.CodeableConcept) []consent.Code {
	out := n.codings(path+".coding", c.GetCoding())
	if len(out) == 0 {
		n.add(path)
	}
	return out
}

func (n *notes) codings(path string, list []*d4.Coding) []consent.Code {
	var out []consent.Code
	for i, c := range list {
		code := consent.Code{System: c.GetSystem().GetValue(), Code: c.GetCode().GetValue()}
		if code.Code == "" {
			n.add(fmt.Sprintf("%s[%d]", path, i))
			continue
		}
		out = append(out, code)
	}
	return out
}

func (n *notes) period(path string, m *d4.Period) consent.Period {
	var p consent.Period
	if m == nil {
		return p
	}
	if t := m.GetStart(); t != nil {
		p.Start, _ = bounds(t)
	}
	if t := m.GetEnd(); t != nil {
		_, p.End = bounds(t)
	}
	if p.Start.IsZero() && p.End.IsZero() || !p.End.IsZero() && !p.Start.Before(p.End) {
		n.add(path)
	}
	return p
}

// bounds gives the interval [start, end) that a dateTime of some precision
// stands for; a date without a time is taken in UTC.
func bounds(t *d4.DateTime) (start, end time.Time) {
	start = time.UnixMicro(t.GetValueUs()).UTC()
	switch t.GetPrecision() {
	case d4.DateTime_YEAR:
		return start, start.AddDate(1, 0, 0)
	case d4.DateTime_MONTH:
		return start, start.AddDate(0, 1, 0)
	case d4.DateTime_DAY:
		return start, start.AddDate(0, 0, 1)
	case d4.DateTime_SECOND:
		return start, start.Add(time.Second)
	case d4.DateTime_MILLISECOND:
		return start, start.Add(time.Millisecond)
	default:
		return start, start.Add(time.Microsecond)
	}
}

// enumCode is the FHIR code of an enum of google/fhir, or "" for its zero.
func enumCode(v fmt.Stringer) string {
	s := v.String()
	if s == "INVALID_UNINITIALIZED" {
		return ""
	}
	return strings.ReplaceAll(strings.ToLower(s), "_", "-")
}

func careTeamOf(m *careteam.CareTeam, n *notes) CareTeamView {
	v := CareTeamView{
		Status: enumCode(m.GetStatus().GetValue()),
		Period: n.period("CareTeam.period", m.GetPeriod()),
	}
	for _, c := range m.GetCategory() {
		v.Categories = append(v.Categories, (&notes{}).codings("", c.GetCoding())...)
	}
	if m.GetSubject() != nil { // a team of the staff is nobody's
		v.Patient = n.local("CareTeam.subject", m.GetSubject())
	}
	for i, p := range m.GetParticipant() {
		own := notes{}
		path := fmt.Sprintf("CareTeam.participant[%d]", i)
		out := Participant{
			Member: own.local(path+".member", p.GetMember()),
			Period: own.period(path+".period", p.GetPeriod()),
		}
		for _, role := range p.GetRole() {
			// A role without a code narrows nothing: it is not understood, and no fault.
			out.Roles = append(out.Roles, (&notes{}).codings("", role.GetCoding())...)
		}
		for _, noted := range own.paths {
			n.add(noted)
		}
		// The notes also have what modifies the participant or withholds a value of it.
		if !slices.ContainsFunc(n.paths, func(noted string) bool { return strings.HasPrefix(noted, path+".") }) {
			v.Participants = append(v.Participants, out)
		}
	}
	return v
}

func relatedPersonOf(m *relatedperson.RelatedPerson, n *notes) RelatedPersonView {
	v := RelatedPersonView{
		Active:  m.GetActive().GetValue(),
		Patient: n.local("RelatedPerson.patient", m.GetPatient()),
		Period:  n.period("RelatedPerson.period", m.GetPeriod()),
	}
	for _, c := range m.GetRelationship() {
		v.Relationships = append(v.Relationships, (&notes{}).codings("", c.GetCoding())...)
	}
	return v
}
