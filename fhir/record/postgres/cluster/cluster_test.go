package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestMain lets the test binary act as another process of ours.
func TestMain(m *testing.M) {
	switch role, dir := os.Getenv("CLUSTER_TEST_ROLE"), os.Getenv("CLUSTER_TEST_DIR"); role {
	case "":
		os.Exit(m.Run())
	case "hold": // a server on dir, until it is killed
		c, err := Start(context.Background(), Config{Dir: dir, unsynced: true})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println("pid:", c.cmd.Process.Pid)
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "test": // a test process that ends
		c, err := shared()
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println("pid:", c.cmd.Process.Pid, c.dir)
	}
}

// place makes a directory that the cluster's user can reach; t.TempDir is closed to others.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cl-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "pg")
}

func start(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	cfg.unsynced = true // processes are killed here, not the machine
	c, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	return c
}

func stop(t *testing.T, c *Cluster) {
	t.Helper()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec1(t *testing.T, dsn, sql string) {
	t.Helper()
	conn := connect(t, dsn)
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(context.Background())
}

func rows(t *testing.T, dsn string) (n int) {
	t.Helper()
	if err := connect(t, dsn).QueryRow(context.Background(), `SELECT count(*) FROM kept`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const keep = `CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)`

func TestRestartReusesTheDataAndResetForgetsIt(t *testing.T) {
	t.Parallel()
	dir := place(t)
	c := start(t, Config{Dir: dir})
	exec1(t, c.DSN(Database), keep)
	stop(t, c)
	if err := c.Stop(); err != nil {
		t.Errorf("the second Stop says %v", err)
	}

	c = start(t, Config{Dir: dir})
	if n := rows(t, c.DSN(Database)); n != 1 {
		t.Errorf("after a restart there are %d rows, want 1", n)
	}
	stop(t, c)

	c = start(t, Config{Dir: dir, Reset: true})
	var there bool
	if err := connect(t, c.DSN(Database)).QueryRow(context.Background(), `SELECT to_regclass('kept') IS NOT NULL`).Scan(&there); err != nil {
		t.Fatal(err)
	}
	if there {
		t.Error("the table survived a reset")
	}
}

func TestCrashOfThePostmasterIsRecovered(t *testing.T) {
	t.Parallel()
	dir := place(t)
	c, err := Start(context.Background(), Config{Dir: dir}) // as dev does: what was committed must survive
	if err != nil {
		t.Fatal(err)
	}
	exec1(t, c.DSN(Database), keep)
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if c.Err() == nil {
		t.Error("a killed PostgreSQL ended without an error")
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid")); err != nil {
		t.Fatalf("the test proves nothing: %v", err)
	}
	c = start(t, Config{Dir: dir})
	if n := rows(t, c.DSN(Database)); n != 1 {
		t.Errorf("after the crash there are %d rows, want 1", n)
	}
}

// process runs the test binary in one of the roles of TestMain and returns its first line.
func process(t *testing.T, role, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0]) //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), "CLUSTER_TEST_ROLE="+role, "CLUSTER_TEST_DIR="+dir)
	return cmd, firstLine(t, cmd)
}

func firstLine(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// eventually polls a condition that the system brings about in its own time.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 600 {
		if holds() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := place(t)
	holder, line := process(t, "hold", dir)
	if !strings.HasPrefix(line, "pid: ") {
		t.Fatal(line)
	}
	_, err := Start(context.Background(), Config{Dir: dir})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), strconv.Itoa(holder.Process.Pid)) || !strings.Contains(err.Error(), dir) {
		t.Errorf("want an error that names process %d and %s, got %v", holder.Process.Pid, dir, err)
	}
	// Reset must not touch what another process uses either.
	if _, err := Start(context.Background(), Config{Dir: dir, Reset: true}); !errors.Is(err, ErrInUse) {
		t.Errorf("reset of a directory in use: %v", err)
	}
}

func TestKilledParentLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	dir := place(t)
	holder, line := process(t, "hold", dir)
	number, ok := strings.CutPrefix(line, "pid: ")
	pid, err := strconv.Atoi(number)
	if !ok || err != nil {
		t.Fatal(line)
	}
	if !alive(pid) {
		t.Fatal("the test proves nothing: no postmaster")
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the postmaster of a killed parent stops", func() bool {
		in, err := workingIn(filepath.Join(dir, "data"))
		return err == nil && len(in) == 0
	})
	start(t, Config{Dir: dir})
}

func TestOrphanOfThisDirectoryIsStopped(t *testing.T) {
	t.Parallel()
	dir := place(t)
	c := start(t, Config{Dir: dir})
	exec1(t, c.DSN(Database), keep)
	stop(t, c)
	// A postmaster without watcher and without lock: what is left when the watcher was killed too.
	acc, err := chooseAccount(c.data())
	if err != nil {
		t.Fatal(err)
	}
	orphan := acc.command(context.Background(), c.version.path("postgres"), "-D", c.data(), "-c", "listen_addresses=",
		"-c", "unix_socket_directories="+quoteSetting(c.sockets))
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan error, 1)
	go func() { reaped <- orphan.Wait() }()
	t.Cleanup(func() { _ = orphan.Process.Kill() })
	eventually(t, "the orphan is up", func() bool {
		conn, err := pgx.Connect(context.Background(), c.DSN(Database))
		if err == nil {
			_ = conn.Close(context.Background())
		}
		return err == nil
	})

	c = start(t, Config{Dir: dir})
	if err := <-reaped; err != nil {
		t.Errorf("the orphan was not shut down in order: %v", err)
	}
	if n := rows(t, c.DSN(Database)); n != 1 {
		t.Errorf("there are %d rows, want 1", n)
	}
}

func TestStrangerWithTheNumberOfTheOldPostmasterIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := place(t)
	c := start(t, Config{Dir: dir})
	stop(t, c)
	acc, err := chooseAccount(c.data())
	if err != nil {
		t.Fatal(err)
	}
	// PostgreSQL itself would refuse to start here, because the process is alive and of the same user.
	stranger := acc.command(context.Background(), "/bin/sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	stale := filepath.Join(c.data(), "postmaster.pid")
	text := fmt.Sprintf("%d\n%s\n1\n5432\n%s\n\n", stranger.Process.Pid, c.data(), c.sockets)
	if err := os.WriteFile(stale, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := acc.own(stale); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger was hit: %v", err)
	}
}

func TestContextEndsTheCluster(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	c, err := Start(ctx, Config{Dir: place(t)})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-c.Done()
	if err := c.Err(); err != nil {
		t.Errorf("an orderly end says %v", err)
	}
	if in, err := workingIn(c.data()); err != nil || len(in) != 0 {
		t.Errorf("still running: %v %v", in, err)
	}
}

func TestOnlyTheHolderOfThePasswordGetsIn(t *testing.T) {
	t.Parallel()
	c := start(t, Config{Dir: place(t)})
	fi, err := os.Stat(c.sockets)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o700 {
		t.Errorf("the socket directory has mode %v", fi.Mode())
	}
	if fi, err := os.Stat(filepath.Join(c.dir, "secret")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("secret: %v %v", fi.Mode(), err)
	}
	var listen string
	var super bool
	conn := connect(t, c.DSN(Database))
	err = conn.QueryRow(context.Background(), `SELECT current_setting('listen_addresses'), rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&listen, &super)
	if err != nil || listen != "" || super {
		t.Errorf("listen_addresses %q, superuser %v, %v", listen, super, err)
	}
	cfg, err := pgx.ParseConfig(c.DSN(Database))
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{Role, superuser} {
		cfg.User, cfg.Password = role, "guess"
		if conn, err := pgx.ConnectConfig(context.Background(), cfg); err == nil {
			_ = conn.Close(context.Background())
			t.Errorf("role %s got in with a guessed password", role)
		}
	}
	cfg.User, cfg.Password = superuser, c.password(Role)
	if conn, err := pgx.ConnectConfig(context.Background(), cfg); err == nil {
		_ = conn.Close(context.Background())
		t.Error("the password of the role opens the superuser")
	}
}

// TestLogCarriesNoContent: channels of leaks L51.
func TestLogCarriesNoContent(t *testing.T) {
	t.Parallel()
	const canary = "canary-8c1f"
	c := start(t, Config{Dir: place(t)})
	ctx := context.Background()
	conn := connect(t, c.DSN(Database))
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`SELECT '` + canary + `'::date`, nil},
		{`SELECT $1::text::date`, []any{canary}},
		{`CREATE TABLE "` + canary + `" (a text UNIQUE)`, nil},
		{`INSERT INTO "` + canary + `" VALUES ($1)`, []any{canary}},
		{`INSERT INTO "` + canary + `" VALUES ($1)`, []any{canary}}, // unique violation: DETAIL quotes the key
		{`SELECT '` + canary, nil},
		{`DO $$ BEGIN RAISE WARNING '` + canary + `'; END $$`, nil},
	} {
		_, _ = conn.Exec(ctx, q.sql, q.args...)
	}
	// A backend that dies while it works on a statement is reported with that statement.
	victim := connect(t, c.DSN(Database))
	pid := int(victim.PgConn().PID())
	died := make(chan error, 1)
	go func() {
		_, err := victim.Exec(ctx, `SELECT pg_sleep(1000), '`+canary+`'`)
		died <- err
	}()
	admin := connect(t, c.dsn(superuser, Database))
	eventually(t, "the victim works", func() bool {
		var active bool
		err := admin.QueryRow(ctx, `SELECT state = 'active' AND query LIKE '%pg_sleep%' FROM pg_stat_activity WHERE pid = $1`, pid).Scan(&active)
		return err == nil && active
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-died; err == nil {
		t.Fatal("the victim lives")
	}
	// A connection could still be answered before the crash is noticed, and the
	// end of a cluster that is just recovering is no orderly one.
	eventually(t, "the cluster is back", func() bool {
		text, err := os.ReadFile(c.logFile())
		return err == nil && strings.Count(string(text), "ready to accept connections") >= 2
	})
	stop(t, c)
	text, err := os.ReadFile(c.logFile())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "terminated by signal 9") {
		t.Fatalf("the test proves nothing: the log does not tell of the crash:\n%s", text)
	}
	if strings.Contains(string(text), canary) {
		t.Errorf("the log carries content:\n%s", text)
	}
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(place(t), strings.Repeat("long-", 20), strings.Repeat("longer-", 5))
	c := start(t, Config{Dir: dir})
	exec1(t, c.DSN(Database), keep)
	sockets := c.sockets
	stop(t, c)
	if _, err := os.Stat(sockets); err == nil || strings.HasPrefix(sockets, dir) {
		t.Errorf("the socket directory %s: %v", sockets, err)
	}
}

func TestRootIsToldWhichParentIsClosed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the cluster as another user")
	}
	closed := filepath.Join(place(t), "closed")
	if err := os.MkdirAll(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(closed, "deep", "pg")
	if err := Reachable(dir); err != nil {
		t.Errorf("an open directory is unreachable: %v", err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Reachable(dir); err == nil {
		t.Error("a closed directory is reachable")
	}
	_, err := Start(context.Background(), Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "cannot pass through "+closed+" ") || !strings.Contains(err.Error(), "chmod o+x") {
		t.Errorf("the error does not help: %v", err)
	}
}

func TestInterruptedInitdbIsRepeated(t *testing.T) {
	t.Parallel()
	dir := place(t)
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
}
