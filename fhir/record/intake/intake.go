// Package intake takes resources in: it reads them, checks, labels and admits them under the
// grant of whoever sends them, and stores them batch by batch.
//
// It is the one pipeline of cloister import and of the operation $import. What a caller may not
// write she cannot import, and what she does not see looks to her like what is not there.
package intake

import (
	"context"
	"net/url"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// Engine is the decision point, as an import uses it.
type Engine interface {
	Authorize(context.Context, authz.Principal, fhir.Interaction, fhir.ResourceType) (authz.Grant, error)
	Plan(context.Context, authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Restriction, error)
}

// Gate is the one way into the store.
type Gate interface {
	Admit(context.Context, authz.Grant, record.Change) (record.Cleared, error)
}

// Finder resolves conditional references.
type Finder interface {
	Match(context.Context, authz.Reach, search.Query) ([]fhir.ID, error)
}

// Commit stores a batch that was let in, or rehearses that: all of it or, with a
// [record.RefusedError] or a [record.ChangeError], none.
type Commit func(context.Context, []record.Cleared) ([]record.Receipt, error)

// Fate is what became of a candidate.
type Fate string

// The fates.
const (
	Pending    Fate = ""
	New        Fate = "new"
	Changed    Fate = "changed"
	Same       Fate = "same"       // as it is stored already
	Refused    Fate = "refused"    // see its issues
	Waits      Fate = "waits"      // for what it refers to
	Unresolved Fate = "unresolved" // what it refers to never came
)

// Stored reports whether the resource is there.
func (f Fate) Stored() bool { return f == New || f == Changed || f == Same }

// Candidate is a resource on its way in, or what should have been one.
type Candidate struct {
	Place    string // in its input: "line 3", "entry 2", "file"
	Line     int    // from 1; 0: its input has no lines
	FullURL  string // of a Bundle's entry
	Ref      fhir.Ref
	Resource *codec.Resource // nil where it does not read
	Fate     Fate
	Issues   []outcome.Issue  // why it was refused, or waits; warnings, where it was not
	Labels   []string         // codes of the labels that its content has
	Missing  []record.Missing // references of what is stored all the same
	unit     *Unit
	cleared  *record.Cleared
}

// Brings are the texts by which others can refer to the candidate: its type and id, and the
// searches for its identifiers.
func (c *Candidate) Brings() []string {
	out := []string{c.Ref.String()}
	for _, n := range c.Resource.Root.Get("identifier").List() {
		if value := n.Get("value").String(); value != "" {
			out = append(out, string(c.Ref.Type)+"?identifier="+n.Get("system").String()+"|"+value, string(c.Ref.Type)+"?identifier="+value)
		}
	}
	return out
}

// sought is a reference as one of the texts that [Candidate.Brings] gives.
func sought(text string) string {
	if name, query, ok := strings.Cut(text, "?"); ok {
		if plain, err := url.QueryUnescape(query); err == nil {
			return name + "?" + plain
		}
	}
	return text
}

func (c *Candidate) refuse(err error) {
	c.Fate, c.Issues = Refused, outcome.Of(err).Issues
}

func (c *Candidate) wait(err error) {
	c.Fate, c.Issues = Waits, outcome.Of(err).Issues
}

// Refusal tells a fault of the input from one of the server.
func Refusal(err error) bool {
	status := outcome.Of(err).Status()
	return status >= 400 && status < 500
}
