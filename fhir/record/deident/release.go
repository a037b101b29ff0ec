package deident

import (
	"bytes"
	"context"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Release is one release in the making. It is made in two passes over the same
// resources: [Release.Survey] finds which of them can be in it, [Release.Settle] decides,
// and [Release.Transform] makes what is released. References can only be rewritten, and small
// groups only be seen, when all that is in the release is known.
//
// Survey and Settle are called by one goroutine; Transform by any number.
type Release struct {
	profile        Profile
	config         Config
	plans          map[string]*plan
	codes          map[string]map[string]bool
	questionnaires map[string]map[string]bool
	settled        bool
	tally          *tally // Expert: who and what was surveyed
	report         Report
}

// Begin begins a release. The error says what the profile asks for and the configuration has not.
func Begin(p Profile, c Config) (*Release, error) {
	if err := c.check(p); err != nil {
		return nil, err
	}
	r := &Release{profile: p, config: c, plans: allowed().harbor, codes: sets(c.Codes), questionnaires: sets(c.Questionnaires),
		report: Report{Profile: p.String(), LeftOut: map[fhir.ResourceType]map[Reason]int{}}}
	switch p.Method {
	case LimitedSet:
		r.plans = allowed().limited
	case Expert:
		r.tally = newTally()
	}
	return r, nil
}

func sets(lists map[string][]string) map[string]map[string]bool {
	out := make(map[string]map[string]bool, len(lists))
	for name, list := range lists {
		out[name] = make(map[string]bool, len(list))
		for _, x := range list {
			out[name][x] = true
		}
	}
	return out
}

// Profile is the profile of the release.
func (r *Release) Profile() Profile { return r.profile }

// Survey sees whether resources can be in the release, and makes those that can its
// members. A resource that was not read under the grant of the release fails the call.
func (r *Release) Survey(ctx context.Context, in ...vault.Sealed) error {
	if r.settled {
		return errSettled
	}
	for _, s := range in {
		h := vault.Head(s)
		m, err := r.make(ctx, s, "survey")
		if err != nil {
			return err
		}
		if m.left != "" {
			r.report.leave(h.Ref.Type, m.left)
			continue
		}
		if err := r.config.Surrogates.Admit(ctx, h.Ref, m.patient); err != nil {
			return err
		}
		r.report.Members++
		if r.tally != nil {
			r.tally.add(m)
		}
	}
	return nil
}

// Settle ends the survey and decides what is left out for being rare. It says what was.
func (r *Release) Settle() Report {
	if r.tally != nil && !r.settled {
		r.report.Determined = r.tally.settle(r.config.Expert.K)
	}
	r.settled = true
	return r.report
}

// Transform makes the resource of the release; ok is false for one that is not in it.
func (r *Release) Transform(ctx context.Context, s vault.Sealed) (d Deidentified, ok bool, err error) {
	if !r.settled {
		return Deidentified{}, false, errUnsettled
	}
	ref := vault.Head(s).Ref
	member, ok, err := r.member(ctx, ref)
	if err != nil || !ok {
		return Deidentified{}, false, err
	}
	m, err := r.make(ctx, s, member.ID)
	if err != nil || m.left != "" {
		return Deidentified{}, false, err
	}
	if m.patient != member.Patient || member.Counted != nil && !bytes.Equal(member.Counted, r.found(ref, m).Counted) {
		return Deidentified{}, false, ErrChanged
	}
	text := m.root.AppendJSON(nil)
	return Deidentified{ref: fhir.Ref{Type: ref.Type, ID: member.ID}, of: r, body: func() []byte { return append([]byte(nil), text...) }}, true, nil
}

// member finds a member whose patient was not left out. A surrogate that is none fails the release.
func (r *Release) member(ctx context.Context, ref fhir.Ref) (Member, bool, error) {
	if !r.settled { // nobody knows yet
		return Member{}, false, nil
	}
	m, ok, err := r.config.Surrogates.Member(ctx, ref)
	if err != nil || !ok || r.tally != nil && r.tally.suppressed[m.Patient] {
		return Member{}, false, err
	}
	if !m.ID.Valid() || m.ID == ref.ID || m.ID == m.Patient {
		return Member{}, false, errSurrogate
	}
	return m, true, nil
}

// made is what became of one resource.
type made struct {
	patient fhir.ID
	root    *element.Node
	left    Reason
	cells   map[string]bool
	like    string // of a Patient: what its quasi-identifiers are
}

func leftFor(r Reason) made { return made{left: r} }

// notes are what never leaves in a de-identified set.
const notes = label.PsychNote | label.CounselingNote

func (r *Release) make(ctx context.Context, s vault.Sealed, own fhir.ID) (made, error) {
	h := vault.Head(s)
	if !vault.ReadFor(s, r.config.Grant) {
		return made{}, errGrant
	}
	pl := r.plans[string(h.Ref.Type)]
	patient := h.Patient
	if h.Ref.Type == "Patient" {
		patient = h.Ref.ID
	}
	switch {
	case h.Deleted:
		return leftFor(Tombed), nil
	case h.Labels.Any(notes):
		return leftFor(Note), nil
	case pl == nil, pl.shared && r.profile.Method == Expert: // who treats whom is no less telling than who somebody is
		return leftFor(Type), nil
	case patient == "" && !pl.shared:
		return leftFor(Patient), nil
	case r.settled && r.tally != nil && r.tally.suppressed[patient]:
		return leftFor(Small), nil
	}
	w := &walk{ctx: ctx, release: r, plans: r.plans, cells: map[string]bool{}}
	w.person = person{method: r.profile.Method, now: r.config.Now, owned: patient != ""}
	if patient != "" {
		left, err := r.know(ctx, patient, h.Ref.Type, &w.person)
		if err != nil || left != "" {
			return leftFor(left), err
		}
	}
	w.threshold = r.tally != nil && h.Ref.Type != "Patient"
	body, err := vault.Open(ctx, s)
	if err != nil {
		return made{}, err
	}
	parsed, err := codec.Parse(body)
	if err != nil { // what is wrong with it is nobody's business here
		return leftFor(Content), nil //nolint:nilerr // it is left out for that
	}
	url := parsed.Root.Get("questionnaire").String()
	w.questions = r.questionnaires[unversioned(url)]
	out := w.resource(parsed.Root, own)
	if w.err != nil || w.left != "" {
		return leftFor(w.left), w.err
	}
	m := made{patient: patient, root: out, cells: w.cells}
	if r.tally != nil && h.Ref.Type == "Patient" {
		_, m.like = generalise(out, parsed.Root, *r.config.Expert, false)
		m.root, _ = generalise(out, parsed.Root, *r.config.Expert, r.settled && r.tally.generalised[patient])
		m.cells = nil // its groups are counted as a whole
	}
	if _, err := codec.Check(m.root); err != nil {
		return leftFor(Content), nil //nolint:nilerr // it is left out for that
	}
	return m, nil
}

// know finds what the treatment of a patient's dates depends on, and whether she wants to be in the release.
func (r *Release) know(ctx context.Context, patient fhir.ID, t fhir.ResourceType, p *person) (Reason, error) {
	s, ok, err := r.config.Subjects.Subject(ctx, patient)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return Patient, nil
	case !deidentify.MayInclude(s.OptedOut):
		return OptedOut, nil
	}
	if born, _, ok := day(s.Birth); ok {
		p.born = born
	}
	if r.profile.Method != Expert || t == "Patient" { // her year of birth is told in bands, not moved
		return "", nil
	}
	days := r.config.Expert.Days
	if p.shift, err = r.config.Expert.Shifts.Shift(ctx, patient, days); err != nil {
		return "", err
	}
	if p.shift < -days || p.shift > days {
		return "", errShift
	}
	p.moved = true
	return "", nil
}

// rare reports whether a code is left out for being rare.
func (r *Release) rare(cell string) bool { return r.settled && r.tally != nil && r.tally.rare[cell] }

// labels are the security labels of every resource of the release.
func (r *Release) labels() *element.Node {
	of := func(system, code string) *element.Node {
		return element.NewObject(
			element.Field{Name: "system", Value: element.NewString("http://terminology.hl7.org/CodeSystem/" + system)},
			element.Field{Name: "code", Value: element.NewString(code)},
		)
	}
	return listOf(of("v3-ObservationValue", r.profile.Label), of("v3-ActCode", "NORELINK"))
}
