package operation

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// Limits bound a declared emergency.
type Limits struct {
	Session time.Duration // for how long it holds, at most and unless less is asked for
	SignIn  time.Duration // how long ago the one who declares it may have signed in
}

// DefaultLimits are those of a server that is told nothing else.
var DefaultLimits = Limits{Session: time.Hour, SignIn: 5 * time.Minute}

// breakGlass answers POST Patient/$break-glass: a clinician declares a bona fide
// medical emergency of one patient (42 CFR 2.51, 45 CFR 164.506(c)). What that
// opens is up to the policy; what the law has documented is stored with it, and
// the privacy officer finds a Communication and a Task for review.
func (s *Service) breakGlass(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	g, err := s.engine.Extend(rq.Grant, fhir.Read, "Patient")
	if err != nil {
		return nil, err
	}
	c := g.Caller()
	if c.Purpose != "ETREAT" && c.Purpose != "BTG" || c.User.Type != "Practitioner" {
		return nil, authz.ErrDenied
	}
	if c.SignedIn.IsZero() || c.SignedIn.After(c.Now.Add(time.Minute)) || c.Now.Sub(c.SignedIn) > s.limits.SignIn {
		if err := s.gate.Refuse(ctx, rq.Grant, "Patient"); err != nil {
			return nil, err
		}
		return nil, outcome.New(outcome.SignIn, "sign in again: an emergency is declared within "+minutes(s.limits.SignIn)+" of it")
	}
	e, err := s.emergency(rq, c)
	if err != nil {
		return nil, err
	}
	const tries = 4
	for try := 1; ; try++ {
		patient, err := s.engine.Plan(ctx, g, fhir.Read, "Patient")
		if err != nil {
			return nil, err
		}
		var cleared []record.Cleared
		for _, root := range []*element.Node{notice(e), review(e)} {
			content, err := codec.Check(root)
			if err != nil {
				return nil, err
			}
			x, err := s.gate.Admit(ctx, rq.Grant, record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: content.Type, ID: fhir.ID(record.NewID())}, Content: content, Oversight: true})
			if err != nil {
				return nil, err
			}
			cleared = append(cleared, x)
		}
		err = s.store.DeclareEmergency(ctx, cleared, patient, e)
		if err == nil {
			return respond.Emergency(e), nil
		}
		if try == tries || !errors.Is(err, record.ErrReplan) {
			return nil, err
		}
	}
}

// emergency reads what is declared.
func (s *Service) emergency(rq *respond.Request, c authz.Caller) (record.Emergency, error) {
	a, err := arguments(rq, "patient", "identifier", "reason", "nature", "consentUnobtainable", "recipient", "facility", "discloser", "minutes")
	if err != nil {
		return record.Emergency{}, err
	}
	f := faults{args: a}
	e := record.Emergency{
		ID: record.NewID(), Member: c.User, Purpose: c.Purpose,
		Identifier: f.text("identifier"), Reason: f.code("reason"), Nature: f.text("nature"), Recipient: f.text("recipient"), Facility: f.text("facility"), Discloser: f.text("discloser"),
		Starts: c.Now,
	}
	ref, _ := fhir.ParseRef(f.text("patient"))
	e.Patient = ref.ID
	switch {
	case (f.text("patient") == "") == (e.Identifier == ""):
		f.add("patient", "name the patient, by a reference or by an identifier")
	case e.Identifier == "" && ref.Type != "Patient":
		f.add("patient", "this is no reference to a Patient")
	}
	if e.Reason != "ETREAT" && e.Reason != "BTG" {
		f.add("reason", "a code of v3-ActReason is required: ETREAT or BTG")
	}
	for name, why := range map[string]string{
		"nature":    "42 CFR 2.51(c)(4): the nature of the emergency is required",
		"recipient": "42 CFR 2.51(c)(1): the name of the medical personnel who receive is required",
		"facility":  "42 CFR 2.51(c)(1): their affiliation with a facility is required",
		"discloser": "42 CFR 2.51(c)(2): the name of who makes the disclosure is required",
	} {
		if f.text(name) == "" {
			f.add(name, why)
		}
	}
	if f.text("consentUnobtainable") != "true" {
		f.add("consentUnobtainable", "42 CFR 2.51(a)(1): it has to be true that the patient's consent cannot be obtained before")
	}
	length := s.limits.Session
	if text := f.text("minutes"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || time.Duration(n)*time.Minute > s.limits.Session {
			f.add("minutes", "an emergency holds for 1 minute to "+minutes(s.limits.Session))
		}
		length = time.Duration(n) * time.Minute
	}
	e.Ends = e.Starts.Add(length)
	return e, f.err()
}

func minutes(d time.Duration) string { return strconv.Itoa(int(d/time.Minute)) + " minutes" }

// systemSession is that of identifiers of declared emergencies.
const systemSession = fhir.Canonical + "/sid/emergency"

// notice tells the privacy officer that there is an emergency, and nothing of the patient.
func notice(e record.Emergency) *element.Node {
	return object(
		text("resourceType", "Communication"), text("status", "completed"), text("priority", "urgent"), text("sent", instant(e.Starts)),
		field("recipient", many(object(text("display", "privacy officer")))),
		field("about", many(session(e))),
		field("payload", many(object(text("contentString", "An emergency has been declared. Its documentation is in the answer of $emergencies, and a Task asks for its review.")))),
	)
}

// review asks the privacy officer to look at it afterwards.
func review(e record.Emergency) *element.Node {
	return object(
		text("resourceType", "Task"), text("status", "requested"), text("intent", "order"), text("priority", "urgent"),
		text("description", "Review the declared emergency: was it one, and what was disclosed?"),
		field("focus", session(e)), text("authoredOn", instant(e.Starts)),
		field("owner", object(text("display", "privacy officer"))),
	)
}

func session(e record.Emergency) *element.Node {
	return object(field("identifier", object(text("system", systemSession), text("value", e.ID))))
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func object(fields ...element.Field) *element.Node { return element.NewObject(fields...) }

func field(name string, v *element.Node) element.Field { return element.Field{Name: name, Value: v} }

func text(name, s string) element.Field { return field(name, element.NewString(s)) }

func many(items ...*element.Node) *element.Node {
	return &element.Node{Kind: element.Array, Items: items}
}

// endEmergency answers POST Patient/$end-emergency: the caller's own emergency of
// a patient, or the session that is named, which the privacy officer may end, too.
func (s *Service) endEmergency(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	oversees := s.engine.Oversee(rq.Grant) == nil
	if c := rq.Grant.Caller(); !oversees && c.Purpose != "ETREAT" && c.Purpose != "BTG" {
		return nil, authz.ErrDenied
	}
	if _, err := s.engine.Extend(rq.Grant, fhir.Read, "Patient"); err != nil {
		return nil, err
	}
	a, err := arguments(rq, "session", "patient")
	if err != nil {
		return nil, err
	}
	f := faults{args: a}
	id, ref := f.text("session"), fhir.Ref{}
	if p := f.text("patient"); p != "" {
		ref, _ = fhir.ParseRef(p)
	}
	if (id == "") == (ref.Type != "Patient") {
		f.add("session", "name the session, or the patient by a reference")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if id != "" {
		ref = fhir.Ref{}
	}
	if err := s.store.EndEmergency(ctx, rq.Grant, id, ref.ID, oversees); err != nil {
		return nil, err
	}
	return respond.Done(), nil
}

// emergencies answers GET $emergencies, for who oversees access.
func (s *Service) emergencies(ctx context.Context, rq *respond.Request) (respond.Response, error) {
	patient, err := s.overseen(ctx, rq)
	if err != nil {
		return nil, err
	}
	list, err := s.store.Emergencies(ctx, patient)
	if err != nil {
		return nil, err
	}
	if _, err := s.gate.Release(ctx, rq.Grant, "Patient"); err != nil {
		return nil, err
	}
	return respond.Emergencies(list), nil
}

// overseen is what an overseer may read of Patients; whoever is none is refused.
func (s *Service) overseen(ctx context.Context, rq *respond.Request) (authz.Restriction, error) {
	if err := s.engine.Oversee(rq.Grant); err != nil {
		return authz.Restriction{}, err
	}
	if _, err := arguments(rq); err != nil {
		return authz.Restriction{}, err
	}
	g, err := s.engine.Extend(rq.Grant, fhir.Read, "Patient")
	if err != nil {
		return authz.Restriction{}, err
	}
	return s.engine.Plan(ctx, g, fhir.Read, "Patient")
}
