package deident

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"regexp"
	"slices"

	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// A release of a whole practice is made in pieces, by several programs and at several moments. Each
// surveys a page with [Release.Examine], and whoever keeps the release keeps what was found. A [Tally] of all
// of it settles; with its [Verdict], [Resume] goes on to make what is released, a page at a time.

// Found is a resource that can be in a release.
type Found struct {
	Ref     fhir.Ref
	Patient fhir.ID  // whose record it is, or ""
	Like    string   // Expert, of a Patient: what her quasi-identifiers are
	Cells   []string // Expert: the codes that are counted, sorted
	Counted []byte   // Expert: a digest of all that is counted
}

// Examine is [Release.Survey] of one page of a release that is made in pieces: it gives what can be in the
// release and why what cannot is left out, and keeps nothing.
func (r *Release) Examine(ctx context.Context, in ...vault.Sealed) ([]Found, Report, error) {
	out, report := make([]Found, 0, len(in)), Report{Profile: r.profile.String(), LeftOut: map[fhir.ResourceType]map[Reason]int{}}
	if r.settled {
		return nil, report, errSettled
	}
	for _, s := range in {
		ref := vault.Head(s).Ref
		m, err := r.make(ctx, s, "survey")
		if err != nil {
			return nil, report, err
		}
		if m.left != "" {
			report.leave(ref.Type, m.left)
			continue
		}
		report.Members++
		out = append(out, r.found(ref, m))
	}
	return out, report, nil
}

func (r *Release) found(ref fhir.Ref, m made) Found {
	f := Found{Ref: ref, Patient: m.patient}
	if r.tally == nil || m.patient == "" {
		return f
	}
	f.Like, f.Cells = m.like, slices.Sorted(maps.Keys(m.cells))
	h := sha256.New()
	for _, s := range append([]string{string(m.patient), m.like}, f.Cells...) {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s)))) // never fails (hash.Hash)
		_, _ = h.Write([]byte(s))
	}
	f.Counted = h.Sum(nil)
	return f
}

// Add adds what a piece reports to r.
func (r *Report) Add(piece Report) {
	r.Profile = piece.Profile
	r.Members += piece.Members
	for t, why := range piece.LeftOut {
		for reason, n := range why {
			if r.LeftOut == nil {
				r.LeftOut = map[fhir.ResourceType]map[Reason]int{}
			}
			if r.LeftOut[t] == nil {
				r.LeftOut[t] = map[Reason]int{}
			}
			r.LeftOut[t][reason] += n
		}
	}
}

// Verdict is what an expert's determination leaves out of a release. It is empty under every other profile.
type Verdict struct {
	Suppressed  map[fhir.ID]bool // patients who are not in it
	Generalised map[fhir.ID]bool // patients without quasi-identifiers
	Rare        map[string]bool  // codes, as in [Found.Cells]
}

// Tally counts what the pieces of one survey found.
type Tally struct {
	t *tally
	k int
}

// NewTally begins a count for a determination.
func NewTally(k int) *Tally { return &Tally{newTally(), max(k, MinK)} }

// Patient counts a patient of whom something is in the release. like is that of the Patient, "" where there is none.
func (t *Tally) Patient(id fhir.ID, like string) { t.t.add(made{patient: id, like: like}) }

// Cell counts a code of a patient who was counted. One that is counted twice counts once.
func (t *Tally) Cell(cell string, patient fhir.ID) {
	t.t.cell(cell, t.t.number(patient))
}

// Settle decides.
func (t *Tally) Settle() (Verdict, *Determined) {
	out := t.t.settle(t.k)
	return Verdict{Suppressed: t.t.suppressed, Generalised: t.t.generalised, Rare: t.t.rare}, out
}

// Resume goes on with a release that was settled.
func Resume(p Profile, c Config, v Verdict) (*Release, error) {
	r, err := Begin(p, c)
	if err != nil {
		return nil, err
	}
	r.settled = true
	if r.tally != nil {
		r.tally.suppressed, r.tally.generalised, r.tally.rare = v.Suppressed, v.Generalised, v.Rare
	}
	return r, nil
}

// mention is a reference as the store writes it.
var mention = regexp.MustCompile(`"reference":\s*"([A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})"`)

// Mentions lists what resources refer to, so that whoever keeps the members can look for all of it at once. It may
// miss some: they are looked for one by one.
func Mentions(ctx context.Context, in ...vault.Sealed) ([]fhir.Ref, error) {
	seen := map[fhir.Ref]bool{}
	var out []fhir.Ref
	for _, s := range in {
		body, err := vault.Open(ctx, s)
		if err != nil {
			return nil, err
		}
		for _, m := range mention.FindAllSubmatch(body, -1) {
			if ref, ok := fhir.ParseRef(string(m[1])); ok && !seen[ref] {
				seen[ref] = true
				out = append(out, ref)
			}
		}
	}
	return out, nil
}

// NewSurrogate draws the id of a resource in a release.
func NewSurrogate() fhir.ID { return fhir.ID(deidentify.Code()) }

// NewShift draws the days by which a patient's dates are moved: -within to within, and never none.
func NewShift(within int) (int, error) { return draw(within) }
