// Package postgres keeps FHIR resources in PostgreSQL: it hands out Sealed and
// takes Cleared and Restriction.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/migrations"
)

// Roles under which the server talks to the database. Only RoleNotes reaches
// the schema of psychotherapy and SUD counseling notes, and only RoleDeident, which reaches
// no record, the keys of de-identified releases.
const (
	RoleApp     = "cloister_app"
	RoleNotes   = "cloister_notes"
	RoleDeident = "cloister_deident"
)

// Store is the record store. All methods are safe for concurrent use.
type Store struct {
	app   *pgxpool.Pool // everything but notes
	side  *pgxpool.Pool // catalogues and audit: never starved by requests that hold an app connection
	keys  *pgxpool.Pool // of de-identified releases, and nothing else
	notes *pgxpool.Pool // used only for callers whose Restriction reaches notes
	// Reads by id have pools of their own, under the same two roles: their
	// plans are kept, which halves what such a statement costs.
	appReads, noteReads *reader
	now                 func() time.Time
	windows             Windows
	majority            int

	mu         sync.Mutex // guards refills of classes, tenants and pks
	catalogued sync.Mutex // one reads the classes at a time
	classes    atomic.Pointer[catalogue]
	tenants    atomic.Pointer[map[string]int32]
	// defining are the practices that have, or had, SearchParameters of their own.
	defining atomic.Pointer[map[int32]bool]
	customs  customs
	pkNext   int64
	pkEnd    int64

	noteKeys *noteKeys

	trail       *trail.Keys // mark the rows of the audit trail; nil: they have no mark
	trailSigned bool        // rows without a mark count as forged

	audit    *recorder[audit.Event]
	security *recorder[audit.Security]

	definitions *definition.Library
}

// DefaultMaxConns is the size of a pool where nothing else is said.
const DefaultMaxConns = 8

// Options of [Open].
type Options struct {
	URL      string           // connection string of a login that is a member of all roles
	MaxConns int              // per pool; 0 means DefaultMaxConns
	Now      func() time.Time // the one clock of the server; nil means time.Now
	Windows  Windows          // the zero value means DefaultWindows
	// Keys wrap the data keys of psychotherapy and SUD counseling notes. Without
	// them the store keeps no such note, and opens none.
	Keys *envelope.Keys
	// Trail marks what is added to the audit trail as written by a server, with its first key, which is private. Without
	// it a store adds unmarked rows to a trail that nobody signs yet, and none to one that is signed.
	Trail *trail.Keys
	// AgeOfMajority is the age in years at which a patient stands for herself, by
	// the law of the state; 0 means DefaultAgeOfMajority.
	AgeOfMajority int
	// Tracer is told of every statement with its arguments, which are health
	// data: for measurements alone, and no configuration leads to it.
	Tracer pgx.QueryTracer
}

// Open connects and reads the catalogues. The schema must be there ([Migrate]).
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxConns == 0 {
		o.MaxConns = DefaultMaxConns
	}
	if o.Windows == (Windows{}) {
		o.Windows = DefaultWindows
	}
	if o.AgeOfMajority == 0 {
		o.AgeOfMajority = DefaultAgeOfMajority
	}
	s := &Store{now: o.Now, windows: o.Windows, majority: o.AgeOfMajority, noteKeys: newNoteKeys(o.Keys, o.Now), trail: o.Trail}
	if o.Trail != nil && !o.Trail.CanSign() {
		return nil, errors.New("postgres: the key set of the audit trail holds no private key in its first place")
	}
	s.appReads, s.noteReads = newReader(s), newReader(s)
	for _, p := range []struct {
		pool  **pgxpool.Pool
		role  string
		conns int
		plans string
	}{
		{&s.app, RoleApp, o.MaxConns, customPlans},
		{&s.notes, RoleNotes, o.MaxConns, customPlans},
		{&s.appReads.pool, RoleApp, o.MaxConns, keptPlans},
		{&s.noteReads.pool, RoleNotes, o.MaxConns, keptPlans},
		{&s.side, RoleApp, sideConns, keptPlans},
		{&s.keys, RoleDeident, sideConns, keptPlans},
	} {
		opened, err := pool(ctx, o, p.role, p.conns, p.plans)
		if err != nil {
			s.Close()
			return nil, err
		}
		*p.pool = opened
	}
	signed := func() error {
		return private(s.side.QueryRow(ctx, "SELECT EXISTS (SELECT FROM audit.checkpoint)").Scan(&s.trailSigned))
	}
	if err := errors.Join(s.refreshClasses(ctx), s.refreshTenants(ctx), s.encrypted(ctx), signed()); err != nil {
		s.Close()
		return nil, err
	}
	s.audit = newRecorder(s.side, s.insertEvents)
	s.security = newRecorder(s.side, s.insertSecurity)
	s.definitions = definition.NewLibrary(shelf{s}, s.now, definition.DefaultMemory)
	return s, nil
}

// sideConns is the size of the pool for catalogues and audit.
const sideConns = 4

// Values of plan_cache_mode. A kept plan ignores how selective the given values
// are: on a million rows it made a 1 ms search take 13 ms. Where a key leads to
// the row whatever its value, planning each time costs more than the look-up;
// a kept plan is made anew when its tables are analyzed.
const (
	customPlans = "force_custom_plan"
	keptPlans   = "force_generic_plan"
)

func pool(ctx context.Context, o Options, role string, conns int, plans string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, errors.New("postgres: the database URL cannot be read")
	}
	cfg.MaxConns = int32(conns)
	cfg.ConnConfig.Tracer = o.Tracer
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = plans
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	cfg.ConnConfig.RuntimeParams["search_path"] = "pg_catalog"
	cfg.ConnConfig.RuntimeParams["application_name"] = "cloister"
	cfg.ConnConfig.RuntimeParams["jit"] = "off"
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SET ROLE "+role)
		return err
	}
	p, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: connect as %s: %w", role, private(err))
	}
	if err := p.Ping(ctx); err != nil {
		p.Close()
		return nil, fmt.Errorf("postgres: connect as %s: %w", role, private(err))
	}
	return p, nil
}

// Close waits for the reads under way and the audit queue, and closes all connections.
func (s *Store) Close() {
	s.appReads.close()
	s.noteReads.close()
	if s.audit != nil {
		s.audit.close()
		s.security.close()
	}
	for _, p := range []*pgxpool.Pool{s.keys, s.side, s.noteReads.pool, s.appReads.pool, s.notes, s.app} {
		if p != nil {
			p.Close()
		}
	}
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return private(s.app.Ping(ctx)) }

// Migrate brings the schema to the newest version. The login must be allowed
// to create schemas and roles.
func Migrate(ctx context.Context, url string) ([]*goose.MigrationResult, error) {
	return migrate(url, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.Up(ctx) })
}

// MigrateTo brings the schema to a version, forwards or backwards; version 0
// takes everything away, and with it all data.
func MigrateTo(ctx context.Context, url string, version int64) ([]*goose.MigrationResult, error) {
	return migrate(url, func(p *goose.Provider) ([]*goose.MigrationResult, error) {
		now, err := p.GetDBVersion(ctx)
		if err != nil {
			return nil, err
		}
		if version < now {
			return p.DownTo(ctx, version)
		}
		return p.UpTo(ctx, version)
	})
}

// Migrations says of every migration whether it is applied.
func Migrations(ctx context.Context, url string) ([]*goose.MigrationStatus, error) {
	return migrate(url, func(p *goose.Provider) ([]*goose.MigrationStatus, error) { return p.Status(ctx) })
}

func migrate[T any](url string, do func(*goose.Provider) (T, error)) (out T, err error) {
	p, closeDB, err := provider(url)
	if err != nil {
		return out, err
	}
	defer closeDB()
	out, err = do(p)
	return out, private(err)
}

func provider(url string) (*goose.Provider, func(), error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, nil, errors.New("postgres: the database URL cannot be read")
	}
	db := stdlib.OpenDB(*cfg)
	sub, err := fs.Sub(migrations.FS, ".")
	if err != nil {
		return nil, nil, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, sub)
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return p, func() { _ = db.Close() }, nil
}

// private keeps of a database error what holds no data: PgError.Detail and
// Message carry values of keys and columns.
func private(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if pg.Code == "CL001" { // a migration of ours refuses, and says why
			return errors.New(pg.Message)
		}
		return fmt.Errorf("SQLSTATE %s %s %s", pg.Code, pg.ConstraintName, pg.Routine)
	}
	return err
}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// failed is the public face of a database failure.
func failed(err error) error {
	if err == nil {
		return nil
	}
	var pub *outcome.Error
	if errors.As(err, &pub) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return outcome.New(outcome.Timeout, "the request took too long").Because(err)
	}
	if pgconn.SafeToRetry(err) || pgconn.Timeout(err) {
		return outcome.New(outcome.Unavailable, "the database cannot be reached: try again").Because(private(err))
	}
	return outcome.New(outcome.Internal, "the server failed; its log says why").Because(private(err))
}

// catalogue is the set of label classes that have been stored.
type catalogue struct {
	byID     map[int16]label.Set
	byLabels map[label.Set]int16
}

// LabelClasses lists the label classes that the store has met. The map must not be changed.
func (s *Store) LabelClasses() map[int16]label.Set { return s.classes.Load().byID }

func (s *Store) refreshClasses(ctx context.Context) error {
	s.catalogued.Lock() // what was read later takes the place of what was read before
	defer s.catalogued.Unlock()
	c := &catalogue{map[int16]label.Set{}, map[label.Set]int16{}}
	var id int16
	var labels int32
	if err := forEach(ctx, s.side, "SELECT id, labels FROM record.label_class", nil, []any{&id, &labels}, func() error {
		c.byID[id], c.byLabels[label.Set(labels)] = label.Set(labels), id
		return nil
	}); err != nil {
		return failed(err)
	}
	// Plans are remembered for one catalogue: an equal one must not replace it.
	if was := s.classes.Load(); was == nil || !maps.Equal(was.byID, c.byID) {
		s.classes.Store(c)
	}
	return nil
}

// class interns a label set. It commits on its own: a class without rows does no harm.
func (s *Store) class(ctx context.Context, labels label.Set) (int16, error) {
	if id, ok := s.classes.Load().byLabels[labels]; ok {
		return id, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.side.Exec(ctx, "INSERT INTO record.label_class (labels) VALUES ($1) ON CONFLICT DO NOTHING", int32(labels)); err != nil {
		return 0, failed(err)
	}
	if err := s.refreshClasses(ctx); err != nil {
		return 0, err
	}
	id, ok := s.classes.Load().byLabels[labels]
	if !ok {
		return 0, failed(errors.New("postgres: a label class that was just stored is not there"))
	}
	return id, nil
}

// labels resolves a class that another server process may have added.
func (s *Store) labels(ctx context.Context, class int16) (label.Set, error) {
	if l, ok := s.classes.Load().byID[class]; ok {
		return l, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refreshClasses(ctx); err != nil {
		return 0, err
	}
	l, ok := s.classes.Load().byID[class]
	if !ok {
		return 0, failed(fmt.Errorf("postgres: label class %d is unknown", class))
	}
	return l, nil
}

// Watch keeps the catalogues in step with other server processes, and clears
// away keys that have expired, until ctx ends. A class that is not known yet is not permitted yet, so lateness hides
// rows and never shows them.
func (s *Store) Watch(ctx context.Context, every time.Duration, failure func(error)) {
	t, sweep := time.NewTicker(every), time.NewTicker(time.Minute)
	defer t.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			if _, err := s.Forget(ctx); err != nil && ctx.Err() == nil {
				failure(err)
			}
		case <-t.C:
			if err := errors.Join(s.refreshClasses(ctx), s.refreshTenants(ctx)); err != nil && ctx.Err() == nil {
				failure(err)
			}
		}
	}
}

func (s *Store) refreshTenants(ctx context.Context) error {
	m, defining := map[string]int32{}, map[int32]bool{}
	var slug string
	var id int32
	var defines bool
	if err := forEach(ctx, s.side, "SELECT t.slug, t.id, v.tenant IS NOT NULL FROM record.tenant t LEFT JOIN record.search_revision v ON v.tenant = t.id", nil,
		[]any{&slug, &id, &defines}, func() error {
			m[slug] = id
			if defines {
				defining[id] = true
			}
			return nil
		}); err != nil {
		return failed(err)
	}
	s.tenants.Store(&m)
	// What this process has learnt since the question was asked stays: no practice
	// ceases to define.
	s.defining.CompareAndSwap(nil, &map[int32]bool{})
	for id := range defining {
		s.learn(id)
	}
	return nil
}

// learn is how this process knows at once what it has stored itself.
func (s *Store) learn(defining int32) {
	for {
		old := s.defining.Load()
		if (*old)[defining] {
			return
		}
		m := maps.Clone(*old)
		m[defining] = true
		if s.defining.CompareAndSwap(old, &m) {
			return
		}
	}
}

// Tenant finds a practice by its slug.
func (s *Store) Tenant(slug string) (int32, bool) {
	id, ok := (*s.tenants.Load())[slug]
	return id, ok
}

// EnsureTenant finds or adds a practice.
func (s *Store) EnsureTenant(ctx context.Context, slug, name string) (int32, error) {
	if _, err := s.side.Exec(ctx, "INSERT INTO record.tenant (slug, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", slug, name); err != nil {
		if sqlState(err) == "23514" {
			return 0, fmt.Errorf("postgres: %q cannot name a practice: use lower-case letters, digits and hyphens", slug)
		}
		return 0, failed(err)
	}
	if err := s.refreshTenants(ctx); err != nil {
		return 0, err
	}
	id, ok := s.Tenant(slug)
	if !ok {
		return 0, failed(errors.New("postgres: a tenant that was just stored is not there"))
	}
	return id, nil
}

const pkBlock = 256 // the increment of record.pk

// nextPK draws an internal row number.
func (s *Store) nextPK(ctx context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pkNext == s.pkEnd {
		if err := s.side.QueryRow(ctx, "SELECT nextval('record.pk')").Scan(&s.pkNext); err != nil {
			return 0, failed(err)
		}
		s.pkEnd = s.pkNext + pkBlock
	}
	s.pkNext++
	return s.pkNext - 1, nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// forEach runs a query, and calls each for every row after it was scanned.
func forEach(ctx context.Context, q querier, sql string, args, scan []any, each func() error) error {
	rows, err := q.Query(ctx, sql, args...) //nolint:rowserrcheck // ForEachRow returns it
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, scan, each)
	return err
}
