package codec

import (
	"slices"
	"strings"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// CareTeamView is what a CareTeam says about who treats whom
// (http://hl7.org/fhir/R4/careteam.html).
type CareTeamView struct {
	Status       string   // active, inactive ...; "" if the CareTeam does not say
	Patient      fhir.Ref // subject, a Patient or a Group; zero without one
	Categories   []consent.Code
	Period       consent.Period
	Participants []Participant // those whose member is a resource of this server
	Malformed    []string      // FHIRPaths of what was not understood; such a participant is left out
}

// Participant is one CareTeam.participant.
type Participant struct {
	Member fhir.Ref
	Roles  []consent.Code
	Period consent.Period
}

// RelatedPersonView is what a RelatedPerson says about whom it stands for
// (http://hl7.org/fhir/R4/relatedperson.html).
type RelatedPersonView struct {
	Active  bool // active is there and true: a right must not hang on what was left out
	Patient fhir.Ref
	Period  consent.Period
	// Relationships are the codes by which the person stands for the patient.
	Relationships []consent.Code
	Malformed     []string // FHIRPaths of what was not understood; then Active is false
}

// ConsentDirective reads a Consent (http://hl7.org/fhir/R4/consent.html). The
// error is about r not being a Consent; whatever in it is not understood is in
// Malformed, see [consent.Compile].
func ConsentDirective(r *Resource) (consent.Directive, error) {
	root, n, err := prepare(r, "Consent")
	if err != nil {
		return consent.Directive{}, err
	}
	var d consent.Directive
	if m, err := typed(root); err != nil || m.GetConsent() == nil {
		n.add("Consent")
		// Enough to know whom it may protect.
		d.Status = root.Get("status").String()
		d.Patient, _ = fhir.ParseRef(root.Get("patient").Get("reference").String())
		d.Scope = append(d.Scope, consent.Code{System: "http://terminology.hl7.org/CodeSystem/consentscope", Code: "patient-privacy"})
	} else {
		d = consentOf(m.GetConsent(), n)
	}
	d.Ref = r.Ref()
	slices.Sort(n.paths)
	d.Malformed = n.paths
	return d, nil
}

// CareTeam reads a CareTeam. The error is about r not being one.
func CareTeam(r *Resource) (CareTeamView, error) {
	root, n, err := prepare(r, "CareTeam")
	if err != nil {
		return CareTeamView{}, err
	}
	// What modifies a participant takes that one out; anything else, the whole team.
	whole := slices.ContainsFunc(n.paths, func(p string) bool { return !strings.HasPrefix(p, "CareTeam.participant[") })
	var v CareTeamView
	if m, err := typed(root); err != nil || m.GetCareTeam() == nil {
		n.add("CareTeam")
	} else {
		v = careTeamOf(m.GetCareTeam(), n)
		whole = whole || slices.Contains(n.paths, "CareTeam.subject") || slices.Contains(n.paths, "CareTeam.period")
	}
	if whole {
		v.Participants = nil
	}
	slices.Sort(n.paths)
	v.Malformed = n.paths
	return v, nil
}

// RelatedPerson reads a RelatedPerson. The error is about r not being one.
func RelatedPerson(r *Resource) (RelatedPersonView, error) {
	root, n, err := prepare(r, "RelatedPerson")
	if err != nil {
		return RelatedPersonView{}, err
	}
	var v RelatedPersonView
	if m, err := typed(root); err != nil || m.GetRelatedPerson() == nil {
		n.add("RelatedPerson")
	} else {
		v = relatedPersonOf(m.GetRelatedPerson(), n)
	}
	if len(n.paths) > 0 {
		v.Active = false
	}
	slices.Sort(n.paths)
	v.Malformed = n.paths
	return v, nil
}

// prepare copies r without what no view reads, notes what modifies its meaning
// in ways that we do not know, and rewrites what google/fhir wrongly refuses.
func prepare(r *Resource, want fhir.ResourceType) (*element.Node, *notes, error) {
	if r == nil || r.Type != want {
		return nil, nil, outcome.New(outcome.Unprocessable, "a "+string(want)+" is expected")
	}
	root := &element.Node{Kind: element.Object}
	for _, f := range r.Root.Fields {
		switch f.Name {
		case "text", "contained", "extension", "meta", "identifier", "language", "_language",
			"name", "_name", "telecom", "address", "photo", "communication", "note", "birthDate", "_birthDate":
		default:
			root.Fields = append(root.Fields, element.Field{Name: f.Name, Value: f.Value.Clone()})
		}
	}
	n := &notes{}
	c := Resource{Type: want, Root: root}
	c.walk(func(w *walker, d *typeDef, e *fieldDef, v, parent *element.Node) bool {
		switch {
		case e.name == "modifierExtension", d.resource && e.name == "implicitRules":
			n.add(w.trail.String())
			return false
		case strings.HasPrefix(e.json, "_"):
			if parent.Get(e.json[1:]) == nil {
				n.add(w.trail.String()) // a value that is only said to be absent
			}
			return false
		case e.prim == dateTime && v.Kind == element.String:
			v.Text = withoutLeapSecond(v.Text)
		}
		return e.name != "extension"
	})
	return root, n, nil
}

// withoutLeapSecond writes second 60, which R4 allows and google/fhir refuses,
// as second 59; widened by its precision it ends at the same instant.
func withoutLeapSecond(s string) string {
	const at = len("2016-12-31T23:59:")
	if len(s) > at+2 && s[at:at+2] == "60" {
		return s[:at] + "59" + s[at+2:]
	}
	return s
}
