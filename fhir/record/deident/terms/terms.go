// Package terms reads what practices have laid down for their de-identified releases: data use agreements, experts'
// determinations, and which codes and questionnaires of their own may be released.
package terms

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/deident"
)

// Terms is what one practice has laid down. It is the content of one file.
type Terms struct {
	Agreements     []Agreement     `json:"agreements"`
	Determinations []Determination `json:"determinations"`
	// Codes are codes of the practice's own systems, and Questionnaires linkIds by questionnaire, that may be released,
	// see [deident.Config].
	Codes          map[string][]string `json:"codes"`
	Questionnaires map[string][]string `json:"questionnaires"`
}

// Validity is for whom a document is in force, and when.
type Validity struct {
	// Reference names the document in which it is on file, such as Contract/dua-7.
	Reference string `json:"reference"`
	// Recipients are the client_ids of those who may receive releases under it.
	Recipients []string `json:"recipients"`
	// From and Until are the first day on which it is in force and the first on which it is not any more (UTC), as YYYY-MM-DD.
	From  string `json:"from"`
	Until string `json:"until"`
}

// Agreement is a data use agreement (45 CFR 164.514(e)(4)).
type Agreement struct{ Validity }

// Determination is an expert's determination (45 CFR 164.514(b)(1)), see [deident.Determination].
type Determination struct {
	Validity
	K        int             `json:"k"`
	Days     int             `json:"days"`
	Quasi    []deident.Quasi `json:"quasiIdentifiers"`
	YearBand int             `json:"yearBand"`
}

const dayForm = "2006-01-02"

func (v Validity) check() error {
	ref, ok := fhir.ParseRef(v.Reference)
	if !ok || ref.String() != v.Reference {
		return errors.New("reference: name the document, such as Contract/dua-7")
	}
	from, err := time.Parse(dayForm, v.From)
	until, later := time.Parse(dayForm, v.Until)
	if err != nil || later != nil || !from.Before(until) {
		return errors.New("from, until: two days as YYYY-MM-DD, the first before the second")
	}
	if len(v.Recipients) == 0 || slices.Contains(v.Recipients, "") {
		return errors.New("recipients: name the clients, by their client_id")
	}
	return nil
}

// holds reports whether v is in force for a client.
func (v Validity) holds(client string, now time.Time) bool {
	from, err := time.Parse(dayForm, v.From)
	until, later := time.Parse(dayForm, v.Until)
	return err == nil && later == nil && !now.Before(from) && now.Before(until) && client != "" && slices.Contains(v.Recipients, client)
}

// system is the URL of a code system or a questionnaire.
var system = regexp.MustCompile(`^(https?://|urn:)\S+$`)

// Parse reads the file of a practice, and refuses what it does not know.
func Parse(text []byte) (Terms, error) {
	var t Terms
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return t, fmt.Errorf("it is not the JSON of terms: %w", err)
	}
	if d.More() {
		return t, errors.New("there is something behind the terms")
	}
	var errs []error
	for i, a := range t.Agreements {
		if err := a.check(); err != nil {
			errs = append(errs, fmt.Errorf("agreements[%d].%w", i, err))
		}
	}
	for i, x := range t.Determinations {
		err := x.check()
		switch {
		case err != nil:
		case x.K < deident.MinK:
			err = fmt.Errorf("k: at least %d", deident.MinK)
		case x.Days < 1 || x.Days > deident.MaxDays:
			err = fmt.Errorf("days: 1 to %d", deident.MaxDays)
		case x.YearBand < 0 || x.YearBand > 100:
			err = errors.New("yearBand: 0 to 100 years")
		default:
			err = quasi(x.Quasi)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("determinations[%d].%w", i, err))
		}
	}
	for name, lists := range map[string]map[string][]string{"codes": t.Codes, "questionnaires": t.Questionnaires} {
		for url, list := range lists {
			if !system.MatchString(url) || len(list) == 0 || slices.Contains(list, "") {
				errs = append(errs, fmt.Errorf("%s: each URL has a list of what may be released", name))
				break
			}
		}
	}
	return t, errors.Join(errs...)
}

func quasi(list []deident.Quasi) error {
	for i, q := range list {
		if !q.Known() || slices.Contains(list[:i], q) {
			return errors.New("quasiIdentifiers: each is one that the documentation lists, and there once")
		}
	}
	return nil
}

// Grounds is what one release goes by.
type Grounds struct {
	// Reference is the agreement or the determination, or the zero Ref where the profile asks for none.
	Reference fhir.Ref
	Codes     map[string][]string
	Answers   map[string][]string    // see [deident.Config.Questionnaires]
	Expert    *deident.Determination // without Shifts
	// Digest is of all of it: a release that was begun by other grounds does not go on.
	Digest [32]byte
}

var errNone = map[deident.Method]error{
	deident.LimitedSet: outcome.New(outcome.Forbidden, "a limited data set needs a data use agreement that is in force and names this client (45 CFR 164.514(e)(4)): the practice has none on file"),
	deident.Expert:     outcome.New(outcome.Forbidden, "this profile needs an expert's determination that is in force and names this client (45 CFR 164.514(b)(1)): the practice has none on file"),
}

// For gives what a release to a client goes by: of several documents the first in the file.
func (t Terms) For(p deident.Profile, client string, now time.Time) (Grounds, error) {
	g := Grounds{Codes: t.Codes, Answers: t.Questionnaires}
	switch p.Method {
	case deident.LimitedSet:
		i := slices.IndexFunc(t.Agreements, func(a Agreement) bool { return a.holds(client, now) })
		if i < 0 {
			return Grounds{}, errNone[p.Method]
		}
		g.Reference, _ = fhir.ParseRef(t.Agreements[i].Reference)
	case deident.Expert:
		i := slices.IndexFunc(t.Determinations, func(d Determination) bool { return d.holds(client, now) })
		if i < 0 {
			return Grounds{}, errNone[p.Method]
		}
		d := t.Determinations[i]
		g.Reference, _ = fhir.ParseRef(d.Reference)
		g.Expert = &deident.Determination{Reference: g.Reference, Days: d.Days, K: d.K, Quasi: d.Quasi, YearBand: d.YearBand}
	}
	text, err := json.Marshal([]any{p.String(), g})
	if err != nil {
		return Grounds{}, fmt.Errorf("terms: %w", err)
	}
	g.Digest = sha256.Sum256(text)
	return g, nil
}

// Practices holds the terms of each practice. The zero value is that of none.
type Practices struct {
	of atomic.Pointer[map[int32]Terms]
}

// Of gives the terms of a practice; one that has laid down nothing has the zero Terms.
func (p *Practices) Of(tenant int32) Terms {
	if m := p.of.Load(); m != nil {
		return (*m)[tenant]
	}
	return Terms{}
}

// File is the name of the terms of a practice in its directory, beside its policy.
const File = "releases.json"

// Load reads the terms of practices from the directory of their policies, such as harbor/releases.json for the practice
// harbor. After an error they stay what they were.
func (p *Practices) Load(dir fs.FS, tenant func(slug string) (int32, bool)) error {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return fmt.Errorf("terms: %w", err)
	}
	all := map[int32]Terms{}
	var errs []error
	for _, e := range entries {
		name := path.Join(e.Name(), File)
		text, err := fs.ReadFile(dir, name)
		if errors.Is(err, fs.ErrNotExist) || !e.IsDir() {
			continue
		}
		id, ok := tenant(e.Name())
		if !ok && err == nil {
			err = errors.New("there is no such practice")
		}
		if err == nil {
			all[id], err = Parse(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("terms: %s: %w", name, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	p.of.Store(&all)
	return nil
}

// Set gives one practice terms, for whoever has no directory.
func (p *Practices) Set(tenant int32, t Terms) {
	all := map[int32]Terms{}
	if m := p.of.Load(); m != nil {
		for id, x := range *m {
			all[id] = x
		}
	}
	all[tenant] = t
	p.of.Store(&all)
}
