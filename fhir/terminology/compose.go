package terminology

import (
	"errors"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir/outcome"
)

// members gives the codes of a value set in the order of its definition, each once.
func (r *run) members(vs *valueSet) ([]member, error) {
	leave, err := r.enter(vs)
	if err != nil {
		return nil, err
	}
	defer leave()
	if vs.defined {
		out, err := r.composed(vs)
		var u *unknownError
		if err == nil || vs.stored == nil || !errors.As(err, &u) {
			return out, err
		}
	}
	if vs.stored == nil {
		return nil, unknown("the value set %s has no definition that could be evaluated", vs.node.Get("url").String())
	}
	return vs.stored, r.spend(len(vs.stored))
}

func (r *run) composed(vs *valueSet) ([]member, error) {
	var out []member
	seen := map[memberKey]bool{}
	for i := range vs.include {
		part, err := r.included(&vs.include[i])
		if err != nil {
			return nil, err
		}
		for _, m := range part {
			if seen[m.key()] || vs.activeOnly && m.inactive {
				continue
			}
			gone, err := r.excluded(vs, m)
			if err != nil {
				return nil, err
			}
			if gone {
				continue
			}
			seen[m.key()] = true
			if out = append(out, m); len(out) > r.codes {
				return nil, outcome.New(outcome.TooCostly, "the value set has more than "+strconv.Itoa(r.codes)+" codes")
			}
		}
	}
	return out, nil
}

func (r *run) excluded(vs *valueSet, m member) (bool, error) {
	for i := range vs.exclude {
		in, err := r.inClause(&vs.exclude[i], m.system, m.code)
		if err != nil || in {
			return in, err
		}
	}
	return false, nil
}

// included gives the codes of one include.
func (r *run) included(c *clause) ([]member, error) {
	imports := c.valueSets
	var out []member
	var err error
	if c.system != "" {
		out, err = r.ofSystem(c)
	} else {
		out, err = r.imported(imports[0])
		imports = imports[1:]
	}
	if err != nil || len(imports) == 0 {
		return out, err
	}
	// Several value sets, or a system and value sets: what is in all of them.
	var both []member
	for _, m := range out {
		in := true
		for _, canonical := range imports {
			if in, err = r.contains(canonical, m.system, m.code); err != nil {
				return nil, err
			}
			if !in {
				break
			}
		}
		if in {
			both = append(both, m)
		}
	}
	return both, nil
}

func (r *run) imported(canonical string) ([]member, error) {
	vs, err := r.valueSet(canonical)
	if err != nil {
		return nil, err
	}
	return r.expanded(vs)
}

func (r *run) ofSystem(c *clause) ([]member, error) {
	cs, err := r.system(c.system, c.version)
	var u *unknownError
	if len(c.listed) > 0 && errors.As(err, &u) {
		cs, err = nil, nil // a list stands for itself
	}
	if err != nil {
		return nil, err
	}
	if cs != nil {
		r.note(cs)
	}
	if len(c.listed) > 0 {
		return r.listed(c, cs)
	}
	if err := r.spend(len(cs.concepts) * c.cost()); err != nil {
		return nil, err
	}
	match, err := matchers(cs, c.filters)
	if err != nil {
		return nil, err
	}
	var out []member
	for i := range cs.concepts {
		if x := &cs.concepts[i]; match(int32(i)) {
			out = append(out, member{system: cs.url, version: cs.version, code: x.code, display: x.display, inactive: x.inactive, abstract: x.abstract})
		}
	}
	return out, nil
}

// listed gives the codes that a value set names one by one. They are taken at
// its word, also where the installed version of the code system lacks some.
func (r *run) listed(c *clause, cs *codeSystem) ([]member, error) {
	if err := r.spend(len(c.listed)); err != nil {
		return nil, err
	}
	system, version := c.system, c.version
	if cs != nil {
		system, version = cs.url, cs.version
	}
	out := make([]member, 0, len(c.listed))
	for _, n := range c.listed {
		m := member{system: system, version: version, code: n.Get("code").String(), display: n.Get("display").String()}
		if n.Get("designation") != nil {
			m.listed = n
		}
		if cs != nil {
			if x, _ := cs.find(m.code); x != nil {
				m.inactive, m.abstract = x.inactive, x.abstract
				if m.display == "" {
					m.display = x.display
				}
			}
		}
		out = append(out, m)
	}
	return out, nil
}

type expansion struct {
	members []member
	used    []string
}

// expanded is members, from memory where that can be.
func (r *run) expanded(vs *valueSet) ([]member, error) {
	key := cacheKey{r.revision, cachedExpansion, vs.key}
	keep := vs.key != "" && len(r.pins) == 0
	if keep {
		if v, ok := r.cache.Get(key); ok {
			if e, ok := v.(*expansion); ok {
				r.merge(e.used)
				return e.members, r.spend(len(e.members))
			}
		}
	}
	outer := r.used
	r.used = nil
	m, err := r.members(vs)
	own := r.used
	r.used = outer
	r.merge(own)
	if err != nil {
		return nil, err
	}
	if keep {
		size := int64(100)
		for _, x := range m {
			size += int64(96 + len(x.code) + len(x.display))
		}
		r.cache.Put(key, &expansion{m, own}, size)
	}
	return m, nil
}

func (r *run) merge(used []string) {
	for _, u := range used {
		known := false
		for _, x := range r.used {
			known = known || x == u
		}
		if !known {
			r.used = append(r.used, u)
		}
	}
}

// contains says whether a code is in a value set, without making its expansion.
// Where that depends on content that is not installed, the error is an unknownError.
func (r *run) contains(canonical, system, code string) (bool, error) {
	vs, err := r.valueSet(canonical)
	if err != nil {
		return false, err
	}
	return r.in(vs, system, code)
}

func (r *run) in(vs *valueSet, system, code string) (bool, error) {
	leave, err := r.enter(vs)
	if err != nil {
		return false, err
	}
	defer leave()
	if vs.defined {
		in, err := r.inCompose(vs, system, code)
		var u *unknownError
		if err == nil || vs.stored == nil || !errors.As(err, &u) {
			return in, err
		}
	}
	if vs.stored == nil {
		return false, unknown("the value set %s has no definition that could be evaluated", vs.node.Get("url").String())
	}
	for _, m := range vs.stored {
		if m.system == system && m.code == code {
			return true, nil
		}
	}
	return false, r.spend(len(vs.stored))
}

func (r *run) inCompose(vs *valueSet, system, code string) (bool, error) {
	in, err := r.some(vs.include, system, code)
	if err != nil || !in {
		return false, err
	}
	if vs.activeOnly {
		if cs, err := r.system(system, ""); err == nil {
			if x, _ := cs.find(code); x != nil && x.inactive {
				return false, nil
			}
		}
	}
	out, err := r.some(vs.exclude, system, code)
	return !out, err
}

// some reports whether a code is in one of the clauses. One that is known to
// have it decides, whatever is unknown of the others.
func (r *run) some(clauses []clause, system, code string) (bool, error) {
	var doubt error
	for i := range clauses {
		in, err := r.inClause(&clauses[i], system, code)
		var u *unknownError
		switch {
		case in:
			return true, nil
		case errors.As(err, &u):
			doubt = err
		case err != nil:
			return false, err
		}
	}
	return false, doubt
}

// inClause: a part that is known not to have the code decides, whatever is unknown of the others.
func (r *run) inClause(c *clause, system, code string) (bool, error) {
	var doubt error
	if c.system != "" {
		in, err := r.inSystem(c, system, code)
		var u *unknownError
		switch {
		case errors.As(err, &u):
			doubt = err
		case err != nil || !in:
			return false, err
		}
	}
	for _, canonical := range c.valueSets {
		in, err := r.contains(canonical, system, code)
		var u *unknownError
		switch {
		case errors.As(err, &u):
			doubt = err
		case err != nil || !in:
			return false, err
		}
	}
	return doubt == nil, doubt
}

func (r *run) inSystem(c *clause, system, code string) (bool, error) {
	if err := r.spend(c.cost()); err != nil {
		return false, err
	}
	if bare := bareSystem(c.system); bare != system {
		return false, nil
	}
	if _, ok := c.byCode[code]; ok {
		return true, nil
	}
	cs, err := r.system(c.system, c.version)
	if len(c.listed) > 0 {
		if err != nil || cs.caseSensitive {
			return false, passUnlessUnknown(err)
		}
		for _, n := range c.listed {
			if cs.fold(n.Get("code").String()) == cs.fold(code) {
				return true, nil
			}
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, i := cs.find(code)
	if i < 0 {
		if !cs.complete() {
			return false, unknown("the code system %s is installed in part, and %s is not in that part", cs.canonical(), code)
		}
		return false, nil
	}
	match, err := matchers(cs, c.filters)
	if err != nil {
		return false, err
	}
	return match(i), nil
}

func passUnlessUnknown(err error) error {
	var u *unknownError
	if errors.As(err, &u) {
		return nil
	}
	return err
}

func bareSystem(system string) string {
	system, _, _ = strings.Cut(system, "|")
	return system
}
