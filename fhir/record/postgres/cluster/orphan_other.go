//go:build unix && !linux

package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// workingIn lists the postmasters that were started on data: this package
// always passes the absolute path as -D.
func workingIn(data string) ([]int, error) {
	out, err := exec.CommandContext(context.Background(), "ps", "-axo", "pid=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("cluster: ps: %w", err)
	}
	var pids []int
	for _, line := range strings.Split(string(out), "\n") {
		number, command, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.Contains(command, "/postgres -D "+data+" ") || strings.Contains(command, "/bin/sh ") {
			continue
		}
		if pid, err := strconv.Atoi(number); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
