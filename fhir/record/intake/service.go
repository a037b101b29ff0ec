package intake

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/egress"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Decider is the decision point, as jobs use it.
type Decider interface {
	Engine
	Extend(authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Grant, error)
}

// Door is the enforcement point, as jobs use it: Release records who began an import, and
// who fetched its report.
type Door interface {
	Gate
	Release(context.Context, authz.Grant, fhir.ResourceType, ...record.Sealed) ([]record.Released, error)
}

// Clients knows whether a client may still act, as for exports.
type Clients interface {
	Standing(context.Context, authz.Frozen) error
}

// Config wires the imports of the API. All of it is required but Clients, Egress and what has a default.
type Config struct {
	Base    string // of the service, see api.Config
	Engine  Decider
	Gate    Door
	Finder  Finder
	Jobs    Jobs
	Sink    Sink
	Keys    *envelope.Keys // wrap the key of each job
	Clients Clients        // nil: the token at kick-off is all that is known of a client
	Egress  *egress.Guard  // nil: nothing is fetched, inputs are uploaded
	Log     *slog.Logger
	Now     func() time.Time // the one clock of the server

	Most     int           // jobs of one client that are under way at a time; 0 is 4
	Keep     time.Duration // of a report; 0 is a day
	Longest  int64         // bytes of one input, unpacked; 0 is 16 GiB
	Together int           // lines that may wait for each other, taken in by one transaction; 0 is 2000
	Stall    time.Duration // after which a connection that brings nothing is given up; 0 is 30 s
}

const (
	lease     = time.Minute     // after which another worker goes on with a job
	attempts  = 8               // turns in a row that come to nothing, after which a job has failed
	unfetched = 48 * time.Hour  // for how long a job can be under way
	patience  = 5 * time.Second // before a turn after one that came to nothing
)

// Service carries out imports.
type Service struct{ Config }

// NewService wires the imports.
func NewService(c Config) (*Service, error) {
	for name, missing := range map[string]bool{
		"Base": c.Base == "", "Engine": c.Engine == nil, "Gate": c.Gate == nil, "Finder": c.Finder == nil,
		"Jobs": c.Jobs == nil, "Sink": c.Sink == nil, "Keys": c.Keys == nil, "Log": c.Log == nil, "Now": c.Now == nil,
	} {
		if missing {
			return nil, errors.New("intake: " + name + " is missing")
		}
	}
	defaults(&c.Most, 4)
	defaults(&c.Keep, 24*time.Hour)
	defaults(&c.Longest, 16<<30)
	defaults(&c.Together, 2000)
	defaults(&c.Stall, 30*time.Second)
	return &Service{c}, nil
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
	for _, p := range []string{"bulk import", c.Subject, c.Client} {
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

// Accept begins an import of inputs that the server fetches, and gives its id.
func (s *Service) Accept(ctx context.Context, g authz.Grant, r Request) (string, error) {
	if s.Egress == nil {
		return "", outcome.New(outcome.NotSupported, "this server fetches nothing: post the lines themselves, as application/fhir+ndjson")
	}
	if err := r.check(s.Egress); err != nil {
		return "", err
	}
	return s.begin(ctx, g, r, nil)
}

// Upload begins an import of the lines that a client sends along.
func (s *Service) Upload(ctx context.Context, g authz.Grant, r Request, lines io.Reader, packed bool) (string, error) {
	r.Inputs = []Input{{}}
	if packed {
		zip, err := gzip.NewReader(lines)
		if err != nil {
			return "", outcome.New(outcome.Invalid, "the body is not gzip, as Content-Encoding says")
		}
		lines = zip
	}
	return s.begin(ctx, g, r, lines)
}

// begin keeps a job. Its client must act for itself: scopes of users and patients end with the
// session that they are of.
func (s *Service) begin(ctx context.Context, g authz.Grant, r Request, lines io.Reader) (string, error) {
	who, err := authz.Freeze(g)
	if err != nil {
		return "", err
	}
	if err := s.writes(g, r); err != nil {
		return "", err
	}
	if err := s.standing(ctx, who); err != nil {
		return "", err
	}
	c := g.Caller()
	j := Job{ID: record.NewID(), Tenant: c.Tenant, Owner: ownerOf(c), Lease: c.Now, Created: c.Now, Expires: c.Now.Add(unfetched)}
	key, err := s.seal(ctx, &j, contents{who, r})
	if err != nil {
		return "", err
	}
	// The record of it is durable before anything begins.
	if _, err := s.Gate.Release(ctx, g, ""); err != nil {
		return "", err
	}
	var chunks []Chunk
	if lines != nil {
		if chunks, err = s.receive(ctx, &j, key, lines); err != nil {
			return "", err
		}
		j.Input = 1
	}
	return j.ID, s.Jobs.Enqueue(ctx, j, chunks, s.Most)
}

// writes refuses a client that may write nothing of what it sends.
func (s *Service) writes(g authz.Grant, r Request) error {
	open := func(t fhir.ResourceType) bool {
		_, create := s.Engine.Extend(g, fhir.Create, t)
		_, update := s.Engine.Extend(g, fhir.Update, t)
		return create == nil || update == nil
	}
	for _, in := range r.Inputs {
		if in.Type != "" && !open(in.Type) || in.Type == "" && !slices.ContainsFunc(fhir.ResourceTypes(), open) {
			return authz.ErrDenied
		}
	}
	return nil
}

// receive keeps what a client sends, cut into chunks.
func (s *Service) receive(ctx context.Context, j *Job, key *envelope.StreamKey, from io.Reader) ([]Chunk, error) {
	var out []Chunk
	lines := NewLines(from, MaxLine)
	for {
		u, err := lines.Next()
		switch {
		case errors.Is(err, io.EOF) && out == nil:
			return nil, outcome.New(outcome.Invalid, "there is no line in the body: send resources as NDJSON, one on each line")
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, outcome.New(outcome.Invalid, "the body could not be read to its end").Because(err)
		case lines.Read() > s.Longest:
			return nil, outcome.New(outcome.TooLong, "the body is longer than this server takes: split it")
		}
		name, err := s.keep(ctx, j, key, u)
		if err != nil {
			return nil, err
		}
		out = append(out, Chunk{Input: 1, First: u.First, Lines: u.Lines, Name: name})
	}
}

// bound is what the content of an object is bound to.
func bound(job, name string) []byte { return []byte("chunk\n" + job + "\n" + name) }

// keep writes a unit to the sink: compressed, and encrypted with the key of the job.
func (s *Service) keep(ctx context.Context, j *Job, key *envelope.StreamKey, u Unit) (string, error) {
	name := record.NewID()
	// What is known of it before anything of it is there is how it is found again if nobody comes to its end.
	if err := s.Jobs.Reserve(ctx, name, s.Now().Add(time.Hour)); err != nil {
		return "", err
	}
	to, err := s.Sink.Create(ctx, name)
	if err != nil {
		return "", fmt.Errorf("intake: %w", err)
	}
	sealed, err := key.Seal(to, bound(j.ID, name))
	if err != nil {
		return "", errors.Join(fmt.Errorf("intake: %w", err), to.Close())
	}
	zip := gzip.NewWriter(sealed)
	_, err = zip.Write(u.Body)
	if err = errors.Join(err, zip.Close(), sealed.Close(), to.Close()); err != nil {
		return "", fmt.Errorf("intake: %w", err)
	}
	return name, nil
}

// read reads a chunk.
func (s *Service) read(ctx context.Context, j *Job, key *envelope.StreamKey, c Chunk) (_ *Unit, err error) {
	from, err := s.Sink.Open(ctx, c.Name)
	if err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	defer func() { _ = from.Close() }() // it was read
	plain, err := key.Open(from, bound(j.ID, c.Name))
	if err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	zip, err := gzip.NewReader(plain)
	if err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	body, err := io.ReadAll(zip)
	if err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	return &Unit{Body: body, First: c.First, Lines: c.Lines}, nil
}

func (s *Service) standing(ctx context.Context, who authz.Frozen) error {
	if s.Clients == nil {
		return nil
	}
	return s.Clients.Standing(ctx, who)
}

// KeyOwner is what the key of a job is bound to.
func KeyOwner(tenant int32, id string, owner [32]byte) []byte {
	return append([]byte(fmt.Sprintf("cloister import\n%d\n%s\n", tenant, id)), owner[:]...)
}

func keyOwner(j *Job) []byte { return KeyOwner(j.Tenant, j.ID, j.Owner) }

const boundContents = "contents"

// seal makes the key of a job, and seals what it is about.
func (s *Service) seal(ctx context.Context, j *Job, c contents) (*envelope.StreamKey, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("intake: a request cannot be kept: %w", err)
	}
	key, wrapped, err := s.Keys.NewStreamKey(ctx, keyOwner(j))
	if err != nil {
		return nil, unreached(err)
	}
	j.KEK, j.Wrapped = s.Keys.URI(), wrapped
	var b bytes.Buffer
	w, err := key.Seal(&b, []byte(boundContents))
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	j.Sealed = b.Bytes()
	return key, nil
}

// open gives the key of a job, and what it is about.
func (s *Service) open(ctx context.Context, j *Job) (*envelope.StreamKey, contents, error) {
	var c contents
	key, err := s.Keys.UnwrapStream(ctx, j.KEK, j.Wrapped, keyOwner(j))
	if err != nil {
		return nil, c, unreached(err)
	}
	r, err := key.Open(bytes.NewReader(j.Sealed), []byte(boundContents))
	if err != nil {
		return nil, c, fmt.Errorf("intake: %w", err)
	}
	text, err := io.ReadAll(r)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return nil, c, errors.New("intake: a kept request does not read")
	}
	return key, c, nil
}

// unreached is the public face of what went wrong with a key.
func unreached(err error) error {
	return outcome.New(outcome.Unavailable, "the key of the import cannot be reached: try again").Because(err)
}

// scopes reads the scopes of a frozen principal.
func scopes(text string) authz.Scopes { return smart.Parse(text) }

// Cancel forgets an import of the caller's own. What it has stored stays.
func (s *Service) Cancel(ctx context.Context, g authz.Grant, id string) error {
	c := g.Caller()
	if err := s.Jobs.Drop(ctx, c.Tenant, ownerOf(c), id); err != nil {
		return err
	}
	// What is left of it is removed later, too; sooner is better.
	if err := s.Sweep(ctx); err != nil {
		s.Log.Warn("the inputs of an import could not be removed yet", "error", err)
	}
	return nil
}

// Status is how far an import is.
type Status struct {
	State    State
	Reason   Reason
	Dry      bool
	Progress string    // in the words of X-Progress
	Begun    time.Time // the kick-off
	URL      string    // of the kick-off
	Expires  time.Time
	Inputs   []InputStatus // once it is done
}

// InputStatus is what became of one input.
type InputStatus struct {
	URL      string // "" where it was uploaded
	Tally    Tally
	Findings int // lines of its report
}

// find finds a job of the caller's own. Whoever does not act for itself has none.
func (s *Service) find(ctx context.Context, g authz.Grant, id string) (Job, contents, error) {
	var c contents
	if _, err := authz.Freeze(g); err != nil {
		return Job{}, c, err
	}
	who := g.Caller()
	j, err := s.Jobs.Find(ctx, who.Tenant, ownerOf(who), id)
	if err == nil {
		_, c, err = s.open(ctx, &j)
	}
	return j, c, err
}

// Status finds an import of the caller's own.
func (s *Service) Status(ctx context.Context, g authz.Grant, id string) (Status, error) {
	j, c, err := s.find(ctx, g, id)
	if err != nil {
		return Status{}, err
	}
	out := Status{State: j.State, Reason: j.Reason, Dry: c.Request.Dry, Progress: j.progress(len(c.Request.Inputs), s.Now()), Begun: j.Created.UTC(), URL: c.Request.URL, Expires: j.Expires}
	if j.State != Done {
		return out, nil
	}
	tallies, findings, err := s.Jobs.Counts(ctx, j)
	if err != nil {
		return out, err
	}
	for i, in := range c.Request.Inputs {
		out.Inputs = append(out.Inputs, InputStatus{URL: in.URL, Tally: tallies[i+1], Findings: findings[i+1]})
	}
	return out, nil
}

// progress says how far a job is, and how fast it goes.
func (j *Job) progress(inputs int, now time.Time) string {
	if j.Input < inputs {
		return fmt.Sprintf("fetching input %d of %d, %d lines", j.Input+1, inputs, j.Lines)
	}
	text := fmt.Sprintf("%d of %d lines", j.Settled, j.Lines)
	if d := now.Sub(j.Loading); !j.Loading.IsZero() && d > 0 {
		text += fmt.Sprintf(", %.0f lines/s", float64(j.Settled)/d.Seconds())
	}
	return text
}

// Report lets the report of an import out to its owner: the counts, then what was found in the
// input of that number, from 1, or in all of them (0).
func (s *Service) Report(ctx context.Context, g authz.Grant, id string, input int) (record.Stream, error) {
	j, c, err := s.find(ctx, g, id)
	if err != nil {
		return record.Stream{}, err
	}
	if j.State != Done || input > len(c.Request.Inputs) {
		return record.Stream{}, outcome.New(outcome.NotFound, "")
	}
	if err := s.standing(ctx, c.Principal); err != nil {
		return record.Stream{}, err
	}
	tallies, _, err := s.Jobs.Counts(ctx, j)
	if err != nil {
		return record.Stream{}, err
	}
	if _, err := s.Gate.Release(ctx, g, ""); err != nil {
		return record.Stream{}, err
	}
	first, last, title := input, input, fmt.Sprintf("input %d", input)
	if input == 0 {
		first, last, title = 1, len(c.Request.Inputs), "all inputs"
	}
	if c.Request.Dry {
		title += ", dry run: nothing was stored"
	}
	sum := Tally{}
	for i := first; i <= last; i++ {
		for k, n := range tallies[i] {
			sum[k] += n
		}
	}
	return vault.Flowing(g, false, func(w io.Writer) error {
		if input == 0 {
			if _, err := w.Write(sum.Summary(title)); err != nil {
				return err //nolint:wrapcheck // the client has gone
			}
		}
		for i := first; i <= last; i++ {
			for after := int64(0); ; {
				text, next, err := s.Jobs.Findings(ctx, j, i, after)
				if err != nil {
					return err
				}
				if next == 0 {
					break
				}
				if _, err := io.WriteString(w, text); err != nil {
					return err //nolint:wrapcheck // the client has gone
				}
				after = next
			}
		}
		return nil
	}), nil
}

// Sweep removes what no job refers to: what a worker left behind, and the inputs of jobs that
// are done, were cancelled or have expired.
func (s *Service) Sweep(ctx context.Context) error {
	const batch = 100
	for {
		names, err := s.Jobs.Orphans(ctx, batch)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := s.Sink.Remove(ctx, name); err != nil {
				return fmt.Errorf("intake: %w", err)
			}
			if err := s.Jobs.Forget(ctx, name); err != nil {
				return err
			}
		}
		if len(names) < batch {
			return nil
		}
	}
}
