package record

import (
	"context"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Origin is what the store knows of where a record comes from.
type Origin struct {
	Programs []fhir.ID // Part 2 programs
	Several  bool      // it is of several patients
}

// Supposed is a record that a question is about: one that exists, or one of which
// only the class is told.
type Supposed struct {
	Record Sealed // zero: there is none
	Origin Origin
	Type   fhir.ResourceType // without a Record
	Labels label.Set         // without a Record
}

// Weighing is a question whether consents of a patient let records be disclosed to somebody,
// with all that may be known for the answer. Everything in it was read by the one who asks.
type Weighing struct {
	Patient  fhir.Ref
	Supposed []Supposed
	Consents []Sealed
	// Attested says of Consents among them that were signed here whether the signatures cover what they say.
	Attested  map[fhir.ID]consent.Attested
	CareTeams []Sealed
	To        consent.Caller
	Purpose   string
	At        time.Time
}

// Weighed is the answer, as far as it comes from what the patient and her care teams say.
type Weighed struct {
	consent.Explanation
	Type   fhir.ResourceType
	Labels label.Set
	// Facts are those that hold between the recipient and the record: self, treating,
	// program, consent, unrestricted. Others would have to be assumed.
	Facts authz.Fact
	// Programs are the organizations whose records the Consents are about.
	Programs []fhir.ID
}

// Weigh answers w for each record that is supposed, over what the holder of gr may read and
// nothing else: what is hidden from her changes nothing in the answers. All that she is
// told of is disclosed, and recorded.
func (g *Gate) Weigh(ctx context.Context, gr authz.Grant, w Weighing) ([]Weighed, error) {
	all := slices.Concat(w.Consents, w.CareTeams)
	for _, s := range w.Supposed {
		if s.exists() {
			all = append(all, s.Record)
		}
	}
	if err := g.disclose(ctx, gr, "Consent", all...); err != nil {
		return nil, err
	}
	directives := make([]consent.Directive, 0, len(w.Consents))
	var programs []fhir.ID
	for _, s := range w.Consents {
		d, err := directive(ctx, s)
		if err != nil {
			return nil, err
		}
		d.Attested = w.Attested[d.Ref.ID]
		directives = append(directives, d)
		for _, o := range d.Organizations {
			if o.Type == "Organization" && !slices.Contains(programs, o.ID) {
				programs = append(programs, o.ID)
			}
		}
	}
	treating, err := w.treating(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Weighed, len(w.Supposed))
	for i, s := range w.Supposed {
		r, labels, err := s.record(ctx, w.Patient.ID)
		if err != nil {
			return nil, err
		}
		x := consent.Evaluate(directives, Labels, consent.Request{Record: r, Caller: w.To, Purpose: w.Purpose, At: w.At})
		out[i] = Weighed{Explanation: x, Type: r.Ref.Type, Labels: labels, Facts: w.facts(r, x) | treating, Programs: programs}
	}
	return out, nil
}

func (s Supposed) exists() bool { return vault.Head(s.Record).Ref != (fhir.Ref{}) }

// record is what a consent may ask of what is supposed. Of a class of records it is not
// known what is in them.
func (s Supposed) record(ctx context.Context, patient fhir.ID) (r consent.Record, labels label.Set, err error) {
	r, labels = consent.Record{Ref: fhir.Ref{Type: s.Type}, Patient: patient}, s.Labels
	if s.exists() {
		h := vault.Head(s.Record)
		if h.Deleted {
			return r, labels, outcome.New(outcome.Deleted, "the resource was deleted")
		}
		r.Ref, r.Patient, labels, r.Codes = h.Ref, h.Patient, h.Labels, []consent.Code{}
		content, err := opened(ctx, s.Record)
		if err != nil {
			return r, labels, err
		}
		for system, code := range content.Codings() {
			r.Codes = append(r.Codes, consent.Code{System: system, Code: code})
		}
		for _, l := range content.References() {
			if ref, ok := codec.LocalRef(l.Node.Text); ok {
				r.References = append(r.References, ref)
			}
		}
	}
	r.Programs, r.Several, r.Labels = s.Origin.Programs, s.Origin.Several, uint32(labels)
	r.Source = consent.Source{
		Part2: labels.Any(label.Part2 | label.Received), PsychotherapyNote: labels.Any(label.PsychNote),
		CounselingNote: labels.Any(label.CounselingNote), MinorConsented: labels.Any(label.MinorConsented),
	}
	return r, labels, nil
}

func directive(ctx context.Context, s Sealed) (consent.Directive, error) {
	r, err := opened(ctx, s)
	if err == nil {
		var d consent.Directive
		if d, err = codec.ConsentDirective(r); err == nil {
			return d, nil
		}
	}
	return consent.Directive{}, outcome.New(outcome.Internal, "the server failed; its log says why").Because(err)
}

func (w Weighing) facts(r consent.Record, x consent.Explanation) (f authz.Fact) {
	if w.To.User.Type == "Patient" && w.To.User == w.Patient && r.Patient == w.Patient.ID && !r.Several {
		f |= authz.Self
	}
	if len(r.Programs) > 0 && !slices.ContainsFunc(r.Programs, func(p fhir.ID) bool { return !slices.Contains(w.To.Organizations, p) }) {
		f |= authz.Program
	}
	if x.Permitted {
		f |= authz.Consent
	}
	if !x.Restricted {
		f |= authz.Unrestricted
	}
	return f
}

// treating is the fact of that name, as far as CareTeams say it.
func (w Weighing) treating(ctx context.Context) (authz.Fact, error) {
	for _, s := range w.CareTeams {
		content, err := opened(ctx, s)
		if err != nil {
			return 0, err
		}
		v, err := codec.CareTeam(content)
		if err != nil || v.Status != "active" || v.Patient != w.Patient || !during(v.Period, w.At) {
			continue // who cannot be understood to treat her does not
		}
		for _, p := range v.Participants {
			if p.Member == w.To.User && p.Member.Type == "Practitioner" && during(p.Period, w.At) {
				return authz.Treating, nil
			}
		}
	}
	return 0, nil
}

func during(p consent.Period, at time.Time) bool {
	return !at.Before(p.Start) && (p.End.IsZero() || at.Before(p.End))
}
