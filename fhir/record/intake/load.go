package intake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// Loader takes batches in on behalf of one caller. It can be used by several goroutines.
type Loader struct {
	Finder    Finder
	Engine    Engine
	Gate      Gate
	Principal authz.Principal
	Base      string // the server's base URL: absolute references to it become relative
	// Operator marks the import of whoever keeps the server: references may lead to nothing
	// yet, and the author of a note of a session becomes its originator. The gate holds it to
	// the role.
	Operator bool
	// Advise asks for what could conform better, and for the labels; it takes longer.
	Advise bool
	// Rehearsal marks a dry run of an operator: a conditional reference that does not resolve is
	// no refusal, for another input may bring what it means.
	Rehearsal bool

	expected map[string]bool // conditional references that a dry run takes for resolved

	mu   sync.Mutex
	refs map[string]fhir.Ref // conditional references that were resolved
}

// Batch is what is stored in one transaction.
type Batch struct {
	Candidates []*Candidate
	// Whole makes everything wait where a conditional reference does not resolve yet: a
	// Bundle goes in at once or later.
	Whole bool
	// Last says that what does not resolve now never will.
	Last bool
}

// ErrWaits says that a whole batch waits; nothing was stored.
var ErrWaits = errors.New("intake: a conditional reference does not resolve yet")

var (
	errConditional = outcome.New(outcome.Unprocessable, "the conditional reference matches no resource, or more than one: send what it means, or refer to it by its id")
	errRepeated    = outcome.New(outcome.Invalid, "the batch holds the same resource twice: keep one of the two")
)

// Load takes a batch in, and says of each candidate what became of it. An error is one of the server.
func (l *Loader) Load(ctx context.Context, b Batch, commit Commit) error {
	g, err := l.Engine.Authorize(ctx, l.Principal, fhir.Transaction, "")
	if err != nil {
		return err
	}
	l.name(b.Candidates)
	if err := l.rewrite(ctx, g, b); err != nil {
		return err
	}
	if err := l.admit(ctx, g, b); err != nil {
		return err
	}
	for {
		var cleared []record.Cleared
		var at []*Candidate
		for _, c := range b.Candidates {
			if c.Fate == Pending {
				cleared, at = append(cleared, *c.cleared), append(at, c)
			}
		}
		receipts, err := commit(ctx, cleared)
		again, err := l.refusals(b, at, err)
		if again {
			continue
		}
		if err != nil {
			return err
		}
		for i, r := range receipts {
			at[i].settle(r)
		}
		return nil
	}
}

func (c *Candidate) settle(r record.Receipt) {
	c.Missing = append(c.Missing, r.Missing...)
	switch {
	case r.Same:
		c.Fate = Same
	case r.Created:
		c.Fate = New
	default:
		c.Fate = Changed
	}
}

// refusals marks what the store refuses: the rest does not wait for it.
func (l *Loader) refusals(b Batch, at []*Candidate, err error) (again bool, _ error) {
	var several *record.RefusedError
	var one *record.ChangeError
	switch {
	case errors.As(err, &several):
	case errors.As(err, &one):
		several = &record.RefusedError{Changes: []*record.ChangeError{one}}
	default:
		return false, err
	}
	for _, x := range several.Changes {
		if x.Index < 0 || x.Index >= len(at) || !Refusal(x.Err) {
			return false, err
		}
		switch c := at[x.Index]; {
		case !errors.Is(x.Err, record.ErrUnresolved):
			c.refuse(x.Err)
		case b.Last:
			c.refuse(x.Err)
			c.Fate = Unresolved
		default:
			c.wait(x.Err)
		}
	}
	return true, nil
}

// name gives every resource its id: its own, where it has one, else one that follows from what
// it says, so that a repeated import meets itself.
func (l *Loader) name(in []*Candidate) {
	for _, c := range in {
		if c.Resource == nil {
			continue
		}
		id := c.Resource.ID()
		if id == "" {
			id = fhir.ID(strings.TrimPrefix(c.FullURL, "urn:uuid:"))
		}
		if !id.Valid() {
			id = l.digested(c)
		}
		c.Ref = fhir.Ref{Type: c.Resource.Type, ID: id}
	}
}

// digested is a UUID of version 8 (RFC 9562) that follows from a resource and its practice.
func (l *Loader) digested(c *Candidate) fhir.ID {
	h := sha256.Sum256(c.Resource.Root.AppendJSON(fmt.Appendf(nil, "cloister intake\n%d\n", l.Principal.Tenant)))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fhir.ID(fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16]))
}

// rewrite makes references inside a unit relative, and resolves conditional ones.
func (l *Loader) rewrite(ctx context.Context, g authz.Grant, b Batch) error {
	byURL := map[*Unit]map[string]fhir.Ref{}
	for _, c := range b.Candidates {
		if c.FullURL != "" && c.Resource != nil {
			if byURL[c.unit] == nil {
				byURL[c.unit] = map[string]fhir.Ref{}
			}
			byURL[c.unit][c.FullURL] = c.Ref
		}
	}
	for _, c := range b.Candidates {
		if c.Fate != Pending {
			continue
		}
		c.Resource.Localise(l.Base)
		for _, x := range append(c.Resource.References(), c.Resource.URNs()...) {
			if ref, ok := byURL[c.unit][x.Node.Text]; ok {
				x.Node.Text = ref.String()
			}
		}
		for _, x := range c.Resource.References() {
			if !conditional(x.Node.Text) {
				continue
			}
			if l.expected[sought(x.Node.Text)] {
				continue
			}
			ref, err := l.conditional(ctx, g, x.Node.Text)
			if err != nil {
				return err
			}
			if ref != (fhir.Ref{}) {
				x.Node.Text = ref.String()
				continue
			}
			fault := outcome.At(outcome.Unprocessable, x.Path, errConditional.Issues[0].Text)
			switch {
			case l.Rehearsal:
				c.Missing = append(c.Missing, record.Missing{Path: x.Path, To: x.Node.Text})
			case b.Last:
				c.refuse(fault)
				c.Fate = Unresolved
			case b.Whole:
				return ErrWaits
			default:
				c.wait(fault)
			}
		}
	}
	return nil
}

// conditional reports whether a reference is a search (R4 http.html, "conditional references").
func conditional(text string) bool {
	before, _, ok := strings.Cut(text, "?")
	return ok && !strings.Contains(before, "://")
}

// conditional resolves "Type?query"; the zero Ref means none or several. Whoever may search
// nothing of the type meets nothing.
func (l *Loader) conditional(ctx context.Context, g authz.Grant, text string) (fhir.Ref, error) {
	l.mu.Lock()
	ref, ok := l.refs[text]
	l.mu.Unlock()
	if ok {
		return ref, nil
	}
	name, query, _ := strings.Cut(text, "?")
	t := fhir.ResourceType(name)
	values, err := url.ParseQuery(query)
	if err != nil || !t.Valid() {
		return fhir.Ref{}, nil
	}
	q, _, err := search.Parse(t, values, search.Options{Base: l.Base})
	if err != nil {
		return fhir.Ref{}, nil
	}
	reach, err := l.reach(ctx, g, q)
	if err != nil {
		return fhir.Ref{}, err
	}
	ids, err := l.Finder.Match(ctx, reach, q)
	if err != nil || len(ids) != 1 {
		return fhir.Ref{}, err
	}
	ref = fhir.Ref{Type: t, ID: ids[0]}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs == nil || len(l.refs) >= maxRemembered {
		l.refs = map[string]fhir.Ref{}
	}
	l.refs[text] = ref
	return ref, nil
}

// maxRemembered is how many conditional references are remembered.
const maxRemembered = 100_000

func (l *Loader) reach(ctx context.Context, g authz.Grant, q search.Query) (authz.Reach, error) {
	var rs []authz.Restriction
	for _, t := range q.Types() {
		r, err := l.Engine.Plan(ctx, g, fhir.SearchType, t)
		if err != nil {
			return authz.Reach{}, err
		}
		rs = append(rs, r)
	}
	return authz.ReachOf(rs...), nil
}

// maxWarnings is how many warnings of one resource are told.
const maxWarnings = 20

// admit clears what was not refused so far. It does so once: the gate takes the labels that a
// sender states off the content.
func (l *Loader) admit(ctx context.Context, g authz.Grant, b Batch) error {
	seen := map[fhir.Ref]bool{}
	for _, c := range b.Candidates {
		if c.Fate != Pending {
			continue
		}
		if seen[c.Ref] {
			if c.Line > 0 && !b.Whole && !b.Last {
				c.wait(errRepeated) // the later line comes after the earlier one
			} else {
				c.refuse(errRepeated)
			}
			continue
		}
		seen[c.Ref] = true
		x := record.Change{Interaction: fhir.Update, Ref: c.Ref, Content: c.Resource, Upsert: true, Import: l.Operator, IfChanged: true}
		var advice []outcome.Issue
		if l.Advise {
			x.Advice = &advice
		}
		cleared, err := l.Gate.Admit(ctx, g, x)
		if err != nil {
			if !Refusal(err) {
				return err
			}
			c.refuse(err)
			continue
		}
		c.cleared = &cleared
		if l.Advise {
			c.Labels, c.Issues = vault.Clearing(cleared).Labels.Codes(), advice[:min(len(advice), maxWarnings)]
		}
	}
	return nil
}
