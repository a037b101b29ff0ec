package cluster

import (
	"os"
	"strconv"
	"strings"
)

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
