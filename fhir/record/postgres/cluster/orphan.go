package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// recoverDir makes data ready for a new postmaster. The caller holds the
// directory's lock, so whatever still runs there has lost its master.
//
// Only a process that provably works in this very directory is stopped; a
// process that merely has the number in postmaster.pid is left alone.
func recoverDir(ctx context.Context, data string, log *slog.Logger) error {
	running, err := workingIn(data)
	if err != nil {
		return err
	}
	pidFile := filepath.Join(data, "postmaster.pid")
	pid, err := postmasterPID(pidFile)
	if err != nil {
		return err
	}
	if pid != 0 && contains(running, pid) {
		log.Warn("a PostgreSQL of an earlier run is still there: stopping it", "pid", pid)
		if err := stopOrphan(ctx, data, pid); err != nil {
			return err
		}
	} else if pid != 0 && len(running) == 0 && alive(pid) {
		// The number went to a process that has nothing to do with us, and
		// PostgreSQL would take that one for its postmaster.
		log.Info("removing the pid file that an earlier run left behind", "pid", pid)
		if err := os.Remove(pidFile); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	// Without a postmaster its other processes go by themselves; two generations
	// of them on the same files would destroy the data.
	gone, err := waitNobody(ctx, data, 20*time.Second)
	if err != nil {
		return err
	}
	if !gone {
		return fmt.Errorf("cluster: processes of an earlier run still work in %s: end them first", data)
	}
	return nil
}

// postmasterPID reads the first line of postmaster.pid; 0 without one.
func postmasterPID(path string) (int, error) {
	text, err := os.ReadFile(path) //nolint:gosec // our own directory
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cluster: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 1 {
		return 0, nil //nolint:nilerr // half-written: PostgreSQL itself deals with that
	}
	return pid, nil
}

// stopOrphan asks for a fast shutdown, then for an immediate one; both keep what was committed.
func stopOrphan(ctx context.Context, data string, pid int) error {
	for _, how := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if err := syscall.Kill(pid, how); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cluster: the PostgreSQL of an earlier run (pid %d) cannot be stopped: %w", pid, err)
		}
		gone, err := waitNobody(ctx, data, fastStop)
		if err != nil {
			return err
		}
		if gone {
			return nil
		}
	}
	return fmt.Errorf("cluster: the PostgreSQL of an earlier run (pid %d) does not stop: end it first", pid)
}

func waitNobody(ctx context.Context, data string, atMost time.Duration) (bool, error) {
	deadline := time.NewTimer(atMost)
	defer deadline.Stop()
	for {
		running, err := workingIn(data)
		if err != nil || len(running) == 0 {
			return err == nil, err
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("cluster: %w", ctx.Err())
		case <-deadline.C:
			return false, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func contains(pids []int, pid int) bool {
	for _, p := range pids {
		if p == pid {
			return true
		}
	}
	return false
}

func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// freePort is a TCP port that nobody listens on at this moment.
func freePort() uint32 {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer func() { _ = l.Close() }()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return uint32(addr.Port) //nolint:gosec // a port fits
}
