package operation

import (
	"context"
	"strings"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/consent/exception"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// documentException answers POST $document-exception: the privacy officer writes
// down an exception of the law, with all that the law asks for. It then counts
// for whoever receives by it, for its purposes, records and time.
func (s *Service) documentException(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := s.engine.Oversee(rq.Grant); err != nil {
		return nil, err
	}
	g, err := s.engine.Extend(rq.Grant, fhir.Read, "Patient")
	if err != nil {
		return nil, err
	}
	a, err := arguments(rq, "kind", "purpose", "recipient", "patient", "originator", "program", "type", "record", "start", "end", "documentation")
	if err != nil {
		return nil, err
	}
	c := g.Caller()
	f := faults{args: a}
	st := exception.Statement{
		Kind: f.code("kind"), Purposes: a.codes("purpose"), By: c.User, Of: c.Organizations,
		Recipient: f.reference("recipient", "Practitioner", "Organization"), Originator: f.reference("originator", "Practitioner"),
		Patient: f.reference("patient", "Patient").ID, Program: f.reference("program", "Organization").ID,
		Starts: c.Now, Documentation: a.parts["documentation"],
	}
	for _, t := range a.codes("type") {
		st.Types = append(st.Types, fhir.ResourceType(t))
	}
	for _, r := range a.texts["record"] {
		ref, ok := fhir.ParseRef(r)
		if !ok {
			f.add("record", "this is no reference to a resource")
		}
		st.Records = append(st.Records, ref)
	}
	for name, at := range map[string]*time.Time{"start": &st.Starts, "end": &st.Ends} {
		if v := f.text(name); v != "" {
			lo, hi, ok := search.Instants(v)
			if !ok {
				f.add(name, "this is no dateTime")
			}
			if *at = lo; name == "end" {
				*at = hi
			}
		}
	}
	for _, x := range exception.Faults(st, c.Now) {
		f.add(x.Parameter, x.Text)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	reach, err := s.engine.Reach(ctx, g, fhir.Read, "Patient", "Organization")
	if err != nil {
		return nil, err
	}
	e := record.Exception{ID: record.NewID(), Statement: st.Narrowed(), Recorded: c.Now}
	if err := s.store.DocumentException(ctx, reach, e); err != nil {
		return nil, err
	}
	return respond.Exceptions([]record.Exception{e}), nil
}

// endException answers POST $end-exception.
func (s *Service) endException(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	if err := s.engine.Oversee(rq.Grant); err != nil {
		return nil, err
	}
	a, err := arguments(rq, "exception")
	if err != nil {
		return nil, err
	}
	f := faults{args: a}
	id := f.text("exception")
	if id == "" {
		f.add("exception", "name the exception by its id")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if err := s.store.EndException(ctx, rq.Grant, id); err != nil {
		return nil, err
	}
	return respond.Done(), nil
}

// exceptions answers GET $exceptions, for who oversees access.
func (s *Service) exceptions(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	patient, err := s.overseen(ctx, rq)
	if err != nil {
		return nil, err
	}
	list, err := s.store.Exceptions(ctx, patient)
	if err != nil {
		return nil, err
	}
	if _, err := s.gate.Release(ctx, rq.Grant, ""); err != nil {
		return nil, err
	}
	return respond.Exceptions(list), nil
}

// faults collects what is wrong with the arguments, each with its path.
type faults struct {
	args
	list []outcome.Issue
}

func (f *faults) add(parameter, why string) {
	name, part, nested := strings.Cut(parameter, ".")
	path := "Parameters.parameter.where(name='" + name + "')"
	if nested {
		path += ".part.where(name='" + part + "')"
	}
	f.list = append(f.list, outcome.Issue{Category: outcome.Invalid, Path: path, Text: why})
}

func (f *faults) err() error {
	if f.list == nil {
		return nil
	}
	return &outcome.Error{Issues: f.list}
}

// text is the one value of an argument, "" where there is none or another number.
func (f *faults) text(name string) string {
	v, err := f.args.text(name)
	if err != nil {
		f.add(name, "it may stand once")
	}
	return strings.TrimSpace(v)
}

// code is a code, without the system that a Coding may bring.
func (f *faults) code(name string) string {
	v := f.text(name)
	return v[strings.LastIndexByte(v, '|')+1:]
}

// reference is a literal reference to a resource of one of the types; zero without one.
func (f *faults) reference(name string, types ...fhir.ResourceType) fhir.Ref {
	v := f.text(name)
	if v == "" {
		return fhir.Ref{}
	}
	ref, _ := fhir.ParseRef(v)
	for _, t := range types {
		if ref.Type == t {
			return ref
		}
	}
	f.add(name, "this is no reference to a resource of the right type")
	return fhir.Ref{}
}

// codes are the values of an argument that may stand several times.
func (a args) codes(name string) (out []string) {
	for _, v := range a.texts[name] {
		out = append(out, v[strings.LastIndexByte(v, '|')+1:])
	}
	return out
}
