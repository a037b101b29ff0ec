//go:build unix && !linux

package cluster

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
)

// machineMemory is the memory of the machine in bytes.
func machineMemory() uint64 {
	out, err := exec.CommandContext(context.Background(), "sysctl", "-n", "hw.memsize").Output()
	if err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(out)), 10, 64); err == nil {
			return n
		}
	}
	return 1 << 30 // a guess that hurts nowhere
}

// shortLived is where the data of tests is kept: "" stands for the temporary directory.
func shortLived() string { return "" }
