// Package profile validates resources against the invariants of R4 and against profiles (R4 profiling.html).
//
// It begins where fhir/codec ends: structure, formats, base cardinalities and the required bindings of R4 have been
// checked when a resource was read. Profiles are compiled from snapshots once. A validation sees the resource and
// published definitions and nothing else: it follows no reference, so that what it says cannot depend on what is
// stored; and what it says names elements and rules, never values.
package profile

import (
	"context"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/fhirpath"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Source finds StructureDefinitions by canonical ("url" or "url|version"); false is for one that is not installed.
type Source interface {
	Find(ctx context.Context, t fhir.ResourceType, canonical string) (*element.Node, bool, error)
}

// revised is a Source whose content changes; the number does with it.
type revised interface {
	Revision(ctx context.Context) (int64, error)
}

// Terminology answers whether a code is in a value set. system is "" where the element states none (type code);
// known is false where the value set is not installed or cannot be computed.
type Terminology interface {
	Member(ctx context.Context, valueSet, system, code string) (in, known bool, err error)
}

// Nothing is the Source and Terminology of a server without definitions.
type Nothing struct{}

// Find finds nothing.
func (Nothing) Find(context.Context, fhir.ResourceType, string) (*element.Node, bool, error) {
	return nil, false, nil
}

// Member knows no value set.
func (Nothing) Member(context.Context, string, string, string) (in, known bool, err error) {
	return false, false, nil
}

// Validator validates. It is safe for concurrent use.
type Validator struct {
	source Source
	terms  Terminology
	now    func() time.Time
	cache  cache
}

// New makes a Validator. now is the one clock of the server.
func New(s Source, t Terminology, now func() time.Time) *Validator {
	return &Validator{source: s, terms: t, now: now}
}

// Options of one validation.
type Options struct {
	// Profiles are the canonicals that the resource is to meet besides those that it declares in meta.profile.
	Profiles []string
	// Enforce makes a profile an error that is not installed, or has no snapshot; otherwise it is a warning.
	Enforce bool
}

// MaxProfiles bounds the profiles that one resource is checked against.
const MaxProfiles = 50

// Validate gives every fault of r in one pass: errors where it does not conform, warnings where it only should.
// At most codec.MaxIssues errors and as many warnings are listed. The error is a failure of the source, the terminology or ctx.
func (v *Validator) Validate(ctx context.Context, r *codec.Resource, o Options) ([]outcome.Issue, error) {
	root, ok := fhirpath.Resource(r.Root)
	if !ok {
		return []outcome.Issue{{Category: outcome.Structure, Text: "resourceType is not a resource type of R4"}}, nil
	}
	c := &check{Validator: v, ctx: ctx, enforce: o.Enforce, said: map[said]bool{}, budget: maxSteps}
	if s, ok := v.source.(revised); ok {
		var err error
		if c.revision, err = s.Revision(ctx); err != nil {
			return nil, err
		}
	}
	at := &trail{name: string(r.Type), index: -1}
	for i, p := range o.Profiles {
		if i >= MaxProfiles {
			c.fault(at, outcome.TooCostly, "there are too many profiles for one validation")
			break
		}
		c.profile(p, root, frame{at: at, resource: r.Root, root: r.Root})
	}
	c.walk(root, frame{at: at, resource: r.Root, root: r.Root}, 0)
	if c.err != nil {
		return nil, c.err
	}
	return c.issues, nil
}

// Refusal is the error for issues of which one at least is an error, or nil.
func Refusal(issues []outcome.Issue) error {
	for _, i := range issues {
		if !i.Warning {
			return &outcome.Error{Issues: issues}
		}
	}
	return nil
}

// maxSteps bounds what the expressions of one validation may cost together.
const maxSteps = 5_000_000

// check is one validation.
type check struct {
	*Validator
	ctx      context.Context //nolint:containedctx // a check is one call
	revision int64
	enforce  bool
	issues   []outcome.Issue
	errors   int // listed
	warnings int // listed
	said     map[said]bool
	quiet    int // >0: faults are counted, not listed
	faults   int // while quiet
	budget   int
	depth    int
	err      error // what ended the validation
}

// said is a fault that needs to be said once, whichever profile brings it up.
type said struct{ path, text string }

// frame is where a walk stands.
type frame struct {
	at       *trail
	resource *element.Node // %resource
	root     *element.Node // %rootResource
}

func (f frame) below(name string, index int) frame {
	return frame{&trail{f.at, name, index}, f.resource, f.root}
}

// stopped says that nothing more would be listed.
func (c *check) stopped() bool {
	if c.err == nil {
		c.err = c.ctx.Err()
	}
	return c.err != nil || c.errors > codec.MaxIssues
}

func (c *check) fault(at *trail, cat outcome.Category, text string) { c.say(at, cat, text, false) }
func (c *check) warn(at *trail, cat outcome.Category, text string)  { c.say(at, cat, text, true) }

func (c *check) say(at *trail, cat outcome.Category, text string, warning bool) {
	if c.quiet > 0 {
		if !warning {
			c.faults++
		}
		return
	}
	n := &c.errors
	if warning { // however many of them there are, no error goes unlisted for them
		n = &c.warnings
	}
	if *n > codec.MaxIssues {
		return
	}
	if *n == codec.MaxIssues {
		*n++
		c.issues = append(c.issues, outcome.Issue{Category: outcome.Unprocessable, Text: "there are more faults than are listed here", Warning: warning})
		return
	}
	path := at.String()
	if k := (said{path, text}); !c.said[k] {
		c.said[k] = true
		*n++
		c.issues = append(c.issues, outcome.Issue{Category: cat, Path: path, Text: text, Warning: warning})
	}
}

// silently counts the errors that do finds, and lists none.
func (c *check) silently(do func()) (faults int) {
	before := c.faults
	c.quiet++
	do()
	c.quiet--
	faults = c.faults - before
	c.faults = before
	return faults
}

// walk checks the invariants of R4 on v and everything below it, and the profiles that the resources in it declare.
func (c *check) walk(v fhirpath.Value, f frame, depth int) {
	if c.stopped() || depth > 2*codec.DefaultLimits.Depth {
		return
	}
	if v.Is("Resource") {
		for i, p := range v.Node().Get("meta").Get("profile").List() {
			if i >= MaxProfiles {
				c.fault(f.at, outcome.TooCostly, "there are too many profiles for one validation")
				break
			}
			c.profile(p.String(), v, f)
		}
	}
	c.base(v, f)
	if v.Is("Extension") {
		c.extension(v, f)
	}
	for _, e := range v.Elements() {
		g := f.below(e.Name, e.Place().Index)
		if e.Is("Resource") {
			g.resource = e.Node()
			if e.Name != "contained" {
				g.root = e.Node()
			}
		}
		c.walk(e.Value, g, depth+1)
	}
}

// extension checks an extension against its definition, where that is installed (extensibility.html#definition).
func (c *check) extension(v fhirpath.Value, f frame) {
	url := v.Node().Get("url").String()
	if !strings.Contains(url, ":") {
		return // a part of the extension around it, which defines it
	}
	p, err := c.find(c.ctx, c.revision, url)
	if err != nil {
		c.err = err
		return
	}
	if p != nil && p.root != nil && p.typ == "Extension" {
		c.profile(url, v, f)
	}
}
