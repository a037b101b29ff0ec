package authz

import (
	"slices"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent/law"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/consent/state"
)

// Lawful reports whether the law lets a policy permit q where the facts f hold, and
// the rule that bars it. It is the floor under every policy: the engine asks it beside the
// policy, so that no line of policy, whoever wrote it, opens what the law keeps shut.
// The operator's import is no disclosure. More facts never bar; it allocates nothing.
func Lawful(q Question, f Fact, states state.Set) (rule string, ok bool) {
	if len(q.Roles) == 1 && q.Roles[0] == Operator && q.Purpose == operating {
		return "", true
	}
	return law.Floor(asLaw(q, f, states))
}

// operating is the operator's purpose.
const operating = "HSYSADMIN"

// The roles that the law tells from the practice's own people.
const (
	exchange = "hie"
	proxy    = "proxy"
)

// disclosing are the actions that change nothing in the records that a consent is about: to sign and to revoke one are
// what the one to whom it was disclosed may do with it (42 CFR 2.14(c)).
var disclosing = map[Action]bool{ActionRead: true, ActionSign: true, ActionRevoke: true, ActionWitness: true}

// asLaw says in the words of the law what a question and its facts are.
func asLaw(q Question, f Fact, states state.Set) law.Request {
	r := law.Request{
		Purpose: q.Purpose, Recipient: law.Workforce, Write: !disclosing[q.Action],
		Record: law.Record{
			Part2: q.Labels.Any(label.Part2), Received: q.Labels.Any(label.Received), PsychNote: q.Labels.Any(label.PsychNote), CounselingNote: q.Labels.Any(label.CounselingNote),
			MinorConsented: q.Labels.Any(label.MinorConsented), MentalHealth: q.Labels.Any(label.PSY | label.MH | label.BH),
			SubstanceUse: q.Labels.Any(label.ETH | label.SUD | label.ETHUD | label.OPIOIDUD),
			Reproductive: q.Labels.Any(label.SEX | label.PREGNANT), GenderCare: q.Labels.Any(label.GDIS),
		},
		Program: f.Has(Program), Originator: f.Has(Originator), Self: f.Has(Self),
		Emergency: f.Has(Emergency), Exception: f.Has(Exception), Agreement: f.Has(Agreement), States: states,
	}
	switch {
	case slices.Contains(q.Roles, exchange):
		r.Recipient, r.OtherState = law.Exchange, true
	case slices.Contains(q.Roles, proxy) && (q.Purpose == "PATRQT" || q.Purpose == "FAMRQT"):
		r.Recipient = law.Parent
	}
	// The fact is that of the consent that the law asks for here, so that it counts as each kind that the record and
	// the purpose ask for.
	if f.Has(Consent) {
		r.Consents = law.Consents{
			TPO: true, Specific: true, Minor: true, Legal: part2.Proceeding(q.Purpose),
			Notes: r.Record.PsychNote, Counseling: r.Record.CounselingNote,
		}
	}
	r.Note.Supervising, r.Counseling.Training = f.Has(Supervising), f.Has(Supervising)
	return r
}

// Practice is what decides for one practice: its policy, and the law of the
// jurisdictions that it is under.
type Practice struct {
	Policy PolicyDecisionPoint
	States state.Set
}

// States is the law of the states that hold for the practice of g's caller.
func (e *Engine) States(g Grant) state.Set { return e.policies.Of(g.Caller().Tenant).States }

// permit lists the sets of facts under which the policy permits and the law does not bar.
func (p Practice) permit(q Question) ([]Fact, error) {
	sets, err := p.Policy.Permit(q)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, f := range sets {
		if _, ok := Lawful(q, f, p.States); ok {
			sets[n] = f
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	return sets[:n], nil
}

// Policies gives each practice its own; it is asked for every decision.
type Policies interface {
	Of(tenant int32) Practice
}

// everywhere is one policy for all practices.
type everywhere struct{ practice Practice }

func (e everywhere) Of(int32) Practice { return e.practice }
