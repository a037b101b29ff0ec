package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// minMajor is the oldest PostgreSQL that Cloister is written for.
const minMajor = 14

// downloadVersion is what is downloaded where no programs are installed.
const downloadVersion = embeddedpostgres.V17

// programs is one installation of PostgreSQL.
type programs struct {
	bin     string
	major   int
	version string
}

func (p programs) path(name string) string { return filepath.Join(p.bin, name) }

// findPrograms chooses the newest installation, or, for data that is already
// there, the one of its major version; where there is none it downloads one.
func findPrograms(ctx context.Context, acc account, major int, log *slog.Logger) (programs, error) {
	var best programs
	var seen []string
	for _, bin := range candidates() {
		p, ok := inspect(ctx, bin)
		if !ok {
			continue
		}
		seen = append(seen, p.version+" in "+bin)
		if p.major >= minMajor && p.major > best.major && (major == 0 || p.major == major) {
			best = p
		}
	}
	if best.major != 0 {
		return best, nil
	}
	if want := majorOf(string(downloadVersion)); major != 0 && major != want {
		return programs{}, fmt.Errorf("cluster: the data is of PostgreSQL %d, for which there are no programs (found: %s): install PostgreSQL %d, or start clean",
			major, strings.Join(seen, ", "), major)
	}
	return download(ctx, acc, log)
}

// candidates are the directories where packages put the programs.
func candidates() []string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, found...)
	}
	return dirs
}

// inspect asks the programs of one directory for their version.
func inspect(ctx context.Context, bin string) (programs, bool) {
	if !filepath.IsAbs(bin) {
		return programs{}, false
	}
	p := programs{bin: bin}
	for _, name := range []string{"initdb", "postgres"} {
		if fi, err := os.Stat(p.path(name)); err != nil || fi.IsDir() || fi.Mode()&0o111 == 0 {
			return programs{}, false
		}
	}
	out, err := exec.CommandContext(ctx, p.path("postgres"), "--version").Output()
	if err != nil {
		return programs{}, false
	}
	// postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
	_, rest, ok := strings.Cut(string(out), "(PostgreSQL) ")
	if !ok {
		return programs{}, false
	}
	p.version, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
	p.major = majorOf(p.version)
	return p, p.major > 0
}

// majorOf reads "15.18", "17rc1" or "18devel".
func majorOf(version string) int {
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	n, err := strconv.Atoi(version[:end])
	if err != nil {
		return 0
	}
	return n
}

// dataMajor is the major version of the data, or 0 where there is none.
func dataMajor(data string) int {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION")) //nolint:gosec // our own directory
	if err != nil {
		return 0
	}
	return majorOf(strings.TrimSpace(string(text)))
}

// cacheDir is where downloaded programs stay; for root it must be a place that another user can reach.
func cacheDir(acc account) (string, error) {
	if acc.cred != nil {
		return "/var/cache/cloister", nil
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cluster: no place for downloaded programs: %w", err)
	}
	return filepath.Join(d, "cloister"), nil
}

// download fetches the programs once per machine and user.
func download(ctx context.Context, acc account, log *slog.Logger) (programs, error) {
	cache, err := cacheDir(acc)
	if err != nil {
		return programs{}, err
	}
	place := filepath.Join(cache, "postgresql-"+string(downloadVersion))
	if p, ok := inspect(ctx, filepath.Join(place, "bin")); ok {
		return p, nil
	}
	log.Info("no PostgreSQL programs on this machine: downloading them", "version", downloadVersion, "to", place)
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // programs, which the cluster's user must reach
		return programs{}, fmt.Errorf("cluster: %w", err)
	}
	work, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return programs{}, fmt.Errorf("cluster: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	fresh := filepath.Join(work, "programs")
	// The library fetches and unpacks only on the way to starting a cluster of
	// its own, on TCP and with a fixed password. The locale that cannot exist
	// ends that way at initdb, after the programs are in place.
	cause := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(downloadVersion).
		CachePath(filepath.Join(work, "archive")).
		RuntimePath(filepath.Join(work, "runtime")).
		DataPath(filepath.Join(work, "data")).
		BinariesPath(fresh).
		Locale("cloister-fetches-programs-only").
		Port(freePort()).
		StartTimeout(time.Second).
		Logger(io.Discard)).Start()
	if _, ok := inspect(ctx, filepath.Join(fresh, "bin")); !ok {
		return programs{}, fmt.Errorf("cluster: there are no PostgreSQL programs (%d or newer) on PATH or in /usr/lib/postgresql, and the download failed (%w): install PostgreSQL (Debian: apt-get install postgresql), or set CLOISTER_DATABASE_URL",
			minMajor, cause)
	}
	if err := openUp(fresh); err != nil {
		return programs{}, err
	}
	if err := os.Rename(fresh, place); err != nil {
		// Another process was faster; what counts is that the programs are there.
		log.Debug("downloaded programs were already in place", "err", err)
	}
	p, ok := inspect(ctx, filepath.Join(place, "bin"))
	if !ok {
		return programs{}, fmt.Errorf("cluster: the downloaded programs in %s do not run", place)
	}
	return p, nil
}

// openUp lets every user read and run the programs, whatever the umask was.
func openUp(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		mode := fi.Mode().Perm() | 0o444
		if d.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode) //nolint:gosec // a fresh directory of our own, which nobody else can write
	})
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}
