package pdp

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent/state"
	"github.com/cloister-health/cloister/fhir"
)

// Overlay is what one practice changes of the policy of the house. It can add
// lines, leave allow lines of the house out, and name its jurisdictions. It cannot
// leave a deny line out: what no allow line of the house can undo, none of a practice can.
//
//	p, role, purpose, action, types, labels, facts, effect, name   a line, as in policy.csv
//	drop, NAME                                                     leaves an allow line of the house out
//	jurisdiction, A|B                                              whose law holds, such as US-WA
type Overlay struct {
	File   string // how faults call it, such as policies/harbor/policy.csv
	Policy string
	Groups string // role and label groups beside those of the house; "" for none
}

const (
	policyFile = "policy.csv"
	groupsFile = "groups.csv"
)

// ReadOverlay reads the directory of a practice: policy.csv, and groups.csv if there is one.
func ReadOverlay(fsys fs.FS, dir string) (Overlay, error) {
	o := Overlay{File: path.Join(dir, policyFile)}
	text, err := fs.ReadFile(fsys, o.File)
	if err != nil {
		return Overlay{}, err //nolint:wrapcheck // it names the path
	}
	o.Policy = string(text)
	text, err = fs.ReadFile(fsys, path.Join(dir, groupsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Overlay{}, err //nolint:wrapcheck // it names the path
	}
	o.Groups = string(text)
	return o, nil
}

// NewPractice loads the policy of a practice. It fails, with every fault and its line number, unless the
// whole is flawless and passes the self-test of the house.
func NewPractice(house Source, o Overlay) (*Point, error) {
	next, err := buildPractice(house, o)
	if err != nil {
		return nil, err
	}
	p := &Point{}
	if err := p.put(next); err != nil {
		return nil, fmt.Errorf("%s: %w", o.File, err)
	}
	return p, nil
}

// Practice is p with the law that it is under, as the engine asks it.
func (p *Point) Practice() authz.Practice {
	out := authz.Practice{Policy: p}
	if c := p.current.Load(); c != nil {
		out.States = c.states
	}
	return out
}

func buildPractice(house Source, o Overlay) (*policy, error) {
	g, err := loadGroups(house.Groups)
	if err != nil {
		return nil, err
	}
	lines, err := load(house.Policy, g)
	if err != nil {
		return nil, err
	}
	f := &faults{file: path.Join(path.Dir(o.File), groupsFile)}
	rows(o.Groups, func(n int, fields []string) {
		if fields[0] == "type" {
			f.at(n, "a practice has role and label groups: each resource type is in one group of the house")
		}
	})
	if f.err() == nil {
		f.groups(o.Groups, g)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	a := addition{faults: faults{file: o.File}, groups: g, names: map[string]string{}, house: map[string]*line{}, dropped: map[string]bool{}}
	for _, l := range lines {
		a.house[l.name] = l
		a.names[l.name] = fmt.Sprintf("line %d of the house", l.number)
	}
	rows(o.Policy, a.row)
	states, err := state.Select(a.jurisdictions...)
	if err != nil {
		a.errs = append(a.errs, fmt.Errorf("%s: %w", o.File, err))
	}
	if err := a.err(); err != nil {
		return nil, err
	}
	lines = slices.DeleteFunc(lines, func(l *line) bool { return a.dropped[l.name] })
	return assemble(digest(house, o.Policy, o.Groups), append(lines, a.lines...), g, states)
}

// addition is the file of a practice while it is read.
type addition struct {
	faults
	groups        *groups
	names         map[string]string
	house         map[string]*line
	lines         []*line
	dropped       map[string]bool
	jurisdictions []string
}

func (a *addition) row(n int, fields []string) {
	switch fields[0] {
	case "drop":
		a.drop(n, fields)
	case "jurisdiction":
		if len(fields) != 2 {
			a.at(n, "%d fields; jurisdiction has 2: jurisdiction, A|B", len(fields))
			return
		}
		a.jurisdictions = append(a.jurisdictions, alternatives(fields[1], "|", func(format string, args ...any) { a.at(n, format, args...) })...)
	default:
		l := a.line(n, fields, a.groups, a.names)
		if l == nil {
			return
		}
		if l.allow && slices.Contains(l.role.names, Operator) {
			a.at(n, "a practice says nothing of the operator")
		}
		l.practice = true
		a.lines = append(a.lines, l)
	}
}

func (a *addition) drop(n int, fields []string) {
	if len(fields) != 2 {
		a.at(n, "%d fields; drop has 2: drop, NAME", len(fields))
		return
	}
	name := fields[1]
	switch l := a.house[name]; {
	case l == nil:
		a.at(n, "the house has no line %q", name)
	case !l.allow:
		a.at(n, "%q denies: a practice leaves allow lines out only", name)
	case slices.Contains(l.role.names, Operator):
		a.at(n, "a practice says nothing of the operator")
	case a.dropped[name]:
		a.at(n, "%q is left out already", name)
	}
	a.dropped[name] = true
}

// Practices is the policy of the house, and that of each practice that has one of
// its own. It is safe for concurrent use.
type Practices struct{ current atomic.Pointer[practices] }

type practices struct {
	house authz.Practice
	own   map[int32]authz.Practice
}

var _ authz.Policies = (*Practices)(nil)

// NewPractices has the policy of the house for everybody.
func NewPractices() (*Practices, error) {
	p := &Practices{}
	if err := p.Load(nil, nil); err != nil {
		return nil, err
	}
	return p, nil
}

// Load reads the policies of all practices, one directory each, named by the
// practice, and puts them in force together; or it fails, says all that is wrong with any of
// them, and leaves what is in force. tenant gives the number of a practice. Without fsys all have the policy of the house.
func (p *Practices) Load(fsys fs.FS, tenant func(practice string) (int32, bool)) error {
	house, err := New(Embedded())
	if err != nil {
		return err
	}
	next := &practices{house.Practice(), map[int32]authz.Practice{}}
	if fsys != nil {
		entries, err := fs.ReadDir(fsys, ".")
		if err != nil {
			return fmt.Errorf("pdp: %w", err)
		}
		var errs []error
		for _, e := range entries {
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			if err := next.add(fsys, e.Name(), tenant); err != nil {
				errs = append(errs, err)
			}
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	p.current.Store(next)
	return nil
}

func (p *practices) add(fsys fs.FS, name string, tenant func(string) (int32, bool)) error {
	id, ok := tenant(name)
	if !ok {
		return fmt.Errorf("%s: there is no practice of this name", name)
	}
	o, err := ReadOverlay(fsys, name)
	if err != nil {
		return err
	}
	point, err := NewPractice(Embedded(), o)
	if err != nil {
		return err
	}
	p.own[id] = point.Practice()
	return nil
}

// Of is what decides for a practice.
func (p *Practices) Of(tenant int32) authz.Practice {
	c := p.current.Load()
	if c == nil {
		return authz.Practice{Policy: &Point{}} // denies
	}
	if own, ok := c.own[tenant]; ok {
		return own
	}
	return c.house
}

// Own lists the practices that have a policy of their own, by number.
func (p *Practices) Own() []int32 {
	if c := p.current.Load(); c != nil {
		return slices.Sorted(maps.Keys(c.own))
	}
	return nil
}

// groupOf is the group of a type.
func (p *policy) groupOf(t fhir.ResourceType) string { return p.groups.of[t] }
