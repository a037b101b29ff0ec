package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
)

// e2eCase is one end-to-end case; testdata/authz/README.md explains the keys.
type e2eCase struct {
	Name    string       `yaml:"name"`
	Rules   []string     `yaml:"rules"`
	Records namedRecords `yaml:"records"`
	step    `yaml:",inline"`
	Steps   []step `yaml:"steps"`

	file string
}

// step is one request of a case.
type step struct {
	Caller  caller      `yaml:"caller"`
	Days    int         `yaml:"days"` // that pass before the request
	Minutes int         `yaml:"minutes"`
	Load    []yaml.Node `yaml:"load"` // what the operator stores before the request
	Request request     `yaml:"request"`
	Expect  expectation `yaml:"expect"`
}

type request struct {
	Method string            `yaml:"method"`
	Path   string            `yaml:"path"`
	Header map[string]string `yaml:"header"`
	Body   yaml.Node         `yaml:"body"`
}

type expectation struct {
	Decision string          `yaml:"decision"` // permit or deny
	Status   int             `yaml:"status"`
	Released yaml.Node       `yaml:"released"`
	Absent   []string        `yaml:"absent"`
	Audit    yaml.Node       `yaml:"audit"` // one expectedEvent, or several
	Found    map[string]bool `yaml:"found"`
}

type expectedEvent struct {
	Interaction string   `yaml:"interaction"`
	Outcome     string   `yaml:"outcome"`
	Entities    []string `yaml:"entities"`
}

// caller is a persona of the sample clinic by name, or one like her, or one
// written out.
type caller struct {
	Like          string    `yaml:"like"`
	Roles         []string  `yaml:"roles"`
	Purpose       string    `yaml:"purpose"`
	Practice      string    `yaml:"practice"`
	User          string    `yaml:"user"`
	Organizations *[]string `yaml:"organizations"`
	Patient       string    `yaml:"patient"`
	Scope         string    `yaml:"scope"`
	SignedIn      int       `yaml:"signed_in"` // minutes ago
}

func (c *caller) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&c.Like)
	}
	type plain caller
	return strictly(n, (*plain)(c))
}

// strictly decodes a node and refuses unknown keys, which Node.Decode does not.
func strictly(n *yaml.Node, into any) error {
	text, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	return d.Decode(into)
}

// namedRecord is a record that a case speaks of: one of the sample clinic, one
// of its own, or one that never existed.
type namedRecord struct {
	name string

	Practice string            `yaml:"practice"`
	Patient  string            `yaml:"patient"` // given name
	Type     fhir.ResourceType `yaml:"type"`
	Has      texts             `yaml:"has"`
	Lacks    texts             `yaml:"lacks"`
	Absent   bool              `yaml:"absent"`
	Load     yaml.Node         `yaml:"load"`
}

// texts is one text or a list of them.
type texts []string

func (x *texts) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*x = texts{n.Value}
		return nil
	}
	return n.Decode((*[]string)(x))
}

// namedRecords keeps the order of the file: a record may refer to those above it.
type namedRecords []namedRecord

func (r *namedRecords) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return errors.New("records: a mapping from names to records")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		x := namedRecord{name: n.Content[i].Value}
		if err := strictly(n.Content[i+1], &x); err != nil {
			return fmt.Errorf("records: %s: %w", x.name, err)
		}
		*r = append(*r, x)
	}
	return nil
}

// known is a record that a case knows by name.
type known struct {
	ref      fhir.Ref
	practice string
	patient  string // id of its patient, or ""
	family   string // of a Patient
	canaries []string
	json     string
}

// sampleRecords lists the sample clinic in the order in which it is made.
var sampleRecords = sync.OnceValue(func() (out []struct {
	known
	given string
}) {
	for b := range clinic.Generate(sample) {
		given := ""
		for _, r := range b.Resources {
			if r.Get("resourceType").String() == "Patient" {
				given = r.Get("name").List()[0].Get("given").List()[0].String()
			}
		}
		for _, r := range b.Resources {
			k := known{practice: b.Practice, patient: string(b.Patient), canaries: clinic.Canaries(r), json: string(r.AppendJSON(nil))}
			k.ref = fhir.Ref{Type: fhir.ResourceType(r.Get("resourceType").String()), ID: fhir.ID(r.Get("id").String())}
			if k.ref.Type == "Patient" {
				k.family = r.Get("name").List()[0].Get("family").String()
			}
			out = append(out, struct {
				known
				given string
			}{k, given})
		}
	}
	return out
})

// find gives the first sample record that fits.
func (r namedRecord) find(names map[string]known) (known, error) {
	for _, list := range []texts{r.Has, r.Lacks} {
		for i := range list {
			var err error
			if list[i], err = filled(list[i], names); err != nil {
				return known{}, err
			}
		}
	}
	practice := r.Practice
	if practice == "" {
		practice = clinic.Practices()[0].Slug
	}
	if r.Absent {
		return known{ref: fhir.Ref{Type: r.Type, ID: sample.Absent()}, practice: practice}, nil
	}
	for _, s := range sampleRecords() {
		contains := func(text string) bool { return strings.Contains(s.json, text) }
		if s.practice == practice && s.given == r.Patient && s.ref.Type == r.Type &&
			!slices.ContainsFunc(r.Has, func(x string) bool { return !contains(x) }) && !slices.ContainsFunc(r.Lacks, contains) {
			return s.known, nil
		}
	}
	return known{}, fmt.Errorf("the sample clinic has no such record %q", r.name)
}

var mark = regexp.MustCompile(`\{([a-z][a-z0-9-]*)(\.id)?\}`)

// filled replaces {name} by the reference and {name.id} by the id of a known record.
func filled(text string, names map[string]known) (string, error) {
	var err error
	out := mark.ReplaceAllStringFunc(text, func(m string) string {
		parts := mark.FindStringSubmatch(m)
		k, ok := names[parts[1]]
		switch {
		case !ok:
			err = fmt.Errorf("%s names no record of the case", m)
			return m
		case parts[2] != "":
			return string(k.ref.ID)
		}
		return k.ref.String()
	})
	return out, err
}

// value turns a node into what encoding/json knows, with the names filled in.
// Unquoted dates stay what they look like.
func value(n *yaml.Node, names map[string]known) (any, error) {
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			v, err := value(n.Content[i+1], names)
			if err != nil {
				return nil, err
			}
			out[n.Content[i].Value] = v
		}
		return out, nil
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := value(c, names)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case yaml.ScalarNode:
		switch n.Tag {
		case "!!int", "!!float":
			return json.Number(n.Value), nil
		case "!!bool":
			return n.Value == "true", nil
		case "!!null":
			return nil, nil
		}
		return filled(n.Value, names)
	}
	return nil, fmt.Errorf("line %d: neither mapping nor list nor text", n.Line)
}

// merge is a JSON merge patch (RFC 7386).
func merge(into, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := into.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(t, k)
		} else {
			t[k] = merge(t[k], v)
		}
	}
	return t
}

// content gives the JSON of a resource: one written out, or {like: NAME, set:
// {...}}, a known one with elements changed (null removes).
func content(n *yaml.Node, names map[string]known) (any, error) {
	v, err := value(n, names)
	if err != nil {
		return nil, err
	}
	m, _ := v.(map[string]any)
	name, ok := m["like"].(string)
	if !ok {
		return v, nil
	}
	k, found := names[name]
	if !found || k.json == "" {
		return nil, fmt.Errorf("like: %q names no record of the sample clinic or the case", name)
	}
	var now any
	d := json.NewDecoder(strings.NewReader(k.json))
	d.UseNumber()
	if err := d.Decode(&now); err != nil {
		return nil, err
	}
	if set, ok := m["set"]; ok {
		now = merge(now, set)
	}
	return now, nil
}

// resource reads what the operator is to store.
func resource(n *yaml.Node, names map[string]known) (*codec.Resource, error) {
	v, err := content(n, names)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return codec.Parse(text)
}

// patientOf gives the id of the patient of a resource that a case wrote out.
func patientOf(r *codec.Resource) string {
	if r.Type == "Patient" {
		return string(r.ID())
	}
	for _, l := range r.References() {
		if ref, ok := codec.LocalRef(l.Node.Text); ok && ref.Type == "Patient" {
			return string(ref.ID)
		}
	}
	return ""
}

// stored makes a record of the case known, and stores it where it is not of the sample clinic.
func (h *house) stored(r namedRecord, names map[string]known) error {
	if r.Load.Kind == 0 {
		k, err := r.find(names)
		names[r.name] = k
		return err
	}
	res, err := resource(&r.Load, names)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	if res.ID() == "" {
		res.SetID(fhir.ID("case-" + r.name))
	}
	practice := r.Practice
	if practice == "" {
		practice = clinic.Practices()[0].Slug
	}
	k := known{ref: res.Ref(), practice: practice, patient: patientOf(res), canaries: clinic.Canaries(res.Root), json: string(res.Root.AppendJSON(nil))}
	if names := res.Root.Get("name").List(); res.Type == "Patient" && len(names) > 0 {
		k.family = names[0].Get("family").String()
	}
	names[r.name] = k
	return h.load(practice, res)
}

// load stores a resource as the operator does.
func (h *house) load(practice string, res *codec.Resource) error {
	h.clock.Add(1)
	tenant, ok := h.core.Store.Tenant(practice)
	if !ok {
		return fmt.Errorf("no practice %q", practice)
	}
	ctx := h.t.Context()
	grant, err := h.core.Engine.Authorize(ctx, operator(tenant), fhir.Transaction, "")
	if err != nil {
		return err
	}
	c, err := h.core.Gate.Admit(ctx, grant, record.Change{Interaction: fhir.Update, Ref: res.Ref(), Content: res, Upsert: true, Import: true})
	if err != nil {
		return fmt.Errorf("load %s: %w", res.Ref(), err)
	}
	if _, err = h.core.Store.Commit(ctx, []record.Cleared{c}); err != nil {
		return fmt.Errorf("load %s: %w", res.Ref(), err)
	}
	return nil
}

// admit makes the caller of a step known to the server and returns her token.
func (h *house) admit(c caller, names map[string]known) (string, clinic.Persona, error) {
	var p clinic.Persona
	if c.Like != "" {
		var ok bool
		if p, ok = persona(c.Like); !ok {
			return "", p, fmt.Errorf("caller: the sample clinic has no persona %q", c.Like)
		}
		if c.Roles == nil && c.Organizations == nil && c.Purpose+c.Practice+c.User+c.Patient+c.Scope == "" && c.SignedIn == 0 {
			return c.Like, p, nil
		}
	}
	var err error
	fill := func(text string) string {
		out, e := filled(text, names)
		err = errors.Join(err, e)
		return out
	}
	set := func(into *string, text string) {
		if text != "" {
			*into = fill(text)
		}
	}
	p.Claims.Subject = "case"
	set(&p.Claims.Purpose, c.Purpose)
	set(&p.Claims.Practice, c.Practice)
	set(&p.Claims.FHIRUser, c.User)
	set(&p.Claims.Patient, c.Patient)
	set(&p.Claims.Scope, c.Scope)
	if c.Roles != nil {
		p.Claims.Roles = c.Roles
	}
	if c.Organizations != nil {
		p.Claims.Organizations = nil
		for _, o := range *c.Organizations {
			p.Claims.Organizations = append(p.Claims.Organizations, fill(o))
		}
	}
	if p.Claims.Practice == "" {
		p.Claims.Practice = clinic.Practices()[0].Slug
	}
	token := fmt.Sprintf("case-%d", len(h.callers))
	h.callers[token], h.signed[token] = p, time.Duration(c.SignedIn)*time.Minute
	return token, p, err
}

// loadCases reads the end-to-end cases; every fault in them is reported at once.
func loadCases(t *testing.T) (out []e2eCase, names map[string]known) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "..", "testdata", "authz", "e2e", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata/authz/e2e: %d files, %v", len(files), err)
	}
	seen := map[string]bool{}
	var common namedRecords
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var content struct {
			Records namedRecords `yaml:"records"`
			Cases   []e2eCase    `yaml:"cases"`
		}
		d := yaml.NewDecoder(bytes.NewReader(text))
		d.KnownFields(true)
		if err := d.Decode(&content); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", filepath.Base(f), err)
		}
		for _, r := range content.Records {
			if r.Load.Kind != 0 {
				t.Errorf("%s: %s: a record of a case's own belongs to the case", filepath.Base(f), r.name)
			}
		}
		common = append(common, content.Records...)
		for _, c := range content.Cases {
			c.file = filepath.Base(f)
			if c.Name == "" || seen[c.Name] {
				t.Errorf("%s: %q: a case has a name of its own", c.file, c.Name)
			}
			seen[c.Name] = true
			if len(c.Rules) == 0 {
				t.Errorf("%s: %s: a case names the rules that it stands for", c.file, c.Name)
			}
			if len(c.Steps) == 0 {
				c.Steps = []step{c.step}
			}
			for i := range c.Steps {
				s := &c.Steps[i]
				if s.Caller.Like == "" && s.Caller.Roles == nil {
					s.Caller = c.Caller
				}
				if s.Request.Method == "" {
					s.Request.Method = "GET"
				}
				if d := s.Expect.Decision; s.Expect.Status == 0 || d != "permit" && d != "deny" || s.Expect.Audit.Kind == 0 || len(s.Expect.Found) == 0 {
					t.Errorf("%s: %s: request %d: a request expects decision, status, audit and found", c.file, c.Name, i+1)
				}
				if s.Expect.Decision == "permit" && s.Expect.Released.Kind == 0 {
					t.Errorf("%s: %s: request %d: what is permitted is also released", c.file, c.Name, i+1)
				}
			}
			out = append(out, c)
		}
	}
	names = map[string]known{}
	for _, r := range common {
		if _, taken := names[r.name]; taken {
			t.Errorf("records: %q stands there twice", r.name)
		}
		k, err := r.find(names)
		if err != nil {
			t.Errorf("records: %v", err)
		}
		names[r.name] = k
	}
	if t.Failed() {
		t.FailNow()
	}
	return out, names
}

// writes reports whether the case needs a database of its own.
func (c e2eCase) writes() bool {
	for _, r := range c.Records {
		if r.Load.Kind != 0 {
			return true
		}
	}
	for _, s := range c.Steps {
		if len(s.Load) > 0 || s.Days > 0 || s.Request.Method != http.MethodGet && s.Request.Method != http.MethodHead {
			return true
		}
	}
	return false
}
