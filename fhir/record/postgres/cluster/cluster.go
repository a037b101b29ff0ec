// Package cluster runs a private PostgreSQL cluster in a data directory.
//
// It is what `cloister dev` and the tests stand on; a server in production
// brings its own database and never starts this one.
//
// The cluster is made for a host that others share: it has no TCP listener at
// all, only a Unix socket in a directory that its own user alone can enter,
// and even there it asks for a generated password (SCRAM-SHA-256) that lies in
// a file with mode 0600. Its log carries no statement, no parameter and no
// detail of an error, because those hold health data.
//
// It runs on Linux and macOS.
package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// Database is the database that every cluster has.
	Database = "cloister"
	// Role owns Database. It may create roles and databases but is no
	// superuser, so that row-level security and grants bind it as they would in production.
	Role = "cloister"

	superuser = "postgres"
	// port only names the socket file: nothing listens on TCP, and the
	// directory is private, so no other cluster can claim it.
	port = "5432"

	// maxSocketPath is what the smallest sun_path (macOS: 104 bytes with its NUL) holds.
	maxSocketPath = 103

	startLimit = 10 * time.Minute // a download and a long crash recovery fit
	fastStop   = 60 * time.Second // the last checkpoint of a fast shutdown may take long
)

// ErrInUse says that another process has this data directory open.
var ErrInUse = errors.New("cluster: the data directory is in use")

// Config says where the cluster lives.
type Config struct {
	// Dir is a directory of which the cluster is the only tenant; it is created if absent.
	Dir string
	// Reset throws away whatever data Dir holds before it starts.
	Reset bool
	// Log receives progress; nil is silent.
	Log *slog.Logger

	throwaway bool // for tests: stopped at once, Dir removed with the process
	unsynced  bool // for tests: what a power cut would do to the data does not matter
}

// Cluster is a running PostgreSQL cluster.
type Cluster struct {
	dir     string
	sockets string
	secret  []byte
	log     *slog.Logger
	cfg     Config
	lock    *os.File
	cmd     *exec.Cmd
	leash   *os.File // the write end of the pipe that the watcher waits on
	version programs

	stopping sync.Once
	done     chan struct{}
	err      error // valid once done is closed
}

// Start brings up the cluster of cfg.Dir and returns when it answers. A
// directory without data gets a new cluster; data of an earlier run is reused; what
// a crashed predecessor left running is stopped first, if it is provably the
// postmaster of this directory. Another live process on the same directory is [ErrInUse].
//
// The cluster is shut down when ctx ends, when [Cluster.Stop] is called, and when
// this process dies in whatever way.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	c := &Cluster{dir: dir, log: cfg.Log, cfg: cfg, done: make(chan struct{})}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the cluster's user must get through to its data, which is 0700
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if c.lock, err = lock(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := c.start(starting); err != nil {
		if c.cmd == nil {
			c.leave()
		} else {
			c.stop()
		}
		return nil, err
	}
	context.AfterFunc(ctx, c.stop)
	return c, nil
}

// leave gives back what this process held of the directory.
func (c *Cluster) leave() {
	if c.sockets != "" && filepath.Dir(c.sockets) != c.dir {
		_ = os.RemoveAll(c.sockets)
	}
	_ = c.lock.Close()
}

func (c *Cluster) start(ctx context.Context) error {
	acc, err := chooseAccount(c.data())
	if err != nil {
		return err
	}
	if err := acc.reach(c.dir); err != nil {
		return err
	}
	if err := recoverDir(ctx, c.data(), c.log); err != nil {
		return err
	}
	if c.cfg.Reset {
		if err := c.clear(); err != nil {
			return err
		}
	}
	if c.version, err = findPrograms(ctx, acc, dataMajor(c.data()), c.log); err != nil {
		return err
	}
	if err := c.openSecret(); err != nil {
		return err
	}
	if err := c.makeSockets(acc); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.data(), "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		if err := c.initdb(ctx, acc); err != nil {
			return err
		}
	}
	if err := c.launch(acc); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	return c.bootstrap(ctx)
}

func (c *Cluster) data() string    { return filepath.Join(c.dir, "data") }
func (c *Cluster) logFile() string { return filepath.Join(c.dir, "postgres.log") }

// DSN is the connection string of one database, as [Role].
func (c *Cluster) DSN(database string) string { return c.dsn(Role, database) }

func (c *Cluster) dsn(role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, c.password(role)), Path: "/" + database}
	u.RawQuery = url.Values{"host": {c.sockets}, "port": {port}, "sslmode": {"disable"}}.Encode()
	return u.String()
}

// Version is the version of the programs, such as "15.18".
func (c *Cluster) Version() string { return c.version.version }

// Done is closed when the cluster has ended, for whatever reason.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// Err says, once Done is closed, why the cluster ended; nil after an orderly stop.
func (c *Cluster) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Stop shuts the cluster down in PostgreSQL's fast mode (open transactions are
// rolled back) and returns when it is gone. It may be called more than once.
func (c *Cluster) Stop() error {
	c.stop()
	return c.err
}

func (c *Cluster) stop() {
	c.stopping.Do(func() {
		how := syscall.SIGINT
		if c.cfg.throwaway {
			how = syscall.SIGQUIT
		}
		_ = c.cmd.Process.Signal(how) // an error means that it is gone already
		select {
		case <-c.done:
		case <-time.After(fastStop):
			// An immediate shutdown loses nothing that was committed: the next start replays the log.
			_ = c.cmd.Process.Signal(syscall.SIGQUIT)
		}
	})
	<-c.done
}

// clear removes the data, never the programs or the secret.
func (c *Cluster) clear() error {
	c.log.Info("removing the data of earlier runs", "dir", c.data())
	for _, d := range []string{c.data(), c.data() + ".new"} {
		if err := os.RemoveAll(d); err != nil {
			return fmt.Errorf("cluster: reset: %w", err)
		}
	}
	return nil
}

// openSecret reads, or makes, the secret from which the passwords derive.
func (c *Cluster) openSecret() error {
	path := filepath.Join(c.dir, "secret")
	if _, err := os.Stat(filepath.Join(c.data(), "PG_VERSION")); err == nil {
		text, err := os.ReadFile(path) //nolint:gosec // our own directory
		if err != nil {
			return fmt.Errorf("cluster: the data is there but its password is not (%w): restore %s, or start clean", err, path)
		}
		if c.secret, err = hex.DecodeString(strings.TrimSpace(string(text))); err != nil || len(c.secret) != 32 {
			return fmt.Errorf("cluster: %s is damaged: restore it, or start clean", path)
		}
		return nil
	}
	c.secret = make([]byte, 32)
	_, _ = rand.Read(c.secret) // never fails (crypto/rand)
	if err := os.WriteFile(path, []byte(hex.EncodeToString(c.secret)+"\n"), 0o600); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// password derives one password per role, so that whoever learns one does not know the other.
func (c *Cluster) password(role string) string {
	m := hmac.New(sha256.New, c.secret)
	m.Write([]byte(role))
	return hex.EncodeToString(m.Sum(nil))
}

// makeSockets prepares the private socket directory; where Dir's own path is
// too long for a socket address, it lies in the temporary directory.
func (c *Cluster) makeSockets(acc account) error {
	c.sockets = filepath.Join(c.dir, "run")
	if len(filepath.Join(c.sockets, ".s.PGSQL."+port)) > maxSocketPath {
		d, err := os.MkdirTemp("", "cloister-run-")
		if err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		c.sockets = d
	}
	if err := os.MkdirAll(c.sockets, 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return acc.own(c.sockets)
}

// initdb makes the cluster beside its place and moves it there when it is
// whole, so that a start which was interrupted leaves nothing half-made.
func (c *Cluster) initdb(ctx context.Context, acc account) error {
	c.log.Info("making a new database cluster", "dir", c.data(), "postgres", c.version.version)
	fresh := c.data() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := acc.own(fresh); err != nil {
		return err
	}
	// initdb reads the password as the cluster's user, so it goes through the private socket directory.
	pw := filepath.Join(c.sockets, "initdb-password")
	if err := os.WriteFile(pw, []byte(c.password(superuser)+"\n"), 0o600); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	defer func() { _ = os.Remove(pw) }()
	if err := acc.own(pw); err != nil {
		return err
	}
	args := []string{
		"-D", fresh, "-U", superuser, "--pwfile", pw, "-E", "UTF8", "--no-locale",
		"--auth-local", "scram-sha-256", "--auth-host", "scram-sha-256",
	}
	if c.cfg.unsynced {
		args = append(args, "--no-sync")
	} else {
		args = append(args, "--data-checksums")
	}
	cmd := acc.command(ctx, c.version.path("initdb"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cluster: initdb: %w: %s", err, tail(out))
	}
	if err := os.Rename(fresh, c.data()); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// ready waits until the cluster answers; after a crash it first replays its log.
func (c *Cluster) ready(ctx context.Context) error {
	for {
		conn, err := pgx.Connect(ctx, c.dsn(superuser, "postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-c.done:
			out, _ := os.ReadFile(c.logFile())
			return fmt.Errorf("cluster: PostgreSQL did not start: %s", tail(out))
		case <-ctx.Done():
			return fmt.Errorf("cluster: PostgreSQL did not get ready: %w", ctx.Err())
		case <-time.After(15 * time.Millisecond):
		}
	}
}

// bootstrap makes the role and the database that every cluster has.
func (c *Cluster) bootstrap(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.dsn(superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var role, database bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1),
		EXISTS (SELECT FROM pg_database WHERE datname = $2)`, Role, Database).Scan(&role, &database)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	var steps []string
	if !role {
		steps = append(steps, `CREATE ROLE `+Role+` LOGIN CREATEDB CREATEROLE PASSWORD '`+c.password(Role)+`'`)
	}
	if !database {
		steps = append(steps, `CREATE DATABASE `+Database+` OWNER `+Role)
	}
	for _, s := range steps {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	return nil
}

// tail keeps an error message readable.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) > 5 {
		lines = lines[len(lines)-5:]
	}
	return strings.Join(lines, " | ")
}
