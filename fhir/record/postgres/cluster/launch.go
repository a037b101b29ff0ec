package cluster

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// watcher starts the postmaster in the very process that was forked, and leaves
// a watcher behind, detached from both. The watcher holds the read end of a
// pipe whose write end only this process has: a line on it means that the
// postmaster has been waited for; its end without a line means that this
// process died, and the postmaster is told to stop. (The kernel's parent death
// signal would not do: it belongs to a thread, exists on Linux only, and cannot remove files.)
//
// $1 names the signal, $2 is the directory to remove in the end, or empty.
const watcher = `
signal=$1 scratch=$2
shift 2
( (
	read -r word <&3
	[ -n "$word" ] || kill -s "$signal" $$
	if [ -n "$scratch" ]; then
		n=0
		while kill -0 $$ && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
		rm -rf "$scratch"
	fi
) >/dev/null 2>&1 & )
exec "$@" 3<&-
`

func (c *Cluster) launch(acc account) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	defer func() { _ = r.Close() }()
	_ = os.Rename(c.logFile(), c.logFile()+".1") // the log of the run before, if there was one
	logFile, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		_ = w.Close()
		return fmt.Errorf("cluster: %w", err)
	}
	defer func() { _ = logFile.Close() }()

	signal, scratch := "INT", ""
	if c.cfg.throwaway {
		signal, scratch = "QUIT", c.dir
	}
	args := []string{"-c", watcher, "sh", signal, scratch, c.version.path("postgres"), "-D", c.data()}
	for _, s := range settings(machineMemory(), c.cfg.unsynced) {
		args = append(args, "-c", s.name+"="+s.value)
	}
	args = append(args, "-c", "unix_socket_directories="+quoteSetting(c.sockets), "-c", "port="+port)

	cmd := acc.command(context.Background(), "/bin/sh", args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{r}
	// Its own session: Ctrl-C reaches this process, which stops the cluster when its last client is done.
	cmd.SysProcAttr.Setsid = true
	if err := cmd.Start(); err != nil {
		_ = w.Close()
		return fmt.Errorf("cluster: %w", err)
	}
	c.cmd, c.leash = cmd, w
	go func() {
		err := cmd.Wait()
		_, _ = c.leash.WriteString("ended\n")
		_ = c.leash.Close()
		if !orderly(err, cmd.ProcessState) {
			c.err = fmt.Errorf("cluster: PostgreSQL ended (%s); its log is %s", cmd.ProcessState, c.logFile())
		}
		c.leave()
		close(c.done)
	}()
	return nil
}

// orderly reports whether the postmaster ended because it was told to. An
// immediate shutdown ends with status 0 or 2, by version.
func orderly(err error, s *os.ProcessState) bool {
	if err == nil {
		return true
	}
	ws, ok := s.Sys().(syscall.WaitStatus)
	return ok && ws.Exited() && ws.ExitStatus() == 2
}

// quoteSetting writes one entry of a list-valued setting: a path may hold a comma or a space.
func quoteSetting(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

type setting struct{ name, value string }

// settings are the cluster's parameters for a machine with that many bytes of memory.
func settings(memory uint64, unsynced bool) []setting {
	const mb = 1 << 20
	megabytes := func(n, least, most uint64) string {
		return strconv.FormatUint(min(max(n/mb, least), most), 10) + "MB"
	}
	s := []setting{
		{"listen_addresses", ""},
		{"unix_socket_permissions", "0700"},
		{"password_encryption", "scram-sha-256"},
		{"timezone", "UTC"},
		{"log_timezone", "UTC"},

		// The log must never carry health data: no statements, no parameters,
		// no errors of sessions (their text quotes values), no details.
		{"log_statement", "none"},
		{"log_min_duration_statement", "-1"},
		{"log_min_error_statement", "panic"},
		{"log_parameter_max_length", "0"},
		{"log_parameter_max_length_on_error", "0"},
		{"log_min_messages", "log"},
		{"log_error_verbosity", "terse"},
		{"log_lock_waits", "off"},
		{"log_temp_files", "-1"},

		{"max_wal_senders", "0"},
		{"wal_level", "minimal"}, // nothing replicates a private cluster; bulk loads write less
		{"random_page_cost", "1.1"},
		{"jit", "off"}, // compiling costs more than any of the queries here
		{"effective_cache_size", megabytes(memory/2, 128, 1<<20)},
		{"maintenance_work_mem", megabytes(memory/16, 32, 1024)},
		{"work_mem", megabytes(memory/400, 4, 64)},
	}
	if unsynced {
		return append(s, setting{"fsync", "off"}, setting{"full_page_writes", "off"}, setting{"synchronous_commit", "off"},
			setting{"max_wal_size", "256MB"}, // it may lie in memory
			setting{"autovacuum", "off"},     // tests analyze where a plan matters, so that plans do not depend on time
			setting{"max_connections", "200"}, setting{"shared_buffers", megabytes(memory/16, 32, 128)})
	}
	return append(s, setting{"max_connections", "100"}, setting{"shared_buffers", megabytes(memory/4, 64, 4096)},
		setting{"max_wal_size", "4GB"}, setting{"checkpoint_timeout", "15min"}, setting{"wal_compression", "on"})
}
