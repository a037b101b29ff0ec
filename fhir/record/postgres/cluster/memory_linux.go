package cluster

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// roomy is how many bytes must be free in memory for the clusters of tests to live there. Those of one package
// take a few hundred megabytes, and packages are tested beside each other.
const roomy = 4 << 30

// shortLived is where the data of tests is kept: in memory, where there is room, since most of the time of a test's database is that
// a thousand files are made and removed; "" stands for the temporary directory. Whoever sets TMPDIR has chosen.
func shortLived() string {
	const dir, tmpfs = "/dev/shm", 0x01021994
	var fs syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(dir, &fs) != nil || fs.Type != tmpfs {
		return ""
	}
	free := min(fs.Bavail*uint64(fs.Bsize), availableMemory()) //nolint:gosec // the size of a block is positive
	if free < roomy {
		return ""
	}
	probe, err := os.MkdirTemp(dir, "cloister-test-")
	if err != nil {
		return ""
	}
	if err := os.Remove(probe); err != nil {
		return ""
	}
	return dir
}

// availableMemory is how many bytes programs can still have.
func availableMemory() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "MemAvailable:" {
			if kb, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				return min(kb<<10, machineMemory())
			}
		}
	}
	return 0
}

// machineMemory is the memory in bytes that this process may use: the
// machine's, or less where a control group says so.
func machineMemory() uint64 {
	memory := uint64(1 << 30) // a guess that hurts nowhere
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		for _, line := range strings.Split(string(text), "\n") {
			f := strings.Fields(line)
			if len(f) >= 2 && f[0] == "MemTotal:" {
				if kb, err := strconv.ParseUint(f[1], 10, 64); err == nil {
					memory = kb << 10
				}
			}
		}
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(path) //nolint:gosec // a fixed path
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && limit < memory {
			memory = limit
		}
	}
	return memory
}
