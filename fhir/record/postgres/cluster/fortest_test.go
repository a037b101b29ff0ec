package cluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestEachTestHasItsOwnCopy(t *testing.T) {
	t.Parallel()
	made := 0
	from := Template{Name: "one", Prepare: func(_ context.Context, dsn string) error {
		made++
		exec1(t, dsn, keep)
		return nil
	}}
	a, b := NewDatabase(t, from), NewDatabase(t, from)
	if a == b {
		t.Fatal("one database for two")
	}
	exec1(t, a, keep)
	if n := rows(t, a); n != 2 {
		t.Errorf("a has %d rows, want 2", n)
	}
	if n := rows(t, b); n != 1 {
		t.Errorf("b has %d rows, want 1", n)
	}
	if made != 1 {
		t.Errorf("the template was made %d times", made)
	}
	exec1(t, NewDatabase(t, Template{}), `CREATE TABLE kept (n int)`)
}

// failing stands in for a test that fails.
type failing struct{ said bool }

func (*failing) Helper()        {}
func (*failing) Cleanup(func()) {}
func (f *failing) Fatalf(string, ...any) {
	f.said = true
	panic(f)
}

func TestBrokenTemplateFailsEachTest(t *testing.T) {
	t.Parallel()
	from := Template{Name: "broken", Prepare: func(context.Context, string) error { return errors.New("broken") }}
	for range 2 {
		f := &failing{}
		func() {
			defer func() { _ = recover() }()
			NewDatabase(f, from)
		}()
		if !f.said {
			t.Error("a broken template went unnoticed")
		}
	}
}

func TestClusterOfATestProcessGoesWithIt(t *testing.T) {
	t.Parallel()
	cmd, line := process(t, "test", "")
	gone(t, cmd, line)
}

// gone waits until the process of role test has left nothing behind.
func gone(t *testing.T, cmd *exec.Cmd, line string) {
	t.Helper()
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "pid:" {
		t.Fatal(line)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster and "+f[2]+" are gone", func() bool {
		_, err := os.Stat(f[2])
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestWorksForAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this process is an ordinary user's, so every test here is this test")
	}
	dir := filepath.Dir(place(t))
	binary := filepath.Join(dir, "cluster.test")
	image, err := os.ReadFile(os.Args[0]) //nolint:gosec // this very binary
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, image, 0o755); err != nil { //nolint:gosec // another user runs it
		t.Fatal(err)
	}
	const nobody = 65534
	cmd := exec.CommandContext(context.Background(), binary)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "CLUSTER_TEST_ROLE=test", "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	gone(t, cmd, firstLine(t, cmd))
}

func TestSettingsFitTheMachine(t *testing.T) {
	value := func(memory uint64, unsynced bool, name string) string {
		for _, s := range settings(memory, unsynced) {
			if s.name == name {
				return s.value
			}
		}
		return ""
	}
	const gb = 1 << 30
	for _, c := range []struct {
		memory uint64
		want   string
	}{{gb / 8, "64MB"}, {gb, "256MB"}, {8 * gb, "2048MB"}, {64 * gb, "4096MB"}} {
		if got := value(c.memory, false, "shared_buffers"); got != c.want {
			t.Errorf("shared_buffers of %d MB of memory: %s, want %s", c.memory>>20, got, c.want)
		}
	}
	if value(gb, false, "fsync") != "" || value(gb, false, "synchronous_commit") != "" {
		t.Error("a cluster that must keep its data gives up durability")
	}
	if value(gb, true, "fsync") != "off" {
		t.Error("a test cluster waits for the disk")
	}
}

func TestMajorOf(t *testing.T) {
	for version, want := range map[string]int{"15.18": 15, "17rc1": 17, "18devel": 18, "14": 14, "": 0, "x": 0} {
		if got := majorOf(version); got != want {
			t.Errorf("majorOf(%q) = %d, want %d", version, got, want)
		}
	}
}

func TestDataOfAnotherMajorVersionIsNotTouched(t *testing.T) {
	t.Parallel()
	dir := place(t)
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Start(context.Background(), Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "PostgreSQL 9") {
		t.Errorf("want an error that names the version, got %v", err)
	}
}

func TestWhoeverSetsTheTemporaryDirectoryHasChosen(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	if got := shortLived(); got != "" {
		t.Errorf("the data of tests lies in %s", got)
	}
}
