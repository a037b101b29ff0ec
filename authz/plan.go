package authz

import (
	"reflect"
	"sort"
	"strconv"
	"sync"

	"github.com/cloister-health/cloister/authz/internal/issue"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// planned is all that the arms of a Restriction depend on, beside the
// catalogue of label classes. Facts between caller and record are not in it:
// they are asked of the database each time.
type planned struct {
	roles   string
	purpose string
	action  Action
	typ     fhir.ResourceType
	policy  string
}

// joined writes a list in a way that no other list is written.
func joined(list []string) string {
	var b []byte
	for _, s := range list {
		b = strconv.AppendQuote(b, s)
	}
	return string(b)
}

// arms are the label classes that are permitted under each set of facts.
type arms struct {
	arms  []Arm // never changed: a Restriction hands out copies
	notes label.Set
}

// compile asks the policy about every label class.
func compile(classes map[int16]label.Set, permit func(label.Set) ([]Fact, error)) (arms, error) {
	byNeeds := map[Fact][]int16{}
	var out arms
	for id, labels := range classes {
		sets, err := permit(labels)
		if err != nil {
			return arms{}, err
		}
		for _, needs := range sets {
			byNeeds[needs] = append(byNeeds[needs], id)
			out.notes |= labels & label.Notes
		}
	}
	out.arms = make([]issue.Arm, 0, len(byNeeds))
	for needs, ids := range byNeeds {
		sort.Slice(ids, func(a, b int) bool { return ids[a] < ids[b] })
		out.arms = append(out.arms, Arm{Classes: ids, Needs: needs})
	}
	sort.Slice(out.arms, func(a, b int) bool { return out.arms[a].Needs < out.arms[b].Needs })
	return out, nil
}

// maxPlans bounds the memory of the plans: callers choose roles and purpose through their tokens.
const maxPlans = 1 << 14

// plans remembers compiled arms for one catalogue of label classes; another
// catalogue starts afresh.
type plans struct {
	mu      sync.RWMutex
	classes map[int16]label.Set // held, so that its address stays its own
	size    int
	m       map[planned]arms
}

// current reports whether what is remembered was compiled from these very classes.
func (p *plans) current(classes map[int16]label.Set) bool {
	return p.m != nil && p.size == len(classes) && reflect.ValueOf(p.classes).Pointer() == reflect.ValueOf(classes).Pointer()
}

func (p *plans) get(classes map[int16]label.Set, k planned) (arms, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.current(classes) {
		return arms{}, false
	}
	a, ok := p.m[k]
	return a, ok
}

func (p *plans) put(classes map[int16]label.Set, k planned, a arms) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.current(classes) || len(p.m) >= maxPlans {
		p.classes, p.size, p.m = classes, len(classes), map[planned]arms{}
	}
	p.m[k] = a
}
