// Package importer loads files of FHIR resources into one practice: Bundles
// and NDJSON, plain or compressed, with several workers, and goes on where a
// stopped import ended.
package importer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// Store is what an import needs of the record store.
type Store interface {
	Match(context.Context, authz.Reach, search.Query) ([]fhir.ID, error)
	Import(ctx context.Context, cleared []record.Cleared, digest []byte) ([]record.Receipt, error)
	Imported(ctx context.Context, tenant int32, digest []byte) (bool, error)
}

// Engine is what an import needs of the decision point.
type Engine interface {
	Authorize(context.Context, authz.Principal, fhir.Interaction, fhir.ResourceType) (authz.Grant, error)
	Plan(context.Context, authz.Grant, fhir.Interaction, fhir.ResourceType) (authz.Restriction, error)
}

// Gate is what an import needs of the enforcement point.
type Gate interface {
	Admit(context.Context, authz.Grant, record.Change) (record.Cleared, error)
}

// Progress is told of work that is done, in bytes of the files as they lie on
// disk; [Size] is the whole. A progress bar is one.
type Progress interface {
	Add64(bytes int64) error
}

// Importer loads files on behalf of the operator of the server.
type Importer struct {
	Store     Store
	Engine    Engine
	Gate      Gate
	Principal authz.Principal // role operator
	Workers   int
	Base      string    // the server's base URL: absolute references to it become relative
	Report    io.Writer // one line per refused resource; nil discards
	Progress  Progress  // may be nil

	mu    sync.Mutex
	refs  map[string]fhir.Ref // conditional references that were resolved
	stats Stats
}

// Stats count what an import did.
type Stats struct {
	Resources atomic.Int64 // stored
	Refused   atomic.Int64 // see the report
	Skipped   atomic.Int64 // items that an earlier run had finished
}

// Stats gives the counters so far.
func (m *Importer) Stats() *Stats { return &m.stats }

// errWaits says that an item refers to something that is not there yet.
var errWaits = errors.New("importer: a conditional reference does not resolve yet")

// chunkLines is how many NDJSON lines are written in one transaction.
const chunkLines = 500

// item is one transaction's worth of input.
type item struct {
	name string // file, and line range
	body []byte
	line int   // first line of NDJSON, 0 for a Bundle or a single resource
	disk int64 // bytes of the file that it stands for

	// refused are the lines of the report. They count once the item is stored:
	// one that waits, or is cut off, is read again from the start.
	refused *[]string
}

// Run imports every file below the paths. Items that refer conditionally to
// resources that come later are tried again after all others.
func (m *Importer) Run(ctx context.Context, paths ...string) error {
	files, err := list(paths)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("there is no .json or .ndjson file (also .bz2, .gz, .zst) below the given paths")
	}
	return m.run(ctx, func(submit func(item) error) error { return each(files, submit) })
}

// Stream imports documents as they come, each a Bundle or a single resource
// with a name for the report. Its memory is that of the documents under way.
func (m *Importer) Stream(ctx context.Context, documents iter.Seq2[string, []byte]) error {
	return m.run(ctx, func(submit func(item) error) error {
		for name, body := range documents {
			if err := submit(item{name: name, body: body, disk: int64(len(body))}); err != nil {
				return err
			}
		}
		return nil
	})
}

// run imports what source submits.
func (m *Importer) run(ctx context.Context, source func(submit func(item) error) error) error {
	m.refs = map[string]fhir.Ref{}
	var late []item
	last := false
	var err error
	for round := 0; ; round++ {
		var again []item
		var mu sync.Mutex
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(max(m.Workers, 1))
		submit := func(it item) error {
			g.Go(func() error {
				err := m.load(gctx, it, last)
				if errors.Is(err, errWaits) {
					mu.Lock()
					again = append(again, it)
					mu.Unlock()
					return nil
				}
				return err
			})
			return gctx.Err()
		}
		if round == 0 {
			err = source(submit)
		} else {
			for _, it := range late {
				if err = submit(it); err != nil {
					break
				}
			}
		}
		if werr := g.Wait(); werr != nil {
			return werr
		}
		if err != nil {
			return err
		}
		if len(again) == 0 {
			return nil
		}
		sort.Slice(again, func(i, j int) bool { return again[i].name < again[j].name })
		last = round > 0 && len(again) == len(late) // a round without progress: what is missing never comes
		late = again
	}
}

func list(paths []string) ([]string, error) {
	var files []string
	for _, p := range paths {
		err := filepath.WalkDir(p, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if !d.IsDir() && (path == p || known(path)) {
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	// Synthea's practitioners and hospitals sort first, and others need them.
	sort.SliceStable(files, func(i, j int) bool { return filepath.Base(files[i]) < filepath.Base(files[j]) })
	return files, nil
}

func known(path string) bool {
	base, _ := packing(path)
	return strings.HasSuffix(base, ".json") || strings.HasSuffix(base, ".ndjson")
}

// load imports one item. What is refused is reported, and the rest is stored.
func (m *Importer) load(ctx context.Context, it item, last bool) error {
	it.refused = new([]string)
	digest := sha256.Sum256(it.body)
	done, err := m.Store.Imported(ctx, m.Principal.Tenant, digest[:])
	if err != nil {
		return err
	}
	if done {
		m.stats.Skipped.Add(1)
		m.progress(it)
		return nil
	}
	grant, err := m.Engine.Authorize(ctx, m.Principal, fhir.Transaction, "")
	if err != nil {
		return err
	}
	w := &work{m: m, it: it, grant: grant, last: last, entries: m.parse(it)}
	if err := w.rewrite(ctx); err != nil {
		return err
	}
	for {
		cleared, at, err := w.admit(ctx)
		if err != nil {
			return err
		}
		_, err = m.Store.Import(ctx, cleared, digest[:])
		var ce *record.ChangeError
		if errors.As(err, &ce) && refusal(ce) {
			// The rest does not wait for one refused resource.
			w.refuse(at[ce.Index], ce.Err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", it.name, err)
		}
		m.stats.Resources.Add(int64(len(cleared)))
		m.report(*it.refused)
		m.progress(it)
		return nil
	}
}

// refusal tells a fault of the resource from one of the server.
func refusal(err error) bool {
	status := outcome.Of(err).Status()
	return status >= 400 && status < 500
}

func (m *Importer) progress(it item) {
	if m.Progress != nil {
		_ = m.Progress.Add64(it.disk) // a display that fails stops no import
	}
}

func (it item) refuse(where, what string, err error) {
	*it.refused = append(*it.refused, fmt.Sprintf("%s\t%s\t%s\t%s\n", it.name, where, what, strings.ReplaceAll(outcome.Of(err).Error(), "\n", " ")))
}

func (m *Importer) report(refused []string) {
	m.stats.Refused.Add(int64(len(refused)))
	if m.Report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range refused {
		_, _ = io.WriteString(m.Report, line)
	}
}

// entry is one resource of an item.
type entry struct {
	where    string
	fullURL  string
	resource *codec.Resource
	ref      fhir.Ref
	refused  bool
}

// parse reads the resources of an item and reports those that are not valid.
func (m *Importer) parse(it item) []*entry {
	limits := codec.Limits{Bytes: max(len(it.body), 1)}
	if it.line > 0 {
		var out []*entry
		for i, line := range bytes.Split(it.body, []byte("\n")) {
			line = bytes.TrimSpace(line)
			if len(line) == 0 {
				continue
			}
			where := fmt.Sprintf("line %d", it.line+i)
			r, err := codec.ParseLimited(line, limits)
			if err != nil {
				it.refuse(where, "-", err)
				continue
			}
			out = append(out, &entry{where: where, resource: r})
		}
		return out
	}
	r, faults, err := codec.ParseBatch(it.body, limits)
	if err != nil {
		it.refuse("file", "-", err)
		return nil
	}
	if r.Type != "Bundle" {
		return []*entry{{where: "file", resource: r}}
	}
	switch r.BundleType() {
	case "transaction", "batch", "collection", "searchset":
	default:
		return []*entry{{where: "file", resource: r}} // a document or a message is a resource of its own
	}
	var out []*entry
	for i, e := range r.Entries() {
		where := fmt.Sprintf("entry %d", i)
		if f := faults[i]; f != nil {
			it.refuse(where, e.FullURL, f)
			continue
		}
		if e.Resource == nil {
			it.refuse(where, e.FullURL, outcome.New(outcome.Invalid, "the entry has no resource"))
			continue
		}
		out = append(out, &entry{where: where, fullURL: e.FullURL, resource: e.Resource})
	}
	return out
}

// Rate says for people how much was done how fast.
func Rate(n int64, d time.Duration) string {
	return fmt.Sprintf("%d resources in %s (%.0f per second)", n, d.Round(time.Second/10), float64(n)/max(d.Seconds(), 1e-3))
}

// Size is the number of bytes of all files below the paths that [Importer.Run] would read.
func Size(paths ...string) (int64, error) {
	files, err := list(paths)
	if err != nil {
		return 0, err
	}
	var n int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return 0, err
		}
		n += info.Size()
	}
	return n, nil
}
