package deident

import (
	"context"
	"crypto/rand"
	"math/big"
	"sync"

	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/fhir"
)

// Random keeps the surrogates and the date shifts of one release in memory. All are
// drawn at random, none is derived from what it stands for (45 CFR 164.514(c)), and all
// are gone with it: nobody finds a resource again.
type Random struct {
	mu      sync.Mutex
	members map[fhir.Ref]Member
	shifts  map[fhir.ID]int
}

// NewRandom makes surrogates and shifts for one release.
func NewRandom() *Random {
	return &Random{members: map[fhir.Ref]Member{}, shifts: map[fhir.ID]int{}}
}

// Admit makes a resource a member.
func (r *Random) Admit(_ context.Context, ref fhir.Ref, patient fhir.ID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.members[ref]; !there {
		r.members[ref] = Member{ID: fhir.ID(deidentify.Code()), Patient: patient}
	}
	return nil
}

// Member finds a member.
func (r *Random) Member(_ context.Context, ref fhir.Ref) (Member, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.members[ref]
	return m, ok, nil
}

// Shift draws the shift of a patient, once; it is never none.
func (r *Random) Shift(_ context.Context, patient fhir.ID, within int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if days, ok := r.shifts[patient]; ok {
		return days, nil
	}
	days, err := draw(within)
	if err != nil {
		return 0, err
	}
	r.shifts[patient] = days
	return days, nil
}

// draw draws a number of days in -within to within that is not none.
func draw(within int) (int, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(2*within)))
	if err != nil {
		return 0, err
	}
	days := int(n.Int64()) - within
	if days >= 0 {
		days++
	}
	return days, nil
}
