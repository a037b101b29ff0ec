package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/cloister-health/cloister/api"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/search"
)

// views reads one record on every path and says, for each, whether it was there.
func (h *house) views(t *testing.T, token string, k known) map[string]bool {
	t.Helper()
	at, id := "/"+k.ref.String(), string(k.ref.ID)
	seen := map[string]bool{}
	status := func(name string, c call) answer {
		a := h.do(token, c)
		switch a.status {
		case http.StatusOK, http.StatusNotModified:
			seen[name] = true
		case http.StatusForbidden, http.StatusNotFound:
			seen[name] = false
		default:
			t.Errorf("%s %s: %d", c.method, c.path, a.status)
		}
		return a
	}
	type bundle struct {
		Total *int
		Entry []struct {
			Resource json.RawMessage
			Response struct{ Status string }
		}
	}
	var holds func(body []byte) bool
	holds = func(body []byte) bool {
		var head struct{ ResourceType, ID string }
		if err := json.Unmarshal(body, &head); err != nil {
			t.Fatalf("%v: %.200s", err, body)
		}
		if head.ResourceType != "Bundle" {
			return head.ID == id
		}
		var b bundle
		if err := json.Unmarshal(body, &b); err != nil {
			t.Fatalf("%v: %.200s", err, body)
		}
		found := b.Total != nil && *b.Total > 0
		for _, e := range b.Entry {
			found = found || e.Resource != nil && (e.Response.Status == "" || e.Response.Status[0] == '2') && holds(e.Resource)
		}
		return found
	}
	entries := func(name string, c call) { seen[name] = holds([]byte(status(name, c).body)) }
	status("read", get(at))
	status("HEAD", call{method: "HEAD", path: "/fhir" + at})
	status("conditional read", call{method: "GET", path: "/fhir" + at, header: map[string]string{"If-None-Match": "*"}})
	status("vread", get(at+"/_history/1"))
	entries("history", get(at+"/_history"))
	entries("search by _id", get("/"+string(k.ref.Type)+"?_id="+id))
	entries("search among others", get("/"+string(k.ref.Type)+"?_count=1000&_id="+id+","+string(sample.Absent())))
	entries("POST _search", call{method: "POST", path: "/fhir/" + string(k.ref.Type) + "/_search", body: "_id=" + id, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}})
	entries("count", get("/"+string(k.ref.Type)+"?_id="+id+"&_summary=count"))
	for name, url := range map[string]string{"batch read": at[1:], "batch search": string(k.ref.Type) + "?_id=" + id, "batch vread": at[1:] + "/_history/1"} {
		entries(name, call{method: "POST", path: "/fhir", body: fmt.Sprintf(`{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":%q}}]}`, url)})
	}
	return seen
}

// disagreement names the paths that see the record and those that do not, "" if all agree.
func disagreement(seen map[string]bool) string {
	var yes, no []string
	for name, ok := range seen {
		if ok {
			yes = append(yes, name)
		} else {
			no = append(no, name)
		}
	}
	if len(yes) == 0 || len(no) == 0 {
		return ""
	}
	return fmt.Sprintf("visible by %v, hidden from %v", yes, no)
}

// pairs draws a persona and a record, of either practice, as often as n says; each
// type comes up as often as any other.
func pairs(r *rand.Rand, n int, visit func(clinic.Persona, known)) {
	byType := map[fhir.ResourceType][]known{}
	var types []fhir.ResourceType
	for _, s := range sampleRecords() {
		if byType[s.ref.Type] == nil {
			types = append(types, s.ref.Type)
		}
		byType[s.ref.Type] = append(byType[s.ref.Type], s.known)
	}
	people := clinic.Personas(sample)
	for range n {
		visit(pick(r, people), pick(r, byType[pick(r, types)]))
	}
}

// TestPathsAgree: for one caller and one record, every path of access gives the
// same answer to whether it is there. CLOISTER_PATH_PAIRS sets the number of pairs.
// Channels of leaks: L56.
func TestPathsAgree(t *testing.T) {
	h := newHouse(t, cluster.NewDatabase(t, seeded), nil)
	visible, hidden := 0, 0
	pairs(rand.New(rand.NewPCG(3, 3)), rounds(t, "CLOISTER_PATH_PAIRS", 400), func(p clinic.Persona, k known) {
		seen := h.views(t, p.Name, k)
		if d := disagreement(seen); d != "" {
			t.Errorf("%s, %s: %s", p.Name, k.ref, d)
		}
		if seen["read"] {
			visible++
		} else {
			hidden++
		}
	})
	t.Logf("%d visible and %d hidden", visible, hidden)
	if visible < 20 || hidden < 20 {
		t.Error("the pairs show too little of one kind")
	}
}

// divergent is a store in which one path sees more, or less, than the others.
type divergent struct {
	api.Store
	core *server.Core
	path string
}

func (d divergent) VRead(ctx context.Context, r authz.Restriction, id fhir.ID, v fhir.VersionID) (record.Sealed, error) {
	if d.path == "vread" {
		return record.Sealed{}, authz.ErrDenied
	}
	return d.Store.VRead(ctx, r, id, v)
}

func (d divergent) History(ctx context.Context, r authz.Reach, h record.History) (record.Page, error) {
	if d.path == "history" {
		return record.Page{}, authz.ErrDenied
	}
	return d.Store.History(ctx, r, h)
}

func (d divergent) Search(ctx context.Context, r authz.Reach, q search.Query) (record.Page, error) {
	if d.path == "search" {
		r = authz.Reach{}
	}
	if d.path == "count" && !r.Of(q.Type()).Empty() {
		return leaky{d.Store, d.core, "total"}.Search(ctx, r, q)
	}
	return d.Store.Search(ctx, r, q)
}

func TestPathsFindADivergence(t *testing.T) {
	for _, path := range []string{"vread", "history", "search", "count"} {
		t.Run(path, func(t *testing.T) {
			h := newHouse(t, cluster.NewDatabase(t, seeded), func(c *server.Core) api.Store { return divergent{c.Store, c, path} })
			found := ""
			pairs(rand.New(rand.NewPCG(4, 4)), 120, func(p clinic.Persona, k known) {
				if found == "" {
					if d := disagreement(h.views(t, p.Name, k)); d != "" {
						found = p.Name + ", " + k.ref.String() + ": " + d
					}
				}
			})
			if found == "" {
				t.Fatal("the test does not notice that paths diverge")
			}
			t.Log(found)
		})
	}
}
