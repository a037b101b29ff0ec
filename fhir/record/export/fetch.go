package export

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Status is how far an export is.
type Status struct {
	State       State
	Reason      Reason
	Step, Steps int       // pieces that are done, and all
	Lines       int64     // of resources
	Transaction time.Time // the moment of the export
	URL         string    // of the kick-off
	Expires     time.Time
	Files       []File // once it is done
}

// File is one file of an export.
type File struct {
	Name  string // below the URL of the job
	Kind  Kind
	Type  fhir.ResourceType // of its lines
	Lines int
}

// Status finds an export of the caller's own.
func (s *Service) Status(ctx context.Context, g authz.Grant, id string) (Status, error) {
	j, parts, err := s.find(ctx, g, id)
	if err != nil {
		return Status{}, err
	}
	_, c, err := s.open(ctx, &j)
	if err != nil {
		return Status{}, err
	}
	out := Status{
		State: j.State, Reason: j.Reason, Step: j.Step, Steps: len(c.Request.steps()), Lines: j.Lines,
		Transaction: j.Transaction, URL: c.Request.URL, Expires: j.Expires,
	}
	if j.State == Done {
		out.Files = files(parts)
	}
	return out, nil
}

// find finds a job of the caller's own. Whoever does not act for itself has none.
func (s *Service) find(ctx context.Context, g authz.Grant, id string) (Job, []Part, error) {
	if _, err := authz.Freeze(g); err != nil {
		return Job{}, nil, err
	}
	c := g.Caller()
	return s.Jobs.Find(ctx, c.Tenant, ownerOf(c), id)
}

const extension = ".ndjson"

// files joins parts into files, in the order of their numbers.
func files(parts []Part) []File {
	var out []File
	at := map[int]int{}
	for _, p := range parts {
		i, there := at[p.File]
		if !there {
			i = len(out)
			at[p.File] = i
			t := p.Type
			if p.Kind == Deleted {
				t = "Bundle"
			}
			out = append(out, File{Name: strconv.Itoa(p.File) + extension, Kind: p.Kind, Type: t})
		}
		out[i].Lines += p.Lines
	}
	return out
}

// Fetch lets a file out to its owner: the lines of it that the owner may see now. What it
// may not see any more is left out, whatever it was when the file was written.
func (s *Service) Fetch(ctx context.Context, g authz.Grant, id, name string) (record.Stream, error) {
	j, parts, err := s.find(ctx, g, id)
	if err != nil {
		return record.Stream{}, err
	}
	var file []Part
	noticed := false
	for _, p := range parts {
		if strconv.Itoa(p.File)+extension == name {
			file, noticed = append(file, p), noticed || p.Noticed
		}
	}
	if j.State != Done || file == nil {
		return record.Stream{}, outcome.New(outcome.NotFound, "")
	}
	key, c, err := s.open(ctx, &j)
	if err != nil {
		return record.Stream{}, err
	}
	if err := s.standing(ctx, c.Principal); err != nil {
		return record.Stream{}, err
	}
	sub := g
	if file[0].Kind != Error {
		if sub, err = s.Engine.Extend(g, fhir.SearchType, file[0].Type); err != nil {
			return record.Stream{}, err
		}
	}
	// Who fetches what is durable before the first byte, and each part's resources before theirs.
	if _, err := s.Gate.Release(ctx, sub, file[0].Type); err != nil {
		return record.Stream{}, err
	}
	return vault.Flow(g, noticed, func(w io.Writer) error {
		for i := range file {
			keep, lines, err := s.visible(ctx, sub, &file[i])
			if err == nil && len(lines) > 0 {
				err = s.Gate.Disclose(ctx, sub, file[i].Type, lines...)
			}
			if err == nil {
				err = s.copyPart(ctx, w, key, j.ID, &file[i], keep)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// visible says of each line of a part whether the caller may see it now: the very view, and
// if the resource has changed since, the very version. It gives the resources of those that she may.
func (s *Service) visible(ctx context.Context, g authz.Grant, p *Part) (keep []bool, lines []record.Sealed, err error) {
	keep = make([]bool, len(p.IDs))
	if p.Kind == Error {
		scopes, err := s.Consents.ConsentScopes(ctx, g, p.IDs)
		for i, id := range p.IDs {
			for _, x := range scopes {
				keep[i] = keep[i] || x.Consent == id
			}
		}
		return keep, nil, err
	}
	reach, err := s.Engine.Outbound(ctx, g, fhir.SearchType, p.Type)
	if err != nil {
		return nil, nil, err
	}
	r := reach.Of(p.Type)
	take := func(i int, x record.Sealed, err error) error {
		if err != nil && outcome.Of(err).Status() == outcome.New(outcome.NotFound, "").Status() {
			return nil
		}
		if h := vault.Head(x); err == nil && h.Row == p.Rows[i] && h.Deleted == (p.Kind == Deleted) {
			keep[i], lines = true, append(lines, x)
		}
		return err
	}
	if p.Kind == Deleted {
		for i, id := range p.IDs {
			x, err := s.Records.Read(ctx, r, id)
			if err := take(i, x, err); err != nil {
				return nil, nil, err
			}
		}
		return keep, lines, nil
	}
	now, err := s.Records.Current(ctx, r, p.IDs)
	if err != nil {
		return nil, nil, err
	}
	for i, id := range p.IDs {
		for _, x := range now[id] {
			switch h := vault.Head(x); {
			case h.Row != p.Rows[i]:
				continue
			case h.Version != p.Versions[i]:
				x, err = s.Records.VRead(ctx, r, id, p.Versions[i])
			}
			if err := take(i, x, err); err != nil {
				return nil, nil, err
			}
			err = nil
		}
	}
	return keep, lines, nil
}

var errPart = errors.New("export: a part is not what was written")

// copyPart copies the lines of a part that are kept, however long they are.
func (s *Service) copyPart(ctx context.Context, w io.Writer, key *envelope.StreamKey, job string, p *Part, keep []bool) (err error) {
	from, err := s.Sink.Open(ctx, p.Name)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() { _ = from.Close() }() // it was read
	plain, err := key.Open(from, bound(job, p.Name))
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	zip, err := gzip.NewReader(plain)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	in := bufio.NewReaderSize(zip, 64<<10)
	for n := 0; ; {
		piece, err := in.ReadSlice('\n')
		if len(piece) > 0 {
			if n >= len(keep) {
				return errPart
			}
			if keep[n] {
				if _, err := w.Write(piece); err != nil {
					return err //nolint:wrapcheck // the client has gone
				}
			}
		}
		switch {
		case err == nil:
			n++
		case errors.Is(err, bufio.ErrBufferFull): // the line goes on
		case errors.Is(err, io.EOF) && len(piece) == 0 && n == len(keep):
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return errPart
		default:
			return fmt.Errorf("export: %w", err)
		}
	}
}

// Progress is how far an export is, in the words of X-Progress.
func (s Status) Progress() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d resource types", s.Step, s.Steps)
	if s.Lines > 0 {
		fmt.Fprintf(&b, ", %d resources", s.Lines)
	}
	return b.String()
}
