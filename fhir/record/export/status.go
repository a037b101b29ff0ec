package export

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Status is how far an export is.
type Status struct {
	State       State
	Reason      Reason
	Step, Steps int       // pieces that are done, and all
	Lines       int64     // of resources
	Transaction time.Time // the moment of the export
	URL         string    // of the kick-off
	Expires     time.Time
	Wait        time.Duration // before it is asked for again
	Files       []File        // of the manifest: once it is done, or as far as it is
	Partial     bool          // the manifest is one of several, perhaps
	Next        int           // the manifest after it, or 0
	Organized   bool          // by patient: a file is of no one type
	Release     *Told         // nil: it is not de-identified
	Tables      bool          // Lines are rows
}

// File is one file of an export.
type File struct {
	Name   string // below the URL of the job
	Kind   Kind
	Type   fhir.ResourceType // of its lines
	Lines  int
	Table  *Table // nil: it is of resources
	number int
	of     fhir.ResourceType // of what was deleted
}

// The waits between two questions how far an export is.
const (
	leastWait  = 2 * time.Second
	mostWait   = time.Minute
	longestOff = 5 * time.Minute // of a client that asks too often
)

// wait is how long the client of a job is to wait before it asks again: a quarter of what it waited so far.
func (j *Job) wait(now time.Time) time.Duration {
	return min(max(now.Sub(j.Created)/4, leastWait), mostWait).Truncate(time.Second)
}

// Status finds an export of the caller's own, with that page of its manifests, from 1. A
// client that asks again and again before it should is throttled, for longer each time.
func (s *Service) Status(ctx context.Context, g authz.Grant, id string, page int) (Status, error) {
	j, parts, err := s.find(ctx, g, id)
	if err != nil {
		return Status{}, err
	}
	now := s.Now()
	wait := j.wait(now)
	if j.State == Accepted || j.State == Running {
		haste := max(j.Haste-1, 0)
		if !j.Polled.IsZero() && now.Sub(j.Polled) < j.wait(j.Polled)/2 {
			haste = j.Haste + 1
		}
		if err := s.Jobs.Polled(ctx, j, now, haste); err != nil {
			return Status{}, err
		}
		if off := haste - s.Haste; off > 0 {
			return Status{}, outcome.New(outcome.Throttled, "you ask too often how far this export is: wait as long as Retry-After says").After(min(wait<<min(off, 10), longestOff))
		}
	}
	_, c, err := s.open(ctx, &j)
	if err != nil {
		return Status{}, err
	}
	if !open(g, &c.Request) {
		return Status{}, outcome.New(outcome.NotFound, "")
	}
	steps := c.Request.steps()
	out := Status{
		State: j.State, Reason: j.Reason, Lines: j.Lines,
		Transaction: j.Transaction, URL: c.Request.URL, Expires: j.Expires, Wait: wait, Partial: c.Request.Partial, Organized: c.Request.Organized, Tables: c.Request.Format != "",
	}
	out.Step, out.Steps = c.Request.progress(&j)
	if out.Release = c.Request.told(); j.State == Done {
		if out.Release, err = s.tell(ctx, j.ID, &c.Request); err != nil {
			return Status{}, err
		}
	}
	switch all := files(parts); {
	case c.Request.Partial && j.State != Failed:
		err = s.pages(ctx, &out, &j, all, steps, page)
	case page != 1:
		err = outcome.New(outcome.NotFound, "")
	case j.State == Done:
		out.Files = all
	}
	return out, err
}

// pages fills in one of the manifests of a job. What a manifest has once shown is in it for good.
func (s *Service) pages(ctx context.Context, out *Status, j *Job, all []File, steps []step, page int) error {
	if to := closed(j, all, steps); to > j.lastShown() {
		if err := s.Jobs.Cut(ctx, *j, to); err != nil {
			return err
		}
		now, _, err := s.Jobs.Find(ctx, j.Tenant, j.Owner, j.ID)
		if err != nil {
			return err
		}
		j.Pages = now.Pages
	}
	switch {
	case page > len(j.Pages) && page > 1:
		return outcome.New(outcome.NotFound, "")
	case page < len(j.Pages):
		out.Next = page + 1
	}
	from, to := 0, 0
	if page > 1 {
		from = j.Pages[page-2]
	}
	if page <= len(j.Pages) {
		to = j.Pages[page-1]
	}
	for _, f := range all {
		if f.number > from && f.number <= to {
			out.Files = append(out.Files, f)
		}
	}
	return nil
}

// closed is the last of the files of a job up to which nothing will be added to them,
// once they are shown.
func closed(j *Job, all []File, steps []step) int {
	last, open := 0, 0
	for _, f := range all {
		last = max(last, f.number)
		if j.State != Done && j.Step < len(steps) && f.Kind == steps[j.Step].kind && f.of == steps[j.Step].t {
			open = max(open, f.number)
		}
	}
	if open > 0 {
		return open - 1
	}
	return last
}

func (j *Job) lastShown() int {
	if len(j.Pages) == 0 {
		return 0
	}
	return j.Pages[len(j.Pages)-1]
}

// shown reports whether a file is, or was, in a manifest.
func (j *Job) shown(file int) bool { return j.State == Done || file <= j.lastShown() }

// files joins parts into files, in the order of their numbers.
func files(parts []Part) []File {
	var out []File
	at := map[int]int{}
	for _, p := range parts {
		i, there := at[p.File]
		if !there {
			i = len(out)
			at[p.File] = i
			t := p.Type
			if p.Kind == Deleted {
				t = "Bundle"
			}
			out = append(out, File{Name: p.fileName(), Kind: p.Kind, Type: t, Table: p.table(), number: p.File, of: p.Type})
		}
		out[i].Lines += p.Lines
	}
	return out
}

// Progress is how far an export is, in the words of X-Progress.
func (s Status) Progress() string {
	var b strings.Builder
	if s.Organized {
		b.WriteString("patient by patient")
	} else {
		fmt.Fprintf(&b, "%d of %d resource types", s.Step, s.Steps)
	}
	switch {
	case s.Lines > 0 && s.Tables:
		fmt.Fprintf(&b, ", %d rows", s.Lines)
	case s.Lines > 0:
		fmt.Fprintf(&b, ", %d resources", s.Lines)
	}
	return b.String()
}
