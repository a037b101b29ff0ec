package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/search"
)

func operator(tenant int32) authz.Principal { return server.Operator(tenant, "case") }

// TestCases runs testdata/authz/e2e: each case asserts the decision, the
// released JSON, the AuditEvent and the membership in search results together.
func TestCases(t *testing.T) {
	cases, common := loadCases(t)
	if len(cases) < 60 {
		t.Errorf("%d cases, want at least 60", len(cases))
	}
	callers := map[string]bool{}
	shared := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	for _, c := range cases {
		t.Run(strings.TrimSuffix(c.file, ".yaml")+"/"+c.Name, func(t *testing.T) {
			h := shared
			if c.writes() {
				h = newHouse(t, cluster.NewDatabase(t, seeded), nil)
			}
			for _, fault := range h.run(c, maps.Clone(common)) {
				t.Error(fault)
			}
			for _, s := range c.Steps {
				callers[s.Caller.Like] = true
			}
		})
	}
	if t.Failed() {
		return
	}
	for _, p := range clinic.Personas(sample) {
		if !callers[p.Name] {
			t.Errorf("no case has the caller %q", p.Name)
		}
	}
}

// run gives the faults of a case.
func (h *house) run(c e2eCase, names map[string]known) (faults []string) {
	for _, r := range c.Records {
		if err := h.stored(r, names); err != nil {
			return []string{err.Error()}
		}
	}
	for i, s := range c.Steps {
		for _, fault := range h.step(s, names) {
			if len(c.Steps) > 1 {
				fault = fmt.Sprintf("request %d: %s", i+1, fault)
			}
			faults = append(faults, fault)
		}
	}
	return faults
}

func (h *house) step(s step, names map[string]known) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	h.clock.Add(int64(s.Days)*24*60*60 + int64(s.Minutes)*60)
	for i := range s.Load {
		res, err := resource(&s.Load[i], names)
		if err == nil {
			err = h.load(clinic.Practices()[0].Slug, res)
		}
		if err != nil {
			fault("load %d: %v", i+1, err)
			return faults
		}
	}
	token, who, err := h.admit(s.Caller, names)
	if err != nil {
		fault("%v", err)
		return faults
	}
	// A case is about one access: a write is not read back unless the case asks for it.
	rq := call{method: s.Request.Method, header: map[string]string{"Prefer": "return=minimal"}}
	for k, v := range s.Request.Header {
		if rq.header[k], err = filled(v, names); err != nil {
			fault("%v", err)
			return faults
		}
	}
	if rq.path, err = filled("/fhir"+s.Request.Path, names); err != nil {
		fault("%v", err)
		return faults
	}
	if s.Request.Body.Kind != 0 {
		body, err := content(&s.Request.Body, names)
		if err != nil {
			fault("body: %v", err)
			return faults
		}
		if text, ok := body.(string); ok {
			rq.body = text
		} else {
			text, err := json.Marshal(body)
			if err != nil {
				fault("body: %v", err)
				return faults
			}
			rq.body = string(text)
		}
	}
	a := h.do(token, rq)
	if a.status != s.Expect.Status {
		fault("%s %s is %d, want %d\n%.700s", rq.method, rq.path, a.status, s.Expect.Status, a.body)
	}
	if got := decision(a); got != s.Expect.Decision {
		fault("the decision is %s, want %s", got, s.Expect.Decision)
	}
	faults = append(faults, released(s.Expect, a, names)...)
	var hidden []known
	for name, found := range s.Expect.Found {
		k, ok := names[name]
		if !ok {
			fault("found: %q names no record of the case", name)
		}
		if !found {
			hidden = append(hidden, k)
		}
	}
	faults = append(faults, carries(a, rq.body, hidden)...)
	events := h.events(a)
	faults = append(faults, audited(s.Expect, who, events, names)...)
	for name, found := range s.Expect.Found {
		f, more := h.membership(token, names[name], found)
		for _, x := range f {
			fault("%s (%s): %s", name, names[name].ref.Type, x)
		}
		events = append(events, more...)
	}
	for _, e := range events {
		for _, k := range hidden {
			if s.Request.Method == http.MethodDelete && a.status < 300 && e.Interaction == fhir.Delete {
				continue // it is hidden because this very request deleted it
			}
			if entities := audit.Render(e).Get("entity"); entities != nil && strings.Contains(string(entities.AppendJSON(nil)), string(k.ref.ID)) {
				fault("an AuditEvent of this caller's names the hidden %s", k.ref)
			}
		}
	}
	return faults
}

// decision reads the decision off the answer: whoever gets nothing was denied.
func decision(a answer) string {
	var b struct {
		Type  string
		Total *int
		Entry []any
	}
	switch {
	case a.status >= 400:
		return "deny"
	case json.Unmarshal([]byte(a.body), &b) == nil && b.Type == "searchset" && len(b.Entry) == 0 && (b.Total == nil || *b.Total == 0):
		return "deny"
	}
	return "permit"
}

// released compares the JSON: what is listed is equal, what is to be absent is.
func released(want expectation, a answer, names map[string]known) (faults []string) {
	if want.Released.Kind == 0 && len(want.Absent) == 0 {
		return nil
	}
	v, err := value(&want.Released, names)
	if want.Released.Kind == 0 {
		v, err = map[string]any{}, nil
	}
	if err != nil {
		return []string{"released: " + err.Error()}
	}
	if text, ok := v.(string); ok {
		if text != a.body {
			return []string{fmt.Sprintf("released: %.300q, want %q", a.body, text)}
		}
		return nil
	}
	var got any
	d := json.NewDecoder(strings.NewReader(a.body))
	d.UseNumber()
	if err := d.Decode(&got); err != nil {
		return []string{fmt.Sprintf("released: no JSON: %.300q", a.body)}
	}
	faults = differences("", v, got)
	for _, path := range want.Absent {
		if present(got, strings.Split(path, ".")) {
			faults = append(faults, "released: it has "+path)
		}
	}
	return faults
}

// differences says where want is not part of got; lists are compared item by item.
func differences(path string, want, got any) []string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("released: %s is %.200v, want an object", path, got)}
		}
		var out []string
		for k, v := range w {
			if _, ok := g[k]; !ok {
				out = append(out, fmt.Sprintf("released: %s.%s is missing", path, k))
				continue
			}
			out = append(out, differences(path+"."+k, v, g[k])...)
		}
		return out
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return []string{fmt.Sprintf("released: %s is %.200v, want %d items", path, got, len(w))}
		}
		var out []string
		for i := range w {
			out = append(out, differences(fmt.Sprintf("%s.%d", path, i), w[i], g[i])...)
		}
		return out
	}
	if want != got {
		return []string{fmt.Sprintf("released: %s is %.200v, want %v", path, got, want)}
	}
	return nil
}

// present reports whether a dotted path leads somewhere; it passes through every item of a list.
func present(v any, path []string) bool {
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, func(x any) bool { return present(x, path) })
	}
	if len(path) == 0 {
		return true
	}
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	below, ok := m[path[0]]
	return ok && present(below, path[1:])
}

// carries looks for words of hidden records in an answer, and for any words in a refusal.
func carries(a answer, sent string, hidden []known) (faults []string) {
	found := clinic.FindCanaries([]byte(normal(a)))
	if a.status >= 400 && len(found) > 0 {
		faults = append(faults, fmt.Sprintf("a refusal carries data: %v", found))
	}
	for _, k := range hidden {
		for _, c := range k.canaries {
			if slices.Contains(found, c) && !strings.Contains(sent, c) {
				faults = append(faults, fmt.Sprintf("the answer carries words of the hidden %s", k.ref))
			}
		}
	}
	return faults
}

// events reads what became durable under the name of the exchange.
func (h *house) events(a answer) []audit.Event {
	h.t.Helper()
	id := a.header.Get("X-Request-Id")
	if id == "" {
		h.t.Fatal("an answer without X-Request-Id")
	}
	ctx := context.Background()
	if h.reader == nil {
		h.reader = h.owner()
	}
	rows, err := h.reader.Query(ctx, `SELECT id::text, at, tenant, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, request, entities
FROM audit.event WHERE request = $1 ORDER BY interaction, outcome, id`, id)
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	var out []audit.Event
	for rows.Next() {
		var e audit.Event
		var outcome, interaction, typ, user string
		var entities []string
		if err := rows.Scan(&e.ID, &e.At, &e.Caller.Tenant, &outcome, &interaction, &typ, &e.Caller.Subject, &e.Caller.Client, &user,
			&e.Caller.Roles, &e.Caller.Purpose, &e.Caller.PolicyVersion, &e.Caller.RequestID, &entities); err != nil {
			h.t.Fatal(err)
		}
		e.Outcome, e.Interaction, e.Type = audit.Outcome(outcome), fhir.Interaction(interaction), fhir.ResourceType(typ)
		e.Caller.User, _ = fhir.ParseRef(user)
		for _, x := range entities {
			at, _, _ := strings.Cut(x, "/_history/")
			ref, ok := fhir.ParseRef(at)
			if !ok {
				h.t.Fatalf("an entity %q", x)
			}
			e.Entities = append(e.Entities, audit.Entity{Ref: ref})
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return out
}

// audited compares the AuditEvents as rendered; agent and purpose are always the caller's.
func audited(want expectation, who clinic.Persona, events []audit.Event, names map[string]known) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, "audit: "+fmt.Sprintf(format, args...))
	}
	var expected []expectedEvent
	switch want.Audit.Kind {
	case yaml.SequenceNode:
		for _, n := range want.Audit.Content {
			var e expectedEvent
			if err := strictly(n, &e); err != nil {
				fault("%v", err)
			}
			expected = append(expected, e)
		}
	default:
		var e expectedEvent
		if err := strictly(&want.Audit, &e); err != nil {
			fault("%v", err)
		}
		expected = append(expected, e)
	}
	slices.SortStableFunc(expected, func(a, b expectedEvent) int {
		return strings.Compare(a.Interaction+" "+a.Outcome, b.Interaction+" "+b.Outcome)
	})
	var got []map[string]any
	for _, e := range events {
		var m map[string]any
		if err := json.Unmarshal(audit.Render(e).AppendJSON(nil), &m); err != nil {
			fault("no JSON: %v", err)
		}
		got = append(got, m)
	}
	if len(got) != len(expected) {
		fault("%d events, want %d: %v", len(got), len(expected), got)
		return faults
	}
	for i, e := range expected {
		g := got[i]
		at := func(path ...any) string { return text(g, path...) }
		if x := at("subtype", 0, "code"); x != e.Interaction {
			fault("the interaction is %q, want %q", x, e.Interaction)
		}
		if x := at("outcome"); x != e.Outcome {
			fault("the outcome is %q, want %q", x, e.Outcome)
		}
		if x := at("purposeOfEvent", 0, "coding", 0, "code"); x != who.Claims.Purpose {
			fault("the purpose is %q, want %q", x, who.Claims.Purpose)
		}
		if x := at("agent", 0, "who", "reference"); x != who.Claims.FHIRUser {
			fault("the agent is %q, want %q", x, who.Claims.FHIRUser)
		}
		if x := at("agent", 0, "who", "identifier", "value"); x != "test|"+who.Claims.Subject {
			fault("the subject is %q", x)
		}
		var entities []string
		list, _ := g["entity"].([]any)
		for j := range list {
			if x := at("entity", j, "what", "reference"); x != "" { // not what was asked, and in which request
				entities = append(entities, x)
			}
		}
		if e.Entities == nil {
			continue
		}
		wanted := make([]string, 0, len(e.Entities))
		for _, name := range e.Entities {
			k, ok := names[name]
			if !ok {
				fault("%q names no record of the case", name)
			}
			wanted = append(wanted, k.ref.String())
		}
		sort.Strings(wanted)
		sort.Strings(entities)
		if !slices.Equal(wanted, entities) && len(wanted)+len(entities) > 0 {
			fault("it names %v, want %v", entities, wanted)
		}
	}
	return faults
}

// text follows keys and indices to a string, "" where they lead nowhere.
func text(v any, path ...any) string {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return ""
			}
			v = l[p]
		}
	}
	s, _ := v.(string)
	return s
}

// membership asks for a record by id, by what it is about, and by number; the
// three agree, or the whole type is refused to the caller.
func (h *house) membership(token string, k known, want bool) (faults []string, events []audit.Event) {
	ask := func(query string) (status, total int, ids []string) {
		next := "/fhir/" + string(k.ref.Type) + "?" + query
		for next != "" {
			a := h.do(token, call{method: "GET", path: next})
			events = append(events, h.events(a)...)
			if a.status != http.StatusOK {
				return a.status, 0, nil
			}
			var b struct {
				Total *int
				Link  []struct{ Relation, URL string }
				Entry []struct {
					Resource struct{ ID string }
					Search   struct{ Mode string }
				}
			}
			if err := json.Unmarshal([]byte(a.body), &b); err != nil {
				h.t.Fatal(err)
			}
			if b.Total != nil {
				total = *b.Total
			}
			for _, e := range b.Entry {
				if e.Search.Mode == "match" {
					ids = append(ids, e.Resource.ID)
				}
			}
			next = ""
			for _, l := range b.Link {
				if u, err := url.Parse(l.URL); l.Relation == "next" && err == nil {
					next = u.RequestURI()
				}
			}
			if !want {
				if f := carries(a, "", []known{k}); len(f) > 0 {
					faults = append(faults, "search: "+strings.Join(f, "; "))
				}
			}
		}
		return 200, total, ids
	}
	id := string(k.ref.ID)
	status, _, ids := ask("_id=" + id)
	countStatus, total, _ := ask("_id=" + id + "&_summary=count")
	by := k.parameter()
	byStatus, _, all := ask(by + "&_count=1000")
	_, counted, _ := ask(by + "&_summary=count")
	if status != countStatus || status != byStatus {
		faults = append(faults, fmt.Sprintf("the searches are %d, %d and %d", status, countStatus, byStatus))
	}
	if got := slices.Contains(ids, id); got != want {
		faults = append(faults, fmt.Sprintf("search by _id: found is %t, want %t (%d)", got, want, status))
	}
	if got := slices.Contains(all, id); got != want {
		faults = append(faults, fmt.Sprintf("search by %s: found is %t, want %t (%d)", by, got, want, byStatus))
	}
	if total != len(ids) || counted != len(all) {
		faults = append(faults, fmt.Sprintf("_summary=count says %d and %d, and there are %d and %d", total, counted, len(ids), len(all)))
	}
	return faults, events
}

// parameter is a search, other than by _id, that finds the record where it is visible.
func (k known) parameter() string {
	if k.ref.Type == "Patient" {
		if k.family != "" {
			return "name=" + url.QueryEscape(k.family)
		}
		return "_lastUpdated=" + "ge" + noon.Add(-time.Hour).Format("2006-01-02")
	}
	if k.patient != "" {
		for _, p := range search.Params(k.ref.Type) {
			if p.Code == "patient" && p.Searchable() {
				return "patient=" + k.patient
			}
		}
	}
	return "_lastUpdated=" + "ge" + noon.Add(-time.Hour).Format("2006-01-02")
}
