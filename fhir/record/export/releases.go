package export

import (
	"context"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
)

// Releases keeps the keys of de-identified releases, and what their surveys counted, apart from the records
// (45 CFR 164.514(c)). A release that was begun is written by whoever has taken its newest turn: what
// an older one writes is [ErrOver]. Whatever is written twice is there once.
type Releases interface {
	// Begin begins a release, before anybody can have a turn with it.
	Begin(ctx context.Context, release string, tenant int32, expires time.Time) error
	// Enter takes a turn. A later round forgets what the rounds before it found. There is none with what was erased.
	Enter(ctx context.Context, k Key, tenant int32, round int) error
	// Survey keeps what a piece of the release can have, under a surrogate that is drawn once for each resource. What was
	// counted otherwise when the same piece was surveyed before is [ErrDrift].
	Survey(ctx context.Context, k Key, piece string, found []deident.Found, part deident.Report) error
	// Counts gives what was surveyed, to a tally.
	Counts(ctx context.Context, release string, into *deident.Tally) (patients int, report deident.Report, err error) // into may be nil
	// Settle keeps a verdict and the report on it, Verdict gives it again.
	Settle(ctx context.Context, k Key, v deident.Verdict, report deident.Report) error
	Verdict(ctx context.Context, release string) (deident.Verdict, error)
	// Report gives the report of a release that is settled; of any other it is [ErrOver].
	Report(ctx context.Context, release string) (deident.Report, error)
	// Walk gives the members of a type in the order of their surrogates, behind one of them.
	Walk(ctx context.Context, release string, t fhir.ResourceType, after fhir.ID, most int) ([]Source, error)
	// Members finds those of the resources that are in the release.
	Members(ctx context.Context, release string, refs []fhir.Ref) (map[fhir.Ref]deident.Member, error)
	// Shifts gives by how many days the dates of these patients are moved; draw draws it, once for each.
	Shifts(ctx context.Context, k Key, patients []fhir.ID, draw func() (int, error)) (map[fhir.ID]int, error)
	// Wrote keeps which versions and views were written.
	Wrote(ctx context.Context, k Key, t fhir.ResourceType, list []Source) error
	// Sources finds what stands behind surrogates.
	Sources(ctx context.Context, release string, t fhir.ResourceType, surrogates []fhir.ID) ([]Source, error)
	// Keep says until when a release is kept, Erase forgets it now, and EraseExpired those whose time is over.
	Keep(ctx context.Context, k Key, expires time.Time) error
	Erase(ctx context.Context, release string) error
	EraseExpired(ctx context.Context) error
	// Kept gives all releases that have keys.
	Kept(ctx context.Context) ([]string, error)
}

// Key is a release under one turn.
type Key struct {
	Release string // UUID
	Turn    int64
}

// Source is what stands behind a surrogate.
type Source struct {
	Surrogate fhir.ID
	ID        fhir.ID // as stored
	Member    deident.Member
	Version   fhir.VersionID // that was written; 0 as long as it was not
	Row       int64          // and the view
}

// OptOuts knows who wants no use of her records, not even of de-identified ones (42 CFR 2.16; D7).
type OptOuts interface {
	OptedOut(ctx context.Context, g authz.Grant, patients []fhir.ID) (map[fhir.ID]bool, error)
}
