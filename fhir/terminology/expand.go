package terminology

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Expand asks for the codes of a value set (valueset-operation-expand.html).
type Expand struct {
	ValueSet            string        // canonical; "" where Inline is given
	Inline              *element.Node // a ValueSet that comes with the request
	Filter              string        // every word of it must stand in the code or the display
	Offset              int
	Count               int // the most codes in the answer; -1: all
	ActiveOnly          bool
	ExcludeNotForUI     bool // leaves out abstract concepts
	IncludeDesignations bool
	IncludeDefinition   bool
	DisplayLanguage     string   // BCP 47
	SystemVersion       []string // "system|version": taken where the value set names no version
	ForceSystemVersion  []string // "system|version": taken always
	CheckSystemVersion  []string // "system|version": refused where another version would be taken
	ExcludeSystem       []string // "system": left out
}

// Expand gives the ValueSet with its expansion, flat, in the order of its
// definition. The error is an *outcome.Error: not-found (422) where the value set
// or content that it is made of is not installed, too-costly (422) above the
// limits of the Service.
func (s *Service) Expand(ctx context.Context, q Expand) (*element.Node, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.pin(q.SystemVersion, q.ForceSystemVersion); err != nil {
		return nil, err
	}
	vs, err := r.subject(q.ValueSet, q.Inline)
	if err != nil {
		return nil, public(err)
	}
	all, err := r.expanded(vs)
	if err != nil {
		return nil, public(err)
	}
	if err := r.check(q.CheckSystemVersion); err != nil {
		return nil, err
	}
	all, err = r.narrowed(all, q)
	if err != nil {
		return nil, err
	}
	page := all[min(max(q.Offset, 0), len(all)):]
	if q.Count >= 0 {
		page = page[:min(q.Count, len(page))]
	}
	contains := make([]*element.Node, len(page))
	for i, m := range page {
		contains[i] = r.contained(m, q)
	}
	out := element.NewObject()
	for _, f := range vs.node.Fields {
		switch f.Name {
		case "text", "expansion":
		case "compose":
			if q.IncludeDefinition {
				out.Fields = append(out.Fields, f)
			}
		default:
			out.Fields = append(out.Fields, f)
		}
	}
	e := element.NewObject(
		element.Field{Name: "identifier", Value: element.NewString(r.identifier(vs, q))},
		element.Field{Name: "timestamp", Value: element.NewString(s.now().UTC().Format(time.RFC3339))},
		element.Field{Name: "total", Value: element.NewNumber(int64(len(all)))},
	)
	if q.Offset > 0 || q.Count >= 0 {
		e.Set("offset", element.NewNumber(int64(max(q.Offset, 0))))
	}
	if p := r.parameters(q); len(p) > 0 {
		e.Set("parameter", list(p...))
	}
	if len(contains) > 0 {
		e.Set("contains", list(contains...))
	}
	out.Set("expansion", e)
	return out, nil
}

// subject is the value set that a request is about.
func (r *run) subject(canonical string, inline *element.Node) (*valueSet, error) {
	if inline != nil {
		vs, err := compile(inline)
		if err != nil {
			return nil, err
		}
		return vs, nil
	}
	return r.valueSet(canonical)
}

func (r *run) pin(versions, forced []string) error {
	if len(versions) > 0 && len(forced) > 0 {
		return outcome.New(outcome.Invalid, "system-version and force-system-version cannot be combined")
	}
	r.forced = len(forced) > 0
	for _, c := range append(versions[:len(versions):len(versions)], forced...) {
		system, version, ok := strings.Cut(c, "|")
		if !ok || system == "" || version == "" {
			return outcome.New(outcome.Invalid, "a version of a code system is written as system|version")
		}
		if r.pins == nil {
			r.pins = map[string]string{}
		}
		r.pins[system] = version
	}
	return nil
}

func (r *run) check(versions []string) error {
	for _, want := range versions {
		system, _, _ := strings.Cut(want, "|")
		for _, u := range r.used {
			if bareSystem(u) == system && u != want {
				return outcome.New(outcome.Unprocessable, "the value set would be expanded with "+u+", and check-system-version asks for "+want)
			}
		}
	}
	return nil
}

// narrowed leaves out what the request does not want.
func (r *run) narrowed(all []member, q Expand) ([]member, error) {
	words := strings.Fields(strings.ToLower(q.Filter))
	if len(words) == 0 && !q.ActiveOnly && !q.ExcludeNotForUI && len(q.ExcludeSystem) == 0 {
		return all, nil
	}
	if err := r.spend(len(all) * (1 + len(words))); err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for _, s := range q.ExcludeSystem {
		gone[bareSystem(s)] = true
	}
	var out []member
	for _, m := range all {
		if q.ActiveOnly && m.inactive || q.ExcludeNotForUI && m.abstract || gone[m.system] {
			continue
		}
		if len(words) > 0 {
			text := strings.ToLower(m.code + " " + m.display)
			if q.DisplayLanguage != "" {
				text += " " + strings.ToLower(r.display(m, q.DisplayLanguage))
			}
			found := true
			for _, w := range words {
				found = found && strings.Contains(text, w)
			}
			if !found {
				continue
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// identifier is the same for the same question of the same content, so that
// the pages of one expansion bear one identifier.
func (r *run) identifier(vs *valueSet, q Expand) string {
	q.Offset, q.Count, q.Inline = 0, 0, nil
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q %q %d %q", vs.node.Get("url").String(), vs.node.Get("version").String(), r.revision, fmt.Sprintf("%+v", q))
	if vs.key == "" {
		_, _ = h.Write(vs.node.AppendJSON(nil))
	}
	sum := hex.EncodeToString(h.Sum(nil)[:16])
	return "urn:uuid:" + sum[:8] + "-" + sum[8:12] + "-8" + sum[13:16] + "-8" + sum[17:20] + "-" + sum[20:]
}

func (r *run) parameters(q Expand) []*element.Node {
	var out []*element.Node
	add := func(name, kind string, v *element.Node) {
		out = append(out, element.NewObject(element.Field{Name: "name", Value: element.NewString(name)}, element.Field{Name: kind, Value: v}))
	}
	flag := func(name string, b bool) {
		if b {
			add(name, "valueBoolean", &element.Node{Kind: element.Bool, Text: "true"})
		}
	}
	texts := func(name, kind string, vs ...string) {
		for _, v := range vs {
			if v != "" {
				add(name, kind, element.NewString(v))
			}
		}
	}
	texts("filter", "valueString", q.Filter)
	texts("displayLanguage", "valueCode", q.DisplayLanguage)
	flag("activeOnly", q.ActiveOnly)
	flag("excludeNotForUI", q.ExcludeNotForUI)
	flag("includeDesignations", q.IncludeDesignations)
	texts("exclude-system", "valueUri", q.ExcludeSystem...)
	texts("system-version", "valueUri", q.SystemVersion...)
	texts("force-system-version", "valueUri", q.ForceSystemVersion...)
	texts("check-system-version", "valueUri", q.CheckSystemVersion...)
	if q.Offset > 0 {
		add("offset", "valueInteger", element.NewNumber(int64(q.Offset)))
	}
	if q.Count >= 0 {
		add("count", "valueInteger", element.NewNumber(int64(q.Count)))
	}
	for _, u := range r.used {
		add("used-codesystem", "valueUri", element.NewString(u))
		system, version, _ := strings.Cut(u, "|")
		if cs, err := r.system(system, version); err == nil && !cs.complete() {
			add(cs.content, "valueUri", element.NewString(u))
		}
	}
	return out
}

func (r *run) contained(m member, q Expand) *element.Node {
	n := element.NewObject(element.Field{Name: "system", Value: element.NewString(m.system)})
	if m.abstract {
		n.Set("abstract", &element.Node{Kind: element.Bool, Text: "true"})
	}
	if m.inactive {
		n.Set("inactive", &element.Node{Kind: element.Bool, Text: "true"})
	}
	if m.version != "" {
		n.Set("version", element.NewString(m.version))
	}
	n.Set("code", element.NewString(m.code))
	display := m.display
	if q.DisplayLanguage != "" {
		display = r.display(m, q.DisplayLanguage)
	}
	if display != "" {
		n.Set("display", element.NewString(display))
	}
	if q.IncludeDesignations {
		if d := r.designations(m); len(d) > 0 {
			n.Set("designation", list(d...))
		}
	}
	return n
}

// designations are those of the value set, then those of the code system.
func (r *run) designations(m member) []*element.Node {
	out := append([]*element.Node(nil), m.listed.Get("designation").List()...)
	if cs, err := r.system(m.system, m.version); err == nil {
		if x, _ := cs.find(m.code); x != nil {
			out = append(out, x.node.Get("designation").List()...)
		}
	}
	return out
}

// display is the text of a code in a language, or its usual one.
func (r *run) display(m member, language string) string {
	if cs, err := r.system(m.system, m.version); err == nil && cs.language != "" && speaks(cs.language, language) && m.listed == nil {
		return m.display
	}
	if text := inLanguage(r.designations(m), language); text != "" {
		return text
	}
	return m.display
}

// speaks reports whether text in one language serves who asks for another: de-CH serves de.
func speaks(has, want string) bool {
	has, want = strings.ToLower(has), strings.ToLower(want)
	return has == want || strings.HasPrefix(has, want+"-")
}

func inLanguage(designations []*element.Node, language string) string {
	for want := language; want != ""; {
		for _, d := range designations {
			if speaks(d.Get("language").String(), want) {
				return d.Get("value").String()
			}
		}
		i := strings.LastIndexByte(want, '-')
		if i < 0 {
			break
		}
		want = want[:i]
	}
	return ""
}

// Codes lists the codes of a value set, for search parameters with :in and
// :not-in. Errors are those of [Service.Expand].
func (s *Service) Codes(ctx context.Context, valueSet string) ([]Coding, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	vs, err := r.valueSet(valueSet)
	if err != nil {
		return nil, public(err)
	}
	all, err := r.expanded(vs)
	if err != nil {
		return nil, public(err)
	}
	out := make([]Coding, len(all))
	for i, m := range all {
		out[i] = Coding{System: m.system, Code: m.code}
	}
	return out, nil
}

// Member says whether a code is in a value set, without expanding it. known is
// false where that depends on content that is not installed, or where the value
// set cannot be evaluated; in is false then. Errors are failures of the source.
func (s *Service) Member(ctx context.Context, valueSet, system, code string) (in, known bool, err error) {
	r, err := s.begin(ctx)
	if err != nil {
		return false, false, err
	}
	in, err = r.contains(valueSet, system, code)
	if err == nil {
		return in, true, nil
	}
	if outcome.Of(public(err)).Status() == http.StatusUnprocessableEntity {
		return false, false, nil
	}
	return false, false, err
}

// Descendants lists a code and all codes below it, for search parameters with
// :below. A code that the system does not have stands for itself alone. The error
// is an *outcome.Error with not-found (422) where the system is not installed.
func (s *Service) Descendants(ctx context.Context, system, code string) ([]string, error) {
	return s.relatives(ctx, system, code, down)
}

// Ancestors lists a code and all codes above it, for search parameters with
// :above; otherwise it is as [Service.Descendants].
func (s *Service) Ancestors(ctx context.Context, system, code string) ([]string, error) {
	return s.relatives(ctx, system, code, up)
}

func (s *Service) relatives(ctx context.Context, system, code string, next func(*concept) []int32) ([]string, error) {
	r, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	cs, err := r.system(system, "")
	if err != nil {
		return nil, public(err)
	}
	_, i := cs.find(code)
	if i < 0 || cs.partOf {
		return []string{code}, nil
	}
	return cs.codesOf(cs.closure(i, next)), nil
}
