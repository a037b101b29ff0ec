// Package importer loads files of FHIR resources into one practice: Bundles
// and NDJSON, plain or compressed, with several workers, and goes on where a
// stopped import ended.
package importer

import (
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
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/intake"
)

// Store is what an import needs of the record store.
type Store interface {
	intake.Finder
	Import(ctx context.Context, cleared []record.Cleared, digest []byte) ([]record.Receipt, error)
	Imported(ctx context.Context, tenant int32, digest []byte) (bool, error)
	Rehearse(ctx context.Context, cleared []record.Cleared, expected map[fhir.Ref]bool) ([]record.Receipt, error)
}

// Progress is told of work that is done, in bytes of the files as they lie on
// disk; [Size] is the whole. A progress bar is one.
type Progress interface {
	Add64(bytes int64) error
}

// Importer loads files on behalf of the operator of the server.
type Importer struct {
	Store     Store
	Engine    intake.Engine
	Gate      intake.Gate
	Principal authz.Principal // role operator
	Workers   int
	Base      string    // the server's base URL: absolute references to it become relative
	Report    io.Writer // one line per refused resource; nil discards
	Progress  Progress  // may be nil
	// Rehearsal, where it is set, is told what would become of everything, and nothing is stored.
	Rehearsal *intake.Rehearsal
	// Validated holds the import to what the gate holds writes to.
	Validated bool

	loader *intake.Loader
	mu     sync.Mutex
	stats  Stats
}

// Stats count what an import did.
type Stats struct {
	Resources atomic.Int64 // stored
	Same      atomic.Int64 // as they were stored already
	Refused   atomic.Int64 // see the report
	Skipped   atomic.Int64 // items that an earlier run had finished
}

// Stats gives the counters so far.
func (m *Importer) Stats() *Stats { return &m.stats }

// item is one transaction's worth of input.
type item struct {
	intake.Unit
	disk  int64  // bytes of the file that it stands for
	fault string // why the file cannot be taken in at all
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
			if err := submit(item{Unit: intake.Unit{Name: name, Body: body}, disk: int64(len(body))}); err != nil {
				return err
			}
		}
		return nil
	})
}

// run imports what source submits.
func (m *Importer) run(ctx context.Context, source func(submit func(item) error) error) error {
	m.loader = &intake.Loader{Finder: m.Store, Engine: m.Engine, Gate: m.Gate, Principal: m.Principal, Base: m.Base, Operator: true, Advise: m.Rehearsal != nil || m.Validated, Rehearsal: m.Rehearsal != nil}
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
				if errors.Is(err, intake.ErrWaits) {
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
		sort.Slice(again, func(i, j int) bool { return again[i].Name < again[j].Name })
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
	if it.fault != "" {
		m.report(it.Name + "\tfile\t-\t" + it.fault + "\n")
		m.progress(it)
		return nil
	}
	digest := sha256.Sum256(it.Body)
	commit := func(ctx context.Context, cleared []record.Cleared) ([]record.Receipt, error) {
		return m.Store.Import(ctx, cleared, digest[:])
	}
	if m.Rehearsal != nil {
		commit = func(ctx context.Context, cleared []record.Cleared) ([]record.Receipt, error) {
			return m.Store.Rehearse(ctx, cleared, nil)
		}
	} else {
		done, err := m.Store.Imported(ctx, m.Principal.Tenant, digest[:])
		if err != nil {
			return err
		}
		if done {
			m.stats.Skipped.Add(1)
			m.progress(it)
			return nil
		}
	}
	candidates := it.Parse()
	// Whatever is told of an item is told once it is stored: one that waits, or is cut off, is read again from the start.
	if err := m.loader.Load(ctx, intake.Batch{Candidates: candidates, Whole: m.Rehearsal == nil, Last: last || m.Rehearsal != nil}, commit); err != nil {
		if errors.Is(err, intake.ErrWaits) {
			return err
		}
		return fmt.Errorf("%s: %w", it.Name, err)
	}
	m.tell(it, candidates)
	m.progress(it)
	return nil
}

// tell counts what became of an item, and reports what was refused.
func (m *Importer) tell(it item, candidates []*intake.Candidate) {
	if m.Rehearsal != nil {
		m.Rehearsal.Add(it.Name, candidates)
	}
	var refused []string
	for _, c := range candidates {
		switch c.Fate {
		case intake.New, intake.Changed:
			m.stats.Resources.Add(1)
		case intake.Same:
			m.stats.Same.Add(1)
		default:
			refused = append(refused, fmt.Sprintf("%s\t%s\t%s\t%s\n", it.Name, c.Place, c.Name(), strings.ReplaceAll(c.Why(), "\n", " ")))
		}
	}
	m.report(refused...)
}

func (m *Importer) progress(it item) {
	if m.Progress != nil {
		_ = m.Progress.Add64(it.disk) // a display that fails stops no import
	}
}

func (m *Importer) report(refused ...string) {
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
