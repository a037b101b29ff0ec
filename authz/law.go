package authz

import (
	"math/bits"
	"slices"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent/hipaa"
	"github.com/cloister-health/cloister/consent/law"
	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/consent/state"
)

// Lawful reports whether the law lets a policy permit q where the facts f hold, and
// the rule that bars it. It is the floor under every policy: the engine asks it beside the
// policy, so that no line of policy, whoever wrote it, opens what the law keeps shut.
// The operator's import is no disclosure. More facts never bar; it allocates nothing.
func Lawful(q Question, f Fact, states state.Set) (rule string, ok bool) {
	if q.Action == ActionMask {
		if rule := untold(q.Labels); rule != "" {
			return rule, false
		}
	}
	if len(q.Roles) == 1 && q.Roles[0] == Operator && q.Purpose == operating {
		return "", true
	}
	return law.Floor(asLaw(q, f, states))
}

// untold is the rule by which nobody who does not see a record with these labels is
// told that there is one, whatever the facts: it is theirs to know who see it.
func untold(s label.Set) string {
	switch {
	case s.Any(label.Part2 | label.Received):
		return "S4" // 42 CFR 2.13(c)
	case s.Any(label.Notes):
		return "P21"
	case s.Any(label.MinorConsented):
		return "S27" // 42 CFR 2.14(b)
	case s.Any(label.Source):
		return "L45"
	}
	return ""
}

// operating is the operator's purpose.
const operating = "HSYSADMIN"

// disclosing are the actions that change nothing in the records that a consent is about: to sign and to revoke one are
// what the one to whom it was disclosed may do with it (42 CFR 2.14(c)).
var disclosing = map[Action]bool{ActionRead: true, ActionMask: true, ActionSign: true, ActionRevoke: true, ActionWitness: true}

// asLaw says in the words of the law what a question and its facts are.
func asLaw(q Question, f Fact, states state.Set) law.Request {
	r := law.Request{
		Purpose: q.Purpose, Recipient: lawfulRecipient(q.Roles, q.Purpose), Write: !disclosing[q.Action],
		Machine: slices.Contains(q.Roles, Assistant),
		Record: law.Record{
			Part2: q.Labels.Any(label.Part2), Received: q.Labels.Any(label.Received), PsychNote: q.Labels.Any(label.PsychNote), CounselingNote: q.Labels.Any(label.CounselingNote),
			MinorConsented: q.Labels.Any(label.MinorConsented), MentalHealth: q.Labels.Any(label.PSY | label.MH | label.BH),
			SubstanceUse: q.Labels.Any(label.ETH | label.SUD | label.ETHUD | label.OPIOIDUD),
			Reproductive: q.Labels.Any(label.SEX | label.PREGNANT), GenderCare: q.Labels.Any(label.GDIS),
		},
		Program: f.Has(Program), Originator: f.Has(Originator), Self: f.Has(Self),
		Emergency: f.Has(Emergency), Exception: f.Has(Exception), Agreement: f.Has(Agreement), States: states,
	}
	r.OtherState = r.Recipient.Outside() // nobody says in which state an outsider is
	// The fact is that of the consent that the law asks for here, so that it counts as each kind that record, purpose and
	// caller ask for, and as no other.
	if f.Has(Consent) {
		proceeding, research := part2.Proceeding(q.Purpose), part2.ForStudy(q.Purpose)
		r.Consents = law.Consents{
			TPO: !proceeding && !research, Specific: !proceeding && !research, Minor: true, Legal: proceeding, Research: research,
			Notes: r.Record.PsychNote, Counseling: r.Record.CounselingNote, Machine: r.Machine,
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
	return LawfulSets(q, sets, p.States), nil
}

// LawfulSets gives, for the minimal sets of facts under which a policy permits q, those under which policy and law do. What
// federal law bars goes, because a policy names the facts that federal law asks for. A policy does not know where a practice
// is: what only the law of its states bars stays, with the least further facts that lift it, such as the patient's
// consent. The result is nil for none, and may share its array with sets.
func LawfulSets(q Question, sets []Fact, states state.Set) []Fact {
	out := sets[:0]
	var asked []Fact // under which the law of states permits, too
	for _, f := range sets {
		switch {
		case lawful(q, f, states):
			out = append(out, f)
		case lawful(q, f, nil):
			asked = append(asked, lifting(q, f, states)...)
		}
	}
	slices.SortStableFunc(asked, func(a, b Fact) int { return bits.OnesCount16(uint16(a)) - bits.OnesCount16(uint16(b)) })
	for _, f := range asked {
		if !slices.ContainsFunc(out, f.Has) {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func lawful(q Question, f Fact, states state.Set) bool {
	_, ok := Lawful(q, f, states)
	return ok
}

// lifts are the facts that lift a bar of the law of states, of those that can hold: a patient asks in that role, and an
// emergency is for a purpose of its own.
func lifts(q Question) []Fact {
	out := []Fact{Consent, Exception}
	if slices.ContainsFunc(q.Roles, func(r string) bool { c := RecipientOf([]string{r}); return c == Individual || c == Representative }) {
		out = append(out, Self)
	}
	if hipaa.Emergency(q.Purpose) {
		out = append(out, Emergency)
	}
	return out
}

// lifting lists the sets of facts, f and the least besides, under which the law of states does not bar q either; fewest
// facts first.
func lifting(q Question, f Fact, states state.Set) (out []Fact) {
	lifts, all := lifts(q), f
	for _, x := range lifts {
		all |= x
	}
	if !lawful(q, all, states) {
		return nil
	}
	for n := 1; n <= len(lifts); n++ {
		for choice := range uint(1) << len(lifts) {
			if bits.OnesCount(choice) != n {
				continue
			}
			more := f
			for i, x := range lifts {
				if choice>>i&1 != 0 {
					more |= x
				}
			}
			if !slices.ContainsFunc(out, more.Has) && lawful(q, more, states) {
				out = append(out, more)
			}
		}
	}
	return out
}

// Policies gives each practice its own; it is asked for every decision.
type Policies interface {
	Of(tenant int32) Practice
}

// everywhere is one policy for all practices.
type everywhere struct{ practice Practice }

func (e everywhere) Of(int32) Practice { return e.practice }
