// Package export carries out bulk exports (Bulk Data Access 2.0): leased jobs that write
// what a client may see to a sink, page by page, and let it out again.
//
// A job is what its client asked for and who the client is; it is no permission. Each page
// is planned, decided, recorded and released anew, and each line of a file is held against
// what the client may see when it fetches the file.
package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// Engine is the decision point, as an export uses it.
type Engine interface {
	Authorize(context.Context, authz.Principal, fhir.Interaction, fhir.ResourceType) (authz.Grant, error)
	Extend(authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Grant, error)
	Plan(context.Context, authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Restriction, error)
	Releasing(g authz.Grant, profile string) (authz.Grant, error)
	Outbound(context.Context, authz.Grant, fhir.Interaction, ...fhir.ResourceType) (authz.Reach, error)
}

// Gate is the one way out of the store.
type Gate interface {
	Release(context.Context, authz.Grant, fhir.ResourceType, ...record.Sealed) ([]record.Released, error)
	Record(context.Context, authz.Grant, fhir.ResourceType, ...record.Sealed) error
	// Collect lets out what is kept until it is fetched; Disclose records that it is.
	Collect(context.Context, authz.Grant, fhir.ResourceType, ...record.Sealed) ([]record.Released, error)
	Disclose(context.Context, authz.Grant, fhir.ResourceType, ...record.Sealed) error
}

// Consents explains consents, see [record.Consents].
type Consents interface {
	ConsentScopes(context.Context, authz.Grant, []fhir.ID) ([]obligation.Scope, error)
}

// Sink keeps what is written. Names are UUIDs, each of which is created once.
type Sink interface {
	// Create begins an object, which is durable when Close has returned without an error.
	Create(ctx context.Context, name string) (io.WriteCloser, error)
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Remove removes an object; one that is not there is no error.
	Remove(ctx context.Context, name string) error
}

// Clients knows whether a client may still act.
type Clients interface {
	// Standing refuses a client that may not act any more as it once did: it was retired, its
	// approval by the practice was withdrawn, or it may ask for less.
	Standing(context.Context, authz.Frozen) error
}

// Config wires the exports. All of it is required but Terminology, Clients, what releases need, and what has a default.
type Config struct {
	Base        string // of the service, see api.Config
	Engine      Engine
	Gate        Gate
	Records     Records
	Consents    Consents
	Jobs        Jobs
	Sink        Sink
	Keys        *envelope.Keys // wrap the key of each job
	Clients     Clients        // nil: the token at kick-off is all that is known of a client
	Terminology search.Terminology
	// De-identified releases need all three; without one of them none is made.
	Releases Releases
	OptOuts  OptOuts
	Terms    *terms.Practices
	Log      *slog.Logger
	Now      func() time.Time // the one clock of the server

	Most    int           // jobs of one client that are under way at a time; 0 is 4
	Keep    time.Duration // of what is done; 0 is a day
	Settle  time.Duration // how far the clocks of the servers of one database may be apart; below 0 is none, 0 is 2 s
	Page    int           // resources of a page; 0 is 500
	Bytes   int           // of a page, unless one resource alone is longer; 0 is 8 MiB
	Longest int           // lines of a file; 0 is 100,000
	Pages   int           // whose rows are in one file of a table, at most; 0 is 20
	Haste   int           // how often a client may ask too early how far an export is; 0 is 8
}

const (
	lease     = time.Minute            // after which another worker goes on with a job
	attempts  = 8                      // turns in a row that come to nothing, after which a job has failed
	unfetched = 24 * time.Hour         // for how long a job can be under way
	patience  = 5 * time.Second        // before a turn after one that came to nothing
	farewell  = 5 * time.Second        // for giving a turn back at the end
	unsettled = 200 * time.Millisecond // before it is asked again whether what began before is over
)

// ErrOver is the end of a turn: somebody else has taken the job since, or it was cancelled.
var ErrOver = errors.New("export: the turn is over")

// Service carries out exports.
type Service struct {
	Config
	held   envelope.Held[*envelope.StreamKey]
	births births
}

// New wires the exports.
func New(c Config) (*Service, error) {
	for name, missing := range map[string]bool{
		"Base": c.Base == "", "Engine": c.Engine == nil, "Gate": c.Gate == nil, "Records": c.Records == nil, "Consents": c.Consents == nil,
		"Jobs": c.Jobs == nil, "Sink": c.Sink == nil, "Keys": c.Keys == nil, "Log": c.Log == nil, "Now": c.Now == nil,
	} {
		if missing {
			return nil, errors.New("export: " + name + " is missing")
		}
	}
	c.sized()
	return &Service{Config: c}, nil
}

// sized fills in what has a default.
func (c *Config) sized() {
	defaults(&c.Most, 4)
	defaults(&c.Keep, 24*time.Hour)
	defaults(&c.Settle, 2*time.Second)
	defaults(&c.Page, 500)
	defaults(&c.Bytes, 8<<20)
	defaults(&c.Longest, 100_000)
	defaults(&c.Pages, 20)
	defaults(&c.Haste, 8)
	c.Settle = max(c.Settle, 0)
	c.Page = min(c.Page, search.MaxCount)
}

func defaults[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// ownerOf is the digest of who sent a job: one client as one subject in one practice.
func ownerOf(c authz.Caller) [32]byte {
	var b []byte
	for _, p := range []string{"bulk export", c.Subject, c.Client} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

// contents is what of a job is sealed: who asked, and for what.
type contents struct {
	Principal authz.Frozen `json:"principal"`
	Request   Request      `json:"request"`
}

// Accept begins an export, and gives its id. Its client must act for itself: scopes of
// users and patients end with the session that they are of.
func (s *Service) Accept(ctx context.Context, g authz.Grant, r Request) (string, error) {
	who, err := authz.Freeze(g)
	if err != nil {
		return "", err
	}
	under, err := s.releasing(g, &r)
	if err != nil {
		return "", err
	}
	if err := r.settle(s.Engine, under); err != nil {
		return "", err
	}
	for _, f := range r.Filters {
		if name, _, _ := strings.Cut(f, "?"); !r.about(f) {
			r.Ignore(name, "_typeFilter names a type of which there is nothing in this export")
		}
	}
	c := g.Caller()
	if err := s.standing(ctx, who); err != nil {
		return "", err
	}
	if err := s.check(ctx, under, r, c.Now); err != nil {
		return "", err
	}
	j := Job{
		ID: record.NewID(), Tenant: c.Tenant, Owner: ownerOf(c), Policy: c.PolicyVersion,
		Transaction: c.Now.Truncate(time.Millisecond), Lease: c.Now.Add(s.Settle), Created: c.Now, Expires: c.Now.Add(unfetched),
	}
	if err := s.seal(ctx, &j, contents{who, r}); err != nil {
		return "", err
	}
	// The record of it is durable before anything begins.
	if _, err := s.Gate.Release(ctx, g, levelType(r.Level)); err != nil {
		return "", err
	}
	return j.ID, s.enqueue(ctx, j, r.Release != nil)
}

// enqueue keeps a new job. A release is begun before anybody can take it: what was erased since, nobody begins again.
func (s *Service) enqueue(ctx context.Context, j Job, release bool) error {
	if !release {
		return s.Jobs.Enqueue(ctx, j, s.Most)
	}
	if err := s.Releases.Begin(ctx, j.ID, j.Tenant, j.Expires); err != nil {
		return err
	}
	if err := s.Jobs.Enqueue(ctx, j, s.Most); err != nil {
		return errors.Join(err, s.Releases.Erase(ctx, j.ID))
	}
	return nil
}

// levelType is the type that the path of an export names.
func levelType(l Level) fhir.ResourceType {
	switch l {
	case Patient:
		return "Patient"
	case Group:
		return "Group"
	}
	return ""
}

// check refuses what could not be carried out: a query that does not read, a Group that
// the client does not see.
func (s *Service) check(ctx context.Context, g authz.Grant, r Request, now time.Time) error {
	opt, err := s.options(ctx, g, now)
	if err != nil {
		return err
	}
	for _, t := range r.Types {
		if _, err := r.query(t, opt); err != nil {
			return err
		}
	}
	for _, f := range r.Filters {
		if !r.about(f) && !r.Lenient {
			return errFilter
		}
	}
	if r.Level != Group {
		return nil
	}
	read, err := s.Engine.Extend(g, fhir.Read, "Group")
	if err != nil {
		return err
	}
	reach, err := s.Engine.Outbound(ctx, read, fhir.Read, "Group")
	if err != nil {
		return err
	}
	visible, err := s.Records.Current(ctx, reach.Of("Group"), []fhir.ID{r.Group})
	if err == nil && !slices.ContainsFunc(visible[r.Group], func(v record.Sealed) bool { return !vault.Head(v).Deleted }) {
		err = outcome.New(outcome.NotFound, "")
	}
	return err
}

// standing refuses a client that may not act any more.
func (s *Service) standing(ctx context.Context, who authz.Frozen) error {
	if s.Clients == nil {
		return nil
	}
	return s.Clients.Standing(ctx, who)
}

// KeyOwner is what the key of a job is bound to.
func KeyOwner(tenant int32, id string, owner [32]byte) []byte {
	return append([]byte(fmt.Sprintf("cloister export\n%d\n%s\n", tenant, id)), owner[:]...)
}

func keyOwner(j *Job) []byte { return KeyOwner(j.Tenant, j.ID, j.Owner) }

const boundContents = "contents"

// seal makes the key of a job, and seals what it is about.
func (s *Service) seal(ctx context.Context, j *Job, c contents) error {
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("export: a request cannot be kept: %w", err)
	}
	key, wrapped, err := s.Keys.NewStreamKey(ctx, keyOwner(j))
	if err != nil {
		return unreached(err)
	}
	j.KEK, j.Wrapped = s.Keys.URI(), wrapped
	var b bytes.Buffer
	w, err := key.Seal(&b, []byte(boundContents))
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	j.Sealed = b.Bytes()
	return nil
}

// open gives the key of a job, and what it is about.
func (s *Service) open(ctx context.Context, j *Job) (*envelope.StreamKey, contents, error) {
	var c contents
	key, err := s.held.Get(j.ID, s.Now(), func() (*envelope.StreamKey, error) {
		return s.Keys.UnwrapStream(ctx, j.KEK, j.Wrapped, keyOwner(j))
	})
	if err != nil {
		return nil, c, unreached(err)
	}
	r, err := key.Open(bytes.NewReader(j.Sealed), []byte(boundContents))
	if err != nil {
		return nil, c, fmt.Errorf("export: %w", err)
	}
	text, err := io.ReadAll(r)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return nil, c, errors.New("export: a kept request does not read")
	}
	return key, c, nil
}

// unreached is the public face of what went wrong with a key.
func unreached(err error) error {
	return outcome.New(outcome.Unavailable, "the key of the export cannot be reached: try again").Because(err)
}

// scopes reads the scopes of a frozen principal.
func scopes(text string) authz.Scopes { return smart.Parse(text) }

// Cancel forgets an export of the caller's own, with all that it wrote.
func (s *Service) Cancel(ctx context.Context, g authz.Grant, id string) error {
	c := g.Caller()
	if _, _, err := s.find(ctx, g, id); err != nil {
		return err
	}
	if _, err := s.Gate.Release(ctx, g, ""); err != nil { // the record of who cancels
		return err
	}
	// The keys go first: as long as the job is there, its client can say again that it is to go.
	if s.Releases != nil {
		if err := s.Releases.Erase(ctx, id); err != nil {
			return err
		}
	}
	if err := s.Jobs.Drop(ctx, c.Tenant, ownerOf(c), id); err != nil {
		return err
	}
	s.held.Forget(id)
	// What is left of it is removed later, too; sooner is better.
	if err := s.Sweep(ctx); err != nil {
		s.Log.Warn("what an export wrote could not be removed yet", "error", err)
	}
	return nil
}
