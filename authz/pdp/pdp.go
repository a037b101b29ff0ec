// Package pdp answers policy questions with Casbin.
//
// It is the only importer of Casbin. One Enforce decides one class of callers
// against one class of resources under one set of facts; [Point.Permit] turns
// these answers into the least facts that permit, which is what the SQL asks for.
package pdp

import (
	"crypto/sha256"
	_ "embed" // the policy travels in the binary
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent/state"
	"github.com/cloister-health/cloister/fhir"
)

//go:embed model.conf
var modelText string

//go:embed policy.csv
var policyText string

//go:embed groups.csv
var groupsText string

// Source is the text of a policy. The model is not part of it: what a line
// means is code, and changes with the code.
type Source struct {
	Policy string // as policy.csv
	Groups string // as groups.csv
}

// Embedded is the policy of the house.
func Embedded() Source { return Source{policyText, groupsText} }

// Point is the policy decision point. It is safe for concurrent use.
type Point struct{ current atomic.Pointer[policy] }

var _ authz.PolicyDecisionPoint = (*Point)(nil)

// New loads a policy. It fails, with every fault and its line number, unless the
// policy is flawless and denies what no policy of this house can permit.
func New(src Source) (*Point, error) {
	p := &Point{}
	if err := p.Replace(src); err != nil {
		return nil, err
	}
	return p, nil
}

// Replace puts another policy in force, whole and at once, or fails and leaves
// the present one.
func (p *Point) Replace(src Source) error {
	next, err := build(src)
	if err != nil {
		return err
	}
	return p.put(next)
}

// passed are the digests of the texts that passed the self-test in this process. Its outcome hangs on
// nothing else, and practices without a policy of their own all have that of the house.
var passed = bounded[[sha256.Size]byte, struct{}]{max: 1000}

// put puts a policy in force that passes the self-test.
func (p *Point) put(next *policy) error {
	if _, ok := passed.get(next.digest); !ok {
		if err := next.selfTest(); err != nil {
			return err
		}
		passed.put(next.digest, struct{}{})
	}
	p.current.Store(next)
	return nil
}

// Version names the policy in force: a hash over model, policy, groups and the
// vocabulary that they are read with.
func (p *Point) Version() string {
	if c := p.current.Load(); c != nil {
		return c.version()
	}
	return ""
}

var errNoPolicy = errors.New("pdp: no policy is in force")

// Permit lists the minimal sets of facts under which the policy permits, fewest
// facts first; nil is deny. Any fault of the policy engine is an error, and an error is deny.
func (p *Point) Permit(q authz.Question) ([]authz.Fact, error) {
	c := p.current.Load()
	if c == nil {
		return nil, errNoPolicy
	}
	return c.permit(q)
}

// Asked lists the sets of labels that allow lines ask for (A! in policy.csv),
// each once. A class of callers that is denied the unlabelled and each of these is denied all.
func (p *Point) Asked() []label.Set {
	if c := p.current.Load(); c != nil {
		return slices.Clone(c.asked)
	}
	return nil
}

// policy is one version in force.
type policy struct {
	digest   [sha256.Size]byte // of everything that an answer hangs on
	asked    []label.Set       // never changed
	lines    []*line
	groups   *groups
	states   state.Set
	enforcer *casbin.Enforcer
	kinds    map[fhir.ResourceType]uint16 // types that every line treats alike share a number
	cells    bounded[cell, []authz.Fact]
	parts    bounded[aspect, *policy]
}

func (p *policy) version() string { return hex.EncodeToString(p.digest[:8]) }

func build(src Source) (*policy, error) {
	g, err := loadGroups(src.Groups)
	if err != nil {
		return nil, err
	}
	lines, err := load(src.Policy, g)
	if err != nil {
		return nil, err
	}
	return assemble(digest(src), lines, g, nil)
}

// assemble makes a policy of lines that were read.
func assemble(digest [sha256.Size]byte, lines []*line, g *groups, states state.Set) (*policy, error) {
	p := &policy{digest: digest, lines: lines, groups: g, states: states, kinds: kindsOf(lines)}
	p.cells.max, p.parts.max = maxCells, maxParts
	for _, l := range lines {
		if l.allow && l.labels.must != 0 && !slices.Contains(p.asked, l.labels.must) {
			p.asked = append(p.asked, l.labels.must)
		}
	}
	var err error
	p.enforcer, err = newEnforcer(lines, functions(lines))
	return p, err
}

// newEnforcer hands the lines to Casbin. The enforcer is never changed
// afterwards: Casbin keeps compiled matchers, so a change could go unnoticed.
func newEnforcer(lines []*line, functions map[string]func(...any) (any, error)) (*casbin.Enforcer, error) {
	m, err := model.NewModelFromString(modelText)
	if err != nil {
		return nil, fmt.Errorf("pdp: the model: %w", err)
	}
	for _, l := range lines {
		if err := m.AddPolicy("p", "p", l.fields); err != nil {
			return nil, fmt.Errorf("pdp: policy.csv:%d: %w", l.number, err)
		}
	}
	e, err := casbin.NewEnforcer(m)
	if err != nil {
		return nil, fmt.Errorf("pdp: %w", err)
	}
	for name, f := range functions {
		e.AddFunction(name, f)
	}
	return e, nil
}

// digest changes whenever an answer can change. more are the texts of a practice.
func digest(src Source, more ...string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, part := range append([]string{
		modelText, src.Policy, src.Groups,
		strings.Join(roles, ","), strings.Join(purposes, ","), label.All.String(), factNames(allFacts),
	}, more...) {
		// The length keeps two texts from being cut in another place.
		_, _ = fmt.Fprintf(h, "%d\n", len(part)) // a hash never fails to write
		_, _ = io.WriteString(h, part)
	}
	h.Sum(sum[:0])
	return sum
}

// kindsOf numbers the types by the set of lines that name them.
func kindsOf(lines []*line) map[fhir.ResourceType]uint16 {
	kinds := map[fhir.ResourceType]uint16{}
	numbers := map[string]uint16{}
	for _, t := range fhir.ResourceTypes() {
		var sig strings.Builder
		for _, l := range lines {
			if l.types[t] {
				sig.WriteByte('1')
			} else {
				sig.WriteByte('0')
			}
		}
		n, ok := numbers[sig.String()]
		if !ok {
			n = uint16(len(numbers)) //nolint:gosec // at most one number per resource type
			numbers[sig.String()] = n
		}
		kinds[t] = n
	}
	return kinds
}

// normal gives the question in its one form, or false where no policy can permit it.
func normal(q authz.Question) (authz.Question, bool) {
	q.Roles = knownCallerRoles(q.Roles)
	ok := len(q.Roles) > 0 && knownPurposes[q.Purpose] && knownActions[string(q.Action)] &&
		q.Type.Valid() && q.Labels&^label.All == 0
	return q, ok
}

// enforce asks Casbin once; q is normal. A panic below is an error like any other.
func (p *policy) enforce(q authz.Question, f authz.Fact) (permit bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			permit, err = false, fmt.Errorf("pdp: panic: %v", r)
		}
	}()
	permit, err = p.enforcer.Enforce(question{q, f})
	if err != nil {
		return false, fmt.Errorf("pdp: %w", err)
	}
	return permit, nil
}

func (p *policy) permit(q authz.Question) ([]authz.Fact, error) {
	q, ok := normal(q)
	if !ok {
		return nil, nil
	}
	about := aspect{strings.Join(q.Roles, ","), q.Purpose, q.Action, p.kinds[q.Type]}
	key := cell{about, q.Labels}
	if sets, ok := p.cells.get(key); ok {
		return slices.Clone(sets), nil
	}
	part, err := p.part(about, q)
	if err != nil {
		return nil, err
	}
	sets, err := part.minimal(q)
	if err != nil {
		return nil, err
	}
	p.cells.put(key, sets)
	return slices.Clone(sets), nil
}

// part is the policy without the lines that cannot match, whatever the labels
// and the facts: lines match one by one, so Casbin decides the same, sooner.
func (p *policy) part(about aspect, q authz.Question) (*policy, error) {
	if part, ok := p.parts.get(about); ok {
		return part, nil
	}
	part := &policy{digest: p.digest, lines: p.speaking(q), groups: p.groups, states: p.states}
	var err error
	if part.enforcer, err = newEnforcer(part.lines, functions(part.lines)); err != nil {
		return nil, err
	}
	p.parts.put(about, part)
	return part, nil
}

// minimal asks Casbin about the sets of facts that could be minimal (see
// [least]), small ones first. The answer can only grow with the facts: an allow line asks for
// facts, a deny line is lifted by them, and no line is set off by one. So the
// supersets of a set that permits need not be asked. What Casbin denies is denied,
// whatever the lines say.
func (p *policy) minimal(q authz.Question) ([]authz.Fact, error) {
	var sets []authz.Fact
	for _, f := range least(p.speaking(q), q.Labels) {
		permit, err := p.enforce(q, f)
		if err != nil {
			return nil, err
		}
		if permit {
			sets = append(sets, f)
		}
	}
	return sets, nil
}

// aspect is a question without its labels.
type aspect struct {
	roles   string
	purpose string
	action  authz.Action
	kind    uint16
}

// cell is one question in its normal form.
type cell struct {
	aspect
	labels label.Set
}

// maxCells bounds the memory of a policy version: a caller chooses roles and
// purpose through its token, and the store has few label classes.
const maxCells = 1 << 16

// maxParts is fewer: a part is an enforcer.
const maxParts = 1 << 12

// bounded remembers answers of one policy version. It belongs to its version
// and is never told that something was removed: a new version starts empty.
type bounded[K comparable, V any] struct {
	mu  sync.RWMutex
	max int
	m   map[K]V
}

func (c *bounded[K, V]) get(k K) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := c.m[k]
	return v, ok
}

func (c *bounded[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= c.max {
		c.m = map[K]V{}
	}
	c.m[k] = v
}
