// Package clinic makes up the sample clinic: synthetic practices, staff and
// patients as FHIR R4 resources, the same for the same seed.
//
// Nothing in it comes from a real person. Every text that a person could read
// carries a canary (see [CanaryPattern]), so that a test can tell where each
// answer, log line or header got its words from.
package clinic

import (
	"fmt"
	"iter"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// MinPatients is the size below which the clinic would lose one of the
// situations that it exists to show; smaller configurations are raised to it.
const MinPatients = 12

// Config fixes the clinic. Equal values give equal bytes.
type Config struct {
	Seed uint64
	// Patients is the number of patients over all practices; anything below
	// [MinPatients], 0 included, means MinPatients.
	Patients int
	// Now is the moment at which the clinic stands; only its UTC day counts.
	// Care reaches back 18 months from that day's midnight, and appointments,
	// consents and open slots reach beyond it.
	Now time.Time
}

// Practice is one tenant of the clinic.
type Practice struct {
	Slug string
	Name string
	// SUD tells that the practice has a 42 CFR Part 2 program beside its
	// general mental-health program.
	SUD bool
}

// Practices lists the tenants, the larger one first. The caller owns the slice.
func Practices() []Practice {
	return []Practice{
		{Slug: "harbor", Name: "Harbor Behavioral Health", SUD: true},
		{Slug: "lakeside", Name: "Lakeside Counseling"},
	}
}

// Batch is what is loaded together: a part of a practice's directory, or all
// of one patient.
type Batch struct {
	Practice string // slug
	Title    string // for a progress display; it names no patient
	Patient  fhir.ID
	// Resources all have an id. Each local reference points to a resource
	// earlier in the same batch or in an earlier batch of the same practice.
	Resources []*element.Node
}

// directoryChunk is the number of staff members in one directory batch, so that
// the directory of a large clinic streams like its patients do.
const directoryChunk = 50

// Generate yields the clinic: for each practice first its directory, then its
// patients, and last the panel. It holds one batch at a time, whatever the size.
func Generate(c Config) iter.Seq[Batch] {
	c = c.normal()
	return func(yield func(Batch) bool) {
		for _, p := range Practices() {
			s := newSite(c, p)
			roster := s.roster()
			for from := 0; from < len(roster); from += directoryChunk {
				part := roster[from:min(from+directoryChunk, len(roster))]
				if !yield(s.directory(from == 0, part)) {
					return
				}
			}
			for i := range s.patients {
				if !yield(s.patient(i)) {
					return
				}
			}
		}
		// At the end: the number of a batch tells that an earlier start has stored it.
		yield(newSite(c, Practices()[0]).panels())
	}
}

// Total is the number of batches that [Generate] yields for c.
func Total(c Config) int {
	c = c.normal()
	n := 1 // the panel
	for _, p := range Practices() {
		s := newSite(c, p)
		n += (len(s.roster())+directoryChunk-1)/directoryChunk + s.patients
	}
	return n
}

func (c Config) normal() Config {
	c.Patients = max(c.Patients, MinPatients)
	c.Now = c.Now.UTC().Truncate(24 * time.Hour)
	return c
}

// site is one practice of one configuration.
type site struct {
	Config
	Practice
	patients int
	practice fhir.Ref
	general  program
	sud      program // zero without a Part 2 program
	hie      fhir.Ref
	payer    fhir.Ref
}

// program is the part of a practice in which care is given.
type program struct {
	org, place fhir.Ref
	part2      bool
}

func newSite(c Config, p Practice) *site {
	s := &site{Config: c, Practice: p}
	small := c.Patients / 4
	if s.patients = small; p.SUD {
		s.patients = c.Patients - small
	}
	s.practice = s.ref("Organization", "practice")
	s.payer = s.ref("Organization", "payer")
	s.general = program{s.ref("Organization", "general"), s.ref("Location", "general"), false}
	if p.SUD {
		s.sud = program{s.ref("Organization", "sud"), s.ref("Location", "sud"), true}
		s.hie = s.ref("Organization", "hie")
	}
	return s
}

// ref names the resource of that key.
func (s *site) ref(t fhir.ResourceType, key string) fhir.Ref {
	return fhir.Ref{Type: t, ID: identify(s.Seed, s.Slug, t, key)}
}

// patientRef names a resource of patient i's chart; the Patient itself has key "".
func (s *site) patientRef(i int, t fhir.ResourceType, key string) fhir.Ref {
	return s.ref(t, fmt.Sprintf("patient/%d/%s", i, key))
}
