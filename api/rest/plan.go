package rest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
)

// plan is a transaction as it will be carried out. It is made of the Bundle alone.
type plan struct {
	steps []*step // in the order of the specification: DELETE, POST, PUT and PATCH, GET
	// names leads from everything by which an entry can be referred to (its
	// fullUrl, and the literal of its own request) to the literal of its resource.
	names map[string]fhir.Ref
}

// step is one entry.
type step struct {
	target
	at  int      // index in Bundle.entry
	ref fhir.Ref // what a change is about; the id of a create is new
}

func (st *step) writes() bool {
	switch st.interaction {
	case fhir.Create, fhir.Update, fhir.Patch, fhir.Delete:
		return true
	}
	return false
}

var rank = map[fhir.Interaction]int{fhir.Delete: 1, fhir.Create: 2, fhir.Update: 3, fhir.Patch: 3}

// newPlan checks the entries and orders them; it reports every fault at once. Entries that are left stay out of it.
func newPlan(entries []codec.Entry, left map[int]bool, faulty map[int]*outcome.Error, base string, newID func() string) (*plan, error) {
	p := &plan{names: map[string]fhir.Ref{}}
	var faults []outcome.Issue
	fail := func(c outcome.Category, path, text string) {
		faults = append(faults, outcome.Issue{Category: c, Path: path, Text: text})
	}
	changed := map[fhir.Ref]bool{}
	for i := range entries {
		if left[i] {
			continue
		}
		e := &entries[i]
		path := entryPath(i)
		if f := faulty[i]; f != nil {
			faults = append(faults, f.Issues...)
			continue
		}
		t, err := parseTarget(e.Method, e.URL, base)
		if err != nil {
			faults = append(faults, outcome.Of(within(path+".request", err)).Issues...)
			continue
		}
		st := &step{target: t, at: i, ref: fhir.Ref{Type: t.typ, ID: t.id}}
		if st.writes() && t.unknown {
			fail(outcome.NotFound, path+".request.url", "")
			continue
		}
		if st.interaction == fhir.Create || st.interaction == fhir.Update {
			switch {
			case e.Resource == nil:
				fail(outcome.Required, path+".resource", "a create or update needs a resource")
				continue
			case e.Resource.Type != t.typ:
				fail(outcome.Invalid, path+".resource", "the resource is not of the type in request.url")
				continue
			case st.interaction == fhir.Update && t.id != "" && e.Resource.ID() != t.id:
				fail(outcome.Invalid, path+".resource.id", "the id of the resource is not the id in request.url")
				continue
			case st.interaction == fhir.Create || t.id == "" && e.Resource.ID() == "":
				st.ref.ID = fhir.ID(newID())
			case t.id == "":
				st.ref.ID = e.Resource.ID()
			}
		}
		if st.interaction == fhir.Patch && e.Resource == nil {
			fail(outcome.Required, path+".resource", "a patch is a Binary that holds a JSON Patch, or the Parameters of a FHIRPath Patch")
			continue
		}
		if st.writes() && (t.id != "" || st.interaction == fhir.Create) { // the store knows what conditions mean
			if changed[st.ref] {
				fail(outcome.Invalid, path, "the same resource is changed twice in one transaction: keep one of the two entries")
				continue
			}
			changed[st.ref] = true
		}
		if st.interaction == fhir.Create || st.interaction == fhir.Update {
			if e.FullURL != "" && !p.name(st, e.FullURL) {
				fail(outcome.Invalid, path+".fullUrl", "the fullUrl stands in this Bundle twice")
			}
		}
		p.steps = append(p.steps, st)
	}
	if faults != nil {
		return nil, &outcome.Error{Issues: faults}
	}
	slices.SortStableFunc(p.steps, func(a, b *step) int { return cmp.Compare(order(a), order(b)) })
	return p, nil
}

func order(st *step) int {
	if r, ok := rank[st.interaction]; ok {
		return r
	}
	return len(rank) + 1
}

func (p *plan) name(st *step, name string) bool {
	if _, taken := p.names[name]; taken {
		return false
	}
	p.names[name] = st.ref
	return true
}

// unresolved is a link that only the store, or nobody, can resolve.
type unresolved struct {
	codec.Link
}

// below is the path of the link under its resource.
func (u unresolved) below() string {
	_, rest, ok := strings.Cut(u.Path, ".")
	if !ok {
		return ""
	}
	return "." + rest
}

// link rewrites every reference and URL of content that names an entry
// (http://hl7.org/fhir/R4/http.html#trules), those of the narrative included. It returns the
// references that remain to be resolved: conditional ones, and URNs that name no entry.
func (p *plan) link(content *codec.Resource, fullURL string) []unresolved {
	var rest []unresolved
	for _, l := range content.References() {
		if literal, ok := p.resolve(l.Node.Text, fullURL); ok {
			l.Node.Text = literal
			continue
		}
		if _, _, ok := conditional(l.Node.Text); ok || urn(l.Node.Text) {
			rest = append(rest, unresolved{l})
		}
	}
	for _, links := range [][]codec.Link{content.URLs(), content.URNs()} {
		for _, l := range links {
			if literal, ok := p.resolve(l.Node.Text, fullURL); ok {
				l.Node.Text = literal
			}
		}
	}
	if div := content.Root.Get("text").Get("div"); div != nil {
		div.Text = p.narrative(div.Text)
	}
	return rest
}

// resolve follows a reference the way that Bundle.entry.fullUrl defines
// (http://hl7.org/fhir/R4/bundle.html#references): an absolute one as it
// stands, a relative one against the base of the fullUrl of the entry that holds it.
func (p *plan) resolve(literal, fullURL string) (string, bool) {
	plain, _, versioned := strings.Cut(literal, "/_history/") // a version given elsewhere means nothing here
	ref, ok := named(p.names, plain, fullURL)
	if !ok {
		return "", false
	}
	if versioned {
		return ref.String() + "/_history/" + record.NewVersion, true
	}
	return ref.String(), true
}

// named finds what a reference without a version names, from the entry with that fullUrl.
func named[T any](names map[string]T, plain, fullURL string) (x T, ok bool) {
	if x, ok = names[plain]; ok {
		return x, true
	}
	if _, relative := fhir.ParseRef(plain); relative {
		if base, restful := baseOf(fullURL); restful {
			x, ok = names[base+"/"+plain]
		}
	}
	return x, ok
}

// baseOf is the service base of a RESTful fullUrl, "http://host/fhir" of "http://host/fhir/Patient/1".
func baseOf(fullURL string) (string, bool) {
	if urn(fullURL) {
		return "", false
	}
	i := strings.LastIndexByte(fullURL, '/')
	if i <= 0 {
		return "", false
	}
	j := strings.LastIndexByte(fullURL[:i], '/')
	if j <= 0 || !fhir.ResourceType(fullURL[j+1:i]).Valid() {
		return "", false
	}
	return fullURL[:j], true
}

func urn(s string) bool { return strings.HasPrefix(s, "urn:uuid:") || strings.HasPrefix(s, "urn:oid:") }

// narrative rewrites href and src of links that name an entry.
func (p *plan) narrative(div string) string {
	for _, attr := range []string{`href="`, `src="`} {
		if !strings.Contains(div, attr) {
			continue
		}
		var b strings.Builder
		for {
			i := strings.Index(div, attr)
			if i < 0 {
				break
			}
			i += len(attr)
			j := strings.IndexByte(div[i:], '"')
			if j < 0 {
				break
			}
			b.WriteString(div[:i])
			if ref, ok := p.names[div[i:i+j]]; ok {
				b.WriteString(ref.String())
			} else {
				b.WriteString(div[i : i+j])
			}
			div = div[i+j:]
		}
		b.WriteString(div)
		div = b.String()
	}
	return div
}
