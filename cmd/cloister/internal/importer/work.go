package importer

import (
	"context"
	"net/url"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// work is one item on its way in.
type work struct {
	m       *Importer
	it      item
	grant   authz.Grant
	last    bool // a reference that does not resolve now never will
	entries []*entry
}

func (w *work) refuse(e *entry, err error) {
	e.refused = true
	w.it.refuse(e.where, e.ref.String(), err)
}

// rewrite gives every resource its id (its own, where it has one: a repeated
// import then meets itself) and makes references inside the item relative.
func (w *work) rewrite(ctx context.Context) error {
	byURL := map[string]fhir.Ref{}
	for _, e := range w.entries {
		id := e.resource.ID()
		if id == "" {
			id = fhir.ID(strings.TrimPrefix(e.fullURL, "urn:uuid:"))
		}
		if !id.Valid() {
			id = fhir.ID(record.NewID())
		}
		e.ref = fhir.Ref{Type: e.resource.Type, ID: id}
		if e.fullURL != "" {
			byURL[e.fullURL] = e.ref
		}
	}
	for _, e := range w.entries {
		e.resource.Localise(w.m.Base)
		for _, l := range append(e.resource.References(), e.resource.URNs()...) {
			if ref, ok := byURL[l.Node.Text]; ok {
				l.Node.Text = ref.String()
			}
		}
		for _, l := range e.resource.References() {
			if !strings.Contains(l.Node.Text, "?") || strings.Contains(l.Node.Text, "://") && strings.Index(l.Node.Text, "://") < strings.Index(l.Node.Text, "?") {
				continue
			}
			ref, err := w.conditional(ctx, l.Node.Text)
			if err != nil {
				return err
			}
			if ref == (fhir.Ref{}) {
				if !w.last {
					return errWaits
				}
				if !e.refused {
					w.refuse(e, outcome.At(outcome.Unprocessable, l.Path, "the conditional reference matches no resource, or more than one"))
				}
				continue
			}
			l.Node.Text = ref.String()
		}
	}
	return nil
}

// parseQuery reads the query of a conditional reference; one that cannot be read matches nothing.
func parseQuery(t fhir.ResourceType, query, base string) (search.Query, bool) {
	values, err := url.ParseQuery(query)
	if err != nil || !t.Valid() {
		return search.Query{}, false
	}
	q, _, err := search.Parse(t, values, search.Options{Base: base})
	return q, err == nil
}

// conditional resolves "Type?query"; the zero Ref means none or several.
func (w *work) conditional(ctx context.Context, text string) (fhir.Ref, error) {
	w.m.mu.Lock()
	ref, ok := w.m.refs[text]
	w.m.mu.Unlock()
	if ok {
		return ref, nil
	}
	name, query, _ := strings.Cut(text, "?")
	t := fhir.ResourceType(name)
	q, ok := parseQuery(t, query, w.m.Base)
	if !ok {
		return fhir.Ref{}, nil
	}
	r, err := w.m.Engine.Plan(ctx, w.grant, fhir.SearchType, t)
	if err != nil {
		return fhir.Ref{}, err
	}
	ids, err := w.m.Store.Match(ctx, authz.ReachOf(r), q)
	if err != nil || len(ids) != 1 {
		return fhir.Ref{}, err
	}
	ref = fhir.Ref{Type: t, ID: ids[0]}
	w.m.mu.Lock()
	w.m.refs[text] = ref
	w.m.mu.Unlock()
	return ref, nil
}

// admit clears every entry that was not refused; at[i] is the entry of the i-th clearance.
func (w *work) admit(ctx context.Context) (cleared []record.Cleared, at []*entry, err error) {
	seen := map[fhir.Ref]bool{}
	for _, e := range w.entries {
		if e.refused {
			continue
		}
		if seen[e.ref] {
			w.refuse(e, outcome.New(outcome.Invalid, "the item holds the same resource twice"))
			continue
		}
		seen[e.ref] = true
		c, err := w.m.Gate.Admit(ctx, w.grant, record.Change{Interaction: fhir.Update, Ref: e.ref, Content: e.resource, Upsert: true, Import: true})
		if err != nil {
			if !refusal(err) {
				return nil, nil, err
			}
			w.refuse(e, err)
			continue
		}
		cleared, at = append(cleared, c), append(at, e)
	}
	return cleared, at, nil
}
