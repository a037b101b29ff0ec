package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// TB is the part of testing.TB that the test mode needs; the program does not link package testing for it.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

var shared = sync.OnceValues(func() (*Cluster, error) {
	dir, err := os.MkdirTemp(shortLived(), "cloister-test-")
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	acc, err := chooseAccount(filepath.Join(dir, "data"))
	if err == nil {
		err = acc.own(dir) // the watcher removes it as the cluster's user, in the end
	}
	if err == nil {
		err = os.Chmod(dir, 0o711) //nolint:gosec // what lies inside is 0700 and 0600
	}
	if err != nil {
		return nil, err
	}
	return Start(context.Background(), Config{Dir: dir, throwaway: true, unsynced: true})
})

// ForTest gives the one cluster of this test process. It is made at the first call,
// forgets everything at a power cut (fsync is off), and goes, with its
// directory, when the process ends, also where it is killed.
func ForTest(t TB) *Cluster {
	t.Helper()
	c, err := shared()
	if err != nil {
		t.Fatalf("no cluster for this test: %v", err)
	}
	return c
}

// Template is a database that is made once per test process and copied for each test.
type Template struct {
	Name string
	// Prepare fills the database, and closes its connections before it returns.
	Prepare func(ctx context.Context, dsn string) error
}

var (
	templates = memo{done: map[string]func() error{}}
	databases atomic.Int64
)

// memo runs something once per name and remembers how it ended.
type memo struct {
	mu   sync.Mutex
	done map[string]func() error
}

func (m *memo) once(name string, run func() error) error {
	m.mu.Lock()
	f, ok := m.done[name]
	if !ok {
		f = sync.OnceValue(run)
		m.done[name] = f
	}
	m.mu.Unlock()
	return f()
}

// NewDatabase gives t a database of its own, a copy of the template, and
// returns its connection string (as [Role]). The zero Template is an empty database.
func NewDatabase(t TB, from Template) string {
	t.Helper()
	c := ForTest(t)
	ctx := context.Background()
	source := "template1"
	if from.Name != "" {
		source = "tpl_" + from.Name
		if err := templates.once(from.Name, func() error { return c.template(ctx, source, from) }); err != nil {
			t.Fatalf("template %s: %v", from.Name, err)
		}
	}
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := c.create(ctx, name, source); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		// The directory goes with the process; dropping now keeps a long run of tests small.
		_ = c.admin(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`)
	})
	return c.DSN(name)
}

func (c *Cluster) template(ctx context.Context, name string, from Template) error {
	if err := c.create(ctx, name, "template1"); err != nil {
		return err
	}
	if err := from.Prepare(ctx, c.DSN(name)); err != nil {
		return err
	}
	// Nobody can change it from now on, nor block a copy by being connected.
	return c.admin(ctx, `ALTER DATABASE `+pgx.Identifier{name}.Sanitize()+` ALLOW_CONNECTIONS false`)
}

func (c *Cluster) create(ctx context.Context, name, source string) error {
	q := `CREATE DATABASE ` + pgx.Identifier{name}.Sanitize() + ` OWNER ` + Role + ` TEMPLATE ` + pgx.Identifier{source}.Sanitize()
	if c.version.major >= 15 {
		// Without fsync a file copy beats writing every page to the log.
		q += ` STRATEGY file_copy`
	}
	return c.admin(ctx, q)
}

// admin runs one statement as the superuser.
func (c *Cluster) admin(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, c.dsn(superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}
