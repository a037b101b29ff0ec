package exception

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Statement is an exception as a privacy officer documents it.
type Statement struct {
	Kind       string
	Purposes   []string
	Recipient  fhir.Ref // a Practitioner, or an Organization for whoever works for it
	Patient    fhir.ID
	Originator fhir.Ref
	Program    fhir.ID
	Types      []fhir.ResourceType
	Records    []fhir.Ref
	Starts     time.Time
	Ends       time.Time
	// Documentation has the elements of the kind by their names.
	Documentation map[string]string
	// By and Of are who documents it, and for which organizations she works.
	By fhir.Ref
	Of []string
}

// Fault is one thing that a statement lacks.
type Fault struct {
	Parameter string // of the operation, such as "documentation.order"
	Text      string
}

// Faults lists what a statement lacks; one that lacks anything is no exception.
func Faults(s Statement, now time.Time) (out []Fault) {
	fault := func(parameter, text string) { out = append(out, Fault{parameter, text}) }
	k, ok := Of(s.Kind)
	if !ok {
		text := "there is no such kind of exception"
		if why, ok := refused[s.Kind]; ok {
			text = why
		}
		return []Fault{{"kind", text}}
	}
	if len(s.Purposes) == 0 {
		fault("purpose", k.Citation+": a purpose is required: "+strings.Join(k.Purposes, " or "))
	}
	for _, p := range s.Purposes {
		if !slices.Contains(k.Purposes, p) {
			fault("purpose", k.Citation+": this exception counts for "+strings.Join(k.Purposes, " or ")+" alone")
		}
	}
	switch {
	case s.Recipient.Type != "Practitioner" && s.Recipient.Type != "Organization":
		fault("recipient", k.Citation+": who receives is required: a Practitioner or an Organization")
	case s.By == (fhir.Ref{}) || s.Recipient == s.By || s.Recipient.Type == "Organization" && slices.Contains(s.Of, string(s.Recipient.ID)):
		// Two persons: who documents an exception does not profit from it.
		fault("recipient", "who documents an exception cannot be who receives by it")
	}
	for _, x := range []struct {
		scope     Scope
		there     bool
		parameter string
	}{{OfPatient, s.Patient != "", "patient"}, {OfOriginator, s.Originator.Type == "Practitioner", "originator"}, {OfProgram, s.Program != "", "program"}} {
		if k.Scope&x.scope != 0 && !x.there {
			fault(x.parameter, k.Citation+": it is required, because the exception is limited to it")
		}
	}
	if s.Patient == "" && s.Program == "" && s.Originator == (fhir.Ref{}) {
		fault("patient", k.Citation+": an exception is limited to a patient, an originator or a program")
	}
	for _, t := range s.Types {
		if !t.Valid() || k.Types != nil && !slices.Contains(k.Types, t) {
			fault("type", k.Citation+": this type is none that the exception covers")
		}
	}
	switch {
	case s.Ends.IsZero():
		fault("end", k.Citation+": the end is required")
	case !s.Starts.Before(s.Ends) || !now.Before(s.Ends):
		fault("end", "the end lies after the start, and has not passed")
	case s.Ends.Sub(s.Starts) > k.Longest:
		fault("end", k.Citation+": it may hold for "+days(k.Longest)+" at most")
	}
	for _, e := range k.Elements {
		v, there := s.Documentation[e.Name]
		switch {
		case !there || strings.TrimSpace(v) == "":
			fault("documentation."+e.Name, e.Citation+": it is required")
		case e.True && v != "true":
			fault("documentation."+e.Name, e.Citation+": it has to be true")
		case e.Of != nil && !slices.Contains(e.Of, v):
			fault("documentation."+e.Name, e.Citation+": it is one of "+strings.Join(e.Of, ", "))
		}
	}
	for name := range s.Documentation {
		if !slices.ContainsFunc(k.Elements, func(e Element) bool { return e.Name == name }) {
			fault("documentation", "this kind has no such element; it has "+elements(k))
		}
	}
	return out
}

func elements(k Kind) string {
	var out []string
	for _, e := range k.Elements {
		out = append(out, e.Name)
	}
	return strings.Join(out, ", ")
}

func days(d time.Duration) string { return strconv.Itoa(int(d/day)) + " days" }

// Narrowed is s with the types to which its kind narrows it.
func (s Statement) Narrowed() Statement {
	if k, ok := Of(s.Kind); ok && k.Types != nil && s.Types == nil {
		s.Types = slices.Clone(k.Types)
	}
	return s
}
