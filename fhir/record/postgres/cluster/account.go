package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that the cluster runs as. PostgreSQL refuses to run as root.
type account struct {
	name string
	cred *syscall.Credential // nil: as this process
}

// chooseAccount keeps the owner of data that is there; otherwise root steps
// down to postgres, where that user exists, else to nobody.
func chooseAccount(data string) (account, error) {
	if os.Geteuid() != 0 {
		if fi, err := os.Stat(data); err == nil {
			if uid := owner(fi); uid != uint32(os.Geteuid()) { //nolint:gosec // a uid fits
				return account{}, fmt.Errorf("cluster: %s belongs to user %s: run as the user of the first start (root, if that was root), or choose another directory",
					data, userName(uid))
			}
		}
		return account{name: userName(uint32(os.Geteuid()))}, nil //nolint:gosec // a uid fits
	}
	var candidates []string
	if fi, err := os.Stat(data); err == nil && owner(fi) != 0 {
		candidates = append(candidates, strconv.FormatUint(uint64(owner(fi)), 10))
	}
	candidates = append(candidates, "postgres", "nobody")
	for _, name := range candidates {
		u, err := user.Lookup(name)
		if err != nil {
			u, err = user.LookupId(name)
		}
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil || uid == 0 {
			continue
		}
		return account{u.Username, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, errors.New("cluster: PostgreSQL does not run as root, and this machine has neither a user postgres nor a user nobody: run as another user, or set CLOISTER_DATABASE_URL")
}

func owner(fi os.FileInfo) uint32 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// command prepares a program that runs as the account, knowing nothing of this
// process's environment: PG* variables would redirect it.
func (a account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.cred}
	return cmd
}

// own gives the account a file or a directory.
func (a account) own(path string) error {
	if a.cred == nil {
		return nil
	}
	if err := os.Chown(path, int(a.cred.Uid), int(a.cred.Gid)); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// reach makes sure that the account can get through to dir. Only dir itself, which is ours, is opened up.
func (a account) reach(dir string) error {
	if a.cred == nil {
		return nil
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if fi.Mode().Perm()&0o011 != 0o011 && owner(fi) == 0 {
		if err := os.Chmod(dir, fi.Mode().Perm()|0o011); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	at, err := a.blocked(dir)
	if err != nil {
		return err
	}
	if at != "" {
		return a.explain(at, dir)
	}
	return nil
}

// blocked names the first directory on the way to dir that the account cannot pass, or "".
func (a account) blocked(dir string) (string, error) {
	var way []string
	for d := dir; ; d = filepath.Dir(d) {
		way = append([]string{d}, way...)
		if d == filepath.Dir(d) {
			break
		}
	}
	for _, d := range way {
		// Asking the system beats reading mode bits: access lists and mounts count too.
		cmd := a.command(context.Background(), "/bin/sh", "-c", `cd "$1"`, "sh", d)
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return d, nil
		}
		if err != nil {
			return "", fmt.Errorf("cluster: cannot act as user %s: %w", a.name, err)
		}
	}
	return "", nil
}

// Reachable says why a cluster could not live in dir, which need not exist
// yet, or nil. It only ever fails for root, whose cluster runs as another user.
func Reachable(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	acc, err := chooseAccount(filepath.Join(dir, "data"))
	if err != nil || acc.cred == nil {
		return err
	}
	// dir itself is the cluster's: Start opens it. What lies above it is not.
	parent := filepath.Dir(dir)
	for parent != filepath.Dir(parent) {
		if _, err := os.Stat(parent); err == nil {
			break
		}
		parent = filepath.Dir(parent)
	}
	at, err := acc.blocked(parent)
	if err != nil {
		return err
	}
	if at != "" {
		return acc.explain(at, dir)
	}
	return nil
}

func (a account) explain(at, dir string) error {
	return fmt.Errorf("cluster: PostgreSQL does not run as root, so it runs as user %s, who cannot pass through %s to reach %s: choose a data directory outside it (such as /var/lib/cloister), or let others pass (chmod o+x %s)",
		a.name, at, dir, at)
}
