package deident

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

//go:embed allow.table
var allowText string

// treatment is what happens to the value of an element that is on the list.
type treatment uint8

const (
	byType        treatment = iota // as its FHIR type says: see [treatmentOf]
	kept                           // as it is: true or false
	number                         // kept unless it has as many digits as an identifier
	code                           // kept where a required binding lists it
	date                           // year, as it is, or shifted: what the profile says
	instant                        // as a date, but it cannot be a year
	timeOfDay                      // kept where dates are
	coding                         // kept where its code system is on the list, and has such a code
	concept                        // those of its codings
	quantity                       // value and coded unit
	reference                      // rewritten to the surrogate of its target
	object                         // its elements are on the list, too
	answer                         // a number, or something of numbers, that may be an age or a year
	ages                           // a number of years, or something of them
	state                          // a state of the USA
	zip                            // a ZIP code
	city                           // a name of a place
	country                        // a country
	link                           // the linkId of a question
	questionnaire                  // the canonical URL of a questionnaire
)

var named = map[string]treatment{"answer": answer, "ages": ages, "state": state, "zip": zip, "city": city,
	"country": country, "link": link, "questionnaire": questionnaire}

// fits says which FHIR types a named treatment is for.
var fits = map[treatment][]string{
	answer: {"integer", "decimal", "Quantity", "SimpleQuantity", "Range", "Ratio"}, ages: {"Range"},
	state: {"string"}, zip: {"string"}, city: {"string"}, country: {"string"}, link: {"string"}, questionnaire: {"canonical"},
}

// treatmentOf is what a FHIR type says by itself. There is none for free text, URIs,
// identifiers, names, attachments and codes that nothing binds: on the list such an
// element needs a treatment of its own.
func treatmentOf(e codec.Element, listed map[string]bool) (treatment, error) {
	switch e.Type {
	case "boolean":
		return kept, nil
	case "integer", "positiveInt", "unsignedInt", "decimal":
		return number, nil
	case "code":
		if e.Bound() {
			return code, nil
		}
	case "date", "dateTime":
		return date, nil
	case "instant":
		return instant, nil
	case "time":
		return timeOfDay, nil
	case "Coding":
		return coding, nil
	case "CodeableConcept":
		return concept, nil
	case "Quantity", "SimpleQuantity", "MoneyQuantity", "Age", "Count", "Distance", "Duration":
		return quantity, nil
	case "Reference":
		return reference, nil
	default:
		if listed[e.Type] && !e.Primitive {
			return object, nil
		}
	}
	return 0, errors.New("the type " + e.Type + " has no treatment")
}

// plan is the part of the list that is about one type.
type plan struct {
	def    codec.Definition
	known  map[string]codec.Element // all elements of the type, by JSON name
	needs  []string                 // the required ones, sorted
	rules  map[string]rule          // those on the list
	shared bool                     // a resource type that belongs to no patient
}

type rule struct {
	element codec.Element
	treat   treatment
	sub     *plan // of an object
}

// lists are the allow-lists of the safe harbor and of the limited data set.
type lists struct{ harbor, limited map[string]*plan }

// allowed reads the list at first use.
var allowed = sync.OnceValue(func() lists {
	var l lists
	var err error
	if l.harbor, err = readList(allowText, false); err == nil {
		l.limited, err = readList(allowText, true)
	}
	if err != nil {
		panic("deident: allow.table: " + err.Error())
	}
	return l
})

// Types lists the resource types that a release may hold, sorted.
func Types() []fhir.ResourceType {
	var out []fhir.ResourceType
	for name, p := range allowed().harbor {
		if p.def.Resource() {
			out = append(out, fhir.ResourceType(name))
		}
	}
	slices.Sort(out)
	return out
}

// TypesOf lists the resource types of which something is released under a profile, sorted. Who treats whom is no less
// telling than who somebody is: an expert's determination is about patients alone.
func TypesOf(p Profile) []fhir.ResourceType {
	return slices.DeleteFunc(Types(), func(t fhir.ResourceType) bool {
		return p.Method == Expert && allowed().harbor[string(t)].shared
	})
}

// readList reads an allow-list and checks it against the definitions of R4.
func readList(text string, limited bool) (map[string]*plan, error) {
	plans := map[string]*plan{}
	words := map[string][]string{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == ':':
			var flag string
			name, flag, _ = strings.Cut(line[1:], " ")
			d, ok := codec.DefinitionOf(name)
			if !ok || plans[name] != nil || flag != "" && flag != "shared" {
				return nil, fmt.Errorf("%q is no type, or there twice", line)
			}
			p := &plan{def: d, known: map[string]codec.Element{}, rules: map[string]rule{}, shared: flag == "shared"}
			for _, e := range d.Elements() {
				p.known[e.JSON] = e
				if e.Required {
					p.needs = append(p.needs, e.JSON)
				}
			}
			slices.Sort(p.needs)
			plans[name] = p
		default:
			words[name] = append(words[name], strings.Fields(line)...)
		}
	}
	listed := map[string]bool{}
	for n := range plans {
		listed[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(words)) {
		if plans[n] == nil {
			return nil, fmt.Errorf("%q stand before any type", words[n])
		}
		for _, w := range words[n] {
			w, more := strings.CutPrefix(w, "+")
			if more && !limited {
				w = "" // it is checked with the other list
			}
			for _, w := range expand(w) {
				if err := plans[n].add(w, plans, listed); err != nil {
					return nil, fmt.Errorf("%s.%s: %w", n, w, err)
				}
			}
		}
	}
	return plans, nil
}

// expand writes x{A,B=t} out as xA and xB=t.
func expand(word string) []string {
	if word == "" {
		return nil
	}
	name, choice, ok := strings.Cut(word, "{")
	if !ok {
		return []string{word}
	}
	var out []string
	for t := range strings.SplitSeq(strings.TrimSuffix(choice, "}"), ",") {
		out = append(out, name+t)
	}
	return out
}

func (p *plan) add(word string, plans map[string]*plan, listed map[string]bool) error {
	name, how, explicit := strings.Cut(word, "=")
	e, ok := p.known[name]
	switch {
	case !ok || e.Forbidden:
		return errors.New("R4 has no such element")
	case e.Name == "id" || e.Name == "meta" || e.Name == "extension" || e.Name == "modifierExtension" || e.Name == "contained" || e.Name == "text" && p.def.Resource():
		return errors.New("this element is no matter of a list")
	}
	if _, twice := p.rules[name]; twice {
		return errors.New("it is there twice")
	}
	r := rule{element: e, treat: named[how]}
	if explicit {
		if !slices.Contains(fits[r.treat], e.Type) {
			return errors.New("the treatment " + how + " is not for " + e.Type)
		}
	} else {
		var err error
		if r.treat, err = treatmentOf(e, listed); err != nil {
			return err
		}
	}
	if !e.Primitive {
		r.sub = plans[e.Type]
	}
	p.rules[name] = r
	return nil
}
